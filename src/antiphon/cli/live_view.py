"""The conversation on the terminal while it happens: an onlooker of the host (``Host.observe``).

Showing it may not disturb it. The host's thread only puts entries into a bounded queue; a thread of the view's own
looks into it ten times a second, so that a slow terminal holds up nobody.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from antiphon.cli.live_scene import Scene
from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.events import Entry, LineDropped, SessionClosed, SessionStarted

LOOK_S = 0.1
MAX_WAITING = 4000
"""Entries of one long call. A terminal that is further behind is not shown the rest of its call."""
SILENT_S = 60.0
"""The turn machine never waits that long for a caller: a call without entries for so long was lost."""
CLOSE_S = 3.0

_Job = Callable[[], None]


class LiveView:
    """Follows one call at a time, the next one when it is over; others are named. ``note`` is for ``Host.observe``."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._moving = console.is_terminal and not console.is_dumb_terminal
        self._jobs: deque[_Job] = deque()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        # on the host's thread
        self._followed = ""
        self._last_at = 0.0
        self._free = True
        # on the view's thread
        self._scene: Scene | None = None
        self._waiting = ""
        self._offset_ms = 0.0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="antiphon-live-view", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shows what is still waiting, gives the cursor back, ends."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    # -- called by others: nothing here waits -------------------------------------------------------

    def note(self, session: str, entry: Entry, commands: tuple[AnyCommand, ...]) -> None:
        """Takes an entry of any call. Cheap, never raises."""
        now = self._clock()
        if isinstance(entry.event, SessionStarted) and session != self._followed:
            if not self._free and now - self._last_at < SILENT_S:
                self._put(lambda: self._say(f"-- another call began: antiphon show {session}"))
                return
            self._followed = session
            self._put(self._begin)
        elif session != self._followed:
            return
        self._free = isinstance(entry.event, SessionClosed | LineDropped)
        self._last_at = now
        if not self._put(lambda: self._read(entry, commands, now)):
            self._followed, self._free = "", True

    def print(self, what: RenderableType) -> None:
        """Prints after what was noted before. A string is printed as it is: a long URL is not broken."""
        plain = isinstance(what, str)
        self._put(lambda: self._console.print(what, soft_wrap=plain, markup=False, highlight=False))

    def waiting(self, text: str) -> None:
        """What the line that moves says while no call goes on."""
        self._put(lambda: setattr(self, "_waiting", text))

    def settle(self, timeout_s: float = CLOSE_S) -> None:
        """Waits until what was noted so far is shown. Not for the host's thread."""
        shown = threading.Event()
        if self._put(shown.set) and self._thread is not None and self._thread.is_alive():
            shown.wait(timeout_s)

    def _put(self, job: _Job) -> bool:
        if len(self._jobs) >= MAX_WAITING:
            return False
        self._jobs.append(job)
        return True

    # -- the view's own thread ----------------------------------------------------------------------

    def _run(self) -> None:
        # A terminal that is gone is no reason to end the calls; for a closed pipe rich raises SystemExit.
        with contextlib.suppress(OSError, ValueError, SystemExit):
            if not self._moving:
                self._look(None)
                return
            with Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
                self._look(live)

    def _look(self, live: Live | None) -> None:
        shown = Text()
        while True:
            ending = self._closing.wait(LOOK_S)
            while self._jobs:
                self._jobs.popleft()()
            if live is not None and (status := self._status()) != shown:
                shown = status
                live.update(status, refresh=True)
            if ending and not self._jobs:
                return

    def _begin(self) -> None:
        self._scene = Scene(self._console, moving=self._moving)

    def _read(self, entry: Entry, commands: tuple[AnyCommand, ...], at: float) -> None:
        if self._scene is not None:
            self._offset_ms = entry.at - at * 1000
            self._scene.read(entry, commands)

    def _say(self, text: str) -> None:
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    def _status(self) -> Text:
        if self._scene is None or self._scene.is_over:
            return Text(self._waiting, style="dim")
        return self._scene.status(int(self._clock() * 1000 + self._offset_ms))
