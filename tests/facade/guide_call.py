"""A real server for an application of the tests, and a caller of Twilio's protocol at its other end."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from websockets.asyncio.client import ClientConnection, connect

from antiphon.phone.wire import Writer

FRAME = 160
START_S = 20.0


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The application's address, such as ``ws://127.0.0.1:40123``, while it runs in a thread of its own."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_S
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.01)
    try:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_S)
        listening.close()
        assert not thread.is_alive(), "the server did not stop"


class Caller:
    """One phone call to ``/media-stream``; everything that came back is in ``heard`` (mu-law) and ``messages``."""

    def __init__(self, websocket: ClientConnection, call_sid: str) -> None:
        self._websocket = websocket
        self._writer = Writer("MZ" + "0" * 32, call_sid, {})
        self.messages: list[dict[str, Any]] = []
        self.arrived: list[float] = []

    @property
    def heard(self) -> bytes:
        return b"".join(base64.b64decode(message["media"]["payload"]) for message in self.messages)

    async def dial(self) -> None:
        await self._send(self._writer.connected())
        await self._send(self._writer.start())

    async def say(self, mulaw: bytes, silence_ms: int = 800) -> None:
        """As quickly as it can be sent: the server counts bytes and not the clock."""
        sound = mulaw + b"\xff" * (silence_ms * 8)
        for at in range(0, len(sound), FRAME):
            await self._send(self._writer.media(sound[at : at + FRAME]))

    async def bother(self) -> None:
        """What a server must tolerate (A61)."""
        await self._send(self._writer.mark("played"))
        await self._send(self._writer.digit("5"))

    async def listen(self, seconds_of_silence: float = 0.5) -> None:
        """Until nothing has come for so long."""
        while True:
            try:
                async with asyncio.timeout(seconds_of_silence if self.messages else 10.0):
                    message = json.loads(await self._websocket.recv())
            except TimeoutError:
                return
            self.arrived.append(time.monotonic())
            self.messages.append(message)

    async def hang_up(self) -> None:
        await self._send(self._writer.stop())
        await asyncio.wait_for(self._websocket.wait_closed(), 5)

    async def _send(self, message: bytes) -> None:
        await self._websocket.send(message.decode())


class Call:
    """``async with Call(address, "CA1") as caller``."""

    def __init__(self, address: str, call_sid: str = "CA1") -> None:
        self._opening = connect(f"{address}/media-stream", proxy=None)
        self._call_sid = call_sid

    async def __aenter__(self) -> Caller:
        caller = Caller(await self._opening.__aenter__(), self._call_sid)
        await caller.dial()
        return caller

    async def __aexit__(self, *exc: Any) -> None:
        await self._opening.__aexit__(*exc)
