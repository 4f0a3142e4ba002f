"""Sound that passes for a voice, made without any provider."""

from __future__ import annotations

import numpy as np

RATE = 8000


def made_up_voice(syllables: int = 8) -> bytes:
    """PCM at 8000 Hz: a falling pitch near 120 Hz with two formants, in syllables of 250 ms, then 300 ms of silence."""
    pieces = [_syllable(120 - 3 * number, *_FORMANTS[number % len(_FORMANTS)]) for number in range(syllables)]
    return b"".join(pieces) + bytes(RATE * 3 // 10 * 2)


_FORMANTS = ((700, 1200), (300, 2300), (500, 900), (400, 1900))
"""First and second formant in Hz, near the vowels of "father", "see", "law" and "bid"."""


def _syllable(pitch: float, first: float, second: float) -> bytes:
    seconds = np.arange(RATE // 4) / RATE
    wave = np.zeros_like(seconds)
    for harmonic in np.arange(pitch, 3600, pitch):
        level = np.exp(-(((harmonic - first) / 130) ** 2)) + 0.5 * np.exp(-(((harmonic - second) / 180) ** 2)) + 0.02
        wave += level * np.sin(2 * np.pi * harmonic * (seconds + 0.004 * np.sin(2 * np.pi * 5 * seconds) / (2 * np.pi)))
    wave *= np.sin(np.pi * seconds / seconds[-1]) ** 0.7
    pcm: bytes = (wave / np.abs(wave).max() * 9000).astype("<i2").tobytes()
    return pcm
