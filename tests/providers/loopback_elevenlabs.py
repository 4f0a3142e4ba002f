"""ElevenLabs on this machine: the multi-context socket, the HTTP stream and ``GET /v1/voices/{id}``, as documented.

It keeps to the vendor's rules as its clients met them: a sixth context at once closes the connection with 1008
("max_active_conversations"), voice settings belong into a context's first message, a context is over when it was
closed and its sound was sent. Each context, and each HTTP request, takes the next fault of ``script``; each handshake
that of ``handshakes``. The vendor's SDK (``elevenlabs``) streams from the same server over HTTP, and its types read
every message of both sides.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web
from listening import listening, until_closed

from antiphon.media.codec import mulaw_encode
from antiphon.providers.tts.fake import tone

KEY = "sk_loopback_secret_0123456789abcdef"
VOICE = "JBFqnCBsd6RMkjVDRZzb"
CHAR_MS = 60
MOST_CONTEXTS = 5


class Spoken:
    """A context as the server has it."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.text = ""
        self.flush = False
        self.closing = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Loopback:
    def __init__(self) -> None:
        self.script: list[str] = []
        self.handshakes: list[str] = []
        self.received: list[list[dict[str, Any]]] = []
        """The messages of each connection, in order."""
        self.sent: list[dict[str, Any]] = []
        self.queries: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.most_contexts = 0
        self.open_sockets = 0
        self.cancelled = asyncio.Event()
        self.asked = asyncio.Event()
        self.chunk_chars = 7
        self.chunk_s = 0.0
        self.final_s = 0.0
        self.alignment = "exact"
        """exact, restart (a second one goes over all again), normalized (with spelled numbers), none."""
        self.place = ""

    @property
    def base_url(self) -> str:
        return f"http://{self.place}"

    # -- the socket -----------------------------------------------------------------------------

    async def multi(self, request: web.Request) -> web.StreamResponse:
        refusal = await self._shake(request)
        if refusal is not None:
            return refusal
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.queries.append({**request.query, "voice": request.match_info["voice"]})
        messages: list[dict[str, Any]] = []
        self.received.append(messages)
        contexts: dict[str, Spoken] = {}
        self.open_sockets += 1
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    said = json.loads(message.data)
                    messages.append(said)
                    self.asked.set()
                    if not await self._take(said, contexts, socket, request):
                        break
        finally:
            self.open_sockets -= 1
            for context in contexts.values():
                if context.task is not None and not context.task.done():
                    context.task.cancel()
        return socket

    async def _shake(self, request: web.Request) -> web.StreamResponse | None:
        fault = self.handshakes.pop(0) if self.handshakes else ""
        if fault == "hang":
            with suppress(ConnectionResetError):
                await until_closed(request)
        if fault == "html":
            return web.Response(text="<html>no sockets here</html>", content_type="text/html")
        return self._refusal(request, fault)

    async def _take(
        self, said: dict[str, Any], contexts: dict[str, Spoken], socket: web.WebSocketResponse, request: web.Request
    ) -> bool:
        name = said.get("context_id", "default")
        context = contexts.get(name)
        if context is None:
            if len(contexts) >= MOST_CONTEXTS:
                return await self._fail(
                    socket, "max_active_conversations", "Maximum simultaneous contexts exceeded (5)."
                )
            context = contexts[name] = Spoken(self.script.pop(0) if self.script else "")
            self.most_contexts = max(self.most_contexts, len(contexts))
            if said.get("text") != " ":
                return await self._fail(socket, "invalid_request", "A context begins with a single space.")
        elif "voice_settings" in said:
            return await self._fail(socket, "invalid_request", "voice_settings belong into the first message.")
        else:
            context.text += said.get("text", "")
        context.flush = context.flush or bool(said.get("flush"))
        if said.get("close_context"):
            context.closing.set()
        if context.flush and context.task is None:
            context.task = asyncio.create_task(self._generate(name, context, contexts, socket, request))
        elif context.closing.is_set() and context.task is None:
            del contexts[name]
        return True

    async def _fail(self, socket: web.WebSocketResponse, error: str, message: str, code: int = 1008) -> bool:
        await socket.send_json({"message": message, "error": error, "code": code})
        await socket.close(code=code, message=message.encode())
        return False

    async def _generate(
        self, name: str, context: Spoken, contexts: dict[str, Spoken], socket: Any, request: web.Request
    ) -> None:
        if context.fault == "hang":
            await asyncio.sleep(30)
        if context.fault in {"quota_exceeded", "invalid_api_key", "voice_not_found", "concurrent_limit_exceeded"}:
            await self._fail(socket, context.fault, f"{context.fault}, your key is {KEY}")
            return
        if context.fault == "1011":
            await socket.close(code=1011, message=b"internal error")
            return
        query = self.queries[-1]
        text = context.text.strip()
        for number, (audio, aligned) in enumerate(self.chunks(text, query["output_format"])):
            if context.fault in {"cut", "hang_middle"} and number == 2:
                if context.fault == "cut":
                    request.transport.abort()
                await asyncio.sleep(30)
            if context.fault == "garbage":
                await socket.send_str('{"audio": "%%%", "contextId": "s1"}')
            if context.fault == "bad_utf8":
                await socket.send_bytes(b'{"contextId": "\xff"}')
            if context.fault != "silent":
                encoded = base64.b64encode(audio).decode()
                await self._send(socket, {"audio": encoded, "isFinal": None, **aligned, "contextId": name})
            await asyncio.sleep(self.chunk_s)
        await context.closing.wait()
        await asyncio.sleep(self.final_s)
        if context.fault != "no_final":
            contexts.pop(name, None)
            await self._send(socket, {"isFinal": True, "contextId": name})

    async def _send(self, socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
        self.sent.append(message)
        with suppress(ConnectionResetError):
            await socket.send_json(message)

    def chunks(self, text: str, output_format: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Sound and alignments; a chunk may begin and end within a word."""
        audio = sound(text, output_format)
        bytes_a_char = len(audio) // max(1, len(text))
        steps = [(at, min(at + self.chunk_chars, len(text))) for at in range(0, len(text), self.chunk_chars)]
        if self.alignment == "restart":
            steps = [(0, len(text) // 2), (len(text) // 2, len(text))]
        for begin, end in steps:
            from_ = 0 if self.alignment == "restart" else begin
            exact = _alignment(text[from_:end])
            lead = " " if begin == 0 else ""
            normalized = _alignment(lead + text[begin:end].replace("7", "seven"))
            kinds = {"exact": (exact, normalized), "restart": (exact, None), "normalized": (None, normalized)}
            first, second = kinds.get(self.alignment, (None, None))
            yield audio[begin * bytes_a_char : end * bytes_a_char], {"alignment": first, "normalizedAlignment": second}

    # -- HTTP -----------------------------------------------------------------------------------

    async def stream(self, request: web.Request) -> web.StreamResponse:
        fault = self.script.pop(0) if self.script else ""
        body = await request.json()
        self.bodies.append(body)
        self.queries.append({**request.query, "voice": request.match_info["voice"]})
        self.asked.set()
        refusal = self._refusal(request, fault)
        if refusal is not None:
            return refusal
        if fault == "hang":
            await until_closed(request)
        if fault == "json":
            return web.json_response({"oops": 1})
        response = web.StreamResponse(headers={"Content-Type": "audio/basic"})
        await response.prepare(request)
        audio = sound(body["text"].strip(), request.query["output_format"])
        try:
            for at in range(0, len(audio), 333):  # odd: samples are cut in two
                if request.transport is None or request.transport.is_closing():
                    raise ConnectionResetError
                if fault in {"cut", "hang_middle"} and at > 999:
                    if fault == "cut":
                        request.transport.abort()
                        return response
                    await until_closed(request)
                await response.write(audio[at : at + 333])
                await asyncio.sleep(self.chunk_s)
            if fault == "odd":
                await response.write(b"\x01")
        except (ConnectionResetError, asyncio.CancelledError):
            self.cancelled.set()
            raise
        return response

    async def voice(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request, "")
        if refusal is not None:
            return refusal
        if request.match_info["voice"] != VOICE:
            return _error(404, "voice_not_found", "A voice with that id was not found.")
        return web.json_response({"voice_id": VOICE, "name": "George"})

    def _refusal(self, request: web.Request, fault: str) -> web.StreamResponse | None:
        given = request.headers.get("xi-api-key", "")
        if given != KEY:
            return _error(401, "invalid_api_key", f"Invalid API key {given}")
        if fault == "quota":
            return _error(401, "quota_exceeded", "You have 0 credits remaining")
        if fault == "429":
            return _error(429, "concurrent_limit_exceeded", "Too many concurrent requests", {"Retry-After": "0.01"})
        if fault == "404":
            return _error(404, "voice_not_found", "A voice with that id was not found.")
        if fault == "422":
            return _error(422, "invalid_parameters", "The parameter is not supported")
        if fault == "500":
            return _error(500, "internal_server_error", f"internal, by the way your key is {KEY}")
        return None


def sound(text: str, output_format: str) -> bytes:
    """A tone as long as the text, in the format asked for."""
    kind, rate = output_format.split("_")
    pcm = tone(int(rate), len(text) * CHAR_MS * int(rate) // 1000)
    return mulaw_encode(pcm) if kind == "ulaw" else pcm


def length_ms(pcm: bytes, rate: int) -> float:
    return np.frombuffer(pcm, "<i2").size * 1000 / rate


def _alignment(text: str) -> dict[str, Any]:
    return {
        "chars": list(text),
        "charStartTimesMs": [CHAR_MS * at for at in range(len(text))],
        "charDurationsMs": [CHAR_MS] * len(text),
    }


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    detail = {"type": "error", "code": code, "status": code, "message": message, "request_id": "r1"}
    return web.json_response({"detail": detail}, status=status, headers=headers)


@asynccontextmanager
async def serving(loopback: Loopback) -> AsyncIterator[Loopback]:
    app = web.Application()
    app.router.add_get("/v1/text-to-speech/{voice}/multi-stream-input", loopback.multi)
    app.router.add_post("/v1/text-to-speech/{voice}/stream", loopback.stream)
    app.router.add_get("/v1/voices/{voice}", loopback.voice)
    async with listening(app) as place:
        loopback.place = place
        yield loopback
