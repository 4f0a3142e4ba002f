"""What a socket on /orchestrate is told: journals written by hand in, messages out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from antiphon.kernel import events as ev
from antiphon.kernel.session import Session
from antiphon.server.orchestrate_news import SessionNews
from antiphon.transports import orchestrate_messages as msg
from antiphon.transports.orchestrate_settings import Asked, read_query

sys.path.insert(0, str(Path(__file__).parents[1] / "observe"))

from calls_by_hand import ADMISSION, ANSWERED, BACKCHANNEL, BARGE_IN, PLAYED, Script, started

ALL = read_query("session_id=CA1&events=all")
PLAIN = Asked(session="CA1")


def told(script: Script, asked: Asked = PLAIN, *, session: Session | None = None) -> list[tuple[int, Any]]:
    """(time, message) for each that a socket gets which is there from the script's first event on."""
    session = session or Session()
    news = SessionNews(asked)
    out: list[tuple[int, Any]] = []
    for at, event in script:
        entry, commands = session.receive(event, at)
        out += [(at, message) for message in news.take(session, entry, commands)]
    return out


def of(messages: Sequence[tuple[int, Any]], kind: type) -> list[tuple[int, Any]]:
    return [(at, message) for at, message in messages if isinstance(message, kind)]


def test_a_plain_client_gets_its_answer_before_the_first_sound_and_once_more() -> None:
    other = ev.Passage("p2", "The hostel is near.", "campus#2", 0.3)
    found = (2680, ev.PassagesReady(1, (ADMISSION, other), "minilm"))
    script = [found if isinstance(event, ev.PassagesReady) else (at, event) for at, event in ANSWERED]
    messages = told([*script, *PLAYED])
    assert [(at, type(message)) for at, message in messages] == [
        (0, msg.Connected),
        (2691, msg.Response),
        (2763, msg.Response),
    ]
    first, last = (message for _, message in messages[1:])
    assert (first.session_id, first.turn_id, first.kind, first.complete) == ("CA1", 1, "reply", False)
    assert first.text == "You need ten years of school."
    assert first.intent == "admissions"
    assert first.sources == [msg.Source("p1", "", "faq#1", 0.8), msg.Source("p2", "", "campus#2", 0.3)]
    assert first.language == "en-IN"
    assert first.latency_ms == {
        "endpointing": 420,
        "stt": 35,
        "understanding": 25,
        "llm": 11,
        "tts": 0,
        "playout": 0,
        "intent": 10,
        "retrieval": 25,
        "total": 491,
    }
    assert last.complete
    assert last.text == "You need ten years of school. And a language test."
    assert last.sources == [msg.Source("p1", "", "faq#1", 0.8)]
    spent = last.latency_ms
    assert spent["total"] == 563
    stages = ("endpointing", "stt", "understanding", "llm", "tts", "playout")
    assert sum(spent[stage] for stage in stages) == spent["total"]


def test_the_connection_message() -> None:
    assert told([(0, started())])[0][1] == msg.Connected(
        session_id="CA1", state="LISTENING", resumed=False, audio=msg.AudioForm("binary", "pcm16", 16_000)
    )


def test_the_five_states_by_name() -> None:
    messages = told([*ANSWERED, *BACKCHANNEL, *PLAYED], ALL)
    states = [(message.state, message.turn_id, message.at_ms) for _, message in of(messages, msg.StateChanged)]
    assert states == [
        ("THINKING", 1, 2655),
        ("SPEAKING", 1, 2763),
        ("INTERRUPT", 1, 3500),
        ("SPEAKING", 1, 3950),
        ("LISTENING", 1, 6001),
    ]
    assert [(at, message.decision) for at, message in of(messages, msg.Interruption)] == [
        (3500, "paused"),
        (3950, "resumed"),
    ]


def test_what_the_caller_says_and_what_the_agent_says_and_what_of_it_is_heard() -> None:
    messages = told([*ANSWERED, *PLAYED], ALL)
    assert [(m.text, m.final, m.utterance, m.language) for _, m in of(messages, msg.Transcript)] == [
        ("what are the", False, 1, ""),
        ("what are the admission requirements", False, 1, ""),
        ("what are the admission requirements", True, 1, "en-IN"),
    ]
    spoken = [(at, m.text, m.heard, m.done, m.kind) for at, m in of(messages, msg.Spoken)]
    both = "You need ten years of school. And a language test."
    assert spoken == [
        (2691, "You need ten years of school.", "", False, "reply"),
        (2692, both, "", False, "reply"),
        (4600, both, "You need ten years of school.", False, "reply"),
        (6000, both, both, False, "reply"),
        (6001, both, both, True, "reply"),
    ]


def test_words_that_are_told_again_are_no_news() -> None:
    again = [
        told_at
        for at, event in ANSWERED
        for told_at in (
            [(at, event), (at, msgspec.structs.replace(event, again=True))]
            if isinstance(event, ev.TranscriptPartial)
            else [(at, event)]
        )
    ]
    assert len(again) > len(ANSWERED)
    assert of(told([*again, *PLAYED], ALL), msg.Transcript) == of(told([*ANSWERED, *PLAYED], ALL), msg.Transcript)


def test_a_barge_in_says_how_far_it_was_heard() -> None:
    messages = told([*ANSWERED, *BARGE_IN], ALL)
    assert [m.decision for _, m in of(messages, msg.Interruption)] == ["paused", "cancelled"]
    last = of(messages, msg.Spoken)[-1][1]
    assert last.done
    assert last.text.startswith(last.heard)
    assert last.heard != last.text


def test_the_latency_is_told_with_its_parts_and_owners() -> None:
    ((at, latency),) = of(told(ANSWERED, ALL), msg.LatencyTold)
    assert (at, latency.turn_id, latency.total_ms) == (2763, 1, 563)
    assert sum(part.ms for part in latency.parts) == 563
    assert {part.owner for part in latency.parts} == {"wait", "provider", "antiphon"}


def test_a_filler_before_the_answer_is_told_without_words() -> None:
    script: Script = [
        *[each for each in ANSWERED if each[0] < 2690],
        (3555, ev.DeadlineReached("filler")),
        (3556, ev.SegmentReady(1, 1, 0, "One moment.", "filler", "en-IN")),
        (3560, ev.SegmentStarted(1, 0)),
        (4000, ev.SegmentReady(1, 1, 1, "You need ten years.", language="en-IN")),
        (4001, ev.ReplyGenerated(1, 1, 2)),
        (4500, ev.SegmentPlayed(1, 0)),
        (4501, ev.SegmentStarted(1, 1)),
    ]
    messages = told(script, ALL)
    assert [(at, m.kind, m.text, m.complete) for at, m in of(messages, msg.Response)] == [
        (3556, "filler", "", False),
        (4000, "reply", "You need ten years.", False),
        (4501, "reply", "You need ten years.", True),
    ]
    assert [at for at, _ in of(messages, msg.LatencyTold)] == [3560, 4501]


def test_a_phrase_is_a_response_too() -> None:
    policy = msgspec.structs.replace(_policy(), greeting=True)
    script: Script = [
        (0, started(policy)),
        (5, ev.SegmentReady(1, 1, 0, "Good morning.", "greeting", "en-IN")),
        (6, ev.ReplyGenerated(1, 1, 1)),
        (7, ev.SegmentStarted(1, 0)),
    ]
    responses = [(m.kind, m.text, m.complete) for _, m in of(told(script), msg.Response)]
    assert responses == [("greeting", "Good morning.", False), ("greeting", "Good morning.", True)]


def _policy() -> Any:
    from calls_by_hand import POLICY

    return POLICY


def test_who_comes_back_is_told_what_they_have_not_heard() -> None:
    session = Session()
    told([*ANSWERED, (3000, ev.LineDropped("1006")), (3000, ev.PlayoutStopped(1, 0, 9))], session=session)
    back: Script = [
        (9000, ev.LineAttached("orchestrate", 2)),
        (9010, ev.SegmentReady(2, 1, 1, "ten years of school.", language="en-IN")),
        (9010, ev.SegmentReady(2, 1, 2, "And a language test.", language="en-IN")),
        (9011, ev.ReplyGenerated(2, 1, 2, sources=("faq#1",))),
        (9020, ev.SegmentStarted(2, 1)),
    ]
    messages = told(back, session=session)
    connected = messages[0][1]
    assert (connected.resumed, connected.state) == (True, "THINKING")
    assert connected.unheard == msg.Unheard(2, "ten years of school. And a language test.")
    last = of(messages, msg.Response)[-1][1]
    assert (last.turn_id, last.complete, last.intent) == (2, True, "admissions")
    assert [source.id for source in last.sources] == ["p1"]


def test_who_comes_back_to_a_question_that_was_not_answered_is_told_so() -> None:
    session = Session()
    script = [
        *[each for each in ANSWERED if each[0] < 2690],
        (3000, ev.LineDropped("1006")),
        (3000, ev.PlayoutStopped(1)),
    ]
    told(script, session=session)
    connected = told([(9000, ev.LineAttached("orchestrate", 2))], session=session)[0][1]
    assert connected.unheard == msg.Unheard(2, "")


def test_who_comes_back_to_nothing_is_listened_to() -> None:
    session = Session()
    quiet = msgspec.structs.replace(_policy(), excuse=False)
    told([(0, started(quiet)), (500, ev.LineDropped("1006"))], session=session)
    connected = told([(9000, ev.LineAttached("orchestrate", 2))], session=session)[0][1]
    assert (connected.state, connected.unheard) == ("LISTENING", msgspec.UNSET)


def test_what_is_stale_is_not_told() -> None:
    messages = told([(0, started()), (10, ev.TranscriptPartial(9, "old words")), (20, ev.SegmentStarted(4, 0))], ALL)
    assert [type(message) for _, message in messages] == [msg.Connected]


def test_a_long_conversation_takes_no_more_room_than_a_short_one() -> None:
    session, news = Session(), SessionNews(ALL)
    sizes = []
    at = 0
    script: Script = [(0, started())]
    for turn in range(1, 61):
        script += [
            (at + 1, ev.TextTyped("what are the fees")),
            (at + 2, ev.IntentReady(turn, "fees")),
            (at + 3, ev.PassagesReady(turn)),
            (at + 4, ev.SegmentReady(turn, 1, 0, "Two lakh.", language="en-IN")),
            (at + 5, ev.ReplyGenerated(turn, 1, 1)),
            (at + 6, ev.SegmentStarted(turn, 0)),
            (at + 7, ev.SegmentPlayed(turn, 0)),
            (at + 8, ev.PlayoutFinished(turn)),
        ]
        at += 10
    complete = 0
    for when, event in script:
        entry, commands = session.receive(event, when)
        complete += sum(
            isinstance(each, msg.Response) and each.complete for each in news.take(session, entry, commands)
        )
        turns = news._turns
        assert turns is not None
        sizes.append(len(turns.turns) + len(news._answers) + len(turns.line) + len(turns.ahead) + len(turns.speech))
    assert complete == 60
    assert max(sizes) <= 10
