"""A speakerphone in a room: what of the agent's voice comes back into the caller's microphone. Pure.

The model: a small loudspeaker (300 to 3300 Hz, uneven by some dB), the way to the microphone, and a room that rings.
A room's answer is taken for noise that dies away evenly, which is what statistical room acoustics says of its late
part (Kuttruff, Room Acoustics, chapter 4), behind a direct sound as strong as twice all of it.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


class Speakerphone(msgspec.Struct, frozen=True, kw_only=True):
    """``level_db`` is how loud the agent comes back, against what was played; ``delay_ms`` when, as the network and the
    caller's device have it; ``ringing_ms`` the room's reverberation time to -60 dB; ``seed`` chooses the room.
    """

    level_db: float = -15.0
    delay_ms: int = 120
    ringing_ms: int = 200
    seed: int = 1


DIRECT: float = 2.0
_PIECE = 128


def answer(phone: Speakerphone, rate: int) -> Samples:
    """The way from the agent's voice to the microphone, without its delay: samples at ``rate`` Hz."""
    random = np.random.default_rng(phone.seed)
    count = max(_PIECE, rate * phone.ringing_ms // 1000)
    ringing = random.standard_normal(count) * 10 ** (-3 * np.arange(count) * 1000 / rate / max(phone.ringing_ms, 1))
    ringing /= np.sqrt(np.sum(ringing**2))
    ringing[0] += np.sqrt(DIRECT)
    whole = np.convolve(ringing, _loudspeaker(random, rate))
    return np.asarray(whole / np.sqrt(np.sum(whole**2)) * 10 ** (phone.level_db / 20), dtype=np.float32)


def _loudspeaker(random: np.random.Generator, rate: int) -> npt.NDArray[np.float64]:
    hertz = np.fft.rfftfreq(_PIECE, 1 / rate)
    passes = 1 / (1 + (300 / np.maximum(hertz, 1)) ** 4) / (1 + (hertz / 3300) ** 8)
    uneven = 10 ** (random.normal(0, 2.5, len(hertz)) / 20)
    middle = np.exp(-2j * np.pi * hertz / rate * (_PIECE // 4))
    return np.fft.irfft(passes * uneven * middle) * np.hanning(_PIECE)


class Echo:
    """A line's echo. ``reach`` samples before a frame are needed to know what comes back in it."""

    def __init__(self, phone: Speakerphone, rate: int) -> None:
        self.delay = phone.delay_ms * rate // 1000
        self._answer = answer(phone, rate)
        self._spectrum: npt.NDArray[np.complexfloating[Any, Any]] | None = None
        self.reach = len(self._answer) - 1

    def of(self, played: Samples) -> Samples:
        """``played`` begins ``reach`` samples before the frame, all of it ``delay`` earlier: the frame's echo."""
        # By spectra: at 48 kHz a direct sum would take a third of a frame's time.
        size = 1 << (len(played) - 1).bit_length()
        if self._spectrum is None or len(self._spectrum) != size // 2 + 1:
            self._spectrum = np.fft.rfft(self._answer, size)
        whole = np.fft.irfft(np.fft.rfft(played, size) * self._spectrum, size)
        return whole[self.reach : len(played)].astype(np.float32)
