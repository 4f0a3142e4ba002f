"""``MAX_CONCURRENT_SESSIONS`` (B22): 2,000 at the door at once, and never one too many inside."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import FAKE, Server, ended
from visitors import Visitor, dial, hang_up, visit

STAMPEDE = 2000
QUIET = {**FAKE, "policy": {"greeting": False}, "log": {"level": "ERROR"}}
"""Whatever is refused is a line of the log; thousands of them would measure the disk."""


GENEROUS_S = 10.0
"""Health is to answer within a second; the bound leaves room for a machine whose two cores are shared by others."""


class Watch:
    """Looks at the server all the while: how many are in, and how long it takes to say so."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.most = 0
        self.slowest = 0.0
        self.lag_ms = 0.0
        self.looks = 0

    async def __aenter__(self) -> Watch:
        # In a thread: the loop of this process has 2,000 visitors to look after.
        self._over = threading.Event()
        self._task = asyncio.ensure_future(asyncio.to_thread(self._look))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._task

    def _look(self) -> None:
        while not self._over.wait(0.01):
            began = time.monotonic()
            with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)) as connection:
                connection.request("GET", "/health")
                health = json.loads(connection.getresponse().read())
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.lag_ms = max(self.lag_ms, health["loop_lag_ms"])
            self.most = max(self.most, health["active_sessions"])
            self.looks += 1


async def figures(server: Server) -> dict[tuple[str, ...], float]:
    """What ``/metrics`` says: by name and the values of the labels."""
    text = await server.text("/metrics")
    return {
        (sample.name.removeprefix("antiphon_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def until_inside(server: Server, count: int) -> None:
    deadline = time.monotonic() + 10
    while (await server.get("/health"))["active_sessions"] != count:
        assert time.monotonic() < deadline, "sessions outlive their callers"
        await asyncio.sleep(0.05)


async def until_closed(server: Server, most: int) -> None:
    """A session is over a moment before its socket is closed."""
    deadline = time.monotonic() + 10
    while server.process.num_fds() > most:
        assert time.monotonic() < deadline, "no socket is left open"
        await asyncio.sleep(0.05)


async def phone_stampede(server: Server, cap: int, name: str) -> list[tuple[str, Visitor]]:
    """Everybody calls at once; those who were taken on."""
    calls = {f"{name}{number}": dial(server.port, f"{name}{number}") for number in range(STAMPEDE)}
    everybody = dict(zip(calls, await asyncio.gather(*calls.values()), strict=True))
    assert Counter(visitor.status for visitor in everybody.values()) == {101: STAMPEDE}
    # Who is refused is told so; who is in hears nothing yet, for nobody greets.
    told = {call: asyncio.ensure_future(visitor.until_closed()) for call, visitor in everybody.items()}
    async with asyncio.timeout(30):
        while sum(task.done() for task in told.values()) < STAMPEDE - cap:  # noqa: ASYNC110 - 2,000 of them
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    refused = [call for call, task in told.items() if task.done()]
    assert Counter(everybody[call].closed for call in refused) == {(1013, "admission.full"): STAMPEDE - cap}
    for call in refused:
        await everybody[call].leave()
    held = [(call, visitor) for call, visitor in everybody.items() if call not in set(refused)]
    for call, _ in held:
        told[call].cancel()
    await asyncio.wait(told.values())
    return held


async def page_stampede(server: Server, cap: int, name: str) -> list[tuple[str, Visitor]]:
    ids = [f"{name}{number}" for number in range(STAMPEDE)]
    everybody = await asyncio.gather(*(visit(server.port, session) for session in ids))
    assert Counter(visitor.status for visitor in everybody) == {101: cap, 503: STAMPEDE - cap}
    for visitor in everybody:
        if visitor.status == 503:
            assert int(visitor.headers["retry-after"]) >= 1
            await visitor.leave()
    return [(session, visitor) for session, visitor in zip(ids, everybody, strict=True) if visitor.status == 101]


async def end_call(call: str, visitor: Visitor) -> None:
    hang_up(visitor, call)
    assert await visitor.until_closed() == (1000, "stop")
    await visitor.leave()


async def end_visit(_: str, visitor: Visitor) -> None:
    visitor.say({"type": "end"})
    await visitor.until_closed()
    await visitor.leave()


Stampede = Callable[[Server, int, str], Awaitable[list[tuple[str, Visitor]]]]
End = Callable[[str, Visitor], Awaitable[None]]
WAYS: dict[str, tuple[Stampede, Callable[[int, str], Awaitable[Visitor]], End]] = {
    "phone": (phone_stampede, dial, end_call),
    "page": (page_stampede, visit, end_visit),
}


@pytest.mark.parametrize("cap", [50, 1000])
@pytest.mark.parametrize("way", WAYS)
def test_a_stampede_fills_the_house_to_the_last_place_and_no_further(way: str, cap: int, tmp_path: Path) -> None:
    stampede, arrive, end = WAYS[way]

    async def main() -> None:
        with ended(server := Server(tmp_path, QUIET, MAX_CONCURRENT_SESSIONS=str(cap))):
            await server.start()
            idle = server.process.num_fds()
            sizes = []
            rounds = ("CAone", "CAtwo")[: 2 if cap < 100 else 1]
            for name in rounds:
                async with Watch(server) as watch:
                    held = await stampede(server, cap, name)
                    assert (await server.get("/ready"))["error"]["code"] == "admission.full"
                    # Places that are given up are there once the last entries are on disk, one for one.
                    for call, visitor in held[:10]:
                        await end(call, visitor)
                    await until_inside(server, cap - 10)
                    again = [(f"{call}x", await arrive(server.port, f"{call}x")) for call, _ in held[:10]]
                    held = held[10:] + again
                    assert all(visitor.status == 101 for _, visitor in again)
                    await until_inside(server, cap)  # many lines are read a hundred times a second, not at once
                    told = await figures(server)
                    assert told[("sessions_active",)] == told[("sessions_max",)] == cap
                    await asyncio.gather(*(end(call, visitor) for call, visitor in held))
                    await until_inside(server, 0)
                print(
                    f"{way} {cap}: {watch.looks} looks, "
                    f"the slowest {watch.slowest * 1000:.0f} ms, loop {watch.lag_ms:.0f} ms"
                )
                assert watch.most == cap, "sampled all the while: full, and never one too many"
                assert watch.slowest < GENEROUS_S
                sizes.append(server.process.memory_info().rss)
            told = await figures(server)
            transport = {"phone": "twilio", "page": "orchestrate"}[way]
            assert told["sessions_total", transport] == len(rounds) * (cap + 10)
            assert told["sessions_refused_total", "admission.full"] == len(rounds) * (STAMPEDE - cap)
            assert told[("sessions_active",)] == told[("sessions_detached",)] == 0
            await until_closed(server, idle + 5)
            assert sizes[-1] < sizes[0] * 1.1 + 4_000_000, "the second stampede found all that the first one left"

    asyncio.run(main())
