"""Answers begun before their question is confirmed (DESIGN rule 9), and the rungs of the ladder below an answer."""

from __future__ import annotations

import msgspec
import pytest
from by_hand import POLICY, Play, greeted

from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.policy import Policy

AHEAD = msgspec.structs.replace(
    POLICY,
    speculate=True,
    speculations=2,
    languages=("en-IN", "te-IN"),
    language_switches=1,
    language_requests={"te-IN": ("speak in telugu",)},
)
QUESTION = "what are the fees"


def silent(text: str = QUESTION, policy: Policy = AHEAD) -> Play:
    """The caller said so, and is silent; nothing is confirmed."""
    play = greeted(policy)
    play.spoken(text)
    return play


def ahead(play: Play) -> list[str]:
    """What was ordered of it so far, in short: the words, or "dropped"."""
    return [
        order.text if isinstance(order, cmd.Speculate) else "dropped"
        for order in play.orders
        if isinstance(order, (cmd.Speculate, cmd.DropSpeculation))
    ]


def goes_on(play: Play, partial: str) -> None:
    """The caller says more before their turn was over, and is silent again. What they said before is confirmed."""
    play.tell(ev.SpeechStarted())
    play.final(play.state.last_partial)
    play.wait(300)
    play.tell(ev.TranscriptPartial(play.state.utterance, partial))
    play.wait(300)
    play.tell(ev.SpeechStopped(0, 200))


# -- when it is begun ---------------------------------------------------------------------------------


def test_silence_after_words_that_can_be_all_begins_the_answer_to_them() -> None:
    play = greeted(AHEAD)
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (400, ev.TranscriptPartial(1, QUESTION), "LISTENING", []),
        (400, ev.SpeechStopped(0, 200), "LISTENING", ["Speculate 2", "FinishUtterance 1"]),
        (200, None, "LISTENING", []),
        (50, ev.TranscriptFinal(1, QUESTION), "THINKING", ["Classify 2", "Retrieve 2"]),
        (10, ev.IntentReady(2, "fees"), "THINKING", []),
        (0, ev.PassagesReady(2), "THINKING", ["StartReply 2 full"]),
    )
    assert play.orders[1] == cmd.Speculate(2, QUESTION, "en-IN")
    assert play.state.speculated == ""


def test_words_that_come_after_the_silence_began_count_too() -> None:
    play = greeted(AHEAD)
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (800, ev.SpeechStopped(0, 200), "LISTENING", []),
        (50, ev.TranscriptPartial(1, QUESTION), "LISTENING", ["Speculate 2"]),
    )


def test_settled_words_are_answered_before_it_is_said_that_they_are_all() -> None:
    play = greeted(AHEAD)
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (200, ev.TranscriptPartial(1, "what are"), "LISTENING", []),
        (200, ev.TranscriptPartial(1, QUESTION), "LISTENING", []),
        (50, ev.TranscriptPartial(1, QUESTION, settled=True), "LISTENING", ["Speculate 2"]),
        (120, ev.SpeechStopped(turn_over=True), "LISTENING", ["FinishUtterance 1"]),
        (0, ev.TranscriptFinal(1, QUESTION), "THINKING", ["Classify 2", "Retrieve 2"]),
    )


def test_words_behind_the_settled_ones_drop_it() -> None:
    play = greeted(AHEAD)
    play.tell(ev.SpeechStarted())
    play.tell(ev.TranscriptPartial(1, QUESTION, settled=True))
    play.tell(ev.TranscriptPartial(1, f"{QUESTION} for law"))
    assert ahead(play) == [QUESTION, "dropped"]
    play.tell(ev.TranscriptPartial(1, f"{QUESTION} for law", settled=True))
    assert ahead(play)[2:] == [f"{QUESTION} for law"]


def test_what_was_understood_before_belongs_to_it() -> None:
    play = silent("i want to know", msgspec.structs.replace(AHEAD, speculations=9))
    play.wait(200)
    play.tell(ev.SpeechStarted())
    play.final("I want to know")  # the caller is going on
    play.tell(ev.TranscriptPartial(2, "the fees"))
    play.tell(ev.SpeechStopped(0, 200))
    assert ahead(play) == ["i want to know", "dropped", "I want to know the fees"]


@pytest.mark.parametrize("text", ["what are the fees and", "what are the fees,", "what are ...", ""])
def test_words_that_nobody_ends_with_are_not_answered(text: str) -> None:
    assert ahead(silent(text)) == []


def test_asking_for_another_language_is_no_question() -> None:
    play = silent("please speak in telugu")
    play.wait(200)
    play.final("Please speak in Telugu.")
    assert ahead(play) == []
    assert play.state.language == "te-IN"


def test_the_policy_may_forbid_it() -> None:
    assert ahead(silent(policy=POLICY)) == []
    assert ahead(silent(policy=msgspec.structs.replace(AHEAD, speculations=0))) == []


def test_while_the_agent_speaks_nothing_is_begun() -> None:
    play = greeted(AHEAD)
    play.answering()
    before = ahead(play)
    play.tell(ev.SpeechStarted())
    play.tell(ev.TranscriptPartial(play.state.utterance, "mm-hm"))
    play.tell(ev.SpeechStopped(0, 200))
    assert ahead(play) == before


# -- while the gate is open ----------------------------------------------------------------------------


def pauses(text: str = QUESTION, utterance: int = 1) -> ev.TranscriptPartial:
    return ev.TranscriptPartial(utterance, text, again=True)


def test_words_told_again_in_a_pause_are_answered_before_the_gate_closes() -> None:
    play = greeted(AHEAD)
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (400, ev.TranscriptPartial(1, QUESTION), "LISTENING", []),
        (100, pauses(), "LISTENING", ["Speculate 2"]),
        (200, ev.SpeechStopped(0, 240), "LISTENING", ["FinishUtterance 1"]),
        (159, None, "LISTENING", []),
        (10, ev.TranscriptFinal(1, QUESTION), "THINKING", ["Classify 2", "Retrieve 2"]),
    )


def test_a_pause_behind_words_that_nobody_ends_with_begins_nothing() -> None:
    play = greeted(AHEAD)
    play.tell(ev.SpeechStarted())
    play.tell(ev.TranscriptPartial(1, "what are the fees and"))
    assert play.tell(pauses("what are the fees and")) == []


@pytest.mark.parametrize(("most", "in_pauses"), [(0, 0), (1, 1), (2, 1), (3, 2)])
def test_of_several_the_last_is_kept_for_the_silence(most: int, in_pauses: int) -> None:
    play = greeted(msgspec.structs.replace(AHEAD, speculations=most))
    play.tell(ev.SpeechStarted())
    for count in range(1, 6):
        text = " ".join(["fees"] * count)
        play.tell(ev.TranscriptPartial(1, text))
        play.tell(pauses(text))
    assert sum(what != "dropped" for what in ahead(play)) == in_pauses
    play.tell(ev.SpeechStopped(0, 200))
    assert sum(what != "dropped" for what in ahead(play)) == most


def test_words_from_outside_may_use_all_of_them() -> None:
    play = greeted(AHEAD)
    play.tell(ev.SpeechStarted())
    for text in (QUESTION, f"{QUESTION} for law", f"{QUESTION} for law now"):
        play.tell(ev.TranscriptPartial(1, text, settled=True))
    assert ahead(play) == [QUESTION, "dropped", f"{QUESTION} for law", "dropped"]


def test_words_told_again_are_no_more_certain_and_interrupt_nobody() -> None:
    play = greeted(AHEAD)
    play.answering()
    play.tell(ev.SpeechStarted())
    now = play.state.utterance
    play.tell(ev.TranscriptPartial(now, "stop"))
    assert play.tell(pauses("stop", now)) == []
    assert play.session.stale
    assert play.floor == "INTERRUPT"
    play.tell(ev.TranscriptPartial(now, "stop"))
    assert play.floor == "LISTENING"


# -- while the voice goes on ---------------------------------------------------------------------------

IN_SPEECH = msgspec.structs.replace(AHEAD, speculations=4, speculations_in_speech=2)


def speaks(*partials: str, policy: Policy = IN_SPEECH) -> Play:
    """The caller says more and more, and goes on speaking."""
    play = greeted(policy)
    play.tell(ev.SpeechStarted())
    for text in partials:
        play.wait(300)
        play.tell(ev.TranscriptPartial(play.state.utterance, text))
    return play


def test_words_that_sound_complete_are_answered_as_they_come() -> None:
    play = greeted(IN_SPEECH)
    play.rows(
        (0, ev.SpeechStarted(), "LISTENING", []),
        (300, ev.TranscriptPartial(1, "because"), "LISTENING", []),
        (300, ev.TranscriptPartial(1, QUESTION), "LISTENING", ["Speculate 2"]),
        (30, ev.TranscriptPartial(1, "What are the fees?"), "LISTENING", []),
        (70, pauses(), "LISTENING", []),
        (200, ev.SpeechStopped(0, 240), "LISTENING", ["FinishUtterance 1"]),
        (159, None, "LISTENING", []),
        (10, ev.TranscriptFinal(1, QUESTION), "THINKING", ["Classify 2", "Retrieve 2"]),
    )
    assert ahead(play) == [QUESTION]


def test_every_further_word_drops_what_was_begun_without_it() -> None:
    play = speaks(QUESTION, f"{QUESTION} and")
    assert ahead(play) == [QUESTION, "dropped"]
    play.tell(ev.TranscriptPartial(1, f"{QUESTION} and dates"))
    assert ahead(play)[2:] == [f"{QUESTION} and dates"]


@pytest.mark.parametrize(
    ("most", "in_speech", "begun"),
    [(4, 0, 0), (4, 1, 1), (4, 2, 2), (4, 9, 2), (3, 2, 1), (2, 2, 0), (1, 1, 0), (0, 2, 0)],
)
def test_words_behind_which_there_is_no_pause_get_only_some_of_them(most: int, in_speech: int, begun: int) -> None:
    policy = msgspec.structs.replace(AHEAD, speculations=most, speculations_in_speech=in_speech)
    play = speaks(*(" ".join(["fees"] * count) for count in range(1, 8)), policy=policy)
    assert sum(what != "dropped" for what in ahead(play)) == begun
    play.tell(ev.SpeechStopped(0, 200))
    assert sum(what != "dropped" for what in ahead(play)) == min(begun + 1, most)


def test_a_long_question_is_answered_in_the_first_pause_and_when_the_gate_closes_as_if_none_had_been_begun() -> None:
    play = speaks("i want", "i want details", "i want details please", "i want details please sir")
    assert ahead(play) == ["i want", "dropped", "i want details", "dropped"]
    play.tell(pauses("i want details please sir"))
    assert ahead(play)[4:] == ["i want details please sir"]
    play.tell(ev.TranscriptPartial(1, f"i want details please sir {QUESTION}"))
    play.tell(ev.SpeechStopped(0, 200))
    assert ahead(play)[5:] == ["dropped", f"i want details please sir {QUESTION}"]


def test_a_breath_before_any_word_begins_nothing_for_the_words_before_it() -> None:
    """They go on, or breathe: what was said before is not all, or is being answered already."""
    play = greeted(IN_SPEECH)
    play.spoken("what are the fees and")
    assert play.wait(700) == ["FinishUtterance 1"]
    play.tell(ev.SpeechStarted())
    for heard in (ev.TranscriptPartial(1, QUESTION), ev.TranscriptFinal(1, QUESTION), ev.TranscriptPartial(2, " ")):
        play.tell(heard)
    assert ahead(play) == []
    play.tell(ev.TranscriptPartial(2, "for law"))
    assert ahead(play) == [f"{QUESTION} for law"]


def test_words_over_the_agents_voice_begin_nothing_before_they_have_the_floor() -> None:
    play = greeted(IN_SPEECH)
    play.answering()
    before = len(ahead(play))
    play.tell(ev.SpeechStarted())
    now = play.state.utterance
    play.tell(ev.TranscriptPartial(now, "stop"))
    play.tell(ev.TranscriptPartial(now, "stop that"))
    assert (play.floor, ahead(play)[before:]) == ("LISTENING", [])
    play.tell(ev.TranscriptPartial(now, "stop that please"))
    assert ahead(play)[before:] == ["stop that please"]


# -- the final, asked for ahead ------------------------------------------------------------------------


def test_a_final_before_the_silence_has_lasted_waits_for_it() -> None:
    play = silent()
    play.rows(
        (50, ev.TranscriptFinal(1, QUESTION), "LISTENING", []),
        (149, None, "LISTENING", []),
        (1, None, "THINKING", ["Classify 2", "Retrieve 2"]),
    )


def test_a_final_with_other_words_is_answered_instead() -> None:
    play = silent()
    play.rows(
        (50, ev.TranscriptFinal(1, "what are the dates"), "LISTENING", ["DropSpeculation", "Speculate 2"]),
        (150, None, "THINKING", ["Classify 2", "Retrieve 2"]),
    )


def test_a_final_that_sounds_unfinished_is_waited_behind_for_longer() -> None:
    play = silent()
    play.rows(
        (50, ev.TranscriptFinal(1, "what are the fees and"), "LISTENING", ["DropSpeculation"]),
        (649, None, "LISTENING", []),
        (1, None, "THINKING", ["Classify 2", "Retrieve 2"]),
    )


def test_a_caller_who_goes_on_after_the_final_has_said_one_question() -> None:
    play = silent()
    play.tell(ev.TranscriptFinal(1, QUESTION))
    play.rows(
        (100, ev.SpeechStarted(), "LISTENING", []),
        (5_000, ev.TranscriptPartial(2, "for law"), "LISTENING", ["DropSpeculation"]),
        (300, ev.SpeechStopped(0, 200), "LISTENING", ["Speculate 2"]),
        (200, ev.TranscriptFinal(2, "for law"), "THINKING", ["FinishUtterance 2", "Classify 2", "Retrieve 2"]),
    )
    assert play.history[-1] == f"user: {QUESTION} for law"


@pytest.mark.parametrize(("took", "then"), [((0,), 200), ((30,), 170), ((100, 50), 125), ((150, 250), 0)])
def test_it_is_asked_for_as_early_as_finals_have_shown_to_need(took: tuple[int, ...], then: int) -> None:
    """What is said after it is another utterance, and understood without the first: that is not risked for nothing."""
    play = greeted(AHEAD)
    for ms in took:
        play.spoken(QUESTION)
        play.wait(0 if play.state.awaited else play.state.deadlines.get("ahead", play.now) - play.now)
        play.wait(ms)
        play.final(QUESTION)
        play.wait(400)
        play.understood()
        play.heard("Two lakh.")
    play.spoken(QUESTION)
    before = play.wait(max(0, then - 1))
    assert (before, play.state.awaited == 0) == ([], then > 0)
    play.wait(1)
    assert play.state.awaited


def test_one_final_is_owed_at_a_time() -> None:
    """A slow transcriber would be cut off by the next utterance, and its words taken from a partial."""
    play = silent()
    play.rows(
        (50, ev.SpeechStarted(), "LISTENING", []),
        (200, ev.TranscriptPartial(2, "for law"), "LISTENING", ["DropSpeculation"]),
        (250, ev.SpeechStopped(0, 200), "LISTENING", ["Speculate 2"]),
        (100, ev.TranscriptFinal(1, QUESTION), "LISTENING", []),
        (100, None, "LISTENING", ["FinishUtterance 2"]),
    )


def test_a_breath_within_the_silence_is_waited_out() -> None:
    play = silent()
    play.rows(
        (50, ev.SpeechStarted(), "LISTENING", []),
        (50, ev.TranscriptFinal(1, QUESTION), "LISTENING", []),
        (300, ev.SpeechStopped(0, 200), "LISTENING", []),
        (200, None, "LISTENING", ["FinishUtterance 2"]),
        (300, ev.TranscriptFinal(2, ""), "THINKING", ["Classify 2", "Retrieve 2"]),
    )
    assert ahead(play) == [QUESTION]


def test_a_blank_final_before_the_silence_has_lasted_is_asked_about_only_then() -> None:
    play = silent()
    play.rows(
        (50, ev.TranscriptFinal(1, ""), "LISTENING", ["DropSpeculation"]),
        (149, None, "LISTENING", []),
        (1, None, "THINKING", ["Say 2 please_repeat"]),
    )


def test_a_short_noise_taken_for_a_word_is_nothing() -> None:
    play = greeted(AHEAD)
    play.spoken("fees", ms=200)
    play.rows(
        (50, ev.TranscriptFinal(1, ""), "LISTENING", ["DropSpeculation"]),
        (150, None, "LISTENING", []),
    )
    assert set(play.state.deadlines) == {"silence"}


def test_a_transcriber_that_fails_before_the_silence_has_lasted_leaves_its_words() -> None:
    play = silent()
    play.rows(
        (50, ev.TranscriptionFailed(1, "stt.lost"), "LISTENING", []),
        (150, None, "THINKING", ["Classify 2", "Retrieve 2"]),
    )
    assert play.history[-1] == f"user: {QUESTION}"


def test_a_long_wait_for_the_silence_is_no_reason_for_a_filler() -> None:
    play = silent(policy=msgspec.structs.replace(AHEAD, endpoint_ms=2_000))
    assert play.wait(1_499) == []
    assert play.wait(1) == ["FinishUtterance 1"]
    assert play.wait(299 + POLICY.refill_ms) == []
    assert play.wait(1) == ["DropSpeculation", "Say 2 filler"]


def test_a_final_that_is_late_is_covered_as_before() -> None:
    play = silent()
    assert play.wait(699) == []
    assert play.wait(1) == ["DropSpeculation", "Say 2 filler"]
    assert play.final(QUESTION) == ["Speculate 3"]


def test_later_words_of_the_utterance_that_is_awaited_still_count() -> None:
    play = silent("what are the fees", msgspec.structs.replace(AHEAD, endpoint_ms=600, final_expected_ms=600))
    play.rows(
        (50, ev.TranscriptPartial(1, "what are the fees for law"), "LISTENING", ["DropSpeculation", "Speculate 2"]),
        (300, ev.TranscriptFinal(1, "What are the fees for law?"), "LISTENING", []),
        (50, None, "THINKING", ["Classify 2", "Retrieve 2"]),
    )


def test_words_that_come_in_the_silence_may_be_of_a_caller_who_goes_on() -> None:
    """Their gate is not open yet: the silence that the words ask for is over, and nothing may be confirmed."""
    play = greeted(AHEAD)
    play.spoken("what are the fees and")
    play.rows(
        (500, ev.TranscriptPartial(1, QUESTION + " and hostel"), "LISTENING", ["Speculate 2"]),
        (100, ev.SpeechStarted(), "LISTENING", []),
    )
    assert "endpoint" not in play.state.deadlines
    waits = greeted(AHEAD)
    waits.spoken("what are the fees and")
    waits.rows(
        (500, ev.TranscriptPartial(1, QUESTION), "LISTENING", ["Speculate 2"]),
        (149, ev.TranscriptPartial(1, "What are the fees?"), "LISTENING", []),
        (1, None, "LISTENING", ["FinishUtterance 1"]),
    )


# -- when it is kept, and when not --------------------------------------------------------------------


@pytest.mark.parametrize("final", [QUESTION, "What are the fees?", "WHAT, are the: fees!"])
def test_the_same_words_keep_it(final: str) -> None:
    play = silent()
    play.wait(200)
    play.final(final)
    assert play.floor == "THINKING"
    assert ahead(play) == [QUESTION]


@pytest.mark.parametrize("final", ["what are the dates", "what are the fees for law", "fees", "what are fees"])
def test_other_words_drop_it_before_anything_else_is_ordered(final: str) -> None:
    play = silent()
    play.wait(200)
    assert play.final(final) == ["DropSpeculation", "Classify 2", "Retrieve 2"]


def test_a_final_that_never_comes_confirms_the_words_that_were_taken_for_it() -> None:
    play = silent()
    play.wait(200)
    assert play.tell(ev.TranscriptionFailed(1, "stt.lost")) == ["Classify 2", "Retrieve 2"]
    assert ahead(play) == [QUESTION]


def test_a_partial_that_says_the_same_keeps_it_and_one_that_does_not_begins_another() -> None:
    play = silent()
    play.rows(
        (50, ev.TranscriptPartial(1, "What are the fees?"), "LISTENING", []),
        (50, ev.TranscriptPartial(1, "what are the fees now"), "LISTENING", ["DropSpeculation", "Speculate 2"]),
    )
    assert ahead(play) == [QUESTION, "dropped", "what are the fees now"]


def test_a_caller_who_goes_on_gets_the_answer_to_all_of_it() -> None:
    play = silent()
    goes_on(play, "for the mba")
    assert ahead(play) == [QUESTION, "dropped", "what are the fees for the mba"]
    assert [order.turn for order in play.orders if isinstance(order, cmd.Speculate)] == [2, 2]
    play.wait(200)
    assert play.final("for the MBA?") == ["Classify 2", "Retrieve 2"]
    assert play.history[-1] == "user: what are the fees for the MBA?"


def test_a_caller_who_goes_on_drops_it_with_the_first_other_word_not_with_a_breath() -> None:
    play = silent()
    play.rows(
        (50, ev.SpeechStarted(), "LISTENING", []),
        (100, ev.TranscriptPartial(1, "What are the fees?"), "LISTENING", []),
        (100, ev.TranscriptPartial(2, ""), "LISTENING", []),
        (100, ev.TranscriptPartial(2, "for"), "LISTENING", ["DropSpeculation"]),
    )


def test_in_one_turn_it_is_begun_so_often_and_in_the_next_again() -> None:
    play = silent()
    goes_on(play, "for the mba")
    goes_on(play, "in law")
    assert ahead(play) == [QUESTION, "dropped", "what are the fees for the mba", "dropped"]
    play.wait(200)
    play.final("in law")
    play.understood()
    play.heard("Two lakh.")
    play.spoken("and the hostel")
    assert ahead(play)[-1] == "and the hostel"


@pytest.mark.parametrize("before", ["a phrase", "another language"])
def test_what_was_begun_in_vain_is_not_counted_against_the_next_turn(before: str) -> None:
    play = silent()
    play.tell(ev.TranscriptPartial(1, "speak in telu"))
    assert ahead(play)[-1] == "speak in telu"
    play.wait(200)
    play.final("speak in telugu" if before == "another language" else "")
    assert play.state.reply is not None
    assert play.state.reply.purpose == ("language_switched" if before == "another language" else "please_repeat")
    play.heard("A phrase.", kind=play.state.reply.purpose)
    count = len(ahead(play))
    play.spoken(QUESTION)
    play.tell(ev.TranscriptPartial(play.state.awaited, "what are the dates"))
    assert ahead(play)[count:] == [QUESTION, "dropped", "what are the dates"]


def test_a_turn_in_another_language_is_answered_in_that_one() -> None:
    play = silent()
    play.wait(200)
    told = play.tell(ev.TranscriptFinal(1, QUESTION, "te-IN", 0.9, language_confidence=0.9))
    assert told == ["SetLanguage 2", "DropSpeculation", "Classify 2", "Retrieve 2"]


def test_keys_drop_it() -> None:
    play = silent()
    play.tell(ev.DigitPressed("4"))
    play.wait(AHEAD.digits_ms)
    assert ahead(play) == [QUESTION, "dropped"]
    assert play.history[-1] == "user: 4"


def test_a_final_among_the_keys_gives_nobody_more_time_for_the_next_key() -> None:
    play = silent()
    play.tell(ev.DigitPressed("4"))
    play.wait(AHEAD.digits_ms - 1)  # in which neither a filler is said nor the floor is taken
    assert play.floor == "LISTENING"
    play.wait(1)
    assert play.floor == "THINKING"


def test_while_keys_are_pressed_nothing_is_begun() -> None:
    play = greeted(AHEAD)
    play.tell(ev.DigitPressed("4"))
    play.spoken(QUESTION)
    assert ahead(play) == []


def test_a_written_question_drops_it() -> None:
    play = silent()
    play.tell(ev.TextTyped("the dates, please"))
    assert ahead(play) == [QUESTION, "dropped"]


def test_a_phrase_drops_it() -> None:
    """What was said turns out to be nothing: the caller is asked to say it again."""
    play = silent()
    play.wait(200)
    assert play.final("") == ["DropSpeculation", "Say 2 please_repeat"]


@pytest.mark.parametrize("event", [ev.LineDropped("line.lost"), ev.CallerHungUp("caller")])
def test_a_line_that_ends_drops_it(event: ev.AnyEvent) -> None:
    play = silent()
    play.tell(event)
    assert ahead(play) == [QUESTION, "dropped"]
    assert play.state.speculated == ""


def test_it_is_dropped_once() -> None:
    play = silent()
    play.wait(200)
    play.final("what are the dates")
    play.tell(ev.LineDropped("line.lost"))
    assert ahead(play) == [QUESTION, "dropped"]


def test_what_became_of_it_changes_nothing() -> None:
    play = silent()
    before = msgspec.msgpack.encode(play.state)
    assert play.tell(ev.SpeculationEnded(2, "dropped", 120, 900, "llm")) == []
    play.state.seq -= 1
    assert msgspec.msgpack.encode(play.state) == before


# -- the rungs below ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fallbacks", "tiers"),
    [
        (0, ["full", "degraded"]),
        (1, ["full", "fallback", "degraded"]),
        (3, ["full", "fallback", "fallback", "fallback", "degraded"]),
    ],
)
def test_each_further_provider_is_a_rung_and_the_passages_are_the_last(fallbacks: int, tiers: list[str]) -> None:
    play = greeted(msgspec.structs.replace(POLICY, fallbacks=fallbacks))
    turn = play.asked()
    play.understood()
    for attempt in range(1, len(tiers) + 1):
        play.tell(ev.StageFailed(turn, attempt, "llm", "llm.down", "llm"))
    assert [order.tier for order in play.orders if isinstance(order, cmd.StartReply)] == tiers
    assert [order.attempt for order in play.orders if isinstance(order, cmd.AbandonAttempt)] == list(
        range(1, len(tiers) + 1)
    )
    assert isinstance(play.orders[-1], cmd.Say)
    assert play.orders[-1].phrase == "apology"


@pytest.mark.parametrize("fallbacks", [0, 1, 3])
def test_however_many_there_are_a_turn_that_hears_nothing_comes_to_its_end(fallbacks: int) -> None:
    policy = msgspec.structs.replace(POLICY, fallbacks=fallbacks)
    play = greeted(policy)
    play.asked()
    play.understood()
    play.wait((fallbacks + 2) * policy.reply_ms)
    assert [order.phrase for order in play.orders if isinstance(order, cmd.Say)][-1] == "apology"
