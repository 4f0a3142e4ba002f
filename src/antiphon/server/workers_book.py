"""What the workers of one server must agree on at once: places, one-time tokens, the pages of calls, wrong credentials.

One SQLite file in memory (tmpfs), made by the supervisor and gone with it. It is asked on the event loop: a look takes
some 10 us and a change some 40 us, both without a task switch, where a question to another process would wait for that
process's turn on a busy core. A worker that is killed leaves nothing half done behind: SQLite's WAL sees to that, and
the supervisor gives up the worker's places (``left``).

Should the file ever fail, each worker goes on by itself for ``AWAY_S`` as a single process does: no call is lost for
it, and the cap and the one-time tokens hold for each worker alone. The log says so. Places that were given up
meanwhile, and what pages (``workers_pages``) were to hold, go into the book as soon as it answers again.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from antiphon.runtime.places import LocalPlaces
from antiphon.server.attempts import LocalDebts
from antiphon.transports.twilio_auth import UsedTokens

log = logging.getLogger("antiphon.server.workers")

ResultT = TypeVar("ResultT")

BOOK: Final = "book.sqlite"
"""Its name in the folder that the workers share."""
BUSY_S: Final = 0.05
"""How long one waits for another's change, which takes some 40 us. The event loop waits too, and every caller with it:
longer than this would be heard."""
AWAY_S: Final = 2.0
"""A book that failed is not asked for so long: else every question of a busy server would wait for ``BUSY_S``."""
_MOST_OWED: Final = 10_000
"""Places given up while the book failed, of which it is told later: a book that never answers must not fill memory."""
_CHECKPOINT_PAGES: Final = 100
"""Copied back at once: few, for the event loop waits meanwhile (the default of 1000 is a millisecond)."""

_SCHEMA: Final = """
CREATE TABLE lines (call TEXT PRIMARY KEY, worker INTEGER NOT NULL, held INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX lines_held ON lines (call) WHERE held = 1;
CREATE TABLE tokens (token TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX tokens_until ON tokens (until);
CREATE TABLE pages (number INTEGER PRIMARY KEY AUTOINCREMENT, call TEXT UNIQUE, opened REAL NOT NULL, data BLOB);
CREATE INDEX pages_opened ON pages (opened);
CREATE TABLE debts (number INTEGER PRIMARY KEY AUTOINCREMENT, network TEXT UNIQUE, until REAL NOT NULL);
"""


def make(path: Path) -> None:
    """A new, empty book. Raises ``sqlite3.Error`` and ``OSError``."""
    path.touch(mode=0o600)
    db = _connect(path)
    db.executescript(_SCHEMA)
    db.close()


def left(path: Path, worker: int) -> None:
    """That worker is gone, and the calls it held have no line any more. Raises ``sqlite3.Error``."""
    db = _connect(path)
    db.execute("DELETE FROM lines WHERE worker = ?", (worker,))
    db.close()


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, cached_statements=64)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=OFF")  # it is to outlive a process, not the machine
    db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    return db


class SharedBook:
    """One worker's hold on the book. All of it is for the event loop's thread."""

    def __init__(self, path: Path, worker: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.worker = worker
        self._db = _connect(path)
        self._clock = clock
        self._away_until = 0.0

    def close(self) -> None:
        self._db.close()

    def look(self, sql: str, *values: object) -> tuple[object, ...] | None:
        """The first row."""
        found: tuple[object, ...] | None = self._db.execute(sql, values).fetchone()
        return found

    def begin(self) -> sqlite3.Connection:
        """Begins a transaction, which the caller ends."""
        self._db.execute("BEGIN IMMEDIATE")
        return self._db

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: nobody else changes anything meanwhile."""
        self.begin()
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @property
    def is_away(self) -> bool:
        """It failed just now, and is not asked for a while."""
        return self._clock() < self._away_until

    def ask(self, question: Callable[[], ResultT], alone: Callable[[], ResultT]) -> ResultT:
        """The answer of all workers together, or if the book fails or failed just now, this one's own."""
        if self.is_away:
            return alone()
        try:
            return question()
        except sqlite3.Error as error:
            self.failed(error)
            return alone()

    def failed(self, error: sqlite3.Error) -> None:
        self._away_until = self._clock() + AWAY_S
        log.error("the workers' common book failed, this one goes by its own for %g s: %s", AWAY_S, error)


class SharedPlaces:
    """``most`` places of all workers: one row for each call that a worker holds, ``held`` 1 if it has a line.

    Fits ``Places``. ``on_taken`` is told of a call that has a line here now, and of the worker that held it until then.
    """

    def __init__(self, book: SharedBook, most: int) -> None:
        self._book = book
        self._most = most
        self._alone = LocalPlaces(most)
        self._owed: dict[str, int | None] = {}
        """What the book could not be told: calls with their ``held``, None for those that this worker holds no more."""
        self.on_taken: Callable[[str, int], None] = lambda _call, _worker: None

    def take(self, call_id: str) -> bool:
        taken = self._ask(lambda: self._take(call_id), lambda: self._take_alone(call_id))
        if taken:
            self._alone.take(call_id)
        return taken

    def _take_alone(self, call_id: str) -> bool:
        taken = self._alone.take(call_id)
        if taken:
            self._owe(call_id, 1)
        return taken

    def _take(self, call_id: str) -> bool:
        me = self._book.worker
        with self._book.change() as db:
            found = db.execute("SELECT worker, held FROM lines WHERE call = ?", (call_id,)).fetchone()
            if (found is None or not found[1]) and self._count() >= self._most:
                return False
            if found != (me, 1):
                db.execute("INSERT OR REPLACE INTO lines VALUES (?, ?, 1)", (call_id, me))
        if found is not None and found[0] != me:
            self.on_taken(call_id, found[0])
        return True

    def wait(self, call_id: str) -> None:
        self._alone.wait(call_id)
        self._owe(call_id, 0)
        self._book.ask(self._settle, lambda: None)

    def give(self, call_id: str) -> None:
        self._alone.give(call_id)
        self._owe(call_id, None)
        self._book.ask(self._settle, lambda: None)

    def _owe(self, call_id: str, held: int | None) -> None:
        self._owed[call_id] = held
        while len(self._owed) > _MOST_OWED:
            del self._owed[next(iter(self._owed))]

    def _settle(self) -> None:
        """Tells the book. A row of another worker stays: only of one without a line is it sure that this was later."""
        me = self._book.worker
        taken: list[tuple[str, int]] = []
        with self._book.change() as db:
            for call_id, held in self._owed.items():
                if held is None:
                    db.execute("DELETE FROM lines WHERE call = ? AND worker = ?", (call_id, me))
                    continue
                found = db.execute("SELECT worker, held FROM lines WHERE call = ?", (call_id,)).fetchone()
                is_others = found is not None and found[0] != me
                if not is_others or (held and not found[1]):
                    db.execute("INSERT OR REPLACE INTO lines VALUES (?, ?, ?)", (call_id, me, held))
                    taken += [(call_id, found[0])] if is_others else []
        self._owed.clear()
        for call_id, worker in taken:
            self.on_taken(call_id, worker)

    def _ask(self, question: Callable[[], ResultT], alone: Callable[[], ResultT]) -> ResultT:
        """As of a book that knows of every place that was given up here."""

        def settled() -> ResultT:
            if self._owed:
                self._settle()
            return question()

        return self._book.ask(settled, alone)

    def has_room(self, call_id: str) -> bool:
        def room() -> bool:
            if self._count() < self._most:
                return True
            return self._book.look("SELECT 1 FROM lines WHERE call = ? AND held = 1", call_id) is not None

        return self._ask(room, lambda: self._alone.has_room(call_id))

    def holder(self, call_id: str) -> int:
        """The worker that has the call's line, or waits for the next; 0: none, or nobody but another could know."""

        def held() -> int:
            found = self._book.look("SELECT worker FROM lines WHERE call = ?", call_id)
            return int(str(found[0])) if found else 0

        return self._ask(held, lambda: self._book.worker if self._alone.holds(call_id) else 0)

    def taken(self) -> int:
        return self._ask(self._count, self._alone.taken)

    def _count(self) -> int:
        found = self._book.look("SELECT count(*) FROM lines WHERE held = 1")
        return int(str(found[0])) if found else 0


class SharedTokens:
    """Tokens that were used, at whichever worker. Fits ``Once``."""

    def __init__(self, book: SharedBook, clock: Callable[[], float] = time.monotonic) -> None:
        self._book = book
        self._clock = clock
        self._alone = UsedTokens()

    def __call__(self, token: str, seconds: float) -> bool:
        def first() -> bool:
            now = self._clock()
            with self._book.change() as db:
                db.execute("DELETE FROM tokens WHERE until < ?", (now,))
                # A second more than it is good for: the two clocks are read one after the other.
                made = db.execute("INSERT OR IGNORE INTO tokens VALUES (?, ?)", (token, now + seconds + 1.0))
                return made.rowcount == 1

        mine = self._alone(token, seconds)
        return self._book.ask(first, lambda: mine) and mine


class SharedDebts:
    """What networks owe for wrong credentials, to whichever worker they were shown. Fits ``Debts``."""

    def __init__(self, book: SharedBook) -> None:
        self._book = book
        self._alone = LocalDebts()

    def __len__(self) -> int:
        def count() -> int:
            found = self._book.look("SELECT count(*) FROM debts")
            return int(str(found[0])) if found else 0

        return self._book.ask(count, lambda: len(self._alone))

    def of(self, network: str) -> float:
        def owed() -> float:
            found = self._book.look("SELECT until FROM debts WHERE network = ?", network)
            return float(str(found[0])) if found else 0.0

        return self._book.ask(owed, lambda: self._alone.of(network))

    def add(self, network: str, now: float, cost_s: float, room: int) -> float:
        def added() -> float:
            with self._book.change() as db:
                found = db.execute("SELECT until FROM debts WHERE network = ?", (network,)).fetchone()
                paid: float = max(now, found[0] if found else 0.0) + cost_s
                # Replacing gives it a new number, the highest: the lowest was wrong longest ago.
                db.execute("INSERT OR REPLACE INTO debts (network, until) VALUES (?, ?)", (network, paid))
                if len(self) > room:
                    db.execute("DELETE FROM debts WHERE number = (SELECT min(number) FROM debts)")
            return paid

        return self._book.ask(added, lambda: self._alone.add(network, now, cost_s, room))
