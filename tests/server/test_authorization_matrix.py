"""Every route of the server and every credential: who is let in, who is refused, and with what.

A route without a row fails, and a row without a route: whoever adds a door says here for whom it is.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from starlette.routing import BaseRoute

from antiphon import config
from antiphon.assembly import Antiphon, assembled
from antiphon.errors import TooManyAttempts
from antiphon.secret import Secret
from antiphon.server import access, openapi, tokens
from antiphon.server.answers import Refusal
from antiphon.server.api_keys import new_key
from antiphon.server.sockets import MediaSockets, Upgrade
from antiphon.server.tokens import SessionTokens, new_secret

DOCUMENT = Path(__file__).parents[2] / "docs" / "api" / "antiphon.openapi.json"
KEY, SECRET = new_key(), new_secret()
SESSION = "one"

For = Literal["everybody", "operator", "session", "phone", "page_of_this_machine"]

ROUTES: dict[str, For] = {
    "GET /health": "everybody",
    "HEAD /health": "everybody",
    "GET /ready": "everybody",
    "HEAD /ready": "everybody",
    "GET /": "everybody",
    "HEAD /": "everybody",
    "GET /console/{name}": "everybody",
    "HEAD /console/{name}": "everybody",
    "GET /metrics": "operator",
    "GET /openapi.json": "page_of_this_machine",
    "POST /sessions": "operator",
    "GET /sessions": "operator",
    "GET /sessions/{session}": "session",
    "GET /sessions/{session}/timeline": "session",
    "POST /sessions/{session}/replay": "session",
    "GET /voice": "phone",
    "POST /voice": "phone",
    "GET /voice/after": "phone",
    "POST /voice/after": "phone",
    "GET /voice/status": "phone",
    "POST /voice/status": "phone",
    "WS /media-stream": "phone",
    "WS /orchestrate": "session",
}
"""What each route is for. ``phone``: Twilio's signature, or this machine while there is no account."""

CREDENTIALS = ("none", "wrong_key", "expired_token", "another_s_token", "own_token", "api_key")

IN = 0
"""Let in: whatever the answer is then, it is about the request and not about who asks."""

ANSWERS: dict[tuple[For, str], tuple[int, ...]] = {
    # "here": a server as it starts without settings, asked from its own machine
    ("everybody", "here"): (IN,) * 6,
    ("operator", "here"): (IN,) * 6,
    ("session", "here"): (IN,) * 6,
    ("phone", "here"): (IN,) * 6,
    ("page_of_this_machine", "here"): (IN,) * 6,
    # "tunnel": the same server, reached through a tunnel or proxy; it has no API keys
    ("everybody", "tunnel"): (IN,) * 6,
    ("operator", "tunnel"): (401, 401, 401, 403, 403, 401),
    ("session", "tunnel"): (401, 401, 401, 403, IN, 401),
    ("phone", "tunnel"): (403,) * 6,
    ("page_of_this_machine", "tunnel"): (404,) * 6,
    # "silent_tunnel": one that does not say that it passes on; the name that was called gives it away
    ("everybody", "silent_tunnel"): (IN,) * 6,
    ("operator", "silent_tunnel"): (403, 401, 401, 403, 403, 401),
    ("session", "silent_tunnel"): (403, 401, 401, 403, IN, 401),
    ("phone", "silent_tunnel"): (IN,) * 6,
    ("page_of_this_machine", "silent_tunnel"): (404,) * 6,
    # "page": the same server, asked by a foreign web page in a browser on this machine
    ("everybody", "page"): (IN,) * 6,
    ("operator", "page"): (403, 401, 401, 403, 403, 401),
    ("session", "page"): (403, 401, 401, 403, IN, 401),
    ("phone", "page"): (403,) * 6,
    ("page_of_this_machine", "page"): (404,) * 6,
    # "outside": a server in earnest, with API keys, a public URL and Twilio's token
    ("everybody", "outside"): (IN,) * 6,
    ("operator", "outside"): (401, 401, 401, 403, 403, IN),
    ("session", "outside"): (401, 401, 401, 403, IN, IN),
    ("phone", "outside"): (403,) * 6,
    ("page_of_this_machine", "outside"): (404,) * 6,
    # "inside": the same server, asked from its own machine, which a proxy's callers may look like
    ("everybody", "inside"): (IN,) * 6,
    ("operator", "inside"): (401, 401, 401, 403, 403, IN),
    ("session", "inside"): (401, 401, 401, 403, IN, IN),
    ("phone", "inside"): (403,) * 6,
    ("page_of_this_machine", "inside"): (404,) * 6,
}
PLACES = tuple(dict.fromkeys(place for _, place in ANSWERS))
IN_EARNEST = ("outside", "inside")

addresses = (f"{a}.{b}.1" for a, b in itertools.product(range(256), repeat=2))
"""The ends of them. Each request comes from another: being wrong too often has a test of its own."""


class OfThePast:
    """Issues tokens that are over."""

    def __call__(self) -> float:
        return 1_000_000_000.0


def shown(credential: str) -> dict[str, str]:
    good = SessionTokens([Secret(SECRET)], ttl_s=300)
    past = SessionTokens([Secret(SECRET)], ttl_s=300, clock=OfThePast())
    return {
        "none": {},
        "wrong_key": {"x-api-key": new_key()},
        "expired_token": {"authorization": f"Bearer {past.issue(SESSION)}"},
        "another_s_token": {"authorization": f"Bearer {good.issue('two')}"},
        "own_token": {"authorization": f"Bearer {good.issue(SESSION)}"},
        "api_key": {"authorization": f"Bearer {KEY}"},
    }[credential]


def asker(place: str) -> tuple[dict[str, str], str]:
    """Headers and address of who asks from there."""
    here, there = f"127.{next(addresses)}", f"10.{next(addresses)}"
    match place:
        case "here" | "inside":
            return {"host": "localhost:8004"}, here
        case "page":
            return {"host": "localhost:8004", "origin": "https://evil.example.org"}, here
        case "tunnel":  # the server takes the address that a trusted proxy names
            return {"host": "x.tunnel.example.org", "x-forwarded-for": there}, there
        case "silent_tunnel":
            return {"host": "x.tunnel.example.org"}, here
    return {"host": "voice.example.org"}, there


@asynccontextmanager
async def server(tmp_path: Path, *, in_earnest: bool) -> Any:
    environ = {f"ANTIPHON_{kind}_PROVIDER": "fake" for kind in ("STT", "LLM", "TTS", "INTENT", "RETRIEVAL")}
    environ |= {"ANTIPHON_JOURNAL": str(tmp_path / f"{in_earnest}.sqlite"), "ANTIPHON_SERVER_TOKEN_SECRET": SECRET}
    if in_earnest:
        environ |= {
            "ANTIPHON_SERVER_API_KEYS": KEY,
            "ANTIPHON_SERVER_PUBLIC_URL": "https://voice.example.org",
            "TWILIO_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
        }
    async with assembled(config.load(environ=environ)) as antiphon:
        yield antiphon


def doors(antiphon: Antiphon) -> set[str]:
    """What can be asked of the application and of the media sockets."""
    found = {f"WS {path}" for path in antiphon.routes}
    for route in walked(antiphon.app.routes):
        methods = getattr(route, "methods", None) or {"MOUNT"}
        found |= {f"{method} {getattr(route, 'path', route)}" for method in methods}
    return found


def walked(routes: list[BaseRoute]) -> Iterator[BaseRoute]:
    """Each route by itself, also where a version of FastAPI keeps those of a router together."""
    for route in routes:
        inner = getattr(getattr(route, "original_router", None), "routes", None)
        if inner is not None:
            yield from walked(inner)
        else:
            yield route


async def answer(antiphon: Antiphon, door: str, headers: dict[str, str], client: str) -> int:
    method, _, path = door.partition(" ")
    path = path.format(session=SESSION, name="style.css")
    if method == "WS":
        upgrade = Upgrade(path, f"session_id={SESSION}", headers, (client, 50_000), "ws", ())
        decision = MediaSockets(antiphon.routes).decide(upgrade)
        return decision.status if isinstance(decision, Refusal) else 101
    return await asked(antiphon.app, method, path, headers, client)


async def asked(app: Any, method: str, path: str, headers: dict[str, str], client: str) -> int:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": urlsplit(path).query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": (client, 50_000),
        "server": ("127.0.0.1", 8004),
    }
    inbox = [{"type": "http.request", "body": b"", "more_body": False}]
    out: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return inbox.pop(0) if inbox else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        out.append(message)

    await app(scope, receive, send)
    status: int = out[0]["status"]
    return status


def is_as_expected(kind: For, found: int, expected: int) -> bool:
    if expected != IN:
        return found == expected
    # A session that nobody began is not found, and a webhook without its call is a bad request: both were let in.
    refusals = {401, 403, 429} | ({404} if kind in ("page_of_this_machine", "everybody") else set())
    return found not in refusals and found < 500


def test_every_door_opens_to_those_it_is_for_and_to_nobody_else(tmp_path: Path) -> None:
    async def main() -> list[str]:
        wrong, tried = [], 0
        async with server(tmp_path, in_earnest=False) as young, server(tmp_path, in_earnest=True) as earnest:
            for antiphon in (young, earnest):
                assert doors(antiphon) == set(ROUTES)
                assert openapi.document(antiphon.app) == json.loads(DOCUMENT.read_text(encoding="utf-8")), "make docs"
            for (door, kind), place in itertools.product(ROUTES.items(), PLACES):
                antiphon = earnest if place in IN_EARNEST else young
                for credential, expected in zip(CREDENTIALS, ANSWERS[kind, place], strict=True):
                    headers, client = asker(place)
                    found = await answer(antiphon, door, headers | shown(credential), client)
                    tried += 1
                    if not is_as_expected(kind, found, expected):
                        wrong.append(f"{door}, {place}, {credential}: {found}, expected {expected or 'to be let in'}")
        assert tried == len(ROUTES) * len(PLACES) * len(CREDENTIALS)
        return wrong

    assert asyncio.run(main()) == []


def test_the_table_is_whole() -> None:
    assert set(ANSWERS) == set(itertools.product(set(ROUTES.values()), PLACES))
    assert {len(row) for row in ANSWERS.values()} == {len(CREDENTIALS)}


@pytest.mark.parametrize("place", PLACES)
def test_who_shows_nothing_gets_nothing_but_on_this_machine(place: str) -> None:
    """The phone's own rule goes by forwarding headers alone: without Twilio's token such a tunnel lets callers in."""
    known = {"phone"} if place == "silent_tunnel" else set()
    for kind in set(ROUTES.values()) - {"everybody"} - known:
        assert (ANSWERS[kind, place][0] == IN) is (place == "here")


def test_the_document_tells_of_every_route_and_every_refusal() -> None:
    told = (DOCUMENT.parents[1] / "security.md").read_text(encoding="utf-8")
    for door in ROUTES:
        method, _, path = door.partition(" ")
        *_, last = path.replace("{name}", "...").rpartition("/")
        assert path.replace("{name}", "...") in told or (method != "HEAD" and f"`/{last}`" in told), door
    source = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in (access, tokens))
    codes = set(re.findall(r'code="(auth\.\w+)"', source)) - {"auth.token"} | {TooManyAttempts.default_code}
    assert len(codes) == 8
    for code in codes:
        assert f"`{code}`" in told, code
