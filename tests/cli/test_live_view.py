"""The live view: which call it follows, on a terminal and without one, and that it holds up nobody."""

import io
import re
import threading
import time

import pytest
from rich.console import Console
from sample_by_hand import FIRST, GREETING, WHOLE, Script, folded, heard_out

from antiphon.cli import live_view
from antiphon.cli.live_view import LiveView
from antiphon.kernel import events as ev


def plain(out: io.StringIO) -> Console:
    return Console(file=out, width=110, color_system=None, force_terminal=False)


def terminal(out: io.StringIO) -> Console:
    return Console(file=out, width=110, force_terminal=True, color_system="standard", legacy_windows=False)


def note(view: LiveView, script: Script, session: str = "CA1") -> None:
    for entry, commands in folded(script):
        view.note(session, entry, commands)


def test_without_a_terminal_there_are_lines_and_no_control_codes():
    out = io.StringIO()
    with LiveView(plain(out)) as view:
        note(view, WHOLE)
        view.waiting("waiting for calls")
    text = out.getvalue()
    assert "The fee is ten rupees." in text
    assert "-- closed: agent" in text
    assert "\x1b" not in text
    assert "\r" not in text
    assert "waiting for calls" not in text


def test_on_a_terminal_one_line_moves_and_the_cursor_comes_back():
    out = io.StringIO()
    with LiveView(terminal(out)) as view:
        note(view, [*GREETING, *FIRST])
        view.settle()
        time.sleep(2 * live_view.LOOK_S)
        assert "\x1b[?25l" in out.getvalue()
        assert "The fee is ten rupees." in plain_of(out), "the line that moves"
        note_rest = [*GREETING, *FIRST, *heard_out(2460, 2, 2)]
        for entry, commands in folded(note_rest)[len(GREETING) + len(FIRST) :]:
            view.note("CA1", entry, commands)
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")
    assert "answered from Fees, page 1" in plain_of(out)


def plain_of(out: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    with LiveView(terminal(out)) as view:
        note(view, [*GREETING, *FIRST])
    colours = [code for codes in re.findall(r"\x1b\[([\d;]+)m", out.getvalue()) for code in codes.split(";")]
    assert not [code for code in colours if 30 <= int(code) <= 47]
    assert " SPEAKING " in out.getvalue()


def test_what_is_printed_stands_after_what_was_noted_before():
    out = io.StringIO()
    url = "ws://" + 30 * "very-long-name." + "example/[path]"
    with LiveView(plain(out)) as view:
        note(view, WHOLE)
        view.print(url)
    lines = out.getvalue().splitlines()
    assert lines[-1] == url, "not broken, and no markup is read into it"
    assert "closed" in "".join(lines[:-1])


def test_one_call_is_followed_and_others_are_named():
    out = io.StringIO()
    with LiveView(plain(out)) as view:
        first = folded([*GREETING, *FIRST])
        for entry, commands in first:
            view.note("CA1", entry, commands)
        note(view, [*GREETING, *FIRST], "CA2")
    assert out.getvalue().count("The fee is ten rupees.") == 1
    assert "-- another call began: antiphon show CA2" in out.getvalue()


@pytest.mark.parametrize("end", [(20_000, ev.SessionClosed("agent")), (20_000, ev.LineDropped("line.lost"))])
def test_the_next_call_is_followed_when_the_first_is_over_or_its_line_is_lost(end: tuple[int, ev.AnyEvent]):
    out = io.StringIO()
    with LiveView(plain(out)) as view:
        note(view, [*GREETING, end])
        note(view, [*GREETING, *FIRST], "CA2")
    assert "another call" not in out.getvalue()
    assert out.getvalue().count("The fee is ten rupees.") == 1


def test_a_call_that_was_lost_without_a_word_does_not_hold_the_view_for_ever():
    out = io.StringIO()
    now = [0.0]
    with LiveView(plain(out), clock=lambda: now[0]) as view:
        note(view, [*GREETING])
        now[0] = live_view.SILENT_S + 1
        note(view, [*GREETING, *FIRST], "CA2")
    assert "The fee is ten rupees." in out.getvalue()


class Stuck(io.StringIO):
    """A terminal that takes nothing until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()

    def write(self, text: str) -> int:
        self.let.wait(30)
        return super().write(text)


def test_a_terminal_that_is_stuck_holds_up_nobody(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live_view, "MAX_WAITING", 50)
    out = Stuck()
    with LiveView(plain(out)) as view:
        began = time.monotonic()
        view.print("hello")
        note(view, WHOLE)
        for number in range(100):
            note(view, WHOLE, f"CA{number}")
        assert time.monotonic() - began < 5
        out.let.set()
    text = out.getvalue()
    assert "hello" in text
    assert text.count("-- closed: agent") <= 1, "what found no room is not shown, and nothing of it half"


@pytest.mark.filterwarnings("error")
def test_a_terminal_that_is_gone_ends_the_view_alone():
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with LiveView(plain(Gone())) as view:
        note(view, WHOLE)
        time.sleep(3 * live_view.LOOK_S)
        note(view, WHOLE, "CA2")
        view.settle(0.1)
