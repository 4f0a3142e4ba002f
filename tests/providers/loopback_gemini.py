"""The Gemini API on this machine: ``models.streamGenerateContent`` and ``models.get``, as documented, and broken.

Each POST takes the next fault of ``script`` (an empty script: all goes well). Google's own SDK (``google-genai``) is
run against it too, which is the proof that this server's picture of the protocol is the vendor's.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from listening import listening, until_closed

KEY = "AIza-loopback-secret-0123456789"
REPLY = "You need a bachelor's degree. फीस ₹1,250 है।"
SIGNATURE = "c2lnbmF0dXJl"


class Loopback:
    """``requests`` holds every body received; ``cancelled`` is set when a client closed its request early."""

    def __init__(self, reply: str = REPLY) -> None:
        self.reply = reply
        self.script: list[str] = []
        self.tool_rounds: list[list[dict[str, Any]]] = []
        """For each of the first requests, the parts to send instead of text."""
        self.requests: list[dict[str, Any]] = []
        self.queries: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[int] = set()
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.token_s = 0.0
        self.retry_after: dict[str, str] = {"Retry-After": "0.01"}
        self.place = ""

    @property
    def base_url(self) -> str:
        return f"{self.place}/v1beta"

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        model, _, method = request.match_info["name"].partition(":")
        self.requests.append(body)
        self.queries.append(f"{method}?{request.query_string}")
        self.headers.append(dict(request.headers))
        self.connections.add(id(request.transport))
        self.asked.set()
        early = self._before(request, model, self.script.pop(0) if self.script else "")
        if isinstance(early, web.StreamResponse):
            return early
        if method == "generateContent":
            return web.json_response(self._whole())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if early == "slow_first_byte":
            await until_closed(request)
        await response.prepare(request)
        try:
            await self._stream(request, response, early)
        except (ConnectionResetError, asyncio.CancelledError):
            self.cancelled.set()
            raise
        return response

    async def describe(self, request: web.Request) -> web.StreamResponse:
        refusal = self._before(request, request.match_info["name"], "")
        if isinstance(refusal, web.StreamResponse):
            return refusal
        return web.json_response({"name": "models/test", "supportedGenerationMethods": ["generateContent"]})

    def _before(self, request: web.Request, model: str, fault: str) -> web.StreamResponse | str:
        if request.headers.get("x-goog-api-key") != KEY:
            given = request.headers.get("x-goog-api-key", "")
            return _error(400, f"API key not valid: {given}", "INVALID_ARGUMENT", [_info("API_KEY_INVALID")])
        if model != "test":
            return _error(404, f"models/{model} is not found for API version v1beta", "NOT_FOUND")
        if fault == "429":
            return _error(429, "You exceeded your current quota", "RESOURCE_EXHAUSTED", headers=self.retry_after)
        if fault == "429_in_body":
            retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "30s"}
            return _error(429, "You exceeded your current quota", "RESOURCE_EXHAUSTED", [retry])
        if fault == "500":
            return _error(500, f"internal, by the way your key is {KEY}", "INTERNAL")
        if fault == "503":
            return _error(503, "The model is overloaded.", "UNAVAILABLE")
        if fault == "403":
            return _error(403, "Permission denied", "PERMISSION_DENIED")
        if fault == "400":
            return _error(400, "Function call is missing a thought_signature", "INVALID_ARGUMENT")
        if fault == "redirect":
            return web.Response(status=307, headers={"Location": "http://127.0.0.1:9/elsewhere"})
        return fault

    async def _stream(self, request: web.Request, response: web.StreamResponse, fault: str) -> None:
        if fault == "hang":
            await until_closed(request)
        if fault == "garbage":
            await response.write(b'data: {"candidates": [nonsense\r\n\r\n')
        if fault == "bad_utf8":
            await response.write(b'data: {"candidates": [{"content": {"parts": [{"text": "\xff"}]}}]}\r\n\r\n')
        if fault == "error_event":
            await response.write(_event({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}))
            return
        if fault == "reset":
            request.transport.abort()
            return
        pieces = list(self._pieces(fault))
        if fault == "cut_early":
            pieces = pieces[:0]
        elif fault in {"cut", "hang_middle"}:
            pieces = pieces[: len(pieces) // 2]
        if fault == "split_bytes":
            pieces = [bytes([byte]) for byte in b"".join(pieces)]
        for piece in pieces:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError
            await response.write(piece)
            if self.token_s:
                await asyncio.sleep(self.token_s)
        if fault == "cut":
            request.transport.abort()
        elif fault == "hang_middle":
            await until_closed(request)

    def _pieces(self, fault: str) -> Iterator[bytes]:
        rounds = len(self.requests) - 1
        if fault == "blocked_prompt":
            yield _event({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": _usage()})
        elif fault == "empty":
            yield _chunk([], "STOP")
        elif fault == "only_thought":
            yield _chunk([{"text": "Thinking ...", "thought": True}], "MAX_TOKENS")
        elif fault in {"SAFETY", "MALFORMED_FUNCTION_CALL"}:
            yield _event({"candidates": [{"finishReason": fault, "index": 0}], "usageMetadata": _usage()})
        elif rounds < len(self.tool_rounds):
            for part in self.tool_rounds[rounds]:
                yield _chunk([part])
            yield _chunk([{"text": ""}], "STOP")
        else:
            if fault == "thought":
                yield _chunk([{"text": "The caller wants ...", "thought": True}])
            words = self.reply.split(" ")
            for number, word in enumerate(words):
                yield _chunk([{"text": f" {word}" if number else word}])
            # As Gemini 3 ends: an empty text that carries the signature.
            yield _chunk([{"text": "", "thoughtSignature": SIGNATURE}], "MAX_TOKENS" if fault == "length" else "STOP")

    def _whole(self) -> dict[str, Any]:
        content = {"parts": [{"text": self.reply}], "role": "model"}
        return {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": _usage()}


def _usage() -> dict[str, int]:
    return {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\r\n\r\n"


def _chunk(parts: list[dict[str, Any]], finish: str | None = None) -> bytes:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return _event({"candidates": [candidate], "usageMetadata": _usage(), "modelVersion": "test", "responseId": "r1"})


def _info(reason: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def _error(
    status: int, message: str, name: str, details: list[Any] | None = None, headers: dict[str, str] | None = None
) -> web.Response:
    error: dict[str, Any] = {"code": status, "message": message, "status": name}
    if details:
        error["details"] = details
    return web.json_response({"error": error}, status=status, headers=headers)


@asynccontextmanager
async def serving(loopback: Loopback) -> AsyncIterator[Loopback]:
    app = web.Application()
    app.router.add_post("/v1beta/models/{name}", loopback.generate)
    app.router.add_get("/v1beta/models/{name}", loopback.describe)
    async with listening(app) as place:
        loopback.place = f"http://{place}"
        yield loopback
