"""Hearing where speech is, by level. Pure.

A level is enough here: the agent's channel is digital, so what is not speech is exact silence or nearly so.
"""

from __future__ import annotations

import numpy as np

from antiphon.media.codec import mulaw_decode
from antiphon.phone.farend import RATE

AUDIBLE = 400
"""Amplitude from which a sample counts as sound, in 16-bit units (-38 dB of full scale)."""

PAUSE = RATE // 5
"""200 ms without an audible sample end a stretch of speech: longer than the pauses within words and shorter than those
between turns."""


def voiced_span(mulaw: bytes, threshold: int = AUDIBLE) -> tuple[int, int] | None:
    """The first and last samples at or above ``threshold``, or ``None``."""
    loud = np.flatnonzero(np.abs(np.frombuffer(mulaw_decode(mulaw), "<i2").astype(np.int32)) >= threshold)
    return (int(loud[0]), int(loud[-1])) if len(loud) else None


class Ear:
    """Follows one channel: when it was last audible, and since when it speaks."""

    def __init__(self) -> None:
        self.last_audible = -1
        self.first_audible = -1
        """Position of the first audible sample since ``listen_anew``; -1: none yet."""
        self._in_speech = False

    def hear(self, mulaw: bytes, position: int) -> None:
        """``mulaw`` is what was heard from ``position`` on."""
        span = voiced_span(mulaw)
        if span is None:
            return
        if self._in_speech and position + span[0] - self.last_audible >= PAUSE:
            self._in_speech = False
        self.last_audible = position + span[1]
        if self.first_audible < 0 and not self._in_speech:
            self.first_audible = position + span[0]

    def listen_anew(self, now: int) -> None:
        """From now on ``first_audible`` waits for new speech; what is just being spoken must pause first."""
        self.first_audible = -1
        self._in_speech = self.last_audible >= 0 and self.quiet_for(now) < PAUSE

    def quiet_for(self, now: int) -> int:
        """Samples since the last audible one."""
        return now - 1 - self.last_audible
