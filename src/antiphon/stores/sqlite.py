"""The journal in one SQLite file (X36): the embedded default, for everything on one machine.

One thread owns the connection. It takes all writes that are waiting, from whichever calls, and puts
them into one transaction (group commit): a commit costs one fsync however many entries it holds.
Ownership is checked inside that transaction, per batch, and a refused batch leaves the others alone.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import queue
import secrets
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from antiphon.errors import ConfigError, StoreError
from antiphon.kernel.events import Entry
from antiphon.runtime.ports import Batch, SessionRow
from antiphon.stores import sqlite_file
from antiphon.stores.owner import this_process
from antiphon.stores.sqlite_file import Synchronous
from antiphon.stores.sqlite_work import Transaction, list_sessions, load_snapshot, read_entries, show_session

Access = Literal["write", "read"]
ResultT = TypeVar("ResultT")

MAX_WAITING = 10_000
"""Requests that may wait for the thread; the next is refused with ``store.busy``."""

PRUNE_EVERY_S = 3600.0
PRUNE_PAUSE_S = 0.05
"""Between two steps of a deletion."""

_GROUP = 512
"""Requests in one transaction; a bigger one would make the first of them wait too long."""

_log = logging.getLogger("antiphon.journal")


class _Job(msgspec.Struct):
    kind: Literal["write", "read", "open", "close"]
    run: Callable[[Any], object] | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class SqliteJournal:
    """A ``Journal`` in the file ``path``, which is made with its folder when ``access`` is ``write``.

    ``synchronous``: ``full`` survives a power cut, ``normal`` the death of the process, ``off`` neither.
    ``keep_days``: conversations that are over are deleted after so many days, in the background; 0: never.
    With ``access="read"`` the file is never changed and may be in use by a server (the command line).

    Errors are ``StoreError`` with the codes ``store.read_only``, ``store.full``, ``store.locked``, ``store.corrupt``,
    ``store.not_journal``, ``store.newer_schema``, ``store.io``, ``store.busy``; each says what to do. After
    an error the journal stays usable: it is opened again when it is next asked for something.
    """

    def __init__(
        self,
        path: str | Path,
        synchronous: Synchronous = "full",
        *,
        access: Access = "write",
        busy_s: float = 1.0,
        keep_days: int = 0,
    ) -> None:
        if synchronous not in ("full", "normal", "off"):
            raise ConfigError(f"[journal] synchronous is full, normal or off, not {synchronous!r}")
        self._path = Path(path)
        self._synchronous: Synchronous = synchronous
        self._access = access
        self._busy_s = busy_s
        self._keep_days = keep_days
        self._keeping: asyncio.Task[None] | None = None
        self._jobs: queue.Queue[_Job] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._owner = ""
        self._db: sqlite3.Connection | None = None  # the thread's own, untouched elsewhere

    # -- the port ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Opens the file. Raises ``StoreError``, after which ``start`` and everything else may be tried again."""
        if self._thread is None:
            self._owner = f"{this_process()}/{secrets.token_hex(4)}"
            self._thread = threading.Thread(target=self._work, name="antiphon-journal", daemon=True)
            self._thread.start()
        await self._ask("open", None)
        if self._keep_days and self._access == "write" and self._keeping is None:
            self._keeping = asyncio.get_running_loop().create_task(self._keep(), name="journal retention")

    async def claim(self, session: str) -> int:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")

        def run(work: Transaction) -> int:
            return work.claim(session, self._owner, now)

        return await self._write(run)

    async def append(self, batches: Sequence[Batch]) -> list[Exception | None]:
        def run(work: Transaction) -> list[Exception | None]:
            return [work.append(batch) for batch in batches]

        try:
            return await self._write(run)
        except StoreError as error:
            if not batches:
                raise
            return [error] * len(batches)

    async def read(self, session: str, after_seq: int = 0) -> list[Entry]:
        return await self._read(lambda db: read_entries(db, session, after_seq))

    async def save_snapshot(self, session: str, epoch: int, seq: int, data: bytes) -> None:
        await self._write(lambda work: work.save_snapshot(session, epoch, seq, data))

    async def load_snapshot(self, session: str) -> tuple[int, bytes] | None:
        return await self._read(lambda db: load_snapshot(db, session))

    async def session(self, session: str) -> SessionRow:
        return await self._read(lambda db: show_session(db, session))

    async def sessions(self, limit: int = 50) -> list[SessionRow]:
        return await self._read(lambda db: list_sessions(db, limit))

    async def close(self) -> None:
        """Carries out what was asked for before, gives up ownership, and ends the thread. May be called twice."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        thread, self._thread = self._thread, None
        if thread is None:
            return
        await self._submit("close", None)
        thread.join()  # the thread's last act was to answer

    # -- what is over ------------------------------------------------------------------------------

    async def prune(self, days: int) -> int:
        """Deletes conversations that are over and whose last line began more than ``days`` ago; returns how many.

        A little at a time: what calls write goes on in between. Live ones are never touched.
        """
        before = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)).isoformat(
            timespec="milliseconds"
        )
        gone, behind, more = 0, 0, True
        while more:
            count, behind, more = await self._prune_some(before, behind)
            gone += count
            await asyncio.sleep(PRUNE_PAUSE_S if more else 0)
        return gone

    async def _prune_some(self, before: str, behind: int) -> tuple[int, int, bool]:
        return await self._write(lambda work: work.prune(before, behind))

    async def _keep(self) -> None:
        while True:
            try:
                gone = await self.prune(self._keep_days)
                if gone:
                    _log.info("journal: %d conversations older than %d days are deleted", gone, self._keep_days)
            except StoreError as error:
                _log.debug("journal: nothing is deleted now: %s", error)  # the writer says it, loudly and once
            await asyncio.sleep(PRUNE_EVERY_S)

    # -- on the loop's thread ----------------------------------------------------------------------

    async def _write(self, run: Callable[[Transaction], ResultT]) -> ResultT:
        result: ResultT = await self._ask("write", run)
        return result

    async def _read(self, run: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        result: ResultT = await self._ask("read", run)
        return result

    async def _ask(self, kind: Literal["write", "read", "open"], run: Callable[[Any], object] | None) -> Any:
        if self._thread is None:
            raise StoreError(f"the journal {self._path} is not open: await start() first", code="store.not_open")
        return await self._submit(kind, run)

    async def _submit(
        self, kind: Literal["write", "read", "open", "close"], run: Callable[[Any], object] | None
    ) -> Any:
        loop = asyncio.get_running_loop()
        job = _Job(kind, run, loop, loop.create_future())
        while True:
            try:
                self._jobs.put_nowait(job)
                break
            except queue.Full:
                if kind != "close":
                    raise StoreError(
                        f"{MAX_WAITING} requests wait for the journal {self._path}: its disk is too slow",
                        code="store.busy",
                    ) from None
                await asyncio.sleep(0.05)
        return await job.future

    # -- on the journal's thread -------------------------------------------------------------------

    def _work(self) -> None:
        left: _Job | None = None
        while True:
            job = left or self._jobs.get()
            left = None
            group = [job]
            while job.kind == "write" and len(group) < _GROUP and left is None:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if more.kind == "write":
                    group.append(more)
                else:
                    left = more
            try:
                results = self._carry_out(group)
            except Exception as error:  # noqa: BLE001 - the thread serves all calls: those who asked get it, it goes on
                sqlite_file.discard(self._db)
                self._db = None
                results = [(each, error) for each in group]
            _answer(results)
            if job.kind == "close":
                return

    def _carry_out(self, group: list[_Job]) -> list[tuple[_Job, object]]:
        job = group[0]
        try:
            if job.kind == "close":
                self._release()
                return [(job, None)]
            db = self._open()
            if job.kind == "write":
                return self._commit(db, group)
            return [(job, job.run(db) if job.run else None)]
        except sqlite3.Error as error:
            failure: StoreError = self._failed(error)
        except StoreError as error:
            failure = error
        return [(each, failure) for each in group]

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            if self._access == "read":
                self._db = sqlite_file.open_for_reading(self._path, self._busy_s)
            else:
                self._db = sqlite_file.open_for_writing(self._path, self._synchronous, self._busy_s)
        return self._db

    def _commit(self, db: sqlite3.Connection, group: list[_Job]) -> list[tuple[_Job, object]]:
        db.execute("BEGIN IMMEDIATE")
        work = Transaction(db)
        results = [(job, _attempt(job, work)) for job in group]
        work.finish()
        db.execute("COMMIT")
        return results

    def _failed(self, error: sqlite3.Error) -> StoreError:
        coded = sqlite_file.explain(error, self._path)
        db = self._db
        if db is not None:
            try:
                if db.in_transaction:
                    db.execute("ROLLBACK")
            except sqlite3.Error as again:
                _log.warning("journal %s: the failed transaction could not be rolled back: %s", self._path, again)
            if coded.code not in ("store.locked", "store.full"):
                # A connection opened read-only stays so, and one that met damage may hold some of it: start afresh.
                sqlite_file.discard(db)
                self._db = None
        return coded

    def _release(self) -> None:
        """Sessions that are still ours and not closed are nobody's from here on: a listing shows them interrupted."""
        db, self._db = self._db, None
        if db is not None and self._access == "write":
            try:
                db.execute("UPDATE sessions SET owner = '' WHERE owner = ? AND line <> 'closed'", (self._owner,))
            except sqlite3.Error as error:
                _log.warning("journal %s: ownership was not given up: %s", self._path, error)
        sqlite_file.discard(db)


def _attempt(job: _Job, work: Transaction) -> object:
    """A refusal is one job's alone; an ``sqlite3.Error`` ends the whole transaction and passes through."""
    assert job.run is not None  # noqa: S101 - write jobs are made with one
    try:
        return job.run(work)
    except StoreError as error:
        return error


def _answer(results: list[tuple[_Job, object]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, object]]] = {}
    for result in results:
        by_loop.setdefault(result[0].loop, []).append(result)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, mine)
        except RuntimeError:
            _log.debug("journal: nobody waits for %d answers, their event loop is closed", len(mine))


def _settle(results: list[tuple[_Job, object]]) -> None:
    for job, result in results:
        if job.future.done():
            continue
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str = ".antiphon/journal.sqlite"
    synchronous: Synchronous = "full"
    busy_s: float = 1.0


def build(settings: Mapping[str, object]) -> SqliteJournal:
    """Settings: ``path``, ``synchronous``, ``busy_s`` (seconds to wait for another writer). Raises ``ConfigError``."""
    try:
        chosen = msgspec.convert(dict(settings), Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"[journal] {error}") from error
    return SqliteJournal(chosen.path, chosen.synchronous, busy_s=chosen.busy_s)
