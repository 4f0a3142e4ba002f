"""The mouth: what is heard in which order, what of it counts as heard, and that nothing outlives its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from call_parts import Events, MouthRoom, Voice, phrase_book

from antiphon.errors import ProviderError
from antiphon.kernel import events as ev
from antiphon.kernel.commands import Say
from antiphon.runtime import speech
from antiphon.runtime.ports import Sound, WordMark
from antiphon.sim.clock import run
from antiphon.sim.far_end import spoken
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


def failing(after_words: int) -> Voice:
    async def broken(text: str) -> AsyncGenerator[Sound, None]:
        for number, sound in enumerate(sounds(text)):
            if number == after_words:
                raise ProviderError("planned", provider="first", code="tts.planned")
            yield sound
        if after_words == 0 and not text:
            yield Sound(b"")

    return Voice(broken, "first")


async def room(*voices: object) -> MouthRoom:
    return MouthRoom(await phrase_book(), *voices)


def filler(turn: int = 1, attempt: int = 1) -> Say:
    return Say(turn, attempt, "filler", "en-IN", last=False)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A voice may be silent for as long as a test likes."""
    monkeypatch.setattr(speech, "SOUND_TIMEOUT_S", 100.0)


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


def test_the_wheel_stands_still_when_nothing_is_said() -> None:
    async def main() -> None:
        mouth = await room()
        mouth.speak(1, "one two three.")
        await asyncio.sleep(5)
        assert mouth.wheel._place == {}
        assert mouth.mouth._pump_task is None

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


@pytest.mark.usefixtures("patient")
def test_a_filler_wanted_because_the_voice_went_silent_in_a_word_says_so() -> None:
    """It would stand in the middle of a sentence: the ladder shall go on instead."""

    async def main() -> None:
        mouth = await room(hanging(after_words=2))
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


@pytest.mark.usefixtures("patient")
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

        mouth = await room(Voice(once_stuck))
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


def test_the_next_voice_takes_over_from_one_that_connects_but_says_nothing() -> None:
    async def main() -> None:
        mouth = await room(failing(after_words=0), SimSynthesizer("second"))
        mouth.speak(1, "one two.")
        await asyncio.sleep(3)
        assert mouth.heard == ["one", "two"]
        assert mouth.facts.of(ev.StageFailed) == []
        assert mouth.facts.of(ev.SegmentSynthesized) == [ev.SegmentSynthesized(1, 1, 0, "second")]

    run(main())


def test_a_voice_that_breaks_off_in_a_segment_ends_it_there() -> None:
    async def main() -> None:
        mouth = await room(failing(after_words=2), SimSynthesizer("second"))
        mouth.speak(1, "one two three.", "four.")
        await asyncio.sleep(3)
        assert mouth.heard == ["one", "two"], "another voice in the middle of a sentence would be worse"
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
        assert 10 * len(voice.asked) <= speech.AHEAD_MS / 1000 + 20
        await asyncio.sleep(60)
        assert 6 <= len(voice.asked) <= 11
        mouth.mouth.cancel(1)

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
            facts, told = mouth.facts, mouth.mouth._post

            def post(event: ev.AnyEvent, *, kind: type = kind, mouth: MouthRoom = mouth, told: object = told) -> None:
                told(event)  # type: ignore[operator]
                if isinstance(event, kind) and not mouth.facts.of(ev.PlayoutStopped):
                    mouth.mouth.cancel(1)
                    mouth.mouth.say(Say(2, 1, "greeting", "en-IN"))

            mouth.mouth._post = post
            mouth.speak(1, "one two.", "three four.")
            await asyncio.sleep(5)
            assert mouth.heard[-2:] == ["greeting0", "greeting1"], kind
            assert not {"three", "four"} & set(mouth.heard)
            assert [event.turn for event in facts.of(ev.PlayoutFinished)] == [2]  # type: ignore[attr-defined]
            assert facts.of(ev.ReplyGenerated) == [ev.ReplyGenerated(2, 1, 1)]

    run(main())
