"""A server that is told to end: nobody new, those who are there may finish, and who is left goes on at the next one."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from private_redis import redis as private_redis
from prometheus_client.parser import text_string_to_metric_families
from served import FAKE, Server, Settings, ended
from visitors import Visitor, dial, hang_up, visit

from antiphon.kernel.events import LineAttached, LineDropped, SessionClosed, TextTyped

PATIENT_S, HASTY_S = 30.0, 0.5
SETTINGS: Settings = {
    **FAKE,
    "policy": {"greeting": False},
    "llm": {"provider": "fake", "reply": "It is ninety.", "llm_ms": 600},
}


def with_drain(seconds: float) -> Settings:
    return {**SETTINGS, "server": {"drain_s": seconds}}


async def comes(server: Server, session: str) -> tuple[Visitor, dict[str, Any]]:
    """A visitor who is in, and what they were told at the door."""
    visitor = await visit(server.port, f"{session}&audio=none")
    assert visitor.status == 101
    connected = await visitor.hear()
    assert connected is not None
    assert (connected["type"], connected["session_id"]) == ("connected", session)
    return visitor, connected


async def asks(visitor: Visitor, text: str) -> str:
    """The whole answer."""
    visitor.say({"type": "text", "text": text})
    return await answer(visitor)


async def answer(visitor: Visitor) -> str:
    async with asyncio.timeout(15):
        while (message := await visitor.hear()) is not None:
            if message["type"] == "response" and message["complete"]:
                return str(message["text"])
    raise AssertionError(f"closed before it answered: {visitor.closed}")


def asked(server: Server, path: str) -> tuple[int, str, dict[str, str]]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {key.lower(): value for key, value in answer.getheaders()}


async def is_draining(server: Server) -> None:
    async def ready() -> int:
        return (await asyncio.to_thread(asked, server, "/ready"))[0]

    deadline = time.monotonic() + 10
    while await ready() != 503:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def until_active(server: Server, count: int) -> None:
    deadline = time.monotonic() + 10
    while (await server.get("/health"))["active_sessions"] != count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def until_asked(server: Server, session: str) -> None:
    """The question is in the journal: an answer is on its way."""
    deadline = time.monotonic() + 10
    while not any(isinstance(entry.event, TextTyped) for entry in await server.entries(session)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def nobody_new_and_those_inside_finish(folder: Path) -> None:
    with ended(server := Server(folder, with_drain(PATIENT_S))):
        await server.start()
        caller = await dial(server.port, "CAstays")
        await until_active(server, 1)
        (visitor, told), (idle, _) = await asyncio.gather(comes(server, "asks"), comes(server, "idle"))
        assert told["resumed"] is False
        visitor.say({"type": "text", "text": "What is the fee?"})
        await until_asked(server, "asks")
        server.signal(signal.SIGTERM)
        # A page can come back elsewhere at once: it is sent away where its conversation rests, not in mid-answer.
        assert await asyncio.wait_for(idle.until_closed(), 10) == (1012, "server.restart")
        assert "ninety" in await answer(visitor)
        assert await asyncio.wait_for(visitor.until_closed(), 10) == (1012, "server.restart")
        await is_draining(server)
        status, body, headers = await asyncio.to_thread(asked, server, "/ready")
        assert (status, json.loads(body)["error"]["code"]) == (503, "server.draining")
        assert int(headers["retry-after"]) >= 1
        for path in ("/orchestrate?session_id=late", "/media-stream"):
            late = await Visitor(server.port, path).knock()
            assert late.status == 503, path
            assert int(late.headers["retry-after"]) >= 1
            await late.leave()
        health = await server.get("/health")
        assert (health["draining"], health["active_sessions"]) == (True, 1)
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(await server.text("/metrics"))
            for sample in family.samples
        }
        assert found["antiphon_draining",] == 1
        assert found["antiphon_sessions_refused_total", "server.draining"] == 2

        server.signal(signal.SIGTERM)  # again: it changes nothing
        await asyncio.sleep(0.5)
        assert (await server.get("/health"))["active_sessions"] == 1, "a call that goes on is waited for"
        hang_up(caller, "CAstays")
        began = time.monotonic()
        assert await caller.until_closed() == (1000, "stop")
        assert await server.ended() == 0
        assert time.monotonic() - began < 10, "nobody is left: it does not wait for its time to be over"
        assert isinstance((await server.entries("CAstays"))[-1].event, SessionClosed)
        assert "Traceback" not in server.log()


async def who_is_left_goes_on(one: Server, other: Server) -> None:
    """``one`` is told to end in the middle of a visit; ``other``, on the same journal, takes it up."""
    visitor, _ = await comes(one, "moves")
    assert "ninety" in await asks(visitor, "What is the fee?")
    one.signal(signal.SIGTERM)
    assert await asyncio.wait_for(visitor.until_closed(), 10) == (1012, "server.restart")
    await visitor.leave()
    assert await one.ended() == 0
    kept = await other.entries("moves")
    assert any(isinstance(entry.event, LineDropped) for entry in kept), "it waits for its visitor"
    assert not any(isinstance(entry.event, SessionClosed) for entry in kept)

    if not other.is_running:
        await other.start()
    visitor, told = await comes(other, "moves")
    assert told["resumed"] is True
    assert "ninety" in await asks(visitor, "And in January?")
    visitor.say({"type": "end"})
    await visitor.until_closed()
    await visitor.leave()
    entries = await closed(other, "moves")
    assert entries[: len(kept)] == kept, "the same history"
    assert isinstance(entries[len(kept)].event, LineAttached)
    questions = [turn.question for turn in (await other.conversation("moves")).turns if turn.question]
    assert sorted(set(questions)) == ["And in January?", "What is the fee?"]
    assert "identical" in await other.command("replay", "moves")


async def closed(server: Server, session: str) -> list[Any]:
    deadline = time.monotonic() + 10
    while not isinstance((entries := await server.entries(session))[-1].event, SessionClosed):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return entries


async def handed_to_the_next_process_by_its_file(folder: Path) -> None:
    with ended(server := Server(folder, with_drain(HASTY_S))):
        await server.start()
        await who_is_left_goes_on(server, server)


async def ctrl_c_ends_a_drain(folder: Path) -> None:
    with ended(server := Server(folder, with_drain(PATIENT_S))):
        await server.start()
        caller = await dial(server.port, "CAhurried")
        await until_active(server, 1)
        server.signal(signal.SIGTERM)
        await is_draining(server)
        began = time.monotonic()
        server.signal(signal.SIGINT)
        assert await asyncio.wait_for(caller.until_closed(), 10) == (1001, "server.stopping")
        assert await server.ended() == 0
        assert time.monotonic() - began < 8
        assert not isinstance((await server.entries("CAhurried"))[-1].event, SessionClosed)


STORIES = (nobody_new_and_those_inside_finish, handed_to_the_next_process_by_its_file, ctrl_c_ends_a_drain)


def test_the_ways_to_end(tmp_path: Path) -> None:
    async def main() -> None:
        await asyncio.gather(*(story(tmp_path / story.__name__) for story in STORIES))

    asyncio.run(main())


@pytest.mark.needs("redis-server")
def test_handed_to_another_replica_by_redis(tmp_path: Path) -> None:
    async def main() -> None:
        with private_redis(tmp_path / "redis") as redis:
            one, other = (
                Server(tmp_path / name, with_drain(HASTY_S), REDIS_URL=redis.url) for name in ("one", "other")
            )
            with ended(one, other):
                await asyncio.gather(one.start(), other.start())
                await who_is_left_goes_on(one, other)

    asyncio.run(main())
