"""A client of /orchestrate for tests: keeps all that it is told, in order and with its time.

Whatever it is told has to be as the published document says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from served import Server, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

DOCUMENT: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "docs" / "api" / "orchestrate.asyncapi.yaml").read_text(encoding="utf-8")
)


def _told() -> dict[str, Draft202012Validator]:
    """By type, what a message to a client must be."""
    components = DOCUMENT["components"]
    validators = {}
    for each in DOCUMENT["operations"]["tell"]["messages"]:
        message = components["messages"][each["$ref"].rpartition("/")[2]]
        if "payload" in message:
            schema = {**message["payload"], "components": {"schemas": components["schemas"]}}
            validators[message["name"]] = Draft202012Validator(schema)
    return validators


TOLD = _told()


class Client:
    """``told`` are (seconds since it connected, message): JSON decoded, audio as bytes."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.began = time.monotonic()
        self.told: list[tuple[float, Any]] = []
        self.close: tuple[int, str] | None = None
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self.socket:
                what = json.loads(message) if isinstance(message, str) else message
                self.told.append((time.monotonic() - self.began, what))
        await self.socket.wait_closed()
        self.close = (self.socket.close_code or 0, self.socket.close_reason or "")

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def ask(self, text: str) -> None:
        await self.say(type="stt_fragment", text=text, is_final=True)
        await self.say(type="vad_end")

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for _, message in self.told if isinstance(message, dict) and message["type"] == kind]

    @property
    def kinds(self) -> list[str]:
        """The types of what was told; audio in a row once."""
        kinds = ["audio" if isinstance(message, bytes) else message["type"] for _, message in self.told]
        return [kind for at, kind in enumerate(kinds) if at == 0 or kind != "audio" or kinds[at - 1] != "audio"]

    @property
    def audio(self) -> bytes:
        return b"".join(message for _, message in self.told if isinstance(message, bytes))

    async def hears(self, kind: str, *, count: int = 1, within_s: float = 20) -> dict[str, Any]:
        """The ``count``-th message of the kind, once it is there."""
        await until(lambda: len(self.of(kind)) >= count, within_s, f"{kind} {count}: {self.kinds} {self.of('error')}")
        return self.of(kind)[count - 1]

    async def hears_audio(self, ms: int, *, rate: int = 16_000, within_s: float = 20) -> None:
        enough = len(self.audio) + ms * rate * 2 // 1000
        await until(lambda: len(self.audio) >= enough, within_s, f"{ms} ms of audio: {self.kinds}")

    async def is_closed(self, within_s: float = 20) -> tuple[int, str]:
        await until(lambda: self.close is not None, within_s, f"the close: {self.kinds}")
        assert self.close is not None
        return self.close

    async def drop(self) -> None:
        """The connection breaks: no goodbye."""
        self.socket.transport.abort()
        await self._reading


@contextlib.asynccontextmanager
async def client(server: Server, session: str, query: str = "", **options: Any) -> AsyncIterator[Client]:
    address = f"ws://127.0.0.1:{server.port}/orchestrate?session_id={session}{query and '&' + query}"
    socket = await connect(address, compression=None, max_size=None, **options)
    one = Client(socket)
    try:
        await one.hears("connected")
        yield one
    finally:
        if one.close is None:
            await socket.close()
        one._reading.cancel()
        for _, message in one.told:
            if isinstance(message, dict):
                TOLD[message["type"]].validate(message)
