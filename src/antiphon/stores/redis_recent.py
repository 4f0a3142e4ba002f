"""What Redis said it had taken a moment ago, for the moment after in which it has it no more.

With ``appendfsync everysec`` Redis holds its log back for up to two seconds while an earlier sync keeps the disk busy
(redis.io, "Redis persistence"; the log line "Asynchronous AOF fsync is taking too long"), and answers meanwhile; a
replica that is promoted lacks what had not reached it. A server that dies then comes back shorter than it had said.
What was sent in that time is still known here, so it can be sent once more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from antiphon.runtime.ports import Batch

KEPT_S: Final = 3.0
"""The two seconds that Redis may hold its log back, and one in which to find out."""


class Recent:
    """Claims and batches of the last ``kept_s`` seconds, by session."""

    def __init__(self, kept_s: float = KEPT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept_s = kept_s
        self._clock = clock
        self._claims: dict[str, tuple[float, int]] = {}
        self._batches: dict[str, deque[tuple[float, Batch]]] = {}

    def claimed(self, session: str, epoch: int) -> None:
        self._claims[session] = (self._clock(), epoch)

    def took(self, batch: Batch) -> None:
        """``batch`` was acknowledged."""
        kept = self._batches.setdefault(batch.session, deque())
        kept.append((self._clock(), batch))
        self._drop_old(kept)

    def had_claimed(self, batch: Batch, held: int) -> bool:
        """Whether the epoch of ``batch`` was given out lately and ``held`` is the one before: the claim is gone."""
        at, epoch = self._claims.get(batch.session, (0.0, 0))
        return epoch == batch.epoch == held + 1 and at >= self._clock() - self._kept_s

    def whole(self, batch: Batch, last: int) -> Batch | None:
        """``batch`` with all that belongs before it, from the entry after ``last`` on. None if that is not known."""
        kept = (entry for _, old in self._batches.get(batch.session, ()) for entry in old.entries)
        missing = [entry for entry in kept if entry.seq > last]
        if [entry.seq for entry in missing] != list(range(last + 1, batch.expected_seq + 1)):
            return None
        return msgspec.structs.replace(batch, expected_seq=last, entries=(*missing, *batch.entries))

    def tidy(self) -> None:
        """Drops what is too old, also of sessions that nothing is heard of any more."""
        oldest = self._clock() - self._kept_s
        self._claims = {session: claim for session, claim in self._claims.items() if claim[0] >= oldest}
        for kept in self._batches.values():
            self._drop_old(kept)
        self._batches = {session: kept for session, kept in self._batches.items() if kept}

    def _drop_old(self, kept: deque[tuple[float, Batch]]) -> None:
        oldest = self._clock() - self._kept_s
        while kept and kept[0][0] < oldest:
            kept.popleft()
