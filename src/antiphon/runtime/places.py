"""Places: how many calls may have a line at once (B22), in this process alone or in several that serve together."""

from __future__ import annotations

from typing import Protocol


class Places(Protocol):
    """Counts calls, not lines: a call that has a place keeps it whichever process its next line reaches."""

    def take(self, call_id: str) -> bool:
        """A place for this call, which may have one already; False where none is left."""

    def wait(self, call_id: str) -> None:
        """The call has no line any more, but this process holds it and waits for its caller: it gives up its place.

        Nothing happens, here and with ``give``, if another process has taken the call over.
        """

    def give(self, call_id: str) -> None:
        """This process does not hold the call any more."""

    def has_room(self, call_id: str) -> bool:
        """True if ``take`` would say so now."""

    def taken(self) -> int:
        """How many calls have a place, everywhere."""


class LocalPlaces:
    """``most`` places of one process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: set[str] = set()

    def take(self, call_id: str) -> bool:
        if not self.has_room(call_id):
            return False
        self._calls.add(call_id)
        return True

    def wait(self, call_id: str) -> None:
        self._calls.discard(call_id)

    def give(self, call_id: str) -> None:
        self._calls.discard(call_id)

    def has_room(self, call_id: str) -> bool:
        return self.holds(call_id) or len(self._calls) < self._most

    def holds(self, call_id: str) -> bool:
        return call_id in self._calls

    def taken(self) -> int:
        return len(self._calls)
