"""A transcriber that hears what it was told to hear, after a set delay: for tests and benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from antiphon.providers.faults import Faults
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Heard

Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[float, Meta(ge=0, le=600_000)]
PIECE_MS = 20
UNHEARD_MS = 100
"""Without partials nothing is done with audio: like one that recognises an utterance when it is over."""
LOUD = 500
"""A piece of 20 ms with a sample above it, -36 dBFS, is speech; less is the line's noise."""


class FakeTranscriberSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``transcripts`` are heard in turn, utterance by utterance; ``text`` where there are none.

    ``stt_ms`` passes between the end of the utterance and its final. With ``partial_ms`` above 0, one more
    word is reported for each such stretch of speech: loud audio, not the pauses. ``languages`` are those the
    utterances are found to be in, by turns and with ``confidence``; without them it is the language it was told.
    ``fail_every`` and ``hang_every`` count the utterances of all calls: a failed one gives the error ``stt.failed``,
    a hanging one never ends.
    """

    stt_ms: Milliseconds = 0.0
    text: str = "what are admission requirements"
    transcripts: tuple[str, ...] = ()
    partial_ms: Milliseconds = 0.0
    language: str = ""
    languages: tuple[str, ...] = ()
    confidence: Annotated[float, Meta(ge=0, le=1)] = 0.95
    fail_every: Count = 0
    hang_every: Count = 0


class FakeTranscriber:
    name = "fake"

    def __init__(self, settings: FakeTranscriberSettings) -> None:
        self.settings = settings
        self.faults = Faults(settings.fail_every, settings.hang_every)
        self.piece_ms = PIECE_MS if settings.partial_ms else UNHEARD_MS

    async def start(self) -> None:
        pass

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> FakeTranscriberStream:
        return FakeTranscriberStream(self, sample_rate, language, on_heard)

    async def close(self) -> None:
        pass


class FakeTranscriberStream:
    """One caller's ear: counts the loud audio it is given, and understands none of it."""

    def __init__(
        self, transcriber: FakeTranscriber, sample_rate: int, language: str, on_heard: Callable[[Heard], None]
    ) -> None:
        self._settings = transcriber.settings
        self._faults = transcriber.faults
        self._on_heard = on_heard
        self._language = self._settings.language or language
        self._scripted = self._settings.languages
        self._piece = 2 * PIECE_MS * sample_rate // 1000
        self._rest = bytearray()
        self._speech_ms = 0
        self._words_told = 0
        self._utterance = 1
        self._timers: dict[int, asyncio.Handle] = {}
        self._closed = False

    def feed(self, pcm: bytes) -> None:
        if not self._settings.partial_ms or self._closed:
            return
        self._count(pcm)
        words = self._text(self._utterance).split()
        due = min(int(self._speech_ms // self._settings.partial_ms), len(words))
        if due > self._words_told:
            self._words_told = due
            self._on_heard(self._heard(self._utterance, " ".join(words[:due]), final=False))

    def _count(self, pcm: bytes) -> None:
        rest, piece = self._rest, self._piece
        rest += pcm
        whole = len(rest) - len(rest) % piece
        for start in range(0, whole, piece):
            samples = memoryview(bytes(rest[start : start + piece])).cast("h")
            if max(samples) > LOUD or min(samples) < -LOUD:
                self._speech_ms += PIECE_MS
        del rest[:whole]

    def finish(self, utterance: int) -> None:
        if self._closed or utterance < self._utterance:
            return
        self._utterance = utterance + 1
        self._speech_ms = self._words_told = 0
        self._rest.clear()
        fault = self._faults.next()
        if fault == "hang":
            return
        if fault == "fail":
            heard = Heard(utterance=utterance, text="", final=True, error="stt.failed")
        else:
            heard = self._heard(utterance, self._text(utterance), final=True)
        loop = asyncio.get_running_loop()
        # Even without a delay the final comes from the loop, never from inside finish(): that is how real ones behave.
        if self._settings.stt_ms:
            self._timers[utterance] = loop.call_later(self._settings.stt_ms / 1000, self._report, heard)
        else:
            self._timers[utterance] = loop.call_soon(self._report, heard)

    def hint(self, language: str) -> None:
        if not self._settings.language:
            self._language = language

    def close(self) -> None:
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _text(self, utterance: int) -> str:
        told = self._settings.transcripts
        return told[(utterance - 1) % len(told)] if told else self._settings.text

    def _heard(self, utterance: int, text: str, *, final: bool) -> Heard:
        told, sure = self._scripted, self._settings.confidence
        return Heard(
            utterance=utterance,
            text=text,
            final=final,
            language=told[(utterance - 1) % len(told)] if told else self._language,
            confidence=sure,
            language_confidence=sure if told else 0.0,
        )

    def _report(self, heard: Heard) -> None:
        self._timers.pop(heard.utterance, None)
        self._on_heard(heard)


def build(settings: dict[str, object]) -> FakeTranscriber:
    """``[stt] provider = "fake"``; see ``FakeTranscriberSettings``."""
    return FakeTranscriber(convert(settings, FakeTranscriberSettings, "[stt] fake"))
