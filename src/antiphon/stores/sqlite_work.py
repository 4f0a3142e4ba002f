"""What is done to the journal's tables: one transaction's writes, and the reads."""

from __future__ import annotations

import sqlite3

from antiphon.errors import UNUSABLE, StaleWriter, StoreError, UnknownSession
from antiphon.kernel.events import Entry, decode_entry
from antiphon.runtime.ports import Batch, SessionRow
from antiphon.stores.owner import is_alive
from antiphon.stores.rows import (
    CLOSED,
    Row,
    check_order,
    check_owner,
    check_repeat,
    check_session_id,
    encode,
    fold,
    listed,
    unreadable,
)

PRUNED_ROWS, PRUNED_ENTRIES = 200, 2000
"""What one step of a deletion looks at and deletes; the calls' own writes wait for no more than that."""

_COLUMNS = "session, epoch, line, started_at, transport, language, caller, turns, last_seq, last_at_ms"


def _unknown(session: str) -> UnknownSession:
    return UnknownSession(f"no session {session[:255]!r} in this journal: `antiphon calls` lists them")


def _find(db: sqlite3.Connection, session: str) -> tuple[int, Row]:
    found = db.execute(f"SELECT id, {_COLUMNS} FROM sessions WHERE session = ?", (session,)).fetchone()  # noqa: S608
    if found is None:
        raise _unknown(session)
    return found[0], Row(*found[1:])


class Transaction:
    """The writes of one group commit. A refusal (``StoreError``) comes before anything of its batch is written."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._rows: dict[str, tuple[int, Row]] = {}
        self._changed: dict[int, Row] = {}

    def _row(self, session: str) -> tuple[int, Row]:
        found = self._rows.get(session)
        if found is None:
            found = self._rows[session] = _find(self._db, session)
        return found

    def claim(self, session: str, owner: str, now: str) -> int:
        check_session_id(session)
        self._db.execute(
            "INSERT INTO sessions VALUES (NULL, ?, 0, '', 'live', ?, ?, '', '', '', 0, 0, 0) "
            "ON CONFLICT (session) DO NOTHING",
            (session, now, now),
        )
        number, row = self._row(session)
        row.epoch += 1
        self._db.execute(
            "UPDATE sessions SET epoch = ?, owner = ?, claimed_at = ? WHERE id = ?", (row.epoch, owner, now, number)
        )
        return row.epoch

    def append(self, batch: Batch) -> StoreError | None:
        try:
            number, row = self._row(batch.session)
            check_owner(batch, row)
            check_order(batch)
            encoded = encode(batch)
            present = 0
            if batch.expected_seq < row.last_seq:
                kept = self._db.execute(
                    "SELECT data FROM entries WHERE id = ? AND seq > ? ORDER BY seq", (number, batch.expected_seq)
                )
                present = check_repeat(batch, encoded, [data for (data,) in kept])
        except StoreError as error:
            return error
        if present < len(encoded):
            self._db.executemany(
                "INSERT INTO entries VALUES (?, ?, ?)", [(number, seq, data) for seq, data in encoded[present:]]
            )
            fold(row, batch.entries[present:])
            self._changed[number] = row
        return None

    def save_snapshot(self, session: str, epoch: int, seq: int, data: bytes) -> None:
        number, row = self._row(session)
        if epoch != row.epoch:
            raise StaleWriter(f"session {session} belongs to epoch {row.epoch}, not {epoch}")
        if seq > row.last_seq:
            raise StoreError(f"session {session} holds no entry {seq} yet: snapshot what is on disk", code="store.gap")
        self._db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", (number, seq, data))

    def prune(self, before: str, behind: int) -> tuple[int, int, bool]:
        """Deletes some conversations that are over and were last claimed before that time (ISO 8601, UTC).

        ``behind``: the number of the last row that was looked at, 0 at first. Returns how many were deleted, the last
        row looked at now, and whether there may be more. Closed ones are over, and those whose process is gone.
        """
        found = self._db.execute(
            "SELECT id, line, owner, last_seq FROM sessions WHERE id > ? AND claimed_at < ? ORDER BY id LIMIT ?",
            (behind, before, PRUNED_ROWS),
        ).fetchall()
        over: list[tuple[int]] = []
        entries, more = 0, len(found) == PRUNED_ROWS
        for number, line, owner, last_seq in found:
            if over and entries + last_seq > PRUNED_ENTRIES:
                more = True
                break
            behind = number
            if line == CLOSED or not is_alive(owner):
                over.append((number,))
                entries += last_seq
        for table in ("entries", "snapshots", "sessions"):
            self._db.executemany(f"DELETE FROM {table} WHERE id = ?", over)  # noqa: S608 - names of our own
        return len(over), behind, more

    def finish(self) -> None:
        """Writes the listing columns of every session that grew; the last thing before the commit."""
        self._db.executemany(
            "UPDATE sessions SET line = ?, started_at = ?, transport = ?, language = ?, caller = ?, turns = ?, "
            "last_seq = ?, last_at_ms = ? WHERE id = ?",
            [
                (
                    row.line,
                    row.started_at,
                    row.transport,
                    row.language,
                    row.caller,
                    row.turns,
                    row.last_seq,
                    row.last_at_ms,
                    number,
                )
                for number, row in self._changed.items()
            ],
        )


def read_entries(db: sqlite3.Connection, session: str, after_seq: int) -> list[Entry]:
    """Raises ``UnknownSession``, and ``StoreError`` (``store.corrupt``) for an entry that cannot be read."""
    number, _ = _find(db, session)
    entries = []
    for seq, data in db.execute(
        "SELECT seq, data FROM entries WHERE id = ? AND seq > ? ORDER BY seq", (number, after_seq)
    ):
        try:
            entries.append(decode_entry(data))
        except UNUSABLE as error:
            raise unreadable(session, seq, error) from error
    return entries


def load_snapshot(db: sqlite3.Connection, session: str) -> tuple[int, bytes] | None:
    number, _ = _find(db, session)
    found = db.execute("SELECT seq, data FROM snapshots WHERE id = ?", (number,)).fetchone()
    return None if found is None else (found[0], found[1])


def show_session(db: sqlite3.Connection, session: str) -> SessionRow:
    """Raises ``UnknownSession``."""
    # In one statement: another process may prune between two.
    found = db.execute(f"SELECT owner, {_COLUMNS} FROM sessions WHERE session = ?", (session,)).fetchone()  # noqa: S608
    if found is None:
        raise _unknown(session)
    owner, *columns = found
    return listed(Row(*columns), owner_alive=is_alive(owner))


def list_sessions(db: sqlite3.Connection, limit: int) -> list[SessionRow]:
    """Newest first, by when a session was first claimed."""
    alive: dict[str, bool] = {}
    rows = []
    for owner, *columns in db.execute(
        f"SELECT owner, {_COLUMNS} FROM sessions ORDER BY id DESC LIMIT ?",  # noqa: S608
        (max(0, limit),),
    ):
        if owner not in alive:
            alive[owner] = is_alive(owner)
        rows.append(listed(Row(*columns), owner_alive=alive[owner]))
    return rows
