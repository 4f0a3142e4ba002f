"""What the webhooks know of calls: the language chosen, whether one ended on purpose, how often its stream broke.

Twilio has no hang-up over a stream: when we close it, Twilio asks the ``action`` webhook (or runs the next verb). The
book tells the webhook whether to answer ``<Hangup/>`` or to connect the call again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

import msgspec

from antiphon.errors import NotAllowed

EVENTS_PER_CALL: Final = 64
CAPACITY: Final = 10_000
TTL_S: Final = 4 * 3600.0
ELSEWHERE_S: Final = 1.0
"""How long another process may take over an answer; then it is dead, and the one that was asked again gives its own."""
_LOOK_S: Final = 0.02


class Answer(msgspec.Struct):
    """What a webhook was answered; ``text`` is None while somebody makes it. ``at``: the book's clock."""

    at: float
    text: str | None = None


class Page(msgspec.Struct):
    """One call. ``asked``: how often a webhook asked what it does next."""

    opened: float
    language: str = ""
    ended: str = ""
    reconnects: int = 0
    asked: int = 0
    answers: dict[str, Answer] = msgspec.field(default_factory=dict)


class Shelf(Protocol):
    """Where the pages stand: in one process, or where several find them. Bounded, see ``CallBook``."""

    def __len__(self) -> int: ...

    def read(self, call_id: str) -> Page | None:
        """The page as it is now, not to be changed."""

    def change(self, call_id: str, now: float) -> AbstractContextManager[Page]:
        """The page, new if there is none; what is changed within is kept. Nobody else changes it meanwhile."""


class LocalShelf:
    """Pages of one process."""

    def __init__(self, capacity: int = CAPACITY, ttl_s: float = TTL_S) -> None:
        self._pages: dict[str, Page] = {}
        self._capacity = capacity
        self._ttl_s = ttl_s

    def __len__(self) -> int:
        return len(self._pages)

    def read(self, call_id: str) -> Page | None:
        return self._pages.get(call_id)

    @contextmanager
    def change(self, call_id: str, now: float) -> Iterator[Page]:
        page = self._pages.get(call_id)
        if page is None:
            self._forget(now)
            page = self._pages[call_id] = Page(opened=now)
        yield page

    def take_out(self, most: int) -> list[tuple[str, Page]]:
        """The oldest pages, which do not stand here any more."""
        return [(call, self._pages.pop(call)) for call in list(self._pages)[:most]]

    def _forget(self, now: float) -> None:
        while self._pages:
            oldest = next(iter(self._pages))
            if len(self._pages) < self._capacity and now - self._pages[oldest].opened < self._ttl_s:
                return
            del self._pages[oldest]


class CallBook:
    """Bounded: the oldest of ``capacity`` calls is forgotten first, and a call ``ttl_s`` after it was first noted.

    Its pages stand in this process, or on a ``shelf`` (which has bounds of its own) that the processes of one machine
    share; ``clock`` is theirs in common. A fleet asks its shared store as well (``CallDesk.ended`` of the webhooks).
    """

    def __init__(
        self,
        *,
        capacity: int = CAPACITY,
        ttl_s: float = TTL_S,
        clock: Callable[[], float] = time.monotonic,
        shelf: Shelf | None = None,
    ) -> None:
        self._shelf: Shelf = LocalShelf(capacity, ttl_s) if shelf is None else shelf
        self._clock = clock
        self._under_way: dict[tuple[str, str], asyncio.Future[str]] = {}

    def __len__(self) -> int:
        return len(self._shelf)

    def note_language(self, call_id: str, language: str) -> None:
        """The caller chose it in the menu (A68)."""
        with self._change(call_id) as page:
            page.language = language

    def language(self, call_id: str) -> str:
        """What the caller chose in the menu, or ``""``; forgotten when the call is over (A61)."""
        page = self._shelf.read(call_id)
        return page.language if page else ""

    def note_ended(self, call_id: str, reason: str) -> None:
        """The call is over on purpose: ours or the caller's. The first reason stays."""
        with self._change(call_id) as page:
            page.ended = page.ended or reason or "ended"
            page.language = ""

    def ended(self, call_id: str) -> str:
        """Why the call ended on purpose, or ``""``."""
        page = self._shelf.read(call_id)
        return page.ended if page else ""

    def count_reconnect(self, call_id: str) -> int:
        """One more; returns how many that makes."""
        with self._change(call_id) as page:
            page.reconnects += 1
            return page.reconnects

    def note_asked(self, call_id: str) -> None:
        """A webhook asks what the call does next."""
        with self._change(call_id) as page:
            page.asked += 1

    def asked(self, call_id: str) -> int:
        """How often that was."""
        page = self._shelf.read(call_id)
        return page.asked if page else 0

    async def answer_once(
        self, call_id: str, event: str, answer: Callable[[], Awaitable[str]], *, within_s: float = math.inf
    ) -> str:
        """The answer given to this event of this call the first time; ``answer()`` makes it.

        A webhook that is repeated so has no second effect. Raises ``NotAllowed`` (``auth.replayed``) for one that
        comes again later than ``within_s``: no sender retries for so long. ``event`` ``""`` cannot be told from
        others and is answered anew.
        """
        if not event:
            return await answer()
        with self._change(call_id) as page:
            given = page.answers.get(event)
            if given is None:
                if len(page.answers) >= EVENTS_PER_CALL:
                    del page.answers[next(iter(page.answers))]
                page.answers[event] = Answer(self._clock())
        if given is None:
            return await self._make(call_id, event, answer)
        if self._clock() - given.at > within_s:
            raise NotAllowed("this very request was answered before", code="auth.replayed")
        if given.text is not None:
            return given.text
        under_way = self._under_way.get((call_id, event))
        if under_way is not None:
            return await asyncio.shield(under_way)
        return await self._made_elsewhere(call_id, event, answer)

    async def _make(self, call_id: str, event: str, answer: Callable[[], Awaitable[str]]) -> str:
        key = (call_id, event)
        task = self._under_way[key] = asyncio.ensure_future(self._answer(call_id, event, answer))
        task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    async def _answer(self, call_id: str, event: str, answer: Callable[[], Awaitable[str]]) -> str:
        try:
            text = await answer()
        except BaseException:
            # Without an answer there is nothing to repeat: whoever asks again is judged anew.
            with self._change(call_id) as page:
                page.answers.pop(event, None)
            raise
        with self._change(call_id) as page:
            given = page.answers.get(event)
            page.answers[event] = Answer(given.at if given else self._clock(), text)
        return text

    async def _made_elsewhere(self, call_id: str, event: str, answer: Callable[[], Awaitable[str]]) -> str:
        until = self._clock() + ELSEWHERE_S
        while self._clock() < until:
            await asyncio.sleep(_LOOK_S)
            page = self._shelf.read(call_id)
            given = page.answers.get(event) if page else None
            if given is None:
                break
            if given.text is not None:
                return given.text
        return await self._make(call_id, event, answer)

    def _change(self, call_id: str) -> AbstractContextManager[Page]:
        return self._shelf.change(call_id, self._clock())
