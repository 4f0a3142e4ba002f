"""One turn's audio, in segments: what was put in, what was heard of it.

Positions are bytes since the turn's first. The audio that was surely heard is let go of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

import msgspec

from antiphon.errors import AntiphonError

MAX_SEGMENTS = 1000
"""Segments of one turn that may wait. A minute of speech has some twenty."""

MS_PER_CHAR = 70.0
"""The pace of speech before any was measured: some 14 characters a second."""


class HeardUpTo(msgspec.Struct, frozen=True):
    """``text[:chars]`` of ``segment`` was heard, all of the segments before it, none after. -1: nothing."""

    segment: int
    chars: int


class Segment:
    """A piece of speech. ``due`` is when its last sample is heard by the model, once that was sent."""

    __slots__ = ("closed", "due", "end", "mark", "number", "start", "text", "words")

    def __init__(self, number: int, start: int, text: str) -> None:
        self.number = number
        self.start = start
        self.end = start
        self.text = text
        self.words: list[tuple[int, int]] = []
        self.closed = False
        self.mark = ""
        self.due = inf


class Reel:
    """The segments of one turn, in order. ``per_ms`` is bytes in a millisecond, ``sample`` bytes in a sample."""

    def __init__(self, per_ms: float, sample: int, ms_per_char: float = MS_PER_CHAR) -> None:
        self._per_ms = per_ms
        self._sample = sample
        self.ms_per_char = ms_per_char
        """The voice's pace; it follows the segments that are complete."""
        self.audio = bytearray()
        self.base = 0
        """The position of the first byte of ``audio``."""
        self.live: deque[Segment] = deque()
        """Those with audio that were not played."""
        self.fresh: deque[Segment] = deque()
        """Of these, those of which nothing was ever sent."""
        self.unsent: deque[Segment] = deque()
        """Of these, those of which the end was not sent (or was put back)."""
        self.tail: Segment | None = None
        """The one begun last."""
        self.last: Segment | None = None
        """The one played last."""
        self._top = -1
        self._texts: dict[int, str] = {}

    @property
    def end(self) -> int:
        """The position after the last byte."""
        return self.base + len(self.audio)

    @property
    def closed(self) -> bool:
        """No segment waits for more audio."""
        return self.tail is None or self.tail.closed

    def open(self, number: int, *, may_begin: bool) -> Segment | None:
        """The segment to append to, begun now if it is new and ``may_begin``; None if it takes no audio (any more)."""
        tail = self.tail
        if tail is not None and tail.number == number:
            return None if tail.closed else tail
        if number <= self._top or not may_begin or len(self.live) >= MAX_SEGMENTS:
            return None
        if tail is not None:
            self.close(tail)
        tail = self.tail = Segment(number, self.end, self._texts.pop(number, ""))
        self._top = number
        self.live.append(tail)
        self.fresh.append(tail)
        self.unsent.append(tail)
        return tail

    def append(self, segment: Segment, audio: bytes, words: Sequence[tuple[int, int]]) -> None:
        self.audio += audio
        segment.end += len(audio)
        if words:
            segment.words.extend(words)

    def find(self, number: int) -> Segment | None:
        """A segment that has audio and is live, or was played last."""
        for known in reversed(self.live):
            if known.number == number:
                return known
        return self.last if self.last is not None and self.last.number == number else None

    def describe(self, number: int, text: str) -> None:
        """Says what a segment says. Raises ``AntiphonError`` if more than ``MAX_SEGMENTS`` wait for audio."""
        found = self.find(number)
        if found is not None:
            found.text = text
        elif number > self._top:
            if len(self._texts) >= MAX_SEGMENTS:
                raise AntiphonError(f"over {MAX_SEGMENTS} segments wait for audio", code="media.playout_full")
            self._texts[number] = text

    def skip(self, number: int) -> bool:
        """The segment ends without ever having had audio. False: it is too late for that."""
        if number <= self._top:
            return False
        self._texts.pop(number, None)
        self._top = number
        return True

    def close(self, segment: Segment) -> None:
        """No more audio for it."""
        if segment.closed:
            return
        segment.closed = True
        if segment.end == segment.start:
            # It was opened by empty audio. Only the segment begun last can be so.
            for row in (self.live, self.fresh, self.unsent):
                row.pop()
            self.tail = self.live[-1] if self.live else self.last
        elif len(segment.text) >= 20:
            spoken = (segment.end - segment.start) / self._per_ms / len(segment.text)
            self.ms_per_char += (min(max(spoken, 20.0), 300.0) - self.ms_per_char) / 4

    def abandon(self, first: int) -> list[int]:
        """Drops the fresh segments from ``first`` on; closes one that is not fresh. Returns the dropped numbers."""
        dropped = [number for number in self._texts if number >= first]
        for number in dropped:
            del self._texts[number]
        while self.fresh and self.fresh[-1].number >= first:
            segment = self.fresh.pop()
            self.live.pop()
            self.unsent.pop()
            del self.audio[segment.start - self.base :]
            dropped.append(segment.number)
        tail = self.tail = self.live[-1] if self.live else self.last
        self._top = -1 if tail is None else tail.number
        if tail is not None and tail.number >= first:
            self.close(tail)
        return sorted(dropped)

    def let_go(self, position: int) -> None:
        """What is before ``position`` is not needed again."""
        del self.audio[: position - self.base]
        self.base = position

    def heard_up_to(self, position: int) -> HeardUpTo:
        """In characters, what was heard when everything before ``position`` was."""
        found = self.last
        for segment in self.live:
            if segment.start >= position:
                break
            found = segment
        if found is None:
            return HeardUpTo(-1, 0)
        if found is self.last or (found.closed and position >= found.end):
            return HeardUpTo(found.number, len(found.text))
        total = (found.end - found.start) // self._sample
        if not found.closed:
            # More is to come: how much, the pace of the segments before it tells.
            total = max(total, int(len(found.text) * self.ms_per_char * self._per_ms) // self._sample)
        heard = (position - found.start) // self._sample
        return HeardUpTo(found.number, heard_chars(found.text, found.words, heard, total))


def heard_chars(text: str, words: Sequence[tuple[int, int]], heard: int, total: int) -> int:
    """Length of the part of ``text`` that was wholly heard, without trailing space.

    ``heard`` of ``total`` samples were heard; ``total`` may be a guess while the audio is not complete,
    so this never claims the last word. ``words`` are (index into ``text``, samples from the start) in
    any order: a word ends where the next begins. Without them the characters are taken to be evenly
    spread over the samples, and a word that is cut does not count.
    """
    if words:
        begun = sorted((sample, char) for char, sample in words)
        known = [char for sample, char in begun[1:] if sample <= heard]
        upto = max(0, min(known[-1], len(text))) if known else 0
        return len(text[:upto].rstrip())
    if total <= 0:
        return 0
    upto = min(len(text) - 1, len(text) * heard // total)
    while upto > 0 and not text[upto].isspace():
        upto -= 1
    return len(text[: max(upto, 0)].rstrip())
