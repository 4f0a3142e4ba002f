"""The ear of one call: caller audio in, edges and transcripts out. Synchronous, no task, no queue.

Every frame goes to the shared voice activity detector; while somebody speaks, and until the kernel
says that the utterance is over, it also goes to the transcriber, beginning a little before the gate
opened so that no first consonant is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from antiphon.kernel.events import (
    MAX_TEXT,
    AnyEvent,
    SpeechStarted,
    SpeechStopped,
    TranscriptFinal,
    TranscriptionFailed,
    TranscriptPartial,
)
from antiphon.language_id import Guess
from antiphon.media.codec import bytes_per_sample, decode
from antiphon.media.gate import Gate, GateSettings
from antiphon.runtime.ports import Heard, Transcriber, TranscriberStream, VoiceActivity

PREROLL_MS = 400
"""Audio before the gate's edge that the transcriber also gets: what it takes the gate to be sure, and a breath."""

log = logging.getLogger("antiphon.ear")


Identify = Callable[[str], Guess]
"""Text to the language it is in."""


class Listener(Protocol):
    """What a call needs of an ear (the simulator has one of its own)."""

    def on_audio(self, audio: bytes) -> None: ...

    def finish(self, utterance: int) -> None: ...

    def hint(self, language: str) -> None: ...

    def close(self) -> None: ...


class Ear:
    """Hears one caller. ``first_utterance`` is the number the kernel expects next."""

    def __init__(
        self,
        *,
        call_id: str,
        codec: str,
        sample_rate: int,
        language: str,
        first_utterance: int,
        activity: VoiceActivity,
        transcriber: Transcriber,
        gate: GateSettings,
        post: Callable[[AnyEvent], None],
        identify: Identify | None = None,
    ) -> None:
        self._told = {"call": call_id}
        self._codec = codec
        self._post = post
        self._provider = transcriber.name
        self._identify = identify
        self._gate = Gate(gate)
        self._preroll = bytearray()
        self._preroll_bytes = PREROLL_MS * sample_rate * bytes_per_sample(codec) // 1000
        self._feeding = False
        self._speaking = False
        # The transcriber counts its own utterances from 1; a resumed session does not begin there.
        self._offset = self._finished = first_utterance - 1
        self._failed: dict[int, str] = {}
        """Utterances that failed before they were over, and why: the kernel settles only what it has finished."""
        self._stream: TranscriberStream = transcriber.open(
            sample_rate=sample_rate, language=language, on_heard=self._on_heard
        )
        self._member = activity.join(codec, self._on_window)

    def on_audio(self, audio: bytes) -> None:
        self._member.push(audio)
        if self._feeding:
            self._stream.feed(decode(self._codec, audio))
            return
        preroll = self._preroll
        preroll += audio
        # Cut in large strokes: a slice per frame would copy the buffer fifty times a second.
        if len(preroll) > 2 * self._preroll_bytes:
            del preroll[: -self._preroll_bytes]

    def _on_window(self, probability: float) -> None:
        edge = self._gate.step(probability)
        if edge is None:
            return
        if edge.kind == "started":
            self._speaking = True
            if not self._feeding:
                self._feeding = True
                self._stream.feed(decode(self._codec, bytes(self._preroll[-self._preroll_bytes :])))
                self._preroll.clear()
            self._post(SpeechStarted(edge.position_ms))
        else:
            self._speaking = False
            self._post(SpeechStopped(edge.position_ms, edge.hangover_ms))

    def finish(self, utterance: int) -> None:
        self._feeding = self._speaking
        self._finished = utterance
        self._stream.finish(utterance - self._offset)
        code = self._failed.pop(utterance, "")
        if code:
            self._post(TranscriptionFailed(utterance, code))

    def hint(self, language: str) -> None:
        self._stream.hint(language)

    def _on_heard(self, heard: Heard) -> None:
        utterance = heard.utterance + self._offset
        if heard.error:
            log.warning("the transcriber failed: %s", heard.error, extra=self._told)
            if utterance > self._finished:
                self._failed[utterance] = heard.error
            else:
                self._post(TranscriptionFailed(utterance, heard.error))
        elif heard.final:
            self._post(self._final(utterance, heard))
        else:
            self._post(TranscriptPartial(utterance, heard.text[:MAX_TEXT], heard.language, heard.confidence))

    def _final(self, utterance: int, heard: Heard) -> TranscriptFinal:
        """The provider's word on the language counts if it is sure of it; else the words tell (A42)."""
        text = heard.text[:MAX_TEXT]
        language, sure = heard.language, heard.language_confidence
        by = "stt" if language and sure else ""
        if not by and self._identify is not None and text.strip():
            guess = self._identify(text)
            language, sure, by = guess.language or language, guess.confidence, "text"
        provider = heard.provider or self._provider
        return TranscriptFinal(utterance, text, language, heard.confidence, provider, sure, by, heard.because)

    def close(self) -> None:
        self._member.leave()
        self._stream.close()
