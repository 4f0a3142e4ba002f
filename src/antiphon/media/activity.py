"""Speech probability for many calls at once: decoding, context and recurrent state around ``SileroBatch``.

The one place that decides when the model's state starts afresh. Every call owns a slot, a small number
that its owner hands out and recycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from antiphon.media.codec import decode_float
from antiphon.media.doze import Doze
from antiphon.media.echoes import Echoes
from antiphon.media.forms import FORMS, WINDOW_BYTES, Wideband
from antiphon.media.silero import CONTEXT, STATE, WINDOW, Floats, SileroBatch

CLEAR = 0.1
"""Below this probability a window is clearly not speech."""
FORGET_AFTER = 62
"""Windows of clear non-speech in a row (2 s) after which the recurrent state starts afresh. Left alone it drifts
in long pauses: after 20 s of line noise the next word was found one to six windows later than with a fresh state.
What a line dozes through (``media.doze``) does not drift, and does not count.
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
        self._wideband = Wideband()
        self._echoes = Echoes()
        self._clear = np.zeros(slots, dtype=np.int32)
        self._doze = Doze(slots)
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
        self._doze.reset(index)
        self._wideband.reset(slots)
        self._echoes.reset(slots)

    def step(
        self, slots: Sequence[int], audio: Sequence[tuple[str, bytes]], played: Sequence[bytes | bytearray | None] = ()
    ) -> list[float]:
        """One window for each of ``slots`` (no slot twice): probabilities 0..1 in the same order.

        ``audio`` holds the windows in that order, those of one form joined: ``[("mulaw", n * 256 bytes), ...]``.
        A slot keeps its form until it is reset. ``played`` has for each slot what it was played in that window, in the
        same form, or ``None`` if nothing was for a while; empty: nothing to anybody. What turns out to be the echo
        of that is no speech: 0. Raises ``ValueError`` if they do not add up to one window for each slot, ``KeyError``
        for another form.
        """
        size = len(slots)
        self._hold(max(slots))
        if size > len(self._windows):
            self._rows(1 << (size - 1).bit_length())
        windows = self._windows[:size]
        index = np.asarray(slots, dtype=np.intp)
        windows[:, :CONTEXT] = self._context[index]
        self._decode(audio, windows[:, CONTEXT:], index)
        awake = self._doze.awake(index, windows[:, CONTEXT:])
        probability = self._heard(index, windows, np.flatnonzero(awake))
        self._context[index] = windows[:, WINDOW:]
        self._forget(index, probability, awake)
        if any(played):
            probability[self._echoes.among(probability, index, audio, played, windows[:, CONTEXT:])] = 0.0
        found: list[float] = probability.tolist()
        return found

    def _heard(self, index: NDArray[np.intp], windows: Floats, rows: NDArray[np.intp]) -> Floats:
        """The model's word on these rows; 0 for the others."""
        found = np.zeros(len(index), dtype=np.float32)
        if len(rows):
            if len(rows) < len(index):
                index, windows = index[rows], windows[rows]
            h, c = self._h_rows[: len(rows)], self._c_rows[: len(rows)]
            # Slots are in range; "raise" would make sure, and copy everything twice for it.
            np.take(self._h, index, axis=0, out=h, mode="clip")
            np.take(self._c, index, axis=0, out=c, mode="clip")
            found[rows], self._h[index], self._c[index] = self._model.step(windows, h, c)
        return found

    def _decode(self, audio: Sequence[tuple[str, bytes]], samples: Floats, index: NDArray[np.intp]) -> None:
        row = 0
        for form, data in audio:
            count, rest = divmod(len(data), WINDOW_BYTES[form])
            if rest or row + count > len(samples):
                raise ValueError(f"{len(data)} bytes of {form} are not the windows that are due")
            codec, factor, decimation = FORMS[form]
            wave = decode_float(codec, data).reshape(count, factor * WINDOW)
            if decimation is not None:
                wave = self._wideband.down(decimation, wave, index[row : row + count])
            samples[row : row + count] = wave
            row += count
        if row != len(samples):
            raise ValueError(f"{row} windows of audio for {len(samples)} slots")

    def _forget(self, index: NDArray[np.intp], probability: Floats, awake: NDArray[np.bool_]) -> None:
        is_clear = probability < CLEAR
        self._doze.note(index, is_clear)
        clear = self._clear[index] + awake  # what dozes does not drift
        clear[~is_clear] = 0
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
        self._doze.grow(held + more)
