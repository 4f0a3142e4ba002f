"""The model of the far end: where it is in what it was sent.

It plays in real time what it got, so ``end = max(end, now) + duration`` for each message sent, and
``end - now`` is what was sent and not yet heard. The time between sending and playing is left out
on purpose: a ``clear`` travels the same way, so what the far end has played when the ``clear``
arrives is what the model says at the moment of sending it.

Marks correct the model. A mark returns a round trip late; the smallest lateness seen is taken for
that round trip, and only what is later still means that the far end plays behind the model (``lag``).
Lag moves the estimate of what was heard, not the pace of sending: holding audio back because a mark
was slow on its way would make a gap.

Source for how marks behave: Twilio, "Media Streams - WebSocket Messages": a mark is returned when the
audio sent before it was played, and those outstanding are returned at once on ``clear``.
"""

from __future__ import annotations

from math import inf

MAX_LAG_MS = 2000.0
"""The most that marks may correct."""

_ROUND_TRIP_MS = 400.0
"""No mark's lateness up to this is held against the far end before a quicker one was seen."""


class LineModel:
    """Times are ms. ``end`` is when all that was sent is heard, ``lag`` how far the far end is behind that."""

    __slots__ = ("_jitter_ms", "_round_trip_ms", "end", "lag")

    def __init__(self, jitter_ms: float) -> None:
        """``jitter_ms``: a mark may be late by so much without meaning anything."""
        self._jitter_ms = jitter_ms
        self._round_trip_ms = _ROUND_TRIP_MS
        self.end = -inf
        self.lag = 0.0

    def unheard_ms(self, now: float) -> float:
        return max(0.0, self.end + self.lag - now)

    def send(self, now: float, ms: float) -> None:
        """A message of so many ms was sent."""
        if self.end < now:
            # The line ran dry: a far end that was behind has caught up by as much.
            if self.lag:
                self.lag = max(0.0, self.lag - (now - self.end))
            self.end = now
        self.end += ms

    def returned(self, now: float, due: float, after_ms: float) -> None:
        """A mark came back whose audio was heard at ``due`` by the model; ``after_ms`` were sent after it."""
        self._round_trip_ms = min(self._round_trip_ms, max(0.0, now - due))
        # When it was heard by the model of now, if what followed did so without a gap.
        heard_at = self.end - after_ms
        if heard_at > now:
            self.end -= heard_at - now
            heard_at = now
        lag = now - self._round_trip_ms - heard_at
        self.lag = min(lag, MAX_LAG_MS) if lag > self._jitter_ms else 0.0

    def clear(self, now: float) -> None:
        """What was not heard is thrown away."""
        self.end = now
        self.lag = 0.0
