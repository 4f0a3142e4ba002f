"""The pacing wheel: each when due, without drift, still when nobody speaks, one caller's fault is no other's."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from random import Random

import pytest

from antiphon.runtime.pacing import PacingWheel
from antiphon.sim.clock import VirtualTimeLoop, run


class Member:
    """Notes when it is served. ``left`` counts down to having nothing more; ``late`` is what a service takes (s).

    ``every``: ms from when it was due to when it is due again.
    """

    call_id = "c1"

    def __init__(self, left: int = 10**9, late: float = 0.0, every: float = 20.0) -> None:
        self.times: list[float] = []
        self.every = every
        self.due = -1.0
        self.left = left
        self.late = late
        self.error: Exception | None = None

    def pump(self, now_ms: float) -> float | None:
        self.times.append(now_ms)
        if self.error is not None:
            raise self.error
        if self.late:
            freeze(self.late)
        self.left -= 1
        self.due = max(now_ms, (now_ms if self.due < 0 else self.due) + self.every)
        return self.due if self.left > 0 else None


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
        wheel = PacingWheel(beat_s=0.02)
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
        assert max(gaps(member.times[1:])) < 33, "no beat was left out"

    run(main())


def test_a_member_is_served_at_once_and_then_when_it_is_due() -> None:
    async def main() -> None:
        wheel = PacingWheel()
        await asyncio.sleep(0.1234)
        first, second = Member(every=100.0), Member(every=100.0)
        wheel.join(first)
        assert [round(time, 6) for time in first.times] == [123.4]
        await asyncio.sleep(0.0017)
        wheel.join(second)
        await asyncio.sleep(2.01)
        for member, began, late in ((first, 123.4, 0.0), (second, 125.1, 8.3)):
            assert len(member.times) == 1 + 20
            assert [round(time - began, 6) for time in member.times[1:]] == [
                round(100 * number + late, 6) for number in range(1, 21)
            ]
        wheel.close()

    run(main())


def test_nobody_is_looked_at_before_they_are_due_nor_is_the_process_woken() -> None:
    async def main() -> None:
        wheel = PacingWheel()
        early, late = Member(every=30.0), Member(every=1_000.0)
        wheel.join(early)
        wheel.join(late)
        turns = 0
        turn = wheel._turn

        def counted() -> None:
            nonlocal turns
            turns += 1
            turn()

        wheel._turn = counted  # type: ignore[method-assign]
        await asyncio.sleep(0.985)
        assert len(late.times) == 1
        assert turns == len(early.times) - 2 <= 33, "the first had its timer before"
        wheel.close()

    run(main())


def test_who_was_changed_is_looked_at_with_the_next_beat() -> None:
    async def main() -> None:
        wheel = PacingWheel()
        member, outside = Member(every=1_000.0), Member()
        wheel.join(member)
        await asyncio.sleep(0.2)
        wheel.look(member)
        wheel.look(outside)
        await asyncio.sleep(0.0101)
        assert [round(time) for time in member.times] == [0, 210]
        assert outside.times == []
        await asyncio.sleep(3)
        assert [round(time, -1) for time in member.times[2:]] == [2_000, 3_000]
        assert timers() == 1
        wheel.close()

    run(main())


def test_one_that_is_always_due_is_served_once_a_beat() -> None:
    async def main() -> None:
        wheel = PacingWheel()
        member = Member(every=0.0)
        wheel.join(member)
        await asyncio.sleep(1.005)
        assert len(member.times) == 1 + 100
        wheel.close()

    run(main())


def test_after_standing_still_it_begins_with_whoever_comes() -> None:
    async def main() -> None:
        wheel = PacingWheel()
        member = Member()
        wheel.join(member)
        await asyncio.sleep(0.1)
        wheel.leave(member)
        await asyncio.sleep(0.1037)
        again = Member(every=20.0)
        wheel.join(again)
        await asyncio.sleep(0.0605)
        assert [round(time, 6) for time in again.times] == [203.7, 223.7, 243.7, 263.7]
        assert timers() == 1
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
        served = len(member.times)
        assert 2 + 47 <= served <= 2 + 50
        wheel.leave(member)
        wheel.leave(member)
        await asyncio.sleep(1.0)
        assert len(member.times) == served
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
        wheel = PacingWheel()
        other = Member()

        class Leaving(Member):
            def pump(self, now_ms: float) -> float | None:
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
        wheel = PacingWheel()
        broken, sound = Member(), Member()
        wheel.join(broken)
        wheel.join(sound)
        broken.error = RuntimeError("out of order")
        await asyncio.sleep(1.0)
        assert len(broken.times) == 2
        assert len(sound.times) > 48
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
