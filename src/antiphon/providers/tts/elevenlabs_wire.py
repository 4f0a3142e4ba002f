"""What ElevenLabs sends over its sockets, typed; and when its characters are spoken, as times of words. No I/O.

Source: elevenlabs.io/docs, API reference "Multi-Context WebSocket". Names are read in both of the spellings that the
documents have (``contextId`` on the wire, ``context_id`` in its examples). Times are "relative to the returned chunk
from the model, and not the full audio response".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import accumulate

import msgspec

from antiphon.providers.tts.spoken import Spoken, word_start
from antiphon.runtime.ports import WordMark


class Alignment(msgspec.Struct):
    """A start in ms and a length in ms for each of ``chars``, from the beginning of a chunk of the model's."""

    chars: list[str] | None = None
    charStartTimesMs: list[float] | None = None  # noqa: N815 - the vendor's name
    charDurationsMs: list[float] | None = None  # noqa: N815


class Message(msgspec.Struct):
    """All fields of all messages. ``audio`` is base64 on the wire. ``error`` ends the connection."""

    audio: bytes | None = None
    isFinal: bool | None = None  # noqa: N815 - the vendor's names
    is_final: bool | None = None
    contextId: str | None = None  # noqa: N815
    context_id: str | None = None
    alignment: Alignment | None = None
    normalizedAlignment: Alignment | None = None  # noqa: N815
    error: str | None = None
    message: str | None = None
    code: int | str | None = None

    @property
    def final(self) -> bool:
        return bool(self.isFinal or self.is_final)

    @property
    def context(self) -> str:
        return self.contextId or self.context_id or ""


decode = msgspec.json.Decoder(Message).decode

LOOK_AHEAD = 80
"""Characters without white space in which the next word is looked for: what was read differently is skipped."""


class WordTimes:
    """When the words of one text begin, from alignments as they come.

    An alignment goes on where the last one ended, in the middle of a word if need be, or begins again where the last
    one began and goes further (seen with the Flash models). Text that the vendor reads differently (a number in
    words) has no marks of its own.
    """

    def __init__(self, written: str, spoken: Spoken) -> None:
        self._written = written
        self._origin = [spoken.origin[at] for at, sign in enumerate(spoken.text) if not sign.isspace()]
        words = spoken.text.split()
        self._text = "".join(words)
        self._starts = {0, *accumulate(map(len, words))}
        self._at = 0
        self._begin_at, self._begin_ms = 0, 0.0
        self._end_ms = 0.0
        self._last = ""
        self._char = -1

    def feed(self, alignment: Alignment) -> Iterator[tuple[int, float]]:
        """Pairs of an index in what was written and a time in ms of the whole sound, both going up."""
        chars = list(zip(alignment.chars or (), alignment.charStartTimesMs or (), strict=False))
        solid = "".join("".join(char.split()) for char, _ in chars)
        if not chars:
            return
        again = not self._text.startswith(solid, self._at) and bool(self._last) and solid.startswith(self._last)
        if again:
            self._at = self._begin_at
        else:
            self._begin_at, self._begin_ms = self._at, self._end_ms
        self._last = solid
        if self._text.startswith(solid, self._at):
            yield from self._exact(chars)
        else:
            yield from self._words(chars)
        self._end_ms = max(self._end_ms, self._begin_ms + _length(alignment))

    def _exact(self, chars: list[tuple[str, float]]) -> Iterator[tuple[int, float]]:
        for char, start in chars:
            for _ in "".join(char.split()):
                yield from self._mark(self._at, start)
                self._at += 1

    def _words(self, chars: list[tuple[str, float]]) -> Iterator[tuple[int, float]]:
        word, began = "", 0.0
        for char, start in [*chars, (" ", 0.0)]:
            if char.strip():
                began = start if not word else began
                word += char
            elif word:
                found = self._find(word)
                if found >= 0:
                    yield from self._mark(found, began)
                    self._at = found + len(word)
                word = ""

    def _find(self, word: str) -> int:
        """Where ``word`` is: right here, or as a whole word not far ahead; -1 if it is not."""
        if self._text.startswith(word, self._at):
            return self._at
        for at in sorted(start for start in self._starts if self._at < start <= self._at + LOOK_AHEAD):
            if self._text.startswith(word, at) and at + len(word) in self._starts:
                return at
        return -1

    def _mark(self, at: int, start: float) -> Iterator[tuple[int, float]]:
        """A mark for the word that ``_text[at]`` is the first character of, if it is one."""
        char = self._origin[at]
        first = word_start(self._written, char)
        if first > self._char and (at == 0 or word_start(self._written, self._origin[at - 1]) != first):
            self._char = first
            yield first, self._begin_ms + start


def _length(alignment: Alignment) -> float:
    """In ms."""
    if not alignment.charStartTimesMs or not alignment.charDurationsMs:
        return 0.0
    return alignment.charStartTimesMs[-1] + alignment.charDurationsMs[-1]


class Marks:
    """Words wait here for the sound they begin in, which may come later than their times."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._waiting: deque[WordMark] = deque()
        self._last = 0

    def add(self, char: int, ms: float) -> None:
        self._last = max(self._last, round(max(0.0, ms) * self._rate / 1000))
        self._waiting.append(WordMark(char, self._last))

    def upto(self, sample: int, *, end: bool = False) -> tuple[WordMark, ...]:
        """Those that begin before ``sample``; at the ``end`` all that are left, the last sample being the limit."""
        due = []
        while self._waiting and (end or self._waiting[0].sample < sample):
            mark = self._waiting.popleft()
            due.append(WordMark(mark.char, min(mark.sample, sample - 1)))
        return tuple(due)
