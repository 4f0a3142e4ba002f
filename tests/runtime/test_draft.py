"""An answer to words that are not confirmed yet: complete when they are, and without a trace when they are not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import pytest
from call_parts import Answers, DeafTranscriber, Voice, now

from antiphon.errors import ProviderError
from antiphon.kernel.commands import Speculate
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.runtime.draft import MAX_CHARS, Draft
from antiphon.runtime.ports import Act, Intent, ReplyEnd, ReplyPart, ReplyRequest, Sound, TextDelta
from antiphon.runtime.resilience import StagePolicy
from antiphon.runtime.stages import Limits, Providers, Stages
from antiphon.sim.clock import run

Parts = AsyncGenerator[ReplyPart, None]
ORDER = Speculate(4, "what are the fees", "en-IN")
HISTORY = (Message("user", "hello", "en-IN", 1),)
PASSAGE = Passage("p1", "text", "source", 0.5)
WHOLE = [TextDelta("The fee is two lakh. "), TextDelta("The hostel is extra."), ReplyEnd(sources=("fees",))]
PIECE = Sound(bytes(1600))
"""A tenth of a second."""


class Mind:
    """All that a draft asks, and the books on it: who was asked, and what was closed."""

    def __init__(
        self,
        answer: Callable[[ReplyRequest, Act], Parts],
        *,
        understand_s: float = 0.05,
        voice_s: float = 0.0,
        responders: Sequence[object] = (),
        llm: StagePolicy | None = None,
    ) -> None:
        self.requests: list[ReplyRequest] = []
        self.spoken: list[str] = []
        self.running: list[str] = []
        self._answer = answer
        self._understand_s = understand_s
        self._voice_s = voice_s
        providers = Providers(
            transcribers=(DeafTranscriber(),),  # type: ignore[arg-type]
            responders=(Answers(self.respond), *responders),  # type: ignore[arg-type]
            degraded=Answers(self.respond),
            synthesizers=(Voice(self.speak),),
            classifier=self,
            retriever=self,
            limits=Limits(llm=llm or StagePolicy(retries=0)),
        )
        self.name = "mind"
        self.stages = Stages(providers, final_s=1.2)

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to close."""

    async def _busy(self, what: str, seconds: float) -> None:
        self.running.append(what)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.running.remove(what)

    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
        await self._busy("intent", self._understand_s)
        return Intent("fees", 0.9)

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[Passage, ...]:
        await self._busy("passages", self._understand_s)
        return (PASSAGE,)

    async def respond(self, request: ReplyRequest, act: Act) -> Parts:
        self.requests.append(request)
        self.running.append("answer")
        try:
            async with aclosing(self._answer(request, act)) as parts:
                async for part in parts:
                    yield part
        finally:
            self.running.remove("answer")

    async def speak(self, text: str) -> AsyncGenerator[Sound, None]:
        self.spoken.append(text)
        self.running.append("voice")
        try:
            for _ in range(20):
                await asyncio.sleep(self._voice_s)
                yield PIECE
        finally:
            self.running.remove("voice")

    def draft(self, *, left_s: float = 4.0) -> Draft:
        return Draft(
            ORDER,
            session="s1",
            stages=self.stages,
            history=HISTORY,
            left_s=left_s,
            rate=8000,
            voice="asha",
        )


def whole(request: ReplyRequest, act: Act) -> Parts:
    return in_time(0.0)


async def in_time(seconds: float) -> Parts:
    for part in WHOLE:
        await asyncio.sleep(seconds)
        yield part


async def hangs(request: ReplyRequest, act: Act) -> Parts:
    yield WHOLE[0]
    await asyncio.sleep(10_000)


async def fails(request: ReplyRequest, act: Act) -> Parts:
    raise ProviderError("down", stage="llm", code="llm.down")
    yield WHOLE[0]


async def no_act(name: str, kind: str, arguments: str) -> str:
    raise AssertionError("nothing was to be done")


async def adopted(draft: Draft, act: Act = no_act) -> list[tuple[float, ReplyPart]]:
    """Its parts, and when each came."""
    came: list[tuple[float, ReplyPart]] = []
    async with aclosing(draft.parts(act)) as parts:
        async for part in parts:
            came.append((now(), part))
    draft.release()
    return came


async def nothing_runs(mind: Mind) -> None:
    for _ in range(8):
        await asyncio.sleep(0)
    me = asyncio.current_task()
    assert [task for task in asyncio.all_tasks() if task is not me] == []
    assert mind.running == []


# -- wanted -------------------------------------------------------------------------------------------


def test_it_asks_as_the_confirmed_turn_would() -> None:
    async def main() -> None:
        mind = Mind(whole)
        draft = mind.draft()
        await asyncio.sleep(0.1)
        await adopted(draft)
        assert mind.requests == [
            ReplyRequest(*("s1", 4, 1, "what are the fees", "en-IN", "fees"), (PASSAGE,), HISTORY),
        ]
        assert draft.answered_by == "answers"
        assert [member.name for member in draft.asked] == ["answers"]

    run(main())


@pytest.mark.parametrize("adopted_at", [0.06, 0.1, 0.4, 3.0])
def test_adopted_it_gives_the_same_parts_those_that_are_there_at_once(adopted_at: float) -> None:
    async def main() -> None:
        mind = Mind(lambda request, act: in_time(0.2))
        draft = mind.draft()
        await asyncio.sleep(adopted_at)
        came = await adopted(draft)
        assert [part for _, part in came] == WHOLE
        assert [at for at, _ in came] == [max(adopted_at, at) for at in (0.25, 0.45, 0.65)]
        assert len(mind.requests) == 1
        await asyncio.sleep(5)
        await nothing_runs(mind)

    run(main())


def test_what_understands_slowly_is_waited_for_until_the_draft_is_wanted() -> None:
    async def main() -> None:
        mind = Mind(whole, understand_s=1.0)
        draft = mind.draft()
        await asyncio.sleep(0.4)
        assert mind.requests == []
        async with aclosing(draft.parts(no_act)) as parts:
            await anext(parts)
        assert (mind.requests[0].intent, mind.requests[0].passages) == ("", ())
        assert (await draft.intent).name == "fees", "whoever confirms the turn may still want it"
        draft.release()
        await nothing_runs(mind)

    run(main())


def test_what_comes_in_time_is_answered_from_however_slow_it_was() -> None:
    async def main() -> None:
        mind = Mind(whole, understand_s=1.0)
        draft = mind.draft()
        await asyncio.sleep(1.2)
        assert mind.requests[0].intent == "fees"
        draft.release()
        await nothing_runs(mind)

    run(main())


def test_its_first_sentence_is_spoken_ahead_and_taken_once_by_the_one_who_says_it() -> None:
    async def main() -> None:
        mind = Mind(whole)
        draft = mind.draft()
        await asyncio.sleep(0.5)
        assert mind.spoken == ["The fee is two lakh."]
        assert draft.take_rehearsal("The fee is three lakh.") is None
        rehearsal = draft.take_rehearsal("The fee is two lakh.")
        assert rehearsal is not None
        assert draft.take_rehearsal("The fee is two lakh.") is None
        draft.release()
        assert sum([len(sound.pcm) async for sound in rehearsal.sounds()]) == 20 * 1600, "it is the taker's now"
        assert (draft.chars, draft.samples) == (len("The fee is two lakh. The hostel is extra."), 20 * 800)
        await nothing_runs(mind)

    run(main())


def test_markup_is_not_spoken_ahead_either() -> None:
    async def marked(request: ReplyRequest, act: Act) -> Parts:
        yield TextDelta("**Fees** are `two lakh`")
        yield ReplyEnd()

    async def main() -> None:
        mind = Mind(marked)
        draft = mind.draft()
        await asyncio.sleep(0.5)
        assert mind.spoken == ["Fees are two lakh"]
        draft.release()

    run(main())


def test_what_it_wants_to_do_waits_until_it_is_wanted_itself() -> None:
    async def books(request: ReplyRequest, act: Act) -> Parts:
        yield TextDelta("One moment. ")
        yield TextDelta(await act("book", "write", "{}"))
        yield ReplyEnd()

    done: list[tuple[float, str]] = []

    async def act(name: str, kind: str, arguments: str) -> str:
        done.append((now(), name))
        return "Seat 4."

    async def main() -> None:
        mind = Mind(books)
        draft = mind.draft()
        await asyncio.sleep(100)  # the wait is not the model's delay
        assert done == []
        assert not draft.is_failed
        came = await adopted(draft, act)
        assert done == [(100.0, "book")]
        assert [part for _, part in came] == [TextDelta("One moment. "), TextDelta("Seat 4."), ReplyEnd()]
        await nothing_runs(mind)

    run(main())


def test_it_does_not_write_a_book_ahead_of_being_wanted() -> None:
    async def endless(request: ReplyRequest, act: Act) -> Parts:
        for _ in range(1000):
            yield TextDelta("And another thing. ")
        yield ReplyEnd()

    async def main() -> None:
        mind = Mind(endless)
        draft = mind.draft()
        await asyncio.sleep(10)
        assert MAX_CHARS < draft.chars < MAX_CHARS + 100
        assert len(await adopted(draft)) == 1001
        await nothing_runs(mind)

    run(main())


def test_reroutes_are_known_to_who_adopts_it_and_later_ones_told() -> None:
    async def main() -> None:
        down, answers = ProviderError("down", stage="llm", code="llm.down"), iter([0.1, 0.3, 0.0])

        async def third_time_well(request: ReplyRequest, act: Act) -> Parts:
            await asyncio.sleep(next(answers))
            if len(mind.requests) < 3:
                raise down
            yield WHOLE[0]

        mind = Mind(third_time_well, llm=StagePolicy(retries=2, retry_pause_s=0.0))
        draft = mind.draft()
        await asyncio.sleep(0.2)
        assert draft.reroutes == [("answers", "llm.down", "answers")]
        later: list[tuple[str, str, str]] = []
        draft.rerouted = lambda *told: later.append(told)
        await adopted(draft)
        assert later == [("answers", "llm.down", "answers")]
        assert len(draft.reroutes) == 1

    run(main())


# -- not wanted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropped_at", [0.0, 0.01, 0.1, 0.5, 50.0])
@pytest.mark.parametrize("answer", [whole, hangs, fails])
def test_dropped_it_closes_every_request(dropped_at: float, answer: Callable[[ReplyRequest, Act], Parts]) -> None:
    async def main() -> None:
        mind = Mind(answer, voice_s=0.05)
        draft = mind.draft()
        if dropped_at:
            await asyncio.sleep(dropped_at)
        draft.release()
        draft.release()
        await nothing_runs(mind)
        blamed = [member.breaker.failure_count for member in (*mind.stages.llm.members, *mind.stages.tts.members)]
        late = answer is hangs and dropped_at == 50.0
        assert blamed == [int((answer is fails and dropped_at >= 0.1) or late), 0]

    run(main())


def test_dropped_while_it_waits_to_act_it_never_acts() -> None:
    async def books(request: ReplyRequest, act: Act) -> Parts:
        yield TextDelta(await act("book", "write", "{}"))

    async def main() -> None:
        mind = Mind(books)
        draft = mind.draft()
        await asyncio.sleep(1)
        assert "answer" in mind.running
        draft.release()
        await nothing_runs(mind)

    run(main())


@pytest.mark.parametrize("stop_after", [0, 1])
def test_whoever_adopts_it_may_stop(stop_after: int) -> None:
    async def main() -> None:
        mind = Mind(hangs)
        draft = mind.draft()
        task = asyncio.ensure_future(adopted(draft))
        await asyncio.sleep(0.2 * stop_after)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        draft.release()
        await nothing_runs(mind)

    run(main())


# -- failed -------------------------------------------------------------------------------------------


def test_one_that_failed_says_so_and_adopted_all_the_same_it_fails_where_it_did() -> None:
    async def main() -> None:
        mind = Mind(fails)
        draft = mind.draft()
        assert not draft.is_failed
        await asyncio.sleep(0.5)
        assert (draft.is_failed, draft.answered_by) == (True, "answers")
        with pytest.raises(ProviderError, match=r"llm\.down"):
            await adopted(draft)
        draft.release()
        await nothing_runs(mind)

    run(main())


def test_without_anybody_to_ask_it_has_failed() -> None:
    async def main() -> None:
        mind = Mind(whole)
        for _ in range(mind.stages.llm.policy.failures):
            mind.stages.llm.members[0].breaker.failed()
        draft = mind.draft()
        await asyncio.sleep(0.5)
        assert draft.is_failed
        assert mind.requests == []
        draft.release()

    run(main())


def test_it_asks_the_first_that_is_not_left_alone() -> None:
    async def main() -> None:
        second = Answers(whole)
        second.name = "second"
        mind = Mind(hangs, responders=(second,))
        for _ in range(mind.stages.llm.policy.failures):
            mind.stages.llm.members[0].breaker.failed()
        draft = mind.draft()
        assert [part for _, part in await adopted(draft)] == WHOLE
        assert (draft.answered_by, [member.name for member in draft.asked]) == ("second", ["second"])

    run(main())


def test_an_odd_failure_of_one_that_nobody_wanted_is_logged_once_and_disturbs_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def odd(request: ReplyRequest, act: Act) -> Parts:
        raise ZeroDivisionError
        yield

    async def main() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        mind = Mind(odd)
        draft = mind.draft()
        await asyncio.sleep(1)
        draft.release()
        del draft
        await nothing_runs(mind)
        assert complaints == []

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [(record.getMessage(), record.__dict__["call"]) for record in caplog.records] == [
        ("a draft that nobody wanted had failed: ZeroDivisionError()", "s1")
    ]
