"""Waiting for the disk: how it is, who is told when an entry is durable, and what may be done without.

A caller must not be held on the line for a full disk, and a payment must not run unrecorded. So every
wait ends within a set time, and ``may_proceed`` says what that means for a command.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Literal

import msgspec

from antiphon.errors import StaleWriter, StoreError
from antiphon.kernel.commands import AnyCommand, RunEffect
from antiphon.kernel.events import Entry
from antiphon.runtime.ports import Journal

OnDurable = Callable[[Exception | None], None]
WhenDown = Literal["go_on", "refuse"]

_HOPELESS = frozenset({"store.unknown_session", "store.gap", "store.bad_batch", "store.bad_session"})
"""Errors of one session that no second try mends."""


class WriterState(msgspec.Struct, frozen=True):
    """``ok`` is False while entries are kept in memory only. ``dropped`` counts entries that never will be on disk."""

    ok: bool = True
    code: str = ""
    message: str = ""
    pending: int = 0
    dropped: int = 0


def may_proceed(command: AnyCommand, error: Exception | None, when_down: WhenDown = "go_on") -> bool:
    """Whether a durable command is carried out although ``error`` kept its entry from the disk.

    Never when the session has another owner, and never for an effect: what cannot be recorded must not
    be charged. Ending or moving the call is let through under ``go_on``, not under ``refuse``.
    """
    if error is None:
        return True
    if isinstance(error, StaleWriter) or isinstance(command, RunEffect):
        return False
    return when_down == "go_on"


def is_hopeless(result: object) -> bool:
    return isinstance(result, StaleWriter) or (isinstance(result, StoreError) and result.code in _HOPELESS)


async def holds_others(journal: Journal, session: str, pending: Iterable[Entry]) -> bool:
    """Whether the journal's entries of this session are others than those that ``pending``, all there is here, has."""
    try:
        theirs = await journal.read(session, 0)
    except StoreError:
        return False  # then the journal's own check refuses what does not fit
    return theirs != list(islice(pending, len(theirs)))


def history_unread() -> StoreError:
    """For a caller who came back to another process while the store was down: their call began anew, without what was
    said before. Two conversations cannot be folded as one: the older stays what it is, the newer is kept by nobody.
    """
    text = "what was said before could not be read when the caller came back: this call goes on in memory alone"
    return StoreError(text, code="store.history_unread")


def resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    """Lets a future wait: its result is None or the error."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


class Waiter:
    """One wait for one entry. ``tell`` may be called often; the first time counts."""

    __slots__ = ("_callback", "deadline", "done", "seq")

    def __init__(self, seq: int, callback: OnDurable, deadline: float) -> None:
        self.seq = seq
        self.deadline = deadline
        self.done = False
        self._callback = callback

    def tell(self, error: Exception | None) -> None:
        """Passes the answer on through the loop, so that what the callback raises stays its own."""
        if not self.done:
            self.done = True
            asyncio.get_running_loop().call_soon(self._callback, error)


class Waits:
    """All waits of a writer, each ``limit_s`` long, behind one timer that exists only while somebody waits.

    ``reason`` makes the error that those get whose time is over.
    """

    def __init__(self, limit_s: float, reason: Callable[[], Exception]) -> None:
        self._limit_s = limit_s
        self._reason = reason
        self._queue: deque[Waiter] = deque()  # in order of deadline, since every wait is equally long
        self._timer: asyncio.TimerHandle | None = None
        self._somebody = asyncio.Event()

    async def nobody(self, seconds: float) -> None:
        """Returns after so long, or as soon as somebody waits or ``hurry`` is called."""
        if self._queue or not seconds:
            return
        self._somebody.clear()
        timer = asyncio.get_running_loop().call_later(seconds, self._somebody.set)
        try:
            await self._somebody.wait()
        finally:
            timer.cancel()

    def hurry(self) -> None:
        self._somebody.set()

    def add(self, seq: int, callback: OnDurable) -> Waiter:
        loop = asyncio.get_running_loop()
        waiter = Waiter(seq, callback, loop.time() + self._limit_s)
        self._queue.append(waiter)
        self.hurry()
        if self._timer is None:
            self._timer = loop.call_at(waiter.deadline, self._overdue)
        return waiter

    def tidy(self) -> None:
        """Forgets those that were told; the timer goes when nobody is left."""
        while self._queue and self._queue[0].done:
            self._queue.popleft()
        if not self._queue and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _overdue(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._queue:
            waiter = self._queue[0]
            if not waiter.done:
                if waiter.deadline > now:
                    self._timer = loop.call_at(waiter.deadline, self._overdue)
                    return
                waiter.tell(self._reason())
            self._queue.popleft()
