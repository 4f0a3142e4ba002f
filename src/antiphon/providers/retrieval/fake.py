"""A retriever that finds the same passages every time: for tests and benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from antiphon.errors import ProviderError
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.providers.faults import Faults, hang
from antiphon.providers.settings import convert

Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[float, Meta(ge=0, le=600_000)]


class FakePassage(msgspec.Struct, frozen=True, kw_only=True):
    """One passage as the settings file writes it."""

    text: str
    id: str = "fake-1"
    source: str = "fake"
    score: Annotated[float, Meta(ge=-1, le=1)] = 0.9
    title: str = ""


class FakeRetrieverSettings(msgspec.Struct, frozen=True, kw_only=True):
    retrieval_ms: Milliseconds = 0.0
    passages: tuple[FakePassage, ...] = (
        FakePassage(text="A bachelor's degree and a language certificate are required."),
    )
    fail_every: Count = 0
    hang_every: Count = 0


class FakeRetriever:
    name = "fake"

    def __init__(self, settings: FakeRetrieverSettings) -> None:
        self.settings = settings
        self.faults = Faults(settings.fail_every, settings.hang_every)
        self._passages = tuple(
            Passage(id=each.id, text=each.text, source=each.source, score=each.score, title=each.title)
            for each in sorted(settings.passages, key=lambda each: -each.score)
        )

    async def start(self) -> None:
        pass

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[Passage, ...]:
        """Raises ``ProviderError`` (``retrieval.failed``) where told to."""
        fault = self.faults.next()
        if fault == "hang":
            await hang()
        if self.settings.retrieval_ms:
            await asyncio.sleep(self.settings.retrieval_ms / 1000)
        if fault == "fail":
            raise ProviderError("told to fail", provider=self.name, stage="retrieval", code="retrieval.failed")
        return self._passages

    async def close(self) -> None:
        pass


def build(settings: dict[str, object]) -> FakeRetriever:
    """``[retrieval] provider = "fake"``; see ``FakeRetrieverSettings``."""
    return FakeRetriever(convert(settings, FakeRetrieverSettings, "[retrieval] fake"))
