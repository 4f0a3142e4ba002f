"""A synthesizer that speaks in one tone after a set delay: for tests and benchmarks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from functools import lru_cache
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from antiphon.errors import ProviderError
from antiphon.providers.faults import Faults, hang
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Sound, WordMark

Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[float, Meta(ge=0, le=600_000)]

TONE_HZ = 440
TONE_PEAK = 8230
"""-12 dBFS: 32767 x 10 ** (-12 / 20)."""

PIECE_MS = 100

_WORD = re.compile(r"\S+")


class FakeSynthesizerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The first sound comes after ``tts_ms``; a text lasts ``char_ms`` for each of its characters.

    ``tts_realtime_factor`` is the time spent on one second of sound, in seconds: 0 gives all of it at
    once. ``fail_every`` and ``hang_every`` count requests; the error is ``tts.failed``.
    """

    tts_ms: Milliseconds = 0.0
    tts_realtime_factor: Annotated[float, Meta(ge=0, le=100)] = 0.0
    char_ms: Annotated[float, Meta(ge=1, le=1000)] = 60.0
    fail_every: Count = 0
    hang_every: Count = 0


class FakeSynthesizer:
    name = "fake"

    def __init__(self, settings: FakeSynthesizerSettings) -> None:
        self.settings = settings
        self.faults = Faults(settings.fail_every, settings.hang_every)

    async def start(self) -> None:
        pass

    async def synthesize(
        self, text: str, *, language: str, sample_rate: int, voice: str = ""
    ) -> AsyncGenerator[Sound, None]:
        """Yields the tone in pieces of 100 ms, with a mark for each word, words spread evenly over it."""
        settings = self.settings
        fault = self.faults.next()
        if fault == "hang":
            await hang()
        if settings.tts_ms:
            await asyncio.sleep(settings.tts_ms / 1000)
        if fault == "fail":
            raise ProviderError("told to fail", provider=self.name, stage="tts", code="tts.failed")
        pause = settings.tts_realtime_factor * PIECE_MS / 1000
        for index, sound in enumerate(speech(text, sample_rate, settings.char_ms)):
            if index and pause:
                await asyncio.sleep(pause)
            yield sound

    async def close(self) -> None:
        pass


@lru_cache(maxsize=256)
def speech(text: str, sample_rate: int, char_ms: float) -> tuple[Sound, ...]:
    """The whole of a text's sound: kept, so that a benchmark measures the server and not this tone."""
    text = text.rstrip()
    per_char = char_ms * sample_rate / 1000
    pcm = tone(sample_rate, int(len(text) * per_char))
    marks = [WordMark(found.start(), int(found.start() * per_char)) for found in _WORD.finditer(text)]
    step = sample_rate * PIECE_MS // 1000
    pieces = []
    for begin in range(0, len(pcm) // 2, step):
        words = tuple(mark for mark in marks if begin <= mark.sample < begin + step)
        pieces.append(Sound(pcm[begin * 2 : (begin + step) * 2], words))
    return tuple(pieces)


@lru_cache(maxsize=256)
def tone(sample_rate: int, samples: int) -> bytes:
    """``samples`` samples of 440 Hz at -12 dBFS with 5 ms ramps, so that it neither begins nor ends in a click."""
    time = np.arange(samples, dtype=np.float64)
    ramp = sample_rate * 5 / 1000
    level = np.minimum(np.minimum(time, samples - 1 - time) / ramp, 1.0) * TONE_PEAK
    wave: bytes = (np.sin(time * (2 * np.pi * TONE_HZ / sample_rate)) * level).astype("<i2").tobytes()
    return wave


def build(settings: dict[str, object]) -> FakeSynthesizer:
    """``[tts] provider = "fake"``; see ``FakeSynthesizerSettings``."""
    return FakeSynthesizer(convert(settings, FakeSynthesizerSettings, "[tts] fake"))
