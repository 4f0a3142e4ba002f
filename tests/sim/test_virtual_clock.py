"""Virtual time: timers in order, no waiting, and an honest word when nothing is left to happen."""

from __future__ import annotations

import asyncio
import time

import pytest

from antiphon.sim.clock import VirtualTimeLoop, VirtualTimeStopped, run


def test_a_year_takes_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(365 * 86_400)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run(main()) == 365 * 86_400
    assert time.monotonic() - began < 5


def test_timers_fire_in_order_each_at_its_time() -> None:
    async def main() -> list[tuple[float, str]]:
        loop, seen = asyncio.get_running_loop(), []
        for delay, name in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (1.0, "a2")):
            loop.call_later(delay, lambda name=name: seen.append((loop.time(), name)))
        await asyncio.sleep(5)
        return seen

    assert run(main()) == [(1.0, "a"), (1.0, "a2"), (2.0, "b"), (3.0, "c")]


def test_what_is_ready_runs_before_time_goes_on() -> None:
    async def main() -> float:
        for _ in range(1_000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run(main()) == 0.0


def test_timeouts_work_as_always() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.sleep(1e6)
        return asyncio.get_running_loop().time()

    assert run(main()) == 30.0


def test_waiting_for_what_can_never_happen_says_so() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(VirtualTimeStopped, match="nothing is scheduled"):
        run(main())


def test_a_result_and_an_exception_come_out() -> None:
    async def gives() -> int:
        return 4

    async def raises() -> None:
        raise KeyError("x")

    assert run(gives()) == 4
    with pytest.raises(KeyError):
        run(raises())


def test_every_run_begins_at_zero_and_leaves_nothing_open() -> None:
    loops = []

    async def main() -> float:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(7)
        return asyncio.get_running_loop().time()

    assert [run(main()) for _ in range(3)] == [7.0] * 3
    assert all(isinstance(loop, VirtualTimeLoop) and loop.is_closed() for loop in loops)
