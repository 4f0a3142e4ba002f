"""The pacing wheel: one timer for all callers that are being spoken to.

Time is divided into beats of 10 ms, and each member waits in the beat at which it is due next: of messages of 100 ms a
caller gets one in ten beats, and is not looked at in the others. A beat is not longer, so that what goes out in one
burst and delays a reply stays small (with one beat of 20 ms for all and messages as long, at 800 calls, a reply's p99
was 14.6 ms). A beat for which nobody ever waited is no wake-up, and when nobody speaks the wheel stands still; it
begins again with whoever comes next. Beats are counted from its beginning, so lateness never adds up to drift.
"""

from __future__ import annotations

import asyncio
import logging
from math import ceil, floor, inf
from typing import Final, Protocol

from antiphon.media.playout import SLACK_MS

BEAT_S: Final = 0.010
SLACK_S: Final = SLACK_MS / 1000
_NOW: Final = -1
"""The beat of a member that is being served."""
_OUT: Final = -2
"""That of one that is not in the wheel."""

log = logging.getLogger("antiphon.pacing")


class Paced(Protocol):
    call_id: str

    def pump(self, now_ms: float) -> float | None:
        """Sends what is due. Returns when to be called next, ms of the wheel's clock; what has changed before that
        is told with ``PacingWheel.look``. None when there is nothing to come: the member leaves the wheel.
        """


class PacingWheel:
    """Shared by all calls of a process. ``beat_s`` trades evenness for fewer wake-ups."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, *, beat_s: float = BEAT_S) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._beat_s = beat_s
        self._origin = -inf
        """When it began to turn: beat 0."""
        self._still_at = -inf
        """Nobody is in it: the time at which it comes to a stop."""
        self._beats: dict[int, dict[Paced, None]] = {}
        """Who is served in each, in the order in which they came."""
        self._place: dict[Paced, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next: int | None = None
        """The beat that the timer is set for, or the one that is being served."""
        self._last, self._last_s = 0, -inf
        """The beat that was served last, and its time."""

    def now_ms(self) -> float:
        return self._loop.time() * 1000

    def join(self, member: Paced) -> None:
        """Serves the member now, and from then on whenever it is due."""
        due = member.pump(self.now_ms())
        if due is None:
            self.leave(member)
        else:
            self._put(member, due / 1000)

    def look(self, member: Paced) -> None:
        """Something was changed in a member: it may be due before it said. One that is not in the wheel stays out."""
        if member in self._place:
            self._put(member, 0.0)

    def leave(self, member: Paced) -> None:
        beat = self._place.pop(member, _OUT)
        if beat in self._beats:
            self._beats[beat].pop(member, None)
        if beat != _OUT and not self._place:
            self._still_at = self._origin + self._beat_s * (self._present() + 1)

    def _put(self, member: Paced, due: float) -> None:
        """Into the beat at or after ``due`` (s), one that is to come."""
        if not self._place and self._loop.time() >= self._still_at:
            self.close()
            self._origin = self._last_s = self._loop.time()
            self._last = 0
        beat = max(ceil((due - SLACK_S - self._origin) / self._beat_s), self._present() + 1, self._last + 1)
        if self._place.get(member) == beat:
            return
        old = self._place.get(member, _OUT)
        if old in self._beats:
            self._beats[old].pop(member, None)
        self._place[member] = beat
        self._beats.setdefault(beat, {})[member] = None
        if self._next is None or beat < self._next:
            self._set(beat)

    def _present(self) -> int:
        """The beat that is going on, or was the last."""
        return floor((self._loop.time() - self._origin) / self._beat_s)

    def _time_of(self, beat: int) -> float:
        """Added up beat by beat: a product differs in the last digit, which decides who is due at that very moment."""
        time = self._last_s
        for _ in range(beat - self._last):
            time += self._beat_s
        return time

    def _set(self, beat: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = beat
        self._timer = self._loop.call_at(self._time_of(beat), self._turn)

    def _turn(self) -> None:
        now = self._loop.time()
        # A timer may be early by its rounding; if the process was frozen, those of several beats are due.
        beat = max(self._next or 0, self._present())
        self._last_s, self._last = self._time_of(beat), beat
        self._timer, self._next = None, beat
        for each in sorted(each for each in self._beats if each <= beat):
            for member in self._beats.pop(each):
                if self._place.get(member) == each:  # else it has left meanwhile, or was put elsewhere
                    self._place[member] = _NOW
                    self._serve(member, now * 1000)
        self._next = None
        if self._place:
            self._set(min(self._beats))

    def _serve(self, member: Paced, now_ms: float) -> None:
        try:
            due = member.pump(now_ms)
        except Exception:
            # One caller's fault must not silence all the others.
            log.exception("a caller could not be served and leaves the wheel", extra={"call": member.call_id})
            due = None
        if due is None:
            self.leave(member)
        elif self._place.get(member) == _NOW:
            beat = max(ceil((due / 1000 - SLACK_S - self._origin) / self._beat_s), self._last + 1)
            self._place[member] = beat
            if beat in self._beats:
                self._beats[beat][member] = None
            else:
                self._beats[beat] = {member: None}
        elif member in self._place:  # else it has left meanwhile
            self._put(member, due / 1000)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._next = None
        self._place.clear()
        self._beats.clear()
