"""What the agent's journal says of a caller's turns: answers are told from apologies and requests to repeat."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from sample_by_hand import FIRST, GREETING, Script, asked, heard_out, journal

from antiphon.cli.call_display import remarks, summary_line
from antiphon.cli.call_judge import judge, judge_calls
from antiphon.errors import StoreError
from antiphon.kernel import events as ev
from antiphon.kernel.policy import Policy
from antiphon.phone import CallReport, TurnReport
from antiphon.runtime.ports import Batch
from antiphon.stores.sqlite import SqliteJournal


def phrase(at: int, turn: int, kind: str) -> Script:
    return [
        (at, ev.SegmentReady(turn, 1, 0, "A few words.", kind, "en-IN")),
        (at + 2, ev.SegmentStarted(turn, 0)),
        (at + 800, ev.SegmentPlayed(turn, 0)),
        (at + 801, ev.PlayoutFinished(turn)),
    ]


GONE: Script = [(60_000, ev.CallerHungUp("caller")), (60_001, ev.SessionClosed("caller"))]
SAID = TurnReport(index=1, said="What is the fee?", answered=True, began_ms=1000, ended_ms=2000)
REPEAT: Script = [
    (1000, ev.SpeechStarted(1000)),
    (2200, ev.SpeechStopped(2000, 200)),
    (2420, ev.DeadlineReached("endpoint")),
    (2430, ev.TranscriptionFailed(1, "stt.language")),
    *phrase(2440, 2, "please_repeat"),
]
APOLOGY: Script = [
    *asked(2000, 1, "what is the fee"),
    (2440, ev.IntentReady(2, "question")),
    (2450, ev.PassagesReady(2)),
    *((2460 + attempt, ev.StageFailed(2, attempt, "llm", "provider.reset")) for attempt in (1, 2, 3)),
    (2470, ev.SegmentReady(2, 4, 0, "I am sorry.", "apology", "en-IN")),
    (2472, ev.SegmentStarted(2, 0)),
    (3400, ev.SegmentPlayed(2, 0)),
    (3401, ev.PlayoutFinished(2)),
]
STILL_THERE: Script = [
    (601 + Policy().silence_ms, ev.DeadlineReached("silence")),
    *phrase(601 + Policy().silence_ms + 5, 2, "still_there"),
]


def told(*turns: TurnReport, call_id: str = "CA1") -> CallReport:
    greeting = TurnReport(index=0, kind="greeting", answered=True)
    made = [msgspec.structs.replace(turn) for turn in turns]
    return CallReport(call_id=call_id, url="ws://x", turns=[greeting, *made], ended_by="caller")


@pytest.mark.parametrize(
    ("script", "instead", "words"),
    [
        ([*FIRST, *heard_out(2460, 2, 2)], "", ""),
        (REPEAT, "please_repeat", "no answer: it was not understood"),
        (APOLOGY, "apology", "no answer: the agent apologised"),
        (STILL_THERE, "still_there", "no answer: the agent asked whether somebody is there"),
        ([], "unknown", "no answer: a sound was heard"),
    ],
    ids=["answer", "repeat", "apology", "still there", "nothing"],
)
def test_the_journal_tells_answers_from_the_rest(script: Script, instead: str, words: str):
    report = told(SAID)
    judge(report, journal([*GREETING, *script, *GONE]))
    [turn] = report.replies
    assert (turn.answered, turn.instead, remarks(turn)) == (not instead, instead, words)
    assert report.judged_by == "journal"
    assert report.all_answered == (not instead)
    assert summary_line(report).startswith(f"{int(not instead)} of 1 turns answered; ")


def test_each_line_has_its_own_turns():
    second = msgspec.structs.replace(SAID, index=2, began_ms=7000, ended_ms=8000)
    script = [*GREETING, *FIRST, *heard_out(2460, 2, 2), (7000, ev.SpeechStarted(7000)), (8200, ev.SpeechStopped())]
    report = told(SAID, second)
    judge(report, journal([*script, *GONE]))
    assert [turn.answered for turn in report.replies] == [True, False]


def test_what_was_not_heard_is_not_made_an_answer_by_the_journal():
    report = told(msgspec.structs.replace(SAID, answered=False))
    judge(report, journal([*GREETING, *FIRST, *heard_out(2460, 2, 2), *GONE]))
    assert not report.all_answered


def test_a_call_that_goes_on_is_measured_from_its_own_line():
    earlier = [*GREETING, *FIRST, *heard_out(2460, 2, 2), (9000, ev.LineDropped("1006"))]
    report = told(SAID)
    judge(report, journal([*earlier, (100_000, ev.LineAttached("twilio", 2)), *phrase(100_010, 3, "resumed"), *GONE]))
    assert not report.all_answered, "the first line's answer is not this one's"


def test_without_entries_a_report_stays_as_it_is():
    report = told(SAID)
    judge(report, [])
    assert (report.all_answered, report.judged_by) == (True, "ear")


def test_calls_are_looked_up_in_the_journal(tmp_path: Path):
    path = tmp_path / "journal.sqlite"

    async def main() -> list[CallReport]:
        store = SqliteJournal(path)
        await store.start()
        epoch = await store.claim("CA1")
        assert await store.append([Batch("CA1", epoch, 0, tuple(journal([*GREETING, *REPEAT, *GONE])))]) == [None]
        reports = [told(SAID), told(SAID, call_id="CAother")]
        await judge_calls(reports, str(path), needed=True)
        await store.close()
        await judge_calls(reports, str(tmp_path / "none.sqlite"), needed=False)
        with pytest.raises(StoreError, match="not_found"):
            await judge_calls(reports, str(tmp_path / "none.sqlite"), needed=True)
        return reports

    known, unknown = asyncio.run(main())
    assert (known.judged_by, known.all_answered) == ("journal", False)
    assert (unknown.judged_by, unknown.all_answered) == ("ear", True)
