"""A stage of a turn in batch mode: one question, one whole answer. How often it is asked, how long, and who counts it.

On the phone a stage streams (``speech``, ``generate``); here the answer is of use only when it is whole. Each attempt
gets its own limit or what the turn has left, whichever is less (X8), and is judged by the provider's breaker alone
(X20). What failed may be asked again after a pause (A25, X19); what came back empty is asked again at once where the
stage says so. An attempt that is given up is cancelled and not waited for: a provider that does not listen to its
cancellation must not hold the caller.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, Literal, TypeVar

import msgspec

from antiphon.clip import clipped
from antiphon.errors import AntiphonError, ProviderError, ProviderRefused, ProviderTimeout
from antiphon.runtime.breaker import CircuitBreaker
from antiphon.runtime.chain import Member
from antiphon.runtime.resilience import StagePolicy

LIMITS: Mapping[str, StagePolicy] = {
    "stt": StagePolicy(first_s=15.0, share=1.0, retries=1, retry_pause_s=0.5),
    "llm": StagePolicy(first_s=15.0, share=1.0, retries=1, retry_pause_s=0.5),
    "tts": StagePolicy(first_s=20.0, share=1.0, retries=1, retry_pause_s=0.5),
}
"""Of one attempt (A24 to A28, A55 to A57); the whole answer is the first that is useful."""

OPTIONS = frozenset(StagePolicy.__struct_fields__) - {"between_s", "hedge"}
"""What of a policy is gone by here: an answer comes in one piece, and there is one provider."""

TURN_S = sum(limit.first_s for limit in LIMITS.values())
"""A turn has the time of one full attempt at each stage; what one stage takes beyond it the others lack."""

BLANK = {
    "stt": "no words were heard: ask the caller to say it again",
    "llm": "the model gave an empty answer",
    "tts": "the voice gave no sound",
}

SHOWN_CHARS = 200
"""Of what a provider says when it fails."""

log = logging.getLogger("antiphon.batch")

T = TypeVar("T")
Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]

_turn_ends: ContextVar[float] = ContextVar("antiphon_turn_ends", default=math.inf)


@contextmanager
def turn_within(seconds: float, clock: Clock = time.perf_counter) -> Iterator[None]:
    """What is asked inside, by this task, has ``seconds`` altogether. ``clock`` is the stages' own."""
    token = _turn_ends.set(clock() + seconds)
    try:
        yield
    finally:
        _turn_ends.reset(token)


class Outcome(msgspec.Struct, Generic[T], frozen=True):
    """What a stage came to: a value, or the error of its last attempt."""

    value: T | None = None
    error: AntiphonError | None = None


class Stage:
    """One provider's place in the turn. ``name``: stt, llm, tts. ``breaker``: None asks whatever happened before.

    ``clock`` counts seconds, as the turn's does; ``sleep`` passes them.
    """

    def __init__(
        self,
        name: str,
        policy: StagePolicy | None = None,
        *,
        breaker: CircuitBreaker | None = None,
        blank: Literal["again", "final"] = "again",
        call_id: str = "",
        clock: Clock = time.perf_counter,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.name = name
        self.policy = policy or LIMITS[name]
        self.breaker = breaker
        self._member = Member(self, breaker) if breaker is not None else None
        self._blank = blank
        self._told = {"call": call_id}
        self._clock = clock
        self._sleep = sleep

    async def run(
        self, ask: Callable[[], Awaitable[object]], read: Callable[[Any], T | None], tries: int | None = None
    ) -> Outcome[T]:
        """Asks until ``read`` finds something useful in the answer, ``tries`` times at most.

        ``read`` gives None for a blank answer and raises ``ProviderError`` for one of the wrong shape. Raises
        nothing but ``CancelledError``. Codes besides those of the provider: ``<stage>.blank``, ``.raised``,
        ``.timeout``, ``.cancelled``, ``.not_async``, ``.turn_over`` and ``breaker.open``.
        """
        tries = self.policy.retries + 1 if tries is None else max(1, tries)
        number = 0
        while True:
            number += 1
            if self.breaker is not None and not self.breaker.admit():
                refused = self.breaker.opened()
                log.warning("%s is not asked: %s", self.name.upper(), refused, extra=self._told)
                return Outcome(error=refused)
            try:
                value = await self._judged(ask, read)
            except Exception as error:  # noqa: BLE001 - a module may raise anything; it is told below
                failure = self._coded(error)
                self._tell(failure, error, number, tries)
                if number >= tries or not await self._another(failure):
                    return Outcome(error=failure)
                continue
            if value is not None:
                return Outcome(value)
            log.warning("%s attempt %d of %d came back empty", self.name.upper(), number, tries, extra=self._told)
            if number >= tries or self._blank == "final":
                return Outcome(error=self._error(BLANK.get(self.name, "the answer is empty"), "blank"))

    def _tell(self, failure: AntiphonError, raised: Exception, number: int, tries: int) -> None:
        # Where it was raised is of interest only if nobody meant to raise it.
        trace = None if failure is raised else raised
        what = "%s attempt %d of %d failed: %s"
        log.error(what, self.name.upper(), number, tries, failure, exc_info=trace, extra=self._told)

    async def _another(self, failure: AntiphonError) -> bool:
        """Is it worth asking again? If so, the pause before it is over when this returns."""
        pause = self.policy.retry_pause_s
        worth = isinstance(failure, ProviderError) and failure.retryable and self._left() > pause
        if not worth or (self.breaker is not None and not self.breaker.would_admit):
            return False
        log.warning("%s is tried again in %g s", self.name.upper(), pause, extra=self._told)
        await self._sleep(pause)
        return True

    async def _judged(self, ask: Callable[[], Awaitable[object]], read: Callable[[Any], T | None]) -> T | None:
        """One attempt. The breaker hears how it went, unless that says nothing about the provider."""
        error: BaseException | None = None
        try:
            return read(await self._asked(ask))
        except BaseException as raised:
            error = raised
            raise
        finally:
            if self._member is not None:
                self._member.book(error)
            error = None  # it holds this frame, and would be held by it until a full collection

    async def _asked(self, ask: Callable[[], Awaitable[object]]) -> object:
        within = self.policy.first_within(self._left())
        if within <= 0:
            raise self._turn_over()
        answer = ask()
        if not inspect.isawaitable(answer):
            raise ProviderRefused(
                f"{type(answer).__name__} came back at once: the method must be `async def`",
                stage=self.name,
                code=f"{self.name}.not_async",
            )
        task = asyncio.ensure_future(answer)
        try:
            await asyncio.wait({task}, timeout=within)
        finally:
            if not task.done():
                task.add_done_callback(_ignored)
                task.cancel()
        if not task.done():
            # With less than its own time it was the turn that was late, and not the provider.
            raise self._timeout(within) if within >= self.policy.first_s else self._turn_over()
        if task.cancelled():
            raise self._error("the provider cancelled its own work", "cancelled")
        return task.result()

    def _left(self) -> float:
        return _turn_ends.get() - self._clock()

    def _coded(self, error: Exception) -> AntiphonError:
        if isinstance(error, AntiphonError):
            return error
        if isinstance(error, TimeoutError):
            return ProviderTimeout("the provider timed out", stage=self.name, code=f"{self.name}.timeout")
        return self._error(clipped(f"{type(error).__name__}: {error}", SHOWN_CHARS), "raised")

    def _error(self, text: str, code: str) -> ProviderError:
        return ProviderError(text, stage=self.name, code=f"{self.name}.{code}")

    def _timeout(self, seconds: float) -> ProviderTimeout:
        return ProviderTimeout(f"no answer within {seconds:g} s", stage=self.name, code=f"{self.name}.timeout")

    def _turn_over(self) -> AntiphonError:
        return AntiphonError("the turn's time was over before the answer came", code=f"{self.name}.turn_over")


def _ignored(task: asyncio.Future[object]) -> None:
    """What becomes of an attempt that was given up is nobody's business any more."""
    if not task.cancelled():
        task.exception()
