"""The driver: one session's loop between facts and orders.

It is the only place where time, the journal and the kernel meet: an event goes in, its entry goes to
the journal, its commands go to whoever carries them out, and one timer is kept for the kernel's next
deadline. Everything happens on the event loop's thread and nothing waits: a durable command is held
until its entry is on disk, the others run at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from antiphon.kernel.commands import AnyCommand, RunEffect, is_durable
from antiphon.kernel.events import AnyEvent, DeadlineReached, Entry
from antiphon.kernel.scrub import clean
from antiphon.kernel.session import Session
from antiphon.runtime.writer import JournalWriter

SNAPSHOT_EVERY = 500
"""Entries between snapshots: folding that many again takes some ten milliseconds."""
EARLY_S = 0.001
"""When to look again at a deadline whose timer came early."""

log = logging.getLogger("antiphon.driver")

Execute = Callable[[AnyCommand, Exception | None], None]
"""Carries a command out. The exception tells that its entry could not be made durable."""

Observe = Callable[[str, Entry, tuple[AnyCommand, ...]], None]
"""Told of every entry and what was decided, after the fact; it may not raise."""


class Driver:
    """Drives one ``Session``.

    ``base_ms`` is the journal time at which this process takes the session on: the last entry's time
    of a session that is resumed. ``checkpoint`` gets a snapshot and its entry's number now and then, once
    that entry is on disk. ``post`` may be called from within ``execute``: events are folded in
    the order they were posted, one after the other.
    """

    def __init__(
        self,
        session: Session,
        session_id: str,
        *,
        writer: JournalWriter,
        execute: Execute,
        observe: Observe | None = None,
        checkpoint: Callable[[int, bytes], None] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.session = session
        self.session_id = session_id
        self._writer = writer
        self._execute = execute
        self._observe = observe
        self._checkpoint = checkpoint
        self._loop = loop or asyncio.get_running_loop()
        self._origin = self._loop.time() - session.state.at / 1000
        self._inbox: deque[AnyEvent] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed: tuple[str, int] | None = None
        self.closed = False
        self.failures = 0
        """Commands that could not be carried out."""

    def now_ms(self) -> int:
        """Journal time: milliseconds since the session began."""
        # A microsecond of grace: a timer set for 6,564 ms must not find itself at 6,563.9999999.
        return int((self._loop.time() - self._origin) * 1000 + 0.001)

    def post(self, event: AnyEvent) -> None:
        """Takes a fact in. Synchronous, never raises, cheap enough for every edge of a call."""
        if self.closed:
            return
        self._inbox.append(clean(event))
        if self._busy:
            return
        self._busy = True
        try:
            while self._inbox and not self.closed:
                self._step(self._inbox.popleft())
        finally:
            self._busy = False
            self._rearm()
            if self.closed:
                self._let_go()

    def _step(self, event: AnyEvent) -> None:
        entry, commands = self.session.receive(event, self.now_ms())
        if self.session.last_failure is not None:
            log.error(
                "a step raised; the session goes on degraded",
                exc_info=self.session.last_failure,
                extra={"call": self.session_id, "event": type(event).__name__},
            )
        durable = [command for command in commands if is_durable(command)]
        snapshot = self.session.snapshot() if entry.seq % SNAPSHOT_EVERY == 0 else b""
        then = self._when_durable(durable, entry.seq, snapshot) if durable or snapshot else None
        self._writer.append(self.session_id, entry, then)
        if self._observe is not None:
            self._observe(self.session_id, entry, commands)
        for command in commands:
            if not is_durable(command):
                self._carry_out(command, None)

    def _carry_out(self, command: AnyCommand, error: Exception | None) -> None:
        try:
            self._execute(command, error)
        except Exception:
            # One command that cannot be carried out must not take the others with it, nor the call:
            # what should have come of it misses its deadline, and the ladder goes on from there.
            self.failures += 1
            log.exception(
                "a command could not be carried out",
                extra={"call": self.session_id, "command": type(command).__name__},
            )

    def _when_durable(
        self, commands: list[AnyCommand], seq: int, snapshot: bytes
    ) -> Callable[[Exception | None], None]:
        def run(error: Exception | None) -> None:
            if self.closed:
                return
            for command in commands:
                if isinstance(command, RunEffect) or self._writer.may_proceed(command, error):
                    self._carry_out(command, error)  # an effect is told of the error, for whoever waits for it
            # A snapshot that is ahead of its journal would resume a session that never was.
            if snapshot and error is None and self._checkpoint is not None:
                self._checkpoint(seq, snapshot)

        return run

    def _rearm(self) -> None:
        due = None if self.closed else self.session.next_deadline()
        if due == self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed = due
        if due is not None:
            self._timer = self._loop.call_at(self._origin + due[1] / 1000, self._deadline, due[0])

    def _deadline(self, name: str) -> None:
        self._timer = None
        due = self.session.next_deadline()
        if due is not None and due[1] > self.now_ms():
            # Loops round timers to their clock; the kernel would call an early one stale.
            self._timer = self._loop.call_later(EARLY_S, self._deadline, name)
            return
        self._armed = None
        self.post(DeadlineReached(name))

    def close(self) -> None:
        """Nothing is folded or carried out any more."""
        self.closed = True
        self._inbox.clear()
        self._rearm()
        if not self._busy:
            self._let_go()

    def _let_go(self) -> None:
        """Whoever gave these knows this driver: held on to, both would stay in memory until a full collection, which
        is seldom."""
        self._execute, self._checkpoint, self._observe = _nobody, None, None


def _nobody(command: AnyCommand, error: Exception | None) -> None:
    """Carries nothing out."""
