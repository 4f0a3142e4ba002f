"""Journals put through a meter, as the server does it while they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from antiphon.kernel import events as ev
from antiphon.kernel.session import Session
from antiphon.observe.meters import METRICS, Meter
from antiphon.observe.tallies import Tally, Vocabulary


def tally(vocabularies: Mapping[str, Vocabulary] | None = None) -> Tally:
    return Tally(METRICS, vocabularies or {})


def meter(entries: Iterable[ev.Entry], into: Tally) -> Session:
    """The session whose entries were metered."""
    session = Session()
    counted = Meter(session, into.add, first_stt="first")
    for entry in entries:
        counted.note(*session.receive(entry.event, entry.at))
    return session


def observations(into: Tally, name: str) -> dict[tuple[str, ...], tuple[int, float]]:
    """Of one histogram, by labels: how many, and their sum."""
    found = next(observed for metric, observed in into.histograms() if metric.name == name)
    return {labels: (sum(each.counts), round(each.total, 6)) for labels, each in found.items()}
