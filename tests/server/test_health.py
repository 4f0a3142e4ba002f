"""Health, readiness and what they stand on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from antiphon.errors import ConfigError
from antiphon.server.app import Services, create_app
from antiphon.server.health import Checks
from antiphon.server.vitals import Vitals


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def asked(app: Any, path: str, method: str = "GET") -> tuple[int, dict[str, str], Any]:
    """One request to an ASGI application, without a socket."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "server": None,
        "client": None,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, json.loads(b"".join(part.get("body", b"") for part in sent[1:]))


def check(answer: Any) -> Callable[[], Awaitable[bool]]:
    async def run() -> bool:
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            await asyncio.Event().wait()
        return bool(answer)

    return run


def test_health_has_all_fields_of_both_shapes(kit: Any) -> None:
    clock = Clock()
    vitals = Vitals(clock=clock)
    checks = {"redis": check(True), "twilio": check(True), "sarvam_ai": check(True)}
    stages = {"llm": {"p95_ms": 310.0}}
    app = create_app(Services(host=kit.FakeHost(3, 50), vitals=vitals, checks=checks, stages=lambda: stages))
    clock.now += 123.45
    status, _, body = asyncio.run(asked(app, "/health"))
    assert status == 200
    assert body == {
        "status": "healthy",
        "service": "orchestrator",
        "active_sessions": 3,
        "max_sessions": 50,
        "redis_connected": True,
        "uptime_seconds": 123.45,
        "loop_lag_ms": 0.0,
        "draining": False,
        "checks": {"redis": True, "twilio": True, "sarvam_ai": True, "event_loop": True},
        "stages": stages,
    }


def test_failing_checks_degrade_and_never_break(kit: Any) -> None:
    checks = {"down": check(False), "raises": check(OSError("x")), "hangs": check(None), "fine": check(1)}
    app = create_app(Services(host=kit.FakeHost(), vitals=Vitals(), checks=checks, check_timeout_s=0.02))
    status, _, body = asyncio.run(asked(app, "/health"))
    assert status == 200
    assert body["status"] == "degraded"
    assert body["checks"] == {"down": False, "raises": False, "hangs": False, "fine": True, "event_loop": True}
    assert "redis_connected" not in body


def test_checks_run_once_for_all_who_ask_and_are_kept_a_moment() -> None:
    clock, runs = Clock(), []

    async def count() -> bool:
        runs.append(1)
        await asyncio.sleep(0)
        return True

    async def main() -> None:
        checks = Checks({"it": count}, keep_s=1.0, clock=clock)
        assert await asyncio.gather(*(checks.results() for _ in range(50))) == [{"it": True}] * 50
        clock.now += 0.9
        await checks.results()
        assert len(runs) == 1
        clock.now += 0.2
        await checks.results()
        assert len(runs) == 2

    asyncio.run(main())


def test_one_who_stops_asking_does_not_stop_the_others() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def wait() -> bool:
            await gate.wait()
            return True

        checks = Checks({"it": wait})
        first, second = asyncio.ensure_future(checks.results()), asyncio.ensure_future(checks.results())
        await asyncio.sleep(0)
        first.cancel()
        gate.set()
        assert await second == {"it": True}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("active", "draining", "status", "code"),
    [(0, False, 200, ""), (10, False, 503, "admission.full"), (0, True, 503, "server.draining")],
)
def test_readiness(kit: Any, active: int, draining: bool, status: int, code: str) -> None:
    vitals = Vitals()
    vitals.draining = draining
    app = create_app(Services(host=kit.FakeHost(active, 10), vitals=vitals))
    seen, headers, body = asyncio.run(asked(app, "/ready"))
    assert seen == status
    assert body.get("error", {}).get("code", "") == code
    assert ("retry-after" in headers) is (status == 503)


def test_a_late_loop_shows_for_ten_seconds(kit: Any) -> None:
    clock = Clock()
    vitals = Vitals(clock=clock)

    async def main() -> None:
        vitals._next_tick()
        assert vitals._timer is not None
        for late in (0.4, *[0.0] * 99):
            vitals._timer.cancel()
            clock.now = vitals._due + late
            vitals._tick()
        assert vitals.loop_lag_ms == pytest.approx(400, abs=0.1)
        assert vitals.loop_is_late
        app = create_app(Services(host=kit.FakeHost(), vitals=vitals))
        _, _, body = await asked(app, "/health")
        assert body["status"] == "degraded"
        assert body["checks"]["event_loop"] is False
        vitals._timer.cancel()
        clock.now = vitals._due
        vitals._tick()
        assert vitals.loop_lag_ms == pytest.approx(0, abs=0.1)
        vitals.stop()

    asyncio.run(main())


FROZEN = """
import asyncio, sys, time
from antiphon.server.vitals import Vitals
async def main():
    Vitals(watchdog_s=1.0).start()
    await asyncio.sleep(float(sys.argv[1]))   # a live loop re-arms it
    print("alive", flush=True)
    time.sleep(float(sys.argv[2]))
    print("thawed", flush=True)
asyncio.run(main())
"""


def test_a_frozen_loop_ends_the_process_with_its_stack() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FROZEN, "1.5", "20"],
        capture_output=True,
        text=True,
        timeout=15,
        env=os.environ,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "alive\n")
    assert "time.sleep" in done.stderr or 'File "<string>", line 8 in main' in done.stderr


def test_the_watchdog_has_a_least_value_and_is_off_by_default() -> None:
    with pytest.raises(ConfigError):
        Vitals(watchdog_s=0.2)
    done = subprocess.run(
        [sys.executable, "-c", FROZEN.replace("watchdog_s=1.0", ""), "0", "1.2"],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "alive\nthawed\n")
