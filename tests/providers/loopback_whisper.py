"""A transcription endpoint on this machine that speaks the documented protocol, and breaks it where a script says so.

Each POST takes the next fault of ``script`` (an empty script: all goes well). The ``openai`` SDK is run against it
too, which is the proof that this server's picture of the protocol is the vendor's.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from antiphon.media.codec import wav_read

KEY = "sk-loopback-secret-0123456789"
TEXT = "what are the admission requirements"


class Request:
    """What one POST brought. ``fields`` without the file, in order; ``pcm`` and ``rate`` are the file's."""

    def __init__(self, fields: list[tuple[str, str]], pcm: bytes, rate: int, name: str, kind: str) -> None:
        self.fields = fields
        self.pcm = pcm
        self.rate = rate
        self.filename = name
        self.content_type = kind

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field == name]

    def one(self, name: str) -> str:
        return (self.all(name) or [""])[0]


class Loopback:
    def __init__(self, text: str = TEXT) -> None:
        self.texts: list[str] = []
        """For each of the next requests, what it hears; ``text`` once they are used up."""
        self.text = text
        self.script: list[str] = []
        self.requests: list[Request] = []
        self.connections: set[object] = set()
        """The ports that clients came from."""
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.answered = asyncio.Event()
        self.gate = asyncio.Event()
        """Set it to let requests with the fault ``gated`` go on."""
        self.gate_streams = False
        """True: a stream waits for ``gate`` after its first event."""
        self.retry_after = "0.01"
        self.language = "hindi"
        self.languages: list[str] = ["en"]
        self.segments: list[dict[str, Any]] | None = None
        self.base_url = ""

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        upload = form["file"]
        pcm, rate = wav_read(upload.file.read())
        fields = [(name, value) for name, value in form.items() if name != "file"]
        asked = Request(fields, pcm, rate, upload.filename, upload.content_type)
        self.requests.append(asked)
        self.connections.add(request.transport.get_extra_info("peername"))
        self.asked.set()
        given = request.headers.get("Authorization", "")
        if given != f"Bearer {KEY}":
            return _error(401, f"Incorrect API key provided: {given}", "invalid_api_key")
        fault = self.script.pop(0) if self.script else ""
        early = _early(fault, self.retry_after)
        if early is not None:
            return early
        text = self.texts.pop(0) if self.texts else self.text
        try:
            if fault == "hang":
                await asyncio.sleep(30)
            if fault == "gated":
                await self.gate.wait()
            if asked.one("stream") == "true" and asked.one("model") != "whisper-1":
                return await self._stream(request, text, fault, asked)
        except (ConnectionResetError, asyncio.CancelledError):
            self.cancelled.set()
            raise
        body = self._whole(text, asked.one("response_format"), asked)
        if fault == "cut_body":
            response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "4000"})
            await response.prepare(request)
            await response.write(json.dumps(body).encode())
            request.transport.abort()
            return response
        return web.json_response(body)

    async def models(self, request: web.Request) -> web.Response:
        if self.script[:1] == ["bad_utf8"]:
            return web.Response(body=b'{"data": [{"id": "\xff"}]}', content_type="application/json")
        return web.json_response({"object": "list", "data": [{"id": "whisper-1", "object": "model", "created": 0}]})

    async def _stream(self, request: web.Request, text: str, fault: str, asked: Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.answered.set()
        for number, payload in enumerate(self._events(text, fault, asked)):
            if number == 1 and self.gate_streams:
                await self.gate.wait()
            if number == 2 and fault == "cut":
                request.transport.abort()
                return response
            if number == 2 and fault == "ends_early":
                return response
            if number == 2 and fault == "stall":
                await asyncio.sleep(30)
            await response.write(payload)
        if fault == "stays_open":
            await asyncio.sleep(30)
        return response

    def _events(self, text: str, fault: str, asked: Request) -> list[bytes]:
        words = [f"{' ' if at else ''}{word}" for at, word in enumerate(text.split())]
        if fault == "by_segment":
            half = len(words) // 2
            return [_event({"text": "".join(part).strip()}) for part in (words[:half], words[half:])]
        if fault == "chat_like":
            chunks = [_event({"object": "transcription.chunk", "choices": [{"delta": {"content": w}}]}) for w in words]
            return [*chunks, b"data: [DONE]\n\n"]
        if fault == "garbage":
            return [b"data: {nonsense\n\n"]
        if fault == "bad_utf8":
            return [b'data: {"type": "transcript.text.delta", "delta": "\xff"}\n\n']
        if fault == "error_event":
            return [_event({"type": "error", "error": {"message": f"overloaded, key {KEY}", "type": "server_error"}})]
        if fault == "too_long":
            return [_event({"type": "transcript.text.delta", "delta": "word " * 2000}) for _ in range(5)]
        events = [_event({"type": "transcript.text.delta", "delta": word}) for word in words]
        done: dict[str, Any] = {"type": "transcript.text.done", "text": text}
        if asked.one("model").startswith("gpt-transcribe"):
            done["languages"] = [{"code": code} for code in self.languages]
        if "logprobs" in asked.all("include[]"):
            done["logprobs"] = _logprobs()
        return [*events, _event(done)]

    def _whole(self, text: str, kind: str, asked: Request) -> dict[str, Any]:
        if kind != "verbose_json":
            more: dict[str, Any] = {}
            if "logprobs" in asked.all("include[]"):
                more["logprobs"] = _logprobs()
            if asked.one("model").startswith("gpt-transcribe"):
                more["languages"] = [{"code": code} for code in self.languages]
            return {"text": text, **more}
        segments = self.segments if self.segments is not None else [segment(text)]
        joined = "".join(each["text"] for each in segments)
        return {
            "task": "transcribe",
            "language": self.language,
            "duration": len(asked.pcm) / 2 / asked.rate,
            "text": joined,
            "segments": segments,
        }


def segment(text: str, avg_logprob: float = -0.2, no_speech_prob: float = 0.01, ratio: float = 1.1) -> dict[str, Any]:
    return {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": 2.0,
        "text": f" {text}",
        "tokens": [1, 2],
        "temperature": 0.0,
        "avg_logprob": avg_logprob,
        "compression_ratio": ratio,
        "no_speech_prob": no_speech_prob,
    }


def _logprobs() -> list[dict[str, Any]]:
    return [{"token": "a", "logprob": -0.1, "bytes": [97]}, {"token": "b", "logprob": -0.3, "bytes": [98]}]


def _early(fault: str, retry_after: str) -> web.StreamResponse | None:
    if fault == "429":
        return _error(429, "Rate limit reached", "rate_limit_exceeded", {"Retry-After": retry_after})
    if fault == "quota":
        return _error(429, "You exceeded your current quota", "insufficient_quota")
    if fault == "500":
        return _error(500, f"internal, by the way your key is {KEY}", "server_error")
    if fault == "400":
        return _error(400, "Audio file might be corrupted or unsupported", "invalid_value")
    if fault == "404":
        return web.json_response({"detail": "Model 'x' is not installed locally."}, status=404)
    if fault == "redirect":
        return web.Response(status=307, headers={"Location": "http://127.0.0.1:9/elsewhere"})
    if fault == "not_json":
        return web.Response(text="<html>", content_type="application/json")
    if fault == "body_bad_utf8":
        return web.Response(body=b'{"text": "\xff"}', content_type="application/json")
    if fault == "no_text":
        return web.json_response({"result": "fine"})
    if fault == "huge":
        return web.json_response({"text": "x" * 2_000_000})
    return None


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


@asynccontextmanager
async def serving(loopback: Loopback) -> AsyncIterator[Loopback]:
    app = web.Application(client_max_size=32 << 20)
    app.router.add_post("/v1/audio/transcriptions", loopback.transcribe)
    app.router.add_get("/v1/models", loopback.models)
    # handler_cancellation: a closed connection is seen at once, as by a server that stops working.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    loopback.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield loopback
    finally:
        await runner.cleanup()
