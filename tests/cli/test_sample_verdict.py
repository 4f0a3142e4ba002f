"""What the sample call expects, from a call written by hand: met, and each expectation failed on its own."""

import io
import re

import pytest
from rich.console import Console
from sample_by_hand import (
    FEES,
    FIRST,
    GREETING,
    INTERRUPTED,
    LAST,
    MURMUR,
    WHOLE,
    Script,
    answered,
    asked,
    heard_out,
    journal,
    report,
)

from antiphon.cli.sample_verdict import Line, Verdict, judge
from antiphon.kernel import events as ev
from antiphon.knowledge import Entry, Knowledge
from antiphon.phone.report import CallReport

LINES = (
    Line("What is the fee?", entry="fees", murmur="Aha."),
    Line("And for children?", entry="fees"),
    Line("When does it begin?", entry="dates", barge_in_s=1.0),
    Line("Okay, goodbye.", says_goodbye=True),
)
KNOWLEDGE = Knowledge(
    title="By hand",
    language="en-IN",
    entries=(
        Entry(id="fees", topic="fees", question="What is the fee?", answer="Ten rupees.", source="Fees, page 1"),
        Entry(id="dates", topic="dates", question="When does it begin?", answer="On Monday.", source="Dates, page 2"),
    ),
)


def verdict(script: Script = WHOLE, told: CallReport | None = None) -> Verdict:
    return judge(LINES, told or report(), journal(script), KNOWLEDGE)


def rendered(found: Verdict) -> str:
    out = io.StringIO()
    console = Console(file=out, width=110, color_system=None)
    for each in found.rendered():
        console.print(each)
    return out.getvalue()


def test_a_call_that_was_as_it_should_be():
    found = verdict()
    assert found.failures == ()
    assert found.met == 4
    assert (found.phone_ms, found.journal_ms, found.own_ms) == (500.0, 460, 2)
    text = rendered(found)
    assert "4 of 4 turns answered as expected (100 %)" in text
    assert "median: 500 ms at the phone, 460 ms in the journal, target < 700 ms: ok" in text
    assert "waits and providers taken out: 2 ms, target < 15 ms: ok" in text
    row = next(line for line in text.splitlines() if line.startswith("When does it begin?"))
    assert re.fullmatch(r"When does it begin\? +Dates, page 2 +480 +460 +420 +38 +2 +ok *", row)


@pytest.mark.parametrize(("ms", "word"), [(699.0, "ok"), (701.0, "not ok")])
def test_a_target_that_is_missed_is_said_and_is_no_failure(ms: float, word: str):
    told = report()
    for turn in told.turns[1:]:
        turn.latency_ms = ms
    found = verdict(told=told)
    assert found.failures == ()
    assert f"target < 700 ms: {word}\n" in rendered(found).replace(" \n", "\n")


def failed(found: Verdict, *expected: str) -> None:
    """Exactly these expectations failed, each by a line that names it."""
    assert len(found.failures) == len(expected), found.failures
    for failure, part in zip(found.failures, expected, strict=True):
        assert part in failure
    text = " ".join(rendered(found).split())
    assert text.count("FAILED ") >= len(expected)


def test_an_answer_from_another_entry():
    wrong = ev.Passage("x", "Red.", "Colours, page 9", 0.9)
    script = [*GREETING, *asked(2000, 1, "what is the sea"), *answered(2000, 2, wrong, ("Red.", "Blue."))]
    script += [*MURMUR, *heard_out(4000, 2, 2), *INTERRUPTED, *LAST]
    found = verdict(script)
    failed(
        found,
        "'What is the fee?': heard as 'what is the sea', answered from Colours, page 9 instead of Fees, page 1",
    )
    assert found.met == 3
    assert "3 of 4 turns answered as expected (75 %)" in rendered(found)


def test_a_murmur_that_took_the_floor():
    script = [*GREETING, *FIRST, (3000, ev.SpeechStarted(2950)), (3200, ev.TranscriptPartial(2, "hostel fees"))]
    script += [(3201, ev.PlayoutStopped(2, 0, 10)), (3500, ev.SpeechStopped(3300, 200))]
    script += [(3720, ev.DeadlineReached("endpoint")), (3730, ev.TranscriptFinal(2, "", "en-IN"))]
    script += [*INTERRUPTED, *LAST]
    found = verdict(script)
    failed(
        found,
        "'What is the fee?': the reply should have been heard to its end, it was interrupted",
        "'Aha.' should have been taken for a backchannel, it was barge_in 'hostel fees'",
    )


def test_a_murmur_that_came_too_late():
    told = report()
    told.turns[1].backchannels = ()
    failed(verdict(told=told), "the reply was over before 'Aha.' could be murmured")


def test_an_interruption_that_did_not_interrupt():
    told = report()
    told.turns[2].interrupted = False
    failed(verdict(told=told), "'And for children?': the reply should have been interrupted")


def test_history_that_holds_more_than_was_heard(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("antiphon.cli.sample_verdict._remembered", lambda entries: {3: "The fee is ten rupees."})
    failed(verdict(), "history says 'The fee is ten rupees.', heard was 'The fee is'")


def test_a_goodbye_that_was_not_understood():
    goodbye, question = (ev.IntentReady(5, name, 0.97, "minilm") for name in ("goodbye", "question"))
    assert goodbye in [event for _, event in WHOLE]
    script = [(at, question if event == goodbye else event) for at, event in WHOLE]
    failed(verdict(script), "'Okay, goodbye.': heard as 'okay bye', not understood as a goodbye")


def test_an_agent_that_does_not_hang_up():
    told = report()
    told.ended_by = "caller"
    failed(verdict(told=told), "the agent should have hung up after the goodbye; the call was ended by caller")


def test_an_apology_is_no_answer():
    script = [*GREETING, *asked(2000, 1, "what is the fee")]
    script += [(2440, ev.IntentReady(2, "question")), (2450, ev.PassagesReady(2, (FEES,)))]
    script += [(2460 + attempt, ev.StageFailed(2, attempt, "llm", "provider.reset")) for attempt in (1, 2, 3)]
    script += [(2470, ev.SegmentReady(2, 4, 0, "I am sorry.", "apology", "en-IN")), (2472, ev.SegmentStarted(2, 0))]
    script += [*MURMUR, (4000, ev.SegmentPlayed(2, 0)), (4001, ev.PlayoutFinished(2)), *INTERRUPTED, *LAST]
    found = verdict(script)
    failed(found, "'What is the fee?': no answer was heard, but: apology", "answered from no entry")
    assert found.met == 3
    assert "success rate: 3 of 4 turns answered (75 %)" in rendered(found)


def test_a_request_to_repeat_is_no_answer_and_takes_its_lines_place():
    script = [
        *GREETING,
        (1000, ev.SpeechStarted(1000)),
        (2200, ev.SpeechStopped(2000, 200)),
        (2420, ev.DeadlineReached("endpoint")),
        (2430, ev.TranscriptionFailed(1, "stt.language")),
        (2440, ev.SegmentReady(2, 1, 0, "Say it again.", "please_repeat", "en-IN")),
        (2442, ev.SegmentStarted(2, 0)),
        *MURMUR,
        (4000, ev.SegmentPlayed(2, 0)),
        (4001, ev.PlayoutFinished(2)),
        *INTERRUPTED,
        *LAST,
    ]
    found = verdict(script)
    assert "'What is the fee?': no answer was heard, but: please_repeat" in found.failures
    assert [bool(outcome.failures) for outcome in found.outcomes] == [True, False, False, False]


def test_the_report_of_latencies_stands_at_its_end():
    text = rendered(verdict()).replace(" \n", "\n")
    lines = [line.rstrip() for line in text.splitlines()]
    assert "language  stage             turns  p50 ms  p95 ms" in lines
    assert "en-IN     endpointing           4     420     420" in lines
    assert "          total                 4     460     460" in lines
    assert "success rate: 4 of 4 turns answered (100 %)" in lines


def test_a_line_that_got_no_turn():
    script = [*GREETING, *FIRST, *MURMUR, *heard_out(4000, 2, 2)]
    told = report()
    told.turns[2:] = []
    found = verdict(script, told)
    assert found.failures[0] == "4 lines were spoken, 1 turns were made of them: what is the fee"
    assert [failure for failure in found.failures if failure.endswith("no answer was heard")] == [
        "'And for children?': no answer was heard",
        "'When does it begin?': no answer was heard",
        "'Okay, goodbye.': no answer was heard",
    ]


def test_a_call_that_could_not_be_placed():
    found = judge(LINES, CallReport(call_id="CA1", url="ws://x", ended_by="failed", error="refused"), [], KNOWLEDGE)
    assert found.failures[0] == "the call failed: refused"
    assert found.met == 0
    text = rendered(found)
    assert "0 of 4 turns answered as expected (0 %)" in text
    assert "not ok" in text
