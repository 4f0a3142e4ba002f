"""The providers of one stage in order of preference, each behind its breaker.

Who is asked is decided here: the first that its breaker admits. A provider that was given up is asked
again, first, as soon as its breaker's probe succeeds; nothing else has to happen for that.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from antiphon.errors import AntiphonError, ProviderError, ProviderTimeout
from antiphon.runtime.breaker import BreakerState, CircuitBreaker
from antiphon.runtime.resilience import Lateness, StagePolicy

BLAMELESS = frozenset({"too_long", "bad_request", "language", "voice", "refused", "sample_rate", "too_large"})
"""Reasons (after the stage's name) that lie in the request: another provider may take it, but this one is well."""

log = logging.getLogger("antiphon.chain")


class Named(Protocol):
    name: str


P = TypeVar("P", bound=Named)
P_co = TypeVar("P_co", bound=Named, covariant=True)


class Member(Generic[P_co]):
    """A provider, how it is doing, and how long it takes to its first useful token or sample.

    ``name``: the provider's, with its place (``openai#2``) where one before it in the chain has the same.
    """

    __slots__ = ("breaker", "lateness", "name", "provider")

    def __init__(self, provider: P_co, breaker: CircuitBreaker, name: str = "") -> None:
        self.provider = provider
        self.breaker = breaker
        self.name = name or provider.name
        self.lateness = Lateness()

    def enter(self) -> None:
        """Asks the breaker. Raises ``CircuitBreakerOpen``; else one of ``book``'s outcomes is owed."""
        if not self.breaker.admit():
            raise self.breaker.opened()

    def book(self, error: BaseException | None) -> None:
        """How the request went: None is well; what was cancelled by us says nothing."""
        if error is None:
            self.breaker.succeeded()
        elif not isinstance(error, Exception) or is_blameless(error):
            self.breaker.abandoned()
        else:
            self.breaker.failed()


def is_blameless(error: BaseException) -> bool:
    """The provider refused this request, and would be right to refuse it again; or what it acted upon failed."""
    if isinstance(error, ProviderError):
        refused = not error.retryable and error.code.rpartition(".")[2] in BLAMELESS
        return refused or error.stage == "agent"
    return isinstance(error, AntiphonError) and error.fault != "provider"


def is_cancelled_by_us() -> bool:
    """Whether a ``CancelledError`` in this task is meant for it, and not what a provider's own task ended with."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def gave_up(name: str, stage: str) -> ProviderError:
    """A provider cancelled its own work: a failure like another."""
    return ProviderError(f"{name} gave up by itself", provider=name, stage=stage, code=f"{stage}.cancelled")


def breaker_of(name: str, policy: StagePolicy, clock: Callable[[], float], told: Mapping[str, str]) -> CircuitBreaker:
    """A breaker that says in the log when it opens and closes; ``told`` goes with each line."""

    def changed(old: BreakerState, new: BreakerState) -> None:
        level = logging.WARNING if new is BreakerState.OPEN else logging.INFO
        log.log(level, "the breaker of %s is %s", name, new, extra={**told, "before": str(old)})

    return CircuitBreaker(policy.failures, policy.open_s, name=name, clock=clock, on_change=changed)


_shared: dict[int, dict[tuple[object, ...], CircuitBreaker]] = {}
"""By provider, for as long as it lives."""
_MOST_SHARED = 64
"""Breakers of one provider: one for each stage and set of limits."""


def breaker_for(provider: object, stage: str, policy: StagePolicy, clock: Callable[[], float]) -> CircuitBreaker:
    """The breaker of this very object in this stage: the same for all who ask with the same limits and clock.

    An object that takes no weak reference (``__slots__`` without ``__weakref__``) gets a new one each time.
    """
    kept = _shared.get(id(provider))
    if kept is None:
        try:
            weakref.finalize(provider, _shared.pop, id(provider), None).atexit = False
        except TypeError:
            return breaker_of(stage, policy, clock, {"stage": stage})
        kept = _shared[id(provider)] = {}
    key = (stage, policy.failures, policy.open_s, clock)
    if key not in kept:
        if len(kept) >= _MOST_SHARED:
            del kept[next(iter(kept))]
        kept[key] = breaker_of(stage, policy, clock, {"stage": stage})
    return kept[key]


class Chain(Generic[P]):
    """See the module. ``stage`` names it for logs and status."""

    def __init__(self, stage: str, providers: Sequence[P], policy: StagePolicy) -> None:
        self.stage = stage
        self.policy = policy
        names = [each.name for each in providers]
        # The journal must tell two models behind the same kind of endpoint apart.
        unique = [name if names.index(name) == at else f"{name}#{at + 1}" for at, name in enumerate(names)]
        self.members = tuple(
            Member(provider, breaker_of(name, policy, _now, {"stage": stage}), name)
            for provider, name in zip(providers, unique, strict=True)
        )

    def admitted(self, tried: Collection[Member[P]] = ()) -> Iterator[Member[P]]:
        """Those that may be asked now, in order, without those that were tried."""
        return (each for each in self.members if each not in tried and each.breaker.would_admit)

    def again(self, tried: Sequence[Member[P]], error: AntiphonError) -> Member[P] | None:
        """The one asked last, for one more try: where the error may pass, tries are left and nobody else is.

        One that hung is not asked again: its time is gone.
        """
        last = tried[-1]
        may_pass = isinstance(error, ProviderError) and error.retryable and not isinstance(error, ProviderTimeout)
        too_late = self.policy.pause_s(error) > self.policy.first_s
        if not may_pass or tried.count(last) > self.policy.retries or too_late:
            return None
        return last if last.breaker.would_admit else None

    def status(self) -> dict[str, Any]:
        """By provider: its breaker, and its p95 in ms once that is known."""
        told: dict[str, Any] = {}
        for member in self.members:
            p95 = member.lateness.p95()
            told[member.name] = {**member.breaker.status(), "p95_ms": None if p95 is None else round(p95 * 1000)}
        return told


def _now() -> float:
    """Seconds of the loop's clock, as all other limits are measured. Who looks from outside a loop sees the same one:
    asyncio's loops go by ``time.monotonic``.
    """
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()
