# mypy: ignore-errors
# Another interpreter's packages: nothing here is imported by Antiphon or its tests.
"""Pipecat behind Twilio's protocol, set up as its own documents say; run by the interpreter of its own environment.

What ``pipecat init`` writes for a phone bot with Twilio (pipecat-ai 1.14, ``cli/templates/server``), with the stub
providers in the place of the vendors': FastAPI on uvicorn, ``FastAPIWebsocketTransport`` with the Twilio
serializer, 8 kHz both ways as the template asks for on the phone, Silero and Smart Turn v3 (the defaults of
``LLMUserAggregatorParams``), metrics on. See docs.pipecat.ai: pipecat/learn/speech-input,
api-reference/server/services/transport/fastapi-websocket, getting-started/phone-bots.

Variant ``tuned`` leaves out what the same pages say one may do without: the end of a turn is a silence
(``SpeechTimeoutUserTurnStopStrategy``) instead of a model, no metrics, no turn tracking, no RTVI.

Kinder than the template in both: uvloop, log at WARNING, and many calls in one process, where Pipecat's hosting
guide runs a process for each.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import AsyncGenerator

import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    Frame,
    InterimTranscriptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMRunFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings, TTSSettings
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner
from stub import Loud, Script, script, speech

RATE = 8000
FRAME_MS = 20
STT_P99_MARGIN_S = 0.05
"""Pipecat waits for a final no longer than the recogniser's p99, which is ``stt_ms`` and a little; it is told so."""


class StubSTT(STTService):
    """A streaming recogniser that is told the end of speech and confirms its final, as Pipecat's Deepgram service."""

    def __init__(self, told: Script) -> None:
        super().__init__(
            ttfs_p99_latency=0.2 + told.stt_ms / 1000 + STT_P99_MARGIN_S,
            settings=STTSettings(model="stub", language=None),
        )
        self._script = told
        self._loud = Loud(RATE)
        self._partial = ""
        self._final: asyncio.Task[None] | None = None

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        speech_ms = self._loud.feed(audio)
        if self._user_speaking:
            partial = self._script.partial(speech_ms)
            if partial != self._partial:
                self._partial = partial
                yield InterimTranscriptionFrame(partial, "", time_now_iso8601())
        yield None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            self._loud.clear()
            self._partial = ""
            self.request_finalize()
            self._final = self.create_task(self._report())

    async def _report(self) -> None:
        await asyncio.sleep(self._script.stt_ms / 1000)
        self.confirm_finalize()
        await self.push_frame(TranscriptionFrame(self._script.transcript, "", time_now_iso8601()))


class StubLLM(LLMService):
    def __init__(self, told: Script) -> None:
        # All of them, or Pipecat complains: a model of its own would be asked with these.
        absent = {field.name: None for field in dataclasses.fields(LLMSettings) if field.name not in {"model", "extra"}}
        super().__init__(settings=LLMSettings(model="stub", **absent))
        self._script = told
        self._tokens = told.tokens

    def can_generate_metrics(self) -> bool:
        return True

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        await self.start_processing_metrics()
        await self.start_ttfb_metrics()
        try:
            await asyncio.sleep(self._script.llm_ms / 1000)
            await self.stop_ttfb_metrics()
            for number, token in enumerate(self._tokens):
                if number and self._script.llm_token_ms:
                    await asyncio.sleep(self._script.llm_token_ms / 1000)
                await self._push_llm_text(token)
        finally:
            await self.stop_processing_metrics()
            await self.push_frame(LLMFullResponseEndFrame())


class StubTTS(TTSService):
    """As Pipecat's HTTP voices: one request for each sentence, the answer streamed."""

    def __init__(self, told: Script) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            sample_rate=RATE,
            settings=TTSSettings(model="stub", voice="stub", language=None),
        )
        self._script = told

    def can_generate_metrics(self) -> bool:
        return True

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        await asyncio.sleep(self._script.tts_ms / 1000)
        await self.start_tts_usage_metrics(text)
        for piece in speech(text, self.sample_rate):
            await self.stop_ttfb_metrics()
            yield TTSAudioRawFrame(piece, self.sample_rate, 1, context_id=context_id)


async def run_bot(websocket: WebSocket, told: Script) -> None:
    """One call, as the template's ``bot`` and ``run_bot``."""
    tuned = told.variant == "tuned"
    _, call = await parse_telephony_websocket(websocket)
    transport = FastAPIWebsocketTransport(
        websocket=websocket,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            add_wav_header=False,
            # Hanging up is a request to Twilio's service, which is not here.
            serializer=TwilioFrameSerializer(
                stream_sid=call["stream_id"],
                call_sid=call["call_id"],
                params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
            ),
        ),
    )
    context = LLMContext()
    strategies = UserTurnStrategies(stop=[SpeechTimeoutUserTurnStopStrategy()]) if tuned else None
    user, assistant = LLMContextAggregatorPair(
        context,
        user_params=LLMUserAggregatorParams(
            vad_analyzer=SileroVADAnalyzer(),
            **({"user_turn_strategies": strategies} if strategies else {}),
        ),
    )
    pipeline = Pipeline(
        [transport.input(), StubSTT(told), user, StubLLM(told), StubTTS(told), transport.output(), assistant]
    )
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(
            audio_in_sample_rate=RATE,
            audio_out_sample_rate=RATE,
            enable_metrics=not tuned,
            enable_usage_metrics=not tuned,
        ),
        **({"enable_rtvi": False, "enable_turn_tracking": False} if tuned else {}),
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)

    @transport.event_handler("on_client_connected")
    async def on_client_connected(_transport: FastAPIWebsocketTransport, _client: WebSocket) -> None:
        context.add_message({"role": "developer", "content": "Start by concisely introducing yourself."})
        await worker.queue_frames([LLMRunFrame()])

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(_transport: FastAPIWebsocketTransport, _client: WebSocket) -> None:
        await runner.cancel()

    await runner.run()


def application(told: Script) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def media(websocket: WebSocket) -> None:
        await websocket.accept()
        await run_bot(websocket, told)

    return app


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    telling = script()
    uvicorn.run(application(telling), host="127.0.0.1", port=telling.port, loop="uvloop", log_level="warning")
