"""A responder over Google's own Gemini API (``:streamGenerateContent?alt=sse``).

Streams over server-sent events on one shared HTTP session with typed decoding; the vendor's SDK is used as the
reference in tests. Closing the iterator closes the connection, by which the endpoint knows to stop generating.
The OpenAI-compatible endpoint of the same models is the preset ``gemini`` of ``openai``; this one has thinking
levels, safety thresholds and thought signatures as Google documents them (``gemini_wire`` names the pages).

Error codes: ``llm.unauthorized``, ``llm.quota``, ``llm.rate_limited``, ``llm.not_found``,
``llm.bad_request``, ``llm.bad_endpoint``, ``llm.refused``, ``llm.server``, ``llm.unreachable``,
``llm.timeout_connect``, ``llm.timeout_first_token``, ``llm.timeout_stalled``, ``llm.timeout_total``,
``llm.cut``, ``llm.garbage``, ``llm.empty``, ``llm.too_large``, ``llm.tool_rounds``, ``llm.closed``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from antiphon.errors import UNUSABLE
from antiphon.providers.failures import failed
from antiphon.providers.llm import rounds
from antiphon.providers.llm.gemini_settings import WHERE, GeminiSettings, endpoint
from antiphon.providers.llm.gemini_wire import (
    BLOCKED,
    BROKEN,
    Candidate,
    Chunk,
    Part,
    Said,
    chunk_decoder,
    contents,
    function_responses,
)
from antiphon.providers.llm.prompt import messages
from antiphon.providers.llm.rounds import Round
from antiphon.providers.llm.tool_calls import ToolCall
from antiphon.providers.session import Session
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Act, ReplyPart, ReplyRequest

if TYPE_CHECKING:
    from antiphon.providers.exchange import Exchange
    from antiphon.providers.http import Patience

MAX_MODEL_BYTES = 65_536
"""Of the description of a model."""


class GeminiResponder:
    """See ``GeminiSettings``. One shared HTTP session, opened by ``start`` or by the first request."""

    name = "gemini"

    def __init__(self, settings: GeminiSettings) -> None:
        self.settings = settings
        self.endpoint = endpoint(settings)
        self._tools = {tool.name: tool for tool in settings.tools}
        self._session = Session(
            self.name,
            "llm",
            self.endpoint.base_url,
            headers=lambda: {**self.endpoint.request_headers(), "Content-Type": "application/json"},
            connect_s=settings.connect_s,
            max_connections=settings.max_connections,
        )

    async def start(self) -> None:
        self._session.start()

    async def respond(self, request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
        """Yields the reply's text as it is generated, then ``ReplyEnd`` with the sources it was given.

        Raises ``ProviderError``, ``ProviderTimeout`` or ``ProviderRefused`` with the module's codes.
        """
        patience = self._patience()
        system, *told = messages(request, self.settings.system_prompt, self.settings.max_history)
        parts = rounds.reply(
            _Chat(self, system["content"], contents(told), patience),
            request,
            act,
            tools=self._tools,
            max_tool_rounds=self.settings.max_tool_rounds,
            patience=patience,
            provider=self.name,
        )
        async with aclosing(parts):
            async for part in parts:
                yield part

    async def check(self) -> str:
        """Asks for the model's description: for ``antiphon doctor``. Raises ``ProviderError``."""
        exchange = await self.exchange(self._patience())
        await exchange.get(self.endpoint.model_url, MAX_MODEL_BYTES)
        return f"{self.endpoint.base_url} has {self.endpoint.model}"

    async def close(self) -> None:
        await self._session.close()

    async def exchange(self, patience: Patience) -> Exchange:
        from antiphon.providers.exchange import Exchange  # noqa: PLC0415 - imports aiohttp

        here = self.endpoint
        return Exchange(self._session.use(), patience, self.name, "llm", key=here.key, place=here.base_url)

    def _patience(self) -> Patience:
        from antiphon.providers.http import Patience  # noqa: PLC0415 - imports aiohttp

        settings = self.settings
        limits = rounds.waits(settings.first_token_s, settings.between_tokens_s, settings.total_s)
        return Patience(limits, self.name, "llm")


class _Chat:
    """One reply's conversation: see ``rounds.Chat``."""

    def __init__(self, owner: GeminiResponder, system: str, told: list[dict[str, Any]], patience: Patience) -> None:
        self._owner = owner
        self._system = {"parts": [{"text": system}]}
        self._told = told
        self._patience = patience
        self._said = Said()

    def answer(self, outcome: Round, calls: Sequence[ToolCall], results: Sequence[str]) -> None:
        self._told += [self._said.content(), function_responses(self._said, results)]

    async def ask(self, said: str, outcome: Round) -> AsyncGenerator[str, None]:
        self._said = Said()
        here = self._owner.endpoint
        body = {**here.body, "systemInstruction": self._system, "contents": self._told}
        exchange = await self._owner.exchange(self._patience)
        try:
            await exchange.post(f"{here.model_url}:streamGenerateContent?alt=sse", body)
            deltas = self._deltas(exchange, outcome)
            async with aclosing(rounds.passed_on(deltas, said, outcome, self._patience, self._owner.name)) as texts:
                async for text in texts:
                    yield text
            await exchange.finish()
        finally:
            exchange.close()

    async def _deltas(self, exchange: Exchange, outcome: Round) -> AsyncGenerator[str, None]:
        from antiphon.providers.llm.events import Events  # noqa: PLC0415 - imports aiohttp

        events = Events(exchange, self._owner.name)
        while not outcome.complete and (payloads := await events.payloads()) is not None:
            for payload in payloads:
                chunk = self._decode(payload, exchange)
                if chunk.promptFeedback is not None and chunk.promptFeedback.blockReason:
                    outcome.blocked = True
                for candidate in (chunk.candidates or ())[:1]:
                    for part in (candidate.content.parts if candidate.content else None) or ():
                        yield self._take(part, outcome)
                    self._end(candidate, outcome)
            # A prompt that was blocked gets no candidate, and so no reason to end.
            outcome.complete = outcome.complete or outcome.blocked

    def _decode(self, payload: bytes, exchange: Exchange) -> Chunk:
        try:
            chunk = chunk_decoder.decode(payload)
        except UNUSABLE:
            raise failed("the endpoint sent something that is no answer", "garbage", self._owner.name, "llm") from None
        if chunk.error:
            raise exchange.error({"error": chunk.error})
        return chunk

    def _take(self, part: Part, outcome: Round) -> str:
        self._said.add(part)
        call = part.functionCall
        if call is not None:
            try:
                outcome.calls.add(call.id or "", call.name, msgspec.json.encode(call.args or {}).decode())
            except OverflowError as error:
                raise failed(f"too many {error}", "too_large", self._owner.name, "llm") from None
        return "" if part.thought else part.text or ""

    def _end(self, candidate: Candidate, outcome: Round) -> None:
        reason = candidate.finishReason or ""
        outcome.complete = outcome.complete or bool(reason)
        outcome.cut_short = outcome.cut_short or reason == "MAX_TOKENS"
        outcome.blocked = outcome.blocked or reason in BLOCKED
        if reason in BROKEN:
            raise failed(f"the model's answer is broken ({reason})", "garbage", self._owner.name, "llm")


def build(settings: dict[str, object]) -> GeminiResponder:
    """``[llm] provider = "gemini"``. Raises ``ConfigError``, also where the key is not set."""
    return GeminiResponder(convert(settings, GeminiSettings, WHERE))
