"""How audio comes to the voice activity detector: a codec at a rate, and what makes samples at 8 kHz of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from antiphon.media.codec import CODECS, bytes_per_sample
from antiphon.media.decimate import RATES, TARGET, Decimation
from antiphon.media.silero import WINDOW, Floats

FORMS = {
    codec if rate == TARGET else f"{codec}@{rate}": (
        codec,
        rate // TARGET,
        None if rate == TARGET else Decimation(rate),
    )
    for codec in CODECS
    for rate in RATES
}
"""Form -> its codec, its samples for one at 8 kHz, and how they are brought down to that."""
WINDOW_BYTES = {form: WINDOW * factor * bytes_per_sample(codec) for form, (codec, factor, _) in FORMS.items()}
"""Form -> bytes in one window of 32 ms, which is 256 samples at 8 kHz."""
_REACH = max(decimation.reach for _, _, decimation in FORMS.values() if decimation is not None)


def form_of(codec: str, sample_rate: int) -> str:
    """How audio comes: the codec's name, and the rate where it is not 8000 Hz. Raises ``ValueError`` for no such."""
    form = codec if sample_rate == TARGET else f"{codec}@{sample_rate}"
    if form not in WINDOW_BYTES:
        rates = ", ".join(map(str, RATES))
        raise ValueError(f"no voice activity for {codec!r} at {sample_rate} Hz: use {', '.join(CODECS)} at {rates} Hz")
    return form


class Wideband:
    """Brings streams down to 8 kHz piece by piece: for each slot the end of its last piece, at its own rate."""

    def __init__(self) -> None:
        self._before = np.zeros((0, _REACH), dtype=np.float32)

    def reset(self, slots: Sequence[int]) -> None:
        """These slots have a new owner."""
        held = len(self._before)
        self._before[[slot for slot in slots if slot < held]] = 0.0

    def down(self, decimation: Decimation, wave: Floats, slots: NDArray[np.intp]) -> Floats:
        """The next piece of each slot, ``[len(slots), n * factor]`` samples, to ``[len(slots), n]``."""
        last = int(slots.max())
        if last >= len(self._before):
            before, self._before = self._before, np.zeros((1 << last.bit_length(), _REACH), dtype=np.float32)
            self._before[: len(before)] = before
        wide = np.concatenate([self._before[slots, -decimation.reach :], wave], axis=1)
        self._before[slots, -decimation.reach :] = wide[:, -decimation.reach :]
        return decimation(wide)
