"""The circuit breaker (A49 to A53, X3, X4): when it opens, who goes out while it is half open, what counts."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import ProviderError
from antiphon.runtime.breaker import BreakerState, CircuitBreaker, CircuitBreakerOpen, CircuitBreakerOpenError
from antiphon.sim.clock import run


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def well(value: str = "well") -> str:
    return value


async def ill() -> str:
    raise ZeroDivisionError


def opened(clock: Clock, **how: object) -> CircuitBreaker:
    """One that failed as often as it may."""
    breaker = CircuitBreaker(3, 60, clock=clock, **how)  # type: ignore[arg-type]
    for _ in range(3):
        assert breaker.admit()
        breaker.failed()
    assert breaker.state == "open"
    return breaker


# -- the interface that was promised ----------------------------------------------------------------


def test_it_is_made_and_read_as_promised() -> None:
    """A49, A50, X3."""
    breaker = CircuitBreaker()
    assert (breaker.failure_threshold, breaker.timeout, breaker.recovery_timeout) == (5, 60, 60)
    assert (breaker.failure_count, breaker.state, breaker.last_failure_time) == (0, "closed", None)
    assert CircuitBreaker(failure_threshold=2, timeout=7).timeout == 7
    assert CircuitBreaker(failure_threshold=2, recovery_timeout=30).timeout == 30
    assert [str(state) for state in BreakerState] == ["closed", "open", "half_open"]
    assert CircuitBreakerOpenError is CircuitBreakerOpen


@pytest.mark.parametrize("wrong", [{"failure_threshold": 0}, {"timeout": -1}, {"recovery_timeout": -0.1}])
def test_numbers_that_make_no_breaker_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="failure_threshold >= 1"):
        CircuitBreaker(**wrong)  # type: ignore[arg-type]


def test_call_opens_at_the_threshold_and_passes_on_what_was_raised() -> None:
    """A51."""

    async def main() -> None:
        clock = Clock()
        breaker = CircuitBreaker(3, 60, name="stt", clock=clock)
        for count in (1, 2, 3):
            assert breaker.state == "closed"
            with pytest.raises(ZeroDivisionError):
                await breaker.call(ill)
            assert breaker.failure_count == count
        assert breaker.state == "open"
        assert breaker.last_failure_time == clock.now
        clock.now += 20
        with pytest.raises(CircuitBreakerOpen, match="Circuit breaker is open") as caught:
            await breaker.call(well)
        assert (caught.value.code, caught.value.provider, caught.value.retry_after_s) == ("breaker.open", "stt", 40)
        assert isinstance(caught.value, ProviderError)

    run(main())


def test_after_its_time_one_success_closes_it_and_one_failure_opens_it_anew() -> None:
    async def main() -> None:
        clock = Clock()
        breaker = opened(clock)
        clock.now += 59.9
        assert not breaker.would_admit
        clock.now += 0.1
        assert breaker.state == "open", "until somebody tries"
        with pytest.raises(ZeroDivisionError):
            await breaker.call(ill)
        assert (breaker.state, breaker.left_s()) == ("open", 60)
        clock.now += 60
        assert await breaker.call(well, "again") == "again"
        assert (breaker.state, breaker.failure_count, breaker.left_s()) == ("closed", 0, 0)

    run(main())


def test_a_success_forgets_the_failures_before_it() -> None:
    """A53: five failures in a lifetime are none; five in a row are."""

    async def main() -> None:
        breaker = CircuitBreaker(5)
        for _ in range(20):
            for _ in range(4):
                with pytest.raises(ZeroDivisionError):
                    await breaker.call(ill)
            assert await breaker.call(well) == "well"
            assert breaker.failure_count == 0
        assert breaker.state == "closed"

    run(main())


def test_as_a_decorator() -> None:
    async def main() -> None:
        breaker = CircuitBreaker(1, 60)

        @breaker
        async def divide(a: int, *, by: int) -> float:
            """Divides."""
            return a / by

        assert await divide(6, by=3) == 2
        assert (divide.__name__, divide.__doc__) == ("divide", "Divides.")
        with pytest.raises(ZeroDivisionError):
            await divide(1, by=0)
        with pytest.raises(CircuitBreakerOpen):
            await divide(6, by=3)

    run(main())


def test_status_is_for_people_and_metrics() -> None:
    """A52."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 0.5004
    assert breaker.status() == {
        "state": "open",
        "failure_count": 3,
        "failure_threshold": 3,
        "timeout": 60,
        "retry_in": 59.5,
    }
    assert type(breaker.status()["state"]) is str


# -- half open --------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe_fails", [False, True])
def test_of_a_stampede_exactly_one_goes_out(probe_fails: bool) -> None:
    """X4."""

    async def main() -> None:
        clock = Clock()
        breaker = opened(clock)
        clock.now += 60
        out = 0

        async def probe() -> str:
            nonlocal out
            out += 1
            await asyncio.sleep(1)
            if probe_fails:
                raise ProviderError("still down")
            return "well"

        outcomes = await asyncio.gather(*[breaker.call(probe) for _ in range(100)], return_exceptions=True)
        assert out == 1
        assert sum(isinstance(outcome, CircuitBreakerOpen) for outcome in outcomes) == 99
        assert breaker.state == ("open" if probe_fails else "closed")

    run(main())


@pytest.mark.parametrize("given_up", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
def test_a_probe_that_was_given_up_leaves_room_for_another(given_up: type[BaseException]) -> None:
    async def main() -> None:
        clock = Clock()
        breaker = opened(clock)
        clock.now += 60

        async def stopped() -> None:
            raise given_up

        with pytest.raises(given_up):
            await breaker.call(stopped)
        assert (breaker.state, breaker.failure_count) == ("half_open", 3)
        assert await breaker.call(well) == "well"
        assert breaker.state == "closed"

    run(main())


def test_a_request_that_we_cancel_says_nothing_about_the_provider() -> None:
    async def main() -> None:
        breaker = CircuitBreaker(2)
        with pytest.raises(ZeroDivisionError):
            await breaker.call(ill)
        for _ in range(10):
            task = asyncio.ensure_future(breaker.call(asyncio.sleep, 100))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (breaker.state, breaker.failure_count) == ("closed", 1), "neither a failure nor a success"

    run(main())


def test_a_failure_from_before_it_opened_does_not_put_off_the_next_probe() -> None:
    clock = Clock()
    breaker = CircuitBreaker(1, 60, clock=clock)
    assert breaker.admit()
    assert breaker.admit()
    breaker.failed()
    clock.now += 50
    breaker.failed()
    assert breaker.left_s() == 10


def test_a_success_from_before_it_opened_is_no_probe() -> None:
    clock = Clock()
    breaker = opened(clock)
    breaker.succeeded()
    assert breaker.state == "open"
    assert not breaker.admit()


def test_looking_takes_no_place() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 60
    assert breaker.would_admit
    assert breaker.would_admit
    assert breaker.admit()
    assert not breaker.would_admit


def test_an_operator_may_close_it() -> None:
    told: list[tuple[str, str]] = []
    clock = Clock()
    breaker = opened(clock, on_change=lambda old, new: told.append((old, new)))
    breaker.reset()
    breaker.reset()
    assert (breaker.state, breaker.failure_count) == ("closed", 0)
    assert breaker.admit()
    assert told == [("closed", "open"), ("open", "closed")]


def test_each_change_is_told_once_and_in_order() -> None:
    told: list[tuple[str, str]] = []
    clock = Clock()
    breaker = opened(clock, on_change=lambda old, new: told.append((old, new)))
    breaker.failed()
    clock.now += 60
    breaker.admit()
    breaker.failed()
    clock.now += 60
    breaker.admit()
    breaker.succeeded()
    assert told == [
        ("closed", "open"),
        *(("open", "half_open"), ("half_open", "open")),
        *(("open", "half_open"), ("half_open", "closed")),
    ]


# -- time -------------------------------------------------------------------------------------------


def test_the_time_of_day_is_nothing_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set back must not leave a provider alone for a year."""
    monkeypatch.setattr(time, "time", lambda: pytest.fail("the time of day was asked for"))
    breaker = CircuitBreaker(1, 60)
    before = time.monotonic()
    breaker.failed()
    assert breaker.last_failure_time is not None
    assert before <= breaker.last_failure_time <= time.monotonic()
    assert 59 < breaker.left_s() <= 60


@given(st.lists(st.sampled_from(["admit", "succeeded", "failed", "abandoned", "wait"]), max_size=60))
def test_whatever_happens_it_never_stays_shut(steps: list[str]) -> None:
    """``succeeded`` and its like are only told by whoever was admitted."""
    clock = Clock()
    breaker = CircuitBreaker(2, 10, clock=clock)
    out = 0
    for step in steps:
        if step == "wait":
            clock.now += 6
        elif step == "admit":
            before = breaker.state
            if breaker.admit():
                out += 1
                assert before == "closed" or breaker.state == "half_open"
                assert before == "closed" or not breaker.would_admit
        elif out:
            getattr(breaker, step)()
            out -= 1
        assert breaker.state != "closed" or breaker.would_admit
    for _ in range(out):
        breaker.abandoned()
    clock.now += 10
    assert breaker.admit(), "with nobody out and its time over, somebody may go"
