"""Tool calls as they stream in, put together again.

The reference's ``delta.tool_calls`` carry an ``index``, the ``id`` and name in the first piece and the
arguments in pieces. Endpoints differ, and these differences are known: Gemini's leaves ``index`` out
(a piece with a new ``id`` begins a call), ends such a reply with the reason ``stop``, and wants
``extra_content`` (its thought signature) back with the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from antiphon.errors import UNUSABLE
from antiphon.providers.llm.openai_wire import ToolCallDelta

MAX_CALLS = 8
MAX_ARGUMENT_CHARS = 32_768


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as the settings file writes it. ``kind`` says what running it does to the world,
    ``parameters`` is a JSON schema."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str = ""
    kind: Literal["read", "write", "terminal"] = "read"
    parameters: dict[str, Any] = {}

    def declaration(self) -> dict[str, Any]:
        """The tool as the endpoint wants it."""
        schema = self.parameters or {"type": "object", "properties": {}}
        function = {"name": self.name, "description": self.description, "parameters": schema}
        return {"type": "function", "function": function}


class ToolCall:
    """One call, growing."""

    __slots__ = ("arguments", "extra", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments = ""
        self.extra: Any = None

    def arguments_json(self) -> str | None:
        """The arguments as a JSON object's text; None if they are not one."""
        try:
            value = msgspec.json.decode(self.arguments or "{}")
        except UNUSABLE:
            return None
        return self.arguments or "{}" if isinstance(value, dict) else None


class ToolCalls:
    """The calls of one reply, in order. Raises ``OverflowError`` past 8 calls or 32,768 characters of arguments."""

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []
        self._places: dict[int, ToolCall] = {}

    @property
    def begun(self) -> bool:
        return bool(self._calls)

    def feed(self, deltas: list[ToolCallDelta]) -> None:
        for delta in deltas:
            call = self._call_of(delta)
            call.id = delta.id or call.id
            if delta.extra_content is not None:
                call.extra = delta.extra_content
            if delta.function is not None:
                call.name = delta.function.name or call.name
                given = delta.function.arguments
                call.arguments += msgspec.json.encode(given).decode() if isinstance(given, dict) else given or ""
            if len(call.arguments) > MAX_ARGUMENT_CHARS:
                raise OverflowError("tool arguments")

    def add(self, id: str, name: str, arguments: str) -> None:
        """A call that comes whole. ``arguments``: a JSON object's text."""
        call = self._new()
        call.id, call.name, call.arguments = id, name, arguments
        if len(arguments) > MAX_ARGUMENT_CHARS:
            raise OverflowError("tool arguments")

    def done(self) -> list[ToolCall]:
        """The calls; one without an id gets one, since its result must name it."""
        for number, call in enumerate(self._calls):
            call.id = call.id or f"call_{number}"
        return self._calls

    def _call_of(self, delta: ToolCallDelta) -> ToolCall:
        if delta.index is not None:
            known = self._places.get(delta.index)
            if known is None:
                known = self._places[delta.index] = self._new()
            return known
        if self._calls and (not delta.id or delta.id == self._calls[-1].id):
            return self._calls[-1]
        return self._new()

    def _new(self) -> ToolCall:
        if len(self._calls) >= MAX_CALLS:
            raise OverflowError("tool calls")
        self._calls.append(ToolCall())
        return self._calls[-1]


def as_message(text: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    """The assistant's message that asked for ``calls``, to be sent back with their results."""
    listed: list[dict[str, Any]] = []
    for call in calls:
        function = {"name": call.name, "arguments": call.arguments_json() or "{}"}
        entry: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
        if call.extra is not None:
            entry["extra_content"] = call.extra
        listed.append(entry)
    return {"role": "assistant", "content": text or None, "tool_calls": listed}
