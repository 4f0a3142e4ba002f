"""The conversation's language: detections in a row, the caller's own choice, and what a turn is held in."""

from __future__ import annotations

import msgspec
import pytest
from by_hand import POLICY, Play, greeted
from hypothesis import given
from hypothesis import strategies as st

from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.language import HISTORY, Switch, Tongue, choose, detect
from antiphon.kernel.policy import Policy, encode_policy

TAGS = ("en-IN", "te-IN", "hi-IN")
SPEAKING = msgspec.structs.replace(
    POLICY,
    languages=TAGS,
    language_requests={"te-IN": ("speak in telugu", "తెలుగులో మాట్లాడండి"), "hi-IN": ("in hindi please",)},
)


def told(tongue: Tongue, *tags: str, switches: int = 2, min_turns: int = 1, unlock: int = 2) -> list[Switch | None]:
    return [detect(tongue, tag, switches=switches, min_turns=min_turns, unlock=unlock) for tag in tags]


def test_one_sentence_in_another_language_changes_nothing() -> None:
    tongue = Tongue("en-IN")
    assert told(tongue, "te-IN", "en-IN", "te-IN") == [None, None, None]
    assert (tongue.selected, tongue.in_a_row, tongue.different) == ("en-IN", 1, "te-IN")


def test_two_in_a_row_do() -> None:
    tongue = Tongue("en-IN")
    assert told(tongue, "te-IN", "te-IN") == [None, Switch("te-IN", "en-IN", "detected")]
    assert (tongue.selected, tongue.in_a_row) == ("te-IN", 0)


def test_two_of_different_others_do_not() -> None:
    assert told(Tongue("en-IN"), "te-IN", "hi-IN", "te-IN") == [None, None, None]


def test_not_before_so_many_turns() -> None:
    tongue = Tongue("en-IN")
    assert told(tongue, "te-IN", "te-IN", "te-IN", min_turns=3)[-1] == Switch("te-IN", "en-IN", "detected")
    assert tongue.turns == 3


def test_what_the_caller_chose_takes_more_to_leave() -> None:
    tongue = Tongue("en-IN")
    assert choose(tongue, "hi-IN") == Switch("hi-IN", "en-IN", "chosen")
    assert told(tongue, "te-IN", switches=1, unlock=2) == [None]
    assert told(tongue, "te-IN", switches=1, unlock=2) == [Switch("te-IN", "hi-IN", "detected")]
    assert not tongue.locked
    assert told(tongue, "en-IN", switches=1, unlock=2) == [Switch("en-IN", "te-IN", "detected")]


def test_choosing_what_is_spoken_already_is_no_switch_but_locks() -> None:
    tongue = Tongue("en-IN")
    assert choose(tongue, "en-IN") is None
    assert tongue.locked


@given(st.lists(st.sampled_from(TAGS), max_size=40), st.integers(1, 5), st.integers(0, 5), st.integers(0, 5))
def test_a_switch_needs_as_many_in_a_row(tags: list[str], switches: int, min_turns: int, unlock: int) -> None:
    tongue = Tongue("en-IN")
    for at, tag in enumerate(tags):
        before = tongue.selected
        switch = detect(tongue, tag, switches=switches, min_turns=min_turns, unlock=unlock)
        assert len(tongue.history) <= HISTORY
        assert (switch is not None) == (tongue.selected != before)
        if switch is not None:
            assert at + 1 >= min_turns
            assert tags[at + 1 - switches : at + 1] == [tag] * switches


# -- in a call ----------------------------------------------------------------------------------


def says(play: Play, text: str, language: str, sure: float = 0.9) -> list[str]:
    """One turn of the caller, answered."""
    play.spoken(text)
    play.wait(play.policy.endpoint_ms - 200)
    orders = play.tell(ev.TranscriptFinal(play.state.awaited, text, language, 0.9, "stt", sure, "stt"))
    if "Classify" in " ".join(orders):
        play.understood()
    play.heard("An answer.")
    return orders


def languages(play: Play) -> list[str]:
    """What each reply was ordered in."""
    return [order.language for order in play.orders if isinstance(order, cmd.StartReply)]


def test_the_second_turn_in_another_language_is_answered_in_it() -> None:
    play = greeted(SPEAKING)
    says(play, "what are the fees", "en-IN")
    assert "SetLanguage" not in " ".join(says(play, "ఫీజు ఎంత", "te-IN"))
    assert says(play, "హాస్టల్ ఉందా", "te-IN") == ["SetLanguage 4", "Classify 4", "Retrieve 4"]
    assert languages(play) == ["en-IN", "en-IN", "te-IN"]
    switch = next(order for order in play.orders if isinstance(order, cmd.SetLanguage))
    assert (switch.language, switch.previous, switch.reason) == ("te-IN", "en-IN", "detected")
    assert [message.language for message in play.state.history[-2:]] == ["te-IN", "te-IN"]


def test_all_work_of_a_turn_is_in_its_language() -> None:
    play = greeted(SPEAKING)
    for text in ("ఫీజు ఎంత", "హాస్టల్ ఉందా"):
        says(play, text, "te-IN")
    work = [o for o in play.orders if isinstance(o, cmd.Classify | cmd.Retrieve | cmd.StartReply) and o.turn == 3]
    assert {order.language for order in work} == {"te-IN"}


def test_a_detection_in_doubt_or_of_a_language_not_offered_says_nothing() -> None:
    play = greeted(SPEAKING)
    for language, sure in (("te-IN", 0.49), ("te-IN", 0.0), ("fr-FR", 1.0), ("", 1.0)) * 2:
        says(play, "something", language, sure)
    assert play.state.tongue.history == []
    assert set(languages(play)) == {"en-IN"}


def test_the_last_telling_piece_of_a_turn_counts() -> None:
    play = greeted(SPEAKING)
    for _ in range(2):
        play.spoken("so")
        play.wait(play.policy.endpoint_ms - 200)
        play.tell(ev.SpeechStarted())
        play.tell(ev.TranscriptFinal(play.state.awaited, "so", "en-IN", 0.9, "stt", 0.9, "stt"))
        play.wait(300)
        play.tell(ev.SpeechStopped(0, 200))
        play.wait(play.policy.endpoint_ms - 200)
        play.tell(ev.TranscriptFinal(play.state.awaited, "ఫీజు ఎంత", "te-IN", 0.9, "stt", 0.9, "stt"))
        play.understood()
        play.heard("An answer.")
    assert languages(play) == ["en-IN", "te-IN"]


@pytest.mark.parametrize("text", ["please speak in Telugu", "తెలుగులో మాట్లాడండి", "Could you speak in Telugu?"])
def test_a_caller_who_asks_for_a_language_gets_it_at_once(text: str) -> None:
    play = greeted(SPEAKING)
    assert says(play, text, "en-IN") == ["SetLanguage 2", "Say 2 language_switched"]
    say = play.orders[-1]
    assert isinstance(say, cmd.Say)
    assert say.language == "te-IN"
    assert play.state.tongue.locked
    says(play, "ఫీజు ఎంత", "te-IN")
    assert languages(play) == ["te-IN"]


def test_a_long_sentence_about_a_language_asks_for_none() -> None:
    play = greeted(SPEAKING)
    question = "do the teachers of the evening classes speak in telugu or do they teach in english"
    assert says(play, question, "en-IN")[0] == "Classify 2"


def test_a_language_chosen_in_the_menu_is_locked() -> None:
    play = Play(SPEAKING, begin=False)
    policy = encode_policy(SPEAKING)
    play.tell(ev.SessionStarted("s1", "test", "hi-IN", policy, language_by="chosen"))
    assert (play.state.language, play.state.tongue.locked) == ("hi-IN", True)


def test_typed_text_tells_a_language_too() -> None:
    play = greeted(SPEAKING)
    for _ in range(2):
        play.tell(ev.TextTyped("ఫీజు ఎంత", "te-IN", 1.0))
        play.understood()
        play.heard("An answer.")
    assert languages(play) == ["en-IN", "te-IN"]


def test_a_confidence_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="language_confidence"):
        Policy(language_confidence=0.0)
