"""The WebSocket client that the providers share, against a server on this machine."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from antiphon.errors import ProviderError, ProviderRefused, ProviderTimeout
from antiphon.providers import websocket
from antiphon.providers.http import Patience, Waits, client_session
from antiphon.providers.websocket import Socket, connect
from antiphon.secret import Secret

KEY = "sk-websocket-secret"


class Server:
    """``say`` decides what becomes of a connection; ``seen`` holds what was received."""

    def __init__(self) -> None:
        self.say: Callable[[web.WebSocketResponse, web.Request], Awaitable[None]] | None = None
        self.answer: web.Response | None = None
        self.seen: list[Any] = []
        self.requests: list[web.Request] = []
        self.closed = asyncio.Event()
        self.close_code: int | None = None
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.answer is not None:
            return self.answer
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        try:
            if self.say is not None:
                await self.say(ws, request)
            async for message in ws:
                self.seen.append(message.data)
        finally:
            self.close_code = ws.close_code
            self.closed.set()
        return ws


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, aiohttp.ClientSession]]:
    server = Server()
    app = web.Application()
    app.router.add_get("/{tail:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/ws?model=x"
    session = client_session(server.url, headers={"X-Key": KEY}, connect_s=1.0)
    try:
        yield server, session
    finally:
        await session.close()
        await runner.cleanup()


def run(main: Callable[[Server, aiohttp.ClientSession], Awaitable[None]]) -> None:
    async def serve() -> None:
        async with serving() as (server, session):
            await main(server, session)

    asyncio.run(serve())


def patience(first_s: float = 1.0, between_s: float = 1.0) -> Patience:
    return Patience(Waits(first_s=first_s, between_s=between_s, total_s=5.0), "acme", "tts")


async def opened(server: Server, session: aiohttp.ClientSession, **more: Any) -> Socket:
    settings: dict[str, Any] = {"provider": "acme", "stage": "tts", "connect_s": 0.5, "key": Secret(KEY)}
    return await connect(session, server.url, {"X-Tenant": "a"}, patience(), **{**settings, **more})


async def error_of(awaitable: Awaitable[object]) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await awaitable
    assert (caught.value.stage, caught.value.provider) == ("tts", "acme")
    assert KEY not in str(caught.value)
    return caught.value


# -- open and talk ------------------------------------------------------------------------------


def test_messages_go_both_ways_with_the_sessions_headers() -> None:
    async def main(server: Server, session: aiohttp.ClientSession) -> None:
        async def say(ws: web.WebSocketResponse, request: web.Request) -> None:
            await ws.send_str("नमस्ते")
            await ws.send_bytes(b"\x00\xff")
            await ws.ping(b"?")
            pong = await ws.receive()
            assert (pong.type, pong.data) == (WSMsgType.PONG, b"?")
            await ws.send_str("after the ping")

        server.say = say
        socket = await opened(server, session)
        assert await socket.receive(patience()) == "नमस्ते"
        assert await socket.receive() == b"\x00\xff"
        assert await socket.receive() == "after the ping"
        await socket.send({"a": "फीस \ud800"})
        await socket.send("text", patience())
        await socket.send(b"\x01\x02")
        assert not socket.closed
        await socket.close()
        await asyncio.wait_for(server.closed.wait(), 1)
        assert [json.loads(server.seen[0]), *server.seen[1:]] == [{"a": "फीस ?"}, "text", b"\x01\x02"]
        assert server.close_code == 1000
        (request,) = server.requests
        assert (request.headers["X-Key"], request.headers["X-Tenant"]) == (KEY, "a")
        assert request.query == {"model": "x"}
        assert request.headers["User-Agent"].startswith("antiphon/")

    run(main)


def test_closing_is_quick_and_wakes_whoever_waits() -> None:
    async def main(server: Server, session: aiohttp.ClientSession) -> None:
        async def say(ws: web.WebSocketResponse, request: web.Request) -> None:
            while True:  # never reads, so never answers the close
                await ws.send_str("x" * 1000)
                await asyncio.sleep(0.001)

        server.say = say
        socket = await opened(server, session)
        assert await socket.receive() == "x" * 1000
        began = time.monotonic()
        await socket.close()
        await socket.close()
        assert time.monotonic() - began < 0.15
        assert socket.closed
        await asyncio.wait_for(server.closed.wait(), 1)
        assert (await error_of(socket.send("more"))).code == "tts.cut"
        server.say = None
        waiting = await opened(server, session)
        task = asyncio.create_task(waiting.receive())
        await asyncio.sleep(0.01)
        await waiting.close()
        assert await asyncio.wait_for(task, 1) is None
        assert waiting.ending().code == "tts.closed"

    run(main)


def test_a_cancelled_wait_leaves_a_connection_that_can_be_used() -> None:
    async def main(server: Server, session: aiohttp.ClientSession) -> None:
        socket = await opened(server, session)
        task = asyncio.create_task(socket.receive())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        error = await error_of(socket.receive(patience(first_s=0.02)))
        assert (error.code, type(error)) == ("tts.timeout_first_byte", ProviderTimeout)
        await socket.send("still there")
        await socket.close()
        await asyncio.wait_for(server.closed.wait(), 1)
        assert server.seen == ["still there"]

    run(main)


# -- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, {"error": {"message": f"bad key {KEY}"}}, "tts.unauthorized"),
        (403, {"error": {"code": "invalid_api_key_error"}}, "tts.unauthorized"),
        (429, {"error": {"code": "rate_limit_exceeded_error", "message": "slow"}}, "tts.rate_limited"),
        (429, {"error": {"code": "insufficient_quota_error", "message": "no credits"}}, "tts.quota"),
        (404, {}, "tts.not_found"),
        (500, {"error": {"message": f"oh, {KEY}"}}, "tts.server"),
        (200, {}, "tts.server"),
        (307, {}, "tts.bad_endpoint"),
    ],
)
def test_a_refused_handshake_is_read_and_a_redirect_is_not_followed(status: int, body: Any, code: str) -> None:
    async def main(server: Server, session: aiohttp.ClientSession) -> None:
        headers = {"Retry-After": "7", "Location": server.url.replace("ws://", "http://") + "&elsewhere=1"}
        server.answer = web.json_response(body, status=status, headers=headers)
        error = await error_of(opened(server, session))
        assert error.code == code
        assert len(server.requests) == 1
        if code == "tts.rate_limited":
            assert error.retry_after_s == 7.0

    run(main)


def test_a_body_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "ERROR_BODY_S", 0.05)

    async def main(server: Server, session: aiohttp.ClientSession) -> None:
        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n{")
            await reader.read()
            writer.close()

        other = await asyncio.start_server(slow, "127.0.0.1", 0)
        server.url = f"ws://127.0.0.1:{other.sockets[0].getsockname()[1]}/"
        began = time.monotonic()
        assert (await error_of(opened(server, session))).code == "tts.unauthorized"
        assert time.monotonic() - began < 0.4
        other.close()

    run(main)


def test_nobody_there_nobody_answering_and_no_websocket() -> None:
    async def main(server: Server, session: aiohttp.ClientSession) -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async def wrong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bm90IGl0\r\n\r\n"
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade)
            await reader.read()
            writer.close()

        for serve, code in ((silent, "tts.timeout_connect"), (wrong, "tts.garbage")):
            other = await asyncio.start_server(serve, "127.0.0.1", 0)
            server.url = f"ws://127.0.0.1:{other.sockets[0].getsockname()[1]}/"
            error = await error_of(opened(server, session, connect_s=0.1))
            assert error.code == code
            assert isinstance(error, ProviderTimeout) == (code == "tts.timeout_connect")
            other.close()
        server.url = "ws://user:secret@127.0.0.1:9/?key=hidden"
        error = await error_of(opened(server, session))
        assert (error.code, "127.0.0.1:9 cannot be reached" in str(error)) == ("tts.unreachable", True)
        assert "secret" not in str(error)
        assert "hidden" not in str(error)
        await session.close()
        assert (await error_of(opened(server, session))).code == "tts.closed"

    run(main)


@pytest.mark.parametrize(
    ("close_code", "code", "kind"),
    [
        (1000, "tts.cut", ProviderError),
        (1001, "tts.cut", ProviderError),
        (1003, "tts.bad_request", ProviderRefused),
        (1008, "tts.bad_request", ProviderRefused),
        (1009, "tts.bad_request", ProviderRefused),
        (1011, "tts.server", ProviderError),
        (1013, "tts.server", ProviderError),
        (4000, "tts.cut", ProviderError),
    ],
)
def test_a_close_frame_is_told_with_its_reason(close_code: int, code: str, kind: type[ProviderError]) -> None:
    async def main(server: Server, session: aiohttp.ClientSession) -> None:
        async def say(ws: web.WebSocketResponse, request: web.Request) -> None:
            await ws.send_str("one")
            await ws.close(code=close_code, message=f"because of {KEY}".encode())

        server.say = say
        socket = await opened(server, session)
        assert await socket.receive() == "one"
        assert await socket.receive() is None
        assert await socket.receive() is None
        assert (socket.close_code, socket.close_reason) == (close_code, f"because of {KEY}")
        error = socket.ending(Secret(KEY))
        assert (error.code, type(error)) == (code, kind)
        assert "because of ***" in str(error)
        assert socket.closed
        await socket.close()

    run(main)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (None, "tts.cut"),
        (b"", "tts.cut"),
        (b"\x81\x05ab", "tts.cut"),  # a frame that stops in its middle
        (b"\x81\x02\xff\xfe", "tts.garbage"),  # no UTF-8
        (b"\xf1\x00", "tts.garbage"),  # reserved bits
        (b"\x82\x7f" + (2**20).to_bytes(8, "big"), "tts.too_large"),
    ],
)
def test_a_broken_connection_and_broken_frames(frame: bytes | None, code: str) -> None:
    async def main(server: Server, session: aiohttp.ClientSession) -> None:
        async def say(ws: web.WebSocketResponse, request: web.Request) -> None:
            transport = request.transport
            assert transport is not None
            if frame is None:
                transport.abort()
                return
            transport.write(frame)
            await asyncio.sleep(0.02)
            transport.close()

        server.say = say
        socket = await opened(server, session, max_message_bytes=64 * 1024)
        assert (await error_of(socket.receive(patience()))).code == code
        await socket.close()

    run(main)


def test_a_reader_that_stops_is_not_waited_for_without_end() -> None:
    async def main(server: Server, session: aiohttp.ClientSession) -> None:
        async def say(ws: web.WebSocketResponse, request: web.Request) -> None:
            assert request.transport is not None
            request.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(5)

        server.say = say
        socket = await opened(server, session)
        began = time.monotonic()
        with pytest.raises(ProviderTimeout, match=r"tts\.timeout_first_byte"):  # noqa: PT012 - the first ones go out
            for _ in range(1000):
                await socket.send(b"x" * 500_000, patience(first_s=0.1))
        await socket.close()
        assert time.monotonic() - began < 2

    run(main)


def test_no_connection_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def main(server: Server, session: aiohttp.ClientSession) -> None:
        for _ in range(3):
            socket = await opened(server, session)
            await socket.close()
        task = asyncio.create_task(opened(server, session))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.answer = web.Response(status=500)
        await error_of(opened(server, session))
        assert session.connector is not None
        assert not session.connector._acquired

    run(main)
    assert "Unclosed" not in caplog.text
