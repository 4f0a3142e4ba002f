"""The latency ledger: where the time of a turn went. Pure; the rule of how it is divided lives here.

A turn's time runs from the end of the caller's input (the gate's edge less its hangover, a key, a typed line)
to the first sample on the line. Milestones in between divide it; a milestone that is missing or out of
order takes no time, so the parts always sum to the total.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from antiphon.observe.views import Latency, Owner, Part

_STRETCHES: tuple[tuple[str, str, Owner], ...] = (
    ("stopped", "hangover", "wait"),
    ("finished", "endpointing", "wait"),
    ("final", "stt", "provider"),
    ("begun", "endpointing", "wait"),
    ("understood", "understanding", "provider"),
    ("text", "first_text", "provider"),
    ("ready", "first_segment", "provider"),
    ("synthesized", "synthesis", "provider"),
    ("started", "playout", "antiphon"),
)
"""Milestone that ends the stretch, the part it counts to, whose time that is. Endpointing comes twice: before
the transcriber is asked for its final, and after it, when the caller might still go on."""
_OWNERS: dict[str, Owner] = {name: owner for _, name, owner in _STRETCHES}


class Milestones(msgspec.Struct):
    """Journal times of one turn in ms; None where there was no such thing.

    ``ended`` input over, ``stopped`` gate closed, ``finished`` final asked for and the silence over, ``final``
    transcript there, ``begun`` turn confirmed, ``understood`` reply asked for, ``text`` first text, ``ready`` first
    segment decided on, ``synthesized`` its first sound, ``started`` on the line.
    """

    ended: int | None = None
    stopped: int | None = None
    finished: int | None = None
    final: int | None = None
    begun: int | None = None
    understood: int | None = None
    text: int | None = None
    ready: int | None = None
    synthesized: int | None = None
    started: int | None = None


def divide(marks: Milestones, first: str, answer_at: int | None) -> Latency | None:
    """The ledger of one turn, None if its input has no end or nothing of it was played.

    ``first`` is the kind of the segment played first, ``answer_at`` when its answer began.
    """
    if marks.ended is None or marks.started is None:
        return None
    end = max(marks.ended, marks.started)
    at = marks.ended
    spent: dict[str, int] = {}
    for milestone, name, _ in _STRETCHES:
        reached = getattr(marks, milestone)
        upto = min(max(at, at if reached is None else reached), end)
        spent[name] = spent.get(name, 0) + upto - at
        at = upto
    return Latency(
        total_ms=end - marks.ended,
        parts=tuple(Part(name, ms, _OWNERS[name]) for name, ms in spent.items()),
        first=first,
        answer_ms=None if answer_at is None else max(0, answer_at - marks.ended),
    )


NumberT = TypeVar("NumberT", int, float)


def percentile(values: Sequence[NumberT], share: float) -> NumberT | None:
    """The smallest value that ``share`` (0..1) of all values do not exceed (nearest rank); None of nothing."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[max(0, -(-round(share * 100) * len(ranked) // 100) - 1)]
