"""The agent's own words, come back from a speakerphone: they take no floor, and the caller's over them do."""

from __future__ import annotations

import pytest
from by_hand import Play, greeted
from hypothesis import given
from hypothesis import strategies as st

from antiphon.kernel import events as ev
from antiphon.kernel.interruption import OWN_IN_FINAL, without_own

SAID = ("You can pay the fee in four parts.", "The first is due in July.", "Would you like hostel fees, too?")


def paused() -> Play:
    """The second segment is being heard when somebody speaks."""
    play = greeted()
    assert play.answering(SAID[0]) == 2
    play.tell(ev.SegmentReady(2, 1, 1, SAID[1]))
    play.tell(ev.SegmentPlayed(2, 0))
    play.tell(ev.SegmentStarted(2, 1))
    play.tell(ev.SegmentReady(2, 1, 2, SAID[2]))
    play.tell(ev.ReplyGenerated(2, 1, 3))
    play.wait(300)
    play.rows((0, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]))
    return play


def test_an_echo_that_was_let_through_pauses_and_no_more() -> None:
    play = paused()
    play.rows(
        (200, ev.TranscriptPartial(2, "four parts"), "INTERRUPT", []),
        (100, ev.TranscriptPartial(2, "four parts the first"), "INTERRUPT", []),
        (100, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (100, ev.TranscriptFinal(2, "four parts the first is"), "SPEAKING", ["ResumePlayout 2"]),
    )


@pytest.mark.parametrize("said", ["no the first is too soon", "wait what about the hostel"])
def test_the_callers_words_count_whatever_stands_beside_them(said: str) -> None:
    play = paused()
    play.rows((300, ev.TranscriptPartial(2, said), "LISTENING", ["CancelReply 2"]))


def test_one_of_its_words_beside_a_murmur_is_the_callers() -> None:
    play = paused()
    play.rows(
        (300, ev.SpeechStopped(0, 200), "INTERRUPT", ["FinishUtterance 2"]),
        (100, ev.TranscriptFinal(2, "ok, parts"), "LISTENING", ["CancelReply 2"]),
    )


def test_what_it_has_not_begun_to_say_is_not_its_own() -> None:
    play = paused()
    play.rows((300, ev.TranscriptPartial(2, "would you like"), "LISTENING", ["CancelReply 2"]))


def slowly_without_own(words: tuple[str, ...], own: tuple[str, ...], run: int) -> tuple[str, ...]:
    """The same rule, tried at every place."""
    left: list[str] = []
    at = 0
    while at < len(words):
        runs = [
            size
            for size in range(run, len(words) - at + 1)
            for start in range(len(own) - size + 1)
            if words[at : at + size] == own[start : start + size]
        ]
        if not runs:
            left.append(words[at])
        at += max(runs, default=1)
    return tuple(left)


WORDS = st.lists(st.sampled_from("abcd"), max_size=12).map(tuple)


@given(words=WORDS, own=WORDS, run=st.integers(2, 3))
def test_the_longest_run_is_taken_away(words: tuple[str, ...], own: tuple[str, ...], run: int) -> None:
    assert without_own(words, own, run) == slowly_without_own(words, own, run)


def test_the_work_grows_with_the_words_and_not_with_their_cube() -> None:
    class Counted(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__eq__(self, other)

        def __ne__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__ne__(self, other)

    words, own = (tuple(Counted(word) for word in many) for many in (["x", "a", "b"] * 700, ["a", "b", "c"] * 50))
    without_own(words, own, OWN_IN_FINAL)
    assert Counted.compared < 50 * len(words)
