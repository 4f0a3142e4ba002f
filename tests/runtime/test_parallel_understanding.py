"""Intent and passages are looked for at the same moment, and neither is waited for past its time (B2, B3, B27)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from call_parts import now
from test_executor import AFTER, AHEAD, PASSAGE, Caller, saying

from antiphon.kernel import events as ev
from antiphon.kernel.history import Message
from antiphon.runtime.ports import Intent
from antiphon.sim.clock import run


class Slow:
    """A classifier and a retriever that each take their time; ``began`` is when they were asked, ``left`` who is at
    it still.
    """

    name = "slow"

    def __init__(self, intent_s: float = 0.05, passages_s: float = 0.05) -> None:
        self.intent_s = intent_s
        self.passages_s = passages_s
        self.began: list[tuple[str, float]] = []
        self.left: set[str] = set()

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to close."""

    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
        await self._work("intent", self.intent_s)
        return Intent("fees", 0.9)

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[ev.Passage, ...]:
        await self._work("passages", self.passages_s)
        return (PASSAGE,)

    async def _work(self, what: str, seconds: float) -> None:
        self.began.append((what, now()))
        self.left.add(what)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.left.discard(what)


def at(caller: Caller, kind: type) -> int:
    """When the first such fact was, in ms."""
    return next(entry.at for entry in caller.house.entries if isinstance(entry.event, kind))


@pytest.mark.parametrize("policy", [AFTER, AHEAD])
def test_both_begin_at_the_same_moment_also_ahead_of_the_turn(policy: object) -> None:
    async def main() -> None:
        slow = Slow(0.05, 0.08)
        async with Caller(policy=policy, responder=saying("model"), classifier=slow, retriever=slow) as caller:
            silence = now()
            await caller.asks()
            assert [what for what, _ in slow.began] == ["intent", "passages"], "each was asked once"
            (_, first), (_, second) = slow.began
            assert first == second
            assert (first == silence) is (policy is AHEAD), "ahead of the turn it begins with the silence"

    run(main())


def test_the_slower_of_the_two_is_what_they_take() -> None:
    async def main() -> None:
        slow = Slow(0.05, 0.08)
        async with Caller(
            policy=AFTER, responder=saying("model", after=0.0), classifier=slow, retriever=slow
        ) as caller:
            caller.says("what are the fees")
            await caller.was_heard("what are the fees")
            await asyncio.sleep(3)
            final, begun = (at(caller, kind) for kind in (ev.TranscriptFinal, ev.ReplyBegun))
            assert begun - final == 80, "not 130: they do not wait for each other"

    run(main())


@pytest.mark.parametrize("late", ["intent", "passages", "both"])
@pytest.mark.parametrize("policy", [AFTER, AHEAD])
def test_whichever_is_late_is_left_behind_and_the_reply_goes_on(policy: object, late: str) -> None:
    async def main() -> None:
        slow = Slow(60.0 if late != "passages" else 0.05, 60.0 if late != "intent" else 0.05)
        model = saying("model", after=0.0)
        limited = msgspec.structs.replace(policy, understand_ms=120)  # type: ignore[type-var]
        async with Caller(policy=limited, responder=model, classifier=slow, retriever=slow) as caller:
            caller.says("what are the fees")
            await caller.was_heard("what are the fees")
            await asyncio.sleep(3)
            final, begun = (at(caller, kind) for kind in (ev.TranscriptFinal, ev.ReplyBegun))
            assert begun - final <= 120 + 10
            asked = model.requests[-1]
            assert asked.intent == ("" if late != "passages" else "fees")
            assert asked.passages == (() if late != "intent" else (PASSAGE,))
            assert caller.facts.of(ev.PlayoutFinished), "the answer was spoken"

    run(main())
