"""The contract of ``/orchestrate`` as an AsyncAPI document.

Made of the structs that the line decodes and encodes with (``antiphon.transports.orchestrate_messages``), and written
to ``PLACE`` by ``written.py``. Form: the AsyncAPI specification 3.0.0, and its WebSockets bindings 0.1.0.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import yaml

from antiphon._version import __version__
from antiphon.transports import orchestrate_messages as wire
from antiphon.transports.orchestrate_settings import EVENTS, PATH, RATES

PLACE = "docs/api/orchestrate.asyncapi.yaml"
SCHEMA = "#/components/schemas/{name}"
AUDIO_IN, AUDIO_OUT = "caller_audio", "agent_audio"
NOTE = "# Written by `make docs`; change the code, not this file.\n"

_PASSAGE = {"id": "fees", "title": "What are the fees?", "source": "Fee Schedule, section 2", "score": 0.65}
_SPENT = {"endpointing": 0, "stt": 0, "understanding": 31, "llm": 2, "tts": 5, "playout": 1, "intent": 28}
EXAMPLES: dict[str, dict[str, Any]] = {
    "stt_fragment": {
        "session_id": "test_001",
        "text": "What are the fees?",
        "is_final": True,
        "timestamp": 1234567890.0,
    },
    "vad_end": {"session_id": "test_001", "confidence": 0.95},
    "user_speaking": {"session_id": "test_001", "timestamp": 1234567890.0},
    "text": {"text": "Do you have a hostel?", "language": "en-IN"},
    "key": {"digit": "2"},
    "mark": {"name": "1.0.0"},
    "end": {},
    "connected": {
        "session_id": "test_001",
        "state": "THINKING",
        "resumed": True,
        "protocol": wire.PROTOCOL,
        "audio": {"form": "binary", "codec": "pcm16", "rate": 16_000},
        "unheard": {"turn_id": 2, "text": "one lakh eighty thousand rupees a year."},
    },
    "response": {
        "session_id": "test_001",
        "turn_id": 1,
        "text": "B Tech costs one lakh eighty thousand rupees a year.",
        "intent": "question",
        "sources": [_PASSAGE],
        "language": "en-IN",
        "latency_ms": {**_SPENT, "retrieval": 31, "total": 39},
        "complete": True,
        "kind": "reply",
    },
    "audio": {"turn_id": 1, "data": "AAAAAA=="},
    "clear": {},
    "error": {"code": "message.unknown", "message": f"a message's type is one of {', '.join(wire.KNOWN)}"},
    "ended": {"reason": "client"},
    "state": {"session_id": "test_001", "state": "SPEAKING", "turn_id": 1, "at_ms": 4169},
    "transcript": {"utterance": 1, "text": "What are the fees?", "final": True, "language": "en-IN"},
    "spoken": {
        "turn_id": 1,
        "text": "B Tech costs one lakh eighty thousand rupees a year.",
        "heard": "B Tech costs one lakh",
        "done": True,
        "kind": "reply",
    },
    "interruption": {"turn_id": 1, "decision": "paused"},
    "latency": {"turn_id": 1, "total_ms": 39, "parts": [{"name": "synthesis", "ms": 5, "owner": "provider"}]},
}
"""One of each type, without the type itself; ``mark`` is the same both ways."""


def document() -> str:
    """The document's text, YAML."""
    text: str = yaml.safe_dump(content(), sort_keys=False, allow_unicode=True, width=118)
    return NOTE + text


def content() -> dict[str, Any]:
    taken, told = get_args(wire.Inbound), get_args(wire.Outbound)
    messages = {_key(shape): _message(shape) for shape in (*taken, *told)}
    messages[AUDIO_IN] = _sound("The caller's audio, at most one second and 64 KiB in a message.")
    messages[AUDIO_OUT] = _sound("The agent's audio, where `audio` is `binary`.")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Antiphon: /orchestrate",
            "version": __version__,
            "description": "One conversation on one WebSocket: words or audio of the caller in, answers and audio "
            "out. docs/orchestrate.md tells how the messages follow each other.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"here": {"host": "127.0.0.1:8004", "protocol": "ws", "security": [_security()]}},
        "channels": {"orchestrate": _channel(list(messages))},
        "operations": {
            "take": _operation("receive", [*map(_key, taken), AUDIO_IN]),
            "tell": _operation("send", [*map(_key, told), AUDIO_OUT]),
        },
        "components": {"messages": messages, "schemas": _schemas((*taken, *told))},
        "x-errors": wire.ERRORS,
        "x-closes": [{"code": code, "reason": reason, "means": means} for code, reason, means in wire.CLOSES],
        "x-refusals": wire.REFUSALS,
    }


def _key(shape: type[msgspec.Struct]) -> str:
    """A message's name; ``mark`` goes both ways with other meanings."""
    return "mark_played" if shape is wire.MarkPlayed else str(shape.__struct_config__.tag)


def _message(shape: type[msgspec.Struct]) -> dict[str, Any]:
    kind = str(shape.__struct_config__.tag)
    return {
        "name": kind,
        "contentType": "application/json",
        "summary": " ".join((shape.__doc__ or "").split()),
        "payload": {"$ref": SCHEMA.format(name=shape.__name__)},
        "examples": [{"payload": {"type": kind, **EXAMPLES[kind]}}],
    }


def _sound(summary: str) -> dict[str, Any]:
    codecs = "pcm16 is signed 16-bit little-endian mono at `rate`; opus is one packet in each message."
    return {"contentType": "application/octet-stream", "summary": f"A binary message. {summary} {codecs}"}


def _channel(names: list[str]) -> dict[str, Any]:
    query = {
        "session_id": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_.:-]{1,255}$",
            "description": "Known: the session goes on. Absent: a new one, whose id `connected` tells.",
        },
        "audio": {"enum": ["binary", "base64", "none"], "default": "binary"},
        "codec": {"enum": ["pcm16", "opus"], "default": "pcm16", "description": "Both ways."},
        "rate": {"enum": [str(rate) for rate in RATES], "default": "16000", "description": "Hz, both ways."},
        "events": {
            "type": "string",
            "default": "",
            "description": f"What else is told: {', '.join(EVENTS)} with commas between, or all.",
        },
        "greet": {"enum": ["0", "1"], "default": "0", "description": "1: the agent speaks first."},
        "language": {"type": "string", "description": "BCP 47, one of those the server offers."},
        "marks": {"enum": ["0", "1"], "default": "0", "description": "1: the client answers marks."},
    }
    return {
        "address": PATH,
        "bindings": {
            "ws": {"method": "GET", "query": {"type": "object", "properties": query, "additionalProperties": False}}
        },
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }


def _operation(action: str, names: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/orchestrate"},
        "messages": [{"$ref": f"#/channels/orchestrate/messages/{name}"} for name in names],
    }


def _security() -> dict[str, str]:
    return {
        "type": "http",
        "scheme": "bearer",
        "description": "Outside the server's own machine: the session's token (POST /sessions) or an API key. A "
        f"browser offers the subprotocols `{wire.SUBPROTOCOL}` and `bearer.<token>`. Never in the query.",
    }


def _schemas(shapes: tuple[type[msgspec.Struct], ...]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components(shapes, ref_template=SCHEMA)
    for schema in components.values():
        if "description" in schema:
            schema["description"] = " ".join(str(schema["description"]).split())
    return dict(components)
