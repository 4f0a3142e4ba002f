"""The circuit breaker: a provider that fails again and again is left alone for a while, then tried by one request.

One class for every use: the call path asks ``admit`` and reports how it went; whoever has a coroutine
function uses ``call`` or the breaker as a decorator. Time is monotonic and an argument of the
constructor. A success resets the count (A53); a cancelled request says nothing about the provider
(X19 to X21); while half open one probe is let out at a time (X4). A request from before it opened may
end meanwhile, and counts like the probe.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, ParamSpec, TypeVar

from antiphon.errors import ProviderError

P = ParamSpec("P")
T = TypeVar("T")


class BreakerState(StrEnum):
    """As shown in status and metrics (X3)."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreakerOpen(ProviderError):
    """The provider is left alone for now. ``retry_after_s`` says for how long."""

    default_code = "breaker.open"


CircuitBreakerOpenError = CircuitBreakerOpen


class CircuitBreaker:
    """Opens after ``failure_threshold`` failures in a row, for ``timeout`` seconds (``recovery_timeout`` is the same).

    ``on_change(old, new)`` is told of each change of state, on the thread that caused it. Raises
    ``ValueError`` for a threshold below 1 or a timeout below 0.
    """

    def __init__(
        self,
        failure_threshold: int = 5,
        timeout: float = 60,
        *,
        recovery_timeout: float | None = None,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[BreakerState, BreakerState], None] | None = None,
    ) -> None:
        timeout = timeout if recovery_timeout is None else recovery_timeout
        if failure_threshold < 1 or timeout < 0:
            raise ValueError("a breaker needs failure_threshold >= 1 and timeout >= 0 seconds")
        self.failure_threshold = failure_threshold
        self.timeout = timeout
        self.name = name
        self.failure_count = 0
        self.last_failure_time: float | None = None
        """By the breaker's clock (monotonic seconds), not the time of day."""
        self._clock = clock
        self._on_change = on_change
        self._state = BreakerState.CLOSED
        self._opened_at = 0.0
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """``open`` until a probe is let through, however long that takes."""
        return self._state

    @property
    def recovery_timeout(self) -> float:
        return self.timeout

    def left_s(self) -> float:
        """Seconds until a probe may go out; 0 if one may now or none is needed."""
        if self._state is not BreakerState.OPEN:
            return 0.0
        return max(0.0, self._opened_at + self.timeout - self._clock())

    @property
    def would_admit(self) -> bool:
        """What ``admit`` would answer, without taking the probe's place."""
        if self._state is BreakerState.OPEN:
            return self.left_s() <= 0
        return not (self._state is BreakerState.HALF_OPEN and self._probing)

    def admit(self) -> bool:
        """May a request go out? Whoever is told yes owes ``succeeded``, ``failed`` or ``abandoned``."""
        if not self.would_admit:
            return False
        if self._state is BreakerState.OPEN:
            self._change(BreakerState.HALF_OPEN)
        if self._state is BreakerState.HALF_OPEN:
            self._probing = True
        return True

    def succeeded(self) -> None:
        self.failure_count = 0
        self._probing = False
        # A request from before the breaker opened, ending late, is no probe.
        if self._state is BreakerState.HALF_OPEN:
            self._change(BreakerState.CLOSED)

    def failed(self) -> None:
        self.failure_count += 1
        self.last_failure_time = self._clock()
        if self._state is BreakerState.HALF_OPEN or (
            self._state is BreakerState.CLOSED and self.failure_count >= self.failure_threshold
        ):
            self._opened_at = self.last_failure_time
            self._probing = False
            self._change(BreakerState.OPEN)

    def abandoned(self) -> None:
        """The request was given up by us: it counts neither way, and another probe may go out."""
        self._probing = False

    def reset(self) -> None:
        """Closed, as new: for an operator who knows that the provider is back."""
        self.failure_count, self._probing = 0, False
        if self._state is not BreakerState.CLOSED:
            self._change(BreakerState.CLOSED)

    def opened(self) -> CircuitBreakerOpen:
        """The error for a request that is not admitted."""
        return CircuitBreakerOpen("Circuit breaker is open", provider=self.name, retry_after_s=self.left_s())

    async def call(self, func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs ``func``. Raises ``CircuitBreakerOpen`` if it is not admitted, else what ``func`` raises."""
        if not self.admit():
            raise self.opened()
        try:
            result = await func(*args, **kwargs)
        except asyncio.CancelledError:
            self.abandoned()
            raise
        except Exception:
            self.failed()
            raise
        except BaseException:
            self.abandoned()
            raise
        self.succeeded()
        return result

    def __call__(self, func: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """As a decorator of a coroutine function."""

        @functools.wraps(func)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.call(func, *args, **kwargs)

        return guarded

    def status(self) -> dict[str, Any]:
        """For ``get_status()``, health and metrics; times in seconds."""
        return {
            "state": str(self._state),
            "failure_count": self.failure_count,
            "failure_threshold": self.failure_threshold,
            "timeout": self.timeout,
            "retry_in": round(self.left_s(), 3),
        }

    def _change(self, new: BreakerState) -> None:
        old, self._state = self._state, new
        if self._on_change is not None:
            self._on_change(old, new)
