"""A WebSocket client without manners: sends what no library would, and looks at how it is closed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

TEXT, BINARY, CLOSE, PING = 0x1, 0x2, 0x8, 0x9
SILENCE_20_MS = base64.b64encode(b"\xff" * 160).decode()
MEDIA_FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}


class Rough:
    """One connection. ``messages`` are the JSON texts that came; frames are masked as RFC 6455 wants them."""

    def __init__(self, port: int) -> None:
        self.messages: list[dict[str, Any]] = []
        self._port = port
        self._number = 0

    async def open(self, receive_bytes: int = 0) -> Rough:
        """``receive_bytes``: the kernel's room for what this client does not read; 0: as usual."""
        plug = socket.socket()
        plug.setblocking(False)
        if receive_bytes:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", self._port))
        self._reader, self._writer = await asyncio.open_connection(sock=plug, limit=1024)
        key = base64.b64encode(os.urandom(16)).decode()
        self._writer.write(
            f"GET /media-stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
        assert b" 101 " in head, head
        return self

    def send(self, kind: int, payload: bytes, *, last: bool = True) -> None:
        """Sends one frame; what the connection does not take any more is lost."""
        if self._writer.is_closing():
            return
        size = len(payload)
        if size < 126:
            length = struct.pack("!B", 0x80 | size)
        else:
            length = struct.pack("!BH", 0xFE, size) if size <= 0xFFFF else struct.pack("!BQ", 0xFF, size)
        self._writer.write(bytes([kind | (0x80 if last else 0)]) + length + bytes(4) + payload)  # a mask of zeros

    def text(self, text: str) -> None:
        self.send(TEXT, text.encode())

    def event(self, name: str, **fields: Any) -> None:
        self._number += 1
        self.text(json.dumps({"event": name, "sequenceNumber": str(self._number), "streamSid": "MZrough", **fields}))

    def start(self, call: str, media_format: Mapping[str, Any] = MEDIA_FORMAT) -> None:
        begin = {"streamSid": "MZrough", "callSid": call, "mediaFormat": media_format, "customParameters": {}}
        self.event("start", start=begin)

    def media(self, payload: str = SILENCE_20_MS) -> None:
        self.event("media", media={"track": "inbound", "payload": payload})

    @property
    def is_lost(self) -> bool:
        return self._writer.is_closing()

    async def drain(self) -> None:
        """Waits until the connection takes more, within reason."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(self._writer.drain(), 1.0)

    async def closed(self, within_s: float = 15.0) -> tuple[int, str]:
        """Reads to the end: the code and reason of the close frame; (0, "") for a connection that was cut."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    kind, payload = await self._frame()
                    if kind == CLOSE:
                        self.send(CLOSE, payload[:2])
                        return (struct.unpack("!H", payload[:2])[0], payload[2:].decode()) if payload else (1005, "")
                    if kind == TEXT:
                        self.messages.append(json.loads(payload))
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, ""
        finally:
            self.cut()

    async def listen(self, seconds: float) -> None:
        """Reads for a while; the connection must stay open."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            try:
                kind, payload = await asyncio.wait_for(self._frame(), left)
            except TimeoutError:
                return
            assert kind != CLOSE, f"closed: {payload!r}"
            if kind == TEXT:
                self.messages.append(json.loads(payload))

    async def _frame(self) -> tuple[int, bytes]:
        first, second = await self._reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
        return first & 0x0F, await self._reader.readexactly(size)

    def cut(self) -> None:
        self._writer.transport.abort()
