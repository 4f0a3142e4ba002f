"""Write-behind: between calls, which never wait, and the journal, which does.

The rules of durability live here:

- Entries of a session are written in order. All that is pending, of all sessions, goes into one group commit; the next
  gathers meanwhile, and a little longer unless somebody waits for it. There is no task or timer per entry.
- A store that is down or full stops no call. Entries wait in memory, up to ``max_pending``, and are
  tried again with growing pauses. Past the bound the session that has waited longest loses its journal
  from there on (a journal with a hole cannot be folded), with a count and a log line; its call goes on.
- Whoever waits for durability gets an answer within ``durable_s``, if need be an error (see ``durable.py``).
- A session that somebody else has taken over is not written any more; ``on_stale`` says so, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

from antiphon.errors import AntiphonError, StaleWriter, StoreError, UnknownSession
from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.events import Entry
from antiphon.runtime.durable import (
    OnDurable,
    Waiter,
    Waits,
    WhenDown,
    WriterState,
    history_unread,
    holds_others,
    is_hopeless,
    may_proceed,
    resolve,
)
from antiphon.runtime.ports import Batch, Journal

MAX_GROUP: Final = 5000
"""Entries in one group commit: of a backlog the first are safe early."""
GATHER_S: Final = 0.04
"""What a process that dies may lose of entries nobody waited for: each commit costs a sync of the disk."""

_log = logging.getLogger("antiphon.journal")


class _Book:
    """One session's part. ``written`` is the last sequence number on disk; epoch 0 means not claimed yet."""

    __slots__ = ("closing", "epoch", "failure", "pending", "session", "waiters", "written")

    def __init__(self, session: str, epoch: int, last_seq: int) -> None:
        self.session = session
        self.epoch = epoch
        self.written = last_seq
        self.pending: deque[Entry] = deque()
        self.waiters: deque[Waiter] = deque()
        self.closing = False
        self.failure: Exception | None = None


class JournalWriter:
    """Gives entries to ``journal``. All methods and callbacks are on the event loop's thread.

    ``retry_s`` is the first and the longest pause between tries while the store is down. ``on_state``
    is called when ``health`` turns degraded or well again, ``on_stale`` with a session that was lost.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        max_pending: int = 100_000,
        on_state: Callable[[WriterState], None] | None = None,
        on_stale: Callable[[str], None] | None = None,
        retry_s: tuple[float, float] = (0.1, 5.0),
        durable_s: float = 1.0,
        when_down: WhenDown = "go_on",
    ) -> None:
        self._journal = journal
        self._max_pending = max_pending
        self._on_state = on_state
        self._on_stale = on_stale
        self._retry_s = retry_s
        self._durable_s = durable_s
        self._when_down: WhenDown = when_down
        self._books: dict[str, _Book] = {}
        self._dirty: dict[str, _Book] = {}  # books with pending entries, the longest waiting first
        self._waits = Waits(durable_s, self._why_late)
        self._pending = 0
        self._dropped = 0
        self._error: AntiphonError | None = None
        self._started = False
        self._stopping = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- what calls use ----------------------------------------------------------------------------

    @property
    def health(self) -> WriterState:
        if (error := self._error) is None:
            return WriterState(pending=self._pending, dropped=self._dropped)
        return WriterState(False, error.code, str(error), self._pending, self._dropped)

    def open(self, session: str, epoch: int, last_seq: int) -> None:
        """Takes a session on: ``last_seq`` is what the journal already holds of it, 0 for a new one.

        ``epoch`` 0 says that the store was down when the session began: it is claimed when it is back.
        A session that is open already (its caller came back on a new line) keeps what is pending of it and
        goes on under the new epoch, unless ``last_seq`` shows that somebody else has written meanwhile.
        """
        old = self._books.get(session)
        if old is not None:
            if old.failure is None and old.written <= last_seq <= old.written + len(old.pending):
                old.epoch, old.closing = epoch, False
                return
            self._abandon(old, StaleWriter(f"session {session} was opened again at entry {last_seq}"))
        self._books[session] = _Book(session, epoch, last_seq)

    def epoch(self, session: str) -> int:
        """The epoch the session is written under, 0 while it is not claimed. Raises ``UnknownSession``."""
        return self._book(session).epoch

    def append(self, session: str, entry: Entry, on_durable: OnDurable | None = None) -> None:
        """Queues one entry; never blocks. ``on_durable`` is called later, exactly once.

        It gets None when the entry and all before it are on disk, ``StaleWriter`` when the session has
        another owner, and a ``StoreError`` when the store cannot say in ``durable_s``; the entry may then still
        be written. Raises ``UnknownSession`` for a session that is not open.
        """
        book = self._book(session)
        if book.failure is not None:
            self._dropped += 1
            if on_durable is not None:
                asyncio.get_running_loop().call_soon(on_durable, book.failure)
            return
        if on_durable is not None:
            book.waiters.append(self._waits.add(entry.seq, on_durable))
        book.pending.append(entry)
        self._pending += 1
        self._dirty.setdefault(session, book)
        if self._pending > self._max_pending:
            self._make_room()
        self._wake.set()

    def close_session(self, session: str) -> None:
        """Nothing more will be appended; what is pending is still written. Unknown sessions are ignored."""
        book = self._books.get(session)
        if book is not None:
            book.closing = True
            self._forget_if_done(book)

    def may_proceed(self, command: AnyCommand, error: Exception | None) -> bool:
        """``may_proceed`` under this writer's ``when_down`` policy."""
        return may_proceed(command, error, self._when_down)

    async def flush(self, session: str | None = None) -> None:
        """Returns when what was appended before is on disk. Raises the ``StoreError`` that keeps it from there."""
        books = list(self._books.values()) if session is None else [self._book(session)]
        loop = asyncio.get_running_loop()
        results: list[asyncio.Future[None]] = []
        for book in books:
            if book.pending:
                future: asyncio.Future[None] = loop.create_future()
                results.append(future)
                book.waiters.append(self._waits.add(book.pending[-1].seq, partial(resolve, future)))
            elif book.failure is not None and session is not None:
                raise book.failure
        errors = [error for error in await asyncio.gather(*results, return_exceptions=True) if error is not None]
        if errors:
            raise errors[0]

    async def start(self) -> None:
        """Opens the journal and begins to write. A store that is down makes ``health`` degraded, not an error."""
        await self._start_journal()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="journal writer")
        self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Writes what is pending, for ``durable_s`` at most, and closes the journal. May be called twice."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping = True
        self._wake.set()
        self._waits.hurry()
        await asyncio.wait((task,), timeout=self._durable_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self._pending:
            _log.error("journal: %d entries are lost, the store did not take them: %s", self._pending, self._error)
        for book in list(self._books.values()):
            self._abandon(book, self._error or StoreError("the journal was closed", code="store.closed"))
        self._waits.tidy()
        try:
            async with asyncio.timeout(self._durable_s):
                await self._journal.close()
        except (StoreError, TimeoutError) as error:
            _log.error("journal: it did not close cleanly: %s", error or "no answer")

    # -- on the way to the disk --------------------------------------------------------------------

    def _book(self, session: str) -> _Book:
        book = self._books.get(session)
        if book is None:
            raise UnknownSession(f"session {session} is not open for writing")
        return book

    def _why_late(self) -> Exception:
        return self._error or StoreError(f"the journal has not answered in {self._durable_s:g} s", code="store.slow")

    def _tell_written(self, book: _Book) -> None:
        while book.waiters and book.waiters[0].seq <= book.written:
            book.waiters.popleft().tell(None)
        self._waits.tidy()

    # -- giving up ---------------------------------------------------------------------------------

    def _abandon(self, book: _Book, failure: Exception) -> None:
        """The session's journal ends here; later entries are counted and dropped."""
        if book.failure is not None:
            return
        book.failure = failure
        self._dropped += len(book.pending)
        self._pending -= len(book.pending)
        book.pending.clear()
        self._dirty.pop(book.session, None)
        while book.waiters:
            book.waiters.popleft().tell(failure)
        self._waits.tidy()
        self._forget_if_done(book)

    def _make_room(self) -> None:
        oldest = next(iter(self._dirty.values()))
        count = len(oldest.pending)
        reason = self._error.code if self._error else "store.slow"
        self._abandon(
            oldest, StoreError(f"{self._max_pending} entries wait for the store, no more fit", code="store.overflow")
        )
        _log.error(
            "journal: more than %d entries wait (%s): %d of this call dropped, its journal ends at entry %d",
            self._max_pending,
            reason,
            count,
            oldest.written,
            extra={"call": oldest.session},
        )

    def _forget_if_done(self, book: _Book) -> None:
        if book.closing and not book.pending and self._books.get(book.session) is book:
            del self._books[book.session]

    # -- the flush task ----------------------------------------------------------------------------

    async def _run(self) -> None:
        pause, longest = self._retry_s
        while True:
            if not self._dirty and self._stopping:
                return
            if not self._dirty and self._error is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._waits.nobody(0 if self._stopping or self._error else GATHER_S)
            if await self._write_group():
                pause = self._retry_s[0]
                continue
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.critical("journal: the writer itself failed, nothing more is kept", exc_info=error)
            self._error = StoreError(f"the writer failed: {error!r}", code="internal")
            self._report()

    async def _start_journal(self) -> None:
        try:
            await self._journal.start()
        except Exception as error:  # noqa: BLE001 - whatever a store does, calls go on and health says so
            self._degraded(error)
        else:
            self._started = True
            self._well()

    async def _write_group(self) -> bool:
        """One group commit; an empty one asks a store that was down. True if it was taken and the next may follow."""
        if not self._started:
            await self._start_journal()
            if not self._started:
                return False
        if not await self._claim_late():
            return False
        books, batches = self._gather()
        if not batches and self._error is None:
            return True
        try:
            results = await self._journal.append(batches)
        except Exception as error:  # noqa: BLE001 - as above; the entries are still pending and tried again
            self._degraded(error)
            return False
        failed: Exception | None = None
        for book, batch, result in zip(books, batches, results, strict=True):
            failed = self._settle(book, batch, result) or failed
        if failed is not None:
            self._degraded(failed)
            return False
        self._well()
        return True

    async def _claim_late(self) -> bool:
        books = [book for book in list(self._dirty.values())[:MAX_GROUP] if book.epoch == 0]
        if not books:
            return True
        claims = (self._journal.claim(book.session) for book in books)
        for book, result in zip(books, await asyncio.gather(*claims, return_exceptions=True), strict=True):
            if isinstance(result, int):
                book.epoch = result
                if result > 1 and not book.written and await holds_others(self._journal, book.session, book.pending):
                    self._give_up(book, history_unread())
            elif is_hopeless(result):
                self._give_up(book, result)
            elif isinstance(result, Exception):
                self._degraded(result)
                return False
            else:
                raise result
        return True

    def _gather(self) -> tuple[list[_Book], list[Batch]]:
        books: list[_Book] = []
        batches: list[Batch] = []
        room = MAX_GROUP
        for book in self._dirty.values():
            if book.epoch == 0:
                continue
            entries = tuple(islice(book.pending, room))
            books.append(book)
            batches.append(Batch(book.session, book.epoch, book.written, entries))
            room -= len(entries)
            if room <= 0:
                break
        return books, batches

    def _settle(self, book: _Book, batch: Batch, result: Exception | None) -> Exception | None:
        """Takes note of one batch's fate; returns the error if the batch is to be tried again."""
        if book.failure is not None:
            return None
        if result is None:
            for _ in batch.entries:
                book.pending.popleft()
            self._pending -= len(batch.entries)
            book.written = batch.entries[-1].seq
            del self._dirty[book.session]
            if book.pending:
                self._dirty[book.session] = book
            self._tell_written(book)
            self._forget_if_done(book)
            return None
        if batch.epoch != book.epoch:
            return None  # the session was claimed anew while this was under way; it is sent again under that epoch
        if is_hopeless(result):
            self._give_up(book, result)
            return None
        return result

    def _give_up(self, book: _Book, error: BaseException) -> None:
        failure = error if isinstance(error, Exception) else StoreError(str(error))
        told = {"call": book.session}
        _log.error("journal: not written any more after entry %d: %s", book.written, error, extra=told)
        self._abandon(book, failure)
        if isinstance(error, StaleWriter) and self._on_stale is not None:
            asyncio.get_running_loop().call_soon(self._on_stale, book.session)

    # -- health ------------------------------------------------------------------------------------

    def _degraded(self, error: Exception) -> None:
        coded = error if isinstance(error, AntiphonError) else StoreError(f"{type(error).__name__}: {error}")
        if coded is not error:
            _log.error("journal: the store raised what is no StoreError", exc_info=error)
        changed = self._error is None or self._error.code != coded.code
        self._error = coded
        if changed:
            _log.error("journal degraded: calls go on in memory, nothing is kept: %s", coded)
            self._report()

    def _well(self) -> None:
        if self._error is not None:
            _log.warning("journal well again after %s", self._error.code)
            self._error = None
            self._report()

    def _report(self) -> None:
        if self._on_state is not None:
            asyncio.get_running_loop().call_soon(self._on_state, self.health)
