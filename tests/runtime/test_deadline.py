"""Waiting until a deadline, again and again: as with ``asyncio.timeout``, but no timer for what is there at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from antiphon.runtime.deadline import Deadline
from antiphon.sim.clock import run


def now() -> float:
    return asyncio.get_running_loop().time()


def timers() -> int:
    handles = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in handles)


async def after(seconds: float, answer: str = "there") -> str:
    await asyncio.sleep(seconds)
    return answer


async def stubborn(seconds: float) -> str:
    """Does not take being cancelled for an answer."""
    try:
        await asyncio.sleep(3_600)
    except asyncio.CancelledError:
        await asyncio.sleep(seconds)
    return "all the same"


def test_what_is_there_at_once_takes_no_timer() -> None:
    async def main() -> None:
        deadline = Deadline()

        async def numbers() -> AsyncGenerator[int, None]:
            for number in range(3):
                assert timers() == 0
                yield number

        given = numbers()
        assert [await deadline.wait(anext(given), now() + 1) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(StopAsyncIteration):
            await deadline.wait(anext(given), now() + 1)
        assert timers() == 0

    run(main())


def test_no_timer_is_left_behind() -> None:
    async def main() -> None:
        deadline = Deadline()
        for number in range(50):
            assert await deadline.wait(after(0.3, str(number)), now() + 1) == str(number)
            assert timers() == 0
        assert now() == pytest.approx(15)
        assert timers() == 0

    run(main())


@pytest.mark.parametrize(("before_s", "limit_s"), [(0.0, 1.0), (5.0, 1.0), (0.4, 1.0), (1.0, 5.0), (0.0, 0.0)])
def test_what_is_late_is_cancelled_in_time(before_s: float, limit_s: float) -> None:
    """Whatever was waited for before, sooner or later, and however long."""

    async def main() -> None:
        deadline = Deadline()
        ended: list[str] = []

        async def never() -> None:
            try:
                await asyncio.sleep(3_600)
            finally:
                ended.append("cancelled")

        await deadline.wait(after(before_s), now() + 10)
        began = now()
        with pytest.raises(TimeoutError):
            await deadline.wait(never(), now() + limit_s)
        assert now() - began == pytest.approx(limit_s, abs=0.002)
        assert ended == ["cancelled"]
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert await deadline.wait(after(0.1), now() + 1) == "there", "it goes on"

    run(main())


def test_without_an_end_it_waits_and_may_be_given_another() -> None:
    async def main() -> None:
        deadline = Deadline()
        loop = asyncio.get_running_loop()
        assert await deadline.wait(after(1_000), None) == "there"
        loop.call_later(0.5, lambda: deadline.move(None))
        assert await deadline.wait(after(100), now() + 1) == "there"
        began = now()
        loop.call_later(0.5, lambda: deadline.move(now() + 2))
        with pytest.raises(TimeoutError):
            await deadline.wait(after(100), now() + 1)
        assert now() - began == pytest.approx(2.5)

    run(main())


def test_moved_before_the_first_wait_it_counts_for_that() -> None:
    async def main() -> None:
        deadline = Deadline()

        async def asks_for_more() -> str:
            deadline.move(now() + 3)
            return await after(2)

        assert await deadline.wait(asks_for_more(), now() + 1) == "there"

    run(main())


def test_somebody_elses_cancellation_is_passed_on() -> None:
    async def main() -> None:
        deadline = Deadline()

        async def waits() -> None:
            await deadline.wait(after(100), now() + 10)

        task = asyncio.ensure_future(waits())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert timers() == 0

    run(main())


def test_who_does_not_mind_being_cancelled_is_heard_out_and_the_task_is_not_cancelled() -> None:
    async def main() -> None:
        deadline = Deadline()
        assert await deadline.wait(stubborn(2), now() + 1) == "all the same"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(1)

    run(main())


def test_an_error_comes_through_also_from_being_cancelled() -> None:
    async def main() -> None:
        async def fails(seconds: float) -> None:
            await asyncio.sleep(seconds)
            raise ValueError("planned")

        async def fails_when_cancelled() -> None:
            try:
                await asyncio.sleep(3_600)
            finally:
                raise ValueError("planned")

        deadline = Deadline()
        for failing in (fails(0), fails(0.5), fails_when_cancelled()):
            with pytest.raises(ValueError, match="planned"):
                await deadline.wait(failing, now() + 1)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main())


def test_a_request_that_is_closed_in_the_middle_closes_what_it_waits_for() -> None:
    async def main() -> None:
        deadline = Deadline()
        closed: list[str] = []

        async def endless() -> str:
            try:
                return await after(3_600)
            finally:
                closed.append("closed")

        waiting = deadline.wait(endless(), now() + 1)
        task = asyncio.ensure_future(waiting)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert closed == ["closed"]

    run(main())
