"""The simulated caller: what they say reaches the call as edges and transcripts, with planned faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from antiphon.kernel.events import (
    AnyEvent,
    SpeechStarted,
    SpeechStopped,
    TranscriptFinal,
    TranscriptionFailed,
    TranscriptPartial,
)
from antiphon.sim.providers import Faults

GATE_OPENS_S = 0.096
HANGOVER_S = 0.224
CALLER_WORD_S = 0.25
WORD_LATE_S = 0.12
PAUSE_S = 0.15
"""So long the voice is silent when the last words are told again: they are known by then, and the gate is open."""


class SimEar:
    """Fits ``Listener``: one per line. What is being said is put in by ``Voice``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        first_utterance: int,
        post: Callable[[AnyEvent], None],
        faults: Faults,
        languages: Faults,
    ) -> None:
        self._loop = loop
        self._post = post
        self._faults = faults
        self._languages = languages
        self.utterance = first_utterance
        self._words: list[str] = []
        self._told = ""
        self._fault = faults.next()
        self.closed = False

    def tell(self, event: AnyEvent) -> None:
        if not self.closed:
            self._post(event)

    def hear(self, word: str) -> None:
        """A word of weight was completed."""
        self._words.append(word)
        if self._fault not in ("no_partials", "hang", "fail", "blank"):
            self._loop.call_later(WORD_LATE_S, self._tell_words, self.utterance, " ".join(self._words))

    def _tell_words(self, utterance: int, text: str) -> None:
        self._told = text if utterance == self.utterance else ""
        self.tell(TranscriptPartial(utterance, text))

    def pause(self) -> None:
        """The voice has been silent for a moment, and the gate is still open."""
        text, self._told = self._told, ""
        if text:
            self.tell(TranscriptPartial(self.utterance, text, again=True))

    def on_audio(self, audio: bytes) -> None:
        """Simulated callers bring no audio."""

    def finish(self, utterance: int) -> None:
        text, fault = " ".join(self._words), self._fault
        self._words, self._fault, self._told = [], self._faults.next(), ""
        self.utterance = utterance + 1
        if fault == "hang":
            return
        if fault == "fail":
            self._loop.call_later(0.1, self.tell, TranscriptionFailed(utterance, "stt.planned"))
            return
        language = self._languages.next()
        sure = 0.9 if language else 0.0
        said = "" if fault == "blank" else text
        final = TranscriptFinal(utterance, said, language, 0.9, "sim", sure, "stt" if language else "")
        self._loop.call_later({"slow": 2.0, "late": 0.9}.get(fault, 0.04), self.tell, final)
        if fault == "twice":
            self._loop.call_later(0.9, self.tell, final)

    def hint(self, language: str) -> None:
        """Every language is understood here."""

    def close(self) -> None:
        self.closed = True


class Voice:
    """Speaks into whichever ear the call has now. ``talking_since`` is None, or when words of weight began."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.ear: SimEar | None = None
        self.talking_since: float | None = None
        self.weighty_until = 0.0
        """When words of weight were in the air last."""
        self.said: list[tuple[float, str]] = []
        """Words of weight that an ear heard, and when."""
        self._said = 0

    async def say(self, words: int, *, backchannel: bool = False, pause_ms: int = 0) -> None:
        """Says so many words; with ``pause_ms`` it stops that long in the middle."""
        if not backchannel:
            self.talking_since = self._loop.time()
        first = max(1, words // 2) if pause_ms else words
        await self._burst(first, backchannel)
        if pause_ms:
            await asyncio.sleep(pause_ms / 1000)
            await self._burst(max(1, words - first), backchannel)
        self.talking_since = None
        if not backchannel:
            self.weighty_until = self._loop.time()

    async def _burst(self, words: int, backchannel: bool) -> None:
        ear, began = self.ear, self._loop.time()
        if ear is None:
            return
        opens = None
        if not self._gate_is_open:
            opens = self._loop.call_later(GATE_OPENS_S, self._open, ear)
        elif self._closing is not None:
            self._closing.cancel()  # the voice goes on before the gate was sure that it had ended
            self._closing = None
        for _ in range(words):
            await asyncio.sleep(CALLER_WORD_S)
            self._said += 1
            ear.hear("mm-hm" if backchannel else f"q{self._said}")
            if not backchannel and not ear.closed:
                self.said.append((self._loop.time(), f"q{self._said}"))
        self._close_later(ear, began, opens)

    async def cough(self, seconds: float) -> None:
        """A sound that is no word."""
        ear = self.ear
        if ear is not None and not self._gate_is_open:
            opens = self._loop.call_later(GATE_OPENS_S, self._open, ear)
            await asyncio.sleep(seconds)
            self._close_later(ear, self._loop.time() - seconds, opens)

    _gate_is_open = False
    _closing: asyncio.TimerHandle | None = None

    def _open(self, ear: SimEar) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if not self._gate_is_open and ear is self.ear:
            self._gate_is_open = True
            ear.tell(SpeechStarted(int(self._loop.time() * 1000)))

    def _close_later(self, ear: SimEar, began: float, opens: asyncio.TimerHandle | None) -> None:
        if opens is not None and self._loop.time() - began < GATE_OPENS_S:
            opens.cancel()
            return
        if self._closing is not None:
            self._closing.cancel()
        self._closing = self._loop.call_later(HANGOVER_S, self._shut, ear, self._loop.time())
        self._loop.call_later(PAUSE_S, self._pause, ear, self._closing)

    def _pause(self, ear: SimEar, closing: asyncio.TimerHandle) -> None:
        if self._closing is closing and self._gate_is_open and ear is self.ear:
            ear.pause()

    def _shut(self, ear: SimEar, ended: float) -> None:
        if ear is not self.ear:
            return  # the line changed meanwhile
        self._closing = None
        self._gate_is_open = False
        ear.tell(SpeechStopped(int(ended * 1000), int(HANGOVER_S * 1000)))

    def new_ear(self, ear: SimEar) -> None:
        """The line changed: the new gate is closed."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        self._gate_is_open = False
        self.ear = ear
