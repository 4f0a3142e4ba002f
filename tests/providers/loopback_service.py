"""A service of the contract in ``service_wire`` on this machine, which breaks it where a script says so.

Written by hand from ``docs/api``, not with our own server: two that share a mistake would agree. Each request takes the
next fault of ``script``; an empty script: all goes well.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import WSMsgType, web
from listening import listening, until_closed

from antiphon.providers.tts.fake import tone

KEY = "service-secret-0123456789"
STATUSES = {
    "401": (401, {"error": {"code": "auth.refused", "message": f"not {KEY}"}}, {}),
    "422": (422, {"error": {"code": "x.language", "message": f"no such language, {KEY}"}}, {}),
    "429": (429, {"error": {"code": "x.rate_limited", "message": "slowly"}}, {"Retry-After": "3"}),
    "500": (500, {"error": {"code": "x.failed", "message": f"failed, the key is {KEY}"}}, {}),
    "404": (404, {"detail": "Not Found"}, {}),
    "302": (302, {}, {"Location": "http://example.org/"}),
}


class Loopback:
    def __init__(self) -> None:
        self.script: list[str] = []
        self.answers: dict[str, Any] = {
            "/classify": {"intent": "fees", "confidence": 0.75},
            "/retrieve": {
                "passages": [
                    {"id": "b", "text": "Second.", "source": "s", "score": 0.25, "title": "t"},
                    {"id": "a", "text": "First.", "source": "s", "score": 0.5, "title": "t"},
                ]
            },
        }
        self.health: Any = {"status": "healthy", "service": "x", "provider": "y"}
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        """Path, headers, body of each request."""
        self.form = "lines"
        self.rate = 0
        """Of the sound, where it is not the one asked for."""
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        self.told: list[Any] = []
        """What the ear's sockets were sent: text as JSON, audio as its length."""
        self.sockets = 0
        self.open: set[web.WebSocketResponse] = set()
        self.queries: list[dict[str, str]] = []
        self.words = "hello"
        self.place = ""

    @property
    def url(self) -> str:
        return f"http://{self.place}"

    async def ask(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, dict(request.headers), await request.json()))
        self.begun.set()
        fault = self.script.pop(0) if self.script else ""
        refusal = await self._refusal(request, fault)
        if refusal is not None:
            return refusal
        if request.path == "/synthesize":
            return await self._speak(request, fault)
        return web.json_response(self.answers[request.path])

    async def how(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.health)

    async def _refusal(self, request: web.Request, fault: str) -> web.StreamResponse | None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            fault = "401"
        if fault in STATUSES:
            status, body, headers = STATUSES[fault]
            return web.json_response(body, status=status, headers=headers)
        if fault == "html":
            return web.Response(text="<html>hello</html>", content_type="text/html")
        if fault == "deep":
            return web.Response(body=b'{"x": ' + b"[" * 5_000, content_type="application/json")
        if fault == "bytes":
            return web.Response(
                body=b'{"intent": "\xff", "passages": [{"id": "\xff"}]}', content_type="application/json"
            )
        if fault == "large":
            return web.Response(text=json.dumps({"intent": "x" * 2_000_000}), content_type="application/json")
        if fault == "hang":
            try:
                await until_closed(request)
            finally:
                self.left.set()
        if fault == "drop":
            assert request.transport is not None
            request.transport.abort()
        return None

    # -- speech -------------------------------------------------------------------------------------

    async def _speak(self, request: web.Request, fault: str) -> web.StreamResponse:
        body = self.asked[-1][2]
        rate = self.rate or body["rate"]
        pcm = b"" if fault == "silent" else tone(rate, rate * 60 * len(body["text"]) // 1000)
        kind = "application/x-ndjson" if self.form == "lines" else "audio/pcm"
        response = web.StreamResponse(headers={"Content-Type": f"{kind}; rate={rate}"})
        await response.prepare(request)
        try:
            step = 999 if self.form == "bare" else 1000
            for number, at in enumerate(range(0, len(pcm), step)):
                if number == 3 and fault:
                    await self._break(request, response, fault)
                await response.write(self._encoded(pcm[at : at + step], at // 2, body["text"]))
            await response.write_eof()
        except (ConnectionResetError, asyncio.CancelledError):
            self.left.set()
            raise
        return response

    def _encoded(self, pcm: bytes, sample: int, text: str) -> bytes:
        if self.form == "bare":
            return pcm
        words = [[0, 0], [text.find(" ") + 1, 100]] if sample == 0 else []
        line = {"audio": base64.b64encode(pcm).decode(), "words": words}
        return json.dumps(line).encode() + b"\n"

    async def _break(self, request: web.Request, response: web.StreamResponse, fault: str) -> None:
        assert request.transport is not None
        if fault == "cut":
            request.transport.abort()
        elif fault == "stall":
            await until_closed(request)
        elif fault == "told":
            await response.write(b'{"error": {"code": "tts.worker_lost", "message": "gone"}}\n')
        elif fault == "garbage":
            await response.write(b"garbage\n")
        elif fault == "bad_utf8":
            await response.write(b'{"error": {"code": "tts.server", "message": "\xff"}}\n')
        elif fault == "endless":
            await response.write(b"x" * 1_100_000)
            await until_closed(request)

    # -- hearing ------------------------------------------------------------------------------------

    async def listen(self, request: web.Request) -> web.StreamResponse:
        """Faults: those of ``_refusal`` for the handshake; ``mute``, ``1011``, ``abort``, ``garbage``,
        ``bad_utf8``, ``alien``, ``fail`` at the first ``finish``; ``early`` and ``giveup`` at the first audio."""
        self.queries.append(dict(request.query))
        fault = self.script.pop(0) if self.script else ""
        refusal = await self._refusal(request, fault)
        if refusal is not None:
            return refusal
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets += 1
        self.open.add(socket)
        self.begun.set()
        with suppress(ConnectionResetError):
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    self.told.append(len(message.data))
                    if fault == "giveup":
                        await socket.send_json({"type": "error", "utterance": 1, "code": "stt.busy"})
                    if fault == "early":
                        await socket.close(code=1011, message=b"broken")
                elif message.type is WSMsgType.TEXT:
                    order = json.loads(message.data)
                    self.told.append(order)
                    if order["type"] == "finish":
                        await self._end(request, socket, order["utterance"], fault)
                        fault = "" if fault == "fail" else fault
        self.open.discard(socket)
        self.left.set()
        return socket

    async def _end(self, request: web.Request, socket: web.WebSocketResponse, number: int, fault: str) -> None:
        assert request.transport is not None
        if fault == "1011":
            await socket.close(code=1011, message=f"broken, {KEY}".encode())
        elif fault == "abort":
            request.transport.abort()
        elif fault == "garbage":
            await socket.send_str("garbage")
        elif fault == "bad_utf8":
            await socket.send_bytes(b'{"type": "final", "utterance": 1, "text": "\xff"}')
        elif fault == "alien":
            await socket.send_json({"type": "final", "utterance": number + 7, "text": "nobody's"})
        elif fault == "fail":
            await socket.send_json({"type": "error", "utterance": number, "code": "stt.busy"})
        if fault in {"", "alien"}:
            await socket.send_json({"type": "partial", "utterance": number, "text": self.words[:3]})
            final = {"type": "final", "utterance": number, "text": self.words, "language": "en-IN", "confidence": 0.5}
            await socket.send_json(final)


@asynccontextmanager
async def serving(loopback: Loopback) -> AsyncIterator[Loopback]:
    app = web.Application()
    for path in ("/classify", "/retrieve", "/synthesize"):
        app.router.add_post(path, loopback.ask)
    app.router.add_get("/health", loopback.how)
    app.router.add_get("/listen", loopback.listen)
    async with listening(app) as place:
        loopback.place = place
        yield loopback
