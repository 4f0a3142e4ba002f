"""The far end of a simulated call: a line that plays what it got in real time, and knows what was heard.

Audio is 16-bit PCM in which every sample of a word is that word's number, so what was heard can be
read back to the sample, across pauses, cuts and whatever else happened to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from antiphon.runtime.ports import CallSink

RATE = 8000
WORD_MS = 200
_BYTES_PER_S = 2 * RATE

_words: list[str] = [""]
_numbers: dict[str, int] = {"": 0}


def spoken(word: str) -> bytes:
    """A word as audio."""
    number = _numbers.get(word)
    if number is None:
        number = _numbers[word] = len(_words)
        _words.append(word)
    return number.to_bytes(2, "little") * (RATE * WORD_MS // 1000)


def read_back(audio: bytes) -> list[tuple[str, int]]:
    """The words of some audio in order, with how many samples of each there are; silence is left out."""
    samples = np.frombuffer(audio, dtype="<u2")
    samples = samples[samples != 0]
    if not len(samples):
        return []
    edges = np.flatnonzero(np.diff(samples)) + 1
    starts = [0, *edges.tolist()]
    ends = [*edges.tolist(), len(samples)]
    return [(_words[int(samples[start])], end - start) for start, end in zip(starts, ends, strict=True)]


class FarEnd:
    """One connection (fits ``Line``). ``latency_s`` is the way there, and the way back."""

    transport = "sim"
    codec = "pcm16"
    sample_rate = RATE
    marks = True

    def __init__(self, loop: asyncio.AbstractEventLoop, latency_s: float, hung_up: Callable[[str], None]) -> None:
        self._loop = loop
        self._latency = latency_s
        self._hung_up = hung_up
        self.sink: CallSink | None = None
        self.played: list[tuple[float, float, bytes]] = []
        """(from, to, audio) in virtual seconds."""
        self._end = self._since = loop.time()
        self._marks: dict[str, asyncio.TimerHandle] = {}
        self.closed = False

    def send(self, audio: bytes) -> None:
        if self.closed:
            return
        start = max(self._loop.time() + self._latency, self._end)
        self._end = start + len(audio) / _BYTES_PER_S
        self.played.append((start, self._end, audio))

    def mark(self, name: str) -> None:
        if not self.closed:
            at = max(self._loop.time() + self._latency, self._end) + self._latency
            self._marks[name] = self._loop.call_at(at, self._return, name)

    def _return(self, name: str) -> None:
        self._marks.pop(name, None)
        if self.sink is not None and not self.closed:
            self.sink.on_mark(name)

    def clear(self) -> None:
        if not self.closed:
            self._cut(self._loop.time() + self._latency)
            for name, timer in list(self._marks.items()):
                timer.cancel()
                self._marks[name] = self._loop.call_later(2 * self._latency, self._return, name)

    def _cut(self, at: float) -> None:
        """Nothing is heard from ``at`` on of what was sent so far."""
        while self.played and self.played[-1][1] > at:
            start, _, audio = self.played.pop()
            if start < at:
                kept = round((at - start) * RATE) * 2
                self.played.append((start, at, audio[:kept]))
                break
        self._end = min(self._end, at)

    def hang_up(self, reason: str) -> None:
        if not self.closed:
            self._hung_up(reason)

    def close(self, code: int, reason: str) -> None:
        if not self.closed:
            self._cut(self._loop.time() + self._latency)
            self._stop()

    def break_off(self) -> None:
        """The connection is gone: what had not arrived is not heard."""
        self._cut(self._loop.time())
        self._stop()

    def _stop(self) -> None:
        self.closed = True
        for timer in self._marks.values():
            timer.cancel()
        self._marks.clear()

    def quiet_for(self) -> float:
        """Seconds since the caller last heard something, or got the line; negative while they hear something."""
        now = self._loop.time()
        if self._end > now and self.played and self._is_playing(now):
            return -1.0
        last = max((end for _, end, _ in self.played[-50:] if end <= now), default=self._since)
        return now - last

    def _is_playing(self, now: float) -> bool:
        return any(start <= now < end for start, end, _ in reversed(self.played[-50:]))
