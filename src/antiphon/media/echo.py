"""Whether what a caller's microphone picks up is the agent's own voice: a speakerphone's echo.

One ``EchoGuard`` for each caller who is being spoken to. It is given every window (32 ms at 8 kHz) of the microphone
and of what was played meanwhile, and is asked only about windows that the voice activity detector takes for speech:
while nobody is heard it costs a copy a window, which the detector keeps for it.

A window is *explained* if the path from the agent's voice to the microphone, as far as it is known, accounts for most
of what is in it. The path is a delay and, for each band of frequencies, how much comes back. It is found by coherence:
a stretch of the microphone that goes with what was played at one delay, phase by phase, as no other voice does even at
the same pitch. Once the path is known levels are enough: what is louder than it allows is the caller. That forgives a
delay that wavers, as it does where audio is sent in messages; an echo canceller, which subtracts wave from wave, would
have to begin anew each time.

Why none is used: WebRTC's (the ``livekit`` wheel) takes 11 ms of processor time for each second of a call, all the
time, where everything else together takes 1.6; ``pyaec`` names no licence and ``speexdsp`` has no wheels.

Samples are 16-bit integers at 8 kHz, half of what floats would take of a call's memory. Not for two threads at once.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pcm = NDArray[np.int16]
Spectra = NDArray[np.complexfloating[Any, Any]]

WINDOW: Final = 256
LONGEST_DELAY: Final = 5120
"""Samples from the playout clock to the microphone: 640 ms."""

KEPT: Final = 32
"""Windows that a guard must have heard to know all that it can: a second."""

_FRAME: Final = 512
_HEARD: Final = 2048
"""Samples of the microphone that are kept, and that a search looks at: 256 ms."""
_PLAYED: Final = _HEARD + LONGEST_DELAY
_SEARCH: Final = 8192
_HOP: Final = 128
_LEAD: Final = 96
"""Samples by which a frame of what was played is set early, so that a room's first reflections fall into it."""

_EDGES: Final = (
    *(250, 350, 450, 550, 650, 770, 900, 1050, 1200),
    *(1370, 1550, 1750, 1970, 2200, 2450, 2720, 3000, 3300, 3600),
)
"""Hz; the bands that levels are compared in: a telephone's, 100 Hz wide below and 300 above."""
_BINS: Final = np.round(np.array(_EDGES) * _FRAME / 8000).astype(np.intp)
_LOW, _HIGH = int(_BINS[0]), int(_BINS[-1])
_SEARCHED: Final = slice(_LOW * _SEARCH // _FRAME, _HIGH * _SEARCH // _FRAME)
_FAINTEST: Final = np.float32(1e-9 * (32768 / _SEARCH) ** 2)
"""What two spectra have in common at one frequency, if it is nothing."""
_FLOOR: Final = 1e-7 * _FRAME
"""Power in a band that is nothing: about -80 dBFS."""

SURE: Final = 14.0
LIKELY: Final = 10.0
"""A search has found the delay if its peak is so many times the root mean square of all delays: ``SURE`` at once,
``LIKELY`` if the window before had it, too. Over voices that have nothing to do with each other one search in forty
came to 10, and hardly any twice at one delay; over an echo of 130 ms the usual is 20."""
COHERENT: Final = 0.3
"""The share of a stretch that must go with what was played for its path to be learnt from it. A caller who speaks 15 dB
over the echo leaves 0.2; an echo alone has 0.5 to 0.75, in a room with much reverberation 0.3 to 0.5."""
UNEXPLAINED: Final = 0.4
"""The share of a window, weighed by amplitude, above which it is the caller's."""
MARGIN: Final = 4.0
"""In power: an echo may be so much louder than the path lets expect (6 dB)."""
_DECAYS: Final = 0.5 ** np.arange(6, dtype=np.float32)
"""In power, per window: how a room's reverberation is taken to die away (0.64 s to -60 dB)."""
PATIENCE: Final = 4
"""Windows of a possible echo on a line whose path is not known: so long a search may find nothing, as it needs some 130
ms of sound. Only the first echo of a line waits for it, and a caller who speaks over the agent's very first words."""
SEARCHES: Final = 6
"""Searches that may be in vain within one stretch of speech: by then it is the caller."""
SAME: Final = 40
"""Samples (5 ms): a delay that differs by less has not moved."""

PACE: Final = 0.05
"""How much of a difference the path takes on with a window."""
SILENT: Final = 30
"""Windows in which the agent was playing and the caller silent: then there is no echo on this line to wait for."""

_BANDS: Final = len(_EDGES) - 1
_HANN = np.hanning(_FRAME + 1)[:-1].astype(np.float32)


class EchoGuard:
    """Knows one caller's echo path. ``hear`` for every window, in order; ``explains`` about the last one heard."""

    def __init__(self) -> None:
        self._mic: Pcm = np.zeros(_HEARD, dtype=np.int16)
        self._far: Pcm = np.zeros(_PLAYED, dtype=np.int16)
        self.delay = -1
        """Samples from the playout clock to the microphone; -1: no echo was found so far."""
        self._gain = np.zeros(_BANDS, dtype=np.float32)
        self._noise = np.full(_BANDS, _FLOOR, dtype=np.float32)
        self._patience = PATIENCE
        self._unheard = 0
        self._doubts = 0
        self._likely = -1
        """The delay that the last search took for likely; -1: none."""
        self._rung = -1
        """Windows since ``_ringing`` was brought up to date; -1: it is not."""
        self._ringing = np.zeros(_BANDS, dtype=np.float32)
        self.searches = 0

    def hear(self, mic: Pcm, far: Pcm, is_speech: bool) -> None:
        """256 samples from the microphone, whether they may be speech, and what was played in that time.

        Or several windows at once: then only the last may be speech.
        """
        for kept, new in ((self._mic, mic), (self._far, far)):
            if len(new) < len(kept):
                kept[: -len(new)] = kept[len(new) :]
                kept[-len(new) :] = new
            else:
                kept[:] = new[-len(kept) :]
        windows = len(mic) // WINDOW
        self._rung += windows * (self._rung >= 0)
        silent = windows - is_speech
        if silent:
            self._doubts, self._likely = 0, -1
            self._unheard += int(np.count_nonzero(far[: silent * WINDOW].reshape(silent, WINDOW).any(axis=1)))
            if self._unheard >= SILENT:
                self._patience = 0
        if is_speech:
            self._unheard = 0

    def explains(self) -> bool:
        """True if the window heard last is the agent's own voice, or may be and is not to be decided yet."""
        if not self._far.any():
            return False
        if self.delay >= 0:
            heard, echo = self._levels()
            if _left(heard, MARGIN * echo + 2 * self._noise) < UNEXPLAINED:
                self._follow(heard, echo)
                self._doubts = 0
                return True
        self._doubts += 1
        if self._doubts <= SEARCHES and self._find():
            self._doubts = 0
            return True
        if self.delay >= 0:
            return False
        self._patience -= self._patience > 0
        return self._patience > 0

    def _levels(self) -> tuple[Floats, Floats]:
        """Of the last window, per band: what was heard, and what of the agent's voice may be in it."""
        end = _PLAYED - max(self.delay - _LEAD, 0)
        # From one window to the next the rest of the room's answer is known already.
        reach = 1 if self._rung == 1 else len(_DECAYS)
        frames = [self._far[end - _FRAME - at * WINDOW : end - at * WINDOW] for at in range(reach)]
        bands = _bands(_wave(np.stack([self._mic[-_FRAME:], *frames])))
        if reach == 1:
            self._ringing = np.maximum(bands[1], _DECAYS[1] * self._ringing)
        else:
            self._ringing = (bands[1:] * _DECAYS[:, None]).max(axis=0)
        self._rung = 0
        return bands[0], self._gain * self._ringing

    def _follow(self, heard: Floats, echo: Floats) -> None:
        """The path changes slowly, with the caller's hand and the volume."""
        off = np.clip(heard / (echo + _FLOOR), 0.25, 4.0)
        matters = echo > 0.01 * echo.max()
        self._gain[matters] *= 1 + PACE * (off[matters] - 1)
        self._noise = np.minimum(1.1 * self._noise, np.maximum(heard, _FLOOR))

    def _find(self) -> bool:
        """Looks for the agent's voice at any delay. True if it was found where it was not known, and learnt."""
        self.searches += 1
        delay, sure = self._search()
        again = self._likely >= 0 and abs(delay - self._likely) <= SAME
        self._likely = delay if sure >= LIKELY else -1
        if sure < (LIKELY if again else SURE) or (self.delay >= 0 and abs(delay - self.delay) <= SAME):
            return False
        heard, played = self._stretch(delay)
        if _coherence(heard, played) < COHERENT:
            return False
        self.delay, self._rung = delay, -1
        heard, played = _power(heard).sum(axis=0), _power(played).sum(axis=0)
        most = 8 * heard.sum() / (played.sum() + _FLOOR)
        self._gain = np.minimum(heard / (played + _FLOOR), most).astype(np.float32)
        return True

    def _search(self) -> tuple[int, float]:
        """The likeliest delay, and how much it stands out. Phase alone counts: voices are alike in level."""
        both = np.zeros((2, _PLAYED), dtype=np.float32)
        both[0, :_HEARD], both[1] = self._mic, self._far
        # Of both at once, and "forward": else numpy plans each anew, and reckons in twice the width.
        heard, played = np.fft.rfft(both, _SEARCH, norm="forward")[:, _SEARCHED]
        cross = heard * np.conj(played)
        cross *= 1 / (np.abs(cross) + _FAINTEST)  # half the work of dividing complex numbers
        phases = np.zeros(_SEARCH // 2 + 1, dtype=np.complex64)
        phases[_SEARCHED] = cross
        found = np.fft.irfft(phases)
        found = np.abs(np.concatenate([found[-LONGEST_DELAY:], found[:1]]))
        at = int(found.argmax())
        return at, float(found[at] / (np.sqrt(np.dot(found, found) / len(found)) + 1e-9))

    def _stretch(self, delay: int) -> tuple[Spectra, Spectra]:
        """Frames of what was heard, and of what was played the delay before."""
        shift = max(delay - _LEAD, 0)
        starts = np.arange(0, _HEARD - _FRAME + 1, _HOP)[:, None] + np.arange(_FRAME)
        heard = np.fft.rfft(_wave(self._mic[starts]) * _HANN)[:, _LOW:_HIGH]
        played = np.fft.rfft(_wave(self._far[starts + (LONGEST_DELAY - shift)]) * _HANN)[:, _LOW:_HIGH]
        return heard, played


def _wave(pcm: Pcm) -> Floats:
    return pcm.astype(np.float32) * np.float32(1 / 32768)


def _bands(frames: Floats) -> Floats:
    spectra = np.fft.rfft(frames * _HANN)[:, _LOW:_HIGH]
    return _power(spectra)


def _power(spectra: Spectra) -> Floats:
    power = spectra.real**2 + spectra.imag**2
    bands: Floats = np.add.reduceat(power, _BINS[:-1] - _LOW, axis=1).astype(np.float32)
    return bands


def _left(heard: Floats, explained: Floats) -> float:
    """The share of what was heard that is not explained, by amplitude: else the vowels would decide alone."""
    weight = np.sqrt(heard)
    left = np.maximum(heard - explained, 0) / (heard + 1e-12)
    return float((weight * left).sum() / (weight.sum() + 1e-12))


def _coherence(heard: Spectra, played: Spectra) -> float:
    """The share of what was heard that goes with what was played, by amplitude."""
    own, other = (np.sum(s.real**2 + s.imag**2, axis=0) + 1e-9 for s in (heard, played))
    both = np.abs(np.sum(heard * np.conj(played), axis=0)) ** 2
    weight = np.sqrt(own)
    return float((weight * both / (own * other)).sum() / weight.sum())
