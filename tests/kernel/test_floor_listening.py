"""The floor while it is the caller's: greeting, endpointing, transcripts, keys, typed text, silence, noise."""

from __future__ import annotations

import msgspec
import pytest
from by_hand import POLICY, Play, greeted, started

from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.floor_actions import MAX_DIGITS

TURN_2 = ["Classify 2", "Retrieve 2"]


def test_the_agent_speaks_first() -> None:
    play = Play(begin=False)
    play.rows(
        (0, started(), "THINKING", ["Say 1 greeting"]),
        (5, ev.SegmentReady(1, 1, 0, "Hello there.", "greeting", "en-IN"), "THINKING", []),
        (0, ev.ReplyGenerated(1, 1, 1), "THINKING", []),
        (40, ev.SegmentStarted(1, 0), "SPEAKING", []),
        (900, ev.SegmentPlayed(1, 0), "SPEAKING", []),
        (0, ev.PlayoutFinished(1), "LISTENING", []),
    )
    assert play.history == ["assistant: Hello there."]


def test_without_a_greeting_it_listens() -> None:
    play = Play(msgspec.structs.replace(POLICY, greeting=False))
    assert (play.floor, play.orders) == ("LISTENING", [])


def test_silence_after_a_complete_sentence_ends_the_turn() -> None:
    play = greeted()
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (600, ev.TranscriptPartial(1, "what are the fees"), "LISTENING", []),
        (500, ev.SpeechStopped(1_100, 200), "LISTENING", []),
        (199, None, "LISTENING", []),  # 399 ms after the speech's end, as the gate found it
        (1, None, "LISTENING", ["FinishUtterance 1"]),
        (50, ev.TranscriptFinal(1, "what are the fees"), "THINKING", TURN_2),
    )
    classify = next(order for order in play.orders if isinstance(order, cmd.Classify))
    assert (classify.text, classify.language) == ("what are the fees", "en-IN")
    assert play.history[-1] == "user: what are the fees"


@pytest.mark.parametrize("text", ["the fees and", "the fees,", "I was thinking...", "it is be-"])
def test_an_unfinished_sentence_gets_more_time(text: str) -> None:
    play = greeted()
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (600, ev.TranscriptPartial(1, text), "LISTENING", []),
        (500, ev.SpeechStopped(1_100, 200), "LISTENING", []),
        (699, None, "LISTENING", []),
        (1, None, "LISTENING", ["FinishUtterance 1"]),
    )


def test_a_late_partial_moves_the_endpoint() -> None:
    """The silence wanted depends on the words, and words come later than the gate's edge."""
    play = greeted()
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (500, ev.TranscriptPartial(1, "the fees"), "LISTENING", []),
        (500, ev.SpeechStopped(0, 200), "LISTENING", []),
        (100, ev.TranscriptPartial(1, "the fees and"), "LISTENING", []),
        (599, None, "LISTENING", []),
        (1, None, "LISTENING", ["FinishUtterance 1"]),
    )
    again = greeted()
    again.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (500, ev.TranscriptPartial(1, "the fees and"), "LISTENING", []),
        (500, ev.SpeechStopped(0, 200), "LISTENING", []),
        (300, ev.TranscriptPartial(1, "the fees and hostel"), "LISTENING", []),
        (149, None, "LISTENING", []),  # 500 ms have passed already, but the words are new
        (1, None, "LISTENING", ["FinishUtterance 1"]),
    )


def test_speech_that_goes_on_in_time_is_one_utterance() -> None:
    play = greeted()
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (500, ev.SpeechStopped(0, 200), "LISTENING", []),
        (150, ev.SpeechStarted(), "LISTENING", []),
        (2_000, ev.SpeechStopped(0, 200), "LISTENING", []),
        (200, None, "LISTENING", ["FinishUtterance 1"]),
    )


def test_a_split_question_is_merged() -> None:
    """The caller goes on before the final of the first half is there: one turn, both halves."""
    play = greeted()
    play.spoken("what are")
    play.rows(
        (200, None, "LISTENING", ["FinishUtterance 1"]),
        (100, ev.SpeechStarted(), "LISTENING", []),
        (50, ev.TranscriptFinal(1, "what are"), "LISTENING", []),
        (500, ev.TranscriptPartial(2, "the hostel fees"), "LISTENING", []),
        (500, ev.SpeechStopped(0, 200), "LISTENING", []),
        (200, None, "LISTENING", ["FinishUtterance 2"]),
        (40, ev.TranscriptFinal(2, "the hostel fees"), "THINKING", TURN_2),
    )
    assert play.history[-1] == "user: what are the hostel fees"


def test_a_cough_after_the_question_does_not_lose_it() -> None:
    play = greeted()
    play.spoken("what are the fees")
    play.rows(
        (200, None, "LISTENING", ["FinishUtterance 1"]),
        (10, ev.SpeechStarted(), "LISTENING", []),
        (50, ev.TranscriptFinal(1, "what are the fees"), "LISTENING", []),
        (300, ev.SpeechStopped(0, 200), "LISTENING", []),
        (200, None, "LISTENING", ["FinishUtterance 2"]),
        (40, ev.TranscriptFinal(2, ""), "THINKING", TURN_2),
    )
    assert play.history[-1] == "user: what are the fees"


def test_a_final_that_failed_is_the_last_partial() -> None:
    play = greeted()
    play.spoken("what are the fees")
    play.wait(200)
    play.rows((1, ev.TranscriptionFailed(1, "stt.lost"), "THINKING", TURN_2))
    assert play.history[-1] == "user: what are the fees"


FILLER = ev.SegmentReady(2, 1, 0, "One moment.", "filler", "en-IN")


def holding(final: ev.AnyEvent | None, after: int, floor: str, orders: list[str]) -> Play:
    """The caller is done, and a filler covers the wait for what they said."""
    play = greeted()
    play.spoken("what are the fees")
    play.rows(
        (200, None, "LISTENING", ["FinishUtterance 1"]),
        (499, None, "LISTENING", []),
        (1, None, "THINKING", ["Say 2 filler"]),  # 900 ms after the caller's last word
        (5, FILLER, "THINKING", []),
        (0, ev.ReplyGenerated(2, 1, 1), "THINKING", []),
        (20, ev.SegmentStarted(2, 0), "SPEAKING", []),
        (after, final, floor, orders),
    )
    return play


def test_a_wait_for_the_final_is_covered_and_what_it_brings_is_answered_then() -> None:
    play = holding(ev.TranscriptFinal(1, "what are the fees"), 100, "SPEAKING", [])
    play.rows(
        (600, ev.SegmentPlayed(2, 0), "SPEAKING", []),
        (0, ev.PlayoutFinished(2), "LISTENING", []),
        (0, None, "THINKING", ["Classify 3", "Retrieve 3"]),
    )
    assert play.history[-1] == "user: what are the fees"


def test_a_final_that_never_comes_is_the_last_partial() -> None:
    play = holding(None, POLICY.final_ms - 525, "SPEAKING", [])
    assert play.state.pieces == ["what are the fees"]
    play.rows(
        (1, ev.SegmentPlayed(2, 0), "SPEAKING", []),
        (0, ev.PlayoutFinished(2), "LISTENING", []),
        (0, None, "THINKING", ["Classify 3", "Retrieve 3"]),
    )


def test_a_filler_for_nothing_ends_with_the_question_to_repeat() -> None:
    play = greeted()
    play.spoken("")
    play.rows((200, None, "LISTENING", ["FinishUtterance 1"]), (500, None, "THINKING", ["Say 2 filler"]))
    play.rows((10, ev.TranscriptFinal(1, ""), "THINKING", ["CancelReply 2", "Say 3 please_repeat"]))


def test_a_filler_for_a_noise_is_heard_and_that_is_all() -> None:
    play = greeted()
    play.spoken("", ms=100)
    play.rows((200, None, "LISTENING", ["FinishUtterance 1"]), (500, None, "THINKING", ["Say 2 filler"]))
    play.rows((10, ev.TranscriptionFailed(1, "stt.lost"), "THINKING", []))
    play.rows((5, FILLER, "THINKING", []), (0, ev.ReplyGenerated(2, 1, 1), "THINKING", []))
    play.rows((20, ev.SegmentStarted(2, 0), "SPEAKING", []), (600, ev.SegmentPlayed(2, 0), "SPEAKING", []))
    play.rows((0, ev.PlayoutFinished(2), "LISTENING", []), (POLICY.silence_ms - 1, None, "LISTENING", []))


def test_a_caller_who_goes_on_over_the_filler_keeps_what_they_said() -> None:
    play = holding(ev.TranscriptFinal(1, "what are the fees"), 100, "SPEAKING", [])
    play.rows(
        (10, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]),
        (300, ev.TranscriptPartial(2, "for the mba"), "LISTENING", ["CancelReply 2"]),
        (0, ev.PlayoutStopped(2, 0, 3), "LISTENING", []),
        (200, ev.SpeechStopped(0, 200), "LISTENING", []),
        (200, None, "LISTENING", ["FinishUtterance 2"]),
        (20, ev.TranscriptFinal(2, "for the mba"), "THINKING", ["Classify 3", "Retrieve 3"]),
    )
    assert play.history[-1] == "user: what are the fees for the mba"


def test_a_final_that_comes_twice_counts_once() -> None:
    play = greeted()
    play.asked("what are the fees")
    play.rows((10, ev.TranscriptFinal(1, "what are the fees"), "THINKING", []))
    assert play.history.count("user: what are the fees") == 1


def test_a_final_of_the_next_utterance_is_stale() -> None:
    play = greeted()
    play.spoken("what are the fees")
    play.rows(
        (200, None, "LISTENING", ["FinishUtterance 1"]),
        (0, ev.TranscriptFinal(2, "nonsense"), "LISTENING", []),
        (0, ev.TranscriptPartial(1, "nonsense"), "LISTENING", []),
        (0, ev.TranscriptFinal(1, "what are the fees"), "THINKING", TURN_2),
    )


def test_an_utterance_that_does_not_end_is_taken_in_pieces() -> None:
    play = greeted()
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (19_000, ev.TranscriptPartial(1, "one two"), "LISTENING", []),
        (1_000, None, "LISTENING", ["FinishUtterance 1"]),
        (100, ev.TranscriptFinal(1, "one two"), "LISTENING", []),
        (5_000, ev.TranscriptPartial(2, "three"), "LISTENING", []),
        (100, ev.SpeechStopped(0, 200), "LISTENING", []),
        (200, None, "LISTENING", ["FinishUtterance 2"]),
        (100, ev.TranscriptFinal(2, "three"), "THINKING", TURN_2),
    )
    assert play.history[-1] == "user: one two three"


# -- keys and typed text --------------------------------------------------------------------------


def test_digits_are_an_answer_after_a_pause_or_a_hash() -> None:
    play = greeted()
    play.rows(
        (100, ev.DigitPressed("4"), "LISTENING", []),
        (1_700, ev.DigitPressed("2"), "LISTENING", []),
        (1_799, None, "LISTENING", []),
        (1, None, "THINKING", TURN_2),
    )
    assert play.history[-1] == "user: 42"
    hashed = greeted()
    hashed.rows(
        (0, ev.DigitPressed("#"), "LISTENING", []),
        (0, ev.DigitPressed("7"), "LISTENING", []),
        (0, ev.DigitPressed("#"), "THINKING", TURN_2),
    )
    assert hashed.history[-1] == "user: 7"


def test_no_number_is_longer_than_the_bound() -> None:
    play = greeted()
    for _ in range(MAX_DIGITS + 20):
        play.rows((10, ev.DigitPressed("1"), "LISTENING", []))
    play.rows((0, ev.DigitPressed("#"), "THINKING", TURN_2))
    assert play.history[-1] == "user: " + "1" * MAX_DIGITS


def test_a_key_silences_the_agent() -> None:
    play = greeted()
    turn = play.answering()
    play.rows(
        (300, ev.DigitPressed("5"), "LISTENING", [f"CancelReply {turn}"]),
        (10, ev.PlayoutStopped(turn, 0, 7), "LISTENING", []),
        (1_790, None, "THINKING", [f"Classify {turn + 1}", f"Retrieve {turn + 1}"]),
    )
    assert play.history[-2:] == ["assistant: The fee", "user: 5"]


def test_a_final_that_comes_between_two_keys_does_not_tear_the_number_apart() -> None:
    play = greeted()
    play.spoken("my number is")
    play.rows(
        (200, None, "LISTENING", ["FinishUtterance 1"]),
        (100, ev.DigitPressed("4"), "LISTENING", []),
        (100, ev.TranscriptFinal(1, "my number is"), "LISTENING", []),
        (100, ev.DigitPressed("2"), "LISTENING", []),
        (0, ev.DigitPressed("#"), "THINKING", TURN_2),
    )
    assert play.history[-1].endswith("42")


def test_what_was_said_before_the_keys_is_no_question_of_its_own_later() -> None:
    """Words left in the transcriber would come back as a turn nobody asked for once the answer is over."""
    play = greeted()
    play.spoken("er")
    play.rows(
        (100, ev.DigitPressed("4"), "LISTENING", []),
        (0, ev.DigitPressed("#"), "THINKING", ["FinishUtterance 1", *TURN_2]),
        (40, ev.TranscriptFinal(1, "er"), "THINKING", []),
    )
    play.understood()
    play.heard("Four it is.")
    play.rows((POLICY.silence_ms - 1, None, "LISTENING", []), (1, None, "THINKING", ["Say 3 still_there"]))


def test_typed_text_is_a_whole_turn_and_blank_text_is_none() -> None:
    play = greeted()
    play.rows(
        (0, ev.TextTyped("  \n"), "LISTENING", []),
        (0, ev.TextTyped(" what are the fees "), "THINKING", TURN_2),
    )
    assert play.history[-1] == "user: what are the fees"
    play.understood()
    play.tell(ev.SegmentReady(2, 1, 0, "The fee is two lakh rupees a year."))
    play.rows(
        (0, ev.SegmentStarted(2, 0), "SPEAKING", []),
        (500, ev.TextTyped(""), "SPEAKING", []),
        (500, ev.TextTyped("and the hostel"), "THINKING", ["CancelReply 2", "Classify 3", "Retrieve 3"]),
        (10, ev.PlayoutStopped(2, 0, 10), "THINKING", []),
    )
    assert play.history[-3:] == ["user: what are the fees", "assistant: The fee is", "user: and the hostel"]


# -- patience -------------------------------------------------------------------------------------


def test_a_silent_caller_is_asked_twice_and_then_let_go() -> None:
    play = greeted()
    for turn in (2, 3):
        play.rows((8_999, None, "LISTENING", []), (1, None, "THINKING", [f"Say {turn} still_there"]))
        play.heard("Are you still there?", kind="still_there")
    play.rows((9_000, None, "THINKING", ["Say 4 goodbye"]))
    play.heard("Goodbye.", kind="goodbye")
    assert play.floor == "IDLE"
    assert play.orders[-1] == cmd.HangUp("s1:hangup:4", "agent")
    play.rows((2_999, None, "IDLE", []), (1, None, "IDLE", ["CloseSession agent"]))
    assert play.session.is_over


def test_an_answered_question_makes_it_patient_again() -> None:
    play = greeted()
    play.wait(9_000)
    play.heard("Are you still there?", kind="still_there")
    play.asked()
    play.understood()
    play.heard("Two lakh.")
    for _ in range(2):
        assert play.wait(9_000)[0].endswith("still_there")
        play.heard("Are you still there?", kind="still_there")
    assert play.wait(9_000)[0].endswith("goodbye")


def test_speech_that_is_not_understood_is_asked_for_again_then_the_keypad_then_goodbye() -> None:
    play = greeted()
    asked = []
    while not asked or not asked[-1].endswith("goodbye"):
        play.spoken("", ms=900)
        play.wait(200)
        asked += play.final("")
        play.heard("...", kind=asked[-1].split()[-1])
    phrases = [order.split()[-1] for order in asked]
    assert phrases == ["please_repeat", "please_repeat", "use_keypad", "use_keypad", "goodbye"]
    assert play.floor == "IDLE"


def never_understood() -> Play:
    """To where the caller is told that a person is next."""
    play = greeted(msgspec.structs.replace(POLICY, transfer_target="+911234"))
    for phrase in ("please_repeat", "please_repeat", "use_keypad", "use_keypad", "transfer"):
        play.spoken("", ms=900)
        play.wait(200)
        (order,) = play.final("")
        assert order.endswith(phrase)
        if phrase != "transfer":
            play.heard("...", kind=phrase)
    return play


def test_with_somebody_to_turn_to_a_caller_who_is_never_understood_is_put_through() -> None:
    play = never_understood()
    play.heard("I am connecting you to a person.", kind="transfer")
    assert isinstance(play.orders[-1], cmd.TransferCall)
    assert (play.orders[-1].target, play.floor) == ("+911234", "IDLE")


def test_they_are_put_through_also_where_that_cannot_be_said() -> None:
    play = never_understood()
    play.wait(POLICY.phrase_ms)
    assert isinstance(play.orders[-1], cmd.TransferCall)
    assert play.floor == "IDLE"


def test_they_are_put_through_also_where_its_end_is_never_told() -> None:
    play = never_understood()
    turn = play.session.state.turn
    play.rows(
        (10, ev.SegmentReady(turn, 1, 0, "I am connecting you.", "transfer", "en-IN"), "THINKING", []),
        (10, ev.SegmentStarted(turn, 0), "SPEAKING", []),
    )
    assert "TransferCall +911234" in play.wait(60_000)


def test_words_against_it_are_listened_to() -> None:
    play = never_understood()
    turn = play.session.state.turn
    play.rows(
        (10, ev.SegmentReady(turn, 1, 0, "I am connecting you.", "transfer", "en-IN"), "THINKING", []),
        (10, ev.SegmentStarted(turn, 0), "SPEAKING", []),
        (10, ev.SpeechStarted(), "INTERRUPT", [f"PausePlayout {turn}"]),
    )
    play.rows(
        (300, ev.TranscriptPartial(play.state.utterance, "what are the fees"), "LISTENING", [f"CancelReply {turn}"])
    )
    assert not any(isinstance(order, cmd.TransferCall) for order in play.orders)


def test_a_short_noise_is_not_answered() -> None:
    play = greeted()
    play.spoken("", ms=100, hangover=200)
    play.rows((200, None, "LISTENING", ["FinishUtterance 1"]), (40, ev.TranscriptFinal(1, " "), "LISTENING", []))


def test_a_line_that_crackles_every_few_seconds_is_as_silent_as_another() -> None:
    """Else nobody's call on a bad line would never end."""
    play = greeted()
    asked: list[str] = []
    for _ in range(60):
        orders = play.wait(3_000)
        if orders:
            asked += orders
            if play.floor == "IDLE":
                break
            play.heard("...", kind=orders[0].split()[-1])
        else:
            play.spoken("", ms=100)
            assert play.wait(200)[-1:] == [f"FinishUtterance {play.state.awaited}"]
            play.final("")
    assert [order.split()[-1] for order in asked[:3]] == ["still_there", "still_there", "goodbye"]
    assert play.state.at < 60_000


def test_words_make_it_patient_anew() -> None:
    play = greeted()
    play.wait(8_000)
    play.spoken("mm", ms=200)
    play.wait(200)
    play.final("")
    play.rows((8_999, None, "LISTENING", []), (1, None, "THINKING", ["Say 2 still_there"]))


def test_a_noisy_line_is_not_listened_to_for_ever() -> None:
    """The gate stands open for a whole utterance and there is no word in it."""
    play = greeted()
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (20_000, None, "LISTENING", ["FinishUtterance 1"]),
        (50, ev.TranscriptFinal(1, ""), "THINKING", ["Say 2 please_repeat"]),
    )


def test_a_question_into_a_noisy_line_is_answered_although_the_gate_stays_open() -> None:
    play = greeted()
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (3_000, ev.TranscriptPartial(1, "what are the fees"), "LISTENING", []),
        (17_000, None, "LISTENING", ["FinishUtterance 1"]),
        (50, ev.TranscriptFinal(1, "what are the fees"), "LISTENING", []),
        (19_950, None, "LISTENING", ["FinishUtterance 2"]),
        (50, ev.TranscriptFinal(2, ""), "THINKING", TURN_2),
    )
    assert play.history[-1] == "user: what are the fees"
