"""What one stage of a turn may take, and what is tried when it goes wrong: one policy object per stage.

The same object serves the call path and the batch façade, so that a provider has one breaker and one set
of limits however it is used. A stage's time is its own limit or its share of what the turn has left,
whichever is less (X8); what counts is the first useful token or sample, not the connection.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from typing import Annotated

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(gt=0, le=1)]
Seconds = Annotated[float, Meta(gt=0, le=600)]

WINDOW = 100
"""First tokens that a provider's p95 is made of."""
HEDGE_FROM = 20
"""With fewer of them a p95 says nothing, and nothing is hedged."""


class StagePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one stage (stt, llm, tts ...)."""

    first_s: Annotated[Seconds, Meta(description="longest wait for the first useful token or sample, s")] = 4.0
    between_s: Annotated[Seconds, Meta(description="longest wait for each further one, s")] = 2.0
    share: Annotated[Share, Meta(description="of what the turn has left; the rest is for whoever is asked next")] = 0.6
    retries: Annotated[int, Meta(ge=0, le=5, description="further tries, only before the first token or sample")] = 1
    retry_pause_s: Annotated[float, Meta(ge=0, le=10, description="before a further try, s")] = 0.1
    hedge: Annotated[bool, Meta(description="ask the next provider too when the first is later than its own p95")] = (
        False
    )
    failures: Annotated[int, Meta(ge=1, le=1000, description="in a row, that open the breaker")] = 5
    open_s: Annotated[Seconds, Meta(description="how long a provider is then left alone, s")] = 60.0

    def first_within(self, left_s: float) -> float:
        """Seconds for the first useful token or sample when the turn has ``left_s`` seconds left."""
        return min(self.first_s, max(0.0, left_s) * self.share)

    def pause_s(self, error: Exception) -> float:
        """Seconds before a further try: as long as the provider asks for, if it does."""
        return max(getattr(error, "retry_after_s", None) or 0.0, self.retry_pause_s)


class Lateness:
    """How long a provider usually takes to its first useful token or sample: a window of seconds."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def note(self, seconds: float) -> None:
        if len(self._recent) == WINDOW:
            self._sorted.remove(self._recent.popleft())
        self._recent.append(seconds)
        insort(self._sorted, seconds)

    def p95(self) -> float | None:
        """None while too little is known."""
        if len(self._sorted) < HEDGE_FROM:
            return None
        return self._sorted[math.ceil(0.95 * len(self._sorted)) - 1]
