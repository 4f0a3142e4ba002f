"""Visitors by the thousand: WebSocket clients that cost a test next to nothing, on plain streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
TEXT, CLOSE = 1, 8


@dataclass
class Visitor:
    """One connection: ``status`` and ``headers`` of the upgrade; ``closed``: code and reason of the server's close."""

    port: int
    path: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    closed: tuple[int, str] | None = None
    shows: Mapping[str, str] = field(default_factory=dict)
    """Headers besides those of every upgrade."""
    sock: socket.socket | None = None
    """A connection that is open already; None: a new one."""

    async def knock(self) -> Visitor:
        """Asks for the upgrade and reads what is answered."""
        if self.sock is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        else:
            self._reader, self._writer = await asyncio.open_connection(sock=self.sock)
        shown = "".join(f"{name}: {value}\r\n" for name, value in self.shows.items())
        self._writer.write((_UPGRADE.format(path=self.path).removesuffix("\r\n") + shown + "\r\n").encode())
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return self
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        return self

    def say(self, message: dict[str, Any]) -> None:
        """One text frame; its mask is zero."""
        self._send(TEXT, json.dumps(message).encode())

    def _send(self, kind: int, data: bytes) -> None:
        head = struct.pack("!BB", 0x80 | kind, 0x80 | (126 if len(data) > 125 else len(data)))
        head += struct.pack("!H", len(data)) if len(data) > 125 else b""
        self._writer.write(head + bytes(4) + data)

    async def hear(self) -> dict[str, Any] | None:
        """The next text message; None at the close, which is answered, or at the connection's end."""
        try:
            while True:
                first, second = await self._reader.readexactly(2)
                length = second & 0x7F
                if length > 125:
                    size = "!H" if length == 126 else "!Q"
                    (length,) = struct.unpack(size, await self._reader.readexactly(struct.calcsize(size)))
                data = await self._reader.readexactly(length)
                if first & 0xF == CLOSE:
                    self.closed = (int.from_bytes(data[:2], "big"), data[2:].decode())
                    self._send(CLOSE, data[:2])
                    return None
                if first & 0xF == TEXT:
                    return dict(json.loads(data))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def until_closed(self) -> tuple[int, str] | None:
        while await self.hear() is not None:
            pass
        return self.closed

    async def leave(self) -> None:
        """The connection ends, whatever state it is in."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def dial(port: int, call_id: str, *, token: str = "", **connection: Any) -> Visitor:
    """A phone call that has begun as far as its carrier knows."""
    visitor = await Visitor(port, "/media-stream", **connection).knock()
    stream = f"MZ{call_id}"
    start = {
        "streamSid": stream,
        "callSid": call_id,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"callSid": call_id} | ({"token": token} if token else {}),
    }
    visitor.say({"event": "connected", "protocol": "Call", "version": "1.0.0"})
    visitor.say({"event": "start", "sequenceNumber": "1", "streamSid": stream, "start": start})
    return visitor


def hang_up(visitor: Visitor, call_id: str) -> None:
    visitor.say({"event": "stop", "sequenceNumber": "2", "streamSid": f"MZ{call_id}", "stop": {"callSid": call_id}})


async def visit(port: int, session: str) -> Visitor:
    """A page that opens its session; ``status`` says whether it is in."""
    return await Visitor(port, f"/orchestrate?session_id={session}").knock()
