"""The mouth: what is heard in which order, what of it counts as heard, and that nothing outlives its turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator

import pytest
from call_parts import SPEECH, WORD_S, Events, MouthRoom, Voice, now, phrase_book

from antiphon.errors import ProviderError
from antiphon.kernel import events as ev
from antiphon.kernel.commands import Say
from antiphon.media.playout import Edge, Playout
from antiphon.runtime import synthesis
from antiphon.runtime.ports import Sound, WordMark
from antiphon.runtime.resilience import StagePolicy
from antiphon.runtime.voicing import Rehearsal
from antiphon.sim.clock import run
from antiphon.sim.far_end import RATE, read_back, spoken
from antiphon.sim.providers import SimSynthesizer


def sounds(text: str) -> list[Sound]:
    found, at = [], 0
    for number, word in enumerate(text.split()):
        at = text.index(word, at)
        found.append(Sound(spoken(word.strip(".,")), (WordMark(at, number * 1600),)))
        at += len(word)
    return found


async def at_once(text: str) -> AsyncGenerator[Sound, None]:
    """A voice that never suspends: all of a segment in one go."""
    for sound in sounds(text):
        yield sound


def after(seconds: float) -> Voice:
    async def late(text: str) -> AsyncGenerator[Sound, None]:
        await asyncio.sleep(seconds)
        for sound in sounds(text):
            yield sound

    return Voice(late)


def hanging(after_words: int) -> Voice:
    async def stuck(text: str) -> AsyncGenerator[Sound, None]:
        for number, sound in enumerate(sounds(text)):
            if number == after_words:
                await asyncio.sleep(10_000)
            yield sound

    return Voice(stuck)


def failing(after_words: int, word_s: float = 0.0) -> Voice:
    async def broken(text: str) -> AsyncGenerator[Sound, None]:
        for number, sound in enumerate(sounds(text)):
            await asyncio.sleep(word_s)
            if number == after_words:
                raise ProviderError("planned", provider="first", code="tts.planned")
            yield sound

    return Voice(broken, "first")


async def hums(text: str) -> AsyncGenerator[Sound, None]:
    """A voice that goes on giving nothing."""
    while True:
        yield Sound(b"")
        await asyncio.sleep(0.1)


async def room(*voices: object, policy: StagePolicy = SPEECH) -> MouthRoom:
    return MouthRoom(await phrase_book(), *voices, policy=policy)


def filler(turn: int = 1, attempt: int = 1) -> Say:
    return Say(turn, attempt, "filler", "en-IN", last=False)


PATIENT = StagePolicy(first_s=100.0, between_s=100.0)
"""A voice may be silent for as long as a test likes."""


# -- the ordinary case ----------------------------------------------------------------------------


def test_segments_are_heard_in_order_and_every_edge_is_told() -> None:
    async def main() -> None:
        mouth = await room(SimSynthesizer("tts"))
        mouth.speak(1, "one two.", "three four.")
        await asyncio.sleep(5)
        assert mouth.heard == ["one", "two", "three", "four"]
        assert mouth.facts.names == [
            *("SegmentReady", "SegmentSynthesized", "SegmentStarted"),
            *("SegmentReady", "SegmentSynthesized"),
            "ReplyGenerated",
            *("SegmentStarted", "SegmentPlayed", "SegmentPlayed", "PlayoutFinished"),
        ]
        ready = mouth.facts.of(ev.SegmentReady)
        assert ready[1] == ev.SegmentReady(1, 1, 1, "three four.", "reply", "en-IN")

    run(main())


def test_a_voice_that_never_suspends_says_the_same() -> None:
    async def main() -> None:
        mouth = await room(Voice(at_once))
        mouth.speak(1, "one two.", "three four.")
        await asyncio.sleep(5)
        assert mouth.heard == ["one", "two", "three", "four"]
        assert mouth.facts[-1] == ev.PlayoutFinished(1)

    run(main())


def test_a_phrase_is_heard_at_once_and_ends_its_turn() -> None:
    async def main() -> None:
        mouth = await room()
        mouth.mouth.say(Say(1, 1, "greeting", "en-IN"))
        assert mouth.facts.names == ["SegmentReady", "ReplyGenerated", "SegmentStarted"]
        assert mouth.facts[0] == ev.SegmentReady(1, 1, 0, "greeting0 greeting1", "greeting", "en-IN")
        await asyncio.sleep(2)
        assert mouth.heard == ["greeting0", "greeting1"]
        assert mouth.facts.names[-2:] == ["SegmentPlayed", "PlayoutFinished"]

    run(main())


def test_playout_is_asked_only_when_there_is_something_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    pull = Playout.pull

    def counted(self: Playout, now: float) -> tuple[list[bytes | str], list[Edge]]:
        asked.append(now)
        return pull(self, now)

    async def main() -> None:
        mouth = MouthRoom(await phrase_book(), SimSynthesizer("tts"), message_ms=60)
        monkeypatch.setattr(Playout, "pull", counted)
        mouth.speak(1, "one two three four five.", "six seven eight nine.")
        await asyncio.sleep(10)
        assert mouth.heard == ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
        assert mouth.facts[-1] == ev.PlayoutFinished(1)
        messages = sum(len(piece) for _, _, piece in mouth.line.played) // (2 * RATE * 60 // 1000)
        assert messages > 20
        assert len(asked) < 1.5 * messages, "the wheel comes round three times for each message"

    run(main())


def test_the_wheel_stands_still_when_nothing_is_said() -> None:
    async def main() -> None:
        mouth = await room()
        mouth.speak(1, "one two three.")
        await asyncio.sleep(5)
        assert mouth.wheel._place == {}
        me = asyncio.current_task()
        assert [task for task in asyncio.all_tasks() if task is not me] == []

    run(main())


# -- fillers --------------------------------------------------------------------------------------


def test_a_filler_goes_before_a_segment_whose_voice_has_not_begun() -> None:
    async def main() -> None:
        mouth = await room(after(1.0))
        mouth.speak(1, "one two.")
        await asyncio.sleep(0.5)
        mouth.mouth.say(filler())
        await asyncio.sleep(5)
        assert mouth.heard == ["filler0", "filler1", "one", "two"]
        starts = [event.segment for event in mouth.facts.of(ev.SegmentStarted)]  # type: ignore[attr-defined]
        assert starts == [1, 0], "decided on later, played before"
        assert len(mouth.facts.of(ev.ReplyGenerated)) == 1, "a filler ends nothing"

    run(main())


def test_a_filler_wanted_in_the_middle_of_a_sentence_is_not_said() -> None:
    async def main() -> None:
        mouth = await room(SimSynthesizer("tts"))
        mouth.speak(1, "one two three four.")
        await asyncio.sleep(0.2)
        mouth.mouth.say(filler())
        await asyncio.sleep(5)
        assert mouth.heard == ["one", "two", "three", "four"]

    run(main())


def test_a_filler_wanted_because_the_voice_went_silent_in_a_word_says_so() -> None:
    """It would stand in the middle of a sentence: the ladder shall go on instead."""

    async def main() -> None:
        mouth = await room(hanging(after_words=2), policy=PATIENT)
        mouth.speak(1, "one two three four.")
        await asyncio.sleep(2)
        assert mouth.facts[-1] == ev.PlayoutStarved(1)
        mouth.mouth.say(filler())
        # The last word may have been broken off: only "one" is surely all there.
        assert mouth.facts[-2:] == [ev.SegmentCut(1, 0, 3), ev.StageFailed(1, 1, "tts", "tts.stalled", "")]
        await asyncio.sleep(2)
        assert mouth.heard == ["one", "two"]

    run(main())


# -- attempts -------------------------------------------------------------------------------------


def test_an_abandoned_attempt_keeps_what_is_being_heard_and_drops_the_rest() -> None:
    async def main() -> None:
        mouth = await room(SimSynthesizer("tts"))
        mouth.speak(1, "one two.", "three four.", "five six.", complete=False)
        await asyncio.sleep(0.3)
        mouth.mouth.abandon(1)
        mouth.speak(1, "seven.", attempt=2)
        await asyncio.sleep(5)
        assert mouth.heard == ["one", "two", "seven"]
        assert mouth.facts[-1] == ev.PlayoutFinished(1)

    run(main())


def test_an_abandoned_attempt_that_was_not_heard_leaves_nothing() -> None:
    async def main() -> None:
        mouth = await room(after(0.5))
        mouth.speak(1, "one two.", complete=False)
        await asyncio.sleep(0.2)
        mouth.mouth.abandon(1)
        mouth.speak(1, "three.", attempt=2)
        await asyncio.sleep(5)
        assert mouth.heard == ["three"]
        assert mouth.facts.of(ev.StageFailed) == []

    run(main())


def test_a_voice_that_stalls_in_an_older_attempt_takes_nothing_of_the_present_one_with_it() -> None:
    async def main() -> None:
        asked = 0

        async def once_stuck(text: str) -> AsyncGenerator[Sound, None]:
            nonlocal asked
            asked += 1
            for number, sound in enumerate(sounds(text)):
                if asked == 1 and number == 2:
                    await asyncio.sleep(10_000)
                yield sound

        mouth = await room(Voice(once_stuck), policy=PATIENT)
        mouth.speak(1, "one two three.", complete=False)
        await asyncio.sleep(0.1)
        mouth.mouth.abandon(1)  # it is being heard: finished if it can be
        mouth.speak(1, "four five.", attempt=2)
        await asyncio.sleep(2)
        mouth.mouth.say(filler(attempt=2))
        await asyncio.sleep(5)
        assert mouth.heard == ["one", "two", "filler0", "filler1", "four", "five"]
        assert mouth.facts.of(ev.StageFailed) == []
        assert mouth.facts[-1] == ev.PlayoutFinished(1)

    run(main())


def test_what_an_older_turn_or_attempt_still_says_is_not_heard() -> None:
    async def main() -> None:
        mouth = await room(SimSynthesizer("tts"))
        mouth.mouth.begin(2)
        mouth.mouth.speak(1, 1, "late.", "en-IN")
        mouth.mouth.complete(ev.ReplyGenerated(1, 1, 1))
        mouth.mouth.abandon(1)
        mouth.mouth.pause(1)
        mouth.mouth.resume(1)
        await asyncio.sleep(2)
        assert (mouth.heard, mouth.facts) == ([], [])

    run(main())


# -- failures -------------------------------------------------------------------------------------


def test_the_next_voice_says_what_the_first_could_not_begin() -> None:
    async def main() -> None:
        mouth = await room(failing(after_words=0), SimSynthesizer("second"))
        mouth.speak(1, "one two.")
        await asyncio.sleep(3)
        assert mouth.heard == ["one", "two"]
        assert mouth.facts.of(ev.StageFailed) == []
        assert mouth.facts.of(ev.SegmentSynthesized) == [ev.SegmentSynthesized(1, 1, 0, "second")]

    run(main())


@pytest.mark.parametrize("says_nothing", [hanging(after_words=0), Voice(hums)])
def test_the_next_voice_takes_over_from_one_that_connects_but_says_nothing(says_nothing: Voice) -> None:
    async def main() -> None:
        mouth = await room(says_nothing, SimSynthesizer("second"), policy=StagePolicy(first_s=0.6))
        began = now()
        mouth.speak(1, "one two.")
        await asyncio.sleep(0.6 + 3)
        assert mouth.heard == ["one", "two"]
        assert mouth.facts.of(ev.StageFailed) == []
        assert mouth.facts.of(ev.SegmentSynthesized) == [ev.SegmentSynthesized(1, 1, 0, "second")]
        assert mouth.facts.of(ev.StageRerouted) == [ev.StageRerouted(1, 1, "tts", "voice", "tts.timeout", "second")]
        assert mouth.line.played[0][0] - began < 0.6 + 0.2

    run(main())


def test_without_another_voice_one_that_breaks_off_ends_its_segment_there() -> None:
    async def main() -> None:
        mouth = await room(failing(after_words=2))
        mouth.speak(1, "one two three.", "four.")
        await asyncio.sleep(3)
        assert mouth.heard == ["one", "two"]
        assert mouth.facts.of(ev.SegmentCut, ev.StageFailed) == [
            ev.SegmentCut(1, 0, 3),
            ev.StageFailed(1, 1, "tts", "tts.planned", "first"),
        ]
        assert mouth.facts.of(ev.ReplyGenerated) == [], "the attempt is not complete"

    run(main())


def test_no_voice_at_all_is_a_failure_of_the_stage() -> None:
    async def silent(text: str) -> AsyncGenerator[Sound, None]:
        yield Sound(b"")

    async def main() -> None:
        mouth = await room(failing(after_words=0), Voice(silent, "mute"))
        mouth.speak(1, "one two.")
        await asyncio.sleep(3)
        assert mouth.facts.of(ev.StageFailed) == [ev.StageFailed(1, 1, "tts", "tts.empty", "mute")]
        assert mouth.heard == []

    run(main())


def test_a_voice_of_the_applications_own_that_raises_anything_is_a_failure_of_the_stage() -> None:
    async def raises(text: str) -> AsyncGenerator[Sound, None]:
        yield sounds(text)[0]
        raise ZeroDivisionError

    async def main() -> None:
        mouth = await room(Voice(raises, "odd"))
        mouth.speak(1, "one two.")
        await asyncio.sleep(3)
        assert mouth.facts.of(ev.StageFailed) == [ev.StageFailed(1, 1, "tts", "tts.raised", "odd")]
        mouth.mouth.abandon(1)
        mouth.mouth.say(Say(1, 2, "apology", "en-IN"))
        await asyncio.sleep(3)
        assert mouth.heard == ["one", "apology0", "apology1"]

    run(main())


def test_more_audio_than_a_line_holds_is_refused() -> None:
    async def endless(text: str) -> AsyncGenerator[Sound, None]:
        while True:
            yield Sound(spoken("word") * 50)
            await asyncio.sleep(0)

    async def main() -> None:
        mouth = await room(Voice(endless))
        mouth.speak(1, "one")
        await asyncio.sleep(1)
        assert [event.code for event in mouth.facts.of(ev.StageFailed)] == ["tts.too_long"]  # type: ignore[attr-defined]

    run(main())


def test_a_long_answer_is_not_paid_for_long_before_it_is_heard() -> None:
    async def main() -> None:
        voice = Voice(at_once)
        mouth = await room(voice)
        mouth.speak(1, *(f"s{number} " + "word " * 49 for number in range(30)))  # ten seconds each
        await asyncio.sleep(1)
        assert 10 * len(voice.asked) <= synthesis.AHEAD_MS / 1000 + 20
        await asyncio.sleep(60)
        assert 6 <= len(voice.asked) <= 11
        mouth.mouth.cancel(1)

    run(main())


def times_heard(mouth: MouthRoom) -> dict[str, float]:
    """Each word and how often it was heard, the parts that were cut off counted as parts."""
    heard = Counter[str]()
    for word, samples in read_back(b"".join(audio for *_, audio in mouth.line.played)):
        heard[word] += samples
    return {word: round(samples / (RATE * WORD_S), 2) for word, samples in heard.items()}


# -- another voice in the middle of a sentence ------------------------------------------------------


@pytest.mark.parametrize(("stops", "after_s"), [(failing(after_words=2), 0.0), (hanging(after_words=2), 0.3)])
def test_a_voice_that_stops_in_a_sentence_is_relieved_where_it_stopped(stops: Voice, after_s: float) -> None:
    async def main() -> None:
        mouth = await room(stops, SimSynthesizer("second"), policy=StagePolicy(between_s=0.3))
        mouth.speak(1, "one two three four.", "five.")
        await asyncio.sleep(after_s + 5)
        # Nobody can tell whether "two" was whole: that one may be heard twice.
        assert times_heard(mouth) == {"one": 1, "two": 2, "three": 1, "four": 1, "five": 1}
        assert mouth.facts.of(ev.SegmentReady, ev.SegmentCut) == [
            ev.SegmentReady(1, 1, 0, "one two three four.", "reply", "en-IN"),
            ev.SegmentCut(1, 0, len("one")),
            ev.SegmentReady(1, 1, 1, "two three four.", "reply", "en-IN"),
            ev.SegmentReady(1, 1, 2, "five.", "reply", "en-IN"),
        ]
        code = "tts.timeout" if after_s else "tts.planned"
        assert mouth.facts.of(ev.StageRerouted)[0] == ev.StageRerouted(1, 1, "tts", stops.name, code, "second")
        assert [event.segment for event in mouth.facts.of(ev.SegmentStarted)] == [0, 1, 2]  # type: ignore[attr-defined]
        assert [event.segment for event in mouth.facts.of(ev.SegmentPlayed)] == [0, 1, 2]  # type: ignore[attr-defined]
        assert mouth.facts.of(ev.StageFailed) == []
        assert mouth.facts[-1] == ev.PlayoutFinished(1)

    run(main())


def test_of_a_segment_that_nobody_heard_yet_the_next_voice_says_the_whole() -> None:
    async def main() -> None:
        async def first_only(text: str) -> AsyncGenerator[Sound, None]:
            for number, sound in enumerate(sounds(text)):
                if text.startswith("four") and number == 1:
                    raise ProviderError("planned", provider="first", code="tts.planned")
                yield sound

        mouth = await room(Voice(first_only, "first"), SimSynthesizer("second"))
        mouth.speak(1, "one two three.", "four five.", "six.")
        await asyncio.sleep(5)
        assert mouth.heard == ["one", "two", "three", "four", "five", "six"], "not a word of its beginning was sent"
        assert mouth.facts.of(ev.SegmentCut) == []
        assert [event.segment for event in mouth.facts.of(ev.SegmentPlayed)] == [0, 1, 2]  # type: ignore[attr-defined]
        assert [event.provider for event in mouth.facts.of(ev.SegmentSynthesized)] == [  # type: ignore[attr-defined]
            *("first", "first", "second"),
            "first",
        ]

    run(main())


def test_each_voice_may_stop_and_the_last_one_ends_the_sentence() -> None:
    async def main() -> None:
        mouth = await room(failing(after_words=2), failing(after_words=2, word_s=WORD_S), SimSynthesizer("third"))
        mouth.speak(1, "one two three four.")
        await asyncio.sleep(5)
        assert times_heard(mouth) == {"one": 1, "two": 2, "three": 2, "four": 1}
        assert mouth.facts.of(ev.SegmentReady)[-1] == ev.SegmentReady(1, 1, 2, "three four.", "reply", "en-IN")
        assert mouth.facts[-1] == ev.PlayoutFinished(1)

    run(main())


def test_if_no_voice_ends_the_sentence_what_was_heard_of_it_is_known() -> None:
    async def main() -> None:
        mouth = await room(failing(after_words=2), failing(after_words=2, word_s=WORD_S))
        mouth.speak(1, "one two three four.")
        await asyncio.sleep(5)
        assert times_heard(mouth) == {"one": 1, "two": 2, "three": 1}
        assert mouth.facts.of(ev.SegmentCut, ev.StageFailed) == [
            ev.SegmentCut(1, 0, 3),
            ev.SegmentCut(1, 1, 3),
            ev.StageFailed(1, 1, "tts", "tts.planned", "first"),
        ]

    run(main())


def test_a_segment_of_an_older_attempt_is_not_taken_up_by_another_voice() -> None:
    """The next attempt goes on from it, and nobody keeps books of what it says any more."""

    async def main() -> None:
        async def breaks(text: str) -> AsyncGenerator[Sound, None]:
            for number, sound in enumerate(sounds(text)):
                if number == 2:
                    await asyncio.sleep(0.3)
                    raise ProviderError("planned", provider="first", code="tts.planned")
                yield sound

        mouth = await room(Voice(breaks, "first"), SimSynthesizer("second"))
        mouth.speak(1, "one two three four.", complete=False)
        await asyncio.sleep(0.1)
        mouth.mouth.abandon(1)
        mouth.speak(1, "five.", attempt=2)
        await asyncio.sleep(5)
        assert mouth.heard == ["one", "two", "five"]
        assert mouth.facts.of(ev.SegmentCut) == [ev.SegmentCut(1, 0, 3)]
        assert mouth.facts.of(ev.StageFailed) == []
        assert mouth.facts[-1] == ev.PlayoutFinished(1)

    run(main())


def test_a_voice_that_is_left_alone_is_not_asked_and_then_asked_again() -> None:
    async def main() -> None:
        first = failing(after_words=0)
        mouth = await room(first, SimSynthesizer("second"), policy=StagePolicy(failures=2, open_s=30.0))
        for turn in (1, 2, 3):
            mouth.speak(turn, "one two.")
            await asyncio.sleep(3)
        assert len(first.asked) == 2
        assert [event.code for event in mouth.facts.of(ev.StageRerouted)] == [  # type: ignore[attr-defined]
            *("tts.planned", "tts.planned"),
            "breaker.open",
        ]
        await asyncio.sleep(30)
        mouth.speak(4, "one two.")
        await asyncio.sleep(3)
        assert len(first.asked) == 3, "a probe"
        assert mouth.heard == ["one", "two"] * 4

    run(main())


def test_a_voice_that_never_says_anything_is_left_alone_in_the_end() -> None:
    async def silent(text: str) -> AsyncGenerator[Sound, None]:
        yield Sound(b"")

    async def main() -> None:
        first = Voice(silent, "mute")
        mouth = await room(first, SimSynthesizer("second"))
        for turn in range(1, 9):
            mouth.speak(turn, "one.")
            await asyncio.sleep(1)
        assert len(first.asked) == mouth.voices.policy.failures
        assert times_heard(mouth) == {"one": 8}

    run(main())


def test_with_every_voice_left_alone_the_stage_has_failed() -> None:
    async def main() -> None:
        mouth = await room(failing(after_words=0), policy=StagePolicy(failures=1))
        mouth.speak(1, "one.")
        await asyncio.sleep(1)
        mouth.speak(1, "one.", attempt=2)
        await asyncio.sleep(1)
        assert [event.code for event in mouth.facts.of(ev.StageFailed)] == [  # type: ignore[attr-defined]
            *("tts.planned", "breaker.open"),
        ]

    run(main())


# -- voices in trouble ------------------------------------------------------------------------------


def test_words_of_a_slow_voice_are_heard_as_they_come() -> None:
    async def slow(text: str) -> AsyncGenerator[Sound, None]:
        for sound in sounds(text):
            yield sound
            await asyncio.sleep(0.5)

    async def main() -> None:
        mouth = await room(Voice(slow))
        began = now()
        mouth.speak(1, "one two three.")
        await asyncio.sleep(5)
        assert mouth.heard == ["one", "two", "three"]
        ends = [round(end - began, 1) for _, end, _ in mouth.line.played]
        assert [round(number * 0.5 + WORD_S, 1) in ends for number in range(3)] == [True] * 3
        assert mouth.facts.names.count("PlayoutStarved") == 3
        assert mouth.facts.of(ev.SegmentStarted) == [ev.SegmentStarted(1, 0)] * 3, "each time it is heard again"

    run(main())


def test_a_segment_that_ends_in_a_dry_spell_does_not_end_it() -> None:
    async def drowsy(text: str) -> AsyncGenerator[Sound, None]:
        yield sounds(text)[0]
        await asyncio.sleep(0.8)

    async def main() -> None:
        mouth = await room(Voice(drowsy))
        mouth.speak(1, "one", complete=False)
        await asyncio.sleep(3)
        assert mouth.facts.names[-3:] == ["SegmentStarted", "PlayoutStarved", "SegmentPlayed"]

    run(main())


def test_a_last_word_does_not_wait_for_a_voice_and_what_it_cuts_is_told() -> None:
    async def main() -> None:
        mouth = await room(hanging(after_words=2), policy=PATIENT)
        mouth.speak(1, "one two three.", complete=False)
        await asyncio.sleep(0.1)
        mouth.mouth.abandon(1)
        mouth.mouth.say(Say(1, 2, "apology", "en-IN"))
        await asyncio.sleep(3)
        assert mouth.heard == ["one", "two", "apology0", "apology1"]
        assert mouth.facts.of(ev.SegmentCut) == [ev.SegmentCut(1, 0, 3)]
        assert mouth.facts.names[-3:] == ["SegmentPlayed", "SegmentPlayed", "PlayoutFinished"]

    run(main())


def test_what_was_abandoned_does_not_count_as_still_to_be_heard() -> None:
    async def main() -> None:
        mouth = await room(Voice(at_once))
        long = "word " * 49  # ten seconds
        for attempt in range(1, 7):
            mouth.speak(1, *[long] * 3, attempt=attempt, complete=False)
            await asyncio.sleep(0.5)
            mouth.mouth.abandon(1)
        mouth.speak(1, "seven.", attempt=7)
        await asyncio.sleep(20)
        assert mouth.heard[-1] == "seven"
        assert mouth.facts[-1] == ev.PlayoutFinished(1)

    run(main())


# -- what was spoken ahead --------------------------------------------------------------------------


def ahead(mouth: MouthRoom, text: str, voice: int = 0) -> Rehearsal:
    member = mouth.voices.members[voice]
    return Rehearsal(mouth.voices, member, text, language="en-IN", rate=8000, voice="")


def test_what_was_spoken_ahead_is_heard_at_once() -> None:
    async def main() -> None:
        voice = after(0.8)
        mouth = await room(voice)
        rehearsal = ahead(mouth, "one two.")
        await asyncio.sleep(1)
        began = now()
        mouth.mouth.begin_attempt(1, 1)
        mouth.mouth.speak(1, 1, "one two.", "en-IN", rehearsal)
        mouth.mouth.speak(1, 1, "three.", "en-IN")
        await asyncio.sleep(3)
        assert mouth.heard == ["one", "two", "three"]
        assert mouth.line.played[0][0] - began < 0.05
        assert voice.asked == ["one two.", "three."]
        assert mouth.facts.of(ev.SegmentSynthesized)[0] == ev.SegmentSynthesized(1, 1, 0, "voice")

    run(main())


def test_what_was_spoken_ahead_and_broke_off_is_ended_by_the_next_voice() -> None:
    async def main() -> None:
        mouth = await room(failing(after_words=2), SimSynthesizer("second"))
        rehearsal = ahead(mouth, "one two three.")
        await asyncio.sleep(0.1)
        mouth.mouth.begin_attempt(1, 1)
        mouth.mouth.speak(1, 1, "one two three.", "en-IN", rehearsal)
        await asyncio.sleep(3)
        assert times_heard(mouth) == {"one": 1, "two": 2, "three": 1}

    run(main())


@pytest.mark.parametrize("how", ["another turn", "another attempt", "cancelled", "cancelled by its own fact", "closed"])
def test_what_was_spoken_ahead_and_is_not_wanted_leaves_no_task(how: str) -> None:
    async def main() -> None:
        mouth = await room(hanging(after_words=2), policy=PATIENT)
        rehearsal = ahead(mouth, "one two three.")
        await asyncio.sleep(0.1)
        mouth.mouth.begin_attempt(2, 2)
        if how == "cancelled by its own fact":
            mouth.on_fact = lambda event: mouth.mouth.cancel(2) if isinstance(event, ev.SegmentReady) else None
        turn, attempt = {"another turn": (1, 2), "another attempt": (2, 1)}.get(how, (2, 2))
        mouth.mouth.speak(turn, attempt, "one two three.", "en-IN", rehearsal)
        if how == "cancelled":
            mouth.mouth.cancel(2)
        elif how == "closed":
            mouth.mouth.close()
        await asyncio.sleep(0.1)
        me = asyncio.current_task()
        assert [task for task in asyncio.all_tasks() if task is not me] == []
        assert mouth.heard == []
        assert mouth.voices.members[0].breaker.failure_count == 0

    run(main())


# -- interruption ---------------------------------------------------------------------------------


def test_cancel_is_silence_and_one_report_of_what_was_heard() -> None:
    async def main() -> None:
        mouth = await room(SimSynthesizer("tts"))
        mouth.speak(1, "one two.", "three four five.")
        await asyncio.sleep(0.05 + 0.02 + 0.7)
        mouth.mouth.cancel(1)
        stopped = mouth.facts.of(ev.PlayoutStopped)
        assert stopped == [ev.PlayoutStopped(1, 1, len("three"))]
        before = len(mouth.facts)
        await asyncio.sleep(5)
        assert len(mouth.facts) == before, "nothing of a cancelled turn is told any more"
        assert mouth.heard[:2] == ["one", "two"]
        assert "five" not in mouth.heard

    run(main())


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.06, 0.1, 0.33, 0.9, 2.0])
def test_cancel_reports_exactly_once_at_any_moment(moment: float) -> None:
    async def main() -> None:
        mouth = await room(SimSynthesizer("tts"))
        mouth.speak(1, "one two.", "three four five.")
        await asyncio.sleep(moment)
        mouth.mouth.cancel(1)
        await asyncio.sleep(5)
        assert len(mouth.facts.of(ev.PlayoutStopped)) == 1
        assert mouth.facts[-1] == mouth.facts.of(ev.PlayoutStopped)[0]

    run(main())


def test_cancelling_a_turn_that_never_spoke_says_that_nothing_was_heard() -> None:
    async def main() -> None:
        mouth = await room()
        mouth.mouth.cancel(7)
        assert mouth.facts == [ev.PlayoutStopped(7, -1, 0)]

    run(main())


def test_a_pause_keeps_what_was_not_heard_and_resuming_loses_no_word() -> None:
    async def main() -> None:
        mouth = await room(SimSynthesizer("tts"))
        mouth.speak(1, "one two.", "three four five.")
        await asyncio.sleep(0.55)
        mouth.mouth.pause(1)
        await asyncio.sleep(0.1)
        heard = len(mouth.heard)
        await asyncio.sleep(3)
        assert len(mouth.heard) == heard, "silence"
        mouth.mouth.resume(1)
        await asyncio.sleep(5)
        whole = [word.rstrip("-") for word in mouth.heard]
        assert list(dict.fromkeys(whole)) == ["one", "two", "three", "four", "five"]
        assert mouth.facts[-1] == ev.PlayoutFinished(1)

    run(main())


def test_a_new_turn_silences_what_is_left_of_the_one_before() -> None:
    async def main() -> None:
        mouth = await room(SimSynthesizer("tts"))
        mouth.speak(1, "one two three four five six.")
        await asyncio.sleep(0.3)
        mouth.mouth.cancel(1)
        mouth.mouth.say(Say(2, 1, "greeting", "en-IN"))
        await asyncio.sleep(5)
        assert mouth.heard[-2:] == ["greeting0", "greeting1"]
        assert "four" not in mouth.heard
        assert mouth.facts[-1] == ev.PlayoutFinished(2)

    run(main())


# -- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("voice", [SimSynthesizer("tts"), hanging(1), Voice(at_once), after(1.0)])
@pytest.mark.parametrize("end", ["close", "cancel", "abandon"])
def test_no_task_survives(voice: object, end: str) -> None:
    async def main() -> None:
        mouth = await room(voice)
        mouth.speak(1, "one two three.", "four.", complete=False)
        await asyncio.sleep(0.1)
        if end == "close":
            mouth.mouth.close()
        else:
            getattr(mouth.mouth, end)(1)
        await asyncio.sleep(3)  # what is being heard already may be finished
        mouth.mouth.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        me = asyncio.current_task()
        assert [task for task in asyncio.all_tasks() if task is not me] == []
        assert mouth.wheel._place == {}

    run(main())


def test_a_closed_mouth_tells_nothing() -> None:
    async def main() -> None:
        mouth = await room(SimSynthesizer("tts"))
        mouth.speak(1, "one two three.")
        await asyncio.sleep(0.1)
        mouth.mouth.close()
        mouth.line.break_off()
        before = Events(mouth.facts)
        await asyncio.sleep(5)
        assert mouth.facts == before

    run(main())


def test_an_event_that_cancels_the_reply_it_tells_of() -> None:
    """Posting may call back into the mouth: the synthesis that posted it must notice."""

    async def main() -> None:
        for kind in (ev.SegmentReady, ev.SegmentSynthesized, ev.SegmentStarted):
            mouth = await room(Voice(at_once))
            facts = mouth.facts

            def cancel(event: ev.AnyEvent, *, kind: type = kind, mouth: MouthRoom = mouth) -> None:
                if isinstance(event, kind) and not mouth.facts.of(ev.PlayoutStopped):
                    mouth.mouth.cancel(1)
                    mouth.mouth.say(Say(2, 1, "greeting", "en-IN"))

            mouth.on_fact = cancel
            mouth.speak(1, "one two.", "three four.")
            await asyncio.sleep(5)
            assert mouth.heard[-2:] == ["greeting0", "greeting1"], kind
            assert not {"three", "four"} & set(mouth.heard)
            assert [event.turn for event in facts.of(ev.PlayoutFinished)] == [2]  # type: ignore[attr-defined]
            assert facts.of(ev.ReplyGenerated) == [ev.ReplyGenerated(2, 1, 1)]

    run(main())
