"""A phone agent as a FastAPI server of your own: Twilio's Media Streams, and AgentOrchestrator for every turn.

    pip install -r requirements.txt
    cp .env.example .env                  # fill it in; without a key of Sarvam's the offline parts answer
    python twilio_server.py               # on 127.0.0.1:8000
    python twilio_server.py --self-test   # calls itself over a loopback phone; status 0: it was answered

Have a tunnel or a proxy lead a public HTTPS address to it (`ngrok http 8000`), name that address in PUBLIC_URL, and in
Twilio's console set the number's "A call comes in" to `<PUBLIC_URL>/voice`, HTTP POST.

What `antiphon serve` does besides (streamed answers, journal, recovery, limits per line) this example leaves out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import quoteattr

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect

from antiphon import AntiphonError, NotAllowed, SarvamAI
from antiphon.audio_utils import CHUNK_BYTES, encode_mulaw_base64, mulaw_to_wav, wav_to_mulaw
from antiphon.facade.ports_as_modules import ResponderModule, SynthesizerModule, TranscriberModule
from antiphon.languages import load_languages, phrase
from antiphon.media.gate import Gate, GateSettings
from antiphon.phone import Manners, PhoneScript, Say, place_call
from antiphon.phone.voices import Voices
from antiphon.providers.registry import load
from antiphon.runtime.vad import SileroActivity
from antiphon.secret import FILE_VARIABLE, Secret, lookup
from antiphon.server import twiml
from antiphon.transports.twilio_auth import check_stream, check_webhook
from antiphon.transports.twilio_menu import menu_of
from antiphon.transports.twilio_settings import SAY_VOICES, PhoneSettings
from orchestrator import AgentOrchestrator, MetricsCollector

logger = logging.getLogger("twilio_server")

MENU = menu_of(("en-IN", "hi-IN", "te-IN", "gu-IN"), "en-IN", load_languages())
"""Offers each language in itself, with a key; understands the key and the language's name."""

SYSTEM_PROMPT = "You answer callers of an admissions office. Say it in one to three short sentences."
INACTIVITY_S = 300.0
MAX_CALLS = 10_000
MAX_BODY_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 64 * 1024
MAX_SPEECH_BYTES = 30 * 8000
"""30 s of mu-law: of a longer utterance the rest is not heard."""
PREROLL_BYTES = 400 * 8
"""What was heard just before speech was certain belongs to it: 400 ms."""
CHUNK_S = 0.02

call_language_map: dict[str, str] = {}
"""Call SID to the language chosen in the menu; the oldest go if nobody ever comes for them."""
metrics = MetricsCollector()


class Modules:
    """What every call shares: the providers, and the voice activity detector. ``settings`` say who may call."""

    def __init__(self) -> None:
        self.key = lookup("SARVAM_API_KEY")
        public_url = lookup("PUBLIC_URL")
        self.settings = PhoneSettings(
            auth_token=lookup("TWILIO_AUTH_TOKEN") or Secret(""), public_url=public_url.reveal() if public_url else ""
        )
        self.activity = SileroActivity()
        self.stt_llm_tts: tuple[Any, Any, Any]
        if self.key:
            sarvam = SarvamAI(self.key)
            self.stt_llm_tts = (sarvam, sarvam, sarvam)
        else:
            answers = ResponderModule(load("llm", "extractive"), retriever=load("retrieval", "lexical"))
            ears, voice = TranscriberModule(load("stt", "pocketsphinx")), SynthesizerModule(load("tts", "espeak"))
            self.stt_llm_tts = (ears, answers, voice)

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        await self.activity.start()
        try:
            if not self.key:
                await asyncio.gather(*(module.start() for module in self.stt_llm_tts))
            yield
        finally:
            await self.activity.close()
            for module in self.stt_llm_tts:
                await (module.aclose() if self.key else module.close())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    modules: Modules = getattr(app.state, "modules", None) or Modules()
    app.state.modules = modules
    async with modules.started():
        logger.info("Answering with %s", "Sarvam" if modules.key else "the offline parts: English only")
        yield
    logger.info("Metrics:\n%s", metrics.generate_report())


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health(request: Request) -> dict[str, Any]:
    """``checks``: is there a key of Sarvam's, and a token of Twilio's?"""
    modules: Modules = request.app.state.modules
    checks = {"sarvam_ai": bool(modules.key), "twilio": bool(modules.settings.auth_token)}
    return {"status": "healthy", "checks": checks}


# -- Twilio's webhooks -----------------------------------------------------------------------------


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a webhook that proved itself. Raises ``NotAllowed``."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise NotAllowed("a webhook is not as long as that")
    pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    check_webhook(
        request.app.state.modules.settings,
        path=request.url.path,
        query=request.url.query,
        parameters=pairs,
        client=request.client.host if request.client else "",
        headers=request.headers,
    )
    return dict(pairs)


def answer(*verbs: str) -> Response:
    return Response(twiml.response(*verbs), media_type=twiml.CONTENT_TYPE)


def connect(request: Request) -> tuple[str, str]:
    """Leads the call to ``media_stream``, and ends it after that."""
    settings: PhoneSettings = request.app.state.modules.settings
    here = settings.stream_url() if settings.public_url else f"ws://{request.url.netloc}/media-stream"
    return f"<Connect><Stream url={quoteattr(here)}/></Connect>", twiml.HANGUP


@app.exception_handler(NotAllowed)
async def refused(request: Request, error: NotAllowed) -> Response:
    logger.warning("Webhook refused: %s", error)
    return Response(status_code=403)


@app.post("/voice")
async def voice(request: Request) -> Response:
    """A call comes in: the language menu, then the stream. Without a key the conversation begins in English."""
    await form_of(request)
    said = (twiml.say(each.prompt, each.language, SAY_VOICES.get(each.language, "")) for each in MENU.choices)
    return answer(twiml.gather("/voice/language", said, hears=MENU.hears, hints=MENU.hints), *connect(request))


@app.post("/voice/language")
async def voice_language(request: Request) -> Response:
    """The caller pressed a key, or said a word."""
    form = await form_of(request)
    language = MENU.meant(form.get("Digits", ""), form.get("SpeechResult", ""))
    if language and form.get("CallSid"):
        call_language_map[form["CallSid"]] = language
        if len(call_language_map) > MAX_CALLS:
            del call_language_map[next(iter(call_language_map))]
    return answer(*connect(request))


# -- the stream ------------------------------------------------------------------------------------


@app.websocket("/media-stream")
async def media_stream(websocket: WebSocket) -> None:
    modules: Modules = websocket.app.state.modules
    try:
        check_stream(modules.settings, websocket.client.host if websocket.client else "", websocket.headers)
    except NotAllowed as error:
        logger.warning("Stream refused: %s", error)
        await websocket.close(1008)
        return
    await websocket.accept()
    call = Call(websocket, modules)
    try:
        await call.listen()
    except TimeoutError:
        logger.warning("No data for %.0f s: the stream is closed", INACTIVITY_S)
        await websocket.close(1008)
    except WebSocketDisconnect:
        logger.info("The caller is gone")
    finally:
        await call.end()


class Call:
    """One caller. What is said is gathered until silence, answered in a task of its own, and may interrupt that."""

    min_speech_length = 250 * 8
    """Bytes of mu-law (250 ms): what is shorter is a noise."""

    def __init__(self, websocket: WebSocket, modules: Modules) -> None:
        self.websocket = websocket
        self.stream_sid = ""
        self.call_sid = ""
        self.audio_buffer = bytearray()
        self.silence_buffer = bytearray()
        self.is_speaking = False
        self._gate = Gate(GateSettings(hangover_ms=600))
        self._member = modules.activity.join("mulaw", self._on_window)
        self._turn: asyncio.Task[None] | None = None
        self._being_answered = b""
        self._modules = modules
        self.orchestrator = self._make_orchestrator("")

    def _make_orchestrator(self, call_id: str) -> AgentOrchestrator:
        return AgentOrchestrator(
            *self._modules.stt_llm_tts,
            max_history=10,
            default_language="en-IN",
            system_prompt=SYSTEM_PROMPT,
            metrics_collector=metrics,
            enable_circuit_breaker=True,
            call_id=call_id,
        )

    async def listen(self) -> None:
        """Until ``stop``. Raises ``TimeoutError`` and ``WebSocketDisconnect``."""
        while True:
            message = await asyncio.wait_for(self.websocket.receive_text(), INACTIVITY_S)
            try:
                data = json.loads(message)
                event = data["event"]
                if event == "start":
                    self._start(data["start"])
                elif event == "media":
                    self._hear(b64decode(data["media"]["payload"]))
            except (ValueError, KeyError, TypeError, AttributeError):
                logger.warning("A message that cannot be used was left out")
                continue
            if event == "stop":
                return

    def _start(self, start: dict[str, Any]) -> None:
        self.stream_sid = start["streamSid"]
        self.call_sid = start.get("callSid", "")
        self.orchestrator = self._make_orchestrator(self.call_sid)
        language = call_language_map.get(self.call_sid)
        if language:
            self.orchestrator.set_language(language)
        logger.info("Call %s: %s", self.call_sid, self.orchestrator.get_status()["language_name"])

    def _hear(self, mulaw: bytes) -> None:
        if self.is_speaking:
            if len(self.audio_buffer) < MAX_SPEECH_BYTES:
                self.audio_buffer += mulaw
        else:
            self.silence_buffer += mulaw
            del self.silence_buffer[:-PREROLL_BYTES]
        self._member.push(mulaw)

    def _on_window(self, probability: float) -> None:
        """Told for every 32 ms of the caller's audio."""
        edge = self._gate.step(probability)
        if edge is None:
            return
        self.is_speaking = edge.kind == "started"
        if self.is_speaking:
            self._interrupt()
            self.audio_buffer += self.silence_buffer
            self.silence_buffer.clear()
        else:
            self.process_speech_buffer()

    def _interrupt(self) -> None:
        """The caller speaks: what is being said stops. What had no answer yet is the beginning of what comes now."""
        if self._turn is not None and not self._turn.done():
            self._turn.cancel()
            self.audio_buffer[:0] = self._being_answered

    def process_speech_buffer(self) -> None:
        """Answers what was said, unless that was only a noise."""
        speech = bytes(self.audio_buffer)
        self.audio_buffer.clear()
        self.silence_buffer.clear()
        if len(speech) >= self.min_speech_length:
            self._being_answered = speech
            self._turn = asyncio.create_task(self._answer(speech, self._turn))

    async def _answer(self, speech: bytes, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            before.cancel()
            await asyncio.wait({before})
        result = await self.orchestrator.process_turn(mulaw_to_wav(speech))
        if result.get("error"):
            logger.error("The turn failed: %s", result["error"])
            # No silent call: whatever failed, the caller hears that they are to say it again.
            language, router = result["language"], self.orchestrator.task_router
            sorry = await router.route_synthesis(phrase(language, "please_repeat"), language)
            await self._speak(wav_to_mulaw(sorry or b""))
        elif result.get("audio"):
            await self._speak(wav_to_mulaw(result["audio"]))

    async def _speak(self, mulaw: bytes) -> None:
        """In chunks of 20 ms at the pace of the clock, so that an interruption finds little left to clear."""
        self._being_answered = b""
        began = time.monotonic()
        try:
            for number, at in enumerate(range(0, len(mulaw), CHUNK_BYTES), start=1):
                if self.websocket.client_state.name != "CONNECTED":
                    return
                await self._send(media={"payload": encode_mulaw_base64(mulaw[at : at + CHUNK_BYTES])}, event="media")
                await asyncio.sleep(max(0.0, began + number * CHUNK_S - time.monotonic()))
        except asyncio.CancelledError:
            with suppress(WebSocketDisconnect, RuntimeError):
                await self._send(event="clear")
            raise
        except (WebSocketDisconnect, RuntimeError):
            logger.info("The caller hung up before the answer was over")

    async def _send(self, **message: Any) -> None:
        await self.websocket.send_text(json.dumps({**message, "streamSid": self.stream_sid}))

    async def end(self) -> None:
        self._member.leave()
        call_language_map.pop(self.call_sid, None)
        if self._turn is not None:
            self._turn.cancel()
            await asyncio.wait({self._turn})


# -- running it ------------------------------------------------------------------------------------


async def self_test() -> int:
    """A real call from a phone made of software: one question, and whether it was answered in speech."""
    server = uvicorn.Server(config(port=0))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        if serving.done():
            return 1
        await asyncio.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    script = PhoneScript((Say("What are the admission requirements?"),), manners=Manners(greeting_s=0))
    async with Voices(load("tts", "espeak")) as voices:
        report = await place_call(f"ws://127.0.0.1:{port}/media-stream", script, voices=voices, timeout_s=60)
    server.should_exit = True
    await serving
    for turn in report.replies:
        after = "no answer" if turn.latency_ms is None else f"answered after {turn.latency_ms:.0f} ms"
        print(f"{turn.said!r}: {after}, for {turn.reply_ms / 1000:.1f} s")
    print(metrics.generate_report())
    return 0 if report.all_answered else 1


def config(host: str = "127.0.0.1", port: int = 8000) -> uvicorn.Config:
    return uvicorn.Config(
        app, host=host, port=port, ws="websockets-sansio", ws_max_size=MAX_MESSAGE_BYTES, log_level="warning"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--self-test", action="store_true", help="place one call over a loopback phone, then end")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("picows").setLevel(logging.WARNING)
    env = Path(".env")
    if env.exists():
        os.environ.setdefault(FILE_VARIABLE, str(env))
    try:
        app.state.modules = Modules()
    except AntiphonError as error:
        print(f"{error} (here: TWILIO_AUTH_TOKEN and PUBLIC_URL, in the environment or in .env)", file=sys.stderr)
        return 2
    if arguments.self_test:
        return asyncio.run(self_test())
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config(arguments.host, arguments.port)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
