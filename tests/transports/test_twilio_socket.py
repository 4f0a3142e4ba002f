"""The phone line through the real server: real sockets, a fake switchboard."""

import asyncio
import base64
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from fastapi import FastAPI
from twilio.request_validator import RequestValidator
from twilio_fakes import CALL, CONNECTED, STOP, STREAM, RecordingCall, RecordingSwitchboard, media, start
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from antiphon.runtime.ports import CallStart, Line
from antiphon.secret import Secret
from antiphon.server.run import Running, run, serve
from antiphon.server.twilio import router
from antiphon.server.twilio_media import media_route
from antiphon.transports.twilio_exchange import Exchange
from antiphon.transports.twilio_settings import LineLimits, PhoneSettings

TOKEN = "0123456789abcdef0123456789abcdef"


class Talkative(RecordingCall):
    """Sends back what it hears, with a mark behind it."""

    def on_audio(self, audio: bytes) -> None:
        super().on_audio(audio)
        self.line.send(audio)
        self.line.mark(str(len(self.audio)))


class Switchboard(RecordingSwitchboard):
    """Fits ``CallDesk`` as well."""

    def __init__(self, kind: type[RecordingCall] = RecordingCall) -> None:
        super().__init__()
        self.kind = kind

    def connect(self, start: CallStart, line: Line) -> RecordingCall:
        self.calls.append(self.kind(start, line))
        return self.calls[-1]

    def has_room(self, call_id: str) -> bool:
        return True

    async def ended(self, call_id: str) -> str:
        return ""

    async def knows(self, call_id: str) -> bool:
        return any(call.start.call_id == call_id for call in self.calls)

    def call_over(self, call_id: str, status: str) -> None:
        """Nobody waits for it here."""


@contextlib.asynccontextmanager
async def serving(
    switchboard: Switchboard, settings: PhoneSettings | None = None
) -> AsyncIterator[tuple[str, Exchange]]:
    exchange = Exchange(settings or PhoneSettings())
    app = FastAPI()
    app.include_router(router(exchange, switchboard))
    started: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    routes = {"/media-stream": media_route(switchboard, exchange)}
    task = asyncio.ensure_future(serve(app, routes, port=0, signals=False, tune_gc=False, on_ready=started.set_result))
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    server = started.result()
    yield server.url("/media-stream", "ws"), exchange
    server.stop()
    await asyncio.wait_for(task, 10)


def drive(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await main()

    run(bounded())


async def say(client: ClientConnection, *messages: Any) -> None:
    for message in messages:
        await client.send(message if isinstance(message, (bytes, str)) else json.dumps(message))


async def begin(client: ClientConnection, call_id: str = CALL) -> None:
    begun = start()
    begun["start"]["callSid"] = call_id
    await say(client, CONNECTED, begun)


async def closing(client: ClientConnection) -> tuple[int, str]:
    """The code and reason with which the server closes."""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionClosed):
            async for _ in client:
                pass
        await client.wait_closed()
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""


async def eventually(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not ready():  # noqa: ASYNC110 - it looks at what others do, who know of no event
            await asyncio.sleep(0.005)


def test_full_duplex_and_the_end_of_a_call():
    async def main() -> None:
        switchboard = Switchboard(Talkative)
        async with serving(switchboard) as (url, exchange), connect(url) as client:
            await begin(client)
            for number in range(2, 52):
                await say(client, media(number))
                back = json.loads(await client.recv())
                assert base64.b64decode(back["media"]["payload"]) == bytes([number]) * 160
                mark = json.loads(await client.recv())
                assert (mark["event"], mark["streamSid"]) == ("mark", STREAM)
                await say(client, {**mark, "sequenceNumber": "0"})
            await say(client, {**STOP, "sequenceNumber": "52"})
            assert await closing(client) == (1000, "stop")
            (call,) = switchboard.calls
            assert len(call.audio) == 50
            assert call.log == [*[("mark", str(n)) for n in range(1, 51)], ("hangup", "stop")]
            await eventually(lambda: not len(exchange.sweep))

    drive(main)


def test_our_hang_up_closes_the_stream():
    async def main() -> None:
        switchboard = Switchboard()
        async with serving(switchboard) as (url, exchange), connect(url) as client:
            await begin(client)
            await eventually(lambda: bool(switchboard.calls))
            switchboard.calls[0].line.hang_up("goodbye")
            assert await closing(client) == (1000, "goodbye")
            assert exchange.book.ended(CALL) == "goodbye"
            await eventually(lambda: not len(exchange.sweep))
            assert switchboard.calls[0].log == []

    drive(main)


@pytest.mark.parametrize("after", range(5))
def test_a_peer_that_vanishes_at_any_moment_leaves_nothing_running(after: int):
    async def main() -> None:
        switchboard = Switchboard(Talkative)
        async with serving(switchboard) as (url, exchange):
            tasks = len(asyncio.all_tasks())
            client = await connect(url)
            messages = [CONNECTED, start(), media(2), media(3)]
            await say(client, *messages[:after])
            client.transport.abort()
            await eventually(lambda: not len(exchange.sweep))
            await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
            for call in switchboard.calls:
                assert call.log[-1] == ("dropped", "line.lost")

    drive(main)


# -- who may connect --------------------------------------------------------------------------------

SIGNED = PhoneSettings(auth_token=Secret(TOKEN), public_url="https://voice.example.org")


def test_only_what_twilio_signed_is_accepted():
    async def main() -> None:
        switchboard = Switchboard()
        good = RequestValidator(TOKEN).compute_signature("wss://voice.example.org/media-stream", {})
        async with serving(switchboard, SIGNED) as (url, exchange):
            for headers in ({}, {"X-Twilio-Signature": good[:-2] + "A="}, {"Host": "voice.example.org"}):
                with pytest.raises(InvalidStatus) as refused:
                    await connect(url, additional_headers=headers)
                assert refused.value.response.status_code == 403
                assert json.loads(refused.value.response.body)["error"]["code"] == "auth.twilio_signature"
            assert exchange.tokens is not None
            async with connect(url, additional_headers={"X-Twilio-Signature": good}) as client:
                await say(client, CONNECTED, start(token=exchange.tokens.issue(CALL)))
                await eventually(lambda: len(switchboard.calls) == 1)
            async with connect(url, additional_headers={"X-Twilio-Signature": good}) as client:
                await say(client, CONNECTED, start(token="made up"))
                assert await closing(client) == (1008, "auth.stream_token")
            assert len(switchboard.calls) == 1

    drive(main)


async def post(url: str, form: dict[str, str], signature: str) -> tuple[int, bytes]:
    """A webhook of Twilio's, sent to the server itself."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    body = urlencode(form).encode()
    writer.write(
        f"POST {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        f"X-Twilio-Signature: {signature}\r\n\r\n".encode()
        + body
    )
    head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), answer


def test_a_recorded_call_cannot_be_replayed(caplog: pytest.LogCaptureFixture):
    """All that Twilio sent for a call, sent once more to the letter: nobody is connected, and the log says so."""

    async def main() -> None:
        switchboard = Switchboard()
        sign = RequestValidator(TOKEN).compute_signature
        upgrade = {"X-Twilio-Signature": sign("wss://voice.example.org/media-stream", {})}
        form = {"CallSid": CALL, "From": "+919812345678", "CallStatus": "ringing"}
        async with serving(switchboard, SIGNED) as (url, exchange):
            begins = f"http{url.removeprefix('ws').rpartition('/')[0]}/voice?language=hi-IN"
            signature = sign("https://voice.example.org/voice?language=hi-IN", form)
            status, answer = await post(begins, form, signature)
            assert status == 200
            (token,) = re.findall(rb'name="token" value="([^"]+)"', answer)
            told = start(token=token.decode())
            async with connect(url, additional_headers=upgrade) as client:
                await say(client, CONNECTED, told)
                await eventually(lambda: len(switchboard.calls) == 1)
                assert switchboard.calls[0].start.call_id == CALL

                assert await post(begins, form, signature) == (200, answer), (
                    "a retry gets the same, with the same token"
                )
                async with connect(url, additional_headers=upgrade) as replayed:
                    await say(replayed, CONNECTED, told)
                    assert await closing(replayed) == (1008, "auth.stream_token_used")
                other = {"CallSid": CALL.replace("7", "8")}
                other_token = exchange.tokens.issue(other["CallSid"])  # type: ignore[union-attr]
                async with connect(url, additional_headers=upgrade) as misused:
                    await say(misused, CONNECTED, start(token=other_token))
                    assert await closing(misused) == (1008, "auth.stream_token")
                assert switchboard.calls[0].log == [], "the call itself never notices"
            assert len(switchboard.calls) == 1
        # Another process of the same account, with the same journal: it never saw the first request.
        async with serving(switchboard, SIGNED) as (url, _):
            begins = f"http{url.removeprefix('ws').rpartition('/')[0]}/voice?language=hi-IN"
            status, answer = await post(begins, form, signature)
            assert (status, json.loads(answer)["error"]["code"]) == (403, "auth.replayed")

    drive(main)
    lines = [(record.getMessage(), record.__dict__.get("call")) for record in caplog.records]
    assert ("twilio line closed: auth.stream_token_used (2 messages, dropped {})", CALL) in lines
    assert ("twilio line closed: auth.stream_token (2 messages, dropped {})", CALL) in lines
    assert ("webhook /voice from 127.0.0.1 refused: auth.replayed", None) in lines


def test_a_forged_upgrade_is_logged(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        async with serving(Switchboard(), SIGNED) as (url, _):
            with pytest.raises(InvalidStatus):
                await connect(url, additional_headers={"X-Twilio-Signature": "A" * 28})

    drive(main)
    assert "stream from 127.0.0.1 refused: auth.twilio_signature" in caplog.messages


def test_a_web_page_elsewhere_cannot_open_a_line_on_this_machine():
    async def main() -> None:
        async with serving(Switchboard()) as (url, _):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, origin="https://evil.example")  # type: ignore[arg-type]
            assert refused.value.response.status_code == 403
            with pytest.raises(InvalidStatus):
                await connect(url, additional_headers={"X-Forwarded-For": "203.0.113.9"})

    drive(main)


# -- bad peers (F13 to F15, F21) --------------------------------------------------------------------


async def _bad_frames(client: ClientConnection) -> None:
    for data in ["{", "22", b"\x00\xff", '{"event":"media"}', '{"event":5}', '{"event":"mark","mark":7}'] * 10:
        await client.send(data)


async def _too_large(client: ClientConnection) -> None:
    await client.send('{"event":"media","x":"' + "a" * 70_000)


async def _fragmented_too_large(client: ClientConnection) -> None:
    await client.send(iter(['{"event":"media","x":"', *["a" * 30_000] * 3]))


async def _flood(client: ClientConnection) -> None:
    for number in range(2, 2000):
        await say(client, media(number))


async def _second_call(client: ClientConnection) -> None:
    await begin(client, "CAother")


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (_bad_frames, (1008, "line.bad_frames")),
        (_too_large, (1009, "peer.frame_too_large")),
        (_fragmented_too_large, (1009, "peer.frame_too_large")),
        (_flood, (1008, "line.flood")),
        (_second_call, (1008, "line.second_start")),
    ],
)
def test_a_bad_peer_is_closed_with_a_code_and_others_never_notice(
    attack: Callable[[ClientConnection], Awaitable[None]], expected: tuple[int, str]
):
    async def main() -> None:
        switchboard = Switchboard(Talkative)
        async with serving(switchboard) as (url, _), connect(url) as good, connect(url) as bad:
            await begin(good, "CAgood")
            await eventually(lambda: len(switchboard.calls) == 1)
            await begin(bad, "CAbad")
            await eventually(lambda: len(switchboard.calls) == 2)

            async def attacked() -> tuple[int, str]:
                with contextlib.suppress(ConnectionClosed):
                    await attack(bad)
                return await closing(bad)

            task = asyncio.ensure_future(attacked())
            number = 2
            while not task.done() or number < 30:
                await say(good, media(number))
                back = json.loads(await asyncio.wait_for(good.recv(), 2))
                assert base64.b64decode(back["media"]["payload"]) == bytes([number % 256]) * 160
                await good.recv()
                number += 1
                await asyncio.sleep(0.005)
            assert task.result() == expected
            victim = next(call for call in switchboard.calls if call.start.call_id == "CAbad")
            await eventually(lambda: bool(victim.log))
            assert victim.log[-1] == ("dropped", expected[1])

    drive(main)


def test_a_peer_that_stops_reading_loses_audio_and_then_the_line():
    async def main() -> None:
        switchboard = Switchboard()
        limits = LineLimits(stuck_timeout_s=0.5, close_timeout_s=0.5)
        async with serving(switchboard, PhoneSettings(limits=limits)) as (url, exchange):
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            port = int(url.rsplit(":", 1)[1].split("/")[0])
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
            client = await connect(url, sock=raw, max_queue=1)
            await begin(client)
            await eventually(lambda: bool(switchboard.calls))
            call = switchboard.calls[0]
            client.transport.pause_reading()  # type: ignore[attr-defined]
            stats = call.line.stats  # type: ignore[attr-defined]
            sent = 0
            while not stats.dropped:
                call.line.send(b"\x55" * 4000)
                sent += 1
                assert sent < 20_000, "nothing bounds what waits to be sent"
            before = stats.sent_messages
            call.line.clear()
            assert stats.sent_messages == before + 1, "control messages are not dropped"
            await eventually(lambda: bool(call.log))
            assert call.log == [("dropped", "line.slow_consumer")]
            await eventually(lambda: not len(exchange.sweep))
            client.transport.abort()

    drive(main)
