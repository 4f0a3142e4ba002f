"""What is the same for every chat model: rounds of requests and tools, and what of their text is passed on.

A vendor's adapter brings a ``Chat``: how the conversation is told on its wire, and how its answer is read.

Error codes: ``llm.empty``, ``llm.cut``, ``llm.refused``, ``llm.too_large``, ``llm.tool_rounds``, and what a
``Chat`` raises.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

import msgspec

from antiphon.errors import AntiphonError
from antiphon.providers.failures import failed, refused
from antiphon.providers.llm.leadin import LeadIn
from antiphon.providers.llm.tool_calls import Tool, ToolCall, ToolCalls
from antiphon.runtime.ports import Act, ReplyEnd, ReplyPart, ReplyRequest, TextDelta

if TYPE_CHECKING:
    from antiphon.providers.http import Patience, Waits

log = logging.getLogger(__name__)

MAX_REPLY_CHARS = 16_000
"""About twenty minutes of speech: a reply that goes on past this has run away."""


class Round:
    """What came of one request: its text, its tool calls, how it ended."""

    def __init__(self) -> None:
        self.text = ""
        self.calls = ToolCalls()
        self.complete = False
        """The endpoint said that the reply is over."""
        self.blocked = False
        """The endpoint took its reply back, or never began one: a filter."""
        self.cut_short = False
        """``max_tokens`` was reached."""
        self.repeated = False
        """Nothing but what the caller had heard already: the reply was whole before its attempt broke."""


class Chat(Protocol):
    """One reply's conversation with one endpoint."""

    def ask(self, said: str, outcome: Round) -> AsyncGenerator[str, None]:
        """One request, told all that was said so far; yields what of its text may be spoken."""

    def answer(self, outcome: Round, calls: Sequence[ToolCall], results: Sequence[str]) -> None:
        """Adds what the model said and the results of its calls (JSON, or any text), in their order."""


async def reply(
    chat: Chat,
    request: ReplyRequest,
    act: Act,
    *,
    tools: Mapping[str, Tool],
    max_tool_rounds: int,
    patience: Patience,
    provider: str,
) -> AsyncGenerator[ReplyPart, None]:
    """Text as it is generated, tools run in between, then ``ReplyEnd`` with the sources that the request named."""
    said = request.said
    spoken = 0
    for _ in range(max_tool_rounds + 1):
        patience.expect_first()
        outcome = Round()
        async with aclosing(chat.ask(said, outcome)) as texts:
            async for text in texts:
                spoken += len(text)
                yield TextDelta(text)
        calls = outcome.calls.done()
        if not calls:
            if not spoken and not outcome.repeated:
                raise failed("the reply is empty", "empty", provider, "llm")
            yield ReplyEnd(sources=tuple(dict.fromkeys(each.source for each in request.passages)))
            return
        chat.answer(outcome, calls, [await _run(call, tools, act) for call in calls])
        said = ""
    raise failed(f"still asks for tools after {max_tool_rounds} rounds", "tool_rounds", provider, "llm")


async def passed_on(
    deltas: AsyncGenerator[str, None], said: str, outcome: Round, patience: Patience, provider: str
) -> AsyncGenerator[str, None]:
    """A request's text without its lead-in, kept in ``outcome``. Raises if what came is no whole reply."""
    lead = LeadIn(said)
    async with aclosing(deltas) as pieces:
        async for piece in pieces:
            text = lead.feed(piece)
            if text.strip() or outcome.calls.begun:
                patience.useful = True
            if len(outcome.text) > MAX_REPLY_CHARS:
                raise failed(f"the reply is over {MAX_REPLY_CHARS} characters", "too_large", provider, "llm")
            if text:
                outcome.text += text
                yield text
    rest = lead.end()
    if rest:
        outcome.text += rest
        yield rest
    outcome.repeated = lead.repeated
    if outcome.blocked:
        raise refused("the endpoint refuses to answer this", "refused", provider, "llm")
    if not outcome.complete:
        raise failed("the stream ended before the reply did", "cut", provider, "llm")
    if not outcome.text.strip() and not outcome.calls.begun and not outcome.repeated:
        if outcome.cut_short:
            raise refused("max_tokens was used up before any text: raise it", "empty", provider, "llm")
        raise failed("the reply is empty", "empty", provider, "llm")


def waits(first_token_s: float, between_tokens_s: float, total_s: float) -> Waits:
    """The patience of a reply."""
    from antiphon.providers.http import Waits  # noqa: PLC0415 - imports aiohttp

    return Waits(first_s=first_token_s, between_s=between_tokens_s, total_s=total_s, first_code="timeout_first_token")


async def _run(call: ToolCall, tools: Mapping[str, Tool], act: Act) -> str:
    """The tool's result, or what went wrong, in words the model can answer from."""
    tool = tools.get(call.name)
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
