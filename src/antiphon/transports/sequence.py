"""Messages that carry a number, back in order (F12). Pure: no clock; the caller decides when to stop waiting."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

UNUSABLE_AFTER = 50
"""As many numbers in a row that were already over (1 s of audio): the sender does not number as it should."""


class SequenceWindow(Generic[T]):
    """Releases items in the order of their numbers, holding back at most ``limit`` of them to await a missing one.

    ``expected`` is the number that comes next (0: none seen yet); a number equal to it while nothing is held or
    explained may be taken on by raising ``expected``, without calling ``offer``. Numbers below it were released or
    given up: their items are dropped. A sender whose numbers make no sense must not be deaf for it: after
    ``UNUSABLE_AFTER`` dropped items in a row, numbers are ignored from then on.
    """

    __slots__ = ("_limit", "_stale_at", "_stale_run", "expected", "explained", "held", "lost", "unusable")

    def __init__(self, limit: int) -> None:
        self.expected = 0
        self.held: dict[int, T] = {}
        self.explained = 0  # messages that arrived but could not be read, so their numbers are not awaited
        self.lost = 0
        self.unusable = False
        self._limit = limit
        self._stale_run = 0
        self._stale_at = 0

    def offer(self, number: int, item: T) -> list[T] | None:
        """Returns what may be used now, in order (perhaps nothing), or ``None`` if the item came twice or too late."""
        if number <= 0 or self.unusable:
            return [item]
        if not self.expected:
            self.expected = number
        if number < self.expected or number in self.held:
            return self._stale(item)
        gap = number - self.expected
        if gap and gap > self.explained:
            self.held[number] = item
            return self.give_up() if len(self.held) > self._limit else []
        # A number that follows at once shows that what could not be read had none.
        self.explained = self.explained - gap if gap else 0
        self.expected = number + 1
        return [item, *self._follow()]

    def give_up(self) -> list[T]:
        """Stops waiting for what is missing before the held items: releases the next run of them."""
        if not self.held:
            return []
        first = min(self.held)
        self.lost += first - self.expected
        self.expected = first
        return self._follow()

    def flush(self) -> list[T]:
        """Releases all that is held."""
        released: list[T] = []
        while self.held:
            released += self.give_up()
        return released

    def _follow(self) -> list[T]:
        released: list[T] = []
        while self.held and self.expected in self.held:
            released.append(self.held.pop(self.expected))
            self.expected += 1
        if not self.held:
            self.explained = 0
        return released

    def _stale(self, item: T) -> list[T] | None:
        if self._stale_at != self.expected:
            self._stale_at = self.expected
            self._stale_run = 0
        self._stale_run += 1
        if self._stale_run < UNUSABLE_AFTER:
            return None
        self.unusable = True
        return [*self.flush(), item]
