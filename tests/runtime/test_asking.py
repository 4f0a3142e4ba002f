"""Asking a responder: the first useful token in time, further tries, a second one when the first is late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
import pytest
from call_parts import Answers, in_pieces, now

from antiphon.errors import ConfigError, ProviderError, ProviderRefused, ProviderTimeout
from antiphon.runtime.asking import Asking
from antiphon.runtime.breaker import CircuitBreakerOpen
from antiphon.runtime.chain import Chain
from antiphon.runtime.ports import Act, ReplyEnd, ReplyPart, ReplyRequest, Responder, TextDelta
from antiphon.runtime.resilience import HEDGE_FROM, StagePolicy
from antiphon.sim.clock import run

Parts = AsyncGenerator[ReplyPart, None]
REQUEST = ReplyRequest("s1", 1, 1, "what are the fees", "en-IN")
QUICK = StagePolicy(first_s=1.0, between_s=0.5, share=1.0, retries=0, failures=1)
TRYING = StagePolicy(first_s=1.0, between_s=0.5, share=1.0, retries=2, retry_pause_s=0.1, failures=10)
HEDGED = StagePolicy(first_s=2.0, between_s=0.5, share=1.0, retries=0, hedge=True, failures=1)
USUAL_S = 0.3
"""What the first provider of ``hedged`` usually takes."""


class Model(Answers):
    """Answers by the next of its scripts (the last again and again), and keeps books on its requests."""

    def __init__(self, name: str, *scripts: Callable[[Act], Parts]) -> None:
        super().__init__(lambda request, act: self._next(act))
        self.name = name
        self.asked_at: list[float] = []
        self.closed_at: list[float] = []
        self._scripts = scripts

    async def _next(self, act: Act) -> Parts:
        script = self._scripts[min(len(self.asked_at), len(self._scripts) - 1)]
        self.asked_at.append(now())
        try:
            async with aclosing(script(act)) as parts:
                async for part in parts:
                    yield part
        finally:
            self.closed_at.append(now())


def saying(*texts: str, after: float = 0.0) -> Callable[[Act], Parts]:
    async def script(act: Act) -> Parts:
        await asyncio.sleep(after)
        async for part in in_pieces(*texts):
            yield part

    return script


def silent_after(*texts: str) -> Callable[[Act], Parts]:
    """Connected, and then nothing."""

    async def script(act: Act) -> Parts:
        for text in texts:
            yield TextDelta(text)
        await asyncio.sleep(10_000)

    return script


def raising(error: Exception, *texts: str, after: float = 0.0) -> Callable[[Act], Parts]:
    async def script(act: Act) -> Parts:
        await asyncio.sleep(after)
        for text in texts:
            yield TextDelta(text)
        raise error

    return script


def busy(**how: object) -> ProviderError:
    return ProviderError("busy", stage="llm", code="llm.busy", **how)  # type: ignore[arg-type]


class Question:
    """One asking, what it gave, when, and how it ended."""

    def __init__(self, policy: StagePolicy, *models: Model, left_s: float = 100.0) -> None:
        self.chain: Chain[Responder] = Chain("llm", models, policy)
        self.rerouted: list[tuple[str, str, str]] = []
        self.text = ""
        self.ended = False
        self.first_at = 0.0
        self.left_s = left_s

    async def ask(self, act: Act | None = None) -> str:
        """The whole answer. Raises what it ends with."""
        members = self.chain.members
        asking = Asking(
            self.chain,
            members[0],
            REQUEST,
            left_s=self.left_s,
            rerouted=lambda *told: self.rerouted.append(told),
            other=members[1] if len(members) > 1 else None,
        )
        self.asking = asking
        async with aclosing(asking.parts(act or no_act)) as parts:
            async for part in parts:
                if isinstance(part, ReplyEnd):
                    self.ended = True
                else:
                    self.first_at = self.first_at or now()
                    self.text += part.text
        return self.text

    async def failing(self, error: type[Exception] = ProviderError) -> ProviderError:
        with pytest.raises(error) as caught:
            await self.ask()
        return caught.value  # type: ignore[return-value]

    @property
    def states(self) -> list[str]:
        return [str(member.breaker.state) for member in self.chain.members]


async def no_act(name: str, kind: str, arguments: str) -> str:
    raise AssertionError("nothing was to be done")


async def settle() -> None:
    """What was given up is closed a moment later; then no task is left."""
    for _ in range(5):
        await asyncio.sleep(0)
    me = asyncio.current_task()
    assert [task for task in asyncio.all_tasks() if task is not me] == []


# -- one provider, once -----------------------------------------------------------------------------


def test_its_parts_come_as_they_are() -> None:
    async def main() -> None:
        model = Model("a", saying("Two ", "lakh.", after=0.4))
        question = Question(QUICK, model)
        assert await question.ask() == "Two lakh."
        assert question.ended
        assert question.asking.answered_by == "a"
        assert (question.first_at, model.closed_at) == (0.4, [0.4])
        assert question.chain.members[0].breaker.failure_count == 0
        await settle()

    run(main())


@pytest.mark.parametrize("useless", [(), ("",), (" ", "\n", " ")])
def test_connected_but_saying_nothing_useful_is_not_in_time(useless: tuple[str, ...]) -> None:
    async def main() -> None:
        model = Model("a", silent_after(*useless))
        question = Question(QUICK, model)
        error = await question.failing(ProviderTimeout)
        assert (error.code, error.provider, error.stage) == ("llm.timeout_first_token", "a", "llm")
        assert (now(), model.closed_at) == (1.0, [1.0])
        assert question.states == ["open"]
        await settle()

    run(main())


def test_useless_pieces_do_not_put_off_the_limit() -> None:
    async def dribble(act: Act) -> Parts:
        while True:
            await asyncio.sleep(0.3)
            yield TextDelta(" ")

    async def main() -> None:
        question = Question(QUICK, Model("a", dribble))
        await question.failing(ProviderTimeout)
        assert now() == 1.0

    run(main())


def test_the_limit_is_the_share_of_what_the_turn_has_left() -> None:
    async def main() -> None:
        question = Question(StagePolicy(first_s=4.0, share=0.6, retries=0), Model("a", silent_after()), left_s=2.0)
        await question.failing(ProviderTimeout)
        assert now() == 1.2

    run(main())


def test_each_further_part_has_its_own_limit() -> None:
    async def slow(act: Act) -> Parts:
        for number in range(5):
            yield TextDelta(f"{number} ")
            await asyncio.sleep(0.4)
        await asyncio.sleep(10_000)

    async def main() -> None:
        model = Model("a", slow)
        question = Question(QUICK, model)
        error = await question.failing(ProviderTimeout)
        assert (error.code, question.text) == ("llm.timeout_stalled", "0 1 2 3 4 ")
        assert (now(), model.closed_at) == (2.1, [2.1])
        assert question.states == ["open"]

    run(main())


def test_a_consumer_that_takes_its_time_is_not_the_providers_delay() -> None:
    async def main() -> None:
        question = Question(QUICK, Model("a", saying("one ", "two")))
        asking = Asking(question.chain, question.chain.members[0], REQUEST, left_s=9, rerouted=lambda *told: None)
        texts = []
        async for part in asking.parts(no_act):
            await asyncio.sleep(5)
            texts.append(part)
        assert texts == [TextDelta("one "), TextDelta("two"), ReplyEnd()]

    run(main())


def test_nothing_is_waited_for_after_the_end() -> None:
    async def tidy(act: Act) -> Parts:
        yield TextDelta("one")
        yield ReplyEnd()
        await asyncio.sleep(10_000)

    async def main() -> None:
        question = Question(QUICK, Model("a", tidy))
        assert await question.ask() == "one"
        assert (now(), question.states) == (0.0, ["closed"])

    run(main())


@pytest.mark.parametrize("script", [saying(), saying(" ")])
def test_an_answer_without_words_is_an_answer(script: Callable[[Act], Parts]) -> None:
    """What becomes of it is the floor's affair."""

    async def main() -> None:
        question = Question(QUICK, Model("a", script))
        await question.ask()
        assert question.ended
        assert question.states == ["closed"]

    run(main())


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (busy(), "open"),
        (ZeroDivisionError(), "open"),
        (ProviderRefused("no", stage="llm", code="llm.too_long"), "closed"),
        (ProviderRefused("no", stage="llm", code="llm.unauthorized"), "open"),
        (ConfigError("no model"), "closed"),
    ],
)
@pytest.mark.parametrize("texts", [(), ("And ",)])
def test_what_it_raises_is_passed_on_and_booked(error: Exception, state: str, texts: tuple[str, ...]) -> None:
    async def main() -> None:
        question = Question(QUICK, Model("a", raising(error, *texts)))
        with pytest.raises(type(error)):
            await question.ask()
        assert question.states == [state]

    run(main())


def test_one_that_raises_before_it_gives_anything_to_iterate_is_booked_too() -> None:
    """Else its breaker would wait for ever for the outcome of its probe."""

    def refuse(request: ReplyRequest, act: Act) -> Parts:
        raise ZeroDivisionError

    async def main() -> None:
        model = Model("a")
        model._answer = refuse
        question = Question(StagePolicy(retries=0, failures=1, open_s=5.0), model)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await question.ask()
            assert question.states == ["open"]
            await asyncio.sleep(5)

    run(main())


@pytest.mark.parametrize("policy", [QUICK, HEDGED])
def test_of_turns_that_begin_together_one_is_the_probe_and_the_others_lose_no_attempt(policy: StagePolicy) -> None:
    async def main() -> None:
        first, second = Model("a", raising(busy()), saying("back")), Model("b", saying("there"))
        question = Question(msgspec.structs.replace(policy, open_s=5.0), first, second)
        await question.failing()
        await asyncio.sleep(5)
        assert question.states == ["open", "closed"]
        turns = [Question(policy, first, second) for _ in range(3)]
        for turn in turns:
            turn.chain = question.chain
        await asyncio.gather(*(turn.ask() for turn in turns))
        assert [turn.text for turn in turns] == ["back", "there", "there"]
        assert [turn.rerouted for turn in turns] == [[], *[[("a", "breaker.open", "b")]] * 2]
        assert [turn.asking.answered_by for turn in turns] == ["a", "b", "b"]
        assert question.states == ["closed", "closed"]

    run(main())


def test_one_that_is_left_alone_is_not_asked() -> None:
    async def main() -> None:
        model = Model("a", raising(busy()))
        question = Question(QUICK, model)
        await question.failing()
        await question.failing(CircuitBreakerOpen)
        assert len(model.asked_at) == 1

    run(main())


@pytest.mark.parametrize("after_parts", [0, 1])
def test_closing_it_closes_the_providers_request_and_says_nothing_about_it(after_parts: int) -> None:
    async def main() -> None:
        model = Model("a", silent_after(*["one "] * after_parts))
        question = Question(StagePolicy(first_s=50.0, between_s=50.0, failures=1), model)
        task = asyncio.ensure_future(question.ask())
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert model.closed_at == [0.2]
        assert question.states == ["closed"]
        await settle()

    run(main())


# -- further tries ----------------------------------------------------------------------------------


def test_before_the_first_word_it_is_tried_again() -> None:
    async def main() -> None:
        model = Model("a", raising(busy()), raising(busy()), saying("Two lakh."))
        question = Question(TRYING, model)
        assert await question.ask() == "Two lakh."
        assert model.asked_at == [0.0, 0.1, 0.2]
        assert question.rerouted == [("a", "llm.busy", "a")] * 2
        assert question.chain.members[0].breaker.failure_count == 0

    run(main())


def test_one_that_hung_is_tried_again_with_what_is_left() -> None:
    async def main() -> None:
        policy = StagePolicy(first_s=4.0, share=0.5, retries=3, retry_pause_s=0.0)
        model = Model("a", silent_after())
        question = Question(policy, model, left_s=4.0)
        await question.failing(ProviderTimeout)
        assert model.asked_at == [0.0, 2.0, 3.0, 3.5]
        assert now() == 3.75

    run(main())


def test_one_that_hung_is_not_tried_again_where_another_can_be_asked() -> None:
    async def main() -> None:
        policy = StagePolicy(first_s=4.0, share=0.5, retries=3, retry_pause_s=0.0)
        model, other = Model("a", silent_after()), Model("b", saying("Two lakh."))
        question = Question(policy, model, other, left_s=4.0)
        await question.failing(ProviderTimeout)
        assert (model.asked_at, other.asked_at) == ([0.0], []), "the rest of the time is for whoever is asked next"
        assert now() == 2.0

    run(main())


@pytest.mark.parametrize(
    ("error", "texts"),
    [(busy(retryable=False), ()), (busy(), ("And ",)), (ZeroDivisionError(), ()), (ConfigError("no model"), ())],
)
def test_it_is_not_tried_again(error: Exception, texts: tuple[str, ...]) -> None:
    """What was said cannot be unsaid, and what is refused once is refused again."""

    async def main() -> None:
        model = Model("a", raising(error, *texts))
        question = Question(TRYING, model)
        with pytest.raises(type(error)):
            await question.ask()
        assert len(model.asked_at) == 1
        assert question.rerouted == []

    run(main())


def test_the_tries_are_counted() -> None:
    async def main() -> None:
        model = Model("a", raising(busy()))
        question = Question(TRYING, model)
        await question.failing()
        assert len(model.asked_at) == 3
        assert question.chain.members[0].breaker.failure_count == 3

    run(main())


@pytest.mark.parametrize(("wait_s", "asked_at"), [(0.0, [0.0, 0.1]), (0.7, [0.0, 0.7]), (5.0, [0.0])])
def test_the_provider_says_when_to_ask_again_and_if_that_is_too_late_it_is_not(
    wait_s: float, asked_at: list[float]
) -> None:
    async def main() -> None:
        model = Model("a", raising(busy(retry_after_s=wait_s)), saying("Two lakh."))
        question = Question(TRYING, model)
        if len(asked_at) == 1:
            assert (await question.failing()).code == "llm.busy"
            assert now() == 0.0, "nothing is gained by waiting"
        else:
            assert await question.ask() == "Two lakh."
        assert model.asked_at == asked_at

    run(main())


def test_without_time_left_it_is_not_tried_again() -> None:
    async def main() -> None:
        model = Model("a", raising(busy(), after=0.95))
        question = Question(TRYING, model, left_s=1.0)
        await question.failing()
        assert len(model.asked_at) == 1

    run(main())


def test_a_breaker_that_opens_meanwhile_ends_the_tries() -> None:
    async def main() -> None:
        model = Model("a", raising(busy()))
        question = Question(StagePolicy(retries=3, failures=2, share=1.0), model)
        await question.failing(CircuitBreakerOpen)
        assert len(model.asked_at) == 2

    run(main())


# -- two at once ------------------------------------------------------------------------------------


def hedged(first: Model, second: Model, policy: StagePolicy = HEDGED) -> Question:
    """The first is known to take ``USUAL_S``."""
    question = Question(policy, first, second)
    for _ in range(HEDGE_FROM):
        question.chain.members[0].lateness.note(USUAL_S)
    return question


def test_one_in_its_usual_time_is_asked_alone() -> None:
    async def main() -> None:
        second = Model("b", saying("no"))
        question = hedged(Model("a", saying("yes", after=USUAL_S - 0.01)), second)
        assert await question.ask() == "yes"
        assert (second.asked_at, question.rerouted) == ([], [])
        await settle()

    run(main())


@pytest.mark.parametrize("second_s", [0.1, 5.0])
def test_one_later_than_its_own_p95_gets_a_rival_and_the_first_useful_word_wins(second_s: float) -> None:
    async def main() -> None:
        first, second = Model("a", saying("first", after=1.0)), Model("b", saying("second", after=second_s))
        question = hedged(first, second)
        text = await question.ask()
        assert second.asked_at == [USUAL_S]
        assert question.rerouted == [("a", "hedge", "b")]
        winner, loser = (second, first) if second_s < 0.7 else (first, second)
        assert (text, question.asking.answered_by) == ({"a": "first", "b": "second"}[winner.name], winner.name)
        assert question.first_at == (USUAL_S + second_s if winner is second else 1.0)
        await settle()
        assert loser.closed_at == [question.first_at], "it does not go on generating"
        assert question.states == ["closed", "closed"], "given up, not failed"

    run(main())


def test_blank_text_wins_nothing() -> None:
    async def main() -> None:
        async def blank(act: Act) -> Parts:
            yield TextDelta("\n")
            await asyncio.sleep(10_000)

        question = hedged(Model("a", blank), Model("b", saying("Two lakh.", after=0.2)))
        assert await question.ask() == "Two lakh."
        await settle()

    run(main())


def test_one_that_fails_before_it_is_late_is_relieved_at_once() -> None:
    async def main() -> None:
        second = Model("b", saying("second"))
        question = hedged(Model("a", raising(busy(), after=0.1)), second)
        assert await question.ask() == "second"
        assert second.asked_at == [0.1]
        assert question.rerouted == [("a", "llm.busy", "b")]
        await settle()
        assert question.states == ["open", "closed"]

    run(main())


@pytest.mark.parametrize(("first_s", "second_s"), [(0.5, 0.1), (0.5, 1.0), (0.1, 0.1), (0.5, 0.2)])
def test_if_both_fail_the_later_failure_is_told_and_both_are_booked(first_s: float, second_s: float) -> None:
    async def main() -> None:
        first, second = Model("a", raising(busy(), after=first_s)), Model("b", raising(busy(), after=second_s))
        question = hedged(first, second)
        assert (await question.failing()).code == "llm.busy"
        await settle()
        assert question.states == ["open", "open"]
        assert (len(first.closed_at), len(second.closed_at)) == (1, 1)

    run(main())


def test_a_rival_that_fails_leaves_the_first_its_time() -> None:
    async def main() -> None:
        question = hedged(Model("a", saying("first", after=1.0)), Model("b", raising(ZeroDivisionError(), after=0.1)))
        assert await question.ask() == "first"
        await settle()
        assert question.states == ["closed", "open"]

    run(main())


def test_a_rival_that_is_left_alone_is_not_asked() -> None:
    async def main() -> None:
        second = Model("b", saying("second"))
        question = hedged(Model("a", saying("first", after=1.0)), second)
        question.chain.members[1].breaker.failed()
        assert await question.ask() == "first"
        assert (second.asked_at, question.rerouted) == ([], [])

    run(main())


def test_a_first_that_is_left_alone_is_passed_over() -> None:
    async def main() -> None:
        first = Model("a", saying("first"))
        question = hedged(first, Model("b", saying("second")))
        question.chain.members[0].breaker.failed()
        assert await question.ask() == "second"
        assert (first.asked_at, question.rerouted) == ([], [("a", "breaker.open", "b")])
        await settle()

    run(main())


@pytest.mark.parametrize("moment", [0.1, USUAL_S + 0.1])
def test_closing_it_in_the_middle_closes_both(moment: float) -> None:
    async def main() -> None:
        first, second = Model("a", silent_after()), Model("b", silent_after())
        question = hedged(first, second)
        task = asyncio.ensure_future(question.ask())
        await asyncio.sleep(moment)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await settle()
        assert len(first.closed_at) == len(first.asked_at) == 1
        assert len(second.closed_at) == len(second.asked_at) == (moment > USUAL_S)
        assert question.states == ["closed", "closed"]

    run(main())


def test_a_loser_that_does_not_listen_holds_nobody_up() -> None:
    async def stubborn(act: Act) -> Parts:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(3)
        yield TextDelta("late")

    async def main() -> None:
        question = hedged(Model("a", stubborn), Model("b", saying("second", after=0.1)))
        assert await question.ask() == "second"
        assert question.first_at == 0.4
        assert now() == 0.4
        await asyncio.sleep(5)
        await settle()

    run(main())


def test_a_provider_too_new_to_know_is_not_hedged() -> None:
    async def main() -> None:
        second = Model("b", saying("second"))
        question = Question(HEDGED, Model("a", saying("first", after=1.5)), second)
        assert await question.ask() == "first"
        assert second.asked_at == []

    run(main())


def test_what_it_usually_takes_is_learnt_from_every_answer() -> None:
    async def main() -> None:
        question = Question(HEDGED, Model("a", saying("word", after=0.2)), Model("b", saying("word")))
        for _ in range(HEDGE_FROM):
            await question.ask()
        assert question.chain.members[0].lateness.p95() == pytest.approx(0.2)

    run(main())


# -- effects ----------------------------------------------------------------------------------------


def doing(seconds: float, *, blank: bool = False, think_s: float = 0.0, then_s: float = 0.0) -> Callable[[Act], Parts]:
    """Acts upon the world for a while, and speaks then."""

    async def script(act: Act) -> Parts:
        await asyncio.sleep(think_s)
        done = await act("look_up", "read", f"{seconds}")
        if blank:
            yield TextDelta("\n")
        await asyncio.sleep(then_s)
        yield TextDelta(done)
        yield ReplyEnd()

    return script


async def takes_as_long_as_asked(name: str, kind: str, arguments: str) -> str:
    await asyncio.sleep(float(arguments))
    return "done"


@pytest.mark.parametrize("blank", [False, True])
def test_the_time_of_an_effect_is_not_the_models(blank: bool) -> None:
    async def main() -> None:
        question = Question(QUICK, Model("a", doing(20.0, blank=blank, think_s=0.4, then_s=0.4)))
        assert (await question.ask(takes_as_long_as_asked)).strip() == "done"
        assert now() == 20.8
        assert question.chain.members[0].breaker.state == "closed"

    run(main())


@pytest.mark.parametrize("blank", [False, True])
def test_what_it_thinks_before_and_after_an_effect_is_counted_together(blank: bool) -> None:
    async def main() -> None:
        question = Question(QUICK, Model("a", doing(20.0, blank=blank, think_s=0.7, then_s=0.7)))
        with pytest.raises(ProviderTimeout):
            await question.ask(takes_as_long_as_asked)
        assert now() == 21.0

    run(main())


def test_the_time_of_effects_does_not_make_a_provider_a_late_one() -> None:
    async def main() -> None:
        question = Question(QUICK, Model("a", doing(20.0, think_s=0.25)))
        for _ in range(HEDGE_FROM):
            await question.ask(takes_as_long_as_asked)
        assert question.chain.members[0].lateness.p95() == pytest.approx(0.25)

    run(main())


def test_effects_side_by_side_are_over_when_the_last_one_is() -> None:
    async def both(act: Act) -> Parts:
        await asyncio.gather(act("look_up", "read", "2"), act("look_up", "read", "6"))
        await asyncio.sleep(0.9)
        yield TextDelta("done")

    async def main() -> None:
        question = Question(QUICK, Model("a", both))
        assert await question.ask(takes_as_long_as_asked) == "done"
        assert now() == 6.9

    run(main())


def test_an_effect_that_runs_while_it_speaks_stops_the_clock_too() -> None:
    async def talks_meanwhile(act: Act) -> Parts:
        task = asyncio.ensure_future(act("look_up", "read", "5"))
        await asyncio.sleep(0)
        yield TextDelta("One moment. ")
        yield TextDelta(await task)

    async def main() -> None:
        question = Question(QUICK, Model("a", talks_meanwhile))
        assert await question.ask(takes_as_long_as_asked) == "One moment. done"

    run(main())


def test_after_an_effect_a_model_that_hangs_is_noticed() -> None:
    async def main() -> None:
        question = Question(QUICK, Model("a", doing(5.0, then_s=100.0)))
        with pytest.raises(ProviderTimeout):
            await question.ask(takes_as_long_as_asked)
        assert now() == 6.0

    run(main())


def test_an_effect_that_fails_is_not_the_models_fault() -> None:
    async def fails(name: str, kind: str, arguments: str) -> str:
        raise ProviderError("the effect failed", stage="agent", code="effect.timeout", retryable=False)

    async def main() -> None:
        model = Model("a", doing(1.0))
        question = Question(StagePolicy(failures=1, retries=2), model)
        with pytest.raises(ProviderError):
            await question.ask(fails)
        assert question.states == ["closed"]
        assert len(model.asked_at) == 1

    run(main())


def test_an_empty_answer_does_not_win_a_race() -> None:
    async def empty(act: Act) -> Parts:
        yield ReplyEnd()

    async def main() -> None:
        question = hedged(Model("a", saying("first", after=0.6)), Model("b", empty))
        assert await question.ask() == "first"
        assert question.asking.answered_by == "a"

    run(main())


def test_an_empty_answer_is_the_answer_if_nobody_says_anything() -> None:
    async def empty(act: Act) -> Parts:
        yield ReplyEnd()

    async def main() -> None:
        question = hedged(Model("a", raising(busy(), after=0.6)), Model("b", empty))
        assert await question.ask() == ""

    run(main())


def test_a_rival_counts_as_asked() -> None:
    async def main() -> None:
        chain: Chain[Responder] = Chain(
            "llm", (Model("a", saying("one", after=0.6)), Model("b", saying("two"))), HEDGED
        )
        for _ in range(HEDGE_FROM):
            chain.members[0].lateness.note(USUAL_S)
        asked = []
        first, second = chain.members
        asking = Asking(chain, first, REQUEST, left_s=100.0, rerouted=lambda *_: None, other=second, asked=asked)
        async with aclosing(asking.parts(no_act)) as parts:
            assert [part.text async for part in parts if isinstance(part, TextDelta)] == ["two"]
        assert asked == [first, second]

    run(main())


def test_a_provider_that_cancels_itself_has_failed() -> None:
    async def gives_up(act: Act) -> Parts:
        await asyncio.sleep(0.1)
        raise asyncio.CancelledError
        yield

    async def main() -> None:
        question = Question(QUICK, Model("a", gives_up))
        with pytest.raises(ProviderError, match=r"llm\.cancelled"):
            await question.ask()
        assert question.chain.members[0].breaker.state == "open"

    run(main())
