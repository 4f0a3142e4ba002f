"""A responder over any LiveKit Agents LLM plugin: ``livekit.plugins.anthropic:LLM`` and the like.

Text streams as the plugin gives it; closing the iterator closes the plugin's stream. Tools are declared to the model
as the settings write them and run by the runtime. LiveKit's streams cost about twenty times the CPU of an adapter of
our own per token: where there is one, take that.

Error codes: ``llm.plugin`` (the plugin raised something that is none of LiveKit's errors), ``llm.unauthorized``,
``llm.quota``, ``llm.rate_limited``, ``llm.not_found``, ``llm.bad_request``, ``llm.refused``, ``llm.too_long``,
``llm.server``, ``llm.unreachable``, ``llm.cut``, ``llm.timeout_first_byte`` (the plugin's own),
``llm.timeout_first_token``, ``llm.timeout_stalled``, ``llm.timeout_total``, ``llm.empty``, ``llm.too_large``,
``llm.tool_rounds``, ``llm.closed``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from antiphon.errors import ProviderError
from antiphon.providers.failures import failed
from antiphon.providers.livekit_plugin import NAME, Plugin, PluginSettings, Seconds, closed
from antiphon.providers.llm import rounds
from antiphon.providers.llm.prompt import messages
from antiphon.providers.llm.rounds import Round
from antiphon.providers.llm.tool_calls import Tool, ToolCall
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Act, ReplyPart, ReplyRequest

if TYPE_CHECKING:
    from antiphon.providers.http import Patience


class LivekitResponderSettings(PluginSettings, frozen=True, kw_only=True):
    """See ``PluginSettings``. Times in seconds, as those of the ``openai`` responder."""

    system_prompt: Annotated[str, Meta(max_length=50_000)] = ""
    max_history: Annotated[int, Meta(ge=0, le=200)] = 20
    first_token_s: Seconds = 4.0
    between_tokens_s: Seconds = 5.0
    total_s: Seconds = 15.0
    tools: tuple[Tool, ...] = ()
    max_tool_rounds: Annotated[int, Meta(ge=1, le=10)] = 3


class LivekitResponder:
    """The ``Responder`` port over a plugin, or over one object of LiveKit's (``given``)."""

    name = NAME

    def __init__(self, settings: LivekitResponderSettings, *, given: object | None = None) -> None:
        self.settings = settings
        self.plugin = Plugin("llm", settings, given)
        self._tools = {tool.name: tool for tool in settings.tools}

    async def start(self) -> None:
        """Raises ``MissingExtra`` and ``ConfigError``."""
        await self.plugin.start()

    async def respond(self, request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
        """Yields the reply's text as it is generated, then ``ReplyEnd`` with the sources it was given.

        Raises ``ProviderError`` with the module's codes.
        """
        from antiphon.providers.http import Patience  # noqa: PLC0415 - imports aiohttp

        settings = self.settings
        waits = rounds.waits(settings.first_token_s, settings.between_tokens_s, settings.total_s)
        patience = Patience(waits, self.name, "llm")
        parts = rounds.reply(
            _Chat(self, request, patience),
            request,
            act,
            tools=self._tools,
            max_tool_rounds=settings.max_tool_rounds,
            patience=patience,
            provider=self.name,
        )
        async with aclosing(parts):
            async for part in parts:
                yield part

    async def close(self) -> None:
        await self.plugin.close()


class _Chat:
    """One reply's conversation: see ``rounds.Chat``."""

    def __init__(self, owner: LivekitResponder, request: ReplyRequest, patience: Patience) -> None:
        self._owner = owner
        self._plugin = owner.plugin
        self._language = request.language
        self._patience = patience
        self._llm: Any = import_module("livekit.agents.llm")
        self._told = self._llm.ChatContext.empty()
        for message in messages(request, owner.settings.system_prompt, owner.settings.max_history):
            # A lone surrogate cannot be sent by most plugins, and the error would be about it alone.
            text = message["content"].encode("utf-8", "replace").decode()
            self._told.add_message(role=message["role"], content=text)

    def ask(self, said: str, outcome: Round) -> AsyncGenerator[str, None]:
        return rounds.passed_on(self._deltas(outcome), said, outcome, self._patience, self._owner.name)

    def answer(self, outcome: Round, calls: Sequence[ToolCall], results: Sequence[str]) -> None:
        if outcome.text:
            self._told.add_message(role="assistant", content=outcome.text)
        asked = [
            self._llm.FunctionCall(
                call_id=call.id, name=call.name, arguments=call.arguments_json() or "{}", extra=call.extra or {}
            )
            for call in calls
        ]
        told = [
            self._llm.FunctionCallOutput(call_id=call.id, name=call.name, output=result, is_error=False)
            for call, result in zip(calls, results, strict=True)
        ]
        self._told.items.extend((*asked, *told))

    async def _deltas(self, outcome: Round) -> AsyncGenerator[str, None]:
        plugin, settings = self._plugin, self._owner.settings
        stream = plugin.call(
            plugin.of(self._language).chat,
            chat_ctx=self._told,
            tools=[self._declared(tool) for tool in settings.tools],
            conn_options=plugin.options(),
        )
        begun = False
        try:
            while (chunk := await self._next(stream, begun)) is not None:
                if chunk.delta is None:
                    continue
                for call in chunk.delta.tool_calls or ():
                    self._take(call, outcome)
                begun = begun or bool(chunk.delta.content)
                yield chunk.delta.content or ""
            outcome.complete = True
        finally:
            await closed(stream.aclose())

    async def _next(self, stream: Any, begun: bool) -> Any:
        try:
            return await self._patience.wait(self._plugin.next(stream))
        except ProviderError:
            raise
        except Exception as error:
            raise self._plugin.error(error, "cut" if begun else "unreachable") from error

    def _take(self, call: Any, outcome: Round) -> None:
        try:
            outcome.calls.add(call.call_id, call.name, call.arguments or "{}")
        except OverflowError as error:
            raise failed(f"too many {error}", "too_large", self._owner.name, "llm") from None
        outcome.calls.done()[-1].extra = call.extra

    def _declared(self, tool: Tool) -> Any:
        """The tool for LiveKit, which only declares it: it is run by the runtime."""

        async def run(raw_arguments: dict[str, object]) -> str:
            raise AssertionError("LiveKit runs no tools here")

        schema = tool.declaration()["function"]
        return self._llm.function_tool(run, raw_schema=schema)


def build(settings: dict[str, object]) -> LivekitResponder:
    """``[llm] provider = "livekit"``. Raises ``ConfigError``, also where a named key is not set."""
    return LivekitResponder(convert(settings, LivekitResponderSettings, f"[llm] {NAME}"))
