"""A journal in memory: for tests, simulations and servers that want no file. It ends with the process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from antiphon.errors import ConfigError, StaleWriter, StoreError, UnknownSession
from antiphon.kernel.events import Entry, encode_entry
from antiphon.runtime.ports import Batch, SessionRow
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
)


class _Kept(msgspec.Struct):
    row: Row
    entries: list[Entry]
    snapshot: tuple[int, bytes] | None = None


class MemoryJournal:
    """Keeps all live sessions and the ``keep_closed`` newest closed ones.

    Raises what the ``Journal`` port says; nothing it does can wait or fail for want of a disk.
    """

    def __init__(self, keep_closed: int = 1000) -> None:
        self._keep_closed = keep_closed
        self._sessions: dict[str, _Kept] = {}
        self._closed: dict[str, None] = {}

    async def start(self) -> None:
        """Nothing to open."""

    async def claim(self, session: str) -> int:
        check_session_id(session)
        kept = self._sessions.get(session)
        if kept is None:
            kept = self._sessions[session] = _Kept(Row(session), [])
        kept.row.epoch += 1
        return kept.row.epoch

    async def append(self, batches: Sequence[Batch]) -> list[Exception | None]:
        results: list[Exception | None] = []
        for batch in batches:
            try:
                self._append(batch)
                results.append(None)
            except StoreError as error:
                results.append(error)
        self._forget_oldest_closed()
        return results

    def _append(self, batch: Batch) -> None:
        kept = self._kept(batch.session)
        check_owner(batch, kept.row)
        check_order(batch)
        present = [encode_entry(entry) for entry in kept.entries[batch.expected_seq :]]
        fresh = batch.entries[check_repeat(batch, encode(batch), present) :]
        kept.entries.extend(fresh)
        fold(kept.row, fresh)
        if kept.row.line == CLOSED:
            self._closed[batch.session] = None

    def _forget_oldest_closed(self) -> None:
        while len(self._closed) > self._keep_closed:
            oldest = next(iter(self._closed))
            del self._closed[oldest]
            del self._sessions[oldest]

    def _kept(self, session: str) -> _Kept:
        kept = self._sessions.get(session)
        if kept is None:
            raise UnknownSession(f"no session {session[:255]!r} in this journal: claim it first")
        return kept

    async def read(self, session: str, after_seq: int = 0) -> list[Entry]:
        return self._kept(session).entries[max(0, after_seq) :]

    async def save_snapshot(self, session: str, epoch: int, seq: int, data: bytes) -> None:
        kept = self._kept(session)
        if epoch != kept.row.epoch:
            raise StaleWriter(f"session {session} belongs to epoch {kept.row.epoch}, not {epoch}")
        if seq > kept.row.last_seq:
            raise StoreError(f"session {session} holds no entry {seq} yet", code="store.gap")
        kept.snapshot = (seq, bytes(data))

    async def load_snapshot(self, session: str) -> tuple[int, bytes] | None:
        return self._kept(session).snapshot

    async def session(self, session: str) -> SessionRow:
        return listed(self._kept(session).row, owner_alive=True)

    async def sessions(self, limit: int = 50) -> list[SessionRow]:
        newest = list(reversed(self._sessions.values()))[: max(0, limit)]
        return [listed(kept.row, owner_alive=True) for kept in newest]

    async def close(self) -> None:
        """Keeps what it holds: there is nowhere else to put it."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keep_closed: int = 1000


def build(settings: Mapping[str, object]) -> MemoryJournal:
    """Setting: ``keep_closed``, the number of closed sessions that are kept (default 1000). Raises ``ConfigError``."""
    try:
        return MemoryJournal(msgspec.convert(dict(settings), Settings, strict=False).keep_closed)
    except msgspec.ValidationError as error:
        raise ConfigError(f"[journal] {error}") from error
