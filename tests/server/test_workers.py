"""What is asked of one worker and answered for all."""

import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest

from antiphon.observe.prometheus import Snapshot
from antiphon.secret import Secret
from antiphon.server import workers_book, workers_peers
from antiphon.server.health import Checks
from antiphon.server.workers import Worker, together
from antiphon.server.workers_peers import Peers


def health(**changed: Any) -> dict[str, Any]:
    return {
        "status": "healthy",
        "service": "orchestrator",
        "active_sessions": 3,
        "max_sessions": 10,
        "uptime_seconds": 5.0,
        "loop_lag_ms": 1.0,
        "draining": False,
        "checks": {"journal": True, "redis": True},
        "stages": {"tts": {"piper": {"state": "closed", "p95_ms": 10}}},
        "redis_connected": True,
        **changed,
    }


def test_health_is_the_sum_and_the_worst_of_all() -> None:
    ill = health(
        status="degraded",
        active_sessions=4,
        uptime_seconds=2.0,
        loop_lag_ms=90.0,
        draining=True,
        checks={"journal": True, "redis": False},
        stages={"tts": {"piper": {"state": "open", "p95_ms": None}}},
        redis_connected=False,
    )
    found = together({2: health(), 1: ill})
    assert (found["status"], found["active_sessions"], found["max_sessions"]) == ("degraded", 7, 10)
    assert (found["uptime_seconds"], found["loop_lag_ms"], found["draining"]) == (5.0, 90.0, False)
    assert together({1: ill, 2: health(draining=True)})["draining"] is True, "one alone that drains is replaced"
    assert found["checks"] == {"journal": True, "redis": False}
    assert found["redis_connected"] is False
    assert found["stages"] == {"tts": {"piper": {"state": "open", "p95_ms": None}}}
    assert list(found["workers"]) == ["1", "2"]
    assert found["workers"]["1"]["failed"] == ["redis"]
    well = {"status": "healthy", "active_sessions": 3, "uptime_seconds": 5.0, "loop_lag_ms": 1.0, "draining": False}
    assert found["workers"]["2"] == well


def test_a_worker_without_an_answer_makes_the_server_degraded() -> None:
    assert together({1: health(), 2: health()})["status"] == "healthy"
    found = together({1: health(), 2: None})
    assert (found["status"], found["active_sessions"]) == ("degraded", 3)
    assert found["workers"]["2"] == {"status": "no answer"}


def test_workers_ask_each_other_and_wait_for_none_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_peers, "ANSWER_S", 0.2)

    async def main() -> None:
        one, other, stuck = (Peers(tmp_path, number, 4) for number in (1, 2, 3))
        told: list[Any] = []

        async def doubled(number: int) -> int:
            return 2 * number

        async def for_ever(_: Any) -> None:
            await asyncio.Event().wait()

        async def heard(what: Any) -> None:
            told.append(what)

        other.answers.update(doubled=doubled, heard=heard)
        stuck.answers["doubled"] = for_ever
        for each in (one, other, stuck):
            await each.start()
        assert await one.ask(2, "doubled", 21) == b"\x2a"
        assert await one.ask(2, "nothing") is None
        assert await one.ask_all("doubled") == {2: None, 3: None, 4: None}, "2 * None is an error, which ends nothing"
        one.tell_all("heard", ["a", "b"])
        async with asyncio.timeout(2):
            while not told:  # noqa: ASYNC110 - what another end does
                await asyncio.sleep(0.01)
        assert told == [["a", "b"]]
        again = Peers(tmp_path, 2, 4)
        again.answers["doubled"] = doubled
        await again.start()  # in the place of one that was killed
        assert await one.ask(2, "doubled", 4) == b"\x08"
        for each in (one, other, stuck, again):
            await each.close()

    asyncio.run(main())
    assert not list(tmp_path.glob("*.sock"))


def test_a_check_that_hangs_makes_no_worker_drop_out(tmp_path: Path) -> None:
    assert inspect.signature(Checks).parameters["timeout_s"].default < workers_peers.ANSWER_S

    async def hangs() -> bool:
        return bool(await asyncio.Event().wait())

    class FakeMetrics:
        def __init__(self) -> None:
            self.seen: list[dict[str, bool]] = []

        def snapshot(self, checks: dict[str, bool]) -> Snapshot:
            self.seen.append(checks)
            return Snapshot([], [], {}, 7)

    async def main() -> None:
        workers_book.make(tmp_path / workers_book.BOOK)
        one, other = (Worker(number, 2, tmp_path, max_sessions=5, token_secret=Secret("x" * 40)) for number in (1, 2))
        metrics, checks, asked = FakeMetrics(), Checks({"stt": hangs}, timeout_s=0.05), asyncio.Event()
        other.join(None, metrics, checks)  # type: ignore[arg-type]

        async def own() -> dict[str, Any]:
            async with asyncio.timeout(2):
                await asked.wait()  # one after the other would never end
            return health()

        async def others(_: Any) -> dict[str, Any]:
            asked.set()
            return health()

        other.peers.answers["health"] = others
        await other.peers.start()
        assert (await one.health(own))["active_sessions"] == 6
        assert list(await one.metrics(Snapshot([], [], {}, 6))) == ["1", "2"]
        assert metrics.seen == [{}], "nothing is known yet, and nothing is waited for"
        await checks.results()
        await one.metrics(Snapshot([], [], {}, 6))
        assert metrics.seen[1:] == [{"stt": False}]
        for each in (one, other):
            await each.close()

    asyncio.run(main())


def test_more_than_a_worker_can_have_to_say_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_peers, "MOST_BYTES", 1000)

    async def main() -> None:
        one, other = (Peers(tmp_path, number, 2) for number in (1, 2))

        async def long(_: Any) -> bytes:
            return bytes(2000)

        other.answers["long"] = long
        await other.start()
        assert await one.ask(2, "long") is None
        await other.close()

    asyncio.run(main())


def test_a_worker_that_lost_a_call_and_has_it_back_keeps_it(tmp_path: Path) -> None:
    class FakeHost:
        def __init__(self) -> None:
            self.gone: list[str] = []

        def lost(self, call_id: str) -> None:
            self.gone.append(call_id)

    async def main() -> None:
        workers_book.make(tmp_path / workers_book.BOOK)
        one, other = (Worker(number, 2, tmp_path, max_sessions=5, token_secret=Secret("x" * 40)) for number in (1, 2))
        host = FakeHost()
        one.join(host, None, None)  # type: ignore[arg-type]
        assert one.places.take("a")
        assert other.places.take("a")
        await one.peers.answers["taken"]("a")
        assert host.gone == ["a"]
        assert one.places.take("a")
        await one.peers.answers["taken"]("a")
        assert host.gone == ["a"]
        assert one.taken() == other.taken() == 1
        for each in (one, other):
            await each.close()

    asyncio.run(main())
