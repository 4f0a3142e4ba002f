"""A chat endpoint on this machine that speaks the documented protocol, and breaks it where a script says so.

Each POST takes the next fault of ``script`` (an empty script: all goes well). The ``openai`` SDK is run
against it too, which is the proof that this server's picture of the protocol is the vendor's.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

KEY = "sk-loopback-secret-0123456789"
REPLY = "You need a bachelor's degree. फीस ₹1,250 है।"


class Loopback:
    """``requests`` holds every body received, ``cancelled`` counts connections that the client closed early."""

    def __init__(self, reply: str = REPLY, *, auth_header: str = "Authorization", scheme: str = "Bearer ") -> None:
        self.reply = reply
        self.script: list[str] = []
        self.tool_rounds: list[list[dict[str, Any]]] = []
        """For each of the first requests, the ``delta.tool_calls`` pieces to send instead of text."""
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[int] = set()
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.token_s = 0.0
        self.retry_after = "0.01"
        self.finish = "stop"
        self.base_url = ""
        self._auth = (auth_header, scheme + KEY)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.asked.set()
        self.headers.append(dict(request.headers))
        self.connections.add(id(request.transport))
        if request.headers.get(self._auth[0]) != self._auth[1]:
            given = request.headers.get(self._auth[0], "")
            return _error(401, f"Incorrect API key provided: {given}", "invalid_api_key")
        fault = self.script.pop(0) if self.script else ""
        early = self._before(fault)
        if early is not None:
            return early
        if not body.get("stream"):
            return web.json_response(self._whole(body))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        if fault == "slow_first_byte":
            await self._until_closed(request, 30)
        await response.prepare(request)
        try:
            await self._stream(request, response, fault, body)
        except (ConnectionResetError, asyncio.CancelledError):
            self.cancelled.set()
            raise
        return response

    async def models(self, request: web.Request) -> web.Response:
        if self.script[:1] == ["bad_utf8"]:
            return web.Response(body=b'{"data": [{"id": "\xff"}]}', content_type="application/json")
        return web.json_response({"object": "list", "data": [{"id": "models/test", "object": "model", "created": 0}]})

    def _before(self, fault: str) -> web.StreamResponse | None:
        if fault == "429":
            return _error(429, "Rate limit reached", "rate_limit_exceeded", {"Retry-After": self.retry_after})
        if fault == "quota":
            return _error(429, "You exceeded your current quota", "insufficient_quota")
        if fault == "500":
            return _error(500, f"internal, by the way your key is {KEY}", "server_error")
        if fault == "400":
            return _error(400, "This model's maximum context length is 8192", "context_length_exceeded")
        if fault == "404":
            return web.json_response({"error": "model 'x' not found"}, status=404)
        if fault == "gemini_400":
            return web.json_response(
                [{"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}], status=400
            )
        if fault == "html_502":
            return web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")
        if fault == "redirect":
            return web.Response(status=307, headers={"Location": "http://127.0.0.1:9/elsewhere"})
        if fault == "not_streamed":
            return web.json_response(self._whole({"model": "test"}))
        return None

    async def _stream(self, request: web.Request, response: web.StreamResponse, fault: str, body: Any) -> None:
        if fault == "hang":
            await self._until_closed(request, 30)
        if fault == "garbage":
            await response.write(b'data: {"choices": [nonsense\n\n')
        if fault == "bad_utf8":
            await response.write(b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n')
        if fault == "long_line":
            for _ in range(40):
                await response.write(b"data: " + b"x" * 65_536 if _ == 0 else b"x" * 65_536)
            await self._until_closed(request, 30)
        if fault == "error_event":
            await response.write(_event({"error": {"message": "engine is overloaded", "type": "server_error"}}))
            await response.write(b"data: [DONE]\n\n")
            return
        if fault == "reset":
            request.transport.abort()
            return
        pieces = list(self._pieces(body, fault))
        if fault == "cut_early":
            pieces = pieces[:1]
        elif fault in {"cut", "hang_middle"}:
            pieces = pieces[: len(pieces) // 2]
        if fault == "split_bytes":
            for byte in b"".join(pieces) + b"data: [DONE]\n\n":
                await response.write(bytes([byte]))
            return
        if fault == "crlf_comments":
            pieces = [b": OPENROUTER PROCESSING\r\n\r\n" + piece.replace(b"\n", b"\r\n") for piece in pieces]
        for piece in pieces:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError
            await response.write(piece)
            if self.token_s:
                await asyncio.sleep(self.token_s)
        if fault == "cut":
            request.transport.abort()
        elif fault == "hang_middle":
            await self._until_closed(request, 30)
        elif fault not in {"cut_early", "no_done"}:
            await response.write(b"data: [DONE]\n\n")

    def _pieces(self, body: Any, fault: str) -> Sequence[bytes]:
        yield _chunk({"role": "assistant", "content": ""})
        rounds = len(self.requests) - 1
        if rounds < len(self.tool_rounds):
            for piece in self.tool_rounds[rounds]:
                yield _chunk({"tool_calls": [piece]})
            yield _chunk({}, "tool_calls")
            return
        if fault == "reasoning":
            yield _chunk({"reasoning_content": "The caller wants ..."})
            for piece in ("<th", "ink>The caller", " wants </thi", "nk>\n\n"):
                yield _chunk({"content": piece})
        if fault == "refusal":
            yield _chunk({"refusal": "I can't help with that."})
        elif fault != "empty":
            for word in self.reply.split(" "):
                yield _chunk({"content": word if word == self.reply.split(" ")[0] else f" {word}"})
        yield _chunk({}, self.finish)
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
            yield _event({**_envelope(), "choices": [], "usage": usage})

    def _whole(self, body: Any) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.reply, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return {**_envelope(), "object": "chat.completion", "choices": [choice]}

    async def _until_closed(self, request: web.Request, seconds: float) -> None:
        """Sends nothing more; ends when the client closes, as a real server's generation does."""
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            if request.transport is None or request.transport.is_closing():
                break
            await asyncio.sleep(0.005)
        raise ConnectionResetError


def _envelope() -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "test"}


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _event({**_envelope(), "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]})


def _error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


@asynccontextmanager
async def serving(loopback: Loopback) -> AsyncIterator[Loopback]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", loopback.chat)
    app.router.add_get("/v1/models", loopback.models)
    # handler_cancellation: a closed connection is seen at once, as by a server that stops generating.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    loopback.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield loopback
    finally:
        await runner.cleanup()
