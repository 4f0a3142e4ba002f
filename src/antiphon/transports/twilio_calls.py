"""What the webhooks know of calls: the language chosen, whether one ended on purpose, how often its stream broke.

Twilio has no hang-up over a stream: when we close it, Twilio asks the ``action`` webhook (or runs the next verb). The
book tells the webhook whether to answer ``<Hangup/>`` or to connect the call again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

import msgspec

from antiphon.errors import NotAllowed

EVENTS_PER_CALL = 64


class _Answer(msgspec.Struct):
    at: float
    text: asyncio.Future[str]


class _Page(msgspec.Struct):
    opened: float
    language: str = ""
    ended: str = ""
    reconnects: int = 0
    answers: dict[str, _Answer] = msgspec.field(default_factory=dict)


class CallBook:
    """Bounded: the oldest of ``capacity`` calls is forgotten first, and a call ``ttl_s`` after it was first noted.

    It lives in one process. A fleet asks its shared store as well (``CallDesk.ended`` of the webhooks).
    """

    def __init__(
        self, *, capacity: int = 10_000, ttl_s: float = 4 * 3600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pages: dict[str, _Page] = {}
        self._capacity = capacity
        self._ttl_s = ttl_s
        self._clock = clock

    def __len__(self) -> int:
        return len(self._pages)

    def note_language(self, call_id: str, language: str) -> None:
        """The caller chose it in the menu (A68)."""
        self._page(call_id).language = language

    def language(self, call_id: str) -> str:
        """What the caller chose in the menu, or ``""``; forgotten when the call is over (A61)."""
        page = self._pages.get(call_id)
        return page.language if page else ""

    def note_ended(self, call_id: str, reason: str) -> None:
        """The call is over on purpose: ours or the caller's. The first reason stays."""
        page = self._page(call_id)
        page.ended = page.ended or reason or "ended"
        page.language = ""

    def ended(self, call_id: str) -> str:
        """Why the call ended on purpose, or ``""``."""
        page = self._pages.get(call_id)
        return page.ended if page else ""

    def count_reconnect(self, call_id: str) -> int:
        """One more; returns how many that makes."""
        page = self._page(call_id)
        page.reconnects += 1
        return page.reconnects

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
        answers = self._page(call_id).answers
        given = answers.get(event)
        if given is None:
            if len(answers) >= EVENTS_PER_CALL:
                del answers[next(iter(answers))]
            given = answers[event] = _Answer(self._clock(), asyncio.ensure_future(answer()))
        elif self._clock() - given.at > within_s:
            raise NotAllowed("this very request was answered before", code="auth.replayed")
        return await asyncio.shield(given.text)

    def _page(self, call_id: str) -> _Page:
        now = self._clock()
        page = self._pages.get(call_id)
        if page is None:
            self._forget(now)
            page = self._pages[call_id] = _Page(opened=now)
        return page

    def _forget(self, now: float) -> None:
        while self._pages:
            oldest = next(iter(self._pages))
            if len(self._pages) < self._capacity and now - self._pages[oldest].opened < self._ttl_s:
                return
            del self._pages[oldest]
