"""A classifier that finds the intents it was told to find: for tests and benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from antiphon.errors import ProviderError
from antiphon.kernel.history import Message
from antiphon.providers.faults import Faults, hang
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Intent

Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[float, Meta(ge=0, le=600_000)]


class FakeClassifierSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``intents`` maps a word or phrase to the intent of texts that hold it; else it is ``intent``."""

    intent_ms: Milliseconds = 0.0
    intent: str = "question"
    intents: dict[str, str] = {}
    confidence: Annotated[float, Meta(ge=0, le=1)] = 0.9
    fail_every: Count = 0
    hang_every: Count = 0


class FakeClassifier:
    name = "fake"

    def __init__(self, settings: FakeClassifierSettings) -> None:
        self.settings = settings
        self.faults = Faults(settings.fail_every, settings.hang_every)

    async def start(self) -> None:
        pass

    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
        """Raises ``ProviderError`` (``intent.failed``) where told to."""
        fault = self.faults.next()
        if fault == "hang":
            await hang()
        if self.settings.intent_ms:
            await asyncio.sleep(self.settings.intent_ms / 1000)
        if fault == "fail":
            raise ProviderError("told to fail", provider=self.name, stage="intent", code="intent.failed")
        folded = text.casefold()
        for phrase, intent in self.settings.intents.items():
            if phrase.casefold() in folded:
                return Intent(intent, self.settings.confidence)
        return Intent(self.settings.intent, self.settings.confidence)

    async def close(self) -> None:
        pass


def build(settings: dict[str, object]) -> FakeClassifier:
    """``[intent] provider = "fake"``; see ``FakeClassifierSettings``."""
    return FakeClassifier(convert(settings, FakeClassifierSettings, "[intent] fake"))
