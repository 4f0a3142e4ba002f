"""What is aimed at, and what of it a run reached: ratios within one run, medians of its rounds."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bench.report import EARLY_PART, Limit, Report, Summary, at, cheapest, one

OURS = "antiphon"


class Targets(msgspec.Struct, frozen=True):
    """``many`` calls are those that must be carried as if they were one; ``growth`` compares two numbers of calls."""

    of_pipecat: float = 1 / 25
    of_livekit: float = 1 / 9
    of_floor: float = 3.0
    many: int = 600
    rise_ms: float = 50.0
    gaps_per_10k: float = 10.0
    rss_kb: float = 300.0
    own_one_p50_ms: float = 2.0
    own_one_p99_ms: float = 10.0
    own_400_p99_ms: float = 25.0
    answer_ms: float = 700.0
    growth: tuple[int, int] = (50, 600)
    ready_s: float = 1.5
    help_s: float = 0.150
    workers_times: float = 1.8
    workers_share: float = 0.25


def verdicts(report: Report, targets: Targets | None = None) -> list[str]:
    """One line for each target that this run can be held against: reached or not, and by what figure."""
    targets = targets or Targets()
    return [
        f"{'reached:     ' if reached else 'NOT reached: '}{what}"
        for part in (_cost, _many, _own, _answers, _starts, _workers)
        for reached, what in part(report, targets)
    ]


Found = Iterator[tuple[bool, str]]


def _cost(report: Report, targets: Targets) -> Found:
    ours = cheapest(report.summaries, OURS)
    if ours is None:
        return
    for peer, aim in (("pipecat", targets.of_pipecat), ("livekit", targets.of_livekit)):
        theirs = cheapest(report.summaries, peer)
        if theirs is not None:
            share = ours.cpu_ms.median / theirs.cpu_ms.median
            yield (
                share <= aim,
                f"CPU per call-second 1/{1 / share:.1f} of {peer}'s (target 1/{1 / aim:.0f}): {ours.cpu_ms} ms at "
                f"{ours.calls} calls, {theirs.cpu_ms} ms at {theirs.calls}, where each is cheapest",
            )
    pairs = [
        (mine, floor)
        for mine in report.summaries
        if (mine.contender, mine.part) == (OURS, "load") and mine.calls >= targets.growth[0]
        for floor in [at(report.summaries, "floor-c", mine.calls)]
        if floor is not None and floor.cpu_ms.median > 0
    ]
    if pairs:
        times, calls = max((mine.cpu_ms.median / floor.cpu_ms.median, mine.calls) for mine, floor in pairs)
        at_most = f"at most {times:.2f} times the C echo floor, at {calls} calls"
        yield times <= targets.of_floor, f"{at_most} (target 3; from {targets.growth[0]} calls on)"
    first, last = (at(report.summaries, OURS, calls) for calls in targets.growth)
    if first is not None and last is not None:
        yield (
            last.cpu_ms.median <= first.cpu_ms.median,
            f"CPU per call-second {last.cpu_ms} ms at {last.calls} calls (target: no more than at {first.calls}, "
            f"{first.cpu_ms} ms)",
        )


def _many(report: Report, targets: Targets) -> Found:
    single = at(report.summaries, OURS, 1)
    for many in report.summaries:
        if (many.contender, many.part) != (OURS, "load") or many.calls < targets.many or single is None:
            continue
        rise = many.first_p99.median - single.first_p99.median
        bad = many.lost_turns + many.failed_calls
        late = f"; the load generator was late in {many.late} of {many.rounds} rounds" if many.late else ""
        yield (
            not bad and many.turns > 0 and rise <= targets.rise_ms and many.gaps.median < targets.gaps_per_10k,
            f"{many.calls} calls on one core: {bad} of {many.turns} turns or calls lost, p99 of first audio {rise:.0f} "
            f"ms above one call's (target {targets.rise_ms:.0f}), gaps {many.gaps.median / 100:.2f} % of frames "
            f"(target 0.1){late}",
        )
    limit = next((each for each in report.limits if each.contender == OURS), None)
    if limit is not None:
        yield limit.calls >= targets.many, f"{limit.calls} calls on one core{_others(report.limits)} (target 600)"
    memory = [s for s in report.summaries if (s.contender, s.part) == (OURS, "load") and s.calls >= targets.growth[0]]
    if memory:
        most = max(memory, key=lambda s: s.rss_kb.median)
        yield (
            most.rss_kb.median <= targets.rss_kb,
            f"memory per call at most {most.rss_kb} KB, at {most.calls} calls (target {targets.rss_kb:.0f})",
        )


def _others(limits: list[Limit]) -> str:
    others = [f"{each.contender} {each.calls}" for each in limits if each.contender != OURS]
    return f", where {', '.join(others)}" if others else ""


def _own(report: Report, targets: Targets) -> Found:
    aims = ((1, "own_p50", targets.own_one_p50_ms), (1, "own_p99", targets.own_one_p99_ms))
    for calls, name, aim in (*aims, (400, "own_p99", targets.own_400_p99_ms)):
        found = at(report.summaries, OURS, calls)
        if found is None or found.own_p50.median == -1.0:
            continue
        value = found.own_p50 if name == "own_p50" else found.own_p99
        yield (
            value.median <= aim,
            f"added latency {name[4:]} {value} ms at {calls} call{'s' * (calls > 1)} (target {aim:.0f}), without "
            f"endpointing and detector",
        )


def _answers(report: Report, targets: Targets) -> Found:
    for suffix, words in (("", ""), (EARLY_PART, ", words known early")):
        yield from _answer(report, targets, suffix, words)


def _answer(report: Report, targets: Targets, suffix: str, words: str) -> Found:
    ours = one(report.summaries, OURS, "answer" + suffix)
    if ours is None:
        return
    peers = [s for s in report.summaries if s.part == "answer" + suffix and s.contender != OURS]
    fastest = min(peers, key=lambda s: s.first_p50.median, default=None)
    theirs = "" if fastest is None else f"; the fastest peer, {fastest.contender}, {fastest.first_p50} ms"
    ahead = fastest is None or ours.first_p50.median < fastest.first_p50.median
    yield (
        ours.first_p50.median <= targets.answer_ms and ahead,
        f"first audio with realistic providers{words} {ours.first_p50} ms (target {targets.answer_ms:.0f}){theirs}",
    )
    cut = one(report.summaries, OURS, "cutoff" + suffix)
    others = [s for s in report.summaries if s.part == "cutoff" + suffix and s.contender != OURS and s.turns]
    if cut is None or not cut.turns or not others:
        return
    best = min(others, key=_cut_share)
    yield (
        _cut_share(cut) <= _cut_share(best),
        f"spoke into {cut.talked_over} of {cut.turns} pauses{words} (target: no more than the most patient peer, "
        f"{best.contender}: {best.talked_over} of {best.turns})",
    )


def _cut_share(summary: Summary) -> float:
    return summary.talked_over / summary.turns


def _starts(report: Report, targets: Targets) -> Found:
    starts = report.starts
    if starts is None:
        return
    yield (
        starts.ready_embedded_s <= targets.ready_s,
        f"antiphon serve healthy after {starts.ready_embedded_s:.2f} s with embedded providers (target "
        f"{targets.ready_s:.1f} s)",
    )
    yield (
        starts.help_s <= targets.help_s,
        f"antiphon --help in {1000 * starts.help_s:.0f} ms (target {1000 * targets.help_s:.0f})",
    )


def _workers(report: Report, targets: Targets) -> Found:
    """Twice the cores have twice the processor time: what is reached of it is the ratio of what a call costs."""
    both = report.workers
    if both is None:
        return
    yield (
        both.times.median >= targets.workers_times and not both.lost and both.least_share >= targets.workers_share,
        f"two workers on two cores carry {both.times} times what one process carries on one (target "
        f"{targets.workers_times}): {both.one_ms} ms per call-second at {both.calls} calls, {both.two_ms} ms at "
        f"{2 * both.calls}; {both.lost} of {both.turns} turns or calls lost, one worker had at least "
        f"{100 * both.least_share:.0f} % of them (target {100 * targets.workers_share:.0f} %)",
    )
