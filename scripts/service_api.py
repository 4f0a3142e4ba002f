"""The services' contracts as documents: OpenAPI for three of them, AsyncAPI for the ear's socket.

Made of the structs in ``antiphon.providers.service_wire`` that client and server decode with; ``written.py`` writes
them into ``docs/api``.
"""

from __future__ import annotations

import json
from inspect import cleandoc
from typing import Any

import msgspec
import yaml

from antiphon._version import __version__
from antiphon.providers import service_wire as wire

PLACE = "#/components/schemas/{name}"
REFUSALS = {
    "400": "The request cannot be used; the message names the field.",
    "401": "The key is missing or another.",
    "403": "A page in a browser asks a service that has no key.",
    "413": "The body is over 1 MiB.",
    "422": "The provider refuses this request, and would again: an unknown voice or language, a long text.",
    "429": "Too many requests; see Retry-After.",
    "502": "The provider failed.",
    "503": "No room for another request; see Retry-After.",
    "504": "The provider did not answer in time.",
}
FILES = {"stt": "stt.asyncapi.yaml", "intent": "intent.openapi.json", "retrieval": "rag.openapi.json"} | {
    "tts": "tts.openapi.json"
}


def documents() -> dict[str, str]:
    """Place and text of each."""
    made = {
        "stt": _ear(),
        "intent": _http("intent", wire.ClassifyRequest, _json(wire.ClassifyAnswer), wire.ClassifyAnswer),
        "retrieval": _http("retrieval", wire.RetrieveRequest, _json(wire.RetrieveAnswer), wire.RetrieveAnswer),
        "tts": _http("tts", wire.SynthesizeRequest, _sound(), wire.SoundLine),
    }
    return {
        f"docs/api/{name}": yaml.safe_dump(made[stage], sort_keys=False, allow_unicode=True, width=118)
        if name.endswith(".yaml")
        else json.dumps(made[stage], ensure_ascii=False, indent=2) + "\n"
        for stage, name in FILES.items()
    }


def _http(
    stage: wire.Stage, request: type[msgspec.Struct], answer: dict[str, Any], *shapes: type[msgspec.Struct]
) -> dict[str, Any]:
    place = wire.PLACES[stage]
    summary = (request.__doc__ or "").strip()
    operation = {
        "operationId": place.path.strip("/"),
        "summary": summary,
        "security": [{}, {"key": []}],
        "requestBody": {"required": True, "content": _json(request)},
        "responses": {
            "200": {"description": "Done.", "content": answer},
            **{status: {"description": why, "content": _json(wire.Refused)} for status, why in REFUSALS.items()},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": _info(place, "one part of an Antiphon agent, as a service over HTTP"),
        "servers": [{"url": f"http://127.0.0.1:{place.port}"}],
        "paths": {place.path: {"post": operation}, "/health": {"get": _health()}},
        "components": {
            "schemas": _schemas(request, *shapes, wire.Refused, wire.Health),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": _key()}},
        },
    }


def _ear() -> dict[str, Any]:
    place = wire.PLACES["stt"]
    to_ear, from_ear = (wire.Finish, wire.Expect, wire.Ping), (wire.PartialHeard, wire.FinalHeard, wire.NotHeard)
    messages: dict[str, Any] = {
        "audio": {
            "contentType": "application/octet-stream",
            "summary": "PCM of the rate asked for: signed 16-bit little-endian mono, of any length up to "
            f"{wire.MAX_AUDIO_BYTES} bytes, in a binary message.",
        }
    }
    for shape in (*to_ear, *from_ear):
        messages[_named(shape)] = {
            "contentType": "application/json",
            "summary": (shape.__doc__ or "").strip(),
            "payload": {"$ref": PLACE.format(name=shape.__name__)},
        }
    sent = ["audio", *(_named(shape) for shape in to_ear)]
    return {
        "asyncapi": "3.0.0",
        "info": _info(
            place,
            "hearing as a service: a WebSocket for each caller. Utterances are numbered 1, 2, 3 by the socket: audio "
            "before `finish` n belongs to utterance n, later audio to the next, and each `finish` is owed one `final` "
            "or one `error`. Who sends nothing for 60 s is closed with 1008 (`listen.idle`); an order that is none "
            "with 1003 (`listen.no_order`), one out of order with 1008 (`listen.order`), a message that ends in half "
            "a sample with 1003 (`listen.half_sample`), audio 75 s sooner than it could be spoken with 1008 "
            "(`listen.flood`), a message too large with 1009, and all with 1012 when the service ends. "
            "`GET /health` as the other services",
        ),
        "servers": {"here": {"host": f"127.0.0.1:{place.port}", "protocol": "ws", "security": [_bearer()]}},
        "channels": {
            "listen": {
                "address": place.path,
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "query": {
                            "type": "object",
                            "properties": {
                                "rate": {"enum": list(wire.RATES), "default": 8000, "description": "Hz"},
                                "language": {"type": "string", "maxLength": wire.MAX_TAG, "default": ""},
                            },
                            "additionalProperties": False,
                        },
                    }
                },
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": {
            "hear": _operation("receive", sent),
            "tell": _operation("send", [name for name in messages if name not in sent]),
        },
        "components": {"messages": messages, "schemas": _schemas(*to_ear, *from_ear)},
    }


def _operation(action: str, names: list[str]) -> dict[str, Any]:
    messages = [{"$ref": f"#/channels/listen/messages/{name}"} for name in names]
    return {"action": action, "channel": {"$ref": "#/channels/listen"}, "messages": messages}


def _named(shape: type[msgspec.Struct]) -> str:
    return str(shape.__struct_config__.tag)


def _info(place: wire.Place, what: str) -> dict[str, Any]:
    description = f"{what[:1].upper()}{what[1:]}. An orchestrator with `{place.variable}` in its environment asks it."
    return {"title": place.title, "version": __version__, "description": description}


def _health() -> dict[str, Any]:
    answer = {"200": {"description": "Healthy or degraded.", "content": _json(wire.Health)}}
    return {"operationId": "health", "summary": "How it is. Needs no key.", "security": [], "responses": answer}


def _json(shape: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": PLACE.format(name=shape.__name__)}}}


def _sound() -> dict[str, Any]:
    """Both forms of the answer."""
    bare = {"type": "string", "description": "The sound and nothing else: signed 16-bit little-endian mono."}
    line = {"$ref": PLACE.format(name="SoundLine")}
    return {
        f"{wire.PCM}; rate=8000": {"schema": bare},
        f"{wire.LINES}; rate=8000": {"schema": {"description": "One a line.", **line}},
    }


def _key() -> str:
    return f"The service's `{wire.KEY_VARIABLE}`, where it has one."


def _bearer() -> dict[str, Any]:
    return {"type": "http", "scheme": "bearer", "description": _key()}


def _schemas(*shapes: type[msgspec.Struct]) -> dict[str, Any]:
    _, found = msgspec.json.schema_components(shapes, ref_template=PLACE)
    for schema in found.values():
        if "description" in schema:  # a docstring, which Python 3.13 and later keep without its indentation
            schema["description"] = cleandoc(schema["description"])
    return dict(sorted(found.items()))
