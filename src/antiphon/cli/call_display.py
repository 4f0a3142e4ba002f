"""How ``antiphon call`` shows a call while it runs, and what is left of it on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from antiphon.phone.report import CallReport, PhoneEvent, TurnReport, percentiles

_WHO = {"caller": "bold cyan", "agent": "bold green", "": "dim"}

_INSTEAD = {
    "apology": "the agent apologised",
    "still_there": "the agent asked whether somebody is there",
    "please_repeat": "it was not understood",
    "use_keypad": "it was not understood",
    "goodbye": "the agent said goodbye",
}
BY_EAR = "whether these were answers, only the agent's journal tells"


class _Display:
    """A line at the bottom that moves, on a terminal; nothing but finished lines elsewhere. ``silent``: nothing."""

    def __init__(self, console: Console, *, silent: bool) -> None:
        self._console = console
        self._silent = silent
        self._status: Status | None = None
        if console.is_terminal and not silent:
            self._status = console.status("calling ...")

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def _moving(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)

    def _line(self, at_ms: int, who: str, text: str) -> None:
        if not self._silent:
            self._console.print(
                Text.assemble((f"{at_ms / 1000:7.2f} s  ", "dim"), (f"{who:<7}", _WHO.get(who, "dim")), text),
                soft_wrap=True,
            )


class OneCallDisplay(_Display):
    """The conversation as it goes."""

    def __init__(self, console: Console, url: str, *, silent: bool = False) -> None:
        super().__init__(console, silent=silent)
        self._url = url

    def note(self, event: PhoneEvent) -> None:
        at, text = event.at_ms, event.text
        match event.kind:
            case "connected":
                self._line(at, "", f"connected to {self._url} as {text}")
                self._moving("waiting for the agent ...")
            case "caller_speaking":
                self._line(at, "caller", text)
                self._moving("caller speaks ...")
            case "caller_done" | "digits":
                if event.kind == "digits":
                    self._line(at, "caller", f"presses {text}")
                self._moving("waiting for the agent ...")
            case "agent_speaking":
                self._line(at, "agent", f"speaks, {text} ms after the caller" if text else "speaks")
                self._moving("agent speaks ...")
            case "agent_quiet":
                self._moving("agent is quiet")
            case "backchannel":
                self._line(at, "caller", f"({text})")
            case "no_reply":
                self._line(at, "agent", "says nothing")
            case "hung_up":
                self._line(at, "caller", "hangs up")
            case "closed":
                self._line(at, "agent", f"ends the call{f': {text}' if text else ''}")

    def summary(self, report: CallReport, texts: Sequence[str], recording: str | None) -> None:
        if report.error:
            self._console.print(f"The call failed: {report.error}", style="red", markup=False, soft_wrap=True)
            return
        table = Table(box=None, pad_edge=False)
        table.add_column("#", justify="right")
        table.add_column("caller")
        if texts:
            table.add_column("agent")
        for name in ("first sound", "reply"):
            table.add_column(name, justify="right")
        table.add_column("")
        for place, turn in enumerate(report.turns):
            said = Text(turn.said or "(greeting)")
            row = [Text(str(turn.index)), said, *([Text(texts[place])] if texts else [])]
            first = "-" if turn.latency_ms is None else f"{turn.latency_ms:.0f} ms"
            table.add_row(*row, first, f"{turn.reply_ms / 1000:.1f} s" if turn.reply_ms else "-", remarks(turn))
        self._console.print(table)
        self._console.print(summary_line(report), markup=False, soft_wrap=True)
        if report.replies and report.judged_by == "ear":
            self._console.print(BY_EAR, style="dim")
        if recording:
            self._console.print(f"recording: {recording} (caller left, agent right)", markup=False, soft_wrap=True)


def remarks(turn: TurnReport) -> str:
    """What else is worth knowing of a turn."""
    found = []
    if not turn.answered and turn.index:
        found.append("no answer" + (f": {_INSTEAD.get(turn.instead, 'a sound was heard')}" if turn.instead else ""))
    if turn.talked_over:
        found.append("agent talked on")
    if turn.stopped_ms is not None:
        found.append(f"agent stopped after {turn.stopped_ms:.0f} ms")
    if turn.interrupted:
        found.append("interrupted")
    if turn.backchannels:
        found.append(f"murmured {', '.join(turn.backchannels)}")
    return "; ".join(found)


def summary_line(report: CallReport) -> str:
    median = percentiles(report.latencies).get("p50")
    parts = [_answered(report)]
    if median is not None:
        parts.append(f"median {median:.0f} ms from end of speech to first sound")
    parts.append(f"{report.duration_ms / 1000:.1f} s, ended by {report.ended_by}")
    if report.late_ticks > 2:
        parts.append(f"this client was late {report.late_ticks} times: trust the figures less")
    return "; ".join(parts)


def _answered(report: CallReport) -> str:
    if not report.due:
        agent = "spoke" if any(turn.reply_ms for turn in report.turns) else "did not speak either"
        return f"the caller said nothing, so there was nothing to answer; the agent {agent}"
    counted = f"{report.answered} of {report.due} turns {_verb(report.judged_by)}"
    return counted + (f", {report.unsaid} of them never begun: the call had ended" if report.unsaid else "")


def _verb(judged_by: str) -> str:
    return "answered" if judged_by == "journal" else "replied to"


class CrowdDisplay(_Display):
    """Many calls at once: how many are done, then percentiles."""

    def __init__(self, console: Console, calls: int, *, silent: bool = False) -> None:
        super().__init__(console, silent=silent)
        self._calls = calls
        self._connected = self._done = self._turns = 0  # of these last, those that were replied to

    def note(self, event: PhoneEvent) -> None:
        if event.kind == "connected":
            self._connected += 1
        elif event.kind == "turn" and event.turn is not None and event.turn.index and event.turn.answered:
            self._turns += 1
        self._moving(f"{self._connected} connected, {self._done} of {self._calls} done, {self._turns} turns replied to")

    def finished(self, number: int, report: CallReport) -> None:
        self._done += 1
        if not self._console.is_terminal or report.error:
            self._line(report.duration_ms, f"{number}", report.error or summary_line(report))

    def summary(self, reports: Sequence[CallReport]) -> None:
        latencies = [latency for report in reports for latency in report.latencies]
        stops = [t.stopped_ms for report in reports for t in report.replies if t.stopped_ms is not None]
        table = Table(box=None, pad_edge=False)
        for name in ("ms", "count", "p50", "p90", "p99", "max"):
            table.add_column(name, justify="left" if name == "ms" else "right")
        for name, values in (("end of speech to first sound", latencies), ("barge-in to silence", stops)):
            if values:
                found = percentiles(values)
                table.add_row(name, *(f"{found[key]:.0f}" for key in ("count", "p50", "p90", "p99", "max")))
        if table.row_count:
            self._console.print(table)
        turns = sum(report.due for report in reports)
        answered = sum(report.answered for report in reports)
        placed = [report for report in reports if not report.error]
        verb = _verb("journal" if placed and all(report.judged_by == "journal" for report in placed) else "ear")
        failed = sum(bool(report.error) for report in reports)
        late = sum(report.late_ticks for report in reports)
        self._console.print(f"{len(reports)} calls, {failed} failed; {answered} of {turns} turns {verb}; late {late}")
