"""Effects are carried out once, their outcome reaches whoever asked, and everything that fails says how."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from antiphon.errors import ProviderError, StoreError
from antiphon.kernel import events as ev
from antiphon.kernel.commands import RunEffect
from antiphon.kernel.effects import MAX_EFFECTS, Effect, EffectKind, EffectStatus, settle
from antiphon.runtime.effects import EFFECT_TIMEOUT_S, EffectRunner
from antiphon.sim.clock import run


class Ledger:
    """The kernel's part: accepts every request once and orders it to be run, unless told otherwise."""

    def __init__(self, **effectors: Callable[[str, str], Awaitable[str]]) -> None:
        self.effects: dict[str, Effect] = {}
        self.facts: list[ev.AnyEvent] = []
        self.accepts = True
        self.runs = True
        self.runner = EffectRunner("c1", effectors, lambda: self.effects, self.post)

    def post(self, event: ev.AnyEvent) -> None:
        self.facts.append(event)
        if isinstance(event, ev.EffectRequested) and self.accepts and event.key not in self.effects:
            self.effects[event.key] = Effect(event.key, 1, event.name, EffectKind.WRITE, event.arguments)
            if self.runs:
                self.runner.run(RunEffect(event.key, event.name, event.kind, event.arguments), None)
        elif isinstance(event, ev.EffectSucceeded):
            settle(self.effects, event.key, EffectStatus.DONE, event.result)
        elif isinstance(event, ev.EffectFailed):
            settle(self.effects, event.key, EffectStatus.FAILED, event.code)

    def ask(self, key: str = "k", name: str = "book", arguments: str = "{}") -> asyncio.Future[str]:
        return self.runner.request(ev.EffectRequested(1, 1, key, name, "write", arguments))

    def outcomes(self) -> list[ev.AnyEvent]:
        return [fact for fact in self.facts if not isinstance(fact, ev.EffectRequested)]


async def fails(future: Awaitable[str]) -> str:
    with pytest.raises(ProviderError) as caught:
        await future
    assert (caught.value.stage, caught.value.retryable) == ("agent", False)
    return caught.value.code


def test_an_effect_runs_once_however_often_it_is_asked_for() -> None:
    calls: list[tuple[str, str]] = []

    async def book(arguments: str, key: str) -> str:
        calls.append((arguments, key))
        await asyncio.sleep(0.5)
        return "seat 4"

    async def main() -> None:
        ledger = Ledger(book=book)
        first, second = ledger.ask(arguments='{"a":1}'), ledger.ask(arguments='{"a":1}')
        assert [await first, await second] == ["seat 4", "seat 4"]
        assert await ledger.ask() == "seat 4", "asked again when it is done"
        assert calls == [('{"a":1}', "k")]
        assert ledger.outcomes() == [ev.EffectSucceeded("k", "seat 4")]

    run(main())


def test_each_way_to_fail_has_its_code() -> None:
    async def refuses(arguments: str, key: str) -> str:
        raise ProviderError("no seats", code="booking.full")

    async def raises(arguments: str, key: str) -> str:
        raise KeyError("seat")

    async def hangs(arguments: str, key: str) -> str:
        await asyncio.sleep(10 * EFFECT_TIMEOUT_S)
        return "too late"

    async def odd(arguments: str, key: str) -> str:
        return {"seat": 4}  # type: ignore[return-value]

    async def nothing(arguments: str, key: str) -> str:
        return None  # type: ignore[return-value]

    async def main() -> None:
        ledger = Ledger(refuses=refuses, raises=raises, hangs=hangs, odd=odd, nothing=nothing)
        for name, code in (
            ("refuses", "booking.full"),
            ("raises", "effect.raised"),
            ("hangs", "effect.timeout"),
            ("odd", "effect.raised"),
            ("nothing", "effect.raised"),
            ("unknown", "effect.unknown"),
        ):
            assert await fails(ledger.ask(name, name)) == code
            assert ledger.outcomes()[-1] == ev.EffectFailed(name, code)
            assert await fails(ledger.ask(name, name)) == code, "asked again, it is not tried again"
        assert len(ledger.outcomes()) == 6

    run(main())


def test_what_cannot_be_recorded_is_not_done() -> None:
    calls: list[str] = []

    async def book(arguments: str, key: str) -> str:
        calls.append(key)
        return "done"

    async def main() -> None:
        ledger = Ledger(book=book)
        ledger.runs = False
        asked = ledger.ask()
        ledger.runner.run(RunEffect("k", "book", "write", "{}"), StoreError("disk full"))
        assert await fails(asked) == "effect.not_durable"
        assert calls == []

    run(main())


def test_a_request_that_the_kernel_refuses_does_not_wait_for_ever() -> None:
    """A reply that is no longer live, a kind that does not exist, a full ledger."""

    async def main() -> None:
        ledger = Ledger()
        ledger.accepts = False
        assert await fails(ledger.ask()) == "effect.refused"
        ledger.effects = {str(n): Effect(str(n), 1, "x", EffectKind.READ, "{}") for n in range(MAX_EFFECTS)}
        assert await fails(ledger.ask()) == "effect.too_many"
        assert await fails(ledger.ask(arguments="x" * (ev.MAX_TEXT + 1))) == "effect.too_long"
        assert len(ledger.facts) == 2, "what is too long is not even asked for"

    run(main())


def test_a_lost_effect_says_so_to_whoever_asks_again() -> None:
    async def main() -> None:
        ledger = Ledger()
        ledger.effects["k"] = Effect("k", 1, "book", EffectKind.WRITE, "{}", EffectStatus.LOST, "command.lost")
        assert await fails(ledger.ask()) == "command.lost"

    run(main())


def test_a_result_is_bounded() -> None:
    async def long(arguments: str, key: str) -> str:
        return "x" * 100_000

    async def main() -> None:
        assert len(await Ledger(long=long).ask(name="long")) == ev.MAX_TEXT

    run(main())


def test_whoever_asked_may_be_gone_when_the_outcome_comes() -> None:
    async def book(arguments: str, key: str) -> str:
        await asyncio.sleep(1)
        return "done"

    async def main() -> None:
        ledger = Ledger(book=book)
        gone, there = ledger.ask(), ledger.ask()
        gone.cancel()
        assert await there == "done"

    run(main())


def test_an_effect_outlives_the_call_that_asked_for_it() -> None:
    """Its outcome belongs to the world: a payment is not torn off because the line closed."""
    done: list[str] = []

    async def pay(arguments: str, key: str) -> str:
        await asyncio.sleep(2)
        done.append(key)
        return "paid"

    async def main() -> None:
        ledger = Ledger(pay=pay)
        asked = ledger.ask(name="pay")
        await asyncio.sleep(0.1)
        ledger.runner.close()
        assert asked.cancelled()
        await asyncio.sleep(5)
        assert done == ["k"]
        assert ledger.outcomes() == [ev.EffectSucceeded("k", "paid")]

    run(main())
