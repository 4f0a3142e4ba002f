"""The ear of one call: caller audio in, edges and transcripts out. Synchronous, no task, no queue.

Every frame goes to the shared voice activity detector; while somebody speaks, and until the kernel
says that the utterance is over, it also goes to the transcriber, beginning a little before the gate
opened so that no first consonant is lost. It is decoded in pieces as long as the transcriber would wait for anyway:
most of what decoding a frame costs is the call.

The last words are told once more, as words that may be all, when the voice pauses or has brought none for
``UNCHANGED_MS`` while the gate is open: what is begun for them then has a start on the gate, which waits longer.

While the agent is heard, too, what of its own voice comes back is taken out by the detector (``media.echo``), and the
transcriber's audio begins closer to the caller's: what is before it is the agent's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import msgspec

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
from antiphon.media.played import Played
from antiphon.runtime.ports import Heard, Transcriber, TranscriberStream, VoiceActivity

PREROLL_MS = 400
"""Audio before the gate's edge that the transcriber also gets: what it takes the gate to be sure, and a breath."""
OVER_MS = 240
"""The same over the agent's voice: what it takes the gate to be sure (64 ms or a little more), the detector's own
delay, and half a breath."""

UNCHANGED_MS = 600
"""Words that stand so long while the gate is open may be all: a noisy line never falls silent. A word takes less, and
what a recogniser takes to tell it."""
LATE_MS = 100
"""What the end of speech may at most be known later by than its silent windows take: a frame and a batch are about
20 ms, a loaded detector's thread more. Audio that the line has lost would count as lateness without end."""

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
        played: Played | None = None,
        ahead: bool = False,
    ) -> None:
        """``ahead``: words that may be all are told again before the gate closes."""
        self._told = {"call": call_id}
        self._codec = codec
        self._post = post
        self._provider = transcriber.name
        self._identify = identify
        self._ahead = ahead
        self._last_text = ""
        self._untold: TranscriptPartial | None = None
        """The last words, until they are told again."""
        self._untold_since = 0
        self._gate = Gate(gate)
        self._bytes_per_s = sample_rate * bytes_per_sample(codec)
        self._preroll_bytes, self._over_bytes = self._bytes(PREROLL_MS), self._bytes(OVER_MS)
        self._quiet_from = -PREROLL_MS
        self._played = played
        self._feeding = False
        self._speaking = False
        self._unfed = bytearray()
        """In the line's codec: what the transcriber is to get with the next piece."""
        self._piece_bytes = self._bytes(getattr(transcriber, "piece_ms", 0))
        # The transcriber counts its own utterances from 1; a resumed session does not begin there.
        self._offset = self._finished = first_utterance - 1
        self._failed: dict[int, str] = {}
        """Utterances that failed before they were over, and why: the kernel settles only what it has finished."""
        self._stream: TranscriberStream = transcriber.open(
            sample_rate=sample_rate, language=language, on_heard=self._on_heard
        )
        self._member = activity.join(codec, self._on_window, sample_rate=sample_rate, played=played)

    def on_audio(self, audio: bytes) -> None:
        self._member.push(audio)
        if self._feeding:
            unfed = self._unfed
            unfed += audio
            if len(unfed) >= self._piece_bytes:
                self._feed()

    def _feed(self) -> None:
        if self._unfed:
            pcm = decode(self._codec, bytes(self._unfed))
            self._unfed.clear()
            self._stream.feed(pcm)

    def _on_window(self, probability: float) -> None:
        edge = self._gate.step(probability)
        if edge is None:
            if self._untold is not None:
                self._tell_again()
            return
        self._untold = None  # from here on the kernel knows
        if edge.kind == "started":
            self._speaking = True
            if not self._feeding:
                self._feeding = True
                self._stream.feed(decode(self._codec, self._before()))
            self._post(SpeechStarted(edge.position_ms))
        else:
            self._speaking, self._quiet_from = False, edge.position_ms
            ago = round(self._member.ago_ms(edge.position_ms))  # the clock is a little ahead: not a whole ms
            hangover = min(max(edge.hangover_ms, ago), edge.hangover_ms + LATE_MS)
            self._post(SpeechStopped(edge.position_ms, hangover))

    def _before(self) -> bytes:
        """What was heard before the gate opened, up to where earlier speech ended: its last word is known.

        Of an utterance that was over just before, the silence is given twice: a word may have begun in it.
        """
        over = self._played is not None and self._played.is_near
        silent = self._bytes(self._gate.position_ms - self._quiet_from)
        return self._member.recent(min(self._over_bytes if over else self._preroll_bytes, silent))

    def _bytes(self, ms: int) -> int:
        return ms * self._bytes_per_s // 1000

    def _tell_again(self) -> None:
        """The last words, if they may be all."""
        if self._gate.is_pausing or self._gate.position_ms - self._untold_since >= UNCHANGED_MS:
            partial, self._untold = self._untold, None
            if partial is not None:
                self._post(msgspec.structs.replace(partial, again=True))

    def finish(self, utterance: int) -> None:
        self._untold, self._last_text = None, ""
        self._feed()
        self._feeding = self._speaking
        self._finished = utterance
        self._stream.finish(utterance - self._offset)
        code = self._failed.pop(utterance, "")
        if code:
            self._post(TranscriptionFailed(utterance, code))

    def hint(self, language: str) -> None:
        self._feed()  # it is of an utterance that has begun before
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
            self._partial(TranscriptPartial(utterance, heard.text[:MAX_TEXT], heard.language, heard.confidence))

    def _partial(self, partial: TranscriptPartial) -> None:
        self._post(partial)
        if not self._ahead or not self._speaking or partial.text == self._last_text:
            return
        if partial.utterance <= self._finished:
            return  # what is being spoken is another one
        self._last_text = partial.text
        self._untold = partial if partial.text.strip() else None
        self._untold_since = self._gate.position_ms
        if self._untold is not None:
            self._tell_again()

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
        self._post = _to_nobody  # the stream knows this ear: it must not hold the call as well


def _to_nobody(event: AnyEvent) -> None:
    """Nobody listens any more."""
