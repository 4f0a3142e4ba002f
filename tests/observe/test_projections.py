"""Conversation view, latency ledger and summary, over journals written by hand and over random ones."""

from typing import get_args

import msgspec
import pytest
from calls_by_hand import ANSWERED, BACKCHANNEL, BARGE_IN, PLAYED, POLICY, Script, journal, started
from hypothesis import given, settings
from hypothesis import strategies as st
from random_calls import random_call

from antiphon.kernel import events as ev
from antiphon.kernel.events import decode_entry, encode_entry
from antiphon.kernel.policy import Policy
from antiphon.kernel.session import Session
from antiphon.observe.drafts import WORK
from antiphon.observe.latency import percentile
from antiphon.observe.projections import OPEN_UTTERANCES, Turns, conversation, summary
from antiphon.observe.report import timed_turns
from antiphon.observe.views import Conversation, Latency, TurnView, caller_turns


def told(script: Script) -> Conversation:
    return conversation(journal(script))


def parts(turn: TurnView) -> dict[str, int]:
    assert turn.latency is not None
    return {part.name: part.ms for part in turn.latency.parts if part.ms}


def heard(turn: TurnView) -> str:
    return " ".join(part for part in (seg.text[: seg.heard_chars].strip() for seg in turn.segments) if part)


# -- a turn -----------------------------------------------------------------------------------------


def test_an_answered_turn_and_where_its_time_went() -> None:
    call = told(ANSWERED + PLAYED)
    [turn] = call.turns
    assert (turn.turn, turn.input, turn.outcome, turn.language) == (1, "speech", "answered", "en-IN")
    assert turn.question == "what are the admission requirements"
    assert [(s.utterance, s.partials, s.confidence, s.provider) for s in turn.speech] == [(1, 2, 0.9, "pocketsphinx")]
    assert (turn.intent, turn.intent_confidence) == ("admissions", 0.91)
    assert (turn.passages, turn.sources, turn.tiers) == (("p1",), ("faq#1",), ("full",))
    assert [seg.heard for seg in turn.segments] == ["heard", "heard"]
    assert heard(turn) == "You need ten years of school. And a language test."
    assert turn.latency is not None
    assert turn.latency.total_ms == 2763 - 2200
    assert parts(turn) == {
        "hangover": 200,
        "endpointing": 220,
        "stt": 35,
        "understanding": 25,
        "first_text": 10,
        "first_segment": 1,
        "synthesis": 69,
        "playout": 3,
    }
    assert turn.latency.added_ms == 3
    assert (turn.latency.first, turn.latency.answer_ms) == ("reply", 563)


def test_summary_of_a_call() -> None:
    script = [*ANSWERED, *PLAYED, (9000, ev.CallerHungUp("caller")), (9010, ev.SessionClosed("caller"))]
    got = summary(journal(script))
    assert (got.session, got.started_at, got.caller) == ("CA1", "2026-01-02T03:04:05Z", "+911234")
    assert (got.duration_ms, got.turns, got.entries, got.ended) == (9010, 1, 21, "caller")
    assert (got.median_ms, got.p95_ms, got.added_median_ms) == (563, 563, 3)
    assert (got.interruptions, got.backchannels, got.false_interruptions, got.failures) == (0, 0, 0, 0)
    assert got.diverged_at == 0


def test_a_backchannel_is_no_turn_and_no_interruption() -> None:
    call = told(ANSWERED + BACKCHANNEL + PLAYED)
    [turn] = call.turns
    assert [(o.kind, o.text, o.at_ms) for o in turn.overlaps] == [("backchannel", "mm-hm", 3500)]
    assert turn.outcome == "answered"
    assert call.unanswered == ()
    assert (call.summary.backchannels, call.summary.interruptions) == (1, 0)


def test_a_cough_is_a_false_interruption() -> None:
    cough: Script = [
        (3500, ev.SpeechStarted()),
        (3700, ev.SpeechStopped(0, 100)),
        (4400, ev.DeadlineReached("interrupt")),
    ]
    call = told(ANSWERED + cough + PLAYED)
    assert [(o.kind, o.text) for o in call.turns[0].overlaps] == [("noise", "")]
    assert call.summary.false_interruptions == 1


def test_words_after_a_cough_that_shared_its_utterance_are_a_turn() -> None:
    """The gate opened twice within one utterance of the transcriber: first a cough over speech, then a question."""
    script: Script = [
        *ANSWERED,
        (3500, ev.SpeechStarted()),
        (4201, ev.DeadlineReached("interrupt")),
        (5000, ev.DeadlineReached("interrupt")),
        *((at + 2000, event) for at, event in PLAYED),
    ]
    entries = journal(script)
    call = conversation(entries)
    assert call.turns[0].overlaps[0].kind == "barge_in", "speech without words takes the floor in the end"
    assert call.turns[0].outcome in ("interrupted", "unheard")


def test_an_interrupted_reply_shows_what_was_heard() -> None:
    call = told(ANSWERED + BARGE_IN)
    first, second = call.turns
    assert (first.outcome, first.interrupted) == ("interrupted", True)
    assert [(seg.heard, seg.heard_chars) for seg in first.segments] == [("heard", 29), ("partly", 5)]
    assert heard(first) == "You need ten years of school. And a"
    assert [(o.kind, o.text) for o in first.overlaps] == [("barge_in", "wait what about fees")]
    assert (second.question, second.outcome) == ("wait what about fees", "open")
    assert second.latency is None
    assert call.summary.interruptions == 1


def test_a_segment_whose_voice_broke_off_says_no_more_than_was_spoken() -> None:
    rest = [
        (2800, ev.SegmentCut(1, 0, 13)),
        (2801, ev.SegmentReady(1, 1, 2, "years of school.", language="en-IN")),
        (3600, ev.SegmentPlayed(1, 0)),
        (3601, ev.SegmentStarted(1, 2)),
        (4600, ev.SegmentPlayed(1, 2)),
        *((at + 500, event) for at, event in PLAYED[1:]),
    ]
    [turn] = told(ANSWERED + rest).turns
    assert heard(turn) == "You need ten years of school. And a language test."
    assert [seg.heard for seg in turn.segments] == ["heard"] * 3


def test_a_key_interrupts_too() -> None:
    script: Script = [
        *ANSWERED,
        (3000, ev.DigitPressed("4")),
        (3010, ev.PlayoutStopped(1, 0, 4)),
        (3900, ev.DigitPressed("2")),
        (3950, ev.DigitPressed("#")),
        (4000, ev.IntentReady(2, "menu")),
        (4010, ev.PassagesReady(2)),
        (4020, ev.SegmentReady(2, 1, 0, "Forty-two.")),
        (4050, ev.SegmentStarted(2, 0)),
    ]
    call = told(script)
    assert [(o.kind, o.text) for o in call.turns[0].overlaps] == [("barge_in", "4")]
    second = call.turns[1]
    assert (second.input, second.question) == ("digits", "42")
    assert second.latency is not None
    assert second.latency.total_ms == 100, "from the last key"
    assert parts(second) == {"understanding": 60, "first_segment": 10, "playout": 30}


def test_the_pause_after_digits_counts_as_endpointing() -> None:
    script: Script = [
        (0, started()),
        (1000, ev.DigitPressed("7")),
        (2800, ev.DeadlineReached("digits")),
        (2810, ev.IntentReady(1, "x")),
        (2820, ev.PassagesReady(1)),
        (2830, ev.SegmentReady(1, 1, 0, "Seven.")),
        (2840, ev.SegmentSynthesized(1, 1, 0)),
        (2841, ev.SegmentStarted(1, 0)),
    ]
    [turn] = told(script).turns
    assert parts(turn) == {
        "endpointing": 1800, "understanding": 20, "first_segment": 10, "synthesis": 10, "playout": 1,
    }  # fmt: skip


def test_a_typed_turn_has_neither_hangover_nor_transcript() -> None:
    script: Script = [
        (0, started()),
        (1000, ev.TextTyped("hello there")),
        (1120, ev.DeadlineReached("understand")),
        (1500, ev.PassagesReady(1)),
        (1600, ev.ReplyBegun(1, 1)),
        (1610, ev.SegmentReady(1, 1, 0, "Hello.")),
        (1700, ev.SegmentSynthesized(1, 1, 0)),
        (1701, ev.SegmentStarted(1, 0)),
    ]
    [turn] = told(script).turns
    assert turn.input == "typed"
    assert parts(turn) == {
        "understanding": 120, "first_text": 480, "first_segment": 10, "synthesis": 90, "playout": 1,
    }  # fmt: skip
    assert turn.passages == (), "passages that came too late were not used"


def test_greeting_filler_and_failures() -> None:
    script: Script = [
        (0, started(Policy())),
        (5, ev.SegmentReady(1, 1, 0, "Welcome.", "greeting")),
        (60, ev.SegmentStarted(1, 0)),
        (900, ev.SegmentPlayed(1, 0)),
        (901, ev.PlayoutFinished(1)),
        (2000, ev.TextTyped("fees?")),
        (2050, ev.StageFailed(2, 0, "retrieval", "provider.timeout", "minilm")),
        (2060, ev.IntentReady(2, "fees")),
        (2500, ev.StageFailed(2, 1, "llm", "provider.refused", "openai")),
        (2900, ev.DeadlineReached("filler")),
        (2910, ev.SegmentReady(2, 2, 0, "One moment.", "filler")),
        (2950, ev.SegmentStarted(2, 0)),
        (3300, ev.SegmentReady(2, 2, 1, "Ten rupees.")),
        (3400, ev.SegmentPlayed(2, 0)),
        (3410, ev.SegmentStarted(2, 1)),
    ]
    greeting, turn = told(script).turns
    assert (greeting.input, greeting.outcome, greeting.phrases) == ("none", "said", ("greeting",))
    assert greeting.latency is not None
    assert greeting.latency.total_ms == 60
    assert [(f.stage, f.code, f.provider, f.attempt) for f in turn.failures] == [
        ("retrieval", "provider.timeout", "minilm", 0),
        ("llm", "provider.refused", "openai", 1),
    ]
    assert (turn.tiers, turn.phrases, turn.outcome) == (("full", "fallback"), ("filler",), "open")
    assert turn.latency is not None
    assert (turn.latency.total_ms, turn.latency.first, turn.latency.answer_ms) == (950, "filler", 1410)
    assert told(script).summary.median_ms == 950, "phrases that answer nothing are left out"


def test_an_apology_is_told_from_an_answer() -> None:
    script: Script = [*ANSWERED[:9]]
    for attempt in (1, 2, 3):
        script.append((2690 + attempt, ev.StageFailed(1, attempt, "llm", "provider.reset")))
    script += [
        (2700, ev.SegmentReady(1, 4, 0, "I am sorry.", "apology")),
        (2750, ev.SegmentStarted(1, 0)),
        (3750, ev.SegmentPlayed(1, 0)),
        (3751, ev.PlayoutFinished(1)),
    ]
    [turn] = told(script).turns
    assert (turn.outcome, turn.phrases) == ("apologised", ("apology",))
    assert turn.tiers == ("full", "fallback", "degraded")
    assert told(script).summary.failures == 3


UNCLEAR: Script = [
    (0, started()),
    (1000, ev.SpeechStarted(1000)),
    (2400, ev.SpeechStopped(2200, 200)),
    (2620, ev.DeadlineReached("endpoint")),
]


def phrase(at: int, turn: int, kind: str, text: str) -> Script:
    return [
        (at, ev.SegmentReady(turn, 1, 0, text, kind)),
        (at + 5, ev.SegmentStarted(turn, 0)),
        (at + 900, ev.SegmentPlayed(turn, 0)),
        (at + 901, ev.PlayoutFinished(turn)),
    ]


@pytest.mark.parametrize(
    "end", [ev.TranscriptFinal(1, "", "en-IN"), ev.TranscriptionFailed(1, "stt.language"), ev.DeadlineReached("final")]
)
def test_what_was_not_understood_is_a_turn_that_was_not_answered(end: ev.AnyEvent) -> None:
    at = 2650 if not isinstance(end, ev.DeadlineReached) else 2620 + POLICY.final_ms
    call = told([*UNCLEAR, (at, end), *phrase(at + 10, 1, "please_repeat", "Could you say that again?")])
    [turn] = call.turns
    assert (turn.input, turn.question, turn.phrases, turn.outcome) == ("speech", "", ("please_repeat",), "said")
    assert not turn.answered
    assert turn.latency is not None
    assert turn.latency.total_ms == at + 15 - 2200
    assert (call.summary.turns, call.summary.answered) == (1, 0)
    assert [failure.code for failure in turn.failures] == (
        ["stt.language"] if isinstance(end, ev.TranscriptionFailed) else []
    )
    [timed] = timed_turns(call.turns)
    assert not timed.ok
    assert set(timed.stages) == {"endpointing", "stt", "playout", "total"}, "nothing of a model or a voice"


@pytest.mark.parametrize(
    "last", [ev.TranscriptFinal(1, "Hindi mein baat karo.", "en-IN"), ev.TextTyped("Hindi mein baat karo.")]
)
def test_a_turn_that_only_asks_for_a_language_shows_what_was_said(last: ev.AnyEvent) -> None:
    policy = msgspec.structs.replace(
        POLICY, languages=("en-IN", "hi-IN"), language_requests={"hi-IN": ("hindi mein baat karo",)}
    )
    spoken: Script = [
        (1000, ev.SpeechStarted(1000)),
        (2400, ev.SpeechStopped(2200, 200)),
        (2620, ev.DeadlineReached("endpoint")),
    ]
    script = [(0, started(policy)), *(spoken if isinstance(last, ev.TranscriptFinal) else []), (2655, last)]
    call = told([*script, *phrase(2700, 1, "language_switched", "Zaroor.")])
    (turn,) = call.turns
    assert (turn.question, turn.phrases) == ("Hindi mein baat karo.", ("language_switched",))
    assert turn.input == ("speech" if isinstance(last, ev.TranscriptFinal) else "typed")
    assert call.summary.turns == 1
    assert call.unanswered == ()


def test_what_the_agent_says_unasked_is_no_turn_of_the_callers() -> None:
    script: Script = [
        (0, started(Policy())),
        *phrase(5, 1, "greeting", "Welcome."),
        (906 + Policy().silence_ms, ev.DeadlineReached("silence")),
        *phrase(906 + Policy().silence_ms + 5, 2, "still_there", "Are you still there?"),
    ]
    call = told(script)
    assert [(turn.phrases, turn.input) for turn in call.turns] == [(("greeting",), "none"), (("still_there",), "none")]
    assert caller_turns(call.turns) == []
    assert (call.summary.turns, call.summary.answered) == (0, 0)
    assert timed_turns(call.turns) == []


@pytest.mark.parametrize(
    ("script", "is_answered"),
    [
        (ANSWERED + PLAYED, True),
        (ANSWERED + BARGE_IN, True),
        (ANSWERED, False),
        ([*ANSWERED, (2800, ev.CallerHungUp("caller")), (2801, ev.PlayoutStopped(1, 0, 2))], False),
    ],
    ids=["heard whole", "heard in part", "not heard yet", "not a word heard"],
)
def test_an_answer_is_what_was_heard(script: Script, is_answered: bool) -> None:
    call = told(script)
    assert call.turns[0].answered == is_answered
    assert call.summary.answered == is_answered


def test_an_answer_that_ended_in_an_apology_is_none() -> None:
    script: Script = [*ANSWERED, (4600, ev.SegmentPlayed(1, 0)), (4610, ev.StageFailed(1, 1, "tts", "provider.reset"))]
    turn = told([*script, *((4620 + n, ev.StageFailed(1, 2 + n, "tts", "provider.reset")) for n in range(2))]).turns[0]
    assert turn.answered
    assert turn.phrases == ("apology",)
    apologised: Script = [
        *((4620 + n, ev.StageFailed(1, 2 + n, "tts", "provider.reset")) for n in range(2)),
        (4700, ev.SegmentReady(1, 4, 1, "I am sorry.", "apology")),
        (4710, ev.SegmentStarted(1, 1)),
        (5500, ev.SegmentPlayed(1, 1)),
        (5501, ev.PlayoutFinished(1)),
    ]
    assert not told([*script, *apologised]).turns[0].answered


def test_the_stages_of_the_report_are_those_of_the_ledger() -> None:
    [timed] = timed_turns(told(ANSWERED + PLAYED).turns)
    assert timed.ok
    assert timed.stages == {
        "endpointing": 420,
        "stt": 35,
        "intent/retrieval": 25,
        "llm": 11,
        "tts": 69,
        "playout": 3,
        "total": 563,
    }


def test_a_taken_back_segment_is_marked_and_its_number_used_again() -> None:
    script: Script = [
        *ANSWERED[:11],
        (2700, ev.StageFailed(1, 1, "llm", "provider.reset")),
        (2710, ev.SegmentReady(1, 2, 0, "Ten years.")),
        (2760, ev.SegmentSynthesized(1, 2, 0)),
        (2763, ev.SegmentStarted(1, 0)),
    ]
    [turn] = told(script).turns
    assert [(seg.attempt, seg.heard) for seg in turn.segments] == [(2, "started"), (1, "dropped")]


def test_a_lost_line_and_the_question_that_waited() -> None:
    script: Script = [
        *ANSWERED[:7],
        (2700, ev.LineDropped("1006")),
        (2701, ev.PlayoutStopped(1)),
        (9000, ev.LineAttached("twilio", 2)),
    ]
    call = told(script)
    assert [(event.kind, event.detail) for event in call.line] == [("dropped", "1006"), ("attached", "twilio")]
    first, second = call.turns
    assert first.outcome == "cut_off"
    assert (second.input, second.question, second.phrases) == ("resumed", first.question, ("resumed",))
    assert summary(journal(script[:-1])).ended == "detached"


def test_effects_are_followed_to_their_end() -> None:
    script: Script = [
        *ANSWERED,
        (2800, ev.EffectRequested(1, 1, "k1", "book", "write")),
        (2801, ev.EffectRequested(1, 1, "k2", "pay", "terminal")),
        (2900, ev.EffectSucceeded("k1", "ok")),
        (2950, ev.EffectFailed("k2", "card.refused")),
    ]
    [turn] = told(script).turns
    assert [(e.name, e.status, e.detail) for e in turn.effects] == [
        ("book", "done", "ok"),
        ("pay", "failed", "card.refused"),
    ]


# -- other code, other journals -----------------------------------------------------------------------


def test_a_journal_decided_otherwise_says_from_where_and_keeps_its_facts() -> None:
    entries = journal(ANSWERED + PLAYED)
    changed = [msgspec.structs.replace(e, digest=b"otherwis") if e.seq == 7 else e for e in entries]
    call = conversation(changed)
    assert call.summary.diverged_at == 7
    assert heard(call.turns[0]) == "You need ten years of school. And a language test."


@pytest.mark.parametrize("policy", [b"\xc1", b"\x81\xaftransfer_target\xa1\xff"])
def test_a_policy_that_cannot_be_read_leaves_the_facts(policy: bytes) -> None:
    entries = journal(ANSWERED + PLAYED)
    unread = msgspec.structs.replace(entries[0].event, policy=policy)
    call = conversation([msgspec.structs.replace(entries[0], event=unread), *entries[1:]])
    assert call.summary.diverged_at == 1
    assert heard(call.turns[0]) == "You need ten years of school. And a language test."
    assert [speech.text for speech in call.unanswered] == ["what are the admission requirements"]


def test_an_empty_journal_is_an_empty_call() -> None:
    call = conversation([])
    assert (call.turns, call.summary.entries) == ((), 0)


@pytest.mark.parametrize(("values", "share", "expected"), [([], 0.5, None), ([7], 0.95, 7), ([3, 1, 2], 0.5, 2)])
def test_percentile_is_nearest_rank(values: list[int], share: float, expected: int | None) -> None:
    assert percentile(values, share) == expected
    assert percentile(list(range(1, 101)), 0.95) == 95
    assert percentile(list(range(1, 11)), 0.5) == 5


# -- any journal ------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_parts_sum_to_the_total_and_the_view_tells_what_was_heard(seed: int) -> None:
    entries, session = random_call(seed)
    call = conversation(decode_entry(encode_entry(entry)) for entry in entries)
    assert call.summary.diverged_at == 0
    for turn in call.turns:
        if turn.latency is not None:
            check_ledger(turn.latency)
    view = {turn.turn: turn for turn in call.turns}
    for message in session.state.history:
        turn = view[message.turn]
        if message.role == "user":
            assert message.content == turn.question
        else:
            assert message.content == heard(turn), (message, turn)
    asked = [turn.turn for turn in call.turns if turn.input != "none"]
    assert call.summary.turns == len(asked)
    assert msgspec.json.decode(msgspec.json.encode(call), type=Conversation) == call


def check_ledger(latency: Latency) -> None:
    assert sum(part.ms for part in latency.parts) == latency.total_ms
    assert all(part.ms >= 0 for part in latency.parts)
    assert len({part.name for part in latency.parts}) == len(latency.parts)
    waits = sum(part.ms for part in latency.parts if part.owner != "antiphon")
    assert latency.added_ms == latency.total_ms - waits


def test_random_calls_reach_what_they_are_meant_to_check() -> None:
    """A property over journals in which nothing happens would hold for nothing."""
    calls = [conversation(random_call(seed)[0]) for seed in range(60)]
    outcomes = {turn.outcome for call in calls for turn in call.turns}
    kinds = {overlap.kind for call in calls for turn in call.turns for overlap in turn.overlaps}
    assert outcomes >= {"answered", "interrupted", "unheard", "cut_off", "said", "open"}
    assert kinds == {"barge_in", "backchannel", "noise"}
    assert sum(turn.latency is not None for call in calls for turn in call.turns) > 40


def test_golden_scripts_use_the_policy_they_are_written_for() -> None:
    assert POLICY.endpoint_ms == 420
    assert [entry.at for entry in journal(ANSWERED)] == [at for at, _ in ANSWERED]


def test_every_fact_of_a_turn_adds_to_it() -> None:
    """But a speculation, whose turn may never come."""
    facts = {kind for kind in get_args(ev.AnyEvent) if "turn" in kind.__struct_fields__}
    assert facts - {ev.SpeculationEnded} == WORK.keys()


# -- bounds -----------------------------------------------------------------------------------------


def test_partials_whose_final_never_comes_are_not_counted_for_ever() -> None:
    turns = Turns(Session())
    for number in range(1, 200):
        for word in ("what", "what are"):
            entry = ev.Entry(number, number, ev.TranscriptPartial(number, word))
            turns.note(entry, (), trusted=False)
            assert len(turns.partials) <= OPEN_UTTERANCES
    assert turns.partials == dict.fromkeys(range(200 - OPEN_UTTERANCES, 200), 2), "of the newest each is counted"


def test_partials_of_an_utterance_that_failed_are_forgotten() -> None:
    session = Session()
    turns = Turns(session)
    for at, event in (*ANSWERED[:6], (2655, ev.TranscriptionFailed(1, "stt.gone"))):
        turns.note(*session.receive(event, at))
    assert not turns.partials
