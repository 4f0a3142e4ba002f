"""The providers of a stage: who is asked, and what is booked on whom."""

from __future__ import annotations

import asyncio
import logging

import pytest

from antiphon.errors import ConfigError, PeerError, ProviderError, ProviderRefused, ProviderTimeout
from antiphon.runtime.breaker import CircuitBreakerOpen
from antiphon.runtime.chain import BLAMELESS, Chain, Member, is_blameless
from antiphon.runtime.resilience import HEDGE_FROM, StagePolicy
from antiphon.sim.clock import run


class Thing:
    def __init__(self, name: str) -> None:
        self.name = name


def chain(*names: str, policy: StagePolicy = StagePolicy(failures=1, open_s=10.0)) -> Chain[Thing]:  # noqa: B008
    return Chain("llm", [Thing(name) for name in names], policy)


def names(members: object) -> list[str]:
    return [member.name for member in members]  # type: ignore[attr-defined]


def fail(member: Member[Thing], error: BaseException | None = None) -> None:
    member.enter()
    member.book(error or ProviderError("down", code="llm.server"))


def test_those_that_may_be_asked_come_in_order_without_those_that_were() -> None:
    async def main() -> None:
        things = chain("a", "b", "c")
        a, b, c = things.members
        assert names(things.admitted()) == ["a", "b", "c"]
        assert names(things.admitted([b])) == ["a", "c"]
        fail(a)
        assert names(things.admitted()) == ["b", "c"]
        assert names(things.admitted([b, c])) == []

    run(main())


def test_the_first_is_asked_first_again_as_soon_as_its_time_is_over() -> None:
    async def main() -> None:
        things = chain("a", "b")
        fail(things.members[0])
        await asyncio.sleep(9.9)
        assert names(things.admitted()) == ["b"]
        await asyncio.sleep(0.1)
        assert names(things.admitted()) == ["a", "b"]
        things.members[0].enter()
        assert names(things.admitted()) == ["b"], "one probe is out"
        things.members[0].book(None)
        assert names(things.admitted()) == ["a", "b"]

    run(main())


def test_who_is_left_alone_is_not_entered() -> None:
    async def main() -> None:
        (member,) = chain("a").members
        fail(member)
        with pytest.raises(CircuitBreakerOpen) as caught:
            member.enter()
        assert (caught.value.provider, caught.value.retry_after_s) == ("a", 10.0)

    run(main())


def refused(reason: str) -> ProviderError:
    return ProviderRefused("no", stage="llm", code=f"llm.{reason}")


@pytest.mark.parametrize("reason", sorted(BLAMELESS))
def test_a_request_that_is_at_fault_itself_is_not_the_providers(reason: str) -> None:
    assert is_blameless(refused(reason))
    assert not is_blameless(ProviderError("once more may help", code=f"llm.{reason}"))


@pytest.mark.parametrize(
    ("error", "blameless"),
    [
        (refused("unauthorized"), False),
        (refused("quota"), False),
        (refused("not_found"), False),
        (ProviderTimeout("late", code="llm.timeout_first_token"), False),
        (ProviderError("what it acted upon failed", stage="agent", code="shop.closed", retryable=False), True),
        (ConfigError("ours"), True),
        (PeerError("the caller's"), True),
        (ZeroDivisionError(), False),
    ],
)
def test_whose_fault_it_is(error: Exception, blameless: bool) -> None:
    assert is_blameless(error) is blameless
    (member,) = chain("a").members
    fail(member, error)
    assert member.breaker.state == ("closed" if blameless else "open")


@pytest.mark.parametrize("given_up", [asyncio.CancelledError(), GeneratorExit()])
def test_what_we_gave_up_counts_neither_way(given_up: BaseException) -> None:
    (member,) = chain("a", policy=StagePolicy(failures=2)).members
    fail(member)
    fail(member, given_up)
    assert member.breaker.failure_count == 1
    member.enter()
    member.book(None)
    assert member.breaker.failure_count == 0


def test_status_tells_the_breaker_and_the_p95_of_each() -> None:
    async def main() -> None:
        things = chain("a", "b", "a")
        for _ in range(HEDGE_FROM):
            things.members[1].lateness.note(0.4321)
        fail(things.members[2])
        await asyncio.sleep(4)
        status = things.status()
        assert list(status) == names(things.members) == ["a", "b", "a#3"]
        assert (status["a"]["state"], status["a"]["p95_ms"]) == ("closed", None)
        assert status["b"]["p95_ms"] == 432
        assert (status["a#3"]["state"], status["a#3"]["retry_in"]) == ("open", 6.0)

    run(main())


def test_outside_a_loop_its_status_can_be_asked_too() -> None:
    things = chain("a")
    fail(things.members[0])
    assert 9 < things.status()["a"]["retry_in"] <= 10


def test_a_breaker_that_opens_is_a_warning_and_one_that_closes_a_note(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        (member,) = chain("a").members
        fail(member)
        await asyncio.sleep(10)
        member.enter()
        member.book(None)

    with caplog.at_level(logging.INFO, "antiphon.chain"):
        run(main())
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the breaker of a is open"),
        ("INFO", "the breaker of a is half_open"),
        ("INFO", "the breaker of a is closed"),
    ]
    assert {record.__dict__["stage"] for record in caplog.records} == {"llm"}
