"""The results as a table for people: each step as it comes, and the medians of all rounds at the end."""

from __future__ import annotations

from collections.abc import Sequence

from bench.load import Step
from bench.report import EARLY_PART, Limit, Report, Summary, one

HEAD = """\
                      first audio, ms        less endpoint jitter            gaps     CPU ms    core   RSS KB load
              calls    p50    p99    max    p50    p99    p99 turns lost  per 10k  all  loop    % per call    %\
"""
"""CPU per call-second; of the cores."""


def row(name: str, part: str, step: Step) -> str:
    """One line under ``HEAD``. For an echo server, first audio is the round trip of a message."""
    echo = name.startswith("floor")
    title = name if part == "load" else f"{name} {part}"
    gaps = 10_000 * step.gaps / step.agent_frames if step.agent_frames else 0.0
    digits = 2 if echo else 1
    times = "".join(f"{t:7.{digits}f}" for t in (step.first_audio_p50, step.first_audio_p99, step.first_audio_max))
    added = 21 * " " if echo else f"{step.added_p50:7.1f}{step.added_p99:7.1f}{step.jitter_p99:7.0f}"
    cost = f"{step.cpu_ms_per_call_s:6.2f}{step.cpu_loop:6.2f}"
    load = f"{step.server_core_percent:5.0f}{step.rss_kb_per_call:9.0f}{step.load_core_percent:5.0f}"
    turns = f"{step.turns:6d}{step.lost_turns:5d}{gaps:8.1f}"
    return f"{title:13s} {step.calls:5d}{times}{added}{turns}{cost}{load}{_notes(step)}"


def _notes(step: Step) -> str:
    notes = ""
    if step.own_p50 != -1.0:
        notes += f"  own {step.own_p50:.1f}, p99 {step.own_p99:.1f}"
    if step.load_unfit:
        notes += f"  LOAD GENERATOR LATE, {step.load_late_p99:.0f} ms"
    if step.others_percent > OTHERS_PERCENT:
        notes += f"  others {step.others_percent:.0f} %"
    if step.failed_calls:
        notes += f"  {step.failed_calls} CALLS FAILED"
    if step.talked_over:
        notes += f"  answered early: {step.talked_over}"
    return notes


OTHERS_PERCENT = 10.0
"""Of one core. Above that a row says so: the machine was not quiet, and the figures are for trying out alone."""


def summary_table(summaries: Sequence[Summary]) -> list[str]:
    """Medians of the rounds as Markdown, with the lowest and the highest in parentheses where they differ."""
    lines = [
        "| | calls | CPU ms per call-second | KB per call | first audio p50, ms | p99 | less endpointing p50 | p99 "
        "| jitter p99, ms | gaps per 10k | turns, lost |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for s in summaries:
        if s.part != "load":
            continue
        echo = s.contender.startswith("floor")
        heard = ["", ""] if echo else [str(s.added_p50), str(s.added_p99)]
        played = ["", "", ""] if echo else [str(s.jitter_p99), str(s.gaps), f"{s.turns}, {s.lost_turns}"]
        cells = [s.contender, str(s.calls), str(s.cpu_ms), str(s.rss_kb), str(s.first_p50), str(s.first_p99)]
        lines.append(f"| {' | '.join(cells + heard + played)} |{_doubts(s)}")
    return lines


def _doubts(summary: Summary) -> str:
    found = []
    if summary.late:
        found.append(f"load generator late in {summary.late} of {summary.rounds}")
    if summary.failed_calls:
        found.append(f"{summary.failed_calls} calls failed")
    return f" {'; '.join(found)}" if found else ""


def limit_table(limits: Sequence[Limit]) -> list[str]:
    lines = ["| | calls on one core | what broke |", "|---|---|---|"]
    for each in limits:
        broke = f"at {each.broke_at}: {each.why}" if each.broke_at else "nothing up to the highest that was tried"
        lines.append(f"| {each.contender} | {each.calls or 'fewer than were tried'} | {broke} |")
    return lines


def answer_table(summaries: Sequence[Summary]) -> list[str]:
    """First audio with realistic providers and how often the agent spoke into a pause; then with words known early."""
    lines = [
        "| | first audio p50, ms | p99 | turns, lost | spoke into a pause |",
        "|---|---|---|---|---|",
    ]
    for suffix, words in (("", ""), (EARLY_PART, ", words early")):
        for s in summaries:
            if s.part == "answer" + suffix:
                pauses = one(summaries, s.contender, "cutoff" + suffix)
                share = "" if pauses is None else f"{pauses.talked_over} of {pauses.turns} turns"
                times = f"{s.first_p50} | {s.first_p99} | {s.turns}, {s.lost_turns}"
                lines.append(f"| {s.contender}{words} | {times} | {share} |")
    return lines


def summary(report: Report) -> list[str]:
    """Everything but the single steps, for the end of the run."""
    blocks = []
    if any(s.part == "load" for s in report.summaries):
        blocks.append(summary_table(report.summaries))
    if report.limits:
        blocks.append(limit_table(report.limits))
    if any(s.part == "answer" for s in report.summaries):
        blocks.append(answer_table(report.summaries))
    if report.starts is not None:
        s = report.starts
        blocks.append(
            [
                f"antiphon serve is healthy after {s.ready_s:.2f} s, with the embedded providers after "
                f"{s.ready_embedded_s:.2f} s; antiphon --help takes {1000 * s.help_s:.0f} ms"
            ]
        )
    return [line for block in blocks for line in ["", *block]]
