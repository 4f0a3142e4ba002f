"""The ear of a line that brings words: which edges and transcripts its fragments become. On virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from antiphon.kernel import events as ev
from antiphon.language_id import Guess
from antiphon.runtime.words import LATE_WORDS_S, OUTSIDE, QUIET_S, WordsEar
from antiphon.sim.clock import run


class Sound:
    """An ear for sound that writes down what it is told."""

    def __init__(self, language: str, first: int) -> None:
        self.made = (language, first)
        self.told: list[Any] = []

    def on_audio(self, audio: bytes) -> None:
        self.told.append(audio)

    def finish(self, utterance: int) -> None:
        self.told.append(utterance)

    def hint(self, language: str) -> None:
        self.told.append(language)

    def close(self) -> None:
        self.told.append("closed")


class Room:
    """``kernel``: the end of an utterance is asked for as soon as the caller's turn is said to be over."""

    def __init__(self, *, first: int = 1, kernel: bool = True) -> None:
        self.facts: list[ev.AnyEvent] = []
        self.sounds: list[Sound] = []
        self.kernel = kernel
        self.utterance = first
        self.ear = WordsEar(
            language="en-IN", first_utterance=first, post=self._post, sound=self._sound, identify=_identify
        )

    def _post(self, event: ev.AnyEvent) -> None:
        self.facts.append(event)
        if self.kernel and isinstance(event, ev.SpeechStopped) and event.turn_over:
            self.finish()

    def finish(self) -> None:
        self.utterance += 1
        self.ear.finish(self.utterance - 1)

    def _sound(self, language: str, first: int) -> Sound:
        self.sounds.append(Sound(language, first))
        return self.sounds[-1]

    @property
    def finals(self) -> list[tuple[int, str]]:
        return [(each.utterance, each.text) for each in self.facts if isinstance(each, ev.TranscriptFinal)]

    @property
    def partials(self) -> list[tuple[int, str]]:
        return [(each.utterance, each.text) for each in self.facts if isinstance(each, ev.TranscriptPartial)]


def _identify(text: str) -> Guess:
    return Guess("hi-IN", 0.8) if "kya" in text else Guess("", 0.0)


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def told() -> None:
        run(test())

    told.__name__, told.__doc__ = test.__name__, test.__doc__
    return told


@virtual
async def test_a_settled_fragment_and_the_end_of_the_turn() -> None:
    room = Room()
    room.ear.fragment("What are the fees?", True)
    room.ear.turn_end()
    assert room.facts == [
        ev.SpeechStarted(),
        ev.TranscriptPartial(1, "What are the fees?", settled=True),
        ev.SpeechStopped(turn_over=True),
        ev.TranscriptFinal(1, "What are the fees?", "", 1.0, OUTSIDE, 0.0, "text"),
    ]
    await asyncio.sleep(QUIET_S + 1)
    assert len(room.facts) == 4, "nothing is waited for any more"


@virtual
async def test_guesses_replace_each_other_and_settled_words_stay() -> None:
    room = Room()
    for text, settled in (("what", False), ("what are", False), ("What are the", True), ("fee", False), ("fees", True)):
        room.ear.fragment(text, settled)
    assert [text for _, text in room.partials] == [
        "what",
        "what are",
        "What are the",
        "What are the fee",
        "What are the fees",
    ]
    room.ear.turn_end()
    assert room.finals == [(1, "What are the fees")]


@virtual
async def test_the_turn_ends_with_a_guess_where_nothing_is_settled_yet() -> None:
    room = Room()
    room.ear.fragment("what are the fees", False)
    room.ear.turn_end()
    assert room.finals == [(1, "what are the fees")]
    room.ear.fragment("What are the fees?", True)
    assert len(room.facts) == 4, "the same words, settled late, are no new turn"
    room.ear.fragment("And the hostel?", True)
    room.ear.turn_end()
    assert room.finals[-1] == (2, "And the hostel?")


@virtual
async def test_what_goes_beyond_the_guess_that_was_taken_is_new() -> None:
    room = Room()
    room.ear.fragment("what are the fees", False)
    room.ear.turn_end()
    room.ear.fragment("What are the fees, for the hostel", True)
    assert room.partials[-1] == (2, "for the hostel")


@virtual
async def test_a_voice_is_told_before_its_words() -> None:
    room = Room()
    room.ear.speaking()
    room.ear.speaking()
    room.ear.fragment("stop", True)
    assert room.facts == [ev.SpeechStarted(), ev.TranscriptPartial(1, "stop", settled=True)]


@virtual
async def test_words_may_come_after_the_end_of_their_turn() -> None:
    room = Room()
    room.ear.speaking()
    room.ear.turn_end()
    assert room.finals == []
    await asyncio.sleep(LATE_WORDS_S / 2)
    room.ear.fragment("kya fees hai", True)
    assert room.finals == [(1, "kya fees hai")]
    assert isinstance(room.facts[-1], ev.TranscriptFinal)
    assert (room.facts[-1].language, room.facts[-1].language_by) == ("hi-IN", "text")
    await asyncio.sleep(10)
    assert len(room.finals) == 1, "one final for each utterance"


@virtual
async def test_a_voice_without_words_ends_in_a_blank_final() -> None:
    room = Room()
    room.ear.speaking()
    room.ear.turn_end()
    await asyncio.sleep(LATE_WORDS_S + 0.01)
    assert room.finals == [(1, "")]


@virtual
async def test_who_speaks_again_before_the_late_words_came_has_said_nothing() -> None:
    room = Room()
    room.ear.speaking()
    room.ear.turn_end()
    room.ear.speaking()
    assert room.finals == [(1, "")]
    room.ear.fragment("stop", True)
    room.ear.turn_end()
    assert room.finals == [(1, ""), (2, "stop")]


@virtual
async def test_the_end_of_a_turn_without_a_beginning_tells_nothing() -> None:
    room = Room()
    room.ear.turn_end()
    room.ear.fragment("   ", True)
    room.ear.turn_end()
    assert room.facts == []


@virtual
async def test_a_peer_that_never_ends_a_turn_is_not_waited_for_for_ever() -> None:
    room = Room()
    room.ear.fragment("what are the fees", True)
    await asyncio.sleep(QUIET_S - 0.1)
    room.ear.fragment("for the hostel", True)
    await asyncio.sleep(QUIET_S - 0.1)
    assert not any(isinstance(fact, ev.SpeechStopped) for fact in room.facts)
    await asyncio.sleep(0.2)
    assert room.facts[-1] == ev.SpeechStopped(), "endpointing goes on from there"
    room.finish()
    assert room.finals == [(1, "what are the fees for the hostel")]


@virtual
async def test_an_utterance_that_is_taken_in_pieces_is_not_told_twice() -> None:
    room = Room()
    room.ear.fragment("one two", True)
    room.ear.fragment("three four", False)
    room.finish()
    assert room.finals == [(1, "one two three four")]
    room.ear.fragment("three four five", False)
    assert room.partials[-1] == (2, "five")
    room.ear.fragment("three four five six", True)
    room.ear.turn_end()
    assert room.finals[-1] == (2, "five six")


@virtual
async def test_sound_gets_an_ear_of_its_own_and_words_are_over_with_it() -> None:
    room = Room(first=4)
    room.ear.hint("te-IN")
    room.ear.on_audio(b"ab")
    room.ear.on_audio(b"cd")
    room.ear.fragment("words", True)
    room.ear.speaking()
    room.ear.turn_end()
    room.finish()
    room.ear.hint("hi-IN")
    room.ear.close()
    assert room.facts == []
    (sound,) = room.sounds
    assert sound.made == ("te-IN", 4)
    assert sound.told == [b"ab", b"cd", 4, "hi-IN", "closed"]


@virtual
async def test_nothing_is_told_after_the_end() -> None:
    room = Room()
    room.ear.fragment("what", True)
    room.ear.close()
    await asyncio.sleep(QUIET_S * 2)
    assert len(room.facts) == 2


_TOLD = st.lists(
    st.one_of(
        st.tuples(st.just("fragment"), st.sampled_from(["", "a", "a b", "c a", "A, b!"]), st.booleans()),
        st.tuples(st.just("turn_end")),
        st.tuples(st.just("speaking")),
        st.tuples(st.just("finish")),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 1.5, 5.0])),
    ),
    max_size=30,
)


@given(_TOLD)
def test_whatever_is_told_each_utterance_has_one_final_and_edges_take_turns(told: list[tuple[Any, ...]]) -> None:
    async def main() -> None:
        room = Room()
        for what, *how in told:
            if what == "wait":
                await asyncio.sleep(how[0])
            elif what == "finish":
                room.finish()
            else:
                getattr(room.ear, what)(*how)
        await asyncio.sleep(LATE_WORDS_S + QUIET_S + 1)
        assert [number for number, _ in room.finals] == list(range(1, room.utterance))
        edges = [type(fact) for fact in room.facts if isinstance(fact, (ev.SpeechStarted, ev.SpeechStopped))]
        assert edges == [(ev.SpeechStarted, ev.SpeechStopped)[number % 2] for number in range(len(edges))]

    run(main())


def test_a_long_utterance_is_bounded() -> None:
    async def main() -> None:
        room = Room()
        for _ in range(30):
            room.ear.fragment("word " * 700, True)
        room.ear.turn_end()
        assert len(room.finals[0][1]) <= ev.MAX_TEXT

    run(main())
