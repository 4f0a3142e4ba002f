"""A responder over any OpenAI-compatible chat endpoint: OpenAI, Ollama, vLLM, llama-server, Gemini, Sarvam.

Streams over server-sent events on one shared HTTP session with typed decoding; the vendor's SDK costs
several times the CPU per token and is used as the reference in tests instead. Closing the iterator
closes the connection, by which the endpoint knows to stop generating.

Error codes: ``llm.unauthorized``, ``llm.quota``, ``llm.rate_limited``, ``llm.not_found``,
``llm.bad_request``, ``llm.bad_endpoint``, ``llm.too_long``, ``llm.refused``, ``llm.server``,
``llm.unreachable``, ``llm.timeout_connect``, ``llm.timeout_first_token``, ``llm.timeout_stalled``,
``llm.timeout_total``, ``llm.cut``, ``llm.garbage``, ``llm.empty``, ``llm.too_large``, ``llm.tool_rounds``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from antiphon.errors import AntiphonError, ProviderError, ProviderRefused
from antiphon.providers.llm.leadin import LeadIn
from antiphon.providers.llm.openai_settings import WHERE, OpenAISettings, endpoint
from antiphon.providers.llm.openai_wire import Delta
from antiphon.providers.llm.prompt import messages
from antiphon.providers.llm.tool_calls import ToolCall, ToolCalls, as_message
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Act, ReplyEnd, ReplyPart, ReplyRequest, TextDelta

if TYPE_CHECKING:
    import aiohttp

    from antiphon.providers.http import Patience, Waits
    from antiphon.providers.llm.openai_http import Exchange

log = logging.getLogger(__name__)

MAX_REPLY_CHARS = 16_000
"""About twenty minutes of speech: a reply that goes on past this has run away."""

FIRST_PAUSE_S = 0.1


class _Round:
    """What came of one request: its text, its tool calls, how it ended."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.text = ""
        self.calls = ToolCalls()
        self.finish = ""
        self.refused = False
        self.repeated = False
        """Nothing but what the caller had heard already: the reply was whole before its attempt broke."""


class OpenAIResponder:
    """See ``OpenAISettings``. One shared HTTP session, opened by ``start`` or by the first request."""

    name = "openai"

    def __init__(self, settings: OpenAISettings) -> None:
        self.settings = settings
        self.endpoint = endpoint(settings)
        self._tools = {tool.name: tool for tool in settings.tools}
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        if self._session is not None:
            return
        from antiphon.providers.http import client_session  # noqa: PLC0415 - 135 ms that only its users should pay

        self._session = client_session(
            self.endpoint.base_url,
            headers={**self.endpoint.request_headers(), "Content-Type": "application/json"},
            connect_s=self.settings.connect_s,
            max_connections=self.settings.max_connections,
        )

    async def respond(self, request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
        """Yields the reply's text as it is generated, then ``ReplyEnd`` with the sources it was given.

        Raises ``ProviderError``, ``ProviderTimeout`` or ``ProviderRefused`` with the module's codes.
        """
        from antiphon.providers.http import Patience  # noqa: PLC0415 - imports aiohttp

        patience = Patience(self._waits(), self.name, "llm")
        told = messages(request, self.settings.system_prompt, self.settings.max_history)
        said = request.said
        spoken = 0
        for _ in range(self.settings.max_tool_rounds + 1):
            patience.expect_first()
            outcome = _Round()
            async with aclosing(self._round(told, said, patience, outcome)) as texts:
                async for text in texts:
                    spoken += len(text)
                    yield TextDelta(text)
            calls = outcome.calls.done()
            if not calls:
                if not spoken and not outcome.repeated:
                    raise self._failed("the reply is empty", "llm.empty")
                yield ReplyEnd(sources=tuple(dict.fromkeys(each.source for each in request.passages)))
                return
            told.append(as_message(outcome.text, calls))
            for call in calls:
                told.append({"role": "tool", "tool_call_id": call.id, "content": await self._run(call, act)})
            said = ""
        raise self._failed(f"still asks for tools after {self.settings.max_tool_rounds} rounds", "llm.tool_rounds")

    async def check(self) -> str:
        """Asks for the list of models: for ``antiphon doctor``. Raises ``ProviderError``."""
        from antiphon.providers.http import Patience  # noqa: PLC0415 - imports aiohttp
        from antiphon.providers.llm.openai_http import Exchange  # noqa: PLC0415 - imports aiohttp

        await self.start()
        assert self._session is not None  # noqa: S101 - start() made it
        patience = Patience(self._waits(), self.name, "llm")
        exchange = Exchange(self._session, self.endpoint, patience, self.name)
        return await exchange.models(self.endpoint.model)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _round(
        self, told: list[dict[str, Any]], said: str, patience: Patience, outcome: _Round
    ) -> AsyncGenerator[str, None]:
        """One request, tried again while nothing of it was passed on, time is left and the error allows it."""
        body = {**self.endpoint.body, "messages": told}
        for attempt in range(self.settings.retries + 1):
            begun = False
            try:
                async with aclosing(self._attempt(body, said, patience, outcome)) as texts:
                    async for text in texts:
                        begun = True
                        yield text
                return
            except ProviderError as error:
                pause = FIRST_PAUSE_S * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311 - spreads the load
                if error.retry_after_s is not None:
                    pause = max(error.retry_after_s, FIRST_PAUSE_S)
                if begun or not error.retryable or attempt == self.settings.retries or pause >= patience.left():
                    raise
                log.debug("llm retry", extra={"code": error.code, "attempt": attempt + 1, "pause_s": pause})
            await asyncio.sleep(pause)
            patience.spend(pause)
            outcome.clear()

    async def _attempt(
        self, body: dict[str, Any], said: str, patience: Patience, outcome: _Round
    ) -> AsyncGenerator[str, None]:
        from antiphon.providers.llm.openai_http import Exchange  # noqa: PLC0415 - imports aiohttp

        await self.start()
        assert self._session is not None  # noqa: S101 - start() made it
        exchange = Exchange(self._session, self.endpoint, patience, self.name)
        lead = LeadIn(said)
        try:
            await exchange.open(body)
            while (chunks := await exchange.chunks()) is not None:
                for chunk in chunks:
                    for choice in (chunk.choices or ())[:1]:
                        outcome.finish = choice.finish_reason or outcome.finish
                        text = lead.feed(self._take(choice.delta or choice.message, outcome))
                        if text.strip() or outcome.calls.begun:
                            patience.useful = True
                        if text:
                            outcome.text += text
                            yield text
            rest = lead.end()
            if rest:
                outcome.text += rest
                yield rest
            outcome.repeated = lead.repeated
            self._judge(exchange, outcome)
            await exchange.finish()
        finally:
            exchange.close()

    def _take(self, delta: Delta | None, outcome: _Round) -> str:
        if delta is None:
            return ""
        outcome.refused = outcome.refused or bool(delta.refusal)
        if delta.tool_calls:
            try:
                outcome.calls.feed(delta.tool_calls)
            except OverflowError as error:
                raise self._failed(f"too many {error}", "llm.too_large") from None
        if len(outcome.text) > MAX_REPLY_CHARS:
            raise self._failed(f"the reply is over {MAX_REPLY_CHARS} characters", "llm.too_large")
        return delta.content or ""

    def _judge(self, exchange: Exchange, outcome: _Round) -> None:
        """Raises if what came is not a whole reply."""
        if outcome.finish == "content_filter" or (outcome.refused and not outcome.text):
            raise ProviderRefused(
                "the endpoint refuses to answer this", provider=self.name, stage="llm", code="llm.refused"
            )
        if not outcome.finish and not exchange.done:
            raise self._failed("the stream ended before the reply did", "llm.cut")
        if not outcome.text.strip() and not outcome.calls.begun and not outcome.repeated:
            raise self._failed("the reply is empty", "llm.empty")

    async def _run(self, call: ToolCall, act: Act) -> str:
        """The tool's result, or what went wrong, in words the model can answer from."""
        tool = self._tools.get(call.name)
        arguments = call.arguments_json()
        if tool is None:
            return msgspec.json.encode({"error": f"there is no tool {call.name!r}"}).decode()
        if arguments is None:
            return '{"error": "the arguments were not a JSON object"}'
        try:
            return await act(tool.name, tool.kind, arguments)
        except AntiphonError as error:
            log.warning("llm tool failed", extra={"tool": tool.name, "code": error.code})
            return msgspec.json.encode({"error": error.code}).decode()

    def _waits(self) -> Waits:
        from antiphon.providers.http import Waits  # noqa: PLC0415 - imports aiohttp

        settings = self.settings
        return Waits(
            first_s=settings.first_token_s,
            between_s=settings.between_tokens_s,
            total_s=settings.total_s,
            first_code="timeout_first_token",
        )

    def _failed(self, text: str, code: str) -> ProviderError:
        return ProviderError(text, provider=self.name, stage="llm", code=code)


def build(settings: dict[str, object]) -> OpenAIResponder:
    """``[llm] provider = "openai"``. Raises ``ConfigError``, also where a key is needed and not set."""
    return OpenAIResponder(convert(settings, OpenAISettings, WHERE))
