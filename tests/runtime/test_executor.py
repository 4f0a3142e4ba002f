"""Who carries a call's commands out: what is asked of whom, what of a draft is used, what is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import msgspec
import pytest
from call_parts import POLICY, Answers, House, Voice, Wire, in_pieces, now, start

from antiphon.errors import ProviderError
from antiphon.kernel import events as ev
from antiphon.kernel.history import Message
from antiphon.runtime.effects import Effector
from antiphon.runtime.ports import Act, Intent, ReplyPart, ReplyRequest, Sound, TextDelta
from antiphon.runtime.resilience import StagePolicy
from antiphon.runtime.stages import Limits
from antiphon.sim.clock import run
from antiphon.sim.providers import SimSynthesizer

Parts = AsyncGenerator[ReplyPart, None]
AFTER = msgspec.structs.replace(POLICY, speculate=False)
AHEAD = msgspec.structs.replace(POLICY, speculate=True)
PASSAGE = ev.Passage("p1", "text", "source", 0.5)
QUESTION = "what are the fees"


class Model(Answers):
    """Answers by a function of the request; keeps every request, and counts those that are open."""

    def __init__(self, name: str, answer: Callable[[ReplyRequest, Act], Parts]) -> None:
        super().__init__(self._kept)
        self.name = name
        self.requests: list[ReplyRequest] = []
        self.open = 0
        self._by = answer

    async def _kept(self, request: ReplyRequest, act: Act) -> Parts:
        self.requests.append(request)
        self.open += 1
        try:
            async for part in self._by(request, act):
                yield part
        finally:
            self.open -= 1


def saying(name: str, text: str = "Two lakh.", after: float = 0.2) -> Model:
    async def answer(request: ReplyRequest, act: Act) -> Parts:
        await asyncio.sleep(after)
        async for part in in_pieces(text):
            yield part

    return Model(name, answer)


def failing(name: str, *texts: str) -> Model:
    async def answer(request: ReplyRequest, act: Act) -> Parts:
        await asyncio.sleep(0.05)
        for text in texts:
            yield TextDelta(text)
            await asyncio.sleep(0.5)
        raise ProviderError("down", provider=name, stage="llm", code="llm.down", retryable=False)

    return Model(name, answer)


class Reads:
    """A classifier and a retriever in one."""

    name = "reads"

    def __init__(self, seconds: float = 0.05) -> None:
        self.asked: list[tuple[str, Sequence[Message]]] = []
        self._seconds = seconds

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to close."""

    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
        self.asked.append((text, history))
        await asyncio.sleep(self._seconds)
        return Intent("fees", 0.9)

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[ev.Passage, ...]:
        self.asked.append((text, history))
        await asyncio.sleep(self._seconds)
        return (PASSAGE,)


class Caller:
    """A call whose greeting was heard, and what the caller does."""

    def __init__(self, effectors: dict[str, Effector] | None = None, **how: Any) -> None:
        self.house = House()
        self._effectors = effectors or {}
        self._how = how

    async def __aenter__(self) -> Caller:
        host = await self.house.open(**self._how)
        object.__setattr__(host.services, "effectors", self._effectors)
        self.stages = host.services.stages
        self.sink = host.connect(start(), Wire())
        await asyncio.sleep(2)
        self.house.facts.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.house.shut()
        for _ in range(8):
            await asyncio.sleep(0)
        me = asyncio.current_task()
        assert [task for task in asyncio.all_tasks() if task is not me] == []

    @property
    def facts(self) -> Any:
        return self.house.facts

    def says(self, text: str) -> None:
        """Said, and silent now; nobody knows yet whether that was all."""
        ear = self.house.ears[-1]
        ear.post(ev.SpeechStarted())
        ear.post(ev.TranscriptPartial(self.number, text))
        ear.post(ev.SpeechStopped())

    @property
    def number(self) -> int:
        ear = self.house.ears[-1]
        return ear.finished[-1] + 1 if ear.finished else ear.first

    async def was_heard(self, text: str) -> None:
        await asyncio.sleep(POLICY.endpoint_ms / 1000 + 0.01)
        ear = self.house.ears[-1]
        ear.post(ev.TranscriptFinal(ear.finished[-1], text))

    async def asks(self, text: str = QUESTION, heard: str = "", *, wait_s: float = 5.0) -> None:
        self.says(text)
        await self.was_heard(heard or text)
        await asyncio.sleep(wait_s)

    def codes(self) -> list[tuple[str, str, str]]:
        return [(event.provider, event.code, event.to) for event in self.facts.of(ev.StageRerouted)]

    def answered_by(self) -> list[str]:
        return [event.provider for event in self.facts.of(ev.ReplyBegun)]


# -- what is asked ------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [AFTER, AHEAD])
def test_the_responder_gets_everything_it_needs(policy: object) -> None:
    async def main() -> None:
        model, reads = saying("model"), Reads()
        async with Caller(policy=policy, responder=model, classifier=reads, retriever=reads) as caller:
            await caller.asks()
            history = (Message("assistant", "greeting0 greeting1", "en-IN", 1),)
            assert model.requests == [
                ReplyRequest("call-1", 2, 1, QUESTION, "en-IN", "fees", (PASSAGE,), history, "full", "")
            ]
            assert reads.asked == [(QUESTION, history)] * 2

    run(main())


def test_what_understands_fails_alone() -> None:
    class Fails(Reads):
        async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
            raise ZeroDivisionError

        async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[ev.Passage, ...]:
            raise ProviderError("down", provider="store", stage="retrieval", code="retrieval.down")

    async def main() -> None:
        for policy in (AFTER, AHEAD):
            async with Caller(policy=policy, classifier=Fails(), retriever=Fails()) as caller:
                await caller.asks()
                assert {(event.stage, event.code, event.provider) for event in caller.facts.of(ev.StageFailed)} == {
                    ("intent", "intent.raised", "reads"),
                    ("retrieval", "retrieval.down", "store"),
                }
                assert caller.facts.of(ev.PlayoutFinished)

    run(main())


# -- who is asked -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [AFTER, AHEAD])
def test_the_ladder_asks_each_once_and_then_nobodys_model(policy: object) -> None:
    async def main() -> None:
        models = [failing("a"), failing("b"), saying("last")]
        async with Caller(policy=policy, responders=models[:2], degraded=models[2]) as caller:
            await caller.asks()
            tiers = [[request.tier for request in model.requests] for model in models]
            assert tiers == [["full"] * (1 + (policy is AHEAD)), ["fallback"], ["degraded"]]
            assert caller.answered_by() == ["last"]

    run(main())


def test_with_more_rungs_than_providers_the_passages_answer_instead_of_one_that_failed() -> None:
    async def main() -> None:
        policy = msgspec.structs.replace(AFTER, fallbacks=3)
        a, b, last = failing("a"), failing("b"), saying("last")
        async with Caller(policy=policy, responders=(a, b), degraded=last) as caller:
            await caller.asks()
            assert [len(model.requests) for model in (a, b, last)] == [1, 1, 1]
            assert last.requests[0].tier == "fallback"

    run(main())


def test_one_that_broke_off_in_its_sentence_may_end_it_if_there_is_no_other() -> None:
    async def main() -> None:
        async def breaks_once(request: ReplyRequest, act: Act) -> Parts:
            if request.attempt == 1:
                yield TextDelta("The fee is two lakh rupees a year. And ")
                await asyncio.sleep(1)
                raise ProviderError("cut", stage="llm", code="llm.cut")
            yield TextDelta("the hostel is extra.")

        model = Model("a", breaks_once)
        async with Caller(policy=AFTER, responder=model) as caller:
            await caller.asks(wait_s=9)
            assert [request.said for request in model.requests] == ["", "The fee is two lakh rupees a year."]
            assert caller.answered_by() == ["a", "a"]

    run(main())


def test_one_that_is_left_alone_is_passed_over_and_that_is_told() -> None:
    async def main() -> None:
        a, b = failing("a"), saying("b")
        limits = Limits(llm=StagePolicy(retries=0, failures=1, open_s=60.0))
        async with Caller(policy=AFTER, responders=(a, b), limits=limits) as caller:
            await caller.asks()
            await caller.asks()
            assert len(a.requests) == 1
            assert caller.answered_by() == ["b", "b"]
            assert caller.codes() == [("a", "breaker.open", "b")]
            assert caller.stages.status()["llm"]["a"]["state"] == "open"
            await asyncio.sleep(60)
            a._by = saying("a")._by
            await caller.asks()
            assert caller.answered_by()[-1] == "a"

    run(main())


def test_a_further_try_is_told() -> None:
    async def main() -> None:
        async def once_busy(request: ReplyRequest, act: Act) -> Parts:
            if len(model.requests) == 1:
                raise ProviderError("busy", stage="llm", code="llm.busy")
            yield TextDelta("Two lakh.")

        for policy in (AFTER, AHEAD):
            model = Model("a", once_busy)
            async with Caller(policy=policy, responder=model) as caller:
                await caller.asks()
                assert caller.codes() == [("a", "llm.busy", "a")]
                assert caller.facts.of(ev.StageFailed) == []

    run(main())


# -- answering ahead ----------------------------------------------------------------------------------


def first_heard(caller: Caller) -> float:
    return next(
        entry.at
        for entry in caller.house.entries
        if isinstance(entry.event, ev.SegmentStarted) and entry.event.turn == 2
    )


def test_an_answer_that_was_begun_is_heard_sooner_and_asked_for_once() -> None:
    async def main() -> None:
        heard: dict[bool, float] = {}
        for policy in (AFTER, AHEAD):
            model, reads = saying("model", after=0.3), Reads()
            async with Caller(policy=policy, responder=model, classifier=reads, retriever=reads) as caller:
                await caller.asks()
                heard[policy is AHEAD] = first_heard(caller)
                assert len(model.requests) == 1
                assert len(reads.asked) == 2
                assert caller.facts.names.count("IntentReady") == 1
        assert heard[False] - heard[True] >= 300

    run(main())


def test_nothing_of_it_is_told_before_the_turn_is_confirmed() -> None:
    async def main() -> None:
        model, reads = saying("model", after=0.0), Reads(0.0)
        async with Caller(policy=AHEAD, responder=model, classifier=reads, retriever=reads) as caller:
            caller.says(QUESTION)
            await asyncio.sleep(0.4)
            assert len(model.requests) == 1
            assert caller.facts.names == ["SpeechStarted", "TranscriptPartial", "SpeechStopped", "DeadlineReached"]
            assert caller.facts.of(ev.DeadlineReached) == [ev.DeadlineReached("ahead")], "only the final is asked for"
            await caller.was_heard("What are the fees?")
            await asyncio.sleep(5)
            assert len(model.requests) == 1
            (ended,) = caller.facts.of(ev.SpeculationEnded)
            assert (ended.turn, ended.outcome, ended.chars, ended.provider) == (2, "adopted", 9, "model")
            assert ended.audio_ms == 400, "two words were spoken ahead"
            names = caller.facts.names
            assert names.index("TranscriptFinal") < names.index("IntentReady") < names.index("SpeculationEnded")
            assert names.index("SpeculationEnded") < names.index("ReplyBegun") < names.index("SegmentStarted")

    run(main())


def test_other_words_get_an_answer_of_their_own() -> None:
    async def main() -> None:
        async def slow(request: ReplyRequest, act: Act) -> Parts:
            await asyncio.sleep(0.6)
            yield TextDelta("Two lakh.")

        model = Model("model", slow)
        async with Caller(policy=AHEAD, responder=model) as caller:
            await caller.asks(QUESTION, "what are the dates")
            assert [request.text for request in model.requests] == [QUESTION, "what are the dates"]
            assert [event.outcome for event in caller.facts.of(ev.SpeculationEnded)] == ["dropped"]
            assert model.open == 0

    run(main())


def test_a_draft_that_failed_is_not_adopted() -> None:
    async def main() -> None:
        async def once_broken(request: ReplyRequest, act: Act) -> Parts:
            if len(model.requests) == 1:
                raise ProviderError("down", stage="llm", code="llm.down", retryable=False)
            yield TextDelta("Two lakh.")

        model = Model("model", once_broken)
        async with Caller(policy=AHEAD, responder=model) as caller:
            await caller.asks()
            assert [request.attempt for request in model.requests] == [1, 1]
            assert [event.outcome for event in caller.facts.of(ev.SpeculationEnded)] == ["dropped"]
            assert caller.facts.of(ev.StageFailed) == [], "nobody had asked for it"
            assert caller.facts.of(ev.PlayoutFinished)

    run(main())


def test_a_draft_that_breaks_off_once_it_is_adopted_climbs_the_ladder() -> None:
    async def main() -> None:
        a, b = failing("a", "The fee is two lakh rupees a year. And "), saying("b", "The hostel is extra.")
        async with Caller(policy=AHEAD, responders=(a, b)) as caller:
            await caller.asks()
            assert [event.outcome for event in caller.facts.of(ev.SpeculationEnded)] == ["adopted"]
            assert [(event.attempt, event.provider) for event in caller.facts.of(ev.StageFailed)] == [(1, "a")]
            assert (len(a.requests), len(b.requests)) == (1, 1)
            assert b.requests[0].said == "The fee is two lakh rupees a year."

    run(main())


def test_what_it_wants_to_do_is_done_once_it_is_adopted_and_once() -> None:
    async def main() -> None:
        async def books(request: ReplyRequest, act: Act) -> Parts:
            yield TextDelta(await act("book", "write", "{}"))

        booked: list[float] = []

        async def book(arguments: str, key: str) -> str:
            booked.append(now())
            return "Seat 4."

        async with Caller({"book": book}, policy=AHEAD, responder=Model("model", books)) as caller:
            caller.says(QUESTION)
            await asyncio.sleep(0.4)
            assert booked == []
            assert caller.facts.of(ev.EffectRequested) == []
            await caller.was_heard(QUESTION)
            confirmed = now()
            await asyncio.sleep(5)
            assert len(booked) == 1
            assert booked[0] >= confirmed
            assert [event.turn for event in caller.facts.of(ev.EffectRequested)] == [2]

    run(main())


@pytest.mark.parametrize("end", ["hang up", "drop", "shut"])
def test_a_call_that_ends_while_a_draft_is_written_leaves_nothing(end: str) -> None:
    async def hums(text: str) -> AsyncGenerator[Sound, None]:
        while True:
            await asyncio.sleep(0.1)
            yield Sound(bytes(1600))

    async def main() -> None:
        async def hangs(request: ReplyRequest, act: Act) -> Parts:
            yield TextDelta("The fee is two lakh. And ")
            await asyncio.sleep(10_000)

        model = Model("model", hangs)
        async with Caller(policy=AHEAD, responder=model, synthesizers=(SimSynthesizer("tts"), Voice(hums))) as caller:
            caller.says(QUESTION)
            await asyncio.sleep(0.35)
            assert model.open == 1
            if end == "hang up":
                caller.sink.on_hangup("caller")
            elif end == "drop":
                caller.sink.on_dropped("line.lost")
            else:
                await caller.house.host.drain(0)
            await asyncio.sleep(0.01)
            assert model.open == 0
            assert [member.breaker.failure_count for member in caller.stages.llm.members] == [0]

    run(main())


def test_an_attempt_that_ends_before_its_first_step_lets_its_draft_go() -> None:
    """The caller hangs up in the very moment in which the turn is confirmed."""

    async def main() -> None:
        model = saying("model", after=100.0)
        async with Caller(policy=AHEAD, responder=model) as caller:
            caller.says(QUESTION)
            await asyncio.sleep(POLICY.endpoint_ms / 1000 + 0.01)
            ear = caller.house.ears[-1]
            ear.post(ev.TranscriptFinal(ear.finished[-1], QUESTION))
            for _ in range(20):
                if not caller.facts.of(ev.SpeculationEnded):
                    await asyncio.sleep(0)
            assert caller.facts.of(ev.SpeculationEnded)
            caller.sink.on_hangup("caller")
            await asyncio.sleep(0.01)
            assert model.open == 0

    run(main())
