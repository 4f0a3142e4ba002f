"""The floor while it is the agent's: understanding, the ladder of an answer, what is heard of it."""

from __future__ import annotations

import msgspec
import pytest
from by_hand import POLICY, Play, greeted

from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev

ASKED = 2
"""The turn of a call's first question: the greeting was turn 1."""


def asked(play: Play | None = None) -> Play:
    play = play or greeted()
    assert play.asked() == ASKED
    return play


def answering(*texts: str) -> Play:
    play = greeted()
    assert play.answering(*texts) == ASKED
    return play


def last_start(play: Play) -> cmd.StartReply:
    return [order for order in play.orders if isinstance(order, cmd.StartReply)][-1]


# -- understanding --------------------------------------------------------------------------------


@pytest.mark.parametrize("intent_first", [True, False])
def test_the_reply_starts_when_intent_and_passages_are_there(intent_first: bool) -> None:
    play = asked()
    passage = ev.Passage("p1", "The fee is two lakh.", "fees", 0.9)
    facts: list[ev.AnyEvent] = [ev.IntentReady(2, "question", 0.9), ev.PassagesReady(2, (passage,))]
    first, second = facts if intent_first else facts[::-1]
    play.rows((30, first, "THINKING", []), (30, second, "THINKING", ["StartReply 2 full"]))
    start = last_start(play)
    assert (start.intent, start.passages, start.text) == ("question", (passage,), "what are the fees")


def test_late_understanding_is_left_behind() -> None:
    play = asked()
    play.rows(
        (30, ev.IntentReady(2, "question"), "THINKING", []),
        (269, None, "THINKING", []),
        (1, None, "THINKING", ["StartReply 2 full"]),
        (10, ev.PassagesReady(2), "THINKING", []),
    )
    assert last_start(play).intent == "question"
    assert last_start(play).passages == ()


def test_a_stage_that_failed_is_not_waited_for() -> None:
    play = asked()
    play.rows(
        (10, ev.StageFailed(2, 0, "retrieval", "retrieval.down"), "THINKING", []),
        (10, ev.StageFailed(2, 0, "intent", "intent.down"), "THINKING", ["StartReply 2 full"]),
    )
    other = asked()
    other.rows(
        (10, ev.PassagesReady(2), "THINKING", []),
        (10, ev.StageFailed(2, 0, "intent", "intent.down"), "THINKING", ["StartReply 2 full"]),
    )


def test_understanding_of_another_turn_changes_nothing() -> None:
    play = asked()
    play.rows((10, ev.IntentReady(1, "old"), "THINKING", []), (10, ev.PassagesReady(1), "THINKING", []))
    assert play.state.intent is None
    assert play.state.passages is None


# -- an answer ------------------------------------------------------------------------------------


def test_an_answer_is_heard_to_its_end() -> None:
    play = asked()
    play.understood()
    play.rows(
        (200, ev.SegmentReady(2, 1, 0, "The fee is two lakh."), "THINKING", []),
        (50, ev.SegmentStarted(2, 0), "SPEAKING", []),
        (300, ev.SegmentReady(2, 1, 1, "The hostel is extra."), "SPEAKING", []),
        (50, ev.ReplyGenerated(2, 1, 2, False, ("fees",)), "SPEAKING", []),
        (900, ev.SegmentPlayed(2, 0), "SPEAKING", []),
        (0, ev.SegmentStarted(2, 1), "SPEAKING", []),
        (900, ev.SegmentPlayed(2, 1), "SPEAKING", []),
        (0, ev.PlayoutFinished(2), "LISTENING", []),
    )
    assert play.history[-1] == "assistant: The fee is two lakh. The hostel is extra."
    assert set(play.state.deadlines) == {"silence"}


def test_work_of_another_attempt_or_turn_is_stale() -> None:
    play = answering("The fee is two lakh.")
    before = play.session.snapshot()
    stale = [
        ev.SegmentReady(1, 1, 5, "old"),
        ev.SegmentReady(2, 2, 5, "from the future"),
        ev.SegmentReady(2, 0, 5, "before it began"),
        ev.SegmentReady(2, 1, 0, "twice"),
        ev.SegmentStarted(2, 9),
        ev.SegmentPlayed(1, 0),
        ev.SegmentCut(2, 7, 3),
        ev.ReplyGenerated(2, 3, 1),
        ev.StageFailed(2, 3, "llm", "x"),
        ev.PlayoutFinished(1),
        ev.PlayoutStarved(3),
        ev.PlayoutStopped(2, 0, 3),
    ]
    for event in stale:
        assert play.tell(event) == [], event
    play.state.seq -= len(stale)  # they are in the journal, and that is all
    assert play.session.snapshot() == before


# -- fillers and the ladder -----------------------------------------------------------------------


def test_a_filler_covers_the_wait_and_the_answer_follows() -> None:
    play = asked()
    play.understood()
    play.rows(
        (899, None, "THINKING", []),
        (1, None, "THINKING", ["Say 2 filler ..."]),
        (5, ev.SegmentReady(2, 1, 0, "One moment.", "filler"), "THINKING", []),
        (20, ev.SegmentStarted(2, 0), "SPEAKING", []),
        (500, ev.SegmentPlayed(2, 0), "SPEAKING", []),
        (0, ev.PlayoutStarved(2), "THINKING", []),
        (900, ev.SegmentReady(2, 1, 1, "Two lakh."), "THINKING", []),
        (50, ev.SegmentStarted(2, 1), "SPEAKING", []),
        (400, ev.SegmentPlayed(2, 1), "SPEAKING", []),
        (0, ev.ReplyGenerated(2, 1, 1), "SPEAKING", []),
        (0, ev.PlayoutFinished(2), "LISTENING", []),
    )
    assert play.history[-1] == "assistant: One moment. Two lakh."


def test_a_filler_is_not_the_answer_for_the_reply_deadline() -> None:
    """Hearing "one moment" does not stop the clock of the attempt."""
    play = asked()
    play.understood()
    play.rows(
        (900, None, "THINKING", ["Say 2 filler ..."]),
        (0, ev.SegmentReady(2, 1, 0, "One moment.", "filler"), "THINKING", []),
        (0, ev.SegmentStarted(2, 0), "SPEAKING", []),
        (500, ev.SegmentPlayed(2, 0), "SPEAKING", []),
        (0, ev.PlayoutStarved(2), "THINKING", []),
        (1_100, None, "THINKING", ["Say 2 filler ..."]),
        (1_500, None, "THINKING", ["AbandonAttempt 2", "StartReply 2 fallback"]),
    )


def test_the_ladder_has_a_sound_on_every_rung() -> None:
    play = asked()
    play.understood()
    orders = [order for order in play.wait(30_000) if not order.endswith("filler ...")]
    assert orders == [
        *("AbandonAttempt 2", "StartReply 2 fallback"),
        *("AbandonAttempt 2", "StartReply 2 degraded"),
        *("AbandonAttempt 2", "Say 2 apology"),
        *("CancelReply 2", "HangUp speechless"),
        "CloseSession speechless",
    ]


@pytest.mark.parametrize("stage", ["llm", "tts", "agent"])
def test_a_failed_attempt_goes_to_the_next_tier_at_once(stage: str) -> None:
    play = asked()
    play.understood()
    play.rows(
        (100, ev.StageFailed(2, 1, stage, "x"), "THINKING", ["AbandonAttempt 2", "StartReply 2 fallback"]),
        (100, ev.StageFailed(2, 1, stage, "x"), "THINKING", []),  # the same failure, late
        (100, ev.StageFailed(2, 2, stage, "x"), "THINKING", ["AbandonAttempt 2", "StartReply 2 degraded"]),
        (100, ev.StageFailed(2, 3, stage, "x"), "THINKING", ["AbandonAttempt 2", "Say 2 apology"]),
    )


def test_the_next_attempt_goes_on_from_what_was_heard() -> None:
    play = answering("The fee is two lakh.", "The hostel", "never begun")
    play.tell(ev.SegmentPlayed(2, 0))
    play.tell(ev.SegmentStarted(2, 1))
    play.rows((0, ev.StageFailed(2, 1, "tts", "x"), "SPEAKING", ["AbandonAttempt 2", "StartReply 2 fallback"]))
    assert last_start(play).said == "The fee is two lakh. The hostel"
    assert last_start(play).attempt == 2


def test_a_reply_without_words_is_as_good_as_failed() -> None:
    play = asked()
    play.understood()
    play.rows(
        (10, ev.ReplyGenerated(2, 1, 0), "THINKING", ["AbandonAttempt 2", "StartReply 2 fallback"]),
        (10, ev.ReplyGenerated(2, 2, 0), "THINKING", ["AbandonAttempt 2", "StartReply 2 degraded"]),
        (10, ev.ReplyGenerated(2, 3, 0), "THINKING", ["AbandonAttempt 2", "Say 2 apology"]),
    )


def test_a_line_that_runs_dry_is_covered_then_the_next_tier_speaks() -> None:
    play = answering("The fee is")
    play.tell(ev.SegmentPlayed(2, 0))
    play.rows(
        (0, ev.PlayoutStarved(2), "THINKING", []),
        (1_099, None, "THINKING", []),
        (1, None, "THINKING", ["Say 2 filler ..."]),
        (0, ev.SegmentReady(2, 1, 1, "One moment.", "filler"), "THINKING", []),
        (0, ev.SegmentStarted(2, 1), "SPEAKING", []),
        (600, ev.SegmentPlayed(2, 1), "SPEAKING", []),
        (0, ev.PlayoutStarved(2), "THINKING", []),
        (1_100, None, "THINKING", ["Say 2 filler ..."]),
        (1_200, None, "THINKING", ["AbandonAttempt 2", "StartReply 2 fallback"]),
    )


def test_a_voice_that_stalls_on_the_last_tier_with_no_filler_left_is_apologised_for() -> None:
    play = greeted(msgspec.structs.replace(POLICY, fillers=0))
    play.asked()
    play.understood()
    play.tell(ev.StageFailed(2, 1, "llm", "x"))
    play.tell(ev.StageFailed(2, 2, "llm", "x"))
    play.rows(
        (10, ev.SegmentReady(2, 3, 0, "The fee is two lakh."), "THINKING", []),
        (10, ev.SegmentStarted(2, 0), "SPEAKING", []),
        (400, ev.PlayoutStarved(2), "THINKING", []),
        (1_100, None, "THINKING", ["AbandonAttempt 2", "Say 2 apology"]),
    )


def test_every_attempt_has_fillers_of_its_own() -> None:
    play = greeted(msgspec.structs.replace(POLICY, fillers=1))
    play.asked()
    play.understood()
    said = []
    for _ in range(300):
        for order in play.wait(50):
            said.append(order)
            if order == "Say 2 filler ...":
                number = len(play.state.reply.segments) if play.state.reply else 0
                attempt = play.state.reply.attempt if play.state.reply else 0
                play.tell(ev.SegmentReady(2, attempt, number, "One moment.", "filler"))
                play.tell(ev.SegmentStarted(2, number))
                play.tell(ev.SegmentPlayed(2, number))
                play.tell(ev.PlayoutStarved(2))
        if "Say 2 apology" in said:
            break
    assert said.count("Say 2 filler ...") == 3


def test_a_voice_that_breaks_off_ends_its_segment_there() -> None:
    play = answering("The fee is two lakh rupees a year.")
    play.rows((800, ev.SegmentCut(2, 0, 17), "SPEAKING", []))
    play.rows((0, ev.StageFailed(2, 1, "tts", "tts.cut"), "SPEAKING", ["AbandonAttempt 2", "StartReply 2 fallback"]))
    assert last_start(play).said == "The fee is two"
    play.tell(ev.SegmentPlayed(2, 0))
    play.heard("lakh rupees.")
    assert play.history[-1] == "assistant: The fee is two lakh rupees."


def test_two_apologies_in_a_row_end_the_call_with_a_goodbye() -> None:
    play = greeted()
    for turn in (2, 3):
        play.asked()
        play.understood()
        for attempt in (1, 2, 3):
            play.tell(ev.StageFailed(turn, attempt, "llm", "x"))
        play.heard("I am sorry.", kind="apology")
    play.rows((0, None, "THINKING", []))
    assert play.orders[-1] == cmd.Say(4, 1, "goodbye", "en-IN")
    play.heard("Goodbye.", kind="goodbye")
    assert play.orders[-1] == cmd.HangUp("s1:hangup:4", "given_up")


def test_an_answer_in_between_makes_it_hopeful_again() -> None:
    play = greeted()
    for failing in (True, False, True):
        turn = play.asked()
        play.understood()
        for attempt in (1, 2, 3) if failing else ():
            play.tell(ev.StageFailed(turn, attempt, "llm", "x"))
        play.heard("I am sorry." if failing else "Two lakh.", kind="apology" if failing else "reply")
    assert play.floor == "LISTENING"


def test_with_somebody_to_turn_to_the_caller_is_transferred() -> None:
    play = greeted(msgspec.structs.replace(POLICY, failed_turns=1, transfer_target="+911234"))
    play.asked()
    play.understood()
    for attempt in (1, 2, 3):
        play.tell(ev.StageFailed(2, attempt, "llm", "x"))
    play.heard("I am sorry.", kind="apology")
    assert play.floor == "IDLE"
    assert play.orders[-1] == cmd.TransferCall("s1:transfer:2", "+911234")
    assert cmd.is_durable(play.orders[-1])
    play.rows((10, ev.LineDropped("line.closed"), "IDLE", ["CloseSession transferred"]))


def test_a_reply_that_says_goodbye_ends_the_call_when_it_was_heard() -> None:
    play = answering("Thank you for calling.")
    play.rows(
        (100, ev.ReplyGenerated(2, 1, 1, True), "SPEAKING", []),
        (900, ev.SegmentPlayed(2, 0), "SPEAKING", []),
        (0, ev.PlayoutFinished(2), "IDLE", ["HangUp agent"]),
        (100, ev.CallerHungUp("agent"), "IDLE", ["CloseSession agent"]),
        (0, ev.SessionClosed("agent"), "IDLE", []),
    )


def test_a_goodbye_that_the_caller_interrupts_ends_nothing() -> None:
    play = answering("Thank you for calling, and goodbye.")
    play.rows(
        (100, ev.ReplyGenerated(2, 1, 1, True), "SPEAKING", []),
        (300, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (300, ev.TranscriptPartial(2, "wait one more question"), "LISTENING", ["CancelReply 2"]),
    )


def test_playout_that_is_never_reported_finished_does_not_hang_the_call() -> None:
    play = answering("x" * 60)
    watch = 5_000 + 60 * 1000 // POLICY.chars_per_second
    play.rows(
        (watch - 1, None, "SPEAKING", []),
        (1, None, "THINKING", ["CancelReply 2", "Say 3 apology"]),
    )


def test_a_phrase_that_is_not_heard_does_not_hang_the_call() -> None:
    greeting = Play()
    greeting.rows((1_499, None, "THINKING", []), (1, None, "LISTENING", ["CancelReply 1"]))
    goodbye = greeted()
    goodbye.wait(9_000)
    goodbye.heard("Still there?", kind="still_there")
    goodbye.wait(9_000)
    goodbye.heard("Still there?", kind="still_there")
    goodbye.rows(
        (10_499, None, "THINKING", ["Say 4 goodbye"]), (1, None, "IDLE", ["CancelReply 4", "HangUp speechless"])
    )


# -- effects --------------------------------------------------------------------------------------


def request(key: str = "k1", *, turn: int = 2, attempt: int = 1, kind: str = "write") -> ev.EffectRequested:
    return ev.EffectRequested(turn, attempt, key, "book", kind, '{"seat": 1}')


@pytest.mark.parametrize("kind", ["read", "write", "terminal"])
def test_an_effect_of_the_live_reply_runs_once(kind: str) -> None:
    play = asked()
    play.understood()
    play.rows(
        (10, request(kind=kind), "THINKING", ["RunEffect k1"]),
        (10, request(kind=kind), "THINKING", []),
        (10, ev.EffectSucceeded("k1", "done"), "THINKING", []),
        (10, request(kind=kind), "THINKING", []),
        (10, ev.EffectFailed("k1", "late.second.answer"), "THINKING", []),
    )
    assert cmd.is_durable(play.orders[-1]) is (kind != "read")
    effect = play.state.effects["k1"]
    assert (str(effect.status), effect.outcome, effect.turn) == ("done", "done", 2)


@pytest.mark.parametrize(
    "stale", [request(turn=1), request(turn=3), request(attempt=2), request(attempt=0), request(kind="odd")]
)
def test_an_effect_of_anything_else_is_refused(stale: ev.EffectRequested) -> None:
    play = asked()
    play.understood()
    play.rows((10, stale, "THINKING", []))
    assert play.state.effects == {}


def test_no_effect_runs_for_a_turn_that_is_not_confirmed() -> None:
    play = greeted()
    play.spoken("pay the fee")
    play.rows((0, request(turn=2), "LISTENING", []), (0, request(turn=1), "LISTENING", []))


def test_the_next_attempt_asking_again_does_not_act_again() -> None:
    play = asked()
    play.understood()
    play.rows(
        (10, request(), "THINKING", ["RunEffect k1"]),
        (10, ev.StageFailed(2, 1, "llm", "x"), "THINKING", ["AbandonAttempt 2", "StartReply 2 fallback"]),
        (10, request(attempt=2), "THINKING", []),
    )


def test_the_outcome_is_kept_although_the_caller_interrupted() -> None:
    play = answering()
    play.tell(request())
    play.tell(ev.SpeechStarted())
    play.tell(ev.TranscriptPartial(2, "wait no"))
    play.rows((500, ev.EffectFailed("k1", "effect.timeout"), "LISTENING", []))
    assert play.state.effects["k1"].outcome == "effect.timeout"


def test_an_effect_whose_process_died_is_lost_not_run_again() -> None:
    play = asked()
    play.understood()
    play.tell(request())
    play.rows(
        (0, ev.CommandLost("k1", "book"), "THINKING", []),
        (0, request(), "THINKING", []),
        (0, ev.EffectSucceeded("k1", "done"), "THINKING", []),
    )
    assert (str(play.state.effects["k1"].status), play.state.effects["k1"].outcome) == ("lost", "command.lost")
