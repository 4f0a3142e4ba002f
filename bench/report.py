"""What a run found, as the JSON file holds it: every step as it was measured, and medians with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

import msgspec

from bench.load import Step
from bench.server import Delays
from bench.stages import Mode


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one contender. ``part``: load, search, answer or cutoff (or these with ``EARLY_PART`` behind);
    rounds count from 1."""

    contender: str
    part: str
    round: int
    step: Step


class Figure(msgspec.Struct, frozen=True):
    """The median of the rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.4g}" if self.low == self.high else f"{self.median:.4g} ({self.low:.4g}-{self.high:.4g})"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One contender at one number of calls, over all rounds; times in ms, turns and losses are sums.

    ``gaps`` per 10,000 frames of 20 ms. ``own``: without endpointing and detector (Antiphon alone).
    """

    contender: str
    part: str
    calls: int
    rounds: int
    cpu_ms: Figure
    rss_kb: Figure
    first_p50: Figure
    first_p99: Figure
    added_p50: Figure
    added_p99: Figure
    own_p50: Figure
    own_p99: Figure
    jitter_p99: Figure
    gaps: Figure
    core_percent: Figure
    others_percent: Figure
    turns: int
    lost_turns: int
    failed_calls: int
    talked_over: int
    late: int
    """Rounds in which the load generator was late."""

    @property
    def carried(self) -> bool:
        """It kept up: no call failed, and no turn or hardly one was lost."""
        return not self.failed_calls and self.turns > 0 and self.lost_turns <= LOST_SHARE * self.turns


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls one core carries before first audio's p99 is ``RISE_MS`` above ``base_p99``, ms.

    ``calls`` 0: not even the fewest that were tried. ``broke_at`` 0: all that were tried; ``why`` says what broke.
    """

    contender: str
    calls: int
    broke_at: int
    why: str
    base_p99: float


class Starts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, medians: ``antiphon serve`` until it is healthy, and ``antiphon --help``."""

    ready_s: float
    ready_embedded_s: float
    help_s: float


class TwoWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """One process on one core with ``calls``, two workers on two with twice as many (``bench.workers``).

    ``one_ms`` and ``two_ms``: processor time of all processes per call-second; ``times``: throughput of two against
    one; ``least_share``: the smallest share of the calls that one of two workers had; ``lost``: turns and calls.
    """

    calls: int
    rounds: int
    one_ms: Figure
    two_ms: Figure
    times: Figure
    one_p99: Figure
    two_p99: Figure
    least_share: float
    turns: int
    lost: int


class Report(msgspec.Struct, kw_only=True):
    at: str
    command: str
    antiphon: str
    python: str
    cpu: str
    cores: int
    server_core: int
    load_core: int
    versions: dict[str, dict[str, str]]
    endpoint_ms: dict[str, float]
    realistic: Delays
    steps: list[Measured]
    summaries: list[Summary]
    limits: list[Limit] = []
    starts: Starts | None = None
    workers: TwoWorkers | None = None
    stages: list[Mode] = []
    verdicts: list[str] = []


EARLY_PART = " early"
"""Behind the name of a part: all words of the question are known long before its end."""
RISE_MS = 200.0
LOST_SHARE = 0.01


def figure(values: Iterable[float]) -> Figure:
    found = list(values)
    return Figure(round(statistics.median(found), 3), min(found), max(found))


def summarise(measured: Sequence[Measured]) -> list[Summary]:
    """In the order in which the contenders and their calls first came; probes of the search are no rounds."""
    groups: dict[tuple[str, str, int], list[Step]] = {}
    for each in measured:
        if each.part != "search":
            groups.setdefault((each.contender, each.part, each.step.calls), []).append(each.step)
    found = [_summary(*key, steps) for key, steps in groups.items()]
    names = list(dict.fromkeys(each.contender for each in measured))
    return sorted(found, key=lambda each: (each.part != "load", names.index(each.contender), each.calls))


def _summary(contender: str, part: str, calls: int, steps: Sequence[Step]) -> Summary:
    def over(value: Callable[[Step], float]) -> Figure:
        return figure(value(step) for step in steps)

    return Summary(
        contender=contender,
        part=part,
        calls=calls,
        rounds=len(steps),
        cpu_ms=over(lambda s: s.cpu_ms_per_call_s),
        rss_kb=over(lambda s: s.rss_kb_per_call),
        first_p50=over(lambda s: s.first_audio_p50),
        first_p99=over(lambda s: s.first_audio_p99),
        added_p50=over(lambda s: s.added_p50),
        added_p99=over(lambda s: s.added_p99),
        own_p50=over(lambda s: s.own_p50),
        own_p99=over(lambda s: s.own_p99),
        jitter_p99=over(lambda s: s.jitter_p99),
        gaps=over(lambda s: 10_000 * s.gaps / s.agent_frames if s.agent_frames else 0.0),
        core_percent=over(lambda s: s.server_core_percent),
        others_percent=over(lambda s: s.others_percent),
        turns=sum(s.turns for s in steps),
        lost_turns=sum(s.lost_turns for s in steps),
        failed_calls=sum(s.failed_calls for s in steps),
        talked_over=sum(s.talked_over for s in steps),
        late=sum(s.load_unfit for s in steps),
    )


def cheapest(summaries: Sequence[Summary], contender: str) -> Summary | None:
    """Where this contender costs least per call, among the numbers of calls that it carried in time: its best figure.

    A core past full looks cheap, as what is not done in time is not paid for.
    """
    carried = [s for s in summaries if (s.contender, s.part) == (contender, "load") and s.carried]
    if not carried:
        return None
    longest = min(carried, key=lambda s: s.calls).first_p99.median + RISE_MS
    return min((s for s in carried if s.first_p99.median <= longest), key=lambda s: s.cpu_ms.median)


def at(summaries: Sequence[Summary], contender: str, calls: int, part: str = "load") -> Summary | None:
    return next((s for s in summaries if (s.contender, s.part, s.calls) == (contender, part, calls)), None)


def one(summaries: Sequence[Summary], contender: str, part: str) -> Summary | None:
    return next((s for s in summaries if (s.contender, s.part) == (contender, part)), None)
