"""``python -m bench --ledger``: where the milliseconds of a turn go, with providers that take what the budget gives.

The budget of the low-latency voice service (B26 to B30, X6): recogniser 50 ms, intent 50 and retrieval 80, model 100 to
its first token, voice 75 to its first chunk, and 140 for transport, endpointing and queueing: 445 ms from the end of
the caller's speech to the first sound sent. Visitors bring words over ``/orchestrate`` from a process of their own. The
recogniser and the silence that ends a turn are theirs, waited for exactly; everything else happens in the server.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.server import Delays, antiphon
from bench.visiting import Cores, visit
from bench.visitor import Manner
from bench.visits import Times, Visits

STT_MS, INTENT_MS, RETRIEVAL_MS, LLM_MS, TTS_MS = 50, 50, 80, 100, 75
ELSE_MS, TOTAL_MS = 140, 445
"""X6: transport, endpointing and queueing, and the sum of all."""
ENDPOINT_MS = 120
"""The silence that ends a turn, counted from the words on: 20 of the 140 ms are left for transport and queueing."""
NEAR_MS = 15
"""How far the total may be from the sum of the stages that cannot overlap."""
SAVES_MS = 45
"""What B3 promises is "about 50": the shorter of the two stages, less what running both at once costs."""
TURNS, MORE = 200, 3
"""Of one session, and so many times as much of a hundred: the first turn of each says little of the others."""
LONGEST_S = 900.0

PARALLEL = Delays(
    intent_ms=INTENT_MS, retrieval_ms=RETRIEVAL_MS, llm_ms=LLM_MS, tts_ms=TTS_MS, speculate="false", reply="Yes, we do."
)
SEQUENTIAL = msgspec.structs.replace(PARALLEL, retrieval_ms=INTENT_MS + RETRIEVAL_MS)
"""One after the other: retrieval is done when intent and retrieval both have taken their time."""
SPECULATIVE = msgspec.structs.replace(PARALLEL, speculate="true")


class Way(msgspec.Struct, frozen=True):
    """One way to go about a turn. ``stages``: of the server, ms, one after the other from when it may begin.

    ``ahead``: it may begin when the words are there; else when the turn is over.
    """

    name: str
    delays: Delays
    stages: tuple[int, ...]
    ahead: bool = False

    def floor_ms(self, endpoint_ms: float) -> float:
        """The sum of what cannot overlap, from the end of speech to the first sound."""
        work = sum(self.stages)
        return STT_MS + (max(endpoint_ms, work) if self.ahead else endpoint_ms + work)


WAYS = (
    Way("sequential", SEQUENTIAL, (INTENT_MS, RETRIEVAL_MS, LLM_MS, TTS_MS)),
    Way("parallel", PARALLEL, (max(INTENT_MS, RETRIEVAL_MS), LLM_MS, TTS_MS)),
    Way("speculative", SPECULATIVE, (max(INTENT_MS, RETRIEVAL_MS), LLM_MS, TTS_MS), ahead=True),
)
FEW = Manner(stt_s=STT_MS / 1000, endpoint_s=ENDPOINT_MS / 1000, pause_s=(0.05, 0.25))
MANY = msgspec.structs.replace(FEW, pause_s=(3.0, 6.0))
SESSIONS = {1: FEW, 100: MANY}
"""How many there are at once, and how they behave: a hundred rest between their turns as people do."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One way with so many sessions; ms. ``lines``: the ledger, which adds up to the total but for rounding."""

    way: str
    floor: float
    over: Times
    """By how much the total is above ``floor``."""
    lines: dict[str, Times]
    visits: Visits

    @property
    def name(self) -> str:
        return f"{self.way}, {self.visits.sessions}"


def run(cores: Cores, turns: int = TURNS, sessions: Sequence[int] = tuple(SESSIONS)) -> list[Row]:
    """Every way at every number of sessions. Raises ``RuntimeError`` if a server does not start."""
    rows = []
    for count in sessions:
        for way in WAYS:
            rows.append(_measure(way, count, SESSIONS[count], cores, turns if count == 1 else MORE * turns))
            print(line(rows[-1]), flush=True)
    return rows


def _measure(way: Way, sessions: int, manner: Manner, cores: Cores, turns: int) -> Row:
    # With one visitor the answer is short, or two hundred turns would take a quarter of an hour.
    delays = msgspec.structs.replace(way.delays, char_ms=10 if sessions == 1 else 120)
    with tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder, antiphon(Path(folder), cores[0], delays) as s:
        found = visit(
            s, cores, sessions=sessions, manner=manner, seconds=LONGEST_S, turns=turns, ramp_s=min(5.0, 0.05 * sessions)
        )
    return row_of(way, found)


def row_of(way: Way, found: Visits) -> Row:
    """Above the floor: with the endpointing that there really was, for the visitors' timers are late, too."""
    floor = way.floor_ms(max(ENDPOINT_MS, found.endpointing.p50))
    over = Times(*(round(value - floor, 2) for value in (found.waits.p50, found.waits.p99, found.waits.most)))
    return Row(way=way.name, floor=round(floor, 1), over=over, lines=_lines(way, found), visits=found)


OURS = ("understanding", "first_text", "first_segment", "synthesis", "playout")
"""The server's ledger, in order; what is before them is the visitors' part."""
LINES = ("stt", "endpointing", *OURS, "transport")


def _lines(way: Way, found: Visits) -> dict[str, Times]:
    exact = Times(STT_MS, STT_MS, STT_MS)
    lines = {"stt": exact, "endpointing": found.endpointing}
    lines |= {name: found.parts.get(name, Times(0.0, 0.0, 0.0)) for name in OURS}
    spent = sum(times.p50 for times in lines.values())
    return {**lines, "transport": Times(round(found.waits.p50 - spent, 2))}


HEAD = """\
                     from the end of speech to the first sound, ms
                       floor    p50    p99    max   over floor  turns lost   stt  endp  underst   llm  segment   tts  \
playout  else
"""


def line(row: Row) -> str:
    """One line under ``HEAD``: the medians of the ledger's lines at its end."""
    waits, over, lines = row.visits.waits, row.over, row.lines
    told = [lines.get(name, Times()).p50 for name in LINES]
    widths = (6, 6, 9, 6, 9, 6, 9, 6)
    spent = "".join(f"{value:{width}.0f}" for value, width in zip(told, widths, strict=True))
    return (
        f"{row.name:21s}{row.floor:7.0f}{waits.p50:7.0f}{waits.p99:7.0f}{waits.most:7.0f}{over.p50:7.1f}{over.p99:6.1f}"
        f"{row.visits.turns:7d}{row.visits.lost_turns:5d}{spent}{notes(row.visits)}"
    )


def notes(found: Visits) -> str:
    said = f"  LOAD GENERATOR LATE, {found.load_late_p99:.0f} ms" if found.load_unfit else ""
    said += f"  others {found.others_percent:.0f} %" if found.others_percent > 10 else ""
    said += f"  {found.refused} REFUSED" if found.refused else ""
    return said + (f"  {found.errors} ERRORS" if found.errors else "")


def verdicts(rows: Sequence[Row]) -> list[str]:
    """What was to be reached, and by what figure it was or was not."""
    by = {(row.way, row.visits.sessions): row for row in rows}
    said = []
    for (way, sessions), row in by.items():
        waits, turns, lost = row.visits.waits, row.visits.turns, row.visits.lost_turns
        other = by.get(("parallel", sessions), row).visits.waits.p50
        if way == "sequential":
            saved = waits.p50 - other
            said.append(_said(saved >= SAVES_MS, sessions, f"side by side saves {saved:.0f} ms (target {SAVES_MS})"))
        elif way == "speculative":
            said.append(_said(waits.p50 < other, sessions, f"answering ahead saves another {other - waits.p50:.0f} ms"))
        else:
            near = (
                f"{row.over.p50:.1f} ms above the stages that cannot overlap (target {NEAR_MS}), p99 {row.over.p99:.1f}"
            )
            said.append(_said(row.over.p50 <= NEAR_MS and not lost, sessions, f"{near}; {lost} of {turns} turns lost"))
            rest = waits.p50 - STT_MS - max(INTENT_MS, RETRIEVAL_MS) - LLM_MS - TTS_MS
            between = f"transport, endpointing and queueing take {rest:.0f} ms of it (budget {ELSE_MS})"
            said.append(_said(rest <= ELSE_MS, sessions, between))
            total = f"{waits.p50:.0f} ms in all (budget {TOTAL_MS}), p99 {waits.p99:.0f}"
            said.append(_said(waits.p50 <= TOTAL_MS, sessions, total))
    return said


def _said(reached: bool, sessions: int, what: str) -> str:
    return f"{'reached:     ' if reached else 'NOT reached: '}{sessions} at once: {what}"


def table(rows: Sequence[Row]) -> list[str]:
    """The same as Markdown, for the documents."""
    heads = ("stt", "endpointing", "intent, retrieval", "model", "segment", "voice", "playout", "transport")
    lines = [
        f"| | sessions | total p50, ms | p99 | above the floor p50 | p99 | {' | '.join(heads)} | turns, lost |",
        f"|{(7 + len(heads)) * '---|'}",
    ]
    for row in rows:
        found, told = row.visits, [f"{row.lines[name].p50:.0f}" for name in LINES if name in row.lines]
        cells = [row.way, str(found.sessions), f"{found.waits.p50:.1f}", f"{found.waits.p99:.1f}"]
        cells += [f"{row.over.p50:.1f}", f"{row.over.p99:.1f}", *told, f"{found.turns}, {found.lost_turns}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
