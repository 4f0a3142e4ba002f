"""The OpenAPI document of the HTTP side, made of the routes that run and the structs that are sent.

Routes are described where they are written (``described``); shapes are the schemas that msgspec makes of the structs.
``docs/api/antiphon.openapi.json`` is this document; at run time it is served where the server is open.
"""

from __future__ import annotations

from importlib import import_module
from inspect import cleandoc
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.openapi.utils import get_openapi

from antiphon._version import __version__
from antiphon.server.access import Access, asker

_PLACE = "#/components/schemas/{name}"
_SHAPES = "x-structs"
"""Where a route carries the structs it is described with, until the document is made."""

SECURITY_SCHEMES: dict[str, Any] = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "One of `server.api_keys`."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a session's token for that session."},
}
_SUMMARY = "Sessions, health and readiness. Sockets are described in the AsyncAPI document beside this one."
_REFUSALS = {
    400: "The request cannot be read.",
    401: "No credential, or none of this server's.",
    403: "The credential is not good for this, or a foreign page asks.",
    404: "There is no such session.",
    413: "The body is too large.",
    422: "A query value is not a number, or out of range.",
    429: "Too many wrong credentials came from this address; `Retry-After` says when to try again.",
    503: "The journal does not answer, or too many ask; `Retry-After` says when to try again.",
}


class ErrorDetail(msgspec.Struct, frozen=True):
    """``code`` is stable; ``message`` is for people and may change."""

    code: str
    message: str


class Error(msgspec.Struct, frozen=True):
    """What every refusal says."""

    error: ErrorDetail


def described(
    answer: type[msgspec.Struct], *, status: int = 200, body: type[msgspec.Struct] | None = None, of_one: bool = False
) -> dict[str, Any]:
    """Keywords for a route that answers ``answer`` and takes ``body``; ``of_one``: its path names a session."""
    refusals = [401, 403, 422, 429, 503, *((400, 404) if of_one else ()), *((400, 413) if body else ())]
    extra: dict[str, Any] = {
        "security": [{"apiKey": []}, {"bearer": []}],
        _SHAPES: [_named(each) for each in (answer, body) if each],
    }
    if body is not None:
        extra["requestBody"] = {"required": False, "content": _content(body)}
    return {
        "status_code": status,
        "response_class": Response,
        "response_model": None,
        "responses": {
            status: {"description": "Done.", "content": _content(answer)},
            **{code: {"description": _REFUSALS[code], "content": _content(Error)} for code in sorted(refusals)},
        },
        "openapi_extra": extra,
    }


def _named(shape: type[msgspec.Struct]) -> str:
    """In words, for FastAPI keeps only what is JSON."""
    return f"{shape.__module__} {shape.__name__}"


def _content(shape: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _PLACE.format(name=shape.__name__)}}}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    made = get_openapi(title="Antiphon", version=__version__, description=_SUMMARY, routes=app.routes)
    names = [_named(Error)]
    for operation in (each for path in made["paths"].values() for each in path.values()):
        names += operation.pop(_SHAPES, [])
    shapes = [getattr(import_module(module), name) for module, name in map(str.split, dict.fromkeys(names))]
    _, schemas = msgspec.json.schema_components(shapes, ref_template=_PLACE)
    for schema in schemas.values():
        if "description" in schema:  # a docstring, which Python 3.13 and later keep without its indentation
            schema["description"] = cleandoc(schema["description"])
    components = made.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **schemas}
    components["securitySchemes"] = SECURITY_SCHEMES
    return made


def router(access: Access) -> APIRouter:
    """``/openapi.json``, for whoever needs no credential; to others there is no such address."""
    routes = APIRouter()

    @routes.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> dict[str, Any]:
        if not access.is_open(*asker(request)):
            raise HTTPException(404)
        return document(request.app)

    return routes
