"""What the process knows of its own condition: how late its event loop runs, whom it turned away, whether it stops."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TextIO

from antiphon.errors import ConfigError

TICK_S = 0.1
WINDOW_S = 10.0
LATE_MS = 250.0
"""A loop later than this within the last ten seconds makes health say degraded: callers hear a gap of 250 ms."""


class Vitals:
    """One per process: the composition root gives the same one to ``create_app`` and ``serve``.

    ``watchdog_s``: a loop that stands still for this long ends the process with status 1, after writing every
    thread's stack to ``dump_to`` (default: stderr): a frozen process would keep its calls, a dead one lets
    another take them over. 1 s is a sensible value where one does; 0 turns it off. A process has one watchdog. One
    that is stopped on purpose (Ctrl-Z) is not frozen. Raises ``ConfigError`` for one shorter than 0.4 s.
    """

    def __init__(
        self,
        *,
        watchdog_s: float = 0.0,
        dump_to: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if 0 < watchdog_s < 0.4:  # it is armed anew every quarter, a tick later at worst; collections stop the loop too
            raise ConfigError("server.watchdog_s must be 0 (off) or at least 0.4: shorter ones fire on a live loop")
        self.draining = False
        self.refused: Counter[str] = Counter()
        """Lines that were turned away before they were open, by code."""
        self._watchdog_s = watchdog_s
        self._dump_to = dump_to or sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - None: closed by the shell
        self._clock = clock
        self._born = clock()
        self._due = 0.0
        self._armed_until = 0.0
        self._late: deque[float] = deque(maxlen=round(WINDOW_S / TICK_S))
        self._timer: asyncio.TimerHandle | None = None

    @property
    def uptime_s(self) -> float:
        return self._clock() - self._born

    @property
    def loop_lag_ms(self) -> float:
        """The worst lateness of the loop within the last ten seconds; 0 before ``start``."""
        return max(self._late, default=0.0)

    @property
    def loop_is_late(self) -> bool:
        return self.loop_lag_ms > LATE_MS

    def turned_away(self, code: str) -> None:
        """Counts a line that was not taken on."""
        self.refused[code] += 1

    def start(self) -> None:
        """Begins to watch the running loop."""
        if self._timer is None:
            self._rearm()
            self._next_tick()
            if self._watchdog_s and threading.current_thread() is threading.main_thread():
                asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, self._sleep)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            if self._watchdog_s:
                self._disarm()
                if threading.current_thread() is threading.main_thread():
                    asyncio.get_running_loop().remove_signal_handler(signal.SIGTSTP)

    def _sleep(self) -> None:
        """Stops the process, as the signal would have; when it is continued it is watched again."""
        self._disarm()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._rearm()

    def _next_tick(self) -> None:
        self._due = self._clock() + TICK_S
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._late.append(max(0.0, (self._clock() - self._due) * 1000.0))
        self._rearm()
        self._next_tick()

    def _rearm(self) -> None:
        # Each arming starts a thread, about 50 us: so not on every tick.
        if self._watchdog_s and self._clock() >= self._armed_until:
            self._armed_until = self._clock() + self._watchdog_s / 4
            faulthandler.dump_traceback_later(self._watchdog_s, exit=True, file=self._dump_to)

    def _disarm(self) -> None:
        self._armed_until = 0.0
        faulthandler.cancel_dump_traceback_later()
