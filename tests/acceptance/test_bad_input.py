"""Clients that send garbage: each is closed as documented or goes on, and a good call beside them notices nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

from rough import BINARY, PING, SILENCE_20_MS, Rough
from served import FAKE, Server, ended

REPLY = "You need at least sixty percent in class twelve."
SETTINGS = {**FAKE, "llm": {"provider": "fake", "reply": REPLY}, "tts": {"provider": "fake", "char_ms": 40}}
GROWTH_MB = 40
"""Of the server's memory while it is attacked: a few buffers of 64 KiB for each of some hundred connections."""

Attack = Callable[[Rough, str], Awaitable[tuple[int, str]]]

SOME_GARBAGE = (
    '{"event":"media","media":{"payload":',
    '"media"',
    "[1, 2, 3]",
    "null",
    "",
    "{" * 5000,
    '{"event": 7}',
    '{"event":"media","streamSid":"MZrough","media":{"payload":"@@@@"}}',
    '{"event":"dtmf","streamSid":"MZrough","dtmf":{"digit":"11"}}',
    '{"event":"mark","streamSid":"MZrough"}',
    '{"event":"media","streamSid":"MZother","media":{"payload":"/w=="}}',
)


async def _truncated(client: Rough, call: str) -> tuple[int, str]:
    client.start(call)
    for _ in range(60):
        client.text('{"event":"media","media":{"payl')
    return await client.closed()


async def _no_object(client: Rough, call: str) -> tuple[int, str]:
    for _ in range(60):
        client.text('["media"]')
    return await client.closed()


async def _wrong_base64(client: Rough, call: str) -> tuple[int, str]:
    client.start(call)
    for _ in range(60):
        client.media("not base64!")
    return await client.closed()


async def _too_long(client: Rough, call: str) -> tuple[int, str]:
    client.start(call)
    client.text('{"event":"media","pad":"' + "x" * 65_536 + '"}')
    return await client.closed()


async def _too_long_in_pieces(client: Rough, call: str) -> tuple[int, str]:
    client.start(call)
    client.send(0x1, b"{" * 40_000, last=False)
    client.send(0x0, b"{" * 40_000, last=True)
    return await client.closed()


async def _before_start(client: Rough, call: str) -> tuple[int, str]:
    for _ in range(60):
        client.media()
    return await client.closed()


async def _second_start(client: Rough, call: str) -> tuple[int, str]:
    client.start(call)
    client.start(call)  # the same again is only counted
    client.start(call + "x")
    return await client.closed()


async def _other_audio(client: Rough, call: str) -> tuple[int, str]:
    client.start(call, {"encoding": "audio/opus", "sampleRate": 48000, "channels": 2})
    return await client.closed()


async def _binary(client: Rough, call: str) -> tuple[int, str]:
    client.start(call)
    for _ in range(60):
        client.send(BINARY, bytes(range(256)))
    return await client.closed()


async def _ten_times_real_time(client: Rough, call: str) -> tuple[int, str]:
    client.start(call)
    closing = asyncio.ensure_future(client.closed())
    for _ in range(80):
        for _ in range(25):
            client.media()
        await asyncio.sleep(0.05)
        if closing.done():
            break
    return await closing


async def _pings_without_reading(client: Rough, call: str) -> int:
    """Returns how many bytes of pings it took until the connection was cut; no close frame would be read either."""
    client.start(call)
    sent = 0
    while not client.is_lost:
        for _ in range(200):
            client.send(PING, b"x" * 125)
        sent += 200 * 131
        assert sent < 50 << 20, "it is never cut off"
        await client.drain()
    client.cut()
    return sent


ATTACKS: dict[Attack, tuple[int, str]] = {
    _truncated: (1008, "line.bad_frames"),
    _no_object: (1008, "line.bad_frames"),
    _wrong_base64: (1008, "line.bad_frames"),
    _too_long: (1009, ""),  # refused by its header alone, before there is a message to name
    _too_long_in_pieces: (1009, "peer.frame_too_large"),
    _before_start: (1008, "line.bad_frames"),
    _second_start: (1008, "line.second_start"),
    _other_audio: (1003, "line.media_format"),
    _binary: (1008, "line.bad_frames"),
    _ten_times_real_time: (1008, "line.flood"),
}
"""Close code and reason of each; ``""``: any reason."""


def test_each_kind_of_garbage_is_closed_with_its_code_and_a_good_call_is_not_disturbed(tmp_path: Path) -> None:
    async def story() -> None:
        with ended(server := Server(tmp_path, SETTINGS)):
            await server.start()
            alone = await _good_call(server)
            before = server.process.memory_info().rss
            done = asyncio.Event()
            bystanders = [asyncio.ensure_future(_stops_reading(server, number, done)) for number in range(5)]
            attackers = [asyncio.ensure_future(_again_and_again(server, attack, done)) for attack in ATTACKS]
            among = await _good_call(server)
            done.set()
            outcomes = dict(zip(ATTACKS, await asyncio.gather(*attackers), strict=True))
            await asyncio.gather(*bystanders)
            grown = (server.process.memory_info().rss - before) / 2**20

            print("rounds", {attack.__name__: len(each) for attack, each in outcomes.items()})
            print(f"latency alone {_latencies(alone)}, among garbage {_latencies(among)}; grown {grown:.1f} MB")
            print(f"longest gaps alone {_gaps(alone)}, among garbage {_gaps(among)}")
            for attack, (code, reason) in ATTACKS.items():
                assert outcomes[attack], f"{attack.__name__} was never tried"
                assert {got for got, _ in outcomes[attack]} == {code}, attack.__name__
                assert not reason or {got for _, got in outcomes[attack]} == {reason}, attack.__name__
            assert among["all_answered"]
            assert among["ended_by"] == "caller"
            assert max(_latencies(among)) < max(_latencies(alone)) + 250
            assert max(_gaps(among)) < max(_gaps(alone)) + 120
            assert grown < GROWTH_MB
            await _nobody_left(server)
            assert "Traceback" not in server.log()

    asyncio.run(story())


def test_garbage_within_the_limits_is_dropped_and_the_call_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        with ended(server := Server(tmp_path, SETTINGS)):
            await server.start()
            client = await Rough(server.port).open()
            for text in SOME_GARBAGE:
                client.text(text)
            client.media()
            client.send(BINARY, b"\x00\xff")
            client.start("CArough")
            client.start("CArough")
            for text in SOME_GARBAGE:
                client.text(text)
            for _ in range(30):
                client.event("weather", weather={"sunny": True})  # unknown events are no fault
            client.send(BINARY, b"\x00\xff")
            for _ in range(100):
                client.media(SILENCE_20_MS)
                await asyncio.sleep(0.02)
            await client.listen(1.0)
            events = [message["event"] for message in client.messages]
            assert events.count("media") > 10, "it is greeted, 100 ms a message"
            assert {message["streamSid"] for message in client.messages} == {"MZrough"}
            assert (await server.get("/health"))["active_sessions"] == 1
            client.event("stop", stop={})
            assert (await client.closed())[0] == 1000
            await _nobody_left(server)
            assert "Traceback" not in server.log()

    asyncio.run(story())


def test_who_sends_pings_and_never_reads_is_cut_off(tmp_path: Path) -> None:
    async def story() -> None:
        with ended(server := Server(tmp_path, SETTINGS)):
            await server.start()
            before = server.process.memory_info().rss
            clients = [await Rough(server.port).open(receive_bytes=4096) for _ in range(4)]
            async with asyncio.timeout(30):
                sent = await asyncio.gather(*(_pings_without_reading(c, f"CAping{n}") for n, c in enumerate(clients)))
            grown = (server.process.memory_info().rss - before) / 2**20
            print(f"cut after {[each >> 10 for each in sent]} KiB of pings; grown {grown:.1f} MB")
            assert grown < GROWTH_MB
            assert (await server.get("/health"))["status"] == "healthy"
            await _nobody_left(server)

    asyncio.run(story())


# -- the good call, and what surrounds it ---------------------------------------------------------


async def _good_call(server: Server) -> dict[str, Any]:
    """In a process of its own, so that what it measures is the server and not this test."""
    words = ("--say", "What are the admission requirements?")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "antiphon", "call", "--json", "--url", server.line, *words),
        stdout=asyncio.subprocess.PIPE,
        cwd=server.folder,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return dict(json.loads(out))


def _latencies(report: dict[str, Any]) -> list[float]:
    return [turn["latency_ms"] for turn in report["turns"][1:]]


def _gaps(report: dict[str, Any]) -> list[int]:
    return [turn["longest_gap_ms"] for turn in report["turns"]]


_numbers = count()


async def _again_and_again(server: Server, attack: Attack, done: asyncio.Event) -> list[tuple[int, str]]:
    outcomes = []
    while not done.is_set():
        client = await Rough(server.port).open()
        outcomes.append(await attack(client, f"CAbad{next(_numbers)}"))
        await asyncio.sleep(0.3)
    return outcomes


async def _stops_reading(server: Server, number: int, done: asyncio.Event) -> None:
    client = await Rough(server.port).open()
    client.start(f"CAdeaf{number}")
    while not done.is_set():
        client.media()
        await asyncio.sleep(0.02)
    client.cut()


async def _nobody_left(server: Server) -> None:
    """Connections that were cut leave sessions that wait for their caller: none of them is on a line."""

    async def sockets() -> int:
        return sum(each.status == "ESTABLISHED" for each in server.process.net_connections("tcp"))

    for _ in range(60):
        if not await sockets():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{await sockets()} connections are still open; {await server.get('/health')}")
