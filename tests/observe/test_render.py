"""What is printed: whole, in plain text where there is no terminal, and harmless to the terminal where there is one."""

import io
import json
import re

import msgspec
import pytest
from calls_by_hand import ANSWERED, BARGE_IN, PLAYED, Script, journal, started
from hypothesis import given
from hypothesis import strategies as st
from random_calls import random_call
from rich.console import Console

from antiphon.kernel import events as ev
from antiphon.observe.projections import conversation
from antiphon.observe.render import (
    BAR_CELLS,
    CallRow,
    call_json,
    calls_json,
    clean,
    clock,
    print_call,
    print_calls,
    spans,
)
from antiphon.runtime.ports import SessionRow

ROW = SessionRow("CA1", "interrupted", "2026-01-02T03:04:05Z", "twilio", "en-IN", 2, 23, 64_250, 1, "+911234")


def printed(script: Script, status: str = "closed", encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    print_call(Console(file=out, width=110, color_system=None), conversation(journal(script)), status)
    out.flush()
    return raw.getvalue().decode(encoding)


def bars(text: str) -> list[tuple[str, int, str]]:
    return [
        (name.strip(), int(ms), bar)
        for name, ms, bar in re.findall(r"^ {16}(.{18}) +(\d+) ms \|(.*)\|", text, re.MULTILINE)
    ]


def test_a_call_is_printed_with_a_waterfall_that_sums_to_the_total() -> None:
    text = printed(ANSWERED + PLAYED)
    assert "caller what are the admission requirements  (2 partials, intent admissions 0.91)" in text
    assert "agent  You need ten years of school." in text
    assert "-- from faq#1" in text
    assert "to first audio: median 563 ms, p95 563 ms, of which Antiphon adds 3 ms" in text
    found = bars(text)
    assert sum(ms for _, ms, _ in found) == 563
    total = re.search(r"to first audio +(\d+) ms Antiphon's own: 3 ms", text)
    assert total is not None
    assert total[1] == "563"
    filled = [bar.count("█") for *_, bar in found]
    assert sum(filled) == BAR_CELLS
    assert all(len(bar) == BAR_CELLS for *_, bar in found)
    starts = [bar.index("█") for *_, bar in found if "█" in bar]
    assert starts == sorted(starts)


def test_what_was_not_heard_is_said_in_words() -> None:
    text = printed(ANSWERED + BARGE_IN)
    assert "And a [not heard: language test.]" in text
    assert "-- interrupted: wait what about fees" in text
    assert "\x1b" not in text


def test_lines_stand_in_order_of_time() -> None:
    places = [
        int(minutes) * 600 + int(float(seconds) * 10)
        for minutes, seconds in re.findall(r"^ *(\d+):(\d\d\.\d) ", printed(ANSWERED + BARGE_IN), re.MULTILINE)
    ]
    assert len(places) > 4
    assert places == sorted(places)


def test_ascii_terminals_get_ascii_bars() -> None:
    text = printed(ANSWERED + PLAYED, encoding="ascii")
    assert sum(bar.count("#") for *_, bar in bars(text)) == BAR_CELLS


def test_line_failures_and_unanswered_words_are_shown() -> None:
    script: Script = [
        *ANSWERED[:7],
        (2660, ev.StageFailed(1, 0, "intent", "provider.timeout", "minilm")),
        (2700, ev.LineDropped("1006")),
        (2701, ev.PlayoutStopped(1)),
    ]
    text = printed(script, "detached")
    assert "!! intent failed: provider.timeout (minilm)" in text
    assert "-- line lost: 1006" in text
    cut: Script = [
        (0, started()),
        (10, ev.SpeechStarted()),
        (900, ev.SpeechStopped(0, 200)),
        (1120, ev.DeadlineReached("endpoint")),
        (1125, ev.SpeechStarted()),
        (1150, ev.TranscriptFinal(1, "I wanted to")),
        (1300, ev.CallerHungUp("caller")),
    ]
    assert "I wanted to  (not answered)" in printed(cut)
    assert "-- caller hung up: caller" in printed(cut)


def test_divergence_is_said_before_anything_else() -> None:
    entries = journal(ANSWERED + PLAYED)
    out = io.StringIO()
    shifted = [ev.Entry(entry.seq, entry.at, entry.event, b"other") for entry in entries]
    print_call(Console(file=out, width=110), conversation(shifted))
    assert "today's code decides otherwise from entry 1 on" in out.getvalue()


@pytest.mark.parametrize("colour", ["truecolor", None])
def test_a_callers_words_do_not_steer_the_terminal(colour: str | None) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07 \x9b31m [red]not markup[/red] \u202egnp.exe \r\n\x00 done"
    script: Script = [(0, started(session="CA1")), (10, ev.TextTyped(evil)), (20, ev.StageFailed(1, 0, "intent", evil))]
    out = io.StringIO()
    console = Console(file=out, width=200, color_system=colour, force_terminal=bool(colour))  # type: ignore[arg-type]
    print_call(console, conversation(journal(script)))
    print_calls(console, [CallRow(SessionRow(evil, "live", evil, evil, evil, 0, 0, 0, 1, evil), 0)])
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\x00", "\r", "\u202e"}
    assert "[red]not markup[/red]" in text
    assert "\x1b[2J" not in out.getvalue()


def test_clean_keeps_what_scripts_need() -> None:
    hindi = "क्\u200dष नमस्ते 👍🏽"
    assert clean(hindi) == hindi


def listed(rows: list[CallRow], width: int, *, terminal: bool) -> list[str]:
    out = io.StringIO()
    print_calls(Console(file=out, width=width, force_terminal=terminal, color_system=None), rows)
    return out.getvalue().splitlines()


def test_the_list() -> None:
    head, row = listed([CallRow(ROW, 1)], 40, terminal=False)
    assert head.split() == ["call", "status", "started", "line", "caller", "language", "turns", "events", "length"]
    assert row.split() == [
        "CA1", "interrupted", "2026-01-02", "03:04:05", "twilio", "+911234", "en-IN", "1", "23", "1:04.2",
    ]  # fmt: skip
    assert calls_json([CallRow(ROW, 1)])[0]["status"] == "interrupted"
    assert [each["turns"] for each in calls_json([CallRow(ROW, 1), CallRow(ROW, None)])] == [1, None]


CARRIERS = "CA" + "0123456789abcdef" * 2


@pytest.mark.parametrize("width", [200, 100, 80, 60, 20])
def test_an_id_stays_on_one_line_and_what_has_no_room_is_left_out(width: int) -> None:
    rows = [CallRow(msgspec.structs.replace(ROW, session=CARRIERS), 1), CallRow(ROW, None)]
    lines = listed(rows, width, terminal=True)
    assert len(lines) == 3
    assert lines[1].startswith(CARRIERS)
    head = lines[0].split()
    assert head[:3] == ["call", "status", "started"]
    assert "turns" in head, "never left out"
    assert ("events" in head) == (width > 100)
    assert all(len(line) <= max(width, 75) for line in lines), lines
    assert lines[2].split()[head.index("turns") + 1] == "?", "the date is of two words"


def test_a_column_of_callers_is_there_if_anybody_is_known() -> None:
    nobody = CallRow(msgspec.structs.replace(ROW, caller=""), 1)
    assert "caller" not in listed([nobody], 200, terminal=True)[0].split()
    assert "caller" in listed([nobody, CallRow(ROW, 1)], 200, terminal=True)[0].split()


def test_json_of_a_call_says_the_same() -> None:
    call = conversation(journal(ANSWERED + BARGE_IN))
    plain = json.loads(json.dumps(call_json(call, "live")))
    assert plain["status"] == "live"
    assert plain["summary"]["interruptions"] == 1
    first = plain["turns"][0]
    assert first["interrupted"] is True
    assert first["latency"]["added_ms"] == 3
    assert sum(part["ms"] for part in first["latency"]["parts"]) == first["latency"]["total_ms"] == 563
    assert first["segments"][1]["heard_chars"] == 5


def test_clock() -> None:
    assert [clock(ms) for ms in (0, 999, 61_050, 3_600_000)] == ["0:00.0", "0:00.9", "1:01.0", "60:00.0"]


@given(st.lists(st.integers(0, 5000), max_size=9), st.integers(1, 80))
def test_bars_join_without_gap_or_overlap(parts: list[int], cells: int) -> None:
    found = spans(parts, cells)
    at = 0
    for start, length in found:
        assert start == at
        assert length >= 0
        at += length
    assert at == (cells if sum(parts) else 0)


@given(st.integers(0, 2**32))
def test_any_call_can_be_printed(seed: int) -> None:
    call = conversation(random_call(seed, 60)[0])
    out = io.StringIO()
    print_call(Console(file=out, width=80), call, "closed")
    assert call.summary.session in out.getvalue()
    json.dumps(call_json(call))
