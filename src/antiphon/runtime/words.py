"""The ear of a line that may bring words instead of sound: fragments of an outside transcriber in, transcripts out.

The first kind decides. Until sound comes, no place in the voice detector and no transcriber's stream is taken.

Edges come from outside, too: the first fragment of an utterance begins it, ``user_speaking`` does so before it, and
``turn_end`` ends the caller's turn (B9 to B11). A peer that never says so is not waited for, for ever: after
``QUIET_S`` without a word behind a settled fragment the caller counts as silent, and endpointing goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from antiphon.kernel.events import (
    MAX_TEXT,
    AnyEvent,
    SpeechStarted,
    SpeechStopped,
    TranscriptFinal,
    TranscriptPartial,
)
from antiphon.kernel.interruption import same_words
from antiphon.runtime.listen import Identify, Listener

QUIET_S = 4.0
"""Longer than an outside transcriber takes between two settled fragments of one sentence."""
LATE_WORDS_S = 1.0
"""The end of a turn may overtake its words, which an outside transcriber still works at."""
OUTSIDE = "outside"
"""Named as the provider of what the line brought in words."""


class WordsEar:
    """Fits ``Listener``. ``sound`` makes the ear for a line that brings audio: its language, its first utterance."""

    def __init__(
        self,
        *,
        language: str,
        first_utterance: int,
        post: Callable[[AnyEvent], None],
        sound: Callable[[str, int], Listener],
        identify: Identify | None = None,
    ) -> None:
        self._language = language
        self._utterance = first_utterance
        self._post = post
        self._make_sound = sound
        self._identify = identify
        self._sound: Listener | None = None
        self._speaking = False
        self._settled = ""
        self._guess = ""
        self._answered = ""
        """A guess that was taken for an utterance's end, and may still be told again as settled."""
        self._owed = 0
        """The utterance whose words are late; 0: none."""
        self._timer: asyncio.TimerHandle | None = None

    # -- what the line brings -----------------------------------------------------------------------

    def on_audio(self, audio: bytes) -> None:
        if self._sound is None:
            self._sound = self._make_sound(self._language, self._utterance)
        self._sound.on_audio(audio)

    def speaking(self) -> None:
        """The caller's voice has begun."""
        if self._sound is None:
            self._answered = ""
            self._begin()

    def fragment(self, text: str, settled: bool) -> None:
        """More of what the caller says. ``settled``: these words stand, the next ones come behind them; else they are
        a guess at everything behind the settled ones."""
        if self._sound is not None:
            return
        text = _beyond(text.strip(), self._answered)
        if settled:
            self._answered = ""
        if not text:
            return
        if self._owed:
            self._report(text)
            self._answered = "" if settled else text
            return
        self._begin()
        if settled:
            self._settled, self._guess = _joined(self._settled, text), ""
            self._await(QUIET_S, self._quiet)
        else:
            self._guess = text
        self._post(TranscriptPartial(self._utterance, _joined(self._settled, self._guess), settled=settled))

    def turn_end(self) -> None:
        """The caller is done (``vad_end``). Without a word or a voice before it, it tells nothing."""
        if self._speaking:
            self._end(turn_over=True)

    # -- Listener -----------------------------------------------------------------------------------

    def finish(self, utterance: int) -> None:
        if self._sound is not None:
            self._sound.finish(utterance)
            return
        if self._owed:
            self._report("")
        words = _joined(self._settled, self._guess)
        self._settled, self._guess, self._answered = "", "", self._guess
        self._utterance = utterance + 1
        self._owed = utterance
        if words or self._speaking:
            self._report(words)
        else:
            self._await(LATE_WORDS_S, lambda: self._report(""))

    def hint(self, language: str) -> None:
        self._language = language
        if self._sound is not None:
            self._sound.hint(language)

    def close(self) -> None:
        self._forget_timer()
        self._owed = 0
        if self._sound is not None:
            self._sound.close()

    # -- edges and the clock ------------------------------------------------------------------------

    def _begin(self) -> None:
        self._forget_timer()
        if self._owed:
            self._report("")
        if not self._speaking:
            self._speaking = True
            self._post(SpeechStarted())

    def _quiet(self) -> None:
        self._end(turn_over=False)

    def _end(self, *, turn_over: bool) -> None:
        self._forget_timer()
        self._speaking = False
        self._post(SpeechStopped(turn_over=turn_over))

    def _report(self, words: str) -> None:
        """The final of the utterance that is owed one."""
        self._forget_timer()
        utterance, self._owed = self._owed, 0
        language, sure, by = "", 0.0, ""
        if self._identify is not None and words:
            guess = self._identify(words)
            language, sure, by = guess.language, guess.confidence, "text"
        self._post(TranscriptFinal(utterance, words, language, 1.0 if words else 0.0, OUTSIDE, sure, by))

    def _await(self, seconds: float, then: Callable[[], None]) -> None:
        self._forget_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _joined(settled: str, more: str) -> str:
    return f"{settled} {more}".strip()[:MAX_TEXT]


def _beyond(text: str, answered: str) -> str:
    """What ``text`` adds to words that were taken already; all of it if it does not begin with them."""
    words, count = text.split(), len(answered.split())
    if count and same_words(" ".join(words[:count]), answered):
        return " ".join(words[count:])
    return text
