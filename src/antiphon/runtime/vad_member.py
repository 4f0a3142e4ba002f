"""One call's place in the shared voice activity detector: its audio, from the line's frames to the model's windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from antiphon.media.forms import WINDOW_BYTES
from antiphon.media.gate import WINDOW_MS
from antiphon.media.played import AHEAD_MS, Played, SpokenClock

if TYPE_CHECKING:
    from antiphon.runtime.vad import SileroActivity

BACKLOG_WINDOWS = 31
"""Windows (of 32 ms) that a call may have waiting: about a second. More, and the oldest are dropped."""
KEPT_WINDOWS = 13
"""Windows that a call keeps after the thread got them, for ``recent``: 0.4 s, and up to twice that."""


def _nobody(probability: float) -> None:
    """Whom a member tells that has left: the ear it told knows it, and they must not keep each other in memory."""


class Taken:
    """One window of each of some calls whose audio comes in the same form, and what was played to them meanwhile."""

    __slots__ = ("members", "played", "windows")

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.windows: list[bytearray] = []
        self.played: list[bytearray | None] = []


class Member:
    """One call's buffer. Everything here runs on the loop's thread.

    What went to the thread stays for a while, as the beginning of an utterance is heard only when the gate is sure:
    ``recent`` gives it back.
    """

    __slots__ = (
        "_base", "_bytes_per_ms", "_clock", "_due", "_kept", "_limit", "_owner", "_played", "_taken",
        "buffer", "failed", "form", "gone", "last", "lost", "on_window", "slot", "window",
    )  # fmt: skip

    def __init__(
        self,
        owner: SileroActivity,
        slot: int,
        form: str,
        on_window: Callable[[float], None],
        played: Played | None,
    ) -> None:
        self._owner = owner
        self.slot, self.form, self.on_window = slot, form, on_window
        self.window = WINDOW_BYTES[form]
        self._limit = (BACKLOG_WINDOWS + 1) * self.window  # the backlog, and a window that is not yet complete
        self._kept = KEPT_WINDOWS * self.window
        self._due = self.window
        self.buffer = bytearray()
        self.gone = self.failed = False
        self.last = 0.0
        self.lost = 0  # windows dropped that ``on_window`` was not yet called for
        self._played = played
        self._clock = SpokenClock()
        self._bytes_per_ms = self.window / WINDOW_MS
        self._taken = 0  # bytes of the buffer that went to the thread or were dropped
        self._base = 0  # bytes that were let go of

    def push(self, audio: bytes) -> None:
        buffer = self.buffer
        buffer += audio
        # One comparison for all that can happen: a window is complete, or too many wait, or the call is gone.
        if len(buffer) >= self._due:
            self._filled()

    def _filled(self) -> None:
        buffer = self.buffer
        if self.gone:
            buffer.clear()
            return
        if self._due == self._taken + self.window:
            self._due = self._taken + self._limit
            if self._played is not None:
                self._clock.note(self._owner.now_ms(), (self._base + len(buffer)) / self._bytes_per_ms)
            self._owner.complete(self)
        if len(buffer) >= self._due:
            self._drop()

    def _drop(self) -> None:
        """Too many wait: the oldest go."""
        windows = (len(self.buffer) - self._taken - self._limit) // self.window + 1
        self._taken += windows * self.window
        self._due = self._taken + self._limit
        self.lost += windows
        self._owner.dropped_windows += windows
        self._let_go()

    def take(self, taken: Taken) -> bool:
        """Gives the oldest window, which is complete, and what was played during it. True: another one waits."""
        buffer, start, size = self.buffer, self._taken, self.window
        self._taken = end = start + size
        self._due = end + size
        waits = len(buffer) >= end + size
        taken.members.append(self)
        taken.windows.append(buffer[start:end])
        if self._played is None:
            taken.played.append(None)
        else:
            spoken = self._clock.origin + (self._base + end) / self._bytes_per_ms
            taken.played.append(self._played.window(spoken + AHEAD_MS, size))
        if end > 2 * self._kept:
            self._let_go()
        return waits

    def _let_go(self) -> None:
        if self._taken > 2 * self._kept:  # cut in large strokes
            cut = self._taken - self._kept
            del self.buffer[:cut]
            self._base += cut
            self._taken -= cut
            self._due -= cut

    def recent(self, size: int) -> bytes:
        """The last bytes pushed; fewer if there are no more."""
        return bytes(self.buffer[-size:]) if size > 0 else b""

    def ago_ms(self, position_ms: int) -> float:
        """See the port. Known only where something is played (``SpokenClock``)."""
        return max(0.0, self._owner.now_ms() - self._clock.origin - position_ms)

    def leave(self) -> None:
        if not self.gone:
            self.gone = True
            self._due = 0
            self.buffer.clear()
            self.on_window = _nobody
            self._played = None
            self._owner.left(self)
