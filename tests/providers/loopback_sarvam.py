"""Sarvam on this machine: its REST endpoints and both sockets as documented, broken where a script says so.

Each request or connection takes the next fault of its endpoint's script (none: all goes well). The ``sarvamai``
SDK is run against it too, which is the proof that this server's picture of the protocol is the vendor's.
"""

import asyncio
import base64
import gc
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

from antiphon.media.codec import mulaw_encode, wav_read, wav_write
from antiphon.providers.tts.fake import tone

KEY = "sk_loopback_secret_0123456789"
WORDS = "मुझे फीस के बारे में बताइए"
LANGUAGE, PROBABILITY = "hi-IN", 0.93
CHAR_MS = 60
PIECE_MS = 100


class Loopback:
    """``requests`` holds what was received, by endpoint; ``messages`` what each connection of a socket was sent."""

    def __init__(self) -> None:
        self.script: defaultdict[str, list[str]] = defaultdict(list)
        self.requests: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.messages: defaultdict[str, list[list[dict[str, Any]]]] = defaultdict(list)
        self.headers: list[dict[str, str]] = []
        self.news = asyncio.Condition()
        self.closed: defaultdict[str, int] = defaultdict(int)
        """By endpoint: requests that the client gave up, and sockets that are over."""
        self.words = WORDS
        self.retry_after = "3"
        self.piece_s = 0.0
        """Between two pieces of sound."""
        self.final_s = 0.0
        self.produced = 0
        """Pieces of sound made, all requests together."""
        self.splits_after = 0
        """Bytes of audio after which an utterance is cut in two by the endpoint; 0: never."""
        self.content_type = "audio/linear16"
        self.base_url = self.ws_url = ""
        self._open: defaultdict[str, set[web.WebSocketResponse]] = defaultdict(set)

    async def until(self, true: Any) -> None:
        async with asyncio.timeout(3), self.news:
            await self.news.wait_for(true)

    async def _note(self) -> None:
        async with self.news:
            self.news.notify_all()

    # -- REST -------------------------------------------------------------------------------------

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        upload = form["file"]
        assert isinstance(upload, web.FileField)
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        audio = upload.file.read()
        self.requests["stt"].append({**fields, "audio": audio, "type": upload.content_type, "name": upload.filename})
        refused = await self._before(request, "stt")
        if refused is not None:
            return refused
        spoken = any(wav_read(audio)[0]) if audio[:4] == b"RIFF" else True
        answer: dict[str, Any] = {"request_id": "r1", "transcript": self.words if spoken else ""}
        if fields.get("language_code", "unknown") == "unknown":
            answer |= {"language_code": LANGUAGE, "language_probability": PROBABILITY}
        else:
            answer |= {"language_code": fields["language_code"], "language_probability": None}
        return web.json_response(answer)

    async def synthesize(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests["tts"].append(body)
        refused = await self._before(request, "tts")
        if refused is not None:
            return refused
        if not body["text"].strip() or len(body["text"]) > 2500:
            return _error(400, "invalid_request_error", "text : String should have 1 to 2500 characters")
        if body.get("language_code", "").partition("-")[2] != "IN":
            return _error(400, "invalid_request_error", "body.language_code : Field required")
        rate = int(body.get("speech_sample_rate", 22_050))
        wav = wav_write(self._sound(body["text"], rate), rate)
        return web.json_response({"request_id": "r2", "audios": [base64.b64encode(wav).decode()]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests["llm"].append(body)
        refused = await self._before(request, "llm")
        if refused is not None:
            return refused
        content = None if self._take("llm_content") == "none" else self.words
        message = {"role": "assistant", "content": content, "reasoning_content": None}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        return web.json_response({**whole, "usage": usage})

    async def _before(self, request: web.Request, endpoint: str) -> web.StreamResponse | None:
        """The answer of a script's fault; ``None``: go on."""
        self.headers.append(dict(request.headers))
        await self._note()
        if request.headers.get("api-subscription-key") != KEY:
            given = request.headers.get("api-subscription-key", "")
            return _error(403, "invalid_api_key_error", f"Invalid authentication credentials: {given}")
        fault = self._take(endpoint)
        if fault == "429":
            return _error(429, "rate_limit_exceeded_error", "slow down", {"Retry-After": self.retry_after})
        if fault == "quota":
            return _error(429, "insufficient_quota_error", "no credits available")
        if fault == "500":
            return _error(500, "internal_server_error", f"by the way your key is {KEY}")
        if fault == "redirect":
            return web.Response(status=307, headers={"Location": f"{self.base_url}/elsewhere"})
        if fault == "garbage":
            return web.Response(text="<html>", content_type="text/html")
        if fault == "bad_utf8":
            bad = b'{"transcript": "\xff", "audios": "\xff", "choices": [{"message": {"content": "\xff"}}]}'
            return web.Response(body=bad, content_type="application/json")
        if fault == "reset":
            request.transport.abort()
        elif fault == "hang":
            await self._until_closed(request, endpoint)
        return None

    async def elsewhere(self, request: web.Request) -> web.Response:
        self.requests["elsewhere"].append(dict(request.headers))
        return web.Response()

    async def _until_closed(self, request: web.Request, endpoint: str) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            self.closed[endpoint] += 1
            await asyncio.shield(self._note())

    def _take(self, endpoint: str) -> str:
        return self.script[endpoint].pop(0) if self.script[endpoint] else ""

    def _sound(self, text: str, rate: int) -> bytes:
        return tone(rate, len(text) * CHAR_MS * rate // 1000)

    # -- the realtime socket ----------------------------------------------------------------------

    async def realtime(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.requests["realtime"].append(query)
        refused = await self._before(request, "realtime")
        if refused is not None:
            return refused
        fault = self._take("realtime_socket")
        ws = web.WebSocketResponse(autoclose=False)
        await ws.prepare(request)
        seen: list[dict[str, Any]] = []
        self.messages["realtime"].append(seen)
        self._open["realtime"].add(ws)
        try:
            if fault == "fatal":
                await ws.send_json(_fatal(f"model unavailable for {KEY}", "model_unavailable", 503))
                await ws.close(code=1011)
            elif fault.isdigit():
                await ws.close(code=int(fault), message=f"refused {KEY}".encode())
            elif fault == "no_begin":
                await ws.receive()
            else:
                await ws.send_json({"event": "session.begin", "request_id": "s1", "config": {"model": query["model"]}})
                await _Session(self, ws, request, seen, fault).run()
        finally:
            self._open["realtime"].discard(ws)
            self.closed["realtime"] += 1
            await asyncio.shield(self._note())
        return ws

    # -- the voices' socket -----------------------------------------------------------------------

    async def speak(self, request: web.Request) -> web.StreamResponse:
        self.requests["voice"].append(dict(request.query))
        refused = await self._before(request, "voice")
        if refused is not None:
            return refused
        ws = web.WebSocketResponse(autoclose=False)
        await ws.prepare(request)
        seen: list[dict[str, Any]] = []
        self.messages["voice"].append(seen)
        self._open["voice"].add(ws)
        try:
            await self._voice(request, ws, seen)
        except ConnectionResetError:
            pass
        finally:
            self._open["voice"].discard(ws)
            self.closed["voice"] += 1
            await asyncio.shield(self._note())
        return ws

    async def drop(self, endpoint: str) -> None:
        """Closes all open sockets, as for being idle."""
        for ws in tuple(self._open[endpoint]):
            await ws.close(code=1008, message=b"inactivity")

    async def _voice(self, request: web.Request, ws: web.WebSocketResponse, seen: list[dict[str, Any]]) -> None:
        config: dict[str, Any] = {}
        text = ""
        async for message in ws:
            if message.type is not WSMsgType.TEXT:
                return
            told = json.loads(message.data)
            seen.append(told)
            await self._note()
            if told["type"] == "config":
                config = told["data"]
                if "language_code" not in config or ("v2" not in request.query["model"] and "pitch" in config):
                    await ws.send_json(_voice_error("Input parameters has to be a valid dictionary", 400))
            elif told["type"] == "text":
                text += told["data"]["text"]
            elif told["type"] == "flush":
                if await self._say(request, ws, config, text, self._take("voice_socket")):
                    return
                text = ""

    async def _say(
        self, request: web.Request, ws: web.WebSocketResponse, config: dict[str, Any], text: str, fault: str
    ) -> bool:
        """True if the connection is over."""
        rate = int(config.get("speech_sample_rate", 22_050))
        if fault == "silent":
            await asyncio.sleep(30)
        if fault == "error":
            await ws.send_json(_voice_error(f"bad speaker for {KEY}", 400))
            return False
        if fault == "server_error":
            await ws.send_json(_voice_error("synthesis failed", 500))
            return False
        if fault == "bad_json":
            await ws.send_str('{"type": nonsense')
        if fault == "bad_utf8":
            await ws.send_bytes(b'{"type": "event", "data": {"event_type": "\xff"}}')
        if fault == "bad_close":
            await ws.close(code=1003, message=b"Rate limit exceeded")
            return True
        sound = self._sound(text, rate)
        if config.get("output_audio_codec") == "mulaw":
            sound = mulaw_encode(sound)
        if fault == "wav":
            sound = wav_write(sound, rate)
        step = rate * PIECE_MS // 1000 * (1 if config.get("output_audio_codec") == "mulaw" else 2)
        step += fault == "odd"
        pieces = [sound[at : at + step] for at in range(0, len(sound), step)]
        for number, piece in enumerate(pieces):
            if fault in {"cut", "stall", "reset"} and number == len(pieces) // 2:
                if fault == "stall":
                    await asyncio.sleep(30)
                elif fault == "reset":
                    request.transport.abort()
                else:
                    await ws.close(code=1011, message=b"overloaded")
                return True
            kind = "audio/mpeg" if fault == "mp3" else self.content_type
            data = {"audio": base64.b64encode(piece).decode(), "content_type": kind, "request_id": "r3"}
            self.produced += 1
            await ws.send_json({"type": "audio", "data": data})
            await asyncio.sleep(self.piece_s)
        if fault != "no_final":
            done = {"event_type": "final", "message": "done", "timestamp": "2026-10-06T10:00:00Z"}
            await ws.send_json({"type": "event", "data": done})
        return False


class _Session:
    """One realtime session: utterances between ``speech_start`` and ``speech_end``, counted from 0."""

    def __init__(
        self,
        loopback: Loopback,
        ws: web.WebSocketResponse,
        request: web.Request,
        seen: list[dict[str, Any]],
        fault: str,
    ) -> None:
        self.loopback, self.ws, self.request, self.seen, self.fault = loopback, ws, request, seen, fault
        self.language = request.query["language_code"]
        self.index = 0
        self.audio = bytearray()
        self.active = False

    async def run(self) -> None:
        async for message in self.ws:
            if message.type is not WSMsgType.TEXT:
                return
            told = json.loads(message.data)
            self.seen.append(told)
            await self.loopback._note()
            if not await self._take(told):
                return

    async def _take(self, told: dict[str, Any]) -> bool:
        """False if the connection is over."""
        event = told["event"]
        if event == "audio_input":
            return await self._hear(base64.b64decode(told["audio"]))
        if event == "speech_start":
            self.active = True
            self.audio.clear()
        elif event in {"speech_end", "flush"}:
            return await self._finish()
        elif event == "config.update":
            if told.get("language_code") == "bn-IN":
                await self.ws.send_json(
                    {"event": "error", "code": "invalid_config", "is_fatal": False, "message": "no"}
                )
            else:
                self.language = told["language_code"]
                await self.ws.send_json({"event": "config.updated", "applied": ["language_code"]})
        elif event == "ping":
            await self.ws.send_json({"event": "pong"})
        elif event == "end":
            await self.ws.send_json({"event": "session.end", "request_id": "s1", "audio_duration_s": "1.5"})
            await self.ws.close()
            return False
        return True

    async def _hear(self, pcm: bytes) -> bool:
        before, self.audio[len(self.audio) :] = len(self.audio), pcm
        half = 8000
        if before < half <= len(self.audio):
            if self.fault == "reset_speaking":
                self.request.transport.abort()
                return False
            if self.fault == "fatal_speaking":
                await self.ws.send_json(_fatal("no credits", "insufficient_quota_error", 429))
                await self.ws.close(code=1003)
                return False
            if self.fault == "garbage":
                await self.ws.send_str('{"event": nonsense')
            if self.fault == "bad_utf8":
                await self.ws.send_bytes(b'{"event": "transcript.partial", "text": "\xff"}')
            if any(pcm):
                await self._send("transcript.partial", self.loopback.words.split(" ")[0])
        splits = self.loopback.splits_after
        if splits and before < splits <= len(self.audio):
            await self._final("और")
        return True

    async def _finish(self) -> bool:
        if self.fault == "reset_final":
            self.request.transport.abort()
            return False
        if self.fault == "no_final":
            return True
        await asyncio.sleep(self.loopback.final_s)
        await self._final(self.loopback.words if any(self.audio) else "")
        self.active = False
        return True

    async def _final(self, text: str) -> None:
        await self._send("transcript.final", text)
        self.index += 1

    async def _send(self, event: str, text: str) -> None:
        told: dict[str, Any] = {"event": event, "utterance_idx": self.index, "text": text}
        if self.language == "auto":
            told["language"] = LANGUAGE
            if event == "transcript.final":
                told["language_confidence"] = str(PROBABILITY)  # seen as text
        await self.ws.send_json(told)


def _fatal(message: str, code: str, status: int) -> dict[str, Any]:
    return {"event": "error", "code": code, "is_fatal": True, "message": message, "status_code": status}


def _voice_error(message: str, code: int) -> dict[str, Any]:
    return {"type": "error", "data": {"message": message, "code": code, "request_id": "r4"}}


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "code": code, "request_id": "e1"}}
    return web.json_response(body, status=status, headers=headers)


def tasks_left() -> list[str]:
    """What of the providers still runs in this loop."""
    codes = [getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()]
    return [
        code.co_qualname
        for code in codes
        if code is not None and "antiphon" in code.co_filename and "/src/" in code.co_filename
    ]


@asynccontextmanager
async def serving(loopback: Loopback | None = None) -> AsyncIterator[Loopback]:
    loopback = loopback or Loopback()
    unclosed: list[str] = []
    gc.freeze()  # the collection at the end looks at what was made since: a sixth of a second less
    # aiohttp tells here of sessions that were left to the garbage collector.
    asyncio.get_running_loop().set_exception_handler(lambda _, told: unclosed.append(told["message"]))
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_post("/speech-to-text", loopback.transcribe)
    app.router.add_post("/text-to-speech", loopback.synthesize)
    app.router.add_post("/v1/chat/completions", loopback.chat)
    app.router.add_get("/speech-to-text-realtime/ws", loopback.realtime)
    app.router.add_get("/text-to-speech/ws", loopback.speak)
    app.router.add_route("*", "/elsewhere", loopback.elsewhere)
    # handler_cancellation: a closed connection is seen at once, as by a server that stops generating.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    place = f"127.0.0.1:{runner.addresses[0][1]}"
    loopback.base_url, loopback.ws_url = f"http://{place}", f"ws://{place}"
    try:
        yield loopback
    finally:
        await runner.cleanup()
    gc.collect()
    gc.unfreeze()
    assert not unclosed
