"""One stage in batch mode: what ``TaskRouter``'s tests leave open."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from antiphon.errors import AntiphonError, PeerError
from antiphon.runtime.batch import LIMITS, TURN_S, Stage, turn_within
from antiphon.runtime.chain import breaker_of
from antiphon.runtime.resilience import StagePolicy
from antiphon.sim.clock import run


def now() -> float:
    return asyncio.get_running_loop().time()


def stage(policy: StagePolicy | None = None, **options: Any) -> Stage:
    return Stage("stt", policy, clock=now, **options)


async def slow() -> str:
    await asyncio.sleep(10)
    return "late"


def test_the_limits_are_those_of_the_contract() -> None:
    assert {name: limit.first_s for name, limit in LIMITS.items()} == {"stt": 15.0, "llm": 15.0, "tts": 20.0}
    assert {(limit.retries, limit.retry_pause_s) for limit in LIMITS.values()} == {(1, 0.5)}
    assert TURN_S == 50.0


def test_what_the_turn_has_left_is_the_limit() -> None:
    async def main() -> tuple[str, float]:
        with turn_within(4.0, now):
            outcome = await stage().run(slow, str)
        assert outcome.error is not None
        return outcome.error.code, now()

    assert run(main()) == ("stt.turn_over", 4.0)


def test_when_nothing_is_left_nobody_is_asked() -> None:
    asked: list[str] = []

    async def main() -> str:
        with turn_within(1.0, now):
            await asyncio.sleep(2)
            outcome = await stage().run(lambda: asked.append("asked") or slow(), str)
        assert outcome.error is not None
        return outcome.error.code

    assert run(main()) == "stt.turn_over"
    assert asked == []


def test_a_turns_time_is_its_own() -> None:
    """Two turns on one loop, and none after them."""

    async def turn(seconds: float) -> str:
        with turn_within(seconds, now):
            outcome = await stage().run(slow, str)
        return outcome.value or outcome.error.code  # type: ignore[union-attr]

    async def main() -> list[str]:
        both = await asyncio.gather(turn(3), turn(30))
        return [*both, (await stage().run(slow, str)).value or ""]

    assert run(main()) == ["stt.turn_over", "late", "late"]


def test_a_pause_that_the_turn_has_no_time_for_is_not_made() -> None:
    async def fails() -> str:
        raise OSError

    async def main() -> float:
        with turn_within(0.4, now):
            await stage().run(fails, str)
        return now()

    assert run(main()) == 0.0


@pytest.mark.parametrize("fault", [PeerError("bad audio"), AntiphonError("ours")])
def test_what_is_not_the_providers_fault_is_not_counted_and_not_repeated(fault: AntiphonError) -> None:
    asked: list[int] = []

    async def refuses() -> str:
        asked.append(1)
        raise fault

    async def main() -> int:
        breaker = breaker_of("stt", LIMITS["stt"], now, {})
        outcome = await stage(breaker=breaker).run(refuses, str)
        assert outcome.error is fault
        return breaker.failure_count

    assert run(main()) == 0
    assert len(asked) == 1


def test_an_attempt_that_was_given_up_and_fails_later_is_nobodys_business() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            raise OSError("too late to matter") from None
        return ""

    complaints: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        await stage(StagePolicy(first_s=2.0, share=1.0, retries=0)).run(stubborn, str)
        await asyncio.sleep(10)
        gc.collect()

    run(main())
    assert complaints == []


def test_one_probe_at_a_time_after_the_breaker_opened() -> None:
    """X4: of many turns at once only one asks a provider that was down."""
    down = True
    asked: list[int] = []

    async def provider() -> str:
        asked.append(1)
        await asyncio.sleep(1)
        if down:
            raise OSError
        return "well again"

    async def main() -> list[str | None]:
        nonlocal down
        one = stage(breaker=breaker_of("stt", LIMITS["stt"], now, {}))
        for _ in range(3):
            await one.run(provider, str)
        await asyncio.sleep(60)
        asked.clear()
        down = False
        outcomes = await asyncio.gather(*(one.run(provider, str) for _ in range(10)))
        return [outcome.value for outcome in outcomes]

    values = run(main())
    assert values.count("well again") == len(asked) == 1
