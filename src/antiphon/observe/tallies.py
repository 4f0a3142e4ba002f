"""Counts and histograms in memory, with a bound on how many there can be. Pure.

A label's values come from providers, languages and error codes that nobody lists beforehand. So each label has room for
so many different values, first come, first kept, and each metric for so many combinations of them; what comes later is
counted under ``other``. A label never holds a session, a caller or a text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

import msgspec

OTHER: Final = "other"
MAX_VALUE: Final = 64
"""Characters of a label's value; a longer one is no name."""
MAX_SERIES: Final = 500
"""Combinations of labels in one metric."""


class Metric(msgspec.Struct, frozen=True):
    """One metric. ``buckets`` are upper bounds in the metric's unit, ascending, without the last, infinite one."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class Histogram(msgspec.Struct):
    """``counts`` are per bucket, one more than there are bounds; ``total`` is the sum of what was observed."""

    counts: list[int]
    total: float = 0.0


class Vocabulary:
    """The values that a label may have: ``known`` ones, and further ones while there is ``room``."""

    def __init__(self, known: Iterable[str] = (), room: int = 0) -> None:
        self._known = {"", *known}
        self._room = room

    def word(self, value: str) -> str:
        if value in self._known:
            return value
        if not self._room or len(value) > MAX_VALUE or not value.isprintable():
            return OTHER
        self._room -= 1
        self._known.add(value)
        return value


class Tally:
    """The values of counters and histograms. ``vocabularies`` are by label; a label without one is taken as it is."""

    def __init__(self, metrics: Iterable[Metric], vocabularies: Mapping[str, Vocabulary]) -> None:
        self._metrics = {metric.name: metric for metric in metrics}
        self._vocabularies = dict(vocabularies)
        self._counts: dict[str, dict[tuple[str, ...], float]] = {}
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {}
        for metric in self._metrics.values():
            if metric.kind == "histogram":
                self._histograms[metric.name] = {}
            elif metric.kind == "counter":
                # A counter without labels is there from the start, so that its first increase is seen.
                self._counts[metric.name] = {} if metric.labels else {(): 0.0}

    def add(self, name: str, labels: tuple[str, ...] = (), value: float = 1.0) -> None:
        """Adds to a counter, or one observation to a histogram. Raises ``KeyError`` for a metric that is not listed."""
        counted = self._counts.get(name)
        if counted is None:
            self._observe(name, labels, value)
            return
        if labels not in counted:
            labels = self._key(name, labels, counted)
        counted[labels] = counted.get(labels, 0.0) + value

    def _observe(self, name: str, labels: tuple[str, ...], value: float) -> None:
        observed, buckets = self._histograms[name], self._metrics[name].buckets
        if labels not in observed:
            labels = self._key(name, labels, observed)
        histogram = observed.get(labels)
        if histogram is None:
            histogram = observed[labels] = Histogram([0] * (len(buckets) + 1))
        histogram.counts[bisect_left(buckets, value)] += 1
        histogram.total += value

    def _key(self, name: str, labels: tuple[str, ...], held: Mapping[tuple[str, ...], object]) -> tuple[str, ...]:
        """What is counted for labels that are not held yet."""
        words = tuple(
            self._vocabularies[label].word(value) if label in self._vocabularies else value
            for label, value in zip(self._metrics[name].labels, labels, strict=True)
        )
        if words not in held and len(held) >= MAX_SERIES:
            return (OTHER,) * len(words)
        return words

    def counters(self) -> Iterator[tuple[Metric, Mapping[tuple[str, ...], float]]]:
        for name, counted in self._counts.items():
            yield self._metrics[name], counted

    def histograms(self) -> Iterator[tuple[Metric, Mapping[tuple[str, ...], Histogram]]]:
        for name, observed in self._histograms.items():
            yield self._metrics[name], observed

    def count(self, name: str, *labels: str) -> float:
        """A counter's value; 0 where nothing was counted."""
        return self._counts[name].get(labels, 0.0)
