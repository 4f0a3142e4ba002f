"""Intent and passages: in their time, behind their breakers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from call_parts import now

from antiphon.errors import ProviderError, ProviderTimeout
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.runtime.breaker import CircuitBreakerOpen
from antiphon.runtime.chain import Chain
from antiphon.runtime.ports import Intent
from antiphon.runtime.resilience import StagePolicy
from antiphon.runtime.understanding import find_intent, find_passages
from antiphon.sim.clock import run

HISTORY = (Message("user", "hello", "en-IN", 1),)
PASSAGE = Passage("p1", "text", "source", 0.5)
POLICY = StagePolicy(first_s=1.0, failures=1, open_s=10.0)


class Knows:
    """A classifier and a retriever, whose work is a function of the test's."""

    name = "knows"

    def __init__(self, work: Callable[[], Awaitable[object]]) -> None:
        self.asked: list[tuple[str, str, Sequence[Message]]] = []
        self._work = work

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to close."""

    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
        self.asked.append((text, language, history))
        return await self._work()  # type: ignore[return-value]

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[Passage, ...]:
        self.asked.append((text, language, history))
        return await self._work()  # type: ignore[return-value]


async def fails() -> object:
    raise ProviderError("down", code="x.down")


async def raises() -> object:
    raise ZeroDivisionError


async def hangs() -> object:
    return await asyncio.sleep(100)


FINDERS = {"intent": find_intent, "retrieval": find_passages}
BOTH = pytest.mark.parametrize("stage", list(FINDERS))


def chain(stage: str, knows: Knows) -> Chain[Any]:
    return Chain(stage, (knows,), POLICY)


async def find(chain: Chain[Any]) -> object:
    return await FINDERS[chain.stage](chain, "fees?", "en-IN", HISTORY)


@pytest.mark.parametrize(("stage", "found"), [("intent", Intent("fees", 0.9)), ("retrieval", (PASSAGE,))])
def test_what_is_found_and_what_is_asked(stage: str, found: object) -> None:
    async def finds() -> object:
        return found

    async def main() -> None:
        knows = Knows(finds)
        assert await find(chain(stage, knows)) == found
        assert knows.asked == [("fees?", "en-IN", HISTORY)]

    run(main())


def test_where_nobody_understands_there_is_nothing_to_wait_for() -> None:
    async def main() -> None:
        assert await find_intent(Chain("intent", (), POLICY), "fees?", "en-IN", ()) == Intent("", 0.0)
        assert await find_passages(Chain("retrieval", (), POLICY), "fees?", "en-IN", ()) == ()

    run(main())


@BOTH
def test_one_that_hangs_is_stopped_and_booked(stage: str) -> None:
    async def main() -> None:
        knows = Knows(hangs)
        asked = chain(stage, knows)
        with pytest.raises(ProviderTimeout) as caught:
            await find(asked)
        assert (caught.value.code, caught.value.provider, caught.value.stage) == (f"{stage}.timeout", "knows", stage)
        assert now() == 1.0
        with pytest.raises(CircuitBreakerOpen):
            await find(asked)
        assert len(knows.asked) == 1

    run(main())


@BOTH
@pytest.mark.parametrize(("work", "error"), [(fails, ProviderError), (raises, ZeroDivisionError)])
def test_what_it_raises_is_passed_on_and_booked(
    stage: str, work: Callable[[], Awaitable[object]], error: type[Exception]
) -> None:
    async def main() -> None:
        knows = Knows(work)
        asked = chain(stage, knows)
        with pytest.raises(error):
            await find(asked)
        with pytest.raises(CircuitBreakerOpen):
            await find(asked)
        await asyncio.sleep(10)
        with pytest.raises(error):
            await find(asked)
        assert len(knows.asked) == 2, "a probe"

    run(main())


@BOTH
def test_who_does_not_want_it_any_more_says_nothing_about_it(stage: str) -> None:
    async def main() -> None:
        knows = Knows(hangs)
        asked = chain(stage, knows)
        for _ in range(3):
            task = asyncio.ensure_future(find(asked))
            await asyncio.sleep(0.5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert len(knows.asked) == 3

    run(main())
