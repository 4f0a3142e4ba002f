"""The bell: what a thread tells the loop arrives, in its order, and a loop that is gone is noticed."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from antiphon.runtime import bell
from antiphon.runtime.bell import Bell


@pytest.fixture(params=["eventfd", "call_soon_threadsafe"] if bell.HAS_EVENTFD else ["call_soon_threadsafe"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    chosen: str = request.param
    monkeypatch.setattr(bell, "HAS_EVENTFD", chosen == "eventfd")
    return chosen


def test_what_a_thread_tells_arrives_on_the_loops_thread_in_order(kind: str) -> None:
    told: list[tuple[int, threading.Thread]] = []

    async def main() -> None:
        doorbell, done = Bell(asyncio.get_running_loop()), asyncio.Event()

        def note(number: int) -> None:
            told.append((number, threading.current_thread()))
            if number == 999:
                done.set()

        def work() -> None:
            assert all(doorbell.ring(note, number) for number in range(1000))

        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.wait_for(done.wait(), 10)
        thread.join()
        doorbell.close()
        doorbell.close()

    asyncio.run(main())
    assert [number for number, _ in told] == list(range(1000))
    assert {thread for _, thread in told} == {threading.current_thread()}


def test_one_that_raises_does_not_keep_back_the_others(kind: str) -> None:
    told: list[int] = []
    errors: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
        doorbell = Bell(loop)

        def note(number: int) -> None:
            if number == 1:
                raise ValueError("one")
            told.append(number)

        for number in range(3):
            doorbell.ring(note, number)
        await asyncio.sleep(0.05)
        doorbell.close()

    asyncio.run(main())
    assert told == [0, 2]
    assert [str(error) for error in errors] == ["one"]


def test_a_loop_that_is_closed_is_noticed(kind: str) -> None:
    async def main() -> Bell:
        return Bell(asyncio.get_running_loop())

    doorbell = asyncio.run(main())
    assert not doorbell.ring(print, 1)


def test_nothing_stays_open(kind: str) -> None:
    async def main() -> None:
        for _ in range(3):
            Bell(asyncio.get_running_loop()).close()

    asyncio.run(main())
    before = len(os.listdir("/dev/fd"))
    asyncio.run(main())
    assert len(os.listdir("/dev/fd")) == before
