"""The report at the end: per language and stage the median and the 95th percentile, and how many turns were answered.

Pure, plain text of fixed columns, so that it can be printed, logged or sent. Whoever has timed turns makes
``TimedTurn`` rows of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from antiphon.observe.latency import percentile
from antiphon.observe.views import TurnView, caller_turns

STAGES = ("endpointing", "stt", "intent/retrieval", "llm", "tts", "playout", "total")
"""In the order in which they happen; ``total`` is what the caller waits: end of input to first sound."""

STAGE_OF = {
    "hangover": "endpointing",
    "endpointing": "endpointing",
    "stt": "stt",
    "understanding": "intent/retrieval",
    "first_text": "llm",
    "first_segment": "llm",
    "synthesis": "tts",
    "playout": "playout",
}
"""The parts of the latency ledger (``observe.latency``)."""

ALL = "all"
UNKNOWN = "unknown"
NO_TURNS = "no turns yet"

_HEAD = ("language", "stage", "turns", "p50 ms", "p95 ms")


class TimedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of the caller. ``stages``: stage to ms, only those that were measured; ``ok``: it was answered."""

    language: str
    stages: Mapping[str, float]
    ok: bool


def timed_turns(turns: Iterable[TurnView]) -> list[TimedTurn]:
    """The caller's turns of a journal."""
    return [TimedTurn(language=turn.language, stages=_spent(turn), ok=turn.answered) for turn in caller_turns(turns)]


def _spent(turn: TurnView) -> dict[str, float]:
    """ms by stage. A turn that began with a prepared phrase says nothing of the model and the voice; what was typed
    nothing of hearing; what was not understood nothing of understanding.
    """
    if turn.latency is None:
        return {}
    spent: dict[str, float] = {}
    for part in turn.latency.parts:
        stage = STAGE_OF[part.name]
        spent[stage] = spent.get(stage, 0) + part.ms
    absent = {
        *(() if turn.latency.first == "reply" else ("llm", "tts")),
        *(() if turn.input == "speech" else ("endpointing", "stt")),
        *(() if turn.question else ("intent/retrieval",)),
    }
    return {**{stage: ms for stage, ms in spent.items() if stage not in absent}, "total": turn.latency.total_ms}


def latency_report(rows: Sequence[TimedTurn]) -> str:
    """The table, without a newline at its end. Languages stand in the order in which they were first spoken.

    Percentiles are of nearest rank, over the turns in which the stage was measured (column ``turns``); a stage that
    none has is left out. The success rate is answered turns of all turns. More than one language: the last block and
    the last line are of all of them.
    """
    groups = [(language or UNKNOWN, [row for row in rows if row.language == language]) for language in _languages(rows)]
    if len(groups) > 1:
        groups.append((ALL, list(rows)))
    blocks = [block for name, mine in groups if (block := _block(name, mine))]
    widths = [max(len(line[column]) for line in [_HEAD, *chain(*blocks)]) for column in range(len(_HEAD))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    text = [_line(_HEAD, widths), rule]
    for block in blocks:
        text += [*(_line(line, widths) for line in block), rule]
    return "\n".join([*text, *_success_lines(groups)])


def _success_lines(groups: Sequence[tuple[str, Sequence[TimedTurn]]]) -> list[str]:
    if not groups:
        return [NO_TURNS]
    if len(groups) == 1:
        return [f"success rate: {_success(groups[0][1])}"]
    width = max(len(name) for name, _ in groups)
    return ["success rate:", *(f"  {name:<{width}}  {_success(mine)}" for name, mine in groups)]


def _languages(rows: Sequence[TimedTurn]) -> list[str]:
    return list(dict.fromkeys(row.language for row in rows))


def _success(rows: Sequence[TimedTurn]) -> str:
    answered = sum(row.ok for row in rows)
    return f"{answered} of {len(rows)} turns answered ({100 * answered / len(rows):.0f} %)"


def _block(language: str, rows: Sequence[TimedTurn]) -> list[tuple[str, ...]]:
    """The lines of one language; the first of them names it."""
    lines: list[tuple[str, ...]] = []
    for stage in _stages(rows):
        times = [row.stages[stage] for row in rows if stage in row.stages]
        lines.append(("" if lines else language, stage, str(len(times)), _ms(times, 0.5), _ms(times, 0.95)))
    return lines


def _stages(rows: Iterable[TimedTurn]) -> list[str]:
    """Those that were measured: the known ones in their order, then others as they come, the total last."""
    found = dict.fromkeys(stage for row in rows for stage in row.stages)
    known = [stage for stage in STAGES[:-1] if stage in found]
    others = [stage for stage in found if stage not in STAGES]
    return [*known, *others, *(stage for stage in STAGES[-1:] if stage in found)]


def _ms(times: list[float], share: float) -> str:
    value = percentile(times, share)
    return "-" if value is None else f"{value:.0f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first two columns are words, the others numbers."""
    words = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join([*words, *numbers]).rstrip()
