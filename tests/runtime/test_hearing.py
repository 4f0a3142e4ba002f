"""Several transcribers as one: who hears an utterance, all of it, and that each ``finish`` gets exactly one end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
import pytest
from call_parts import now
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.conformance import transcriber as kit
from antiphon.conformance.checks import report
from antiphon.conformance.checks import run as conform
from antiphon.providers.registry import load
from antiphon.runtime.chain import Chain
from antiphon.runtime.hearing import KEEP_S, Hearing
from antiphon.runtime.ports import Heard, Transcriber, TranscriberStream
from antiphon.runtime.resilience import StagePolicy
from antiphon.sim.clock import run

POLICY = StagePolicy(first_s=3.0, share=0.5, retries=0, failures=2, open_s=30.0)
FINAL_S = 1.2
FIRST_S = 0.6
"""What the first of several has for a final: its share of ``FINAL_S``."""


class Scribe:
    """A transcriber whose words are the very bytes that it heard. ``faults`` are of its utterances, in order.

    ``error``: fails when asked for the final; ``broken``: fails while it hears; ``silent``: gives no final;
    ``late``: gives it after ``FINAL_S``; ``twice``: gives it twice; ``early``: gives one before it is asked;
    ``astray``: fails for an utterance that nobody asked about; ``language``: does not know the language.
    """

    def __init__(self, name: str, *faults: str, answer_s: float = 0.1) -> None:
        self.name = name
        self.faults = list(faults)
        self.answer_s = answer_s
        self.streams: list[ScribeStream] = []
        self.opens_badly: Exception | None = None

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to close."""

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> TranscriberStream:
        if self.opens_badly is not None:
            raise self.opens_badly
        stream = ScribeStream(self, language, on_heard)
        self.streams.append(stream)
        return stream

    def next_fault(self) -> str:
        return self.faults.pop(0) if self.faults else ""

    @property
    def open_streams(self) -> int:
        return sum(not stream.closed for stream in self.streams)

    @property
    def utterances(self) -> list[str]:
        """What it heard, wholly or in part."""
        return [text for stream in self.streams for text in [*stream.heard, stream.audio.decode()] if text]


class ScribeStream:
    def __init__(self, scribe: Scribe, language: str, on_heard: Callable[[Heard], None]) -> None:
        self.scribe = scribe
        self.languages = [language]
        self.on_heard = on_heard
        self.audio = bytearray()
        self.heard: list[str] = []
        self.fault: str | None = None
        self.failed = False
        self.closed = False
        self.loop = asyncio.get_running_loop()

    def tell(self, seconds: float, heard: Heard) -> None:
        self.loop.call_later(seconds, lambda: None if self.closed else self.on_heard(heard))

    def feed(self, pcm: bytes) -> None:
        assert not self.closed
        if not self.audio and self.fault is None:
            self.fault = self.scribe.next_fault()
        self.audio += pcm
        number = len(self.heard) + 1
        if self.fault == "broken" and len(self.audio) >= 2 and not self.failed:
            self.failed = True
            self.tell(0.01, Heard(number, "", error="stt.broken"))
        elif self.fault == "early":
            self.tell(0.01, Heard(number, self.audio.decode(), final=True))
        elif self.fault == "astray":
            self.tell(0.01, Heard(number + 3, "", error="stt.astray"))
        else:
            self.tell(0.01, Heard(number, self.audio.decode()))

    def finish(self, utterance: int) -> None:
        assert not self.closed
        assert utterance == len(self.heard) + 1, "its utterances are numbered without a gap"
        fault = self.scribe.next_fault() if self.fault is None else self.fault
        self.heard.append(self.audio.decode())
        self.audio.clear()
        final = Heard(utterance, self.heard[-1], final=True, language="en-IN", confidence=0.9)
        if fault in ("error", "language"):
            self.tell(0.1, Heard(utterance, "", error=f"stt.{fault}"))
        elif fault == "late":
            self.tell(FINAL_S + 0.3, final)
        elif fault not in ("silent", "broken"):
            self.tell(self.scribe.answer_s, final)
            if fault == "twice":
                self.tell(self.scribe.answer_s + 0.05, final)
        self.fault, self.failed = None, False

    def hint(self, language: str) -> None:
        assert not self.closed
        self.languages.append(language)

    def close(self) -> None:
        self.closed = True


class Call:
    """One stream over scribes, and what it told."""

    def __init__(self, *scribes: Scribe, policy: StagePolicy = POLICY) -> None:
        self.scribes = scribes
        self.chain: Chain[Transcriber] = Chain("stt", scribes, policy)
        self.told: list[Heard] = []
        self.ends_at: dict[int, float] = {}
        self.said: dict[int, str] = {}
        self.number = 0
        hearing = Hearing(self.chain, final_s=FINAL_S)
        self.stream = hearing.open(sample_rate=8000, language="en-IN", on_heard=self.hear)

    def hear(self, heard: Heard) -> None:
        self.told.append(heard)
        if heard.final or heard.error:
            self.ends_at[heard.utterance] = now()

    async def say(self, text: str, *, wait_s: float = 5.0) -> Heard | None:
        """An utterance, a letter each 20 ms. Returns its end, if there is one by ``wait_s`` after it."""
        self.number += 1
        self.said[self.number] = text
        for letter in text:
            self.stream.feed(letter.encode())
            await asyncio.sleep(0.02)
        self.stream.finish(self.number)
        await asyncio.sleep(wait_s)
        return next((heard for heard in self.ends if heard.utterance == self.number), None)

    @property
    def ends(self) -> list[Heard]:
        return [heard for heard in self.told if heard.final or heard.error]

    @property
    def states(self) -> list[str]:
        return [str(member.breaker.state) for member in self.chain.members]


def final(number: int, text: str, provider: str, because: str = "") -> Heard:
    return Heard(number, text, True, "en-IN", 0.9, provider=provider, because=because)


# -- the ordinary case ------------------------------------------------------------------------------


def test_the_first_hears_everything_on_one_stream() -> None:
    async def main() -> None:
        call = Call(Scribe("a"), Scribe("b"))
        for number, text in enumerate(("one", "two", "three"), 1):
            assert await call.say(text) == final(number, text, "a")
        partials = [heard.text for heard in call.told if not heard.final]
        assert partials[:3] == ["o", "on", "one"]
        assert [len(scribe.streams) for scribe in call.scribes] == [1, 0]
        call.stream.close()
        assert call.scribes[0].open_streams == 0

    run(main())


def test_pieces_are_as_long_as_the_least_patient_of_them_waits_for() -> None:
    async def main() -> None:
        frame_by_frame, some, more = Scribe("a"), Scribe("b"), Scribe("c")
        some.piece_ms, more.piece_ms = 60, 100  # type: ignore[attr-defined]
        for scribes, expected in (((more,), 100), ((more, some), 60), ((some, frame_by_frame), 0)):
            chain: Chain[Transcriber] = Chain("stt", scribes, POLICY)
            assert Hearing(chain, final_s=FINAL_S).piece_ms == expected

    run(main())


def test_an_utterance_without_a_sound_gets_its_final_too() -> None:
    async def main() -> None:
        call = Call(Scribe("a"))
        assert await call.say("") == final(1, "", "a")
        assert await call.say("two") == final(2, "two", "a")

    run(main())


def test_a_hint_reaches_every_stream_also_those_to_come() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "", "error"), Scribe("b"))
        await call.say("one")
        call.stream.hint("te-IN")
        await call.say("two")
        assert [scribe.streams[0].languages for scribe in call.scribes] == [["en-IN", "te-IN"], ["te-IN"]]

    run(main())


def test_it_is_a_transcriber_as_any_other() -> None:
    class Whole(Hearing):
        async def start(self) -> None:
            for member in self.chain.members:
                await member.provider.start()

        async def close(self) -> None:
            for member in self.chain.members:
                await member.provider.close()

    def make() -> Transcriber:
        faulty, well = load("stt", "fake", {"fail_every": 2, "stt_ms": 30}), load("stt", "fake", {"stt_ms": 30})
        return Whole(Chain("stt", [faulty, well], POLICY), final_s=FINAL_S)

    results = conform(kit.KIT, make)
    assert all(result.passed for result in results), report(results)


# -- one fails, the next hears it --------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["error", "broken"])
def test_one_that_fails_is_relieved_and_the_next_hears_the_whole(fault: str) -> None:
    async def main() -> None:
        call = Call(Scribe("a", fault), Scribe("b"))
        assert await call.say("one two") == final(1, "one two", "b", f"stt.{fault}")
        assert call.scribes[1].utterances == ["one two"]
        assert await call.say("three") == final(2, "three", "a"), "the next one goes to the first again"
        assert [scribe.open_streams for scribe in call.scribes] == [1, 0]

    run(main())


def test_in_the_middle_of_an_utterance_the_next_hears_its_beginning_at_once() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "broken"), Scribe("b"))
        for letter in "abcd":
            call.stream.feed(letter.encode())
            await asyncio.sleep(0.02)
        assert call.told[-1].text == "abcd", "its partials go on"
        assert (call.told[-1].provider, call.told[-1].because) == ("b", "stt.broken")
        assert call.scribes[1].streams[0].audio == b"abcd"
        call.stream.finish(1)
        await asyncio.sleep(1)
        assert call.ends == [final(1, "abcd", "b", "stt.broken")]

    run(main())


@pytest.mark.parametrize("fault", ["silent", "late"])
def test_one_whose_final_is_late_is_relieved_while_the_turn_still_waits(fault: str) -> None:
    async def main() -> None:
        call = Call(Scribe("a", fault), Scribe("b"))
        began = now()
        assert await call.say("one") == final(1, "one", "b", "stt.timeout")
        assert call.ends_at[1] - began == pytest.approx(0.06 + FIRST_S + 0.1)
        assert call.ends_at[1] - began < FINAL_S
        assert len(call.ends) == 1, "the late one is not told as well"
        assert call.chain.members[0].breaker.failure_count == 1

    run(main())


def test_the_only_one_has_all_its_time() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "late", "silent"))
        assert await call.say("one") == final(1, "one", "a")
        began = now()
        assert await call.say("two") == Heard(2, "", error="stt.timeout")
        assert call.ends_at[2] - began == pytest.approx(0.06 + POLICY.first_s)

    run(main())


def test_when_all_have_failed_that_is_an_error() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "error"), Scribe("b", "silent"), Scribe("c", "broken"))
        assert await call.say("one") == Heard(1, "", error="stt.broken")
        assert await call.say("two") == final(2, "two", "a")

    run(main())


def test_when_all_have_failed_while_it_was_said_the_error_waits_for_its_end() -> None:
    """The ear counts only utterances that are over."""

    async def main() -> None:
        call = Call(Scribe("a", "broken"), Scribe("b", "broken"))
        for _ in range(10):
            call.stream.feed(b"x")
            await asyncio.sleep(0.02)
        assert call.ends == []
        call.stream.finish(1)
        assert call.ends == [], "nothing is told from within"
        await asyncio.sleep(0)
        assert call.ends == [Heard(1, "", error="stt.broken")]

    run(main())


def test_the_only_one_may_fail_in_the_middle_and_hears_the_next_utterance_rightly_numbered() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "broken", "", "broken", ""))
        assert await call.say("one") == Heard(1, "", error="stt.broken")
        assert await call.say("two") == final(2, "two", "a")
        assert await call.say("three") == Heard(3, "", error="stt.broken")
        assert await call.say("four") == final(4, "four", "a")

    run(main())


def test_a_language_it_does_not_know_is_not_its_fault() -> None:
    async def main() -> None:
        call = Call(Scribe("a", *["language"] * 9), Scribe("b"))
        for _ in range(9):
            end = await call.say("one")
            assert end is not None
            assert (end.provider, end.because) == ("b", "stt.language")
        assert call.states == ["closed", "closed"]

    run(main())


def test_one_that_cannot_open_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        a = Scribe("a")
        a.opens_badly = ZeroDivisionError()
        call = Call(a, Scribe("b"))
        assert await call.say("one") == final(1, "one", "b", "stt.raised")
        a.opens_badly = None
        assert await call.say("two") == final(2, "two", "a")
        a.opens_badly = ZeroDivisionError()
        alone = Call(a)
        assert await alone.say("one") == Heard(1, "", error="stt.raised")

    with caplog.at_level(logging.ERROR, "antiphon.hearing"):
        run(main())
    assert "a raised" in caplog.text


# -- breakers ----------------------------------------------------------------------------------------


def test_one_that_is_left_alone_is_not_asked_and_has_the_first_place_back_afterwards() -> None:
    async def main() -> None:
        a, b = Scribe("a", "error", "error"), Scribe("b")
        call = Call(a, b)
        for number in (1, 2):
            assert await call.say("bad") == final(number, "bad", "b", "stt.error")
        assert call.states == ["open", "closed"]
        for number in (3, 4):
            assert await call.say("good") == final(number, "good", "b", "breaker.open")
        assert a.utterances == ["bad", "bad"]
        assert b.open_streams == 1
        await asyncio.sleep(POLICY.open_s)
        assert await call.say("back") == final(5, "back", "a")
        assert call.states == ["closed", "closed"]
        assert [a.open_streams, b.open_streams] == [1, 0]

    run(main())


def test_a_probe_that_fails_is_no_loss() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "error", "error", "error"), Scribe("b"))
        for _ in range(2):
            await call.say("bad")
        await asyncio.sleep(POLICY.open_s)
        assert await call.say("probe") == final(3, "probe", "b", "stt.error")
        assert call.states == ["open", "closed"]

    run(main())


def test_a_call_that_ends_in_an_utterance_leaves_room_for_another_probe() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "error", "error"), Scribe("b"))
        for _ in range(2):
            await call.say("bad")
        await asyncio.sleep(POLICY.open_s)
        call.stream.feed(b"x")
        assert not call.chain.members[0].breaker.would_admit
        call.stream.close()
        assert call.chain.members[0].breaker.would_admit

    run(main())


def test_with_everybody_left_alone_an_utterance_is_an_error_until_somebody_is_not() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "error", "error"), Scribe("b", "error", "error"))
        for _ in range(2):
            await call.say("bad")
        assert await call.say("lost") == Heard(3, "", error="breaker.open")
        for letter in "long":  # left alone when it began, and not any more when it ends
            call.stream.feed(letter.encode())
            await asyncio.sleep(POLICY.open_s / 4)
        call.stream.finish(4)
        await asyncio.sleep(1)
        assert call.ends[-1] == final(4, "long", "a")

    run(main())


def test_a_breaker_that_another_call_opened_loses_no_word_of_this_one() -> None:
    """The first still owes an utterance while the next one begins."""

    async def main() -> None:
        call = Call(Scribe("a", answer_s=0.5), Scribe("b"))
        await call.say("one", wait_s=0.0)
        for _ in range(POLICY.failures):
            call.chain.members[0].breaker.failed()
        assert await call.say("two") == final(2, "two", "b", "breaker.open")
        assert final(1, "one", "a") in call.ends

    run(main())


# -- several at once ----------------------------------------------------------------------------------


def test_an_utterance_may_begin_before_the_one_before_it_is_understood() -> None:
    async def main() -> None:
        call = Call(Scribe("a", answer_s=0.5))
        for text in ("one", "two", "three"):
            await call.say(text, wait_s=0.0)
        await asyncio.sleep(1)
        assert call.ends == [final(number, text, "a") for number, text in call.said.items()]

    run(main())


@pytest.mark.parametrize("faults", [("error", ""), ("", "error"), ("error", "error"), ("silent", ""), ("", "broken")])
def test_one_that_fails_for_one_of_them_mixes_nothing_up(faults: tuple[str, str]) -> None:
    async def main() -> None:
        call = Call(Scribe("a", *faults, answer_s=0.5), Scribe("b", answer_s=0.5))
        await call.say("one", wait_s=0.0)
        await call.say("twotwo", wait_s=0.0)
        await call.say("three", wait_s=0.0)
        await asyncio.sleep(5)
        assert {end.utterance: end.text for end in call.ends} == call.said
        assert len(call.ends) == 3
        assert sum(scribe.open_streams for scribe in call.scribes) == 1

    run(main())


def test_a_late_final_of_an_utterance_that_another_one_ended_is_not_taken_for_the_next() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "late", ""), Scribe("b"))
        await call.say("one", wait_s=1.0)
        assert await call.say("two", wait_s=5.0) == final(2, "two", "a")
        assert [end.text for end in call.ends] == ["one", "two"]

    run(main())


# -- bounds and the end --------------------------------------------------------------------------------


def test_of_an_endless_utterance_the_next_one_hears_the_last_half_minute() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "error"), Scribe("b"))
        second = b"x" * 16_000
        call.stream.feed(b"y" * 16_000)
        for _ in range(KEEP_S):
            call.stream.feed(second)
        call.stream.finish(1)
        await asyncio.sleep(1)
        assert call.scribes[1].utterances == ["x" * KEEP_S * 16_000]

    run(main())


def test_after_close_nothing_is_told_and_nothing_is_open() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "", "error"), Scribe("b"))
        await call.say("one", wait_s=0.0)
        await call.say("two", wait_s=0.0)
        call.stream.feed(b"x")
        call.stream.close()
        call.stream.close()
        told = list(call.told)
        call.stream.feed(b"x")
        call.stream.finish(3)
        await asyncio.sleep(10)
        assert call.told == told
        assert [scribe.open_streams for scribe in call.scribes] == [0, 0]
        assert [member.breaker.failure_count for member in call.chain.members] == [0, 0]

    run(main())


def test_a_finish_told_twice_is_one() -> None:
    async def main() -> None:
        call = Call(Scribe("a"))
        await call.say("one")
        call.stream.finish(1)
        await asyncio.sleep(1)
        assert len(call.ends) == 1

    run(main())


# -- the only one, once more ------------------------------------------------------------------------

TRYING = msgspec.structs.replace(POLICY, retries=1, retry_pause_s=0.4, failures=5)


def test_the_only_one_is_asked_again_after_the_stages_pause() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "error"), policy=TRYING)
        assert await call.say("one") == final(1, "one", "a", "stt.error")
        spoken, failed, pause, answered = 3 * 0.02, 0.1, 0.4, 0.1
        assert call.ends_at[1] == pytest.approx(spoken + failed + pause + answered)
        assert call.scribes[0].open_streams == 1
        assert call.chain.members[0].breaker.failure_count == 0

    run(main())


def test_what_is_said_during_the_pause_is_heard_too() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "broken"), policy=TRYING)
        assert await call.say("one two three") == final(1, "one two three", "a", "stt.broken")
        assert call.scribes[0].utterances == ["on", "one two three"]

    run(main())


def test_a_second_failure_is_the_end_of_it() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "error", "error"), policy=TRYING)
        assert await call.say("one") == Heard(1, "", error="stt.error")
        assert await call.say("two") == final(2, "two", "a")

    run(main())


def test_one_whose_breaker_opens_during_the_pause_is_not_asked_again() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "error"), policy=msgspec.structs.replace(TRYING, failures=2))
        call.stream.feed(b"one")
        call.stream.finish(1)
        await asyncio.sleep(0.2)
        call.chain.members[0].breaker.failed()  # another call's
        await asyncio.sleep(1)
        assert call.ends == [Heard(1, "", error="stt.error")]

    run(main())


def test_closing_during_the_pause_ends_it() -> None:
    async def main() -> None:
        call = Call(Scribe("a", "error"), policy=TRYING)
        call.stream.feed(b"one")
        call.stream.finish(1)
        await asyncio.sleep(0.2)
        call.stream.close()
        await asyncio.sleep(2)
        assert (call.ends, call.scribes[0].open_streams) == ([], 0)

    run(main())


FAULTS = st.lists(
    st.sampled_from(["", "", "error", "broken", "silent", "late", "twice", "early", "astray", "language"]), max_size=12
)
UTTERANCES = st.lists(
    st.tuples(st.text("abcdefgh", max_size=6), st.sampled_from([0.0, 0.03, 0.5, 1.0, 4.0, 40.0])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(FAULTS, FAULTS, UTTERANCES, st.sampled_from([0.05, 0.4, 0.9]), st.sampled_from([0, 1, 2]))
def test_each_finish_gets_exactly_one_end_whatever_two_transcribers_do(
    first: list[str], second: list[str], utterances: list[tuple[str, float]], answer_s: float, retries: int
) -> None:
    async def main() -> None:
        policy = msgspec.structs.replace(POLICY, retries=retries)
        scribes = Scribe("a", *first, answer_s=answer_s), Scribe("b", *second, answer_s=answer_s)
        call = Call(*scribes, policy=policy)
        for text, wait_s in utterances:
            await call.say(text, wait_s=wait_s)
        await asyncio.sleep(20)
        assert sorted(end.utterance for end in call.ends) == list(call.said)
        for end in call.ends:
            assert end.error or (end.provider and end.text == call.said[end.utterance])
        assert sum(scribe.open_streams for scribe in call.scribes) <= 1
        call.stream.close()
        await asyncio.sleep(POLICY.open_s)
        assert [member.breaker.would_admit for member in call.chain.members] == [True, True], "no probe is left out"

    run(main())


@settings(max_examples=100, deadline=None)
@given(FAULTS, UTTERANCES)
def test_with_one_that_is_well_behind_it_every_word_is_understood(
    faults: list[str], utterances: list[tuple[str, float]]
) -> None:
    async def main() -> None:
        call = Call(Scribe("a", *faults), Scribe("b"))
        for text, wait_s in utterances:
            await call.say(text, wait_s=wait_s)
        await asyncio.sleep(20)
        assert {end.utterance: end.text for end in call.ends} == call.said

    run(main())
