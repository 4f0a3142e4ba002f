"""A server that says what a test wants the page to hear: its files as they are served, and a script in our hands."""

from __future__ import annotations

import json
from typing import Any

import served
from aiohttp import WSCloseCode, WSMsgType, web

from antiphon.server.console import HEADERS, INDEX, assets

GRANTED = {"token": "a.b.c", "expires_in": 300}


class Fake:
    """Use as ``async with Fake() as fake``. It can be stopped and started again on the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.key = ""
        """Where it is set, this key is asked for."""
        self.refusal: tuple[int, str, dict[str, str]] | None = None
        """Status, code and headers for ``/ready`` and sockets that are to be refused."""
        self.listed: list[dict[str, Any]] = []
        self.views: dict[str, dict[str, Any]] = {}
        self.timelines: dict[str, list[dict[str, Any]]] = {}
        self.replays: dict[str, dict[str, Any]] = {}
        self.greeting: list[dict[str, Any]] = []
        """Sent after ``connected``."""
        self.received: list[dict[str, Any]] = []
        self.heard = bytearray()
        """The audio that came, 16 bit samples."""
        self.asked: list[tuple[str, dict[str, str]]] = []
        """Each request's path with its query, and its headers with lower-case names."""
        self.sockets: list[web.WebSocketResponse] = []
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Fake:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/", self._file)
        app.router.add_get("/console/{name}", self._file)
        app.router.add_post("/sessions", self._grant)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/sessions", self._list)
        app.router.add_get("/sessions/{id}", self._view)
        app.router.add_get("/sessions/{id}/timeline", self._timeline)
        app.router.add_post("/sessions/{id}/replay", self._replay)
        app.router.add_get("/orchestrate", self._socket)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """As a process that is killed: connections break without a word."""
        for socket in self.sockets:
            transport = socket._req.transport if socket._req is not None else None
            if transport is not None:
                transport.abort()
        self.sockets.clear()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # -- what a test does --------------------------------------------------------------------------

    async def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self.sockets[-1].send_str(json.dumps(message))

    async def sound(self, pcm: bytes) -> None:
        await self.sockets[-1].send_bytes(pcm)

    async def close(self, code: int, reason: str = "") -> None:
        await self.sockets[-1].close(code=code, message=reason.encode())

    def got(self, kind: str) -> list[dict[str, Any]]:
        """The messages of that type that came."""
        return [each for each in self.received if each["type"] == kind]

    # -- what the page asks for --------------------------------------------------------------------

    def _note(self, request: web.Request) -> None:
        self.asked.append((request.path_qs, {name.lower(): value for name, value in request.headers.items()}))

    async def _file(self, request: web.Request) -> web.Response:
        asset = assets()[request.match_info.get("name", INDEX)]
        return web.Response(
            body=asset.body, headers={**HEADERS, "content-type": asset.type, "cache-control": "no-store"}
        )

    def _may(self, request: web.Request) -> bool:
        return not self.key or request.headers.get("authorization") == f"Bearer {self.key}"

    async def _grant(self, request: web.Request) -> web.Response:
        self._note(request)
        if not self._may(request):
            return _refused(401, "auth.missing", "an API key is needed")
        asked = await request.json()
        return web.json_response({"session_id": asked.get("session_id", "made-here"), **GRANTED}, status=201)

    async def _ready(self, request: web.Request) -> web.Response:
        if self.refusal is not None:
            status, code, headers = self.refusal
            return _refused(status, code, "no", headers)
        return web.json_response({"ready": True})

    async def _list(self, request: web.Request) -> web.Response:
        self._note(request)
        if not self._may(request):
            return _refused(401, "auth.missing", "an API key is needed")
        return web.json_response({"sessions": self.listed, "complete": True})

    async def _view(self, request: web.Request) -> web.Response:
        self._note(request)
        view = self.views.get(request.match_info["id"])
        return web.json_response(view) if view else _refused(404, "store.unknown_session", "no such session")

    async def _timeline(self, request: web.Request) -> web.Response:
        entries = self.timelines.get(request.match_info["id"], [])
        return web.json_response({"session_id": request.match_info["id"], "entries": entries, "next": None})

    async def _replay(self, request: web.Request) -> web.Response:
        return web.json_response(self.replays[request.match_info["id"]])

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        if self.refusal is not None:
            status, code, headers = self.refusal
            return _refused(status, code, "no", headers)
        socket = web.WebSocketResponse(protocols=("antiphon.v1",))
        await socket.prepare(request)
        again = any(each["type"] == "connected" for each in self.greeting)
        self.sockets.append(socket)
        if not again:
            await self.say(connected(request.query["session_id"]))
        await self.say(*self.greeting)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                self.heard += message.data
            elif message.type is WSMsgType.TEXT:
                self.received.append(json.loads(message.data))
                if self.received[-1]["type"] == "end":
                    await self.say({"type": "ended", "reason": "client"})
                    await socket.close(code=WSCloseCode.OK)
        return socket


def connected(session: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "connected",
        "session_id": session,
        "state": "LISTENING",
        "resumed": False,
        "protocol": 1,
        "audio": {"form": "binary", "codec": "pcm16", "rate": 16000},
        **more,
    }


def _refused(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status, headers=headers)


async def until(ready: Any) -> None:
    """Waits until ``ready()`` is true."""
    await served.until(ready, 10.0, "what the page does about it")
