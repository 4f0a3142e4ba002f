"""Small plugins made of LiveKit's own base classes: what they do is told by their attributes."""

import asyncio
from typing import Any

from livekit import rtc
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError, llm, stt, tts, utils
from livekit.agents.types import NOT_GIVEN, TimedString

from antiphon.providers.tts.fake import tone

SAID = "what are the admission requirements"
ANSWER = "You need a bachelor's degree and two letters."

FAULTS: dict[str, Exception] = {
    "401": APIStatusError("Incorrect API key provided: sk-secret-123456789", status_code=401),
    "429": APIStatusError("slow down", status_code=429),
    "500": APIStatusError("broken, your key is sk-secret-123456789", status_code=500, body={"message": "broken"}),
    "closed": APIStatusError("connection closed unexpectedly", status_code=1006),
    "lost": APIConnectionError("connection lost"),
    "late": APITimeoutError(),
    "bug": ZeroDivisionError("the plugin's own, with sk-secret-123456789"),
}
CODES = {
    "401": "unauthorized",
    "429": "rate_limited",
    "500": "server",
    "closed": "cut",
    "late": "timeout_first_byte",
    "bug": "plugin",
}
"""What becomes of the faults; ``lost`` depends on when it comes."""


class Scripted:
    """What the fakes have in common. ``faults``: for each of the next requests, "" or one of ``FAULTS`` or ``hang``."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.faults: list[str] = []
        self.fault_after = 0
        """So many pieces are given first."""
        self.opened = 0
        self.ended = 0
        """Streams that were opened, and that ended or were closed."""
        self.closed = False
        self.asked = asyncio.Event()
        self.gate: asyncio.Event | None = None
        """If there is one, the second piece waits for it."""

    def fault(self) -> str:
        return self.faults.pop(0) if self.faults else ""

    async def before(self, piece: int, fault: str) -> None:
        self.asked.set()
        if piece == 1 and self.gate is not None:
            await self.gate.wait()
        if fault and piece == self.fault_after:
            if fault == "hang":
                await asyncio.sleep(60)
            raise FAULTS[fault]


class Hearing(stt.STT, Scripted):
    """Streams: one more interim word for each 200 ms of audio, and the final after the end of the input.

    ``keeps_open``: the stream does not end by itself, as some vendors' do not.
    """

    def __init__(self, *, streaming: bool = True, said: str = SAID, keeps_open: bool = False, **options: Any) -> None:
        stt.STT.__init__(self, capabilities=stt.STTCapabilities(streaming=streaming, interim_results=streaming))
        Scripted.__init__(self, **options)
        self.said = said
        self.keeps_open = keeps_open
        self.silent = False
        self.final_early = False
        self.confidence = 0.875
        self.told: list[Any] = []
        self.audio: list[float] = []

    async def _recognize_impl(self, buffer: Any, *, language: Any = NOT_GIVEN, conn_options: Any) -> stt.SpeechEvent:
        self.told.append(language)
        frame = rtc.combine_audio_frames(buffer)
        self.audio.append(frame.duration)
        try:
            await self.before(0, self.fault())
        finally:
            self.ended += 1
        data = stt.SpeechData(language="hi", text=self.said, confidence=self.confidence)
        return stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[data] if self.said else [])

    def stream(self, *, language: Any = NOT_GIVEN, conn_options: Any) -> "HearingStream":
        self.told.append(language)
        self.opened += 1
        return HearingStream(self, conn_options)

    async def aclose(self) -> None:
        self.closed = True


class HearingStream(stt.RecognizeStream):
    def __init__(self, owner: Hearing, conn_options: Any) -> None:
        super().__init__(stt=owner, conn_options=conn_options)
        self._owner = owner

    async def _run(self) -> None:
        try:
            await self._hear()
        finally:
            self._owner.ended += 1

    async def _hear(self) -> None:
        owner, heard, told = self._owner, 0.0, 0
        fault, words = owner.fault(), owner.said.split()
        await owner.before(0, fault)
        async for item in self._input_ch:
            if not isinstance(item, rtc.AudioFrame):
                continue
            heard += item.duration
            while told < min(len(words), int(heard / 0.2)) and not owner.silent:
                told += 1
                await owner.before(told, fault)
                self._event_ch.send_nowait(self._event("INTERIM_TRANSCRIPT", " ".join(words[:told])))
                if owner.final_early and told == len(words):
                    self._event_ch.send_nowait(self._event("FINAL_TRANSCRIPT", owner.said))
        owner.audio.append(heard)
        if not owner.silent and not owner.final_early and words:
            self._event_ch.send_nowait(self._event("FINAL_TRANSCRIPT", owner.said))
        if owner.keeps_open:
            await asyncio.sleep(60)

    def _event(self, kind: str, text: str) -> stt.SpeechEvent:
        data = stt.SpeechData(language="en-US", text=text, confidence=self._owner.confidence)
        return stt.SpeechEvent(stt.SpeechEventType[kind], alternatives=[data])


class Answering(llm.LLM, Scripted):
    """A word at a time. With ``calls`` it asks for these tools first."""

    def __init__(self, answer: str = ANSWER, **options: Any) -> None:
        llm.LLM.__init__(self)
        Scripted.__init__(self, **options)
        self.answer = answer
        self.calls: list[tuple[str, str]] = []
        self.contexts: list[llm.ChatContext] = []
        self.tools: list[Any] = []

    def chat(self, *, chat_ctx: Any, tools: Any = None, conn_options: Any, **more: Any) -> "AnsweringStream":
        self.contexts.append(chat_ctx.copy())
        self.tools = tools
        self.opened += 1
        return AnsweringStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)

    async def aclose(self) -> None:
        self.closed = True


class AnsweringStream(llm.LLMStream):
    async def _run(self) -> None:
        owner: Any = self._llm
        try:
            fault = owner.fault()
            await owner.before(0, fault)
            if owner.calls:
                calls = [
                    llm.FunctionToolCall(name=name, arguments=arguments, call_id=f"call_{number}")
                    for number, (name, arguments) in enumerate(owner.calls)
                ]
                owner.calls = []
                self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=llm.ChoiceDelta(tool_calls=calls)))
                return
            said = next((m.text_content for m in reversed(self.chat_ctx.messages()) if m.role == "assistant"), "") or ""
            answer = owner.answer
            if said and answer.startswith(said):
                answer = answer[len(said) :].lstrip() or answer  # told what was said: goes on from there
            for at, word in enumerate(answer.split(" ")):
                await owner.before(at, fault if at else "")
                text = f" {word}" if at else word
                self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=llm.ChoiceDelta(content=text)))
                await asyncio.sleep(0)
            usage = llm.CompletionUsage(completion_tokens=1, prompt_tokens=1, total_tokens=2)
            self._event_ch.send_nowait(llm.ChatChunk(id="1", usage=usage))
        finally:
            owner.ended += 1


class Speaking(tts.TTS, Scripted):
    """A tone of 60 ms for each character, in pieces of 300 ms; words are timed where ``timed``."""

    def __init__(self, *, rate: int = 24_000, channels: int = 1, timed: bool = False, **options: Any) -> None:
        tts.TTS.__init__(
            self,
            capabilities=tts.TTSCapabilities(streaming=True, aligned_transcript=timed),
            sample_rate=rate,
            num_channels=channels,
        )
        Scripted.__init__(self, **options)
        self.timed = timed
        self.texts: list[str] = []
        self.streamed = 0

    def synthesize(self, text: str, *, conn_options: Any) -> "SpeakingStream":
        self.opened += 1
        self.texts.append(text)
        return SpeakingStream(tts=self, input_text=text, conn_options=conn_options)

    def stream(self, *, conn_options: Any) -> "SpeakingSynthesizeStream":
        self.opened += 1
        self.streamed += 1
        return SpeakingSynthesizeStream(tts=self, conn_options=conn_options)

    async def aclose(self) -> None:
        self.closed = True

    async def speak(self, text: str, emitter: Any) -> None:
        fault = self.fault()
        pcm = tone(self.sample_rate, self.sample_rate * 60 // 1000 * len(text))
        if self.num_channels == 2:
            pcm = b"".join(pcm[at : at + 2] * 2 for at in range(0, len(pcm), 2))
        step = self.sample_rate * 3 // 10 * 2 * self.num_channels
        if self.timed:
            at = 0
            words = []
            for word in text.split():
                at = text.index(word, at)
                words.append(TimedString(word, start_time=at * 0.06, end_time=(at + len(word)) * 0.06))
                at += len(word)
            emitter.push_timed_transcript(words)
        for number, start in enumerate(range(0, len(pcm), step)):
            await self.before(number, fault)
            emitter.push(pcm[start : start + step])
            if self.gate is not None:
                emitter.flush()
            await asyncio.sleep(0)


class SpeakingStream(tts.ChunkedStream):
    async def _run(self, output_emitter: Any) -> None:
        owner: Any = self._tts
        try:
            output_emitter.initialize(
                request_id=utils.shortuuid(),
                sample_rate=owner.sample_rate,
                num_channels=owner.num_channels,
                mime_type="audio/pcm",
            )
            await owner.speak(self.input_text, output_emitter)
            output_emitter.flush()
        finally:
            owner.ended += 1


class SpeakingSynthesizeStream(tts.SynthesizeStream):
    async def _run(self, output_emitter: Any) -> None:
        owner: Any = self._tts
        try:
            output_emitter.initialize(
                request_id=utils.shortuuid(),
                sample_rate=owner.sample_rate,
                num_channels=owner.num_channels,
                mime_type="audio/pcm",
                stream=True,
            )
            text = "".join([item async for item in self._input_ch if isinstance(item, str)])
            output_emitter.start_segment(segment_id=utils.shortuuid())
            owner.texts.append(text)
            await owner.speak(text, output_emitter)
            output_emitter.end_segment()
        finally:
            owner.ended += 1


class NeedsHttp(Answering):
    """Asks for the HTTP session that LiveKit's worker has, as plugins do."""

    def chat(self, **named: Any) -> "AnsweringStream":
        self.sessions = [*getattr(self, "sessions", []), utils.http_context.http_session()]
        return super().chat(**named)


class Unusable:
    """No plugin at all."""


class Picky(Answering):
    def __init__(self, *, api_key: str, temperature: float) -> None:
        if not temperature < 1:
            raise ValueError(f"temperature is too high for {api_key}")
        super().__init__(api_key=api_key, temperature=temperature)
