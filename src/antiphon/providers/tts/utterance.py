"""One request inside a worker that speaks: an engine's sound in, pieces for the server out. Shared by the engines."""

from __future__ import annotations

import collections
from collections.abc import Mapping

import msgspec

from antiphon.media.resample import Resampler
from antiphon.media.speakable import Spoken
from antiphon.providers.tts.speech_messages import Piece
from antiphon.providers.tts.spoken import prepare, word_start
from antiphon.providers.worker_pipe import WorkerPipe

PIECE_MS = 100
"""The length of a piece after the first; the first is sent as soon as there is any sound."""

BLOCK_MS = 240
"""Sound after the first piece is resampled and sent in blocks: espeak gives 60 ms at a time, which costs twice."""

QUIET = 96
"""Samples below this at the start of a segment are silence and are cut (16-bit; the engines' own is all but zero)."""

ONSET_MS = 5
"""Left of the silence before the first sound: consonants begin softly."""

_encode = msgspec.msgpack.Encoder().encode


class _Cut:
    """Cuts the silence before the first sound, but for ``ONSET_MS``."""

    def __init__(self, onset: int) -> None:
        self.samples = 0
        self.heard = False
        self._onset = onset

    def __call__(self, pcm: bytes) -> bytes:
        if self.heard:
            return pcm
        samples = memoryview(pcm).cast("h")
        loud = next((at for at, sample in enumerate(samples) if abs(sample) >= QUIET), None)
        if loud is None:
            self.samples += len(samples)
            return b""
        self.heard = True
        start = max(0, loud - self._onset)
        self.samples += start
        return pcm[2 * start :]


class Utterance:
    """``engine_rate`` is that of the sound put in, ``sample_rate`` that of the pieces, in Hz. ``pauses`` maps the last
    sign of a text to the silence after it, in ms."""

    def __init__(
        self,
        id: int,
        text: str,
        *,
        language: str,
        engine_rate: int,
        sample_rate: int,
        pipe: WorkerPipe,
        pauses: Mapping[str, int],
    ) -> None:
        self.id = id
        self.cancelled = False
        self._pipe = pipe
        self._pauses = pauses
        self._written = text
        self._spoken: Spoken = prepare(text, language)
        self._ratio = sample_rate / engine_rate
        self._resampler = Resampler(engine_rate, sample_rate)
        self._piece = sample_rate * PIECE_MS // 1000 * 2
        self._cut = _Cut(engine_rate * ONSET_MS // 1000)
        self._block = engine_rate * BLOCK_MS // 1000 * 2
        self._raw = bytearray()
        self._buffer = bytearray()
        self._pieces: list[bytes] = []
        self._sent = 0
        self._marks: collections.deque[tuple[int, int]] = collections.deque()
        self._last_char = -1

    @property
    def text(self) -> str:
        """As the engine shall speak it."""
        return self._spoken.text

    def word(self, position: int, sample: int) -> None:
        """The word at ``text[position]`` begins ``sample`` samples of the engine's rate into its sound."""
        origin = self._spoken.origin
        if not origin:
            return
        char = word_start(self._written, origin[min(max(position, 0), len(origin) - 1)])
        if char > self._last_char and char < len(self._written):
            self._last_char = char
            self._marks.append((char, sample))

    def sound(self, pcm: bytes) -> None:
        """More of the engine's sound, whole samples."""
        self._raw += self._cut(pcm)
        if not self._sent or len(self._raw) >= self._block:
            self._add(self._resampler.process(bytes(self._raw)))
            self._raw.clear()

    def finish(self) -> None:
        self._add(self._resampler.process(bytes(self._raw), last=True))
        if self._sent or self._buffer:
            end = self._written.rstrip().rstrip("*_`\"')”’")[-1:]
            self._buffer += bytes(self._pauses.get(end, 0) * self._piece // PIECE_MS // 2 * 2)
        self._add(b"")
        if self._buffer:
            self._cut_piece(len(self._buffer), last=True)
            self._flush()

    def _add(self, pcm: bytes) -> None:
        self._buffer += pcm
        if self._buffer and not self._sent:
            self._cut_piece(min(len(self._buffer), self._piece))
        while len(self._buffer) > self._piece:
            self._cut_piece(self._piece)
        self._flush()

    def _flush(self) -> None:
        if self._pieces:
            self._pipe.send(*self._pieces)
            self._pieces.clear()

    def _cut_piece(self, length: int, *, last: bool = False) -> None:
        end = self._sent + length // 2
        words = []
        while self._marks:
            char, at = self._marks[0]
            sample = max(0, round((at - self._cut.samples) * self._ratio))
            if sample >= end and not last:
                break
            words.append((char, min(sample, end - 1)))
            self._marks.popleft()
        self._pieces.append(_encode(Piece(self.id, bytes(self._buffer[:length]), words)))
        del self._buffer[:length]
        self._sent = end
