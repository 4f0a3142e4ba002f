"""What Redis said it had taken a moment ago, for the moment after in which it has it no more.

With ``appendfsync everysec`` Redis holds its log back for up to two seconds while an earlier sync keeps the disk busy
(redis.io, "Redis persistence"; the log line "Asynchronous AOF fsync is taking too long"), and answers meanwhile; a
replica that is promoted lacks what had not reached it. So a server that comes back may be shorter than it had said.
What it was sent last is still known here, and can be sent once more.

Time is that of acknowledgements: while there are none, nothing grows old, however long the server is away.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

import msgspec

from antiphon.runtime.ports import Batch

KEPT_S: Final = 3.0
"""Of a session, before its last acknowledgement: the two seconds that Redis may hold its log back, and one."""
SILENT_S: Final = 60.0
"""A session of which nothing was acknowledged for so long, while others were, is on disk."""


class Recent:
    """Claims of new sessions, and the last batches of each. ``clock`` is in seconds and monotonic."""

    def __init__(self, kept_s: float = KEPT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept_s = kept_s
        self._clock = clock
        self._now = 0.0
        """Of the last acknowledgement."""
        self._claims: dict[str, float] = {}
        self._batches: dict[str, deque[tuple[float, Batch]]] = {}

    def claimed(self, session: str) -> None:
        """It is new: its epoch is 1."""
        self._now = self._claims[session] = self._clock()

    def took(self, batch: Batch) -> None:
        """``batch`` was acknowledged."""
        self._now = self._clock()
        kept = self._batches.setdefault(batch.session, deque())
        kept.append((self._now, batch))
        while kept[0][0] < self._now - self._kept_s:
            kept.popleft()

    def is_new(self, batch: Batch) -> bool:
        """Whether the session began lately, here, and nobody has taken it over: it can be lost as a whole."""
        return batch.epoch == 1 and self._claims.get(batch.session, -inf) > self._now - SILENT_S

    def whole(self, batch: Batch, last: int) -> Batch | None:
        """``batch`` behind all that is known to belong before it. None if that does not reach down to entry ``last``.

        What of it the store has already is sent as well: the store compares it, and refuses another's entries.
        """
        kept = [entry for _, old in self._batches.get(batch.session, ()) for entry in old.entries]
        first = kept[0].seq - 1 if kept else batch.expected_seq
        if first > last or [entry.seq for entry in kept] != list(range(first + 1, batch.expected_seq + 1)):
            return None
        return msgspec.structs.replace(batch, expected_seq=first, entries=(*kept, *batch.entries))

    def tidy(self) -> None:
        """Drops sessions that nothing is heard of any more."""
        oldest = self._now - SILENT_S
        self._claims = {session: at for session, at in self._claims.items() if at >= oldest}
        self._batches = {session: kept for session, kept in self._batches.items() if kept[-1][0] >= oldest}
