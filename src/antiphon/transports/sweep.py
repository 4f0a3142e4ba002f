"""One timer for all lines: everything that is a matter of seconds is checked in rounds, not by a timer per line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

PERIOD_S = 0.5


class Swept(Protocol):
    def sweep(self, now: float) -> None:
        """``now`` is monotonic, in seconds. Must not raise; may leave the sweep."""


class LineSweep:
    """Calls ``sweep(now)`` of every line that joined, each ``PERIOD_S``. Costs nothing while no line is joined."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lines: dict[int, Swept] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def join(self, line: Swept) -> None:
        self._lines[id(line)] = line
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._round)

    def leave(self, line: Swept) -> None:
        self._lines.pop(id(line), None)
        if not self._lines and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _round(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._round)
        now = self.clock()
        for line in tuple(self._lines.values()):
            line.sweep(now)
