"""Speech probability for many calls at once: decoding, context and recurrent state around ``SileroBatch``.

The one place that decides when the model's state starts afresh. Every call owns a slot, a small number
that its owner hands out and recycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from antiphon.media.codec import decode_float
from antiphon.media.silero import CONTEXT, STATE, WINDOW, Floats, SileroBatch

WINDOW_BYTES = {"mulaw": WINDOW, "alaw": WINDOW, "pcm16": 2 * WINDOW}
"""Codec -> bytes in one window of 256 samples at 8 kHz."""

CLEAR = 0.1
"""Below this probability a window is clearly not speech."""
FORGET_AFTER = 62
"""Windows of clear non-speech in a row (2 s) after which the recurrent state starts afresh. Left alone it drifts
in long pauses: after 20 s of line noise the next word was found one to six windows later than with a fresh state.

Near-silent windows are not spared the model: batched, that would save a muted caller's 0.25 ms of processor time
a second, and every threshold that does so can be undercut by somebody who speaks softly on a good line.
"""


class ActivityBatch:
    """State of all slots, and one step for any of them. Not for two threads at once.

    ``weights`` as for ``SileroBatch``. Slots are numbers from 0; arrays grow by doubling to hold the highest.
    """

    def __init__(self, weights: Mapping[str, Floats], slots: int = 16) -> None:
        self._model = SileroBatch(weights, capacity=slots)
        self._h = np.zeros((slots, STATE), dtype=np.float32)
        self._c = np.zeros((slots, STATE), dtype=np.float32)
        self._context = np.zeros((slots, CONTEXT), dtype=np.float32)
        self._clear = np.zeros(slots, dtype=np.int32)
        self._rows(slots)

    def _rows(self, capacity: int) -> None:
        self._windows = np.zeros((capacity, CONTEXT + WINDOW), dtype=np.float32)
        self._h_rows = np.zeros((capacity, STATE), dtype=np.float32)
        self._c_rows = np.zeros((capacity, STATE), dtype=np.float32)

    def reset(self, slots: Sequence[int]) -> None:
        """These slots have a new owner: nothing of the last one may be left."""
        self._hold(max(slots, default=-1))
        index = np.asarray(slots, dtype=np.intp)
        self._h[index] = 0.0
        self._c[index] = 0.0
        self._context[index] = 0.0
        self._clear[index] = 0

    def step(self, slots: Sequence[int], audio: Sequence[tuple[str, bytes]]) -> list[float]:
        """One window for each of ``slots`` (no slot twice): probabilities 0..1 in the same order.

        ``audio`` holds the windows in that order, those of one codec joined: ``[("mulaw", n * 256 bytes), ...]``.
        Raises ``ValueError`` if they do not add up to one window for each slot, ``KeyError`` for another codec.
        """
        size = len(slots)
        self._hold(max(slots))
        if size > len(self._windows):
            self._rows(1 << (size - 1).bit_length())
        windows, h, c = self._windows[:size], self._h_rows[:size], self._c_rows[:size]
        index = np.asarray(slots, dtype=np.intp)
        np.take(self._context, index, axis=0, out=windows[:, :CONTEXT])
        self._decode(audio, windows[:, CONTEXT:])
        np.take(self._h, index, axis=0, out=h)
        np.take(self._c, index, axis=0, out=c)
        probability, h, c = self._model.step(windows, h, c)
        self._h[index] = h
        self._c[index] = c
        self._context[index] = windows[:, WINDOW:]
        self._forget(index, probability)
        found: list[float] = probability.tolist()
        return found

    @staticmethod
    def _decode(audio: Sequence[tuple[str, bytes]], samples: Floats) -> None:
        row = 0
        for codec, data in audio:
            count, rest = divmod(len(data), WINDOW_BYTES[codec])
            if rest or row + count > len(samples):
                raise ValueError(f"{len(data)} bytes of {codec} are not the windows that are due")
            samples[row : row + count] = decode_float(codec, data).reshape(count, WINDOW)
            row += count
        if row != len(samples):
            raise ValueError(f"{row} windows of audio for {len(samples)} slots")

    def _forget(self, index: NDArray[np.intp], probability: Floats) -> None:
        clear = self._clear[index] + 1
        clear[probability >= CLEAR] = 0
        due = clear >= FORGET_AFTER
        if due.any():
            self._h[index[due]] = 0.0
            self._c[index[due]] = 0.0
            clear[due] = 0
        self._clear[index] = clear

    def _hold(self, slot: int) -> None:
        held = len(self._clear)
        if slot < held:
            return
        more = (1 << slot.bit_length()) - held
        self._h, self._c, self._context = (
            np.concatenate([a, np.zeros((more, a.shape[1]), dtype=np.float32)])
            for a in (self._h, self._c, self._context)
        )
        self._clear = np.concatenate([self._clear, np.zeros(more, dtype=np.int32)])
