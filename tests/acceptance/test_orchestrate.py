"""/orchestrate on a real server: the row's own script (B33), barge-in, coming back, taking over, hostile sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from orchestrating import client
from private_redis import redis as private_redis
from served import FAKE, Server, Settings, ended, until

from antiphon.kernel.events import LineAttached, SegmentReady
from antiphon.providers import registry
from antiphon.transports.opus import OpusEncoder

pytestmark = pytest.mark.exclusive

ANSWER = "You can apply until the thirty first of May, and that is a Sunday this year. The form is on our pages."
SETTINGS: Settings = {**FAKE, "llm": {"provider": "fake", "reply": ANSWER}, "line": {"inactivity_s": 5}}
"""Some six seconds of a tone, without a model; a socket that says nothing is closed after five."""


@contextlib.contextmanager
def serving(folder: Path, settings: Settings = SETTINGS, **environ: str) -> Iterator[Server]:
    with ended(server := Server(folder, settings, **environ)):
        yield server


def test_the_rows_own_script_verbatim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """B33, against the default settings: the offline parts answer from the demo knowledge base."""

    async def main() -> None:
        with ended(server := Server(tmp_path)):
            await server.start()
            health = await server.get("/health")
            assert (health["status"], health["active_sessions"]) == ("healthy", 0)

            async def test_orchestrator():
                uri = f"ws://localhost:{server.port}/orchestrate?session_id=test_001"
                async with websockets.connect(uri) as websocket:
                    msg = await websocket.recv()
                    print(f"Connected: {msg}")
                    await websocket.send(json.dumps({"type": "stt_fragment", "session_id": "test_001", "text": "What are admission requirements?", "is_final": True, "timestamp": 1234567890.0}))  # fmt: skip # noqa: E501
                    await websocket.send(json.dumps({"type": "vad_end", "session_id": "test_001", "confidence": 0.95}))
                    response = await websocket.recv()
                    print(f"Response: {response}")

            await test_orchestrator()
            connected, response = (
                json.loads(line.partition(": ")[2]) for line in capsys.readouterr().out.splitlines()[-2:]
            )
            assert connected == {
                "type": "connected",
                "session_id": "test_001",
                "state": "LISTENING",
                "resumed": False,
                "protocol": 1,
                "audio": {"form": "binary", "codec": "pcm16", "rate": 16_000},
            }
            assert (response["type"], response["session_id"], response["turn_id"]) == ("response", "test_001", 1)
            assert "sixty percent" in response["text"]
            assert response["intent"]
            assert response["sources"][0]["id"] == "requirements"
            assert 0 < response["latency_ms"]["total"] < 5000

            await test_orchestrator()
            connected, response = (
                json.loads(line.partition(": ")[2]) for line in capsys.readouterr().out.splitlines()[-2:]
            )
            assert connected["resumed"], "the same session, once more"
            assert (response["type"], response["kind"]) == ("response", "reply")
            assert response["text"], "what was not heard, or the answer"

            async with client(server, "whole", "events=all") as other:
                await other.ask("What are admission requirements?")
                last = await other.hears("response", count=2)
                assert last["complete"]
                assert [source["source"] for source in last["sources"]] == ["Admissions Handbook, section 2.1"]
                await other.hears_audio(500)
                assert other.audio.count(b"\x00\x00") < len(other.audio) // 4, "that is speech, not silence"
                assert [state["state"] for state in other.of("state")] == ["THINKING", "SPEAKING"]
                await other.say(type="user_speaking")
                await other.hears("clear", within_s=2)
            await asyncio.gather(_is_heard(server, "pcm16", 16_000), _is_heard(server, "opus", 48_000))

    asyncio.run(main())


async def _is_heard(server: Server, codec: str, rate: int) -> None:
    """A caller's voice, as a microphone gives it: 20 ms at a time, with silence before and behind."""
    speech = await spoken("When do applications close?", rate)
    size = rate // 50 * 2
    audio = bytes(size * 15) + speech + bytes(size * 60 - len(speech) % size)
    encode = OpusEncoder(rate).encode if codec == "opus" else None
    async with client(server, f"voice-{codec}", f"codec={codec}&rate={rate}&events=state,transcript") as one:
        due = time.monotonic()
        for at in range(0, len(audio), size):
            piece = audio[at : at + size]
            for message in encode(piece) if encode is not None else (piece,):
                await one.socket.send(message)
            due += 0.02
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        answer = await one.hears("response", count=2)
        final = [each["text"] for each in one.of("transcript") if each["final"]]
        assert "applications" in final[0].lower(), final
        assert answer["complete"]
        assert "May" in answer["text"], answer["text"]
        assert answer["latency_ms"]["endpointing"] > 0
        assert one.audio
        await one.say(type="vad_end")
        assert (await one.hears("error"))["code"] == "orchestrate.mixed"
        await one.say(type="end")


async def spoken(text: str, rate: int) -> bytes:
    """A voice that says it: PCM."""
    voice = registry.load("tts", "espeak")
    await voice.start()
    try:
        return b"".join([sound.pcm async for sound in voice.synthesize(text, language="en-IN", sample_rate=rate)])
    finally:
        await voice.close()


def test_conversations_that_share_a_server(tmp_path: Path) -> None:
    async def main() -> None:
        with serving(tmp_path) as server:
            await server.start()
            async with client(server, "undisturbed", "events=state,spoken") as quiet:
                steady = asyncio.ensure_future(_goes_on(quiet))
                await asyncio.gather(
                    _barge_in(server),
                    _comes_back(server),
                    _newer_wins(server),
                    _forms(server),
                    _refused(server),
                    _hostile(server),
                    _as_the_page_says(server),
                )
                await steady
            health = await server.get("/health")
            assert health["active_sessions"] <= 1
            assert "Traceback" not in server.log()
            assert "identical" in await server.command("replay", "barge")
            assert "identical" in await server.command("replay", "back")

    asyncio.run(main())


async def _goes_on(quiet: Any) -> None:
    """Three turns, each answered, while others misbehave; each heard to its end or cut off by the next question."""
    for turn in range(1, 4):
        await quiet.ask(f"question number {turn}")
        answer = await quiet.hears("response", count=2 * turn)
        assert (answer["turn_id"], answer["complete"], answer["text"]) == (turn, True, ANSWER)
        await quiet.hears_audio(1500)
    assert quiet.of("error") == []


async def _barge_in(server: Server) -> None:
    async with client(server, "barge", "events=all") as one:
        await one.ask("until when can I apply")
        await one.hears_audio(1000)
        # A voice without words: silence at once, and the answer goes on.
        await one.say(type="user_speaking")
        await one.hears("clear")
        await one.say(type="vad_end")
        await until(lambda: "resumed" in [each["decision"] for each in one.of("interruption")], 5, "it goes on")
        await one.hears_audio(500)
        # Words: the floor is the caller's, and their turn is over when they say so.
        await one.say(type="user_speaking")
        await one.say(type="stt_fragment", text="no wait what", is_final=False)
        await one.say(type="stt_fragment", text="no wait, what about the hostel", is_final=True)
        await one.say(type="vad_end")
        await one.hears("response", count=4)
        await until(lambda: one.of("latency")[-1]["turn_id"] == 2, 5, "the second answer is heard")
        assert [each["decision"] for each in one.of("interruption")] == ["paused", "resumed", "paused", "cancelled"]
        final = [each["text"] for each in one.of("transcript") if each["final"]]
        assert final == ["until when can I apply", "", "no wait, what about the hostel"]
        cut = next(each for each in one.of("spoken") if each["turn_id"] == 1 and each["done"])
        assert cut["heard"]
        assert ANSWER.startswith(cut["heard"])
        assert cut["heard"] != ANSWER
        assert one.of("latency")[-1]["total_ms"] < 2000
        await one.say(type="end")
        assert await one.hears("ended") == {"type": "ended", "reason": "client"}
        assert await one.is_closed() == (1000, "client")


async def _comes_back(server: Server) -> None:
    async with client(server, "back") as one:
        assert one.of("connected")[0]["resumed"] is False
        await one.ask("until when can I apply")
        await one.hears_audio(2000)
        await one.drop()
    async with client(server, "back", "events=spoken") as again:
        connected = again.of("connected")[0]
        assert connected["resumed"]
        rest = connected["unheard"]["text"]
        assert rest
        assert ANSWER.endswith(rest)
        assert rest != ANSWER, "what was heard is not said again"
        last = await again.hears("response", count=2)
        assert (last["text"], last["complete"], last["turn_id"]) == (rest, True, connected["unheard"]["turn_id"])
        await again.hears_audio(1000)
        await again.ask("and the hostel")
        assert (await again.hears("response", count=4))["text"] == ANSWER, "the conversation goes on"
        await again.say(type="end")
        await again.is_closed()
    view = await server.conversation("back")
    heard = [segment.text[: segment.heard_chars] for turn in view.turns for segment in turn.segments]
    assert " ".join(part.strip() for part in heard if part).startswith("You can apply")


async def _newer_wins(server: Server) -> None:
    async with client(server, "twice") as older:
        await older.ask("until when can I apply")
        await older.hears_audio(500)
        async with client(server, "twice") as newer:
            assert await older.is_closed() == (4001, "session.taken_over")
            assert newer.of("connected")[0]["resumed"]
            await newer.hears("response")
            await newer.hears_audio(500)
            await newer.say(type="end")
            await newer.is_closed()


async def _forms(server: Server) -> None:
    """Audio in base64, in Opus, and not at all."""
    async with client(server, "base64", "audio=base64&rate=8000&marks=1") as one:
        await one.ask("until when can I apply")
        first = await one.hears("audio")
        assert (first["turn_id"], len(base64.b64decode(first["data"])) % 320) == (1, 0), "whole 20 ms"
        assert one.audio == b""
        await one.say(type="end")
    async with client(server, "opus", "codec=opus&rate=48000") as one:
        await one.ask("until when can I apply")
        await until(lambda: len(one.audio) > 1000, 20, "packets")
        packets = [message for _, message in one.told if isinstance(message, bytes)]
        assert max(map(len, packets)) < 400, "20 ms each"
        await one.say(type="end")
    async with client(server, "mute", "audio=none&events=spoken") as one:
        await one.say(type="text", text="until when can I apply")
        assert (await one.hears("response", count=2))["complete"]
        await asyncio.sleep(3)
        await one.say(type="vad_end")  # it changes nothing, but a socket that says nothing is closed
        await until(lambda: any(each["done"] for each in one.of("spoken")), 20, "it is heard to its end")
        assert one.audio == b""
        await one.say(type="end")


async def _refused(server: Server) -> None:
    for query, said in (
        ("rate=44100", "rate must be one of"),
        ("session_id=a/b", "session_id must be"),
        ("x=1", "it has"),
    ):
        address = f"ws://127.0.0.1:{server.port}/orchestrate?{query}"
        with pytest.raises(websockets.InvalidStatus) as caught:
            await websockets.connect(address)
        answer = caught.value.response
        assert answer.status_code == 400
        error = json.loads(answer.body or b"{}")["error"]
        assert error["code"] == "orchestrate.bad_query"
        assert said in error["message"]
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(
            f"ws://127.0.0.1:{server.port}/orchestrate?session_id=x", origin="https://elsewhere.example"
        )
    assert caught.value.response.status_code in (401, 403)


async def _as_the_page_says(server: Server) -> None:
    """The client in Python of docs/orchestrate.md, as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "orchestrate.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        env={**os.environ, "ORCHESTRATE": f"ws://127.0.0.1:{server.port}/orchestrate"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (0, b"")
    first, last = out.decode().splitlines()
    assert json.loads(first)["session_id"] == "demo-python"
    assert last.startswith(ANSWER)


async def _hostile(server: Server) -> None:
    async with client(server, "garbage") as one:
        for _ in range(80):
            await one.socket.send("{ this is no JSON")
        assert await one.is_closed() == (1008, "line.bad_frames")
        assert {error["code"] for error in one.of("error")} == {"frame.json"}
    async with client(server, "large") as one:
        with contextlib.suppress(websockets.ConnectionClosed):
            await one.socket.send(b"\x00" * 10_000_000)
        code, reason = await one.is_closed()
        assert (code, reason) == (1009, "peer.frame_too_large")
    async with client(server, "flood") as one:
        with contextlib.suppress(websockets.ConnectionClosed):
            for _ in range(2000):
                await one.socket.send(b"\x00" * 32_000)
        assert await one.is_closed() == (1008, "line.flood")
    async with client(server, "idle") as one:
        assert await one.is_closed(within_s=12) == (1008, "line.idle")
    async with client(server, "idle") as one:
        assert one.of("connected")[0]["resumed"], "the session itself was kept"
        await one.say(type="end")


@pytest.mark.needs("redis-server")
def test_a_server_that_is_killed_in_the_middle_of_a_reply_and_another_that_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        with private_redis(tmp_path / "redis") as redis:
            one, other = (Server(tmp_path / name, SETTINGS, REDIS_URL=redis.url) for name in ("one", "other"))
            with ended(one, other):
                await asyncio.gather(one.start(), other.start())
                async with client(one, "moves") as before:
                    await before.ask("until when can I apply")
                    await before.hears_audio(1500)
                    acknowledged = await one.entries("moves")
                    one.signal(signal.SIGKILL)
                    assert (await before.is_closed())[0] == 1006
                kept = await other.entries("moves")
                assert kept[: len(acknowledged)] == acknowledged, "nothing acknowledged is lost"
                async with client(other, "moves") as after:
                    connected = after.of("connected")[0]
                    assert connected["resumed"]
                    rest = connected["unheard"]["text"]
                    decided = [each.event.text for each in kept if isinstance(each.event, SegmentReady)]
                    assert " ".join(decided).endswith(rest)
                    await after.hears_audio(1000)
                    await after.ask("and the hostel")
                    await until(
                        lambda: any(each["complete"] and each["text"] == ANSWER for each in after.of("response")),
                        10,
                        "the next question is answered",
                    )
                    await after.say(type="end")
                    await after.is_closed()
                entries = await other.entries("moves")
                assert entries[: len(kept)] == kept
                assert isinstance(entries[len(kept)].event, LineAttached)
                assert "identical" in await other.command("replay", "moves")

    asyncio.run(main())
