"""Speech probability for many calls at once: decoding, context and recurrent state around ``SileroBatch``.

The one place that decides when the model's state starts afresh. Every call owns a slot, a small number
that its owner hands out and recycles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from antiphon.media.codec import CODECS, bytes_per_sample, decode, decode_float, to_pcm
from antiphon.media.decimate import RATES, TARGET, Decimation
from antiphon.media.doze import Doze
from antiphon.media.echo import KEPT, EchoGuard, Pcm
from antiphon.media.silero import CONTEXT, STATE, WINDOW, Floats, SileroBatch

_FORMS = {
    codec if rate == TARGET else f"{codec}@{rate}": (
        codec,
        rate // TARGET,
        None if rate == TARGET else Decimation(rate),
    )
    for codec in CODECS
    for rate in RATES
}
WINDOW_BYTES = {form: WINDOW * factor * bytes_per_sample(codec) for form, (codec, factor, _) in _FORMS.items()}
"""Form -> bytes in one window of 32 ms, which is 256 samples at 8 kHz."""
_REACH = max(decimation.reach for _, _, decimation in _FORMS.values() if decimation is not None)


def form_of(codec: str, sample_rate: int) -> str:
    """How audio comes: the codec's name, and the rate where it is not 8000 Hz. Raises ``ValueError`` for no such."""
    form = codec if sample_rate == TARGET else f"{codec}@{sample_rate}"
    if form not in WINDOW_BYTES:
        rates = ", ".join(map(str, RATES))
        raise ValueError(f"no voice activity for {codec!r} at {sample_rate} Hz: use {', '.join(CODECS)} at {rates} Hz")
    return form


CLEAR = 0.1
"""Below this probability a window is clearly not speech."""
SUSPECT = 0.3
"""From this probability on it is asked whether it is an echo: a little below where a gate that is open closes."""
FORGET_AFTER = 62
"""Windows of clear non-speech in a row (2 s) after which the recurrent state starts afresh. Left alone it drifts
in long pauses: after 20 s of line noise the next word was found one to six windows later than with a fresh state.
What a line dozes through (``media.doze``) does not drift, and does not count.
"""


class _Echo:
    """A slot's guard, and the windows that it will hear once one of them may be speech: most never are, and stay as
    they came, unless they were brought down to 8 kHz.
    """

    __slots__ = ("guard", "waiting")

    def __init__(self) -> None:
        self.guard = EchoGuard()
        self.waiting: deque[tuple[bytes | Pcm, bytes]] = deque(maxlen=KEPT)


class ActivityBatch:
    """State of all slots, and one step for any of them. Not for two threads at once.

    ``weights`` as for ``SileroBatch``. Slots are numbers from 0; arrays grow by doubling to hold the highest.
    """

    def __init__(self, weights: Mapping[str, Floats], slots: int = 16) -> None:
        self._model = SileroBatch(weights, capacity=slots)
        self._h = np.zeros((slots, STATE), dtype=np.float32)
        self._c = np.zeros((slots, STATE), dtype=np.float32)
        self._context = np.zeros((slots, CONTEXT), dtype=np.float32)
        self._before = np.zeros((slots, _REACH), dtype=np.float32)
        """The end of the last window of slots that do not come at 8 kHz, at their own rate."""
        self._before_far = np.zeros((slots, _REACH), dtype=np.float32)
        """The same of what was played to them."""
        self._echoes: dict[int, _Echo] = {}
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
        self._before[index] = self._before_far[index] = 0.0
        self._clear[index] = 0
        self._doze.reset(index)
        for slot in slots:
            self._echoes.pop(slot, None)

    def step(
        self, slots: Sequence[int], audio: Sequence[tuple[str, bytes]], played: Sequence[bytes | None] = ()
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
        np.take(self._context, index, axis=0, out=windows[:, :CONTEXT])
        self._decode(audio, windows[:, CONTEXT:], index)
        awake = self._doze.awake(index, windows[:, CONTEXT:])
        probability = self._heard(index, windows, np.flatnonzero(awake))
        self._context[index] = windows[:, WINDOW:]
        self._forget(index, probability, awake)
        found: list[float] = probability.tolist()
        if played:
            self._without_echo(found, slots, audio, played, windows)
        return found

    def _heard(self, index: NDArray[np.intp], windows: Floats, rows: NDArray[np.intp]) -> Floats:
        """The model's word on these rows; 0 for the others."""
        found = np.zeros(len(index), dtype=np.float32)
        if len(rows):
            if len(rows) < len(index):
                index, windows = index[rows], windows[rows]
            h, c = self._h_rows[: len(rows)], self._c_rows[: len(rows)]
            np.take(self._h, index, axis=0, out=h)
            np.take(self._c, index, axis=0, out=c)
            found[rows], self._h[index], self._c[index] = self._model.step(windows, h, c)
        return found

    def _without_echo(
        self,
        found: list[float],
        slots: Sequence[int],
        audio: Sequence[tuple[str, bytes]],
        played: Sequence[bytes | None],
        windows: Floats,
    ) -> None:
        pieces = ((form, data, at) for form, data in audio for at in range(0, len(data), WINDOW_BYTES[form]))
        for row, ((form, data, at), slot, far) in enumerate(zip(pieces, slots, played, strict=True)):
            if far is None:
                continue
            echo = self._echoes.get(slot)
            if echo is None:
                echo = self._echoes[slot] = _Echo()
            is_wide = _FORMS[form][2] is not None
            heard = to_pcm(windows[row, CONTEXT:]) if is_wide else data[at : at + WINDOW_BYTES[form]]
            echo.waiting.append((heard, far))
            if found[row] >= SUSPECT and self._is_echo(echo, slot, form):
                found[row] = 0.0

    def _is_echo(self, echo: _Echo, slot: int, form: str) -> bool:
        """Whether the last window that waits is the agent's own voice."""
        waiting, guard, codec = echo.waiting, echo.guard, _FORMS[form][0]
        last = len(waiting)
        for number, (heard, far) in enumerate(waiting, 1):
            mic = np.frombuffer(decode(codec, heard), "<i2") if isinstance(heard, bytes) else heard
            guard.hear(mic, self._far(slot, form, far), number == last)
        waiting.clear()
        return guard.explains()

    def _far(self, slot: int, form: str, data: bytes) -> Pcm:
        codec, _, decimation = _FORMS[form]
        if decimation is None:
            return np.frombuffer(decode(codec, data), "<i2")
        wave = decode_float(codec, data)[None]
        return to_pcm(self._decimated(decimation, wave, np.array([slot]), self._before_far)[0])

    def _decode(self, audio: Sequence[tuple[str, bytes]], samples: Floats, index: NDArray[np.intp]) -> None:
        row = 0
        for form, data in audio:
            count, rest = divmod(len(data), WINDOW_BYTES[form])
            if rest or row + count > len(samples):
                raise ValueError(f"{len(data)} bytes of {form} are not the windows that are due")
            codec, factor, decimation = _FORMS[form]
            wave = decode_float(codec, data).reshape(count, factor * WINDOW)
            if decimation is not None:
                wave = self._decimated(decimation, wave, index[row : row + count], self._before)
            samples[row : row + count] = wave
            row += count
        if row != len(samples):
            raise ValueError(f"{row} windows of audio for {len(samples)} slots")

    @staticmethod
    def _decimated(decimation: Decimation, wave: Floats, index: NDArray[np.intp], before: Floats) -> Floats:
        reach = decimation.reach
        wide = np.concatenate([before[index, -reach:], wave], axis=1)
        before[index, -reach:] = wide[:, -reach:]
        return decimation(wide)

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
        self._h, self._c, self._context, self._before, self._before_far = (
            np.concatenate([a, np.zeros((more, a.shape[1]), dtype=np.float32)])
            for a in (self._h, self._c, self._context, self._before, self._before_far)
        )
        self._clear = np.concatenate([self._clear, np.zeros(more, dtype=np.int32)])
        self._doze.grow(held + more)
