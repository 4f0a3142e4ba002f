"""What the environment says (B21, B23), and health as its own script asks for it (B14, B33)."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from served import FAKE, Server, ended
from visitors import Visitor, visit

from antiphon.kernel.events import LineAttached, SessionClosed

SETTINGS = {**FAKE, "policy": {"greeting": False}, "log": {"format": "json"}}
TTL_S = 2
READ = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
"""What curl does, where there is none."""


async def comes(server: Server, session: str) -> tuple[Visitor, bool]:
    """A visitor, and whether they were told that their session goes on."""
    visitor = await visit(server.port, f"{session}&audio=none")
    told = await visitor.hear()
    assert told is not None
    return visitor, told["resumed"]


async def metric(server: Server, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(await server.text("/metrics")):
        for sample in family.samples:
            if sample.name == f"antiphon_{name}" and sample.labels == labels:
                return float(sample.value)
    return 0.0


async def waits(server: Server, count: int) -> None:
    deadline = time.monotonic() + 10
    while await metric(server, "sessions_detached") != count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def a_session_waits_as_long_as_it_is_told_and_every_visit_counts_anew(tmp_path: Path) -> None:
    with ended(server := Server(tmp_path, SETTINGS, SESSION_TTL_SECONDS=str(TTL_S), LOG_LEVEL="warning")):
        await server.start()
        born = time.monotonic()
        for _ in range(3):
            visitor, _ = await comes(server, "often")
            await visitor.leave()
            await waits(server, 1)
            assert (await server.get("/health"))["active_sessions"] == 0, "it takes nobody's place"
            await asyncio.sleep(TTL_S * 0.6)
        assert time.monotonic() - born > TTL_S, "each visit has put its end off"
        visitor, resumed = await comes(server, "often")
        assert resumed
        await visitor.leave()

        deadline = time.monotonic() + TTL_S + 10
        while not isinstance((entries := await server.entries("often"))[-1].event, SessionClosed):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert entries[-1].event == SessionClosed("expired")
        assert sum(isinstance(entry.event, LineAttached) for entry in entries) == 3
        assert entries[-1].at - entries[-2].at < 1000
        assert await metric(server, "sessions_ended_total", reason="expired") == 1
        assert await metric(server, "sessions_detached") == 0
        assert "expired" in await server.command("show", "often")
        levels = {json.loads(line)["level"] for line in server.log().splitlines() if line.startswith("{")}
        assert levels <= {"WARNING", "ERROR"}, "LOG_LEVEL"


async def the_log_says_as_much_as_it_is_told_to(tmp_path: Path) -> None:
    async def levels(level: str) -> set[str]:
        with ended(
            server := Server(
                tmp_path / level, {**SETTINGS, "log": {"format": "json", "level": "ERROR"}}, LOG_LEVEL=level
            )
        ):
            await server.start()
            await asyncio.sleep(0.3)
            return {json.loads(line)["level"] for line in server.log().splitlines() if line.startswith("{")}

    info, error = await asyncio.gather(levels("INFO"), levels("ERROR"))
    assert "INFO" in info
    assert "DEBUG" not in info
    assert error <= {"ERROR"}


async def health_by_curl(tmp_path: Path) -> None:
    """B33: ``curl http://localhost:8004/health``; B14: its fields."""

    with ended(server := Server(tmp_path, SETTINGS)):
        await server.start()
        address = f"http://localhost:{server.port}/health"
        words = ("curl", "-sS", address) if shutil.which("curl") else (sys.executable, "-c", READ, address)
        curl = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        out, _ = await asyncio.wait_for(curl.communicate(), 20)
        told = json.loads(out)
        assert {key: told[key] for key in ("status", "service", "active_sessions")} == {
            "status": "healthy",
            "service": "orchestrator",
            "active_sessions": 0,
        }
        assert told["uptime_seconds"] > 0
        assert "redis_connected" not in told, "there is no Redis to be connected to"


STORIES = (
    a_session_waits_as_long_as_it_is_told_and_every_visit_counts_anew,
    the_log_says_as_much_as_it_is_told_to,
    health_by_curl,
)


def test_what_the_environment_says_and_health(tmp_path: Path) -> None:
    async def main() -> None:
        await asyncio.gather(*(story(tmp_path / story.__name__) for story in STORIES))

    asyncio.run(main())
