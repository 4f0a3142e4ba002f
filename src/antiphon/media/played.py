"""What a caller was sent, on the clock of when it is played; and when what they said was spoken. For the echo guard.

Times are ms of one monotonic clock. Audio is kept as it was sent: it is looked at only if somebody is heard.
"""

from __future__ import annotations

from math import inf

from antiphon.media.codec import bytes_per_sample, silence
from antiphon.media.line import LineModel

KEPT_MS = 500
"""Behind the present. Windows are asked for as they come, so this is what a detector may be late by."""
RINGS_MS = 1_000
"""So long after the last sound its echo may still come: the longest delay that is looked for, and a room."""
AHEAD_MS = 32
"""The playout clock may be late by this: what it plays was heard before it says so."""

GAP_MS = 400.0
"""A stream that is later than this has paused (somebody who presses to talk): it goes on from there."""
FORGETS = 0.001
"""Of the lateness of each window: the two ends' clocks drift apart by some ms in a minute."""


class Played:
    """One line's. ``send`` and ``clear`` are told what the line is told; ``window`` is asked in order of time."""

    def __init__(self, codec: str, sample_rate: int) -> None:
        self._codec = codec
        self._sample = bytes_per_sample(codec)
        self._per_ms = sample_rate / 1000
        self._line = LineModel(jitter_ms=0.0)
        self._audio = bytearray()
        self._base = 0
        """Position of the first byte of ``_audio``, in samples of the clock."""
        self.is_near = False
        """The last window asked for lay in what was played, or so shortly after it that its echo may be in it."""

    def send(self, audio: bytes, now: float) -> None:
        """A message was sent: it is played behind what waits, or at once."""
        if self._line.end < now:
            self._skip_to(int(now * self._per_ms))
        self._audio += audio
        self._line.send(now, len(audio) / self._sample / self._per_ms)
        held, needed = len(self._audio) // self._sample, int((KEPT_MS + self._line.end - now) * self._per_ms)
        if held > 2 * needed:  # cut in large strokes
            del self._audio[: (held - needed) * self._sample]
            self._base += held - needed

    def _skip_to(self, position: int) -> None:
        """Nothing was played up to there."""
        end = self._base + len(self._audio) // self._sample
        if not self._audio or position - end > KEPT_MS * self._per_ms:
            self._audio.clear()
            self._base = position
        elif position > end:
            self._audio += silence(self._codec, position - end)

    def clear(self, now: float) -> None:
        """What was not played is thrown away."""
        if self._line.end > now:
            self._line.clear(now)
            del self._audio[max(0, int(now * self._per_ms) - self._base) * self._sample :]

    def window(self, end: float, size: int) -> bytearray | None:
        """The ``size`` bytes played up to ``end``, silence where nothing was.

        None: nothing was played in that time, nor so shortly before that it may still be heard.
        """
        if end - RINGS_MS >= self._line.end:
            self.is_near = False
            return None
        self.is_near = True
        last = (int(end * self._per_ms) - self._base) * self._sample
        first = last - size
        if first >= 0 and last <= len(self._audio):
            return self._audio[first:last]
        before = silence(self._codec, min(size, max(0, -first)) // self._sample)
        found = self._audio[max(0, first) : max(0, last)]
        return bytearray(before) + found + silence(self._codec, (size - len(before) - len(found)) // self._sample)


class SpokenClock:
    """When a stream's samples were spoken: the least delay of any so far, as what comes late was on its way longer."""

    __slots__ = ("origin",)

    def __init__(self) -> None:
        self.origin = inf

    def note(self, now: float, received_ms: float) -> None:
        """So much of the stream has come by now."""
        found = now - received_ms
        late = found - self.origin
        if 0.0 <= late <= GAP_MS:
            self.origin += FORGETS * late
        else:
            self.origin = found
