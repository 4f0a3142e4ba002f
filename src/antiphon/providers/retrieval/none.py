"""No knowledge base: for applications whose responder looks things up by itself."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.providers.settings import convert


class NoRetrieverSettings(msgspec.Struct, frozen=True, kw_only=True):
    """There is nothing to set."""


class NoRetriever:
    name = "none"

    async def start(self) -> None:
        pass

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[Passage, ...]:
        return ()

    async def close(self) -> None:
        pass


def build(settings: dict[str, object]) -> NoRetriever:
    """``[retrieval] provider = "none"``."""
    convert(settings, NoRetrieverSettings, "[retrieval] none")
    return NoRetriever()
