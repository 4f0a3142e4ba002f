"""A responder with a set answer and set delays: for tests and benchmarks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from antiphon.errors import ProviderError
from antiphon.providers.faults import Faults, hang
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Act, ReplyEnd, ReplyPart, ReplyRequest, TextDelta

Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[float, Meta(ge=0, le=600_000)]

_TOKEN = re.compile(r"\S+\s*")


class FakeResponderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``reply`` is sent word by word, the first after ``llm_ms``, each further one after ``llm_token_ms``.

    With ``delivery = "whole"`` all of it comes when the last word would: a service that does not stream.
    ``{text}``, ``{language}`` and ``{turn}`` in it are filled in. A request that fails (``fail_every``)
    or hangs (``hang_every``) does so after ``fault_after_tokens`` words; the error is ``llm.failed``.
    """

    llm_ms: Milliseconds = 0.0
    llm_token_ms: Milliseconds = 0.0
    reply: str = "You need a bachelor's degree and a language certificate. Shall I send you the list?"
    delivery: Literal["tokens", "whole"] = "tokens"
    fail_every: Count = 0
    hang_every: Count = 0
    fault_after_tokens: Count = 0


class FakeResponder:
    name = "fake"

    def __init__(self, settings: FakeResponderSettings) -> None:
        self.settings = settings
        self.faults = Faults(settings.fail_every, settings.hang_every)
        self._set = None if "{" in settings.reply else _deltas(settings.reply)

    async def start(self) -> None:
        pass

    async def respond(self, request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
        """Yields ``reply``, without the words in ``request.said`` if it begins with them."""
        settings = self.settings
        fault = self.faults.next()
        if settings.llm_ms:
            await asyncio.sleep(settings.llm_ms / 1000)
        answer = self._answer(request)
        if settings.delivery == "whole":
            await asyncio.sleep(settings.llm_token_ms * max(0, len(answer) - 1) / 1000)
            answer = (TextDelta("".join(delta.text for delta in answer)),)
        for index, delta in enumerate(answer):
            if fault and index == settings.fault_after_tokens:
                break
            if index and settings.llm_token_ms:
                await asyncio.sleep(settings.llm_token_ms / 1000)
            yield delta
        if fault == "fail":
            raise ProviderError("told to fail", provider=self.name, stage="llm", code="llm.failed")
        if fault == "hang":
            await hang()
        yield ReplyEnd()

    async def close(self) -> None:
        pass

    def _answer(self, request: ReplyRequest) -> tuple[TextDelta, ...]:
        if self._set is not None and not request.said:
            return self._set
        text = self.settings.reply.replace("{language}", request.language).replace("{turn}", str(request.turn))
        text = text.replace("{text}", request.text)
        said = request.said.rstrip()
        return _deltas(text.removeprefix(said).lstrip() if said else text)


def _deltas(text: str) -> tuple[TextDelta, ...]:
    return tuple(TextDelta(word) for word in _TOKEN.findall(text))


def build(settings: dict[str, object]) -> FakeResponder:
    """``[llm] provider = "fake"``; see ``FakeResponderSettings``."""
    return FakeResponder(convert(settings, FakeResponderSettings, "[llm] fake"))
