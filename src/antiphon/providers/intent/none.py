"""No intents: for applications whose responder needs none."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from antiphon.kernel.history import Message
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Intent


class NoClassifierSettings(msgspec.Struct, frozen=True, kw_only=True):
    """There is nothing to set."""


class NoClassifier:
    name = "none"

    async def start(self) -> None:
        pass

    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
        return Intent("", 0.0)

    async def close(self) -> None:
        pass


def build(settings: dict[str, object]) -> NoClassifier:
    """``[intent] provider = "none"``."""
    convert(settings, NoClassifierSettings, "[intent] none")
    return NoClassifier()
