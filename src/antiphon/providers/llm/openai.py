"""A responder over any OpenAI-compatible chat endpoint: OpenAI, Ollama, vLLM, llama-server, Gemini, Sarvam.

Streams over server-sent events on one shared HTTP session with typed decoding; the vendor's SDK costs
several times the CPU per token and is used as the reference in tests instead. Closing the iterator
closes the connection, by which the endpoint knows to stop generating.

Error codes: ``llm.unauthorized``, ``llm.quota``, ``llm.rate_limited``, ``llm.not_found``,
``llm.bad_request``, ``llm.bad_endpoint``, ``llm.too_long``, ``llm.refused``, ``llm.server``,
``llm.unreachable``, ``llm.timeout_connect``, ``llm.timeout_first_token``, ``llm.timeout_stalled``,
``llm.timeout_total``, ``llm.cut``, ``llm.garbage``, ``llm.empty``, ``llm.too_large``, ``llm.tool_rounds``,
``llm.closed``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from antiphon.errors import ProviderError
from antiphon.providers.failures import failed
from antiphon.providers.llm import rounds
from antiphon.providers.llm.openai_settings import WHERE, OpenAISettings, endpoint
from antiphon.providers.llm.openai_wire import Choice
from antiphon.providers.llm.prompt import messages
from antiphon.providers.llm.rounds import Round
from antiphon.providers.llm.tool_calls import ToolCall, as_message
from antiphon.providers.session import Session
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Act, ReplyPart, ReplyRequest

if TYPE_CHECKING:
    from antiphon.providers.http import Patience
    from antiphon.providers.llm.openai_http import ChatExchange


class OpenAIResponder:
    """See ``OpenAISettings``. One shared HTTP session, opened by ``start`` or by the first request."""

    name = "openai"

    def __init__(self, settings: OpenAISettings) -> None:
        self.settings = settings
        self.endpoint = endpoint(settings)
        self.service = {"sarvam": "sarvam_ai"}.get(settings.preset, settings.preset or self.name)
        """Whose health ``check`` tells."""
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
        chat = _Chat(self, messages(request, self.settings.system_prompt, self.settings.max_history), patience)
        parts = rounds.reply(
            chat,
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
        """Asks for the list of models: for ``antiphon doctor``. Raises ``ProviderError``."""
        return await (await self.exchange(self._patience())).models()

    async def close(self) -> None:
        await self._session.close()

    async def exchange(self, patience: Patience) -> ChatExchange:
        from antiphon.providers.llm.openai_http import ChatExchange  # noqa: PLC0415 - imports aiohttp

        return ChatExchange(self._session.use(), self.endpoint, patience, self.name)

    def _patience(self) -> Patience:
        from antiphon.providers.http import Patience  # noqa: PLC0415 - imports aiohttp

        settings = self.settings
        limits = rounds.waits(settings.first_token_s, settings.between_tokens_s, settings.total_s)
        return Patience(limits, self.name, "llm")


class _Chat:
    """One reply's conversation: see ``rounds.Chat``."""

    def __init__(self, owner: OpenAIResponder, told: list[dict[str, Any]], patience: Patience) -> None:
        self._owner = owner
        self._told = told
        self._patience = patience

    def answer(self, outcome: Round, calls: Sequence[ToolCall], results: Sequence[str]) -> None:
        self._told.append(as_message(outcome.text, calls))
        for call, result in zip(calls, results, strict=True):
            self._told.append({"role": "tool", "tool_call_id": call.id, "content": result})

    async def ask(self, said: str, outcome: Round) -> AsyncGenerator[str, None]:
        exchange = await self._owner.exchange(self._patience)
        try:
            await exchange.open({**self._owner.endpoint.body, "messages": self._told})
            deltas = self._deltas(exchange, outcome)
            async with aclosing(rounds.passed_on(deltas, said, outcome, self._patience, self._owner.name)) as texts:
                async for text in texts:
                    yield text
            await exchange.finish()
        finally:
            exchange.close()

    async def _deltas(self, exchange: ChatExchange, outcome: Round) -> AsyncGenerator[str, None]:
        refused = answered = False
        while (chunks := await exchange.chunks()) is not None:
            for chunk in chunks:
                for choice in (chunk.choices or ())[:1]:
                    delta = choice.delta or choice.message
                    refused = refused or bool(delta and delta.refusal)
                    text = self._take(choice, outcome)
                    answered = answered or bool(text)
                    yield text
        outcome.complete = outcome.complete or exchange.done
        outcome.blocked = outcome.blocked or (refused and not answered)

    def _take(self, choice: Choice, outcome: Round) -> str:
        outcome.complete = outcome.complete or bool(choice.finish_reason)
        outcome.blocked = outcome.blocked or choice.finish_reason == "content_filter"
        outcome.cut_short = outcome.cut_short or choice.finish_reason == "length"
        delta = choice.delta or choice.message
        if delta is None:
            return ""
        if delta.tool_calls:
            try:
                outcome.calls.feed(delta.tool_calls)
            except OverflowError as error:
                raise self._failed(f"too many {error}", "too_large") from None
        return delta.content or ""

    def _failed(self, text: str, code: str) -> ProviderError:
        return failed(text, code, self._owner.name, "llm")


def build(settings: dict[str, object]) -> OpenAIResponder:
    """``[llm] provider = "openai"``. Raises ``ConfigError``, also where a key is needed and not set."""
    return OpenAIResponder(convert(settings, OpenAISettings, WHERE))
