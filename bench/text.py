"""``python -m bench --text``: a thousand visitors of ``/orchestrate``, one process, from each a turn every ten seconds.

Their providers take no time, so that all of a turn's wait is the server's. They come evenly over ten seconds, or all
in the same moment; and once more without sound, for whoever only reads. The journal is on, as always.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.ledger import notes
from bench.server import Delays, antiphon
from bench.visiting import WARM_S, Cores, visit
from bench.visitor import Manner
from bench.visits import Visits

SESSIONS, PERIOD_S, SECONDS = 1_000, 10.0, 40.0
ADDED_P99_MS = 50.0
REPLY = Delays(reply="You need a school certificate and a language test.")
"""Three seconds of sound: a third of the visitors hear the agent at any time."""


class Coming(msgspec.Struct, frozen=True):
    """How the visitors come: evenly over ``ramp_s``, or at once; with sound, or without."""

    name: str
    ramp_s: float
    sound: bool = True


WAYS = (Coming("spread", PERIOD_S), Coming("at once", 0.0), Coming("spread, no sound", PERIOD_S, sound=False))


def run(
    cores: Cores,
    sessions: int = SESSIONS,
    seconds: float = SECONDS,
    ways: Sequence[Coming] = WAYS,
    warm_s: float = WARM_S,
) -> dict[str, Visits]:
    """Each way once, on a fresh server. Raises ``RuntimeError`` if it does not start."""
    found = {}
    for way in ways:
        manner = Manner(period_s=PERIOD_S, sound=way.sound)
        with (
            tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder,
            antiphon(Path(folder), cores[0], REPLY) as server,
        ):
            found[way.name] = visit(
                server,
                cores,
                sessions=sessions,
                manner=manner,
                seconds=seconds,
                ramp_s=way.ramp_s,
                # Who came evenly asks evenly; who came at once does so over the first turns.
                first_s=0.1 if way.ramp_s else min(PERIOD_S, seconds / 2),
                warm_s=warm_s,
            )
        print(line(way.name, found[way.name]), flush=True)
    return found


HEAD = """\
                             let in, ms     words back, ms     first sound, ms                CPU ms  core RSS KB load
                sessions    p50    p99    max    p50    p99    p50    p99    max turns lost a second     %   each    %
"""


def line(name: str, found: Visits) -> str:
    """One line under ``HEAD``. The waits run from ``vad_end`` on."""
    let_in, words, sound = found.let_in, found.answered, found.added
    times = (let_in.p50, let_in.p99, let_in.most, words.p50, words.p99, sound.p50, sound.p99, sound.most)
    return (
        f"{name:16s}{found.sessions:8d}{''.join(f'{value:7.1f}' for value in times)}{found.turns:6d}"
        f"{found.lost_turns:5d}{found.cpu_ms_per_session_s:9.3f}{found.core_percent:6.0f}"
        f"{found.rss_kb_per_session:7.0f}{found.load_core_percent:5.0f}{notes(found)}"
    )


def table(rows: dict[str, Visits]) -> list[str]:
    """The same as Markdown, for the documents."""
    lines = [
        "| visitors come | sessions | let in p99, ms | first answer p50, ms | p99 | max | turns, lost | refused | "
        "CPU ms per session-second | KB a session |",
        f"|{10 * '---|'}",
    ]
    for name, found in rows.items():
        waits = f"{found.added.p50:.1f} | {found.added.p99:.1f} | {found.added.most:.1f}"
        lines.append(
            f"| {name} | {found.sessions} | {found.let_in.p99:.0f} | {waits} | {found.turns}, {found.lost_turns} | "
            f"{found.refused + found.failed} | {found.cpu_ms_per_session_s:.2f} | {found.rss_kb_per_session:.0f} |"
        )
    return lines


def verdicts(rows: dict[str, Visits]) -> list[str]:
    """What was to be reached, and by what figure it was or was not."""
    return [_verdict(name, found) for name, found in rows.items()]


def _verdict(name: str, found: Visits) -> str:
    bad, added = found.refused + found.failed, found.added.p99
    reached = not (bad or found.lost_turns or found.errors) and found.turns > 0 and added <= ADDED_P99_MS
    return (
        f"{'reached:     ' if reached else 'NOT reached: '}{found.sessions} sessions, {name}: p99 {added:.1f} ms added "
        f"(target {ADDED_P99_MS:.0f}), {found.rss_kb_per_session:.0f} KB a session, {found.lost_turns} of "
        f"{found.turns} turns lost, {bad} refused or cut off"
    )
