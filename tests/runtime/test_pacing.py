"""The pacing wheel: even, without drift, still when nobody speaks, one caller's fault is no other's."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from random import Random

import pytest

from antiphon.runtime.pacing import SLOTS, TICK_S, PacingWheel
from antiphon.sim.clock import VirtualTimeLoop, run


class Member:
    """Notes when it is served. ``left`` counts down to having nothing more; ``late`` is what a service takes (s)."""

    call_id = "c1"

    def __init__(self, left: int = 10**9, late: float = 0.0) -> None:
        self.times: list[float] = []
        self.left = left
        self.late = late
        self.error: Exception | None = None

    def pump(self, now_ms: float) -> bool:
        self.times.append(now_ms)
        if self.error is not None:
            raise self.error
        if self.late:
            freeze(self.late)
        self.left -= 1
        return self.left > 0


def freeze(seconds: float) -> None:
    """The process is busy for so long: the clock goes on and nothing else does."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop._virtual.now += seconds


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


def timers() -> int:
    handles = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in handles)


def test_ten_minutes_without_drift() -> None:
    """Every service and every timer is late by some milliseconds: the beat does not move by any of it."""

    async def main() -> None:
        random = Random(3)
        wheel = PacingWheel(tick_s=0.02, slots=1)
        member = Member()
        wheel.join(member)
        for _ in range(600):
            await asyncio.sleep(1 + random.random() * 1e-3)
            freeze(random.random() * 0.012)
        wheel.close()
        assert 600_000 < member.times[-1] < 620_000
        late = [time - 20 * round(time / 20) for time in member.times[1:]]
        assert max(map(abs, late)) < 13
        assert max(map(abs, late[-50:])) < 13, "no later at the end than at the beginning"
        assert len(member.times) == round(member.times[-1] / 20) + 1, "no beat was left out"

    run(main())


def test_a_member_is_served_at_once_and_then_every_20_ms() -> None:
    async def main() -> None:
        wheel = PacingWheel()
        await asyncio.sleep(0.1234)
        member = Member()
        wheel.join(member)
        assert [round(time, 6) for time in member.times] == [123.4]
        await asyncio.sleep(2)
        assert len(member.times) == 1 + 2 / (SLOTS * TICK_S)
        assert all(abs(gap - 20) < 1e-6 for gap in gaps(member.times[1:]))
        assert gaps(member.times)[0] <= 20
        wheel.close()

    run(main())


def test_members_are_spread_evenly_over_the_slots() -> None:
    async def main() -> None:
        wheel = PacingWheel()
        members = [Member() for _ in range(40)]
        for member in members:
            wheel.join(member)
        await asyncio.sleep(0.5)
        for member in members[:20:2]:
            wheel.leave(member)
        for member in members[:20:2]:
            wheel.join(member)
        began = len(members[0].times)
        await asyncio.sleep(0.02)
        served = sorted(round(member.times[-1]) for member in members)
        assert [served.count(time) for time in sorted(set(served))] == [20, 20]
        assert len(members[0].times) == began + 1
        wheel.close()

    run(main())


def test_it_stands_still_when_nobody_speaks() -> None:
    async def main() -> None:
        wheel = PacingWheel()
        wheel.join(Member(left=1))  # served at once, and that was all
        assert timers() == 0
        member = Member(left=4)
        wheel.join(member)
        await asyncio.sleep(10)
        assert len(member.times) == 4
        assert timers() == 0
        member.left = 2
        wheel.join(member)
        assert timers() == 1
        wheel.leave(member)
        await asyncio.sleep(10)
        assert timers() == 0
        wheel.close()

    run(main())


def test_joining_twice_is_being_served_twice_not_being_there_twice() -> None:
    async def main() -> None:
        wheel = PacingWheel()
        member = Member()
        wheel.join(member)
        wheel.join(member)
        assert len(member.times) == 2
        await asyncio.sleep(1.0)
        assert len(member.times) == 2 + 50
        wheel.leave(member)
        wheel.leave(member)
        await asyncio.sleep(1.0)
        assert len(member.times) == 2 + 50
        wheel.close()

    run(main())


def test_a_process_that_was_frozen_does_not_catch_up() -> None:
    async def main() -> None:
        wheel = PacingWheel()
        member = Member()
        wheel.join(member)
        await asyncio.sleep(1.0)
        freeze(3.0)
        began = len(member.times)
        await asyncio.sleep(0.2)
        assert 9 <= len(member.times) - began <= 12, "what was missed is not sent in one burst"
        wheel.close()

    run(main())


def test_one_member_may_leave_another_while_they_are_served() -> None:
    async def main() -> None:
        wheel = PacingWheel(slots=1)
        other = Member()

        class Leaving(Member):
            def pump(self, now_ms: float) -> bool:
                wheel.leave(other)
                return super().pump(now_ms)

        wheel.join(Leaving())
        wheel.join(other)
        await asyncio.sleep(1.0)
        assert len(other.times) == 1
        wheel.close()

    run(main())


def test_a_member_that_raises_leaves_and_the_others_are_served(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        wheel = PacingWheel(slots=1)
        broken, sound = Member(), Member()
        wheel.join(broken)
        wheel.join(sound)
        broken.error = RuntimeError("out of order")
        await asyncio.sleep(1.0)
        assert len(broken.times) == 2
        assert len(sound.times) > 100
        wheel.close()

    with caplog.at_level(logging.ERROR):
        run(main())
    assert [(record.message, record.__dict__["call"]) for record in caplog.records] == [
        ("a caller could not be served and leaves the wheel", "c1")
    ]


def test_closed_it_serves_nobody() -> None:
    async def main() -> None:
        wheel = PacingWheel()
        member = Member()
        wheel.join(member)
        wheel.close()
        wheel.close()
        await asyncio.sleep(1.0)
        assert len(member.times) == 1
        assert timers() == 0

    run(main())
