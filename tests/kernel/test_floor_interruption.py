"""The floor when both speak: silence first, decide later."""

from __future__ import annotations

import pytest
from by_hand import POLICY, Play, greeted

from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev

ANSWER = "The fee is two lakh rupees a year."


def answering() -> Play:
    """Turn 2 is being heard; its attempt is complete, its first segment plays."""
    play = greeted()
    assert play.answering(ANSWER) == 2
    play.tell(ev.ReplyGenerated(2, 1, 1))
    play.wait(500)
    return play


def paused() -> Play:
    play = answering()
    play.rows((0, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]))
    return play


# -- taking the floor -----------------------------------------------------------------------------


def test_words_take_the_floor_and_history_is_cut_to_what_was_heard() -> None:
    play = paused()
    play.rows(
        (300, ev.TranscriptPartial(2, "wait no"), "LISTENING", ["CancelReply 2"]),
        (20, ev.PlayoutStopped(2, 0, 10), "LISTENING", []),
        (10, ev.SegmentPlayed(2, 0), "LISTENING", []),  # raced with the cancel
        (10, ev.SegmentReady(2, 1, 1, "late"), "LISTENING", []),
        (600, ev.SpeechStopped(0, 200), "LISTENING", []),
        (200, None, "LISTENING", ["FinishUtterance 2"]),
        (50, ev.TranscriptFinal(2, "wait what about hostel"), "THINKING", ["Classify 3", "Retrieve 3"]),
    )
    assert play.history[-2:] == ["assistant: The fee is", "user: wait what about hostel"]


def test_what_was_heard_may_be_reported_after_the_next_question() -> None:
    play = paused()
    play.tell(ev.TranscriptPartial(2, "wait no"))
    play.tell(ev.SpeechStopped(0, 200))
    play.wait(200)
    play.final("wait")
    play.rows((0, ev.PlayoutStopped(2, 0, 10), "THINKING", []))
    assert play.history[-2:] == ["assistant: The fee is", "user: wait"]


def test_a_cancelled_reply_that_never_reports_counts_as_far_as_it_was_played() -> None:
    play = greeted()
    play.answering("The fee is", "two lakh.")
    play.tell(ev.SegmentPlayed(2, 0))
    play.tell(ev.SegmentStarted(2, 1))
    play.tell(ev.SpeechStarted())
    play.rows((100, ev.TranscriptPartial(2, "stop now"), "LISTENING", ["CancelReply 2"]))
    play.tell(ev.CallerHungUp())
    play.tell(ev.SessionClosed("caller"))
    assert play.history[-1] == "assistant: The fee is"


def test_a_long_talk_takes_the_floor_even_without_words() -> None:
    """A transcriber that is slow, or down, must not let the agent talk over the caller."""
    play = paused()
    play.rows((1_499, None, "INTERRUPT", []), (1, None, "LISTENING", ["CancelReply 2"]))


def test_speech_that_a_final_turns_into_words_takes_the_floor() -> None:
    play = paused()
    play.rows(
        (300, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (600, ev.TranscriptFinal(2, "stop please"), "LISTENING", ["CancelReply 2"]),
        (0, None, "THINKING", ["Classify 3", "Retrieve 3"]),  # the silence wanted has long passed
    )
    assert play.history[-1] == "user: stop please"


def test_speech_whose_final_fails_counts_by_its_last_partial() -> None:
    play = paused()
    play.tell(ev.TranscriptPartial(2, "mm-hm"))
    play.rows(
        (300, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (100, ev.TranscriptionFailed(2, "stt.lost"), "INTERRUPT", []),
        (600, None, "SPEAKING", ["ResumePlayout 2"]),
    )


# -- giving it back -------------------------------------------------------------------------------


def test_a_backchannel_lets_the_reply_go_on() -> None:
    play = paused()
    play.rows(
        (200, ev.TranscriptPartial(2, "mm-hm"), "INTERRUPT", []),
        (150, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (50, ev.TranscriptFinal(2, "mm-hm ok"), "SPEAKING", ["ResumePlayout 2"]),
        (500, ev.SegmentPlayed(2, 0), "SPEAKING", []),
        (0, ev.PlayoutFinished(2), "LISTENING", []),
    )
    assert play.history[-1] == f"assistant: {ANSWER}"
    assert "user: mm-hm ok" not in play.history


def test_a_cough_is_over_when_the_deadline_says_so() -> None:
    play = paused()
    play.rows(
        (250, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (699, None, "INTERRUPT", []),
        (1, None, "SPEAKING", ["ResumePlayout 2"]),
        (20, ev.TranscriptFinal(2, ""), "SPEAKING", []),
    )


def test_a_gate_that_closed_unnoticed_still_gives_the_floor_back() -> None:
    play = paused()
    play.rows(
        (100, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (200, ev.SpeechStarted(), "INTERRUPT", []),
        (500, None, "INTERRUPT", []),  # the deadline finds them speaking: wait until it is surely speech
        (100, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 3"]),
        (699, None, "INTERRUPT", []),
        (1, None, "SPEAKING", ["ResumePlayout 2"]),
    )


def test_two_coughs_are_no_long_talk() -> None:
    play = paused()
    play.rows(
        (300, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (600, ev.SpeechStarted(), "INTERRUPT", []),
        (700, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 3"]),  # 1.6 s after the first began
        (699, None, "INTERRUPT", []),
        (1, None, "SPEAKING", ["ResumePlayout 2"]),
    )


def test_sounds_without_end_do_not_keep_the_agent_silent_for_ever() -> None:
    """A crackle every half second: each of them alone would start the wait anew."""
    play = paused()
    waited = 0
    while play.floor == "INTERRUPT":
        play.wait(250)
        play.tell(ev.SpeechStopped(0, 200))
        play.wait(250)
        if play.floor == "INTERRUPT":
            play.tell(ev.SpeechStarted())
        waited += 500
        assert waited <= 2 * POLICY.interrupt_speech_ms + 500
    assert play.floor == "SPEAKING"


def test_words_found_after_the_reply_went_on_still_take_the_floor() -> None:
    partial = paused()
    partial.rows(
        (250, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (700, None, "SPEAKING", ["ResumePlayout 2"]),
        (300, ev.TranscriptFinal(2, "no wait"), "LISTENING", ["CancelReply 2"]),
        (0, None, "THINKING", ["Classify 3", "Retrieve 3"]),  # the silence wanted has long passed
    )
    assert partial.history[-1] == "user: no wait"


@pytest.mark.parametrize("late", [ev.TranscriptFinal(2, "ok"), ev.TranscriptionFailed(2, "stt.lost")])
def test_a_late_backchannel_or_failure_changes_nothing(late: ev.AnyEvent) -> None:
    play = paused()
    play.rows(
        (250, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (700, None, "SPEAKING", ["ResumePlayout 2"]),
        (300, late, "SPEAKING", []),
    )
    assert play.state.awaited == 0


def test_a_partial_over_the_agents_speech_takes_the_floor() -> None:
    """A gate that is held open by noise sends no second edge: the words alone must do."""
    play = greeted()
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (20_000, ev.TranscriptFinal(1, ""), "THINKING", ["FinishUtterance 1", "Say 2 please_repeat"]),
        (10, ev.SegmentReady(2, 1, 0, "Could you say it again?", "please_repeat"), "THINKING", []),
        (10, ev.SegmentStarted(2, 0), "SPEAKING", []),
        (500, ev.TranscriptPartial(2, "mm-hm"), "SPEAKING", []),
        (500, ev.TranscriptPartial(2, "mm-hm what are the fees"), "LISTENING", ["CancelReply 2"]),
    )


# -- while nothing is heard yet -------------------------------------------------------------------


def test_a_caller_who_goes_on_while_it_thinks_is_one_question() -> None:
    play = greeted()
    play.asked("what are the")
    play.rows(
        (100, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (50, ev.IntentReady(2, "question"), "INTERRUPT", []),
        (250, ev.TranscriptPartial(2, "hostel fees"), "LISTENING", ["CancelReply 2"]),
        (0, ev.PlayoutStopped(2, -1, 0), "LISTENING", []),
        (300, ev.SpeechStopped(0, 200), "LISTENING", []),
        (200, None, "LISTENING", ["FinishUtterance 2"]),
        (50, ev.TranscriptFinal(2, "hostel fees"), "THINKING", ["Classify 3", "Retrieve 3"]),
    )
    assert play.history[-1] == "user: what are the hostel fees"
    assert "user: what are the" not in play.history
    classify = [order for order in play.orders if isinstance(order, cmd.Classify)][-1]
    assert classify.text == "what are the hostel fees"


def test_a_filler_is_no_answer_to_a_caller_who_goes_on() -> None:
    play = greeted()
    play.asked("what are the")
    play.understood()
    play.rows(
        (900, None, "THINKING", ["Say 2 filler ..."]),
        (0, ev.SegmentReady(2, 1, 0, "One moment, please.", "filler"), "THINKING", []),
        (0, ev.SegmentStarted(2, 0), "SPEAKING", []),
        (500, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (300, ev.TranscriptPartial(2, "hostel fees"), "LISTENING", ["CancelReply 2"]),
        (0, ev.PlayoutStopped(2, 0, 11), "LISTENING", []),
        (300, ev.SpeechStopped(0, 200), "LISTENING", []),
        (200, ev.TranscriptFinal(2, "hostel fees"), "THINKING", ["FinishUtterance 2", "Classify 3", "Retrieve 3"]),
    )
    assert play.history[-2:] == ["assistant: One moment,", "user: what are the hostel fees"]


def test_a_cough_while_it_thinks_only_delays_the_answer() -> None:
    play = greeted()
    play.asked()
    play.rows(
        (100, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (30, ev.PassagesReady(2), "INTERRUPT", []),
        (30, ev.IntentReady(2, "question"), "INTERRUPT", []),
        (200, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (50, ev.TranscriptFinal(2, ""), "THINKING", ["ResumePlayout 2", "StartReply 2 full"]),
    )
    start = [order for order in play.orders if isinstance(order, cmd.StartReply)][-1]
    assert start.intent == "question"


def test_a_reply_that_fails_meanwhile_goes_to_the_next_tier_on_resuming() -> None:
    play = greeted()
    play.asked()
    play.understood()
    play.rows(
        (100, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (30, ev.StageFailed(2, 1, "llm", "x"), "INTERRUPT", []),
        (200, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (
            *(50, ev.TranscriptFinal(2, "mm-hm"), "THINKING"),
            ["AbandonAttempt 2", "ResumePlayout 2", "StartReply 2 fallback"],
        ),
    )


def test_a_reply_that_turns_out_empty_meanwhile_is_not_the_end_of_the_turn() -> None:
    play = greeted()
    play.asked()
    play.understood()
    play.rows(
        (100, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (30, ev.ReplyGenerated(2, 1, 0), "INTERRUPT", ["AbandonAttempt 2"]),
        (200, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (
            *(50, ev.TranscriptFinal(2, ""), "THINKING"),
            ["AbandonAttempt 2", "ResumePlayout 2", "StartReply 2 fallback"],
        ),
    )


def test_the_last_tier_failing_meanwhile_is_apologised_for() -> None:
    play = greeted()
    play.asked()
    play.understood()
    play.tell(ev.StageFailed(2, 1, "llm", "x"))
    play.tell(ev.StageFailed(2, 2, "llm", "x"))
    play.rows(
        (100, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (30, ev.StageFailed(2, 3, "llm", "x"), "INTERRUPT", []),
        (200, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (50, ev.TranscriptFinal(2, ""), "THINKING", ["AbandonAttempt 2", "ResumePlayout 2", "Say 2 apology"]),
    )


def test_an_attempts_time_stands_still_while_the_caller_holds_the_floor() -> None:
    play = greeted()
    play.asked()
    play.understood()
    play.rows(
        (500, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (250, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (50, ev.TranscriptFinal(2, ""), "THINKING", ["ResumePlayout 2"]),
    )
    left = POLICY.reply_ms - 500
    orders = play.wait(left - 1)
    assert all(order.endswith("filler ...") for order in orders)
    assert play.wait(1)[:2] == ["AbandonAttempt 2", "StartReply 2 fallback"]


def test_coughs_without_end_do_not_keep_an_answer_away_for_ever() -> None:
    """Each cough pauses; none of them gives the attempt its time back."""
    play = greeted()
    play.asked()
    play.understood()
    for _ in range(100):
        if any("fallback" in order for order in play.wait(300)):
            return
        play.tell(ev.SpeechStarted())
        play.wait(100)
        play.tell(ev.SpeechStopped(0, 200))
        play.final("")
    pytest.fail("the next tier was never tried")


def test_segments_that_begin_while_paused_are_booked() -> None:
    """The line may report a start that was on its way when the pause came."""
    play = greeted()
    play.asked()
    play.understood()
    play.tell(ev.SegmentReady(2, 1, 0, "Two lakh."))
    play.rows(
        (0, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (5, ev.SegmentStarted(2, 0), "INTERRUPT", []),
        (5, ev.ReplyGenerated(2, 1, 1), "INTERRUPT", []),
        (200, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (50, ev.TranscriptFinal(2, ""), "SPEAKING", ["ResumePlayout 2"]),
        (900, ev.SegmentPlayed(2, 0), "SPEAKING", []),
        (0, ev.PlayoutFinished(2), "LISTENING", []),
    )
    assert play.history[-1] == "assistant: Two lakh."


def test_a_reply_heard_to_its_end_while_paused_gives_the_floor_to_the_caller() -> None:
    play = paused()
    play.rows(
        (10, ev.SegmentPlayed(2, 0), "INTERRUPT", []),
        (0, ev.PlayoutFinished(2), "LISTENING", []),
    )
    assert play.history[-1] == f"assistant: {ANSWER}"


def test_words_found_after_it_went_on_thinking_are_not_lost() -> None:
    """The transcriber is slow, the cough's deadline has passed, nothing is heard yet: it was no cough."""
    play = greeted()
    play.asked("what are the")
    play.rows(
        (100, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (300, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (700, None, "THINKING", ["ResumePlayout 2", "StartReply 2 full"]),
        (300, ev.TranscriptFinal(2, "hostel fees"), "LISTENING", ["CancelReply 2"]),
    )
    play.tell(ev.PlayoutStopped(2, -1, 0))
    play.rows((0, None, "THINKING", ["Classify 3", "Retrieve 3"]))
    assert play.history[-1] == "user: what are the hostel fees"


def test_a_late_backchannel_while_it_thinks_changes_nothing() -> None:
    play = greeted()
    play.asked()
    play.understood()
    play.rows(
        (100, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (300, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (700, None, "THINKING", ["ResumePlayout 2"]),
        (100, ev.TranscriptPartial(3, "mm-hm"), "THINKING", []),
        (100, ev.TranscriptFinal(2, "mm-hm"), "THINKING", []),
    )
    assert play.state.awaited == 0


def test_words_while_it_thinks_take_the_floor_although_no_gate_opened() -> None:
    play = greeted()
    play.asked()
    play.rows((100, ev.TranscriptPartial(2, "no wait"), "LISTENING", ["CancelReply 2"]))


def test_keys_and_typed_text_take_the_floor_while_paused() -> None:
    keys = paused()
    keys.rows((50, ev.DigitPressed("1"), "LISTENING", ["CancelReply 2"]))
    typed = paused()
    typed.rows(
        (50, ev.TextTyped("stop"), "THINKING", ["CancelReply 2", "FinishUtterance 2", "Classify 3", "Retrieve 3"])
    )


def test_the_greeting_can_be_interrupted_like_any_speech() -> None:
    play = Play()
    play.tell(ev.SegmentReady(1, 1, 0, "Hello there, welcome.", "greeting"))
    play.tell(ev.SegmentStarted(1, 0))
    play.rows(
        (200, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 1"]),
        (300, ev.TranscriptPartial(1, "fees please"), "LISTENING", ["CancelReply 1"]),
        (10, ev.PlayoutStopped(1, 0, 5), "LISTENING", []),
    )
    assert play.history == ["assistant: Hello"]
    assert play.state.pieces == []
