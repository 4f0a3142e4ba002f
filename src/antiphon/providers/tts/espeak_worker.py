"""The worker process that speaks.

espeak-ng is GPL-3, keeps its state in globals and may crash, so it lives alone in this program, which is
reached over a pipe. Requests are served one after the other: a sentence takes a few milliseconds.
"""

from __future__ import annotations

import collections
import ctypes
import sys
from typing import Any

import msgspec

from antiphon.media.resample import Resampler
from antiphon.providers.tts.espeak_library import UTF8, WORD_EVENT, Callback, Espeak, Unspeakable
from antiphon.providers.tts.spoken import Spoken, prepare, word_start
from antiphon.providers.worker_pipe import WorkerPipe, from_arguments, settle

PIECE_MS = 100
"""The length of a piece after the first; the first is sent as soon as there is any sound."""

BLOCK_MS = 240
"""Sound after the first piece is resampled and sent in blocks: espeak gives 60 ms at a time, which costs twice."""

QUIET = 96
"""Samples below this at the start of a segment are silence and are cut (16-bit; espeak's own is all but zero)."""

ONSET = 110
"""Samples at espeak's rate (5 ms)."""

PAUSES_MS = {".": 140, "?": 140, "!": 140, "।": 140, "॥": 140, ":": 90, ";": 90, ",": 60}
"""Silence after a segment that ends so. espeak leaves about 8 ms, and segments would run into each other."""


class Speak(msgspec.Struct, array_like=True, tag=0):
    id: int
    text: str
    language: str
    voice: str
    sample_rate: int
    rate_wpm: int
    pitch: int


class Cancel(msgspec.Struct, array_like=True, tag=1):
    id: int


class Piece(msgspec.Struct, array_like=True, tag=0):
    """PCM, and pairs of (index in the text, sample in the segment) for the words that begin in it."""

    id: int
    pcm: bytes
    words: list[tuple[int, int]]


class Done(msgspec.Struct, array_like=True, tag=1):
    """The last message about a request; ``code`` is empty when it went well."""

    id: int
    code: str = ""
    reason: str = ""


class Ready(msgspec.Struct, array_like=True, tag=2):
    """The library is loaded. ``languages`` are those it can speak (lower case BCP 47)."""

    languages: list[str]


Request = Speak | Cancel
Report = Piece | Done | Ready


class _Cut:
    """Cuts the silence before the first sound, but for ``ONSET`` samples: consonants begin softly."""

    def __init__(self) -> None:
        self.samples = 0
        self.heard = False

    def __call__(self, pcm: bytes) -> bytes:
        if self.heard:
            return pcm
        samples = memoryview(pcm).cast("h")
        loud = next((at for at, sample in enumerate(samples) if abs(sample) >= QUIET), None)
        if loud is None:
            self.samples += len(samples)
            return b""
        self.heard = True
        start = max(0, loud - ONSET)
        self.samples += start
        return pcm[2 * start :]


class _Utterance:
    """One request while it is being spoken: espeak's sound in, pieces out."""

    def __init__(self, speak: Speak, espeak_rate: int, pipe: WorkerPipe) -> None:
        self.id = speak.id
        self._pipe = pipe
        self._written = speak.text
        self._spoken: Spoken = prepare(speak.text, speak.language)
        self._ratio = speak.sample_rate / espeak_rate
        self._resampler = Resampler(espeak_rate, speak.sample_rate)
        self._piece = speak.sample_rate * PIECE_MS // 1000 * 2
        self._cut = _Cut()
        self._block = espeak_rate * BLOCK_MS // 1000 * 2
        self._raw = bytearray()
        self._buffer = bytearray()
        self._pieces: list[bytes] = []
        self._sent = 0
        self._marks: collections.deque[tuple[int, int]] = collections.deque()
        self._last_char = -1
        self.cancelled = False

    @property
    def text(self) -> str:
        return self._spoken.text

    def word(self, position: int, sample: int) -> None:
        """espeak says: the word at ``position`` (from 1) begins at ``sample`` of its own rate."""
        origin = self._spoken.origin
        if not origin:
            return
        char = word_start(self._written, origin[min(max(position - 1, 0), len(origin) - 1)])
        if char > self._last_char and char < len(self._written):
            self._last_char = char
            self._marks.append((char, sample))

    def sound(self, pcm: bytes) -> None:
        self._raw += self._cut(pcm)
        if not self._sent or len(self._raw) >= self._block:
            self._add(self._resampler.process(bytes(self._raw)))
            self._raw.clear()

    def finish(self) -> None:
        self._add(self._resampler.process(bytes(self._raw), last=True))
        if self._sent or self._buffer:
            end = self._written.rstrip().rstrip("*_`\"')”’")[-1:]
            self._buffer += bytes(PAUSES_MS.get(end, 0) * self._piece // PIECE_MS // 2 * 2)
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


class _Server:
    def __init__(self, pipe: WorkerPipe) -> None:
        self._pipe = pipe
        self._espeak = Espeak()
        self._waiting: collections.OrderedDict[int, Speak] = collections.OrderedDict()
        self._current: _Utterance | None = None
        self._callback = Callback(self._on_sound)
        self._failure: BaseException | None = None
        self._espeak.library.espeak_SetSynthCallback(self._callback)

    def run(self) -> None:
        self._pipe.send(_encode(Ready(sorted(self._espeak.names))))
        while True:
            self._take(None if not self._waiting else 0)
            if self._waiting:
                self._speak(self._waiting.popitem(last=False)[1])

    def _take(self, timeout_ms: int | None) -> None:
        for message in self._pipe.read(timeout_ms):
            request = _decode(message)
            if isinstance(request, Speak):
                self._waiting[request.id] = request
            elif self._current is not None and self._current.id == request.id:
                self._current.cancelled = True
            elif self._waiting.pop(request.id, None):
                self._pipe.send(_encode(Done(request.id)))

    def _speak(self, speak: Speak) -> None:
        try:
            file = self._espeak.choose(speak.language, speak.voice)
            self._espeak.use(file, speak.rate_wpm, speak.pitch)
        except Unspeakable as error:
            self._pipe.send(_encode(Done(speak.id, error.code, str(error))))
            return
        self._current = current = _Utterance(speak, self._espeak.sample_rate, self._pipe)
        text = current.text.encode()
        result = 0
        if any(map(str.isalnum, current.text)):  # signs alone would be read out by name
            result = self._espeak.library.espeak_Synth(text, len(text) + 1, 0, 1, 0, UTF8, None, None)
        self._current = None
        if self._failure is not None:
            raise self._failure
        if result != 0 and not current.cancelled:
            self._pipe.send(_encode(Done(speak.id, "tts.failed", f"espeak-ng returned {result}")))
            return
        if not current.cancelled:
            current.finish()
        self._pipe.send(_encode(Done(speak.id)))

    def _on_sound(self, wave: int | None, count: int, events: Any) -> int:
        """espeak's callback: 0 to go on, 1 to stop. An exception cannot pass through C and is kept for later."""
        current = self._current
        if current is None:
            return 1
        try:
            self._take(0)
            if current.cancelled:
                return 1
            at = 0
            while events[at].type:
                if events[at].type == WORD_EVENT:
                    current.word(events[at].text_position, events[at].sample)
                at += 1
            if wave and count > 0:
                current.sound(ctypes.string_at(wave, 2 * count))
        except BaseException as error:  # noqa: BLE001 - raised again by _speak
            self._failure = error
            return 1
        return 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Request).decode


def main() -> None:
    pipe = from_arguments()
    settle(int(sys.argv[1]))
    try:
        _Server(pipe).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the server is gone, or wants no more of us


if __name__ == "__main__":
    main()
