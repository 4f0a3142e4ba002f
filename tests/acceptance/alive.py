"""What no fault may take from a caller: a sound in time, and no long silence. Measured at their ear, in media time.

A turn's first sound is due within 0.9 s of deciding that the caller is done (0.42 s after they are), and a reply that
broke off may stay dry for 1.1 s; ``FIRST_SOUND_MS`` and ``SILENCE_MS`` leave room for a machine that is busy.
"""

from __future__ import annotations

import numpy as np
from calling import Placed
from hearing import RATE

from antiphon.phone import Manners
from antiphon.phone.ear import AUDIBLE

FIRST_SOUND_MS = 2000
SILENCE_MS = 2200
PATIENT = Manners(greeting_s=0, quiet_s=2.5)
"""A caller who does not take the pause after a filler for the end of the answer."""
QUIET = {"policy": {"greeting": False}}


def silences(call: Placed) -> list[int]:
    """Each silence that the caller hears from the end of their lines on, until the agent is done, in ms."""
    loud = np.abs(call.agent.astype(np.int32)) >= AUDIBLE
    found = []
    turns = call.report.turns[1:]
    for turn, following in zip(turns, [*turns[1:], None], strict=True):
        begin = turn.ended_ms * RATE // 1000
        end = following.began_ms * RATE // 1000 if following else len(loud)
        heard = np.flatnonzero(loud[begin:end])
        assert len(heard), f"nothing was heard after {turn.said!r}"
        gaps = np.diff(np.concatenate([[0], heard]))
        found += [int(gap) * 1000 // RATE for gap in gaps if gap > RATE // 10]
    return found


def first_sounds(call: Placed) -> list[float]:
    latencies = [turn.latency_ms for turn in call.report.turns[1:]]
    assert None not in latencies, f"a turn was not answered: {call.report.as_dict()}"
    return [latency for latency in latencies if latency is not None]


def says_nothing_dead(call: Placed) -> None:
    print(f"{call.report.call_id}: first sounds {first_sounds(call)}, silences {sorted(silences(call))[-4:]}")
    assert max(first_sounds(call)) < FIRST_SOUND_MS
    assert max(silences(call)) < SILENCE_MS
