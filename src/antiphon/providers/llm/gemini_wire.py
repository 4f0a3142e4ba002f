"""The wire of the Gemini API: what is sent, and typed answers. No I/O.

Sources: ai.google.dev, API reference "Generating content" (``models.streamGenerateContent`` with ``alt=sse``,
``GenerateContentResponse``, ``Candidate.FinishReason``, ``PromptFeedback.BlockReason``), "Function calling",
"Thought signatures" (what the model said is sent back as it came, signatures in their places), "Thinking"
(``thinkingLevel`` for Gemini 3, ``thinkingBudget`` for 2.5, never both) and "Troubleshooting".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.errors import UNUSABLE
from antiphon.providers.llm.tool_calls import Tool

BLOCKED = frozenset({"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION"})
"""Reasons to end that take the reply back."""

BROKEN = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"})
"""Reasons to end that a second attempt may not meet."""


class FunctionCall(msgspec.Struct, omit_defaults=True):
    name: str = ""
    args: dict[str, Any] | None = None
    id: str | None = None


class Part(msgspec.Struct, omit_defaults=True):
    """A piece of what the model says. ``thought``: a summary of its thinking, for nobody's ears."""

    text: str | None = None
    thought: bool = False
    functionCall: FunctionCall | None = None  # noqa: N815 - the vendor's name
    thoughtSignature: str | None = None  # noqa: N815

    def is_plain(self) -> bool:
        """Text that may be joined with the text before and after it."""
        return self.functionCall is None and self.thoughtSignature is None and not self.thought


class Content(msgspec.Struct):
    parts: list[Part] | None = None


class Candidate(msgspec.Struct):
    content: Content | None = None
    finishReason: str | None = None  # noqa: N815


class PromptFeedback(msgspec.Struct):
    blockReason: str | None = None  # noqa: N815


class Chunk(msgspec.Struct):
    """One event, or a whole answer."""

    candidates: list[Candidate] | None = None
    promptFeedback: PromptFeedback | None = None  # noqa: N815
    error: Any = None


chunk_decoder = msgspec.json.Decoder(Chunk)


class Said:
    """What the model said in one round, as it is sent back: text joined, all that is signed left as it came."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def add(self, part: Part) -> None:
        last = self.parts[-1] if self.parts else None
        if last is not None and last.is_plain() and part.is_plain():
            last.text = (last.text or "") + (part.text or "")
        else:
            self.parts.append(part)

    def content(self) -> dict[str, Any]:
        return {"role": "model", "parts": [msgspec.to_builtins(part) for part in self.parts]}


def contents(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages (``prompt.messages`` without the first) as contents: turns alternate, so neighbours are joined."""
    made: list[dict[str, Any]] = []
    for message in messages:
        role = "model" if message["role"] == "assistant" else "user"
        part = {"text": message["content"]}
        if made and made[-1]["role"] == role:
            made[-1]["parts"].append(part)
        else:
            made.append({"role": role, "parts": [part]})
    return made


def declarations(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The ``tools`` of a request. A tool without parameters is declared without a schema."""
    functions = []
    for tool in tools:
        function: dict[str, Any] = {"name": tool.name, "description": tool.description or tool.name}
        if tool.parameters:
            function["parametersJsonSchema"] = tool.parameters
        functions.append(function)
    return [{"functionDeclarations": functions}] if functions else []


def function_responses(said: Said, results: Sequence[str]) -> dict[str, Any]:
    """The turn that answers the function calls of ``said``, in their order, under the ids they came with."""
    calls = [part.functionCall for part in said.parts if part.functionCall is not None]
    parts = []
    for call, result in zip(calls, results, strict=True):
        response: dict[str, Any] = {"name": call.name, "response": _as_object(result)}
        if call.id:
            response["id"] = call.id
        parts.append({"functionResponse": response})
    return {"role": "user", "parts": parts}


def _as_object(result: str) -> dict[str, Any]:
    """A result has to be an object; anything else is its ``output``."""
    try:
        value = msgspec.json.decode(result)
    except UNUSABLE:
        value = result
    return value if isinstance(value, dict) else {"output": value}
