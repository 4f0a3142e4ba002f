"""One voice and one text: its limits, its breaker, and speaking where nobody hears it yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from call_parts import Voice, now

from antiphon.errors import ProviderError, ProviderTimeout
from antiphon.runtime.breaker import CircuitBreakerOpen
from antiphon.runtime.chain import Chain
from antiphon.runtime.ports import Sound, Synthesizer
from antiphon.runtime.resilience import HEDGE_FROM, StagePolicy
from antiphon.runtime.voicing import MAX_REHEARSED_S, Rehearsal, voiced
from antiphon.sim.clock import run

RATE = 8000
SECOND = Sound(bytes(2 * RATE))
POLICY = StagePolicy(first_s=1.0, between_s=0.5, failures=1, open_s=10.0)


def seconds(count: int, *, first_s: float = 0.0, then_s: float = 0.0) -> Voice:
    """So many seconds of sound, a second at a time."""

    async def speak(text: str) -> AsyncGenerator[Sound, None]:
        for number in range(count):
            await asyncio.sleep(then_s if number else first_s)
            yield SECOND

    return Voice(speak)


def raising(error: Exception, after: int = 0) -> Voice:
    async def speak(text: str) -> AsyncGenerator[Sound, None]:
        for _ in range(after):
            yield SECOND
        raise error

    return Voice(speak)


class Watched(Voice):
    """Gives sound without end, and says how much was taken and whether it was closed."""

    def __init__(self) -> None:
        super().__init__(lambda text: self._endless())
        self.given = 0
        self.closed = False

    async def _endless(self) -> AsyncGenerator[Sound, None]:
        try:
            while True:
                await asyncio.sleep(0.01)
                self.given += 1
                yield SECOND
        finally:
            self.closed = True


def chain_of(voice: Voice, policy: StagePolicy = POLICY) -> Chain[Synthesizer]:
    return Chain("tts", (voice,), policy)


def sounds_of(chain: Chain[Synthesizer]) -> AsyncGenerator[Sound, None]:
    return voiced(chain, chain.members[0], "one two", language="en-IN", rate=RATE, voice="asha")


def rehearsal_of(chain: Chain[Synthesizer]) -> Rehearsal:
    return Rehearsal(chain, chain.members[0], "one two", language="en-IN", rate=RATE, voice="asha")


async def collect(sounds: AsyncGenerator[Sound, None], given: list[Sound]) -> None:
    async with aclosing(sounds):
        async for sound in sounds:
            given.append(sound)


async def all_of(sounds: AsyncGenerator[Sound, None]) -> int:
    given: list[Sound] = []
    await collect(sounds, given)
    return len(given)


async def nothing_runs() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    me = asyncio.current_task()
    assert [task for task in asyncio.all_tasks() if task is not me] == []


# -- one voice ----------------------------------------------------------------------------------------


def test_a_voice_is_asked_as_it_was_wanted_and_the_name_of_one_is_the_first_providers_alone() -> None:
    asked: list[object] = []

    class Asked(Voice):
        def synthesize(
            self, text: str, *, language: str, sample_rate: int, voice: str = ""
        ) -> AsyncGenerator[Sound, None]:
            asked.append((text, language, sample_rate, voice))
            return super().synthesize(text, language=language, sample_rate=sample_rate, voice=voice)

    async def main() -> None:
        chain = Chain("tts", (Asked(seconds(2)._speak), Asked(seconds(2)._speak)), POLICY)
        for member in chain.members:
            sounds = voiced(chain, member, "one two", language="en-IN", rate=RATE, voice="asha")
            assert await all_of(sounds) == 2
        assert asked == [("one two", "en-IN", RATE, "asha"), ("one two", "en-IN", RATE, "")]

    run(main())


@pytest.mark.parametrize(
    ("voice", "at_s", "state"),
    [
        (seconds(3, first_s=0.9, then_s=0.4), 1.7, "closed"),
        (seconds(3, first_s=1.1), 1.0, "open"),
        (seconds(3, first_s=0.9, then_s=0.6), 1.4, "open"),
    ],
)
def test_the_first_sound_and_each_further_one_have_their_limits(voice: Voice, at_s: float, state: str) -> None:
    async def main() -> None:
        chain = chain_of(voice)
        if state == "closed":
            assert await all_of(sounds_of(chain)) == 3
        else:
            with pytest.raises(ProviderTimeout) as caught:
                await all_of(sounds_of(chain))
            assert (caught.value.code, caught.value.stage, caught.value.provider) == ("tts.timeout", "tts", "voice")
        assert now() == pytest.approx(at_s)
        assert chain.members[0].breaker.state == state

    run(main())


def test_who_takes_its_time_to_listen_is_not_the_voices_delay() -> None:
    async def main() -> None:
        chain = chain_of(seconds(3, first_s=0.3, then_s=0.3))
        async for _ in sounds_of(chain):
            await asyncio.sleep(100)
        assert chain.members[0].breaker.state == "closed"

    run(main())


def test_equal_limits_are_no_reason_not_to_learn_how_long_it_takes() -> None:
    async def main() -> None:
        chain = chain_of(seconds(1, first_s=0.25), StagePolicy(first_s=1.0, between_s=1.0))
        for _ in range(HEDGE_FROM):
            await all_of(sounds_of(chain))
        assert chain.members[0].lateness.p95() == pytest.approx(0.25)

    run(main())


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ProviderError("down", code="tts.server"), "open"),
        (ZeroDivisionError(), "open"),
        (ProviderError("no such voice", code="tts.voice", retryable=False), "closed"),
    ],
)
@pytest.mark.parametrize("after", [0, 1])
def test_what_it_raises_is_passed_on_and_booked(error: Exception, state: str, after: int) -> None:
    async def main() -> None:
        chain = chain_of(raising(error, after))
        with pytest.raises(type(error)):
            await all_of(sounds_of(chain))
        assert chain.members[0].breaker.state == state

    run(main())


def test_no_sound_at_all_is_a_failure() -> None:
    async def main() -> None:
        chain = chain_of(seconds(0), StagePolicy(failures=2))
        for _ in range(2):
            with pytest.raises(ProviderError) as caught:
                await all_of(sounds_of(chain))
            assert caught.value.code == "tts.empty"
        assert chain.members[0].breaker.state == "open"

    run(main())


def test_one_that_raises_before_it_gives_anything_to_iterate_is_booked_too() -> None:
    def refuse(text: str) -> AsyncGenerator[Sound, None]:
        raise ZeroDivisionError

    async def main() -> None:
        chain = chain_of(Voice(refuse))
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await all_of(sounds_of(chain))
            assert chain.members[0].breaker.state == "open"
            await asyncio.sleep(10)

    run(main())


def test_one_that_is_left_alone_is_not_asked() -> None:
    async def main() -> None:
        chain = chain_of(raising(ZeroDivisionError()))
        with pytest.raises(ZeroDivisionError):
            await all_of(sounds_of(chain))
        with pytest.raises(CircuitBreakerOpen):
            await all_of(sounds_of(chain))

    run(main())


def test_closing_it_closes_the_voices_request_and_says_nothing_about_it() -> None:
    async def main() -> None:
        voice = Watched()
        chain = chain_of(voice)
        sounds = sounds_of(chain)
        await anext(sounds)
        await sounds.aclose()
        assert voice.closed
        assert chain.members[0].breaker.failure_count == 0

    run(main())


# -- ahead of time ------------------------------------------------------------------------------------


def test_what_was_rehearsed_is_there_at_once_and_the_rest_comes_as_it_is_made() -> None:
    async def main() -> None:
        rehearsal = rehearsal_of(chain_of(seconds(4, first_s=0.5, then_s=0.4)))
        await asyncio.sleep(1.0)
        assert rehearsal.samples == 2 * RATE
        came = []
        async for _ in rehearsal.sounds():
            came.append(now())
        assert came == [1.0, 1.0, 1.3, 1.7]
        assert rehearsal.samples == 4 * RATE
        await nothing_runs()

    run(main())


def test_it_may_be_wanted_before_there_is_anything() -> None:
    async def main() -> None:
        rehearsal = rehearsal_of(chain_of(seconds(2, first_s=0.5)))
        assert await all_of(rehearsal.sounds()) == 2
        assert now() == 0.5
        await nothing_runs()

    run(main())


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("wanted_at", [0.0, 1.0])
def test_its_failure_comes_where_it_happened(after: int, wanted_at: float) -> None:
    async def main() -> None:
        rehearsal = rehearsal_of(chain_of(raising(ProviderError("down", code="tts.down"), after)))
        await asyncio.sleep(wanted_at)
        given: list[Sound] = []
        with pytest.raises(ProviderError, match=r"tts\.down"):
            await collect(rehearsal.sounds(), given)
        assert len(given) == after
        await nothing_runs()

    run(main())


def test_no_more_is_rehearsed_than_a_caller_would_hear_in_a_while() -> None:
    async def main() -> None:
        voice = Watched()
        rehearsal = rehearsal_of(chain_of(voice))
        await asyncio.sleep(100)
        assert MAX_REHEARSED_S <= voice.given <= MAX_REHEARSED_S + 1
        assert not voice.closed, "it is not too late to want it"
        sounds = rehearsal.sounds()
        for _ in range(2 * MAX_REHEARSED_S):
            await anext(sounds)
        await sounds.aclose()
        assert voice.closed
        await nothing_runs()

    run(main())


@pytest.mark.parametrize("at_s", [0.0, 0.05, 100.0])
def test_one_that_nobody_wants_closes_the_voices_request(at_s: float) -> None:
    async def main() -> None:
        voice = Watched()
        chain = chain_of(voice)
        rehearsal = rehearsal_of(chain)
        if at_s:
            await asyncio.sleep(at_s)
        rehearsal.cancel()
        rehearsal.cancel()
        await nothing_runs()
        assert voice.closed or not voice.asked or voice.given == 0
        assert chain.members[0].breaker.failure_count == 0

    run(main())


def test_a_failure_of_one_that_nobody_wants_disturbs_nobody() -> None:
    async def main() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        rehearsal = rehearsal_of(chain_of(raising(ZeroDivisionError())))
        await asyncio.sleep(1)
        rehearsal.cancel()
        await nothing_runs()
        del rehearsal
        assert complaints == []

    run(main())
