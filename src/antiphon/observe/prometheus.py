"""The metrics as Prometheus scrapes them (B15): what the meters counted, and how the process is at that moment.

Names begin with ``antiphon_`` and are in base units; ``process_*`` are the usual ones. Formats: Prometheus' text
exposition format 0.0.4 and OpenMetrics 1.0, by the official client; its global registry is
left alone.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from typing import Any, Final

import msgspec
from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from antiphon import _version
from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.events import Entry, SessionClosed
from antiphon.observe.meters import METRICS, Meter
from antiphon.observe.tallies import Metric, Tally, Vocabulary
from antiphon.runtime.host import Host

PREFIX: Final = "antiphon_"

GAUGES: Final = (
    Metric("build_info", "gauge", "The version that runs; always 1.", ("version", "python")),
    Metric("up_seconds", "gauge", "Since the start."),
    Metric("draining", "gauge", "1 while the server is about to stop."),
    Metric("sessions_active", "gauge", "Sessions that have a line now."),
    Metric("sessions_detached", "gauge", "Sessions without a line, which wait for their caller."),
    Metric("sessions_max", "gauge", "Sessions at most."),
    Metric("sessions_refused_total", "counter", "Lines that were turned away.", ("code",)),
    Metric("breaker_state", "gauge", "0 closed, 1 half open, 2 open.", ("stage", "provider")),
    Metric("check", "gauge", "The checks of /health: 1 well, 0 not.", ("check",)),
    Metric("event_loop_lag_seconds", "gauge", "The worst lateness of the event loop in the last ten seconds."),
    Metric("journal_up", "gauge", "1 while entries reach the disk, 0 while they wait in memory."),
    Metric("journal_pending_entries", "gauge", "Entries that wait for the store."),
    Metric("journal_dropped_entries_total", "counter", "Entries that never will be on disk."),
)
"""What is looked up when it is asked for."""

WORKER: Final = "worker"
COMMON: Final = frozenset({"build_info", "sessions_max"})
"""The same for all workers of a server: said once, so that a sum over the workers is right."""

BREAKER_STATES: Final = {"closed": 0, "half_open": 1, "open": 2}

_ROOM: Final = {
    **dict.fromkeys(("provider", "from", "to"), 24),
    **dict.fromkeys(("transport", "outcome", "tier"), 10),
    **dict.fromkeys(("code", "why"), 100),
    "stage": 20,
    "reason": 30,
}
"""How many different values a label may have; languages are those that are offered."""


class Condition(msgspec.Struct, frozen=True):
    """How the process is at the moment, which the host does not know. ``refused``: lines turned away, by code."""

    uptime_s: float = 0.0
    loop_lag_s: float = 0.0
    draining: bool = False
    refused: Mapping[str, int] = {}


class Metrics:
    """Everything ``/metrics`` says of one host. Give ``observe`` to ``Host.observe``.

    Both methods are for the event loop's thread.
    """

    def __init__(self, host: Host, condition: Callable[[], Condition] = Condition) -> None:
        self._host = host
        self._condition = condition
        self._meters: dict[str, Meter] = {}
        stt = host.services.stages.stt.members
        self._first_stt = stt[0].name if stt else ""
        vocabularies = {label: Vocabulary(room=room) for label, room in _ROOM.items()}
        for label in ("from", "to"):
            vocabularies[label] = vocabularies["provider"]
        vocabularies["language"] = Vocabulary({host.services.language, *host.services.policy.languages})
        self._codes = vocabularies["code"]
        self.tally = Tally(METRICS, vocabularies)

    def observe(self, session: str, entry: Entry, commands: tuple[AnyCommand, ...]) -> None:
        """Takes one entry in, some microseconds."""
        call = self._host.get(session)
        if call is None or call.driver is None:
            self._meters.pop(session, None)
            return
        meter = self._meters.get(session)
        if meter is None or meter.session is not call.driver.session:
            self._forget_gone()
            meter = self._meters[session] = Meter(call.driver.session, self.tally.add, first_stt=self._first_stt)
        meter.note(entry, commands)
        if isinstance(entry.event, SessionClosed):
            del self._meters[session]

    def _forget_gone(self) -> None:
        """Meters of sessions that ended without a last entry here; seldom enough to cost nothing."""
        if len(self._meters) > 2 * self._host.held + 16:
            for session in [each for each in self._meters if self._host.get(each) is None]:
                del self._meters[session]

    def snapshot(self, checks: Mapping[str, bool]) -> Snapshot:
        """Everything as it is now, some hundred microseconds. ``checks`` as ``/health`` has them."""
        return Snapshot(
            [(metric, dict(counts)) for metric, counts in self.tally.counters()],
            [
                (metric, {labels: (tuple(each.counts), each.total) for labels, each in observed.items()})
                for metric, observed in self.tally.histograms()
            ],
            self._now(checks),
            os.getpid(),
        )

    def _now(self, checks: Mapping[str, bool]) -> dict[str, dict[tuple[str, ...], float]]:
        host, condition = self._host, self._condition()
        journal = host.services.writer.health
        refused: Counter[tuple[str, ...]] = Counter()
        for counts in (host.refused, condition.refused):
            for code, count in counts.items():
                refused[(self._codes.word(code),)] += count
        alone: dict[str, float] = {
            "up_seconds": condition.uptime_s,
            "draining": condition.draining or host.draining,
            "sessions_active": host.active,
            "sessions_detached": host.held - host.active,
            "sessions_max": host.capacity,
            "event_loop_lag_seconds": condition.loop_lag_s,
            "journal_up": journal.ok,
            "journal_pending_entries": journal.pending,
            "journal_dropped_entries_total": journal.dropped,
        }
        return {
            **{name: {(): float(value)} for name, value in alone.items()},
            "build_info": {(_version.__version__, platform.python_version()): 1},
            "sessions_refused_total": dict(refused),
            "breaker_state": {
                (stage, provider): BREAKER_STATES[status["state"]]
                for stage, members in host.services.stages.status().items()
                for provider, status in members.items()
            },
            "check": {(name,): float(well) for name, well in checks.items()},
        }


class Snapshot(msgspec.Struct, frozen=True):
    """The metrics of one process at one moment. They travel as msgpack."""

    counters: list[tuple[Metric, dict[tuple[str, ...], float]]]
    histograms: list[tuple[Metric, dict[tuple[str, ...], tuple[tuple[int, ...], float]]]]
    now: dict[str, dict[tuple[str, ...], float]]
    pid: int = 0
    """Whose ``process_*`` are looked up when it is written out; 0: this process's own."""

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Body and content type of this process alone; see below."""
        return exposition({"": self}, accept)


def exposition(snapshots: Mapping[str, Snapshot], accept: str = "") -> tuple[bytes, str]:
    """Body and content type, of one process (named "") or of several workers by their numbers.

    Every series of a worker has the label ``worker``, but those that are everybody's (``COMMON``). ``accept``: the
    header of the request. It takes milliseconds and touches nothing: do it in a thread.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_Families(snapshots)), content_type  # of a registry it asks ``collect`` alone


class _Families:
    """For the client."""

    def __init__(self, snapshots: Mapping[str, Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Family]:
        shots = self._snapshots
        yield from self._merged(_counter, {name: shot.counters for name, shot in shots.items()})
        yield from self._merged(_histogram, {name: shot.histograms for name, shot in shots.items()})
        for metric in GAUGES:
            make = _counter if metric.kind == "counter" else _gauge
            values = {name: [(metric, shot.now[metric.name])] for name, shot in shots.items()}
            if metric.name in COMMON:
                values = {"": next(iter(values.values()))}
            yield from self._merged(make, values)
        yield from self._processes()

    def _merged(self, make: Callable[[Metric], Family], values: Mapping[str, list[tuple[Metric, Any]]]) -> list[Family]:
        """One family for each metric, with the samples of all workers."""
        families: dict[str, Family] = {}
        for worker, metrics in values.items():
            for metric, samples in metrics:
                family = families.get(metric.name)
                if family is None:
                    labels = (*metric.labels, WORKER) if worker else metric.labels
                    family = families[metric.name] = make(msgspec.structs.replace(metric, labels=labels))
                for labels, value in samples.items():
                    _add(family, metric, (*labels, worker) if worker else labels, value)
        return list(families.values())

    def _processes(self) -> Iterator[Family]:
        families: dict[str, Family] = {}
        for worker, shot in self._snapshots.items():
            for family in ProcessCollector(registry=None, pid=partial(str, shot.pid or "self")).collect():
                into = families.setdefault(family.name, family)
                named = {WORKER: worker} if worker else {}
                samples = [sample._replace(labels={**sample.labels, **named}) for sample in family.samples]
                into.samples = samples if into is family else [*into.samples, *samples]
        yield from families.values()


def _counter(metric: Metric) -> Family:
    return CounterMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)


def _gauge(metric: Metric) -> Family:
    return GaugeMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)


def _histogram(metric: Metric) -> Family:
    return HistogramMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)


def _add(family: Family, metric: Metric, labels: tuple[str, ...], value: Any) -> None:
    match family:
        case HistogramMetricFamily():
            counts, total = value
            bounds = [*map(str, metric.buckets), "+Inf"]
            family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), sum_value=total)
        case CounterMetricFamily() | GaugeMetricFamily():
            family.add_metric(labels, value)
