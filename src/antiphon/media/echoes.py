"""Which windows of many calls are the agent's own voice coming back: an ``EchoGuard`` and what it will hear, by slot.

Most windows never matter to a guard: it is asked only about those that may be speech. So they are kept as they came,
for all slots in a few copies a batch, and decoded once a guard has to hear them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.media.codec import decode, decode_float, to_pcm
from antiphon.media.echo import KEPT, EchoGuard
from antiphon.media.forms import FORMS, WINDOW_BYTES, Wideband
from antiphon.media.silero import WINDOW, Floats

Windows = NDArray[np.void]
"""Each window one item, so that it is copied as a whole."""
Slots = NDArray[np.intp]

SUSPECT = 0.3
"""From this probability on it is asked whether it is an echo: a little below where a gate that is open closes."""


class Echoes:
    """All slots'. Not for two threads at once."""

    def __init__(self) -> None:
        self._guards: dict[int, EchoGuard] = {}
        self._kept: dict[str, _Kept] = {}
        self._wideband = Wideband()

    def reset(self, slots: Sequence[int]) -> None:
        """These slots have a new owner."""
        self._wideband.reset(slots)
        for slot in slots:
            self._guards.pop(slot, None)
        for kept in self._kept.values():
            kept.reset(slots)

    def among(
        self,
        found: Floats,
        slots: Slots,
        audio: Sequence[tuple[str, bytes]],
        played: Sequence[bytes | bytearray | None],
        samples: Floats,
    ) -> list[int]:
        """The rows whose speech is an echo, of one window for each slot.

        ``found`` are the probabilities of speech, ``audio`` and ``played`` as for ``ActivityBatch.step``, ``samples``
        what ``audio`` is at 8 kHz.
        """
        echoes: list[int] = []
        start = 0
        for form, data in audio:
            end = start + len(data) // WINDOW_BYTES[form]
            near = [row for row in range(start, end) if played[row] is not None]
            if near:
                kept = self._kept.get(form)
                if kept is None:
                    kept = self._kept[form] = _Kept(form)
                rows = np.array(near, dtype=np.intp)
                if kept.decimation is None:
                    mic = _windows(data, kept.size)[rows - start]
                else:
                    mic = _windows(to_pcm(samples[rows]), 2 * WINDOW)
                kept.add(slots[rows], mic, _windows(b"".join(filter(None, played[start:end])), kept.size))
                asked = rows[found[rows] >= SUSPECT].tolist()
                echoes += [row for row in asked if self._is_echo(int(slots[row]), kept)]
            start = end
        return echoes

    def _is_echo(self, slot: int, kept: _Kept) -> bool:
        """Whether the last window that is kept is the agent's own voice."""
        guard = self._guards.get(slot)
        if guard is None:
            guard = self._guards[slot] = EchoGuard()
        mic, far = kept.take(slot)
        if kept.decimation is None:
            heard, spoken = (np.frombuffer(decode(kept.codec, each), "<i2") for each in (mic, far))
        else:
            wave = decode_float(kept.codec, far)[None]
            heard = np.frombuffer(mic, np.int16)
            spoken = to_pcm(self._wideband.down(kept.decimation, wave, np.array([slot]))[0])
        guard.hear(heard, spoken, is_speech=True)
        return guard.explains()


class _Kept:
    """The last windows of all slots of a form, by turns in a ring: at most ``KEPT``, and none once they were taken.

    As they came, but from the microphone 16-bit samples at 8 kHz where it came at another rate.
    """

    def __init__(self, form: str) -> None:
        self.codec, _, self.decimation = FORMS[form]
        self.size = WINDOW_BYTES[form]
        self._mic = _windows(b"", self.size if self.decimation is None else 2 * WINDOW).reshape(0, KEPT)
        self._far = _windows(b"", self.size).reshape(0, KEPT)
        self._count: Slots = np.zeros(0, dtype=np.intp)

    def reset(self, slots: Sequence[int]) -> None:
        held = len(self._count)
        self._count[[slot for slot in slots if slot < held]] = 0

    def add(self, slots: Slots, mic: Windows, far: Windows) -> None:
        last = int(slots.max())
        if last >= len(self._count):
            capacity = 1 << last.bit_length()
            self._mic, self._far, self._count = (_longer(a, capacity) for a in (self._mic, self._far, self._count))
        count = self._count[slots]
        at = count % KEPT
        self._mic[slots, at] = mic
        self._far[slots, at] = far
        self._count[slots] = count + 1

    def take(self, slot: int) -> tuple[bytes, bytes]:
        """Of both, the oldest first."""
        count = int(self._count[slot])
        self._count[slot] = 0
        order = np.arange(max(0, count - KEPT), count) % KEPT
        return self._mic[slot, order].tobytes(), self._far[slot, order].tobytes()


def _windows(data: bytes | NDArray[np.int16], size: int) -> Windows:
    return np.frombuffer(data, f"V{size}")


def _longer(array: NDArray[Any], rows: int) -> NDArray[Any]:
    longer = np.zeros((rows, *array.shape[1:]), dtype=array.dtype)
    longer[: len(array)] = array
    return longer
