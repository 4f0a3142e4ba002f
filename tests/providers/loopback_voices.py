"""Endpoints on this machine for the LiveKit plugins: OpenAI's ``/audio/speech``, Deepgram's ``/listen`` and ``/speak``.

Written from platform.openai.com "Create speech" and developers.deepgram.com "Live Audio", "Text to Speech REST" and
"WebSocket"; the plugins that are run against them are the proof that it is what they expect.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

from antiphon.providers.tts.fake import tone

KEY = "dg-loopback-secret-0123456789"
SAID = "what are the admission requirements"
RATE = 24_000


def sound(text: str, rate: int) -> bytes:
    return tone(rate, rate * 60 // 1000 * len(text))


class Voices:
    def __init__(self) -> None:
        self.script: list[str] = []
        self.said = SAID
        self.asked: list[dict[str, Any]] = []
        self.audio: list[int] = []
        """Bytes of each listening session."""
        self.sessions = 0
        self.cancelled = asyncio.Event()
        self.base_url = ""

    def _fault(self) -> str:
        return self.script.pop(0) if self.script else ""

    async def openai_speech(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            error = {"message": f"Incorrect API key: {request.headers.get('Authorization')}", "code": "invalid_api_key"}
            return web.json_response({"error": error}, status=401)
        fault = self._fault()
        if fault:
            return web.json_response({"error": {"message": "no"}}, status=int(fault))
        pcm = sound(body["input"], RATE)
        events = body.get("stream_format") == "sse"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream" if events else "audio/pcm"})
        await response.prepare(request)
        # Cut at an odd byte on purpose.
        for at in range(0, len(pcm), 4801):
            piece = pcm[at : at + 4801]
            if events:
                event = {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()}
                piece = f"data: {json.dumps(event)}\n\n".encode()
            await response.write(piece)
        if events:
            await response.write(b'data: {"type": "speech.audio.done", "usage": {}}\n\n')
        return response

    async def deepgram_listen(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Token {KEY}":
            return web.json_response({"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials."}, status=401)
        fault = self._fault()
        self.sessions += 1
        self.asked.append(dict(request.query))
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        words, told, heard = self.said.split(), 0, 0
        per_word = int(request.query["sample_rate"]) * 2 // 5  # 200 ms
        async for message in ws:
            if message.type == WSMsgType.BINARY:
                heard += len(message.data)
                if told < min(len(words), heard // per_word):
                    told = min(len(words), heard // per_word)
                    await ws.send_json(_results(" ".join(words[:told])))
                    if fault == "close":
                        await ws.close(code=1011)
                    if fault == "drop" and request.transport is not None:
                        request.transport.abort()
                continue
            order = json.loads(message.data)["type"]
            if order == "Finalize":
                await ws.send_json(_results(self.said, final=True))
            elif order == "CloseStream":
                await ws.send_json({"type": "Metadata", "request_id": "r", "duration": 1.0})
                await ws.close()
        self.audio.append(heard)
        if ws.close_code not in {1000, 1011}:
            self.cancelled.set()
        return ws

    async def deepgram_speak(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Token {KEY}":
            return web.json_response({"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials."}, status=401)
        rate = int(request.query["sample_rate"])
        if request.method == "POST":
            text = (await request.json())["text"]
            self.asked.append({**request.query, "text": text})
            response = web.StreamResponse(headers={"Content-Type": "audio/l16"})
            await response.prepare(request)
            pcm = sound(text, rate)
            if self._fault() == "hang":
                await response.write(pcm[:4801])
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
            for at in range(0, len(pcm), 4801):
                await response.write(pcm[at : at + 4801])
            return response
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self.sessions += 1
        text = ""
        async for message in ws:
            order = json.loads(message.data)
            if order["type"] == "Speak":
                text += order["text"]
            elif order["type"] == "Flush":
                self.asked.append({**request.query, "text": text})
                await ws.send_bytes(sound(text.strip(), rate))
                await ws.send_json({"type": "Flushed", "sequence_id": 0})
                text = ""
            elif order["type"] == "Close":
                await ws.close()
        return ws


def _results(text: str, *, final: bool = False) -> dict[str, Any]:
    words = [
        {"word": word, "start": at * 0.2, "end": at * 0.2 + 0.2, "confidence": 0.9, "punctuated_word": word}
        for at, word in enumerate(text.split())
    ]
    return {
        "type": "Results",
        "channel_index": [0, 1],
        "duration": 1.0,
        "start": 0.0,
        "is_final": final,
        "speech_final": final,
        "from_finalize": final,
        "channel": {"alternatives": [{"transcript": text, "confidence": 0.9 if text else 0.0, "words": words}]},
        "metadata": {"request_id": "r", "model_info": {}, "model_uuid": "m"},
    }


@asynccontextmanager
async def serving(voices: Voices) -> AsyncIterator[Voices]:
    app = web.Application()
    app.router.add_post("/v1/audio/speech", voices.openai_speech)
    app.router.add_get("/v1/listen", voices.deepgram_listen)
    app.router.add_post("/v1/speak", voices.deepgram_speak)
    app.router.add_get("/v1/speak", voices.deepgram_speak)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    voices.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield voices
    finally:
        await runner.cleanup()
