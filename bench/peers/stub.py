"""The providers of both peers, as far as they are the same: what is said, and when.

Python's own library alone: the peers' interpreters run it, and nothing of Antiphon is installed there. It says what
Antiphon's ``fake`` providers say, at the same times: the transcript ``stt_ms`` after the utterance, the first
word of the reply ``llm_ms`` after the request and each further one ``llm_token_ms`` later, the first sound
``tts_ms`` after a text, all of it at once, ``CHAR_MS`` for each character.
"""

from __future__ import annotations

import argparse
import array
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

CHAR_MS = 60
PIECE_MS = 100
TONE_HZ = 440
TONE_PEAK = 8230
"""-12 dBFS."""
LOUD_MS = 20
LOUD = 500
"""20 ms with a sample above it are speech to the stub's ear: the line's noise stays below 150."""

_WORD = re.compile(r"\S+\s*")


@dataclass(frozen=True)
class Script:
    """Delays in ms. With ``partial_ms`` above 0, one more word is told for each such stretch of speech."""

    port: int
    variant: str
    stt_ms: float
    partial_ms: float
    llm_ms: float
    llm_token_ms: float
    tts_ms: float
    transcript: str
    reply: str

    @property
    def tokens(self) -> list[str]:
        return _WORD.findall(self.reply)

    def partial(self, speech_ms: float) -> str:
        """What is understood of the transcript after that much speech; empty without partials."""
        if not self.partial_ms:
            return ""
        return " ".join(self.transcript.split()[: int(speech_ms // self.partial_ms)])


class Loud:
    """How much of an utterance was loud, ms: the same however the audio is cut into frames (16 bit, little-endian)."""

    def __init__(self, rate: int) -> None:
        self._piece = 2 * rate * LOUD_MS // 1000
        self._rest = b""
        self.ms = 0

    def feed(self, pcm: bytes) -> int:
        """Returns ``ms``, as it is now."""
        audio = self._rest + pcm
        whole = len(audio) - len(audio) % self._piece
        for start in range(0, whole, self._piece):
            samples = memoryview(audio[start : start + self._piece]).cast("h")
            if max(samples) > LOUD or min(samples) < -LOUD:
                self.ms += LOUD_MS
        self._rest = audio[whole:]
        return self.ms

    def clear(self) -> None:
        """Another utterance begins."""
        self.ms, self._rest = 0, b""


def script(arguments: Sequence[str] | None = None) -> Script:
    """From the command line: every field of ``Script`` is an option."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--variant", default="")
    for name in ("stt-ms", "partial-ms", "llm-ms", "llm-token-ms", "tts-ms"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    parser.add_argument("--transcript", default="what are admission requirements")
    parser.add_argument("--reply", required=True)
    return Script(**vars(parser.parse_args(arguments)))


@functools.lru_cache(maxsize=256)
def speech(text: str, rate: int) -> tuple[bytes, ...]:
    """A tone as long as ``text``, 16 bit little-endian, in pieces of 100 ms: computed once, nobody's cost."""
    count = len(text.strip()) * CHAR_MS * rate // 1000
    ramp = rate * 5 // 1000
    samples = array.array("h", bytes(2 * count))
    for n in range(count):
        level = min(1.0, n / ramp, (count - 1 - n) / ramp) * TONE_PEAK
        samples[n] = int(level * math.sin(2 * math.pi * TONE_HZ * n / rate))
    pcm, step = samples.tobytes(), 2 * rate * PIECE_MS // 1000
    return tuple(pcm[start : start + step] for start in range(0, len(pcm), step))
