"""The results as a table for people, and against what is aimed at."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.load import Step

HEAD = """\
               first audio, ms        minus endpoint                gaps  CPU ms per call-second   core      RSS   load
         calls    p50    p99    max    p50    p99  turns lost per 10k    all  loop   vad other      %  KB/call  core %\
"""


class Targets(msgspec.Struct, frozen=True):
    """What is aimed at. The first audio's p99 at ``calls`` is held against that of one call: its slowest turn."""

    calls: int = 300
    cpu_ms_per_call_s: float = 2.5
    rss_kb_per_call: float = 512.0
    first_audio_rise_ms: float = 50.0


def row(name: str, step: Step) -> str:
    """One line under ``HEAD``. For the echo server, first audio is the round trip of a message."""
    gaps = 10_000 * step.gaps / step.agent_frames if step.agent_frames else 0.0
    digits = 2 if name == "echo" else 1
    times = "".join(f"{t:7.{digits}f}" for t in (step.first_audio_p50, step.first_audio_p99, step.first_audio_max))
    added = 14 * " " if name == "echo" else f"{step.added_p50:7.1f}{step.added_p99:7.1f}"
    cost = f"{step.cpu_ms_per_call_s:7.2f}{step.cpu_loop:6.2f}{step.cpu_vad:6.2f}{step.cpu_other:6.2f}"
    load = f"{step.server_core_percent:7.1f}{step.rss_kb_per_call:9.0f}{step.load_core_percent:8.1f}"
    notes = f"  LOAD GENERATOR LATE, {step.load_late_p99:.0f} ms" if step.load_unfit else ""
    if step.failed_calls:
        notes += f"  {step.failed_calls} CALLS FAILED"
    if step.talked_over:
        notes += f"  answered early: {step.talked_over}"
    return f"{name:8s}{step.calls:6d}{times}{added}{step.turns:7d}{step.lost_turns:5d}{gaps:8.1f}{cost}{load}{notes}"


def verdicts(steps: Sequence[Step], targets: Targets) -> list[str]:
    """One line for each target that these steps can be held against: reached or not, and by what figure."""
    found: list[str] = []

    def hold(reached: bool, what: str) -> None:
        found.append(f"{'reached:     ' if reached else 'NOT reached: '}{what}")

    by_calls = {step.calls: step for step in steps}
    at, one = by_calls.get(targets.calls), by_calls.get(1)
    many = [step for step in steps if step.calls >= 50]
    if many:
        cpu, rss = max(step.cpu_ms_per_call_s for step in many), max(step.rss_kb_per_call for step in many)
        aim = f"(target {targets.cpu_ms_per_call_s} ms)"
        hold(cpu <= targets.cpu_ms_per_call_s, f"CPU per call-second, from 50 calls on: at most {cpu:.2f} ms {aim}")
        aim = f"(target {targets.rss_kb_per_call:.0f} KB)"
        hold(rss <= targets.rss_kb_per_call, f"memory per call, from 50 calls on: at most {rss:.0f} KB {aim}")
    if at is not None:
        lost = at.lost_turns + at.failed_calls
        hold(not lost and at.turns > 0, f"{at.calls} calls on one core: {lost} of {at.turns} turns or calls lost")
    if at is not None and one is not None and one.turns:
        rise = at.first_audio_p99 - one.first_audio_p99
        what = f"{at.calls} calls: first audio's p99 is {rise:.1f} ms above that of one call"
        aim = f"(target {targets.first_audio_rise_ms:.0f} ms)"
        if rise > targets.first_audio_rise_ms and (at.load_unfit or one.load_unfit):
            found.append(f"unclear:     {what} {aim}, but the load generator was late: run it on a quiet machine")
        else:
            hold(rise <= targets.first_audio_rise_ms, f"{what} {aim}")
    return found
