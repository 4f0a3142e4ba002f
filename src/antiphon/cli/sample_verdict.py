"""Was the sample call as it should be? The expectations, and how they are printed.

Two independent witnesses: the caller's own report (what was audible, and when) and the journal (what was understood,
what was answered from, what is remembered).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from antiphon.cli.live_scene import heard_of
from antiphon.kernel.events import Entry
from antiphon.kernel.session import Session
from antiphon.knowledge import Knowledge
from antiphon.observe.latency import percentile
from antiphon.observe.projections import conversation
from antiphon.observe.render import NOT_UNDERSTOOD, clean
from antiphon.observe.report import TimedTurn, latency_report, timed_turns
from antiphon.observe.views import Owner, TurnView
from antiphon.phone.report import CallReport, TurnReport, percentiles

FIRST_AUDIO_MS = 700
OWN_SHARE_MS = 15


class Line(msgspec.Struct, frozen=True):
    """What the caller says. ``entry`` is the knowledge base's entry that answers it.

    ``barge_in_s``: it interrupts the reply before it, so many seconds in. ``murmur`` is uttered into its own reply.
    """

    text: str
    entry: str = ""
    says_goodbye: bool = False
    barge_in_s: float | None = None
    murmur: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """One line and what came of it. ``failures`` is empty if all was as expected."""

    line: Line
    phone: TurnReport | None
    turn: TurnView | None
    failures: tuple[str, ...]


class Verdict(msgspec.Struct, frozen=True):
    """``failures``: one line of text for each expectation that was not met."""

    outcomes: tuple[Outcome, ...]
    failures: tuple[str, ...]
    phone_ms: float | None
    journal_ms: int | None
    own_ms: int | None
    late_ticks: int = 0
    timed: tuple[TimedTurn, ...] = ()

    @property
    def met(self) -> int:
        return sum(not outcome.failures for outcome in self.outcomes)

    def rendered(self) -> list[RenderableType]:
        """For a rich console."""
        report = [Text(latency_report(self.timed), no_wrap=True, overflow="ignore"), Text()]
        return [*_table(self.outcomes), *report, *_figures(self), *_failures(self.failures)]


def judge(lines: Sequence[Line], report: CallReport, entries: Sequence[Entry], knowledge: Knowledge) -> Verdict:
    """``entries`` is the call's journal, ``report`` the caller's."""
    call = conversation(entries)
    asked = [turn for turn in call.turns if turn.input == "speech"]
    remembered = _remembered(entries)
    failures: list[str] = []
    if report.error or not entries:
        failures.append(f"the call failed: {report.error or 'the journal has nothing of it'}")
    if len(asked) != len(lines):
        heard = "; ".join(clean(turn.question) or NOT_UNDERSTOOD for turn in asked) or "nothing"
        failures.append(f"{len(lines)} lines were spoken, {len(asked)} turns were made of them: {heard}")
    if report.ended_by != "agent" and not report.error:
        failures.append(f"the agent should have hung up after the goodbye; the call was ended by {report.ended_by}")
    outcomes = []
    for place, line in enumerate(lines):
        following = lines[place + 1] if place + 1 < len(lines) else None
        outcome = _outcome(
            line,
            report.replies[place] if place < len(report.replies) else None,
            asked[place] if place < len(asked) else None,
            interrupted=following is not None and following.barge_in_s is not None,
            source=knowledge.entry(line.entry).source if line.entry else "",
            remembered=remembered,
        )
        outcomes.append(outcome)
        failures += [f"{line.text!r}: {failure}" for failure in outcome.failures]
    ledgers = [outcome.turn.latency for outcome in outcomes if outcome.turn is not None and outcome.turn.latency]
    return Verdict(
        outcomes=tuple(outcomes),
        failures=tuple(failures),
        phone_ms=percentiles(report.latencies).get("p50"),
        journal_ms=percentile([ledger.total_ms for ledger in ledgers], 0.5),
        own_ms=percentile([ledger.added_ms for ledger in ledgers], 0.5),
        late_ticks=report.late_ticks,
        timed=tuple(timed_turns(call.turns)),
    )


def _remembered(entries: Sequence[Entry]) -> dict[int, str]:
    """The agent's side of the history the kernel kept, by turn."""
    session = Session()
    for entry in entries:
        session.receive(entry.event, entry.at)
    return {each.turn: each.content for each in session.state.history if each.role == "assistant"}


def _outcome(
    line: Line,
    phone: TurnReport | None,
    turn: TurnView | None,
    *,
    interrupted: bool,
    source: str,
    remembered: dict[int, str],
) -> Outcome:
    failures: list[str] = []
    if turn is None or phone is None or not phone.answered:
        failures.append("no answer was heard")
    elif not turn.answered:
        failures.append(f"no answer was heard, but: {', '.join(turn.phrases) or turn.outcome}")
    if turn is not None and phone is not None:
        if source and source not in turn.sources:
            where = ", ".join(turn.sources) or "no entry"
            failures.append(f"heard as {turn.question!r}, answered from {where} instead of {source}")
        if line.says_goodbye and turn.intent != "goodbye":
            failures.append(f"heard as {turn.question!r}, not understood as a goodbye")
        if turn.answered:
            failures += _cut(phone, turn, remembered) if interrupted else _whole(turn)
        if line.murmur:
            failures += _murmured(line.murmur, phone, turn)
    return Outcome(line, phone, turn, tuple(failures))


def _whole(turn: TurnView) -> list[str]:
    if turn.outcome == "answered" and all(part.heard == "heard" for part in turn.segments):
        return []
    return [f"the reply should have been heard to its end, it was {turn.outcome}"]


def _cut(phone: TurnReport, turn: TurnView, remembered: dict[int, str]) -> list[str]:
    """The reply stopped for the caller, and what is remembered of it ends where it stopped being heard."""
    failures = []
    if turn.outcome != "interrupted" or not phone.interrupted:
        failures.append(f"the reply should have been interrupted, it was {turn.outcome}")
    heard, written = heard_of(turn), " ".join(part.text for part in turn.segments)
    if remembered.get(turn.turn) != heard:
        failures.append(f"history says {remembered.get(turn.turn, '')!r}, heard was {heard!r}")
    if not heard or len(heard) >= len(written):
        failures.append("the reply should have been cut short")
    return failures


def _murmured(murmur: str, phone: TurnReport, turn: TurnView) -> list[str]:
    """The murmur was noticed, and the reply went on and came to its end (``_whole`` checks that)."""
    if not phone.backchannels:
        return [f"the reply was over before {murmur!r} could be murmured"]
    if "backchannel" not in {overlap.kind for overlap in turn.overlaps}:
        kinds = ", ".join(f"{overlap.kind} {overlap.text!r}" for overlap in turn.overlaps) or "nothing"
        return [f"{murmur!r} should have been taken for a backchannel, it was {kinds}"]
    return []


# -- printing -----------------------------------------------------------------------------------


def _table(outcomes: Sequence[Outcome]) -> list[RenderableType]:
    table = Table(box=None, pad_edge=False, header_style="bold", title="the sample call", title_justify="left")
    table.add_column("caller")
    table.add_column("answered from")
    for name in ("phone", "journal", "= waits", "providers", "Antiphon"):
        table.add_column(f"{name}\nms", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for outcome in outcomes:
        turn, phone = outcome.turn, outcome.phone
        latency = turn.latency if turn is not None else None
        cells = ["", "", "", ""]
        if latency is not None:
            owners: tuple[Owner, ...] = ("wait", "provider", "antiphon")
            shares = [sum(part.ms for part in latency.parts if part.owner == owner) for owner in owners]
            cells = [str(number) for number in (latency.total_ms, *shares)]
        heard = "" if phone is None or phone.latency_ms is None else f"{phone.latency_ms:.0f}"
        sources = ", ".join(turn.sources) if turn is not None else ""
        mark = Text("FAILED", style="bold red") if outcome.failures else Text("ok", style="green")
        table.add_row(Text(outcome.line.text), Text(clean(sources) or "-"), heard, *cells, mark)
    return [Text(), table, Text()]


def _figures(verdict: Verdict) -> list[RenderableType]:
    total = len(verdict.outcomes)
    share = f"{100 * verdict.met // total} %" if total else "-"
    phone = "-" if verdict.phone_ms is None else f"{verdict.phone_ms:.0f} ms"
    journal = "-" if verdict.journal_ms is None else f"{verdict.journal_ms} ms"
    own = "-" if verdict.own_ms is None else f"{verdict.own_ms} ms"
    lines: list[RenderableType] = [
        Text(f"{verdict.met} of {total} turns answered as expected ({share})", style="bold"),
        Text(f"end of speech to first sound, median: {phone} at the phone, {journal} in the journal")
        + _target(verdict.phone_ms, FIRST_AUDIO_MS),
        Text(f"of which Antiphon itself adds, waits and providers taken out: {own}")
        + _target(verdict.own_ms, OWN_SHARE_MS),
    ]
    if verdict.late_ticks > 2:
        lines.append(Text(f"the caller's process was late {verdict.late_ticks} times: its figures say less", "yellow"))
    return lines


def _target(value: float | None, below: int) -> Text:
    good = value is not None and value < below
    return Text(f", target < {below} ms: ") + Text("ok" if good else "not ok", style="green" if good else "bold red")


def _failures(failures: Sequence[str]) -> list[RenderableType]:
    return [Text(f"FAILED  {clean(failure)}", style="red") for failure in failures]
