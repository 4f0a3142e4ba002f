# mypy: ignore-errors
# Another interpreter's packages: nothing here is imported by Antiphon or its tests.
"""LiveKit Agents behind Twilio's protocol, set up as its own documents say; run by the interpreter of its environment.

LiveKit has no socket for Twilio's media streams: it wants a room, and a SIP service before it. So a small adapter
feeds an ``AgentSession`` through ``session.input.audio`` and ``session.output.audio``, the ports that its console
uses (livekit-agents 1.8, ``cli/tcp_console.py``). All else is what ``AgentSession`` does by itself with speech
to text, a model and a voice (docs.livekit.io: agents/logic/sessions, agents/logic/turns): the bundled Silero, the
turn detector v1-mini with its endpointing of 0.3 s, preemptive generation.

Variant ``vad`` uses the other mode that the page on turns describes: the end of a turn is a silence of 0.5 s.

Kinder than its own way in both: no room, no WebRTC and no SIP, whose work is left out; the cheapest socket server
that we know (picows on uvloop); input at the line's 8 kHz in frames of 50 ms, the length that its rooms use; the
agent's sound sent at once in frames of 200 ms; many calls in one process, where its workers start one for each
call; the collector frozen after the imports, as its workers do (``ipc/_preload_freeze.py``).
"""

from __future__ import annotations

import asyncio
import audioop
import base64
import gc
import json
import logging
import time
import uuid

import uvloop
from livekit import rtc
from livekit.agents import NOT_GIVEN, Agent, AgentSession, APIConnectOptions, TurnHandlingOptions, llm, stt, tts, utils
from livekit.agents.voice import io
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server
from stub import LOUD, Loud, Script, script
from stub import speech as spoken

RATE = 8000
FRAME_MS = 50
QUIET_MS = 40
"""So much quiet ends an utterance for the stub; LiveKit's plug-in asks Deepgram to do so after 25 ms."""
LANGUAGE = "en"


class StubSTT(stt.STT):
    """A streaming recogniser that finds the end of speech itself, as the vendors' do that LiveKit ships."""

    def __init__(self, told: Script) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=bool(told.partial_ms)))
        self.told = told

    async def _recognize_impl(self, *_: object, **__: object) -> stt.SpeechEvent:
        raise RuntimeError("this one streams: nobody asks it for a whole utterance")

    def stream(
        self, *, language: object = NOT_GIVEN, conn_options: APIConnectOptions | None = None
    ) -> stt.RecognizeStream:
        return _Hearing(stt=self, conn_options=conn_options or APIConnectOptions())


class _Hearing(stt.RecognizeStream):
    async def _run(self) -> None:
        told = self._stt.told
        loop = asyncio.get_running_loop()
        speech, quiet_ms = Loud(RATE), 0.0
        partial = ""
        async for frame in self._input_ch:
            if isinstance(frame, self._FlushSentinel):
                continue
            length = 1000 * frame.duration
            speech_ms = speech.feed(bytes(frame.data))
            if audioop.max(frame.data, 2) > LOUD:
                quiet_ms = 0.0
                heard = told.partial(speech_ms)
                if heard != partial:
                    partial = heard
                    self._tell(stt.SpeechEventType.INTERIM_TRANSCRIPT, heard)
            elif speech_ms:
                quiet_ms += length
                if quiet_ms >= QUIET_MS + FRAME_MS:
                    # Frames come when they are full: part of the quiet lies in the last loud one.
                    speech.clear()
                    partial = ""
                    loop.call_later(
                        told.stt_ms / 1000, self._tell, stt.SpeechEventType.FINAL_TRANSCRIPT, told.transcript
                    )

    def _tell(self, kind: stt.SpeechEventType, text: str) -> None:
        if not self._event_ch.closed:
            self._event_ch.send_nowait(
                stt.SpeechEvent(type=kind, alternatives=[stt.SpeechData(language=LANGUAGE, text=text, confidence=1.0)])
            )


class StubLLM(llm.LLM):
    def __init__(self, told: Script) -> None:
        super().__init__()
        self.told = told
        self.tokens = told.tokens

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions | None = None,
        **_: object,
    ) -> llm.LLMStream:
        return _Answer(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options or APIConnectOptions())


class _Answer(llm.LLMStream):
    async def _run(self) -> None:
        told = self._llm.told
        await asyncio.sleep(told.llm_ms / 1000)
        name = uuid.uuid4().hex
        for number, token in enumerate(self._llm.tokens):
            if number and told.llm_token_ms:
                await asyncio.sleep(told.llm_token_ms / 1000)
            self._event_ch.send_nowait(llm.ChatChunk(id=name, delta=llm.ChoiceDelta(role="assistant", content=token)))


class StubTTS(tts.TTS):
    """A voice that takes a text and streams its sound; LiveKit cuts the reply into sentences for it."""

    def __init__(self, told: Script) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=RATE, num_channels=1)
        self.told = told

    def synthesize(self, text: str, *, conn_options: APIConnectOptions | None = None) -> tts.ChunkedStream:
        return _Voice(tts=self, input_text=text, conn_options=conn_options or APIConnectOptions())


class _Voice(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        await asyncio.sleep(self._tts.told.tts_ms / 1000)
        output_emitter.initialize(request_id=uuid.uuid4().hex, sample_rate=RATE, num_channels=1, mime_type="audio/pcm")
        for piece in spoken(self._input_text, RATE):
            output_emitter.push(piece)


class LineIn(io.AudioInput):
    def __init__(self) -> None:
        super().__init__(label="Twilio")
        self._frames = utils.aio.Chan[rtc.AudioFrame]()
        self._stream = utils.audio.AudioByteStream(RATE, 1, samples_per_channel=RATE * FRAME_MS // 1000)

    def push(self, mulaw: bytes) -> None:
        for frame in self._stream.push(audioop.ulaw2lin(mulaw, 2)):
            self._frames.send_nowait(frame)

    def close(self) -> None:
        self._frames.close()

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.__anext__()


class LineOut(io.AudioOutput):
    """Sends ahead, as Twilio allows; a mark behind each segment tells when it was heard, ``clear`` takes it back."""

    def __init__(self, transport: WSTransport, stream: str) -> None:
        super().__init__(label="Twilio", capabilities=io.AudioOutputCapabilities(pause=False), sample_rate=RATE)
        self._transport, self._sid = transport, stream
        self._pushed = 0.0
        self._began = 0.0
        self._segment = 0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._pushed:
            self._began = time.monotonic()
            self.on_playback_started(created_at=time.time())
        self._pushed += frame.duration
        payload = base64.b64encode(audioop.lin2ulaw(frame.data, 2)).decode()
        self._send({"event": "media", "streamSid": self._sid, "media": {"payload": payload}})

    def flush(self) -> None:
        super().flush()
        if self._pushed:
            self._segment += 1
            self._send({"event": "mark", "streamSid": self._sid, "mark": {"name": str(self._segment)}})

    def clear_buffer(self) -> None:
        if self._pushed:
            self._send({"event": "clear", "streamSid": self._sid})
            self._finish(min(time.monotonic() - self._began, self._pushed), interrupted=True)

    def on_mark(self, name: str) -> None:
        # After a clear Twilio returns the marks that were waiting: those are of a segment that is finished.
        if self._pushed and name == str(self._segment):
            self._finish(self._pushed, interrupted=False)

    def _finish(self, played: float, *, interrupted: bool) -> None:
        self._pushed = 0.0
        self._segment += interrupted
        self.on_playback_finished(playback_position=played, interrupted=interrupted)

    def _send(self, message: dict[str, object]) -> None:
        self._transport.send(WSMsgType.TEXT, json.dumps(message).encode())


class Greeter(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="You answer the phone of a school.")

    async def on_enter(self) -> None:
        self.session.generate_reply(instructions="Introduce yourself concisely.")


class Call(WSListener):
    """One line of Twilio's, and its session."""

    def __init__(self, told: Script) -> None:
        self._told = told
        self._in = LineIn()
        self._out: LineOut | None = None
        self._session: AgentSession[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        message = json.loads(frame.get_payload_as_bytes())
        kind = message["event"]
        if kind == "media":
            self._in.push(base64.b64decode(message["media"]["payload"]))
        elif kind == "mark" and self._out is not None:
            self._out.on_mark(message["mark"]["name"])
        elif kind == "start":
            self._out = LineOut(transport, message["start"]["streamSid"])
            self._do(self._start(self._out))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._in.close()
        if self._session is not None:
            self._do(self._session.aclose())

    async def _start(self, out: LineOut) -> None:
        told = self._told
        turns = TurnHandlingOptions(turn_detection="vad") if told.variant == "vad" else NOT_GIVEN
        self._session = session = AgentSession(
            stt=StubSTT(told),
            llm=StubLLM(told),
            tts=StubTTS(told),
            # A telephone's line brings no echo of the agent here, and a SIP call's session has no warm-up either.
            aec_warmup_duration=None,
            turn_handling=turns,
        )
        session.input.audio = self._in
        session.output.audio = out
        await session.start(agent=Greeter())

    def _do(self, work: object) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def serve(told: Script) -> None:
    def listener(_request: WSUpgradeRequest) -> WSListener:
        return Call(told)

    server = await ws_create_server(listener, "127.0.0.1", told.port, backlog=1024)
    async with server:
        gc.collect()
        gc.freeze()
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(serve(script()))
