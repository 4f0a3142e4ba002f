from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from antiphon.server.app import Services, create_app
from antiphon.server.run import Running, serve
from antiphon.server.sockets import MediaRoute, Upgrade
from antiphon.server.vitals import Vitals

sys.path.insert(0, str(Path(__file__).parents[1] / "providers"))  # loopback services and virtual time, by name


class FakeHost:
    def __init__(self, active: int = 0, capacity: int = 1000) -> None:
        self.active = active
        self.capacity = capacity


class Echo(WSListener):
    """Sends every message back, and writes down what it was told."""

    def __init__(self, upgrade: Upgrade | None = None) -> None:
        self.upgrade = upgrade
        self.told: list[Any] = []
        self.faults: list[str] = []
        self.transport: WSTransport | None = None
        self.gone = asyncio.Event()
        self.losses = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind, payload = frame.msg_type, frame.get_payload_as_bytes()
        self.told.append((kind, payload, bool(frame.fin)))
        if kind in (WSMsgType.TEXT, WSMsgType.BINARY):
            transport.send(kind, payload)

    def on_peer_fault(self, code: str) -> None:
        self.faults.append(code)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.gone.set()
        self.losses += 1


class Echoes:
    """A media route whose every socket is an ``Echo``; ``all`` holds them."""

    def __init__(self, make: Callable[[Upgrade], Echo] = Echo) -> None:
        self.all: list[Echo] = []
        self._make = make

    def __call__(self, upgrade: Upgrade) -> WSListener:
        self.all.append(self._make(upgrade))
        return self.all[-1]


def make_app(**services: Any) -> Any:
    return create_app(Services(host=FakeHost(), vitals=Vitals(), **services))


@contextlib.asynccontextmanager
async def running(
    routes: Mapping[str, MediaRoute] | None = None, app: Any = None, **options: Any
) -> AsyncIterator[Running]:
    """A server on a free port of this machine, stopped at the end."""
    started: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    options = {"signals": False, "tune_gc": False} | options
    task = asyncio.ensure_future(serve(app or make_app(), routes or {}, port=0, on_ready=started.set_result, **options))
    try:
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        server = started.result()
        yield server
        server.stop()
        await asyncio.wait_for(task, 10)
    finally:
        task.cancel()


async def raw(server: Running, data: bytes, *, wait: float = 5.0) -> bytes:
    """Sends bytes and reads until the server closes."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), wait)
    finally:
        writer.close()


def upgrade_request(path: str = "/media", *, drop: str = "", version: str = "HTTP/1.1", **headers: str) -> bytes:
    """A correct upgrade request, but for what is changed: names with "_" for "-"; ``drop`` leaves one out."""
    fields = {
        "Host": "x",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    lower = {name.lower(): name for name in fields}
    for name, value in headers.items():
        wanted = name.replace("_", "-")
        fields[lower.get(wanted.lower(), wanted)] = value
    fields.pop(drop, None)
    lines = [f"GET {path} {version}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()


@pytest.fixture(params=["asyncio", "uvloop"])
def run_on(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """``run_on(coroutine)`` runs it on either loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(main: Any) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main)

    return run


@pytest.fixture
def kit() -> Any:
    """The names above, for test modules, which cannot import this one."""
    return sys.modules[__name__]
