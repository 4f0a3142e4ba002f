"""Many streams at 16, 24 or 48 kHz down to 8 kHz, a window at a time, for the voice activity detector.

A short symmetrical filter and every n-th sample of what leaves it. ``media.resample`` is finer and holds back 30
to 60 ms; here a sample is late by half the filter, 1 ms, because every millisecond of it is heard at a barge-in.
The pass band ends at 3.2 kHz, where a telephone's does; what folds back from above 4.8 kHz is 60 dB down.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float32]

TARGET = 8_000
RATES = (8_000, 16_000, 24_000, 48_000)
"""Hz; whole multiples of the target."""

_TAPS = 19
"""Per unit of the factor. With a Kaiser window of 60 dB (beta 5.65) the transition is 1.6 kHz wide."""
_BETA = 5.65
_CUTOFF = 4_000.0


class Decimation:
    """From ``rate`` (16000, 24000 or 48000 Hz) to 8000 Hz. Holds no stream's state; raises ``KeyError`` otherwise."""

    def __init__(self, rate: int) -> None:
        self.factor = {16_000: 2, 24_000: 3, 48_000: 6}[rate]
        self.reach = _TAPS * self.factor - 1
        """Samples before a piece that the filter sees again."""
        position = np.arange(self.reach + 1) - self.reach / 2
        taps = np.sinc(position * 2 * _CUTOFF / rate) * np.kaiser(self.reach + 1, _BETA)
        self._taps: Floats = (taps / taps.sum()).astype(np.float32)

    def __call__(self, samples: Floats) -> Floats:
        """``[B, reach + n * factor]`` samples to ``[B, n]``: the first ``reach`` are the end of the piece before."""
        # One product per tap over the whole batch: a matrix of overlapping rows would be copied by BLAS.
        rows = sliding_window_view(samples, self.reach + 1, axis=1)[:, self.factor - 1 :: self.factor]
        out: Floats = np.einsum("bnt,t->bn", rows, self._taps, optimize=False)
        return out
