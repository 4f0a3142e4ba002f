"""Simulated providers: quick or slow, hanging, failing, breaking off, answering late or twice, as planned.

A ``stubborn`` one does not notice that it was cancelled: what it still says comes too late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from antiphon.errors import ProviderError
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.runtime.ports import Act, Intent, ReplyEnd, ReplyPart, ReplyRequest, Sound, TextDelta, WordMark
from antiphon.sim.far_end import RATE, WORD_MS, spoken

NEVER_S = 10_000.0


class Faults:
    """Hands out one provider's planned faults, one per request."""

    def __init__(self, planned: tuple[str, ...]) -> None:
        self._planned = planned
        self._asked = 0

    def next(self) -> str:
        self._asked += 1
        return self._planned[self._asked - 1] if self._asked <= len(self._planned) else ""


async def nap(seconds: float, fault: str = "") -> None:
    """Sleeps; with the fault ``stubborn`` it swallows being cancelled, as libraries do that catch too much."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if fault != "stubborn":
            raise


class _Provider:
    def __init__(self, name: str, planned: tuple[str, ...] = ()) -> None:
        self.name = name
        self.faults = Faults(planned)
        self.twice = False
        """The answer that was given last is to be told twice."""

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to close."""

    async def suffer(self, fault: str, stage: str) -> None:
        """The faults before any result."""
        if fault in ("slow", "effect_slow"):
            await asyncio.sleep(2.5)
        elif fault == "hang":
            await asyncio.sleep(NEVER_S)
        elif fault == "raise":
            raise RuntimeError("planned")
        elif fault == "fail":
            await asyncio.sleep(0.05)
            raise ProviderError("planned", provider=self.name, stage=stage, code=f"{stage}.planned")


class SimClassifier(_Provider):
    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
        fault = self.faults.next()
        await self.suffer(fault, "intent")
        await asyncio.sleep(0.02)
        self.twice = fault == "twice"
        return Intent("question", 0.9)


class SimRetriever(_Provider):
    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[Passage, ...]:
        fault = self.faults.next()
        await self.suffer(fault, "retrieval")
        await asyncio.sleep(0.06)
        self.twice = fault == "twice"
        return (Passage("p1", "text", "source", 0.9),)


class SimResponder(_Provider):
    """Answers with words that tell their turn and attempt, so that stale speech gives itself away."""

    async def respond(self, request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
        fault = self.faults.next()
        await self.suffer(fault, "llm")
        await asyncio.sleep(0.15)
        if fault.startswith("effect"):
            await self._act_safely(request, act)
        if fault != "empty":
            words = [f"a{request.turn}x{request.attempt}w{number}" for number in range(12)]
            for number, word in enumerate(words):
                if fault == "cut" and number == 7:
                    raise ProviderError("planned", provider=self.name, stage="llm", code="llm.planned")
                if fault == "hang_middle" and number == 7:
                    await asyncio.sleep(NEVER_S)
                await nap(0.2 if fault == "stubborn" else 0.015, fault)
                yield TextDelta(word + (". " if number % 4 == 3 else " "))
        yield ReplyEnd(ends_call=fault == "goodbye")

    async def _act_safely(self, request: ReplyRequest, act: Act) -> None:
        for name, kind in (("look_up", "read"), ("book", "write"), ("book", "write")):
            try:
                await act(name, kind, f'{{"turn": {request.turn}}}')
            except ProviderError:
                continue


class SimSynthesizer(_Provider):
    async def synthesize(
        self, text: str, *, language: str, sample_rate: int, voice: str = ""
    ) -> AsyncGenerator[Sound, None]:
        fault = self.faults.next()
        await self.suffer(fault if fault != "slow" else "", "tts")
        await asyncio.sleep(0.05)
        at = 0
        for number, word in enumerate(text.split() if fault != "empty" else ()):
            if fault in ("slow", "stubborn"):
                await nap(0.35, fault)
            if fault in ("cut", "hang_middle") and number == 2:
                if fault == "hang_middle":
                    await asyncio.sleep(NEVER_S)
                raise ProviderError("planned", provider=self.name, stage="tts", code="tts.planned")
            mark = WordMark(text.index(word, at), number * RATE * WORD_MS // 1000)
            at = mark.char + len(word)
            yield Sound(spoken(word.strip(".,?!")), (mark,))
