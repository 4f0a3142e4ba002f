"""The voice activity gate: speech probabilities in, edges out.

Two thresholds (hysteresis) keep a voice that fades from flickering; a minimum of speech keeps
clicks and coughs of one window out; the hangover bridges the pauses between words.
"""

from __future__ import annotations

import msgspec

from antiphon.errors import ConfigError

WINDOW_MS = 32
"""One window of the model: 256 samples at 8 kHz."""


class GateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How quick and how sure the gate is. Times are ms; each is rounded up to whole windows of 32 ms.

    - ``open_threshold`` (0..1): a window at or above it is speech while the gate is closed.
    - ``close_threshold`` (0..``open_threshold``): a window below it is silence.
    - ``min_speech_ms`` (0..2000): speech must last this long before the gate opens. It delays barge-in
      by as much; a single window (32) opens on clicks.
    - ``hangover_ms`` (0..5000): silence must last this long before the gate closes. It is part of the
      caller's wait for every answer; below 200 it cuts at the pauses inside words.

    Raises ``ConfigError`` for values out of range.
    """

    open_threshold: float = 0.5
    close_threshold: float = 0.35
    min_speech_ms: int = 64
    hangover_ms: int = 224

    def __post_init__(self) -> None:
        if not 0.0 < self.open_threshold <= 1.0:
            raise ConfigError(f"open_threshold is {self.open_threshold}: give a probability above 0, up to 1")
        if not 0.0 <= self.close_threshold <= self.open_threshold:
            raise ConfigError(f"close_threshold is {self.close_threshold}: give 0 to open_threshold")
        if not 0 <= self.min_speech_ms <= 2000:
            raise ConfigError(f"min_speech_ms is {self.min_speech_ms}: give 0 to 2000")
        if not 0 <= self.hangover_ms <= 5000:
            raise ConfigError(f"hangover_ms is {self.hangover_ms}: give 0 to 5000")


class Edge(msgspec.Struct, frozen=True):
    """Speech began or ended. ``kind``: started, stopped.

    ``position_ms`` is media time since the gate's first window: where speech began (the first window
    of it), or where it ended (the end of its last window). ``hangover_ms`` is how long the gate then
    waited to be sure that it had ended (0 for started).
    """

    kind: str
    position_ms: int
    hangover_ms: int = 0


class Gate:
    """One caller's gate. Synchronous; one ``step`` for each window, in order."""

    __slots__ = ("_close", "_hangover", "_min_speech", "_open", "_run", "_window", "speaking")

    def __init__(self, settings: GateSettings | None = None) -> None:
        settings = settings or GateSettings()
        self._open = settings.open_threshold
        self._close = settings.close_threshold
        # At least one window of each: no edge can be decided on nothing.
        self._min_speech = max(1, -(-settings.min_speech_ms // WINDOW_MS))
        self._hangover = max(1, -(-settings.hangover_ms // WINDOW_MS))
        self._window = 0
        self._run = 0
        self.speaking = False
        """True from the edge ``started`` to the edge ``stopped``."""

    @property
    def is_pausing(self) -> bool:
        """Speech is open, and the last window was silence: it is over soon, unless the voice comes back."""
        return self.speaking and self._run > 0

    @property
    def position_ms(self) -> int:
        """How much audio was seen."""
        return self._window * WINDOW_MS

    def step(self, probability: float) -> Edge | None:
        """Takes the next window's speech probability (0..1; not a number counts as silence)."""
        self._window += 1
        if self.speaking:
            if probability >= self._close:
                self._run = 0
                return None
            self._run += 1
            if self._run < self._hangover:
                return None
            waited = self._run * WINDOW_MS
            self._run = 0
            self.speaking = False
            return Edge("stopped", self._window * WINDOW_MS - waited, waited)
        # Once a voice has begun, the lower threshold is enough for it to go on.
        if probability >= (self._close if self._run else self._open):
            self._run += 1
            if self._run < self._min_speech:
                return None
            began = self._window - self._run
            self._run = 0
            self.speaking = True
            return Edge("started", began * WINDOW_MS)
        self._run = 0
        return None
