"""The services by hand: who is let in, what a wrong request and a failing provider are told, how they end."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import pytest

from antiphon.errors import ConfigError, ProviderError, ProviderRefused, ProviderTimeout
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.providers.registry import load
from antiphon.providers.service_wire import MAX_AUDIO_BYTES, PLACES
from antiphon.runtime.ports import Intent, Sound, WordMark
from antiphon.server.run import Running
from antiphon.server.services import listen

ASKED = {
    "intent": {"text": "what are the fees", "language": "en-IN", "history": [{"role": "user", "content": "hello"}]},
    "retrieval": {"text": "what are the fees", "limit": 1},
    "tts": {"text": "Hello there.", "language": "en-IN", "rate": 8000},
}


class Does:
    """A classifier, a retriever and a voice in one: does what the test says."""

    name = "does"

    def __init__(self, work: Callable[[], Awaitable[object]] | None = None) -> None:
        self.asked: list[tuple[str, Sequence[Message]]] = []
        self.closed = asyncio.Event()
        self.begun = asyncio.Event()
        self._work = work

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to close."""

    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
        self.asked.append((text, history))
        await self._does()
        return Intent("fees", 0.5)

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[Passage, ...]:
        self.asked.append((text, history))
        await self._does()
        return tuple(Passage(f"p{number}", "text", "s", 0.9 - number / 10) for number in range(12))

    async def synthesize(
        self, text: str, *, language: str, sample_rate: int, voice: str = ""
    ) -> AsyncGenerator[Sound, None]:
        try:
            if text != "later":
                await self._does()
            yield Sound(b"\x01\x00" * 800, (WordMark(0, 0),))
            await self._does()
            yield Sound(b"\x02\x00" * 800, (WordMark(6, 800),))
        finally:
            self.closed.set()

    async def _does(self) -> None:
        self.begun.set()
        if self._work is not None:
            await self._work()


async def hangs() -> object:
    return await asyncio.sleep(100)


def raising(error: Exception) -> Callable[[], Awaitable[object]]:
    async def raises() -> object:
        raise error

    return raises


def url(server: Running, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


async def post(server: Running, path: str, body: Any, **headers: str) -> tuple[int, Any, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.post(url(server, path), data=data, headers=headers) as answer,
    ):
        text = await answer.read()
        kind = answer.content_type
        return answer.status, json.loads(text) if kind == "application/json" else text, answer.headers


def test_each_service_answers_and_says_how_it_is(kit: Any) -> None:
    async def main() -> None:
        for stage, place in PLACES.items():
            provider = load("stt", "fake") if stage == "stt" else Does()
            async with kit.service(stage, provider) as server, aiohttp.ClientSession() as session:
                async with session.get(url(server, "/health")) as answer:
                    told = await answer.json()
                assert (told["service"], told["provider"]) == (place.title, provider.name)
                # A machine that is busy makes the loop late, and that is told.
                assert told["status"] == ("healthy" if told["checks"]["event_loop"] else "degraded")
                async with session.get(url(server, "/ready")) as answer:
                    assert answer.status == 200
                if stage == "intent":
                    status, body, _ = await post(server, place.path, ASKED[stage])
                    assert (status, body) == (200, {"intent": "fees", "confidence": 0.5})
                    assert provider.asked == [("what are the fees", (Message("user", "hello"),))]
                elif stage == "retrieval":
                    _, body, _ = await post(server, place.path, ASKED[stage])
                    assert [each["id"] for each in body["passages"]] == ["p0"], "as many as were asked for"
                    _, body, _ = await post(server, place.path, {"text": "fees"})
                    assert len(body["passages"]) == 10

    asyncio.run(main())


def test_speech_comes_bare_or_as_lines(kit: Any) -> None:
    async def main() -> None:
        async with kit.service("tts", Does()) as server:
            status, sound, headers = await post(server, "/synthesize", ASKED["tts"])
            assert (status, headers["Content-Type"]) == (200, "audio/pcm; rate=8000")
            assert sound == b"\x01\x00" * 800 + b"\x02\x00" * 800
            _, text, headers = await post(server, "/synthesize", ASKED["tts"], Accept="application/x-ndjson, audio/pcm")
            assert headers["Content-Type"] == "application/x-ndjson; rate=8000"
            lines = [json.loads(line) for line in text.splitlines()]
            assert [line["words"] for line in lines] == [[[0, 0]], [[6, 800]]]
            assert b"".join(base64.b64decode(line["audio"]) for line in lines) == sound

    asyncio.run(main())


@pytest.mark.parametrize("stage", ["intent", "retrieval", "tts"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        {"language": "en-IN"},
        {"text": 1},
        {"text": "x" * 4001},
        {"text": "x", "language": "x" * 65},
        b'{"text": "\xff"}',
        b'{"text": ' + b"[" * 5_000,
    ],
)
def test_a_request_that_cannot_be_used_is_told_why_and_not_what_it_held(kit: Any, stage: Any, body: Any) -> None:
    async def main() -> None:
        provider = Does()
        async with kit.service(stage, provider) as server:
            status, told, _ = await post(server, PLACES[stage].path, body)
            assert (status, told["error"]["code"]) == (400, "service.bad_request")
            assert "xxx" not in told["error"]["message"]
            assert provider.asked == []
            assert not provider.begun.is_set()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ProviderError("no", code="x.failed"), 502, "x.failed"),
        (ProviderTimeout("no", code="x.timeout"), 504, "x.timeout"),
        (ProviderRefused("no such voice", code="x.voice"), 422, "x.voice"),
        (ProviderRefused("the key sk-secret", code="x.unauthorized"), 502, "x.unauthorized"),
        (ProviderError("no", code="x.rate_limited", retry_after_s=7), 429, "x.rate_limited"),
        (ConfigError("/etc/secret", code="config"), 500, "config"),
        (ZeroDivisionError("secret"), 500, "internal"),
    ],
)
@pytest.mark.parametrize("stage", ["intent", "retrieval", "tts"])
def test_a_failing_provider_is_a_coded_answer(kit: Any, stage: Any, error: Exception, status: int, code: str) -> None:
    async def main() -> None:
        async with kit.service(stage, Does(raising(error))) as server:
            found, told, headers = await post(server, PLACES[stage].path, ASKED[stage])
            assert (found, told["error"]["code"]) == (status, code)
            assert "secret" not in json.dumps(told)
            assert headers.get("Retry-After") == ("7" if status == 429 else None)

    asyncio.run(main())


def test_a_voice_that_breaks_off_does_not_sound_whole(kit: Any) -> None:
    broken = ProviderError("gone", code="tts.worker_lost")

    async def main() -> None:
        async with kit.service("tts", Does(raising(broken))) as server:
            _, text, _ = await post(server, "/synthesize", {"text": "later"}, Accept="application/x-ndjson")
            *_, last = [json.loads(line) for line in text.splitlines()]
            assert last == {"error": {"code": "tts.worker_lost", "message": "the voice broke off"}}
            with pytest.raises(aiohttp.ClientPayloadError):
                await post(server, "/synthesize", {"text": "later"})
            client = kit.client("tts", server)
            with pytest.raises(ProviderError) as caught:
                async for _ in client.synthesize("later", language="en-IN", sample_rate=8000):
                    pass
            assert caught.value.code == "tts.server"
            await client.close()

    asyncio.run(main())


@pytest.mark.parametrize("text", ["later", "at once"])
def test_a_client_that_goes_away_ends_the_voices_work(kit: Any, text: str) -> None:
    async def main() -> None:
        voice = Does(hangs)
        async with kit.service("tts", voice, capacity=1) as server:
            client = kit.client("tts", server)
            speaking = asyncio.ensure_future(
                anext(client.synthesize(text, language="en-IN", sample_rate=8000).__aiter__())
            )
            await asyncio.wait_for(voice.begun.wait(), 5)
            speaking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await speaking
            await client.close()
            await asyncio.wait_for(voice.closed.wait(), 5)

    asyncio.run(main())


# -- who is let in ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "auth.refused"),
        ({"Authorization": "Bearer wrong"}, 401, "auth.refused"),
        ({"Authorization": "Basic key"}, 401, "auth.refused"),
        ({"Authorization": "Bearer ключ"}, 401, "auth.refused"),
        ({"Authorization": "Bearer key"}, 200, ""),
    ],
)
@pytest.mark.parametrize("stage", ["stt", "intent", "retrieval", "tts"])
def test_with_a_key_nobody_gets_in_without_it(
    kit: Any, stage: Any, headers: dict[str, str], status: int, code: str
) -> None:
    async def main() -> None:
        provider = load("stt", "fake") if stage == "stt" else Does()
        async with kit.service(stage, provider, key="key") as server, aiohttp.ClientSession() as session:
            async with session.get(url(server, "/health")) as answer:
                assert answer.status == 200, "how it is may be asked by anybody"
            raw = {name: value.encode().decode("latin-1") for name, value in headers.items()}
            if stage != "stt":
                found, told, _ = await post(server, PLACES[stage].path, ASKED[stage], **raw)
                assert (found, told["error"]["code"] if code else "") == (status, code)
            elif status == 200:
                async with session.ws_connect(url(server, "/listen"), headers=raw):
                    pass
            else:
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    await session.ws_connect(url(server, "/listen"), headers=raw)
                assert caught.value.status == status

    asyncio.run(main())


def test_without_a_key_a_browsers_page_is_turned_away(kit: Any) -> None:
    async def main() -> None:
        async with kit.service("intent", Does()) as server:
            found, told, _ = await post(server, "/classify", ASKED["intent"], Origin="http://evil.example")
            assert (found, told["error"]["code"]) == (403, "auth.origin")
        async with kit.service("stt", load("stt", "fake")) as server, aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(url(server, "/listen"), origin="http://evil.example")
            assert caught.value.status == 403

    asyncio.run(main())


def test_without_a_key_it_listens_on_this_machine_alone(kit: Any) -> None:
    async def main() -> None:
        async with kit.service("intent", Does(), host="0.0.0.0", authenticated=False):  # noqa: S104
            raise AssertionError("it was served")

    with pytest.raises(ConfigError) as caught:
        asyncio.run(main())
    assert caught.value.code == "server.open_bind"


@pytest.mark.parametrize("stage", ["intent", "tts", "stt"])
def test_what_is_too_much_at_once_is_refused_and_room_comes_back(kit: Any, stage: Any) -> None:
    async def main() -> None:
        provider = load("stt", "fake") if stage == "stt" else Does(hangs)
        async with kit.service(stage, provider, capacity=2) as server, aiohttp.ClientSession() as session:

            async def enter() -> Any:
                if stage == "stt":
                    return await session.ws_connect(url(server, "/listen"))
                return asyncio.ensure_future(post(server, PLACES[stage].path, ASKED[stage]))

            inside = [await enter(), await enter()]
            await active(session, server, 2)
            if stage == "stt":
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    await session.ws_connect(url(server, "/listen"))
                assert caught.value.status == 503
                for each in inside:
                    await each.close()
            else:
                status, told, headers = await post(server, PLACES[stage].path, ASKED[stage])
                assert (status, told["error"]["code"], headers["Retry-After"]) == (503, "admission.full", "1")
                for each in inside:
                    each.cancel()
            await active(session, server, 0)

    asyncio.run(main())


async def active(session: aiohttp.ClientSession, server: Running, wanted: int) -> None:
    async with asyncio.timeout(5):
        while True:
            async with session.get(url(server, "/health")) as answer:
                if (await answer.json())["active_sessions"] == wanted:
                    return
            await asyncio.sleep(0.01)


# -- the ear's socket ------------------------------------------------------------------------------


TAKEN = "8000, 16000, 24000, 48000"


@pytest.mark.parametrize(
    ("query", "fix"),
    [
        ("rate=7000", TAKEN),
        ("rate=x", TAKEN),
        ("rate=9999999999999999999999", TAKEN),
        ("rate=0080001234", TAKEN),
        ("rate=", TAKEN),
        ("rate=16000&voice=y", "it has rate, language"),
        ("rate=8000&rate=16000", "rate stands twice"),
        ("language=en-IN&rate=8000&language=en-IN", "language stands twice"),
        ("language=%ff", "it has rate, language"),
        ("language=" + "x" * 65, "at most 64 characters"),
    ],
)
def test_a_query_that_is_none_is_refused_with_what_is_taken(kit: Any, query: str, fix: str) -> None:
    async def main() -> None:
        async with kit.service("stt", load("stt", "fake")) as server, aiohttp.ClientSession() as session:
            headers = {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            }
            async with session.get(url(server, f"/listen?{query}"), headers=headers) as answer:
                told = await answer.json()
                assert (answer.status, told["error"]["code"]) == (400, "listen.bad_query")
                assert fix in told["error"]["message"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("hello", 1003, "listen.no_order"),
        ('{"type": "ping", "x": ' + "[" * 5_000, 1003, "listen.no_order"),
        (b"\xff\xfe".decode("utf-16"), 1003, "listen.no_order"),
        ('{"type": "sing"}', 1003, "listen.no_order"),
        ('{"type": "finish"}', 1003, "listen.no_order"),
        ('{"type": "finish", "utterance": 2}', 1008, "listen.order"),
        (b"\x00", 1003, "listen.half_sample"),
        (b"\x00" * 641, 1003, "listen.half_sample"),
        (b"\x00" * (MAX_AUDIO_BYTES + 2), 1009, "listen.too_large"),
        (b"\x00" * 70_000, 1009, "peer.frame_too_large"),
    ],
)
def test_a_socket_that_breaks_the_rules_is_closed_with_a_code_and_others_go_on(
    kit: Any, message: Any, code: int, reason: str
) -> None:
    async def main() -> None:
        async with kit.service("stt", load("stt", "fake")) as server, aiohttp.ClientSession() as session:
            good = await session.ws_connect(url(server, "/listen?rate=16000"))
            bad = await session.ws_connect(url(server, "/listen?rate=16000"))
            await (bad.send_bytes(message) if isinstance(message, bytes) else bad.send_str(message))
            closing = await bad.receive(5)
            assert (closing.data, closing.extra) == (code, reason)
            await good.send_str('{"type": "finish", "utterance": 1}')
            assert (await good.receive_json(timeout=5))["type"] == "final"
            await good.close()

    asyncio.run(main())


def test_a_minute_at_once_is_heard_and_a_flood_is_closed(kit: Any) -> None:
    async def main() -> None:
        async with kit.service("stt", load("stt", "fake")) as server, aiohttp.ClientSession() as session:
            again = await session.ws_connect(url(server, "/listen?rate=8000"))
            for _ in range(30):
                await again.send_bytes(b"\x00" * MAX_AUDIO_BYTES)  # 61 s: an utterance that is told again
            await again.send_str('{"type": "finish", "utterance": 1}')
            assert (await again.receive_json(timeout=5))["type"] == "final"
            for _ in range(10):
                await again.send_bytes(b"\x00" * MAX_AUDIO_BYTES)
            closing = await again.receive(5)
            assert (closing.data, closing.extra) == (1008, "listen.flood")

    asyncio.run(main())


def test_a_socket_on_which_nothing_comes_is_closed_and_a_ping_keeps_it(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "EAR_IDLE_S", 0.3)

    async def main() -> None:
        async with kit.service("stt", load("stt", "fake")) as server, aiohttp.ClientSession() as session:
            idle = await session.ws_connect(url(server, "/listen"))
            kept = await session.ws_connect(url(server, "/listen"))
            for _ in range(5):
                await kept.send_str('{"type": "ping"}')
                await asyncio.sleep(0.1)
            closing = await idle.receive(5)
            assert (closing.data, closing.extra) == (1008, "listen.idle")
            await kept.send_str('{"type": "finish", "utterance": 1}')
            assert (await kept.receive_json(timeout=5))["type"] == "final"
            await kept.close()

    asyncio.run(main())


def test_when_it_ends_what_is_owed_is_told_first(kit: Any) -> None:
    async def main() -> None:
        provider = load("stt", "fake", {"stt_ms": 200})
        async with kit.service("stt", provider) as server, aiohttp.ClientSession() as session:
            idle, owed = [await session.ws_connect(url(server, "/listen")) for _ in range(2)]
            await owed.send_str('{"type": "finish", "utterance": 1}')
            await owed.send_str('{"type": "ping"}')
            await asyncio.sleep(0.05)
            server.drain()
            assert (await idle.receive(5)).data == 1012
            assert (await owed.receive_json(timeout=5))["type"] == "final"
            assert (await owed.receive(5)).data == 1012

    asyncio.run(main())
