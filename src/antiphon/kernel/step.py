"""What guards and actions see of one step: the state, the event, the time, and the commands decided so far."""

from __future__ import annotations

from typing import TypeVar

from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.events import AnyEvent
from antiphon.kernel.history import Segment
from antiphon.kernel.policy import Policy
from antiphon.kernel.state import Reply, State

E = TypeVar("E")


class Step:
    __slots__ = ("commands", "event", "now", "policy", "state")

    def __init__(self, state: State, policy: Policy, event: AnyEvent, now: int) -> None:
        self.state = state
        self.policy = policy
        self.event = event
        self.now = now
        self.commands: list[AnyCommand] = []

    def emit(self, command: AnyCommand) -> None:
        self.commands.append(command)

    def arm(self, name: str, in_ms: int) -> None:
        """Sets a deadline, replacing one of the same name."""
        self.state.deadlines[name] = self.now + max(in_ms, 0)

    def arm_if_idle(self, name: str, in_ms: int) -> None:
        """Sets a deadline unless one of that name is running."""
        if name not in self.state.deadlines:
            self.arm(name, in_ms)

    def disarm(self, *names: str) -> None:
        for name in names:
            self.state.deadlines.pop(name, None)

    def happened(self, kind: type[E]) -> E:
        """The event as its type. Raises ``TypeError`` where a chart bound an action to the wrong event."""
        if not isinstance(self.event, kind):
            raise TypeError(f"{type(self.event).__name__} is no {kind.__name__}")
        return self.event

    @property
    def reply(self) -> Reply:
        """The live reply. Raises ``LookupError`` where a chart let an action run without one."""
        if self.state.reply is None:
            raise LookupError("no reply is live")
        return self.state.reply

    def segment(self, number: int) -> Segment | None:
        for segment in self.reply.segments:
            if segment.number == number:
                return segment
        return None
