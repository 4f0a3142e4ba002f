"""A small agent for the telephone to call: it hears by level, answers with tones, and keeps to the protocol.

Written on ``websockets`` and plain JSON, apart from all of Antiphon, so that it checks the telephone and not itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

RATE = 8000


def tone(ms: int, hertz: float = 440.0, level: int = 8000) -> bytes:
    """PCM, 8000 Hz."""
    at = np.arange(RATE * ms // 1000) / RATE
    return (np.sin(2 * np.pi * hertz * at) * level).astype("<i2").tobytes()


@functools.cache
def mulaw(pcm: bytes) -> bytes:
    """G.711 by its formula, sample by sample; slow, so each sound is made once."""
    out = bytearray()
    for sample in np.frombuffer(pcm, "<i2"):
        magnitude = min(abs(int(sample)) + 132, 32767)
        exponent = max(magnitude.bit_length() - 8, 0)
        mantissa = (magnitude >> (exponent + 3)) & 0x0F
        out.append(~((0x80 if sample < 0 else 0) | exponent << 4 | mantissa) & 0xFF)
    return bytes(out)


class ScriptedAgent:
    """Greets for ``greeting_ms``; answers each utterance of ``least_ms`` or more with ``reply_ms`` of tone,
    ``delay_ms`` after its end.

    ``yields``: stops (``clear``) when the caller speaks into a reply for over 200 ms. ``close_after`` replies it hangs
    up; ``mute``: it never answers. What it received is in ``messages`` (without audio) and ``audio``.
    """

    def __init__(
        self,
        *,
        greeting_ms: int = 300,
        reply_ms: int = 600,
        delay_ms: int = 0,
        hangover_ms: int = 200,
        least_ms: int = 200,
        yields: bool = True,
        close_after: int = 0,
        mute: bool = False,
    ) -> None:
        self.greeting_ms, self.reply_ms, self.delay_ms, self.hangover_ms = greeting_ms, reply_ms, delay_ms, hangover_ms
        self.least_ms = least_ms
        self.yields, self.close_after, self.mute = yields, close_after, mute
        self.messages: list[dict[str, Any]] = []
        self.marks: list[tuple[float, str]] = []
        self.audio = bytearray()
        self.sent_at: list[float] = []
        self.replies = 0
        self.connections = 0
        self.ended = ""

        mulaw(tone(greeting_ms)), mulaw(tone(reply_ms))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async with serve(self._handle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            yield f"ws://127.0.0.1:{port}/media-stream"

    async def _handle(self, socket: ServerConnection) -> None:
        self.connections += 1
        call = _Call(self, socket)
        try:
            async for data in socket:
                await call.take(json.loads(data))
        except ConnectionClosed:
            self.ended = self.ended or "lost"


class _Call:
    def __init__(self, agent: ScriptedAgent, socket: ServerConnection) -> None:
        self.agent, self.socket = agent, socket
        self.loop = asyncio.get_running_loop()
        self.stream = ""
        self.voiced_ms = 0
        self.quiet_ms = 0
        self.speaking_until = 0.0
        self.replies = 0

    async def take(self, message: dict[str, Any]) -> None:
        agent = self.agent
        if message["event"] == "media":
            await self.hear(base64.b64decode(message["media"]["payload"]))
            return
        agent.messages.append(message)
        if message["event"] == "start":
            self.stream = message["streamSid"]
            if agent.greeting_ms:
                await self.speak(agent.greeting_ms, "greeting")
        elif message["event"] == "mark":
            agent.marks.append((self.loop.time(), message["mark"]["name"]))
        elif message["event"] == "dtmf" and message["dtmf"]["digit"] == "#":
            await self.reply()
        elif message["event"] == "stop":
            agent.ended = "stop"

    async def hear(self, audio: bytes) -> None:
        agent = self.agent
        agent.audio += audio
        agent.sent_at.append(self.loop.time())
        loud = any((~code & 0x7F) >= 0x38 for code in audio)
        self.voiced_ms += 20 if loud else 0
        self.quiet_ms = 0 if loud else self.quiet_ms + 20
        if loud and agent.yields and self.voiced_ms >= 200 and self.loop.time() < self.speaking_until:
            self.speaking_until = 0.0
            await self.send({"event": "clear"})
        if self.quiet_ms >= agent.hangover_ms and self.voiced_ms:
            begun, self.voiced_ms = self.voiced_ms, 0
            if begun >= agent.least_ms and not agent.mute:
                if agent.delay_ms:
                    await asyncio.sleep(agent.delay_ms / 1000)
                await self.reply()

    async def reply(self) -> None:
        self.replies += 1
        self.agent.replies += 1
        if self.agent.close_after and self.replies >= self.agent.close_after:
            await self.socket.close(1000, "goodbye")
            return
        await self.speak(self.agent.reply_ms, f"reply {self.replies}")

    async def speak(self, ms: int, name: str) -> None:
        audio = mulaw(tone(ms))
        for at in range(0, len(audio), 800):
            payload = base64.b64encode(audio[at : at + 800]).decode()
            await self.send({"event": "media", "media": {"payload": payload}})
        await self.send({"event": "mark", "mark": {"name": name}})
        self.speaking_until = self.loop.time() + ms / 1000

    async def send(self, message: dict[str, Any]) -> None:
        await self.socket.send(json.dumps({**message, "streamSid": self.stream}))
