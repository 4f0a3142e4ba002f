"""From the two channels of a call to its turns. Pure: positions are samples at 8000 Hz on the call's time line."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from antiphon.media.codec import mulaw_decode
from antiphon.phone.ear import AUDIBLE, PAUSE
from antiphon.phone.farend import RATE
from antiphon.phone.report import TurnReport

JUST_NOW = int(0.15 * RATE)
TALK_OVER = int(0.3 * RATE)
"""Who is still audible this long after the caller's last sample did not stop for them."""


class Spoken:
    """What the caller did: the positions of its first and last voiced samples; -1 for the greeting, which has none."""

    def __init__(self, kind: str, text: str = "", first_voiced: int = -1, last_voiced: int = -1) -> None:
        self.kind = kind
        self.text = text
        self.first_voiced = first_voiced
        self.last_voiced = last_voiced
        self.barged_in = False
        self.backchannels: list[str] = []


def measure(index: int, spoken: Spoken, following: Spoken | None, agent: bytes) -> TurnReport:
    """``agent`` is all that was heard so far. Up to the end of ``following``, the caller's next line, it is this turn's
    reply.
    """
    end = following.last_voiced if following else len(agent)
    loud = _loud(agent[:end])
    begins, talked_over = _reply_start(loud, spoken)
    turn = TurnReport(
        index=index,
        said=spoken.text,
        kind=spoken.kind,
        began_ms=_ms(max(0, spoken.first_voiced)),
        ended_ms=_ms(max(0, spoken.last_voiced)),
        talked_over=talked_over,
        barged_in=spoken.barged_in,
        backchannels=tuple(spoken.backchannels),
    )
    if spoken.barged_in:
        turn.stopped_ms = _stopped(loud, spoken.first_voiced)
    if begins is None:
        turn.answered = talked_over
        return turn
    reply = loud[loud >= begins]
    turn.answered = True
    turn.reply_began_ms = _ms(begins)
    turn.reply_ms = _ms(int(reply[-1]) - begins)
    turn.longest_gap_ms = _ms(int(np.diff(reply).max())) if len(reply) > 1 else 0
    turn.audio = mulaw_decode(agent[begins : int(reply[-1]) + 1])
    if spoken.last_voiced >= 0:
        turn.latency_ms = (begins - spoken.last_voiced) * 1000 / RATE
    if following is not None and following.barged_in:
        turn.interrupted = _audible_at(loud, following.first_voiced)
    return turn


def _loud(mulaw: bytes) -> npt.NDArray[np.intp]:
    samples = np.frombuffer(mulaw_decode(mulaw), "<i2").astype(np.int32)
    return np.flatnonzero(np.abs(samples) >= AUDIBLE)


def _audible_at(loud: npt.NDArray[np.intp], position: int) -> bool:
    return bool(np.any((loud > position - JUST_NOW) & (loud <= position)))


def _reply_start(loud: npt.NDArray[np.intp], spoken: Spoken) -> tuple[int | None, bool]:
    """The first sample of the reply, or ``None``; and whether the agent talked over the caller's end."""
    after = loud[loud > spoken.last_voiced]
    if not len(after):
        return None, False
    if not _audible_at(loud, spoken.last_voiced):
        return int(after[0]), False
    breaks = np.flatnonzero(np.diff(after) >= PAUSE)
    stops = int(after[breaks[0]]) if len(breaks) else int(after[-1])
    if int(after[0]) - spoken.last_voiced >= PAUSE:
        return int(after[0]), False
    if stops - spoken.last_voiced > TALK_OVER:
        return None, True
    return (int(after[breaks[0] + 1]) if len(breaks) else None), False


def _stopped(loud: npt.NDArray[np.intp], position: int) -> float | None:
    """How long the agent went on after ``position``, ms; ``None`` if it was not speaking then."""
    if not _audible_at(loud, position):
        return None
    stretch = loud[loud > position - JUST_NOW]
    breaks = np.flatnonzero(np.diff(stretch) >= PAUSE)
    last = int(stretch[breaks[0]]) if len(breaks) else int(stretch[-1])
    return max(0.0, (last - position) * 1000 / RATE)


def _ms(samples: int) -> int:
    return samples * 1000 // RATE
