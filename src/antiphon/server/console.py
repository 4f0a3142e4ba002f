"""The page to talk to the agent: static files of the package, at ``/`` and ``/console/``.

They hold no data and no secret, so they are open to everybody; what the page asks for is judged where it is asked for.
All of them are read once, when the router is made: a request names one of them or nothing.
"""

from __future__ import annotations

from hashlib import blake2b
from importlib import resources

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",  # also what audio worklets are loaded under
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # a string that becomes HTML raises, where browsers know how
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Asset(msgspec.Struct, frozen=True):
    """One file. ``etag`` is of its content and quoted, as HTTP has it."""

    body: bytes
    type: str
    etag: str


def assets() -> dict[str, Asset]:
    """The page's files by name."""
    found = {}
    for file in resources.files("antiphon.data").joinpath("console").iterdir():
        kind = TYPES.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            body = file.read_bytes()
            found[file.name] = Asset(body, kind, f'"{blake2b(body, digest_size=12).hexdigest()}"')
    return found


def router() -> APIRouter:
    """The routes ``/`` and ``/console/{name}``."""
    routes = APIRouter(tags=["console"])
    files = assets()

    @routes.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def index(request: Request) -> Response:
        return _answer(files[INDEX], request, cache="no-store")

    @routes.api_route("/console/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        """Kept by browsers, and asked for again each time: a page and its parts are never of two versions."""
        if name == INDEX or name not in files:
            raise HTTPException(404, "the page has no such file")
        return _answer(files[name], request, cache="no-cache")

    return routes


def _answer(asset: Asset, request: Request, *, cache: str) -> Response:
    headers = {**HEADERS, "cache-control": cache, "etag": asset.etag}
    if cache != "no-store" and _has(request, asset.etag):
        return Response(status_code=304, headers=headers)
    return Response(asset.body, headers=headers, media_type=asset.type)


def _has(request: Request, etag: str) -> bool:
    """RFC 9110, section 13.1.2: a proxy that compresses makes a weak tag of ours."""
    known = request.headers.get("if-none-match", "")
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in known.split(","))
