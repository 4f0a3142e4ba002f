"""Calls on a terminal: the list, one conversation with its latency waterfalls, and both as JSON.

What colour says is said in words too, so a pipe, a log or a screen reader loses nothing. Text that came from
outside is stripped of control characters: a caller's words must not steer the reader's terminal.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from antiphon.observe.views import Conversation, Latency, LineEvent, SegmentView, Speech, Summary, TurnView
from antiphon.runtime.ports import SessionRow

BAR_CELLS = 48
NOT_UNDERSTOOD = "(was not understood)"
"""In the place of words."""

STATUS_STYLES = {"live": "green", "detached": "yellow", "closed": "", "interrupted": "red"}
OWNER_STYLES = {"wait": "blue", "provider": "yellow", "antiphon": "magenta"}
PART_NAMES = {
    "hangover": "gate hangover",
    "endpointing": "endpointing",
    "stt": "final transcript",
    "understanding": "intent, retrieval",
    "first_text": "reply: first text",
    "first_segment": "reply: segment",
    "synthesis": "synthesis",
    "playout": "queue and playout",
}


def clean(text: str) -> str:
    """Text without control and direction-override characters (they become spaces), on one line."""
    kept = ("\u200c", "\u200d")  # the joiners shape Indic scripts
    return "".join(
        char if char in kept or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else " "
        for char in text
    )


def clock(ms: int) -> str:
    """``m:ss.t`` for a place in a call."""
    return f"{ms // 60_000}:{ms // 1000 % 60:02d}.{ms // 100 % 10}"


def spans(parts: Sequence[int], cells: int) -> list[tuple[int, int]]:
    """(start, length) in cells for each part; lengths sum to ``cells`` if the parts sum to more than 0.

    Every part that is not zero is given the cells between its rounded ends, so bars join without gap or overlap.
    """
    total = sum(parts)
    found = []
    before = 0
    for part in parts:
        start = round(before * cells / total) if total else 0
        before += part
        end = round(before * cells / total) if total else 0
        found.append((start, end - start))
    return found


# -- the list -----------------------------------------------------------------------------------


class CallRow(msgspec.Struct, frozen=True):
    """One call of the list: its session's row, and how many exchanges the caller opened (None: it cannot be read)."""

    session: SessionRow
    turns: int | None


_COLUMNS = ("call", "status", "started", "line", "caller", "language", "turns", "events", "length")
_NUMBERS = frozenset({"turns", "events", "length"})
_LEFT_OUT = ("events", "caller", "line", "language", "length")
"""In this order, where a terminal is too narrow for all. An id is never broken: it is there to be copied."""


def print_calls(console: Console, rows: Sequence[CallRow]) -> None:
    """One line a call, as many columns as there is room for; all of them where there is no terminal."""
    lines = [_cells(row) for row in rows]
    widths = {name: max(cell_len(name), *(cell_len(line[name]) for line in lines)) for name in _COLUMNS}
    kept = [name for name in _COLUMNS if name != "caller" or any(line["caller"] for line in lines)]
    for name in _LEFT_OUT if console.is_terminal else ():
        if name in kept and sum(widths[each] + 2 for each in kept) - 2 > console.width:
            kept.remove(name)
    head = Text("  ".join(_padded(name, name, widths[name]) for name in kept).rstrip(), style="bold")
    console.print(head, soft_wrap=True)
    for line in lines:
        cells = [Text(_padded(name, line[name], widths[name]), style=_style(name, line[name]), end="") for name in kept]
        text = Text("  ").join(cells)
        text.rstrip()
        console.print(text, soft_wrap=True)


def _cells(row: CallRow) -> dict[str, str]:
    session = row.session
    return {
        "call": clean(session.session),
        "status": session.status,
        "started": clean(session.started_at)[:19].replace("T", " "),
        "line": clean(session.transport),
        "caller": clean(session.caller),
        "language": clean(session.language),
        "turns": "?" if row.turns is None else str(row.turns),
        "events": str(session.entries),
        "length": clock(session.last_at_ms),
    }


def _padded(name: str, text: str, width: int) -> str:
    room = " " * (width - cell_len(text))
    return room + text if name in _NUMBERS else text + room


def _style(name: str, text: str) -> str:
    return STATUS_STYLES.get(text, "") if name == "status" else ""


def calls_json(rows: Sequence[CallRow]) -> list[dict[str, Any]]:
    return [{**msgspec.structs.asdict(row.session), "turns": row.turns} for row in rows]


# -- one call -----------------------------------------------------------------------------------


def call_json(call: Conversation, status: str = "") -> dict[str, Any]:
    """The conversation as plain data; each turn's latency says what Antiphon added."""
    plain: dict[str, Any] = msgspec.to_builtins(call)
    plain["status"] = status
    for turn, view in zip(plain["turns"], call.turns, strict=True):
        turn["interrupted"] = view.interrupted
        if view.latency is not None:
            turn["latency"]["added_ms"] = view.latency.added_ms
    return plain


def print_call(console: Console, call: Conversation, status: str = "") -> None:
    _print_head(console, call.summary, status)
    happened: list[tuple[int, int, TurnView | LineEvent | Speech]] = [
        *((turn.at_ms, 1, turn) for turn in call.turns),
        *((event.at_ms, 2, event) for event in call.line),
        *((speech.at_ms, 1, speech) for speech in call.unanswered),
    ]
    for _, _, what in sorted(happened, key=lambda item: item[:2]):
        if isinstance(what, TurnView):
            _print_turn(console, what)
        elif isinstance(what, Speech):
            _say(console, what.at_ms, "caller", Text(clean(what.text)), "cyan", note="not answered")
        else:
            words = {"dropped": "line lost", "attached": "line back", "hung_up": "caller hung up", "closed": "closed"}
            detail = f": {clean(what.detail)}" if what.detail else ""
            _say(console, what.at_ms, "", Text(f"-- {words[what.kind]}{detail}", style="dim"), "")


def _print_head(console: Console, summary: Summary, status: str) -> None:
    head = Text(clean(summary.session), style="bold")
    ended = f" ({clean(summary.ended)})" if summary.ended else ""
    head.append(f"  {status}{ended}", style=STATUS_STYLES.get(status, ""))
    for fact in (summary.started_at[:19].replace("T", " "), summary.transport, summary.caller, summary.language):
        if fact:
            head.append(f"  {clean(fact)}", style="not bold")
    console.print(head)
    turns = _count(summary.turns, "turn") + (f", {summary.answered} answered" if summary.turns else "")
    counts = [turns, f"{clock(summary.duration_ms)} long"]
    for number, what in (
        (summary.interruptions, "interruption"),
        (summary.backchannels, "backchannel"),
        (summary.false_interruptions, "false interruption"),
        (summary.failures, "failure"),
    ):
        if number:
            counts.append(_count(number, what))
    if summary.adopted or summary.dropped:
        counts.append(f"{summary.adopted} answered ahead, {summary.dropped} in vain")
    console.print(Text(", ".join(counts)))
    if summary.median_ms is not None:
        console.print(
            Text(
                f"to first audio: median {summary.median_ms} ms, p95 {summary.p95_ms} ms, "
                f"of which Antiphon adds {summary.added_median_ms} ms (median)"
            )
        )
    if summary.diverged_at:
        console.print(
            Text(
                f"today's code decides otherwise from entry {summary.diverged_at} on: what follows may be incomplete",
                style="red",
            )
        )
    console.print()


def _print_turn(console: Console, turn: TurnView) -> None:
    if turn.input != "none":
        notes: list[str] = [] if turn.input == "speech" else [turn.input]
        partials = sum(speech.partials for speech in turn.speech)
        if partials:
            notes.append(_count(partials, "partial"))
        if turn.intent:
            notes.append(f"intent {clean(turn.intent)} {turn.intent_confidence:.2f}")
        at = turn.speech[0].at_ms if turn.speech else turn.at_ms
        said = clean(turn.question) or NOT_UNDERSTOOD
        _say(console, at, "caller", Text(said), "cyan", note=", ".join(notes))
    for at, _, who, what, style, note in sorted(_happened(turn), key=lambda line: line[:2]):
        _say(console, at, who, what, style, note=note)
    if turn.sources:
        _say(console, None, "", Text(f"-- from {', '.join(clean(source) for source in turn.sources)}", style="dim"), "")
    if turn.latency is not None and turn.input != "none":
        print_waterfall(console, turn.latency)
    console.print()


_Line = tuple[int, int, str, Text, str, str]
"""When, order at equal times, who, what, its style, a note."""


def _happened(turn: TurnView) -> list[_Line]:
    """What was said and what went on around it, to be put in order of time."""
    lines: list[_Line] = []
    for segment in turn.segments:
        if segment.heard != "dropped":
            notes = [] if segment.kind == "reply" else [clean(segment.kind)]
            if segment.attempt > 1:
                notes.append(f"attempt {segment.attempt}")
            lines.append((segment.at_ms, segment.segment, "agent", spoken_text(segment), "green", ", ".join(notes)))
    words = {"barge_in": "interrupted", "backchannel": "backchannel", "noise": "false interruption, went on"}
    for overlap in turn.overlaps:
        said = f": {clean(overlap.text)}" if overlap.text else ""
        style = "red" if overlap.kind == "barge_in" else "dim"
        lines.append((overlap.at_ms, 0, "", Text(f"-- {words[overlap.kind]}{said}", style=style), "", ""))
    for failure in turn.failures:
        who = f" ({clean(failure.provider)})" if failure.provider else ""
        what = Text(f"!! {clean(failure.stage)} failed: {clean(failure.code)}{who}", style="red")
        lines.append((failure.at_ms, 0, "", what, "", ""))
    for note in turn.notes:
        lines.append((note.at_ms, 0, "", Text(f"-- {clean(note.text)}", style="yellow"), "", ""))
    for effect in turn.effects:
        what = Text(f"-- {clean(effect.kind)} {clean(effect.name)}: {effect.status} {clean(effect.detail)}")
        lines.append((effect.at_ms, 0, "", what, "", ""))
    return lines


def spoken_text(segment: SegmentView) -> Text:
    """The segment's text; what of it was not heard, or not yet, is dimmed and in brackets."""
    text = clean(segment.text)
    if segment.heard in ("heard", "ready", "started"):
        spoken = Text(text)
        if segment.heard != "heard":
            spoken.append(f" [{'being spoken' if segment.heard == 'started' else 'not spoken yet'}]", style="dim")
        return spoken
    spoken = Text(text[: segment.heard_chars].rstrip())
    rest = text[segment.heard_chars :].strip()
    if rest:
        spoken.append(f"{' ' if segment.heard_chars else ''}[not heard: {rest}]", style="dim")
    return spoken


def _say(console: Console, at_ms: int | None, who: str, what: Text, style: str, *, note: str = "") -> None:
    line = Table.grid(padding=(0, 1))
    line.add_column(width=8, justify="right", no_wrap=True)
    line.add_column(width=6, no_wrap=True)
    line.add_column(ratio=1, overflow="fold")
    if note:
        what = what.copy()
        what.append(f"  ({note})", style="dim")
    line.add_row(Text("" if at_ms is None else clock(at_ms), style="dim"), Text(who, style=style), what)
    console.print(line)


def print_waterfall(console: Console, latency: Latency) -> None:
    """One bar per part that took time, each beginning where the one before ended; the last line is their sum."""
    cell = "█" if console.encoding.lower().startswith("utf") else "#"
    table = Table.grid(padding=(0, 1))
    table.add_column(width=15)
    table.add_column(width=18, no_wrap=True)
    table.add_column(width=8, justify="right", no_wrap=True)
    table.add_column(width=BAR_CELLS + 2, no_wrap=True)
    places = spans([part.ms for part in latency.parts], BAR_CELLS)
    for part, (start, length) in zip(latency.parts, places, strict=True):
        if part.ms:
            bar = Text("|" + " " * start)
            bar.append(cell * length, style=OWNER_STYLES[part.owner])
            bar.append(" " * (BAR_CELLS - start - length) + "|")
            table.add_row("", PART_NAMES.get(part.name, part.name), f"{part.ms} ms", bar)
    first = "" if latency.first == "reply" else f", first heard: {clean(latency.first)}"
    if latency.first != "reply" and latency.answer_ms is not None:
        first += f", answer after {latency.answer_ms} ms"
    total = Text(f"Antiphon's own: {latency.added_ms} ms{first}")
    table.add_row("", Text("to first audio", style="bold"), Text(f"{latency.total_ms} ms", style="bold"), total)
    console.print(table)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
