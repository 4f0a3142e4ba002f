"""What one line tells its call. A line that lost its call to a newer one is not listened to any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from antiphon.kernel.events import MAX_TEXT, AnyEvent, CallerHungUp, DigitPressed, LineDropped, TextTyped
from antiphon.media.forms import WINDOW_BYTES, form_of
from antiphon.runtime.listen import Listener
from antiphon.runtime.ports import Line
from antiphon.runtime.words import WordsEar

if TYPE_CHECKING:
    from antiphon.runtime.call import Call

MAX_EARLY = 250
"""What a line may bring before its session is open: five seconds of 20 ms frames, or eight of whole windows."""
MAX_EARLY_FACTS = MAX_EARLY + 50
"""Facts find room where audio does not: a hang-up must not be lost behind it."""


def _to_nobody(audio: bytes) -> None:
    """The line lost its call."""


class LineSink:
    """Fits ``CallSink`` and ``WordSink``. ``on_audio`` is the ear's own once there is one."""

    __slots__ = ("_call", "_ear", "line", "on_audio", "piece_bytes")

    def __init__(self, call: Call, line: Line) -> None:
        self._call: Call | None = call
        self.line = line
        self.piece_bytes = WINDOW_BYTES[form_of(line.codec, line.sample_rate)]
        """A window of the voice activity detector."""
        self.on_audio: Callable[[bytes], None] = self._early
        self._ear: Listener | None = None

    @property
    def ear(self) -> Listener | None:
        return self._ear

    @ear.setter
    def ear(self, ear: Listener | None) -> None:
        self._ear = ear
        self.on_audio = _to_nobody if ear is None else ear.on_audio

    def _early(self, audio: bytes) -> None:
        if self._call is not None:
            self._call.early(lambda: self.on_audio(audio))

    def on_speaking(self) -> None:
        self._words(lambda ear: ear.speaking())

    def on_fragment(self, text: str, settled: bool) -> None:
        self._words(lambda ear: ear.fragment(text, settled))

    def on_turn_end(self) -> None:
        self._words(lambda ear: ear.turn_end())

    def _words(self, tell: Callable[[WordsEar], None]) -> None:
        """Words go to an ear that takes them: see ``CallStart.words``."""
        if isinstance(self.ear, WordsEar):
            tell(self.ear)
        elif self.ear is None and self._call is not None:
            self._call.early(lambda: self._words(tell), MAX_EARLY_FACTS)

    def on_text(self, text: str, language: str) -> None:
        if self._call is not None:
            sure = 1.0 if language else 0.0
            if not language and text.strip():
                language, sure = self._call.language_of(text)
            self._tell(TextTyped(text[:MAX_TEXT], language, sure))

    def on_mark(self, name: str) -> None:
        if self._call is not None:
            self._call.mark(name)

    def on_digit(self, digit: str) -> None:
        self._tell(DigitPressed(digit))

    def on_hangup(self, reason: str) -> None:
        self._tell(CallerHungUp(reason))

    def on_dropped(self, code: str) -> None:
        self._tell(LineDropped(code))
        if self._call is not None:
            self._call.line_gone()
        self.cut()

    def _tell(self, event: AnyEvent) -> None:
        if self._call is not None:
            self._call.tell(self, event)

    def cut(self) -> None:
        self._call = self.ear = None
