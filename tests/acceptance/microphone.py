"""A client of /orchestrate with a microphone and a loudspeaker that stand in one room, in real time, 16-bit PCM."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
from served import Server
from websockets.asyncio.client import ClientConnection, connect

from antiphon.media.codec import mulaw_decode
from antiphon.media.resample import resampled
from antiphon.phone.room import Echo, Speakerphone
from antiphon.phone.voices import Voices

FRAME_S = 0.02
AUDIBLE = 400


class Microphone:
    """Sends a frame every 20 ms, silence too, with the echo of what it plays; plays what comes, until a ``clear``."""

    def __init__(self, socket: ClientConnection, rate: int, phone: Speakerphone | None) -> None:
        self.rate = rate
        self.messages: list[dict[str, Any]] = []
        self.cleared: list[int] = []
        self._socket = socket
        self._echo = Echo(phone, rate) if phone is not None else None
        self._frame = int(rate * FRAME_S)
        self._mouth = np.zeros(0, np.float32)
        self._played = bytearray()
        """16-bit samples from the beginning on; what lies ahead of now was not heard yet."""
        self._sent = 0
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._tasks = [asyncio.ensure_future(self._speak()), asyncio.ensure_future(self._listen())]

    @property
    def now(self) -> int:
        """Samples since it began."""
        return int((self._loop.time() - self._began) * self.rate)

    async def _listen(self) -> None:
        async for message in self._socket:
            if isinstance(message, bytes):
                self._played += bytes(max(0, 2 * self.now - len(self._played)))
                self._played += message
                continue
            told = json.loads(message)
            self.messages.append(told)
            if told["type"] == "clear":
                self.cleared.append(self.now)
                del self._played[2 * self.now :]

    async def _speak(self) -> None:
        while True:
            while self._sent + self._frame <= self.now:
                await self._socket.send(self._next())
            await asyncio.sleep(max(0.0, self._began + (self._sent + self._frame) / self.rate - self._loop.time()))

    def _next(self) -> bytes:
        frame = np.zeros(self._frame, np.float32)
        said, self._mouth = self._mouth[: self._frame], self._mouth[self._frame :]
        frame[: len(said)] = said
        if self._echo is not None:
            frame += self._echo.of(
                self._heard(self._sent - self._echo.delay - self._echo.reach, self._sent - self._echo.delay)
            )
        self._sent += self._frame
        return np.clip(np.rint(frame * 32768), -32768, 32767).astype("<i2").tobytes()

    def _heard(self, start: int, until: int) -> np.ndarray:
        """What was played from ``start`` to a frame behind ``until``, silence where nothing was."""
        found = np.zeros(until + self._frame - start, np.float32)
        piece = np.frombuffer(bytes(self._played[2 * max(0, start) : 2 * max(0, until + self._frame)]), "<i2")
        first = max(0, -start)
        found[first : first + len(piece)] = piece.astype(np.float32) / 32768
        return found

    def say(self, pcm_8k: bytes) -> int:
        """Speaks from the next frame on; the position of the first voiced sample."""
        pcm = np.frombuffer(resampled(pcm_8k, 8000, self.rate), "<i2")
        self._mouth = np.concatenate([self._mouth, pcm.astype(np.float32) / 32768])
        return self._sent + int(np.flatnonzero(np.abs(pcm.astype(np.int32)) >= AUDIBLE)[0])

    def is_audible(self, within_s: float = 0.3) -> bool:
        """The agent was heard just now."""
        heard = bytes(self._played[2 * max(0, self.now - int(within_s * self.rate)) : 2 * self.now])
        return bool(heard) and int(np.abs(np.frombuffer(heard, "<i2").astype(np.int32)).max()) >= AUDIBLE

    async def until(self, ready: Callable[[], bool], within_s: float, what: str) -> None:
        deadline = self._loop.time() + within_s
        while not ready():
            assert self._loop.time() < deadline, f"not within {within_s} s: {what}; told {self.messages[-5:]}"
            await asyncio.sleep(FRAME_S)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def microphone(
    server: Server, session: str, *, rate: int = 16_000, phone: Speakerphone | None = None
) -> AsyncIterator[Microphone]:
    address = f"ws://127.0.0.1:{server.port}/orchestrate?session_id={session}&codec=pcm16&rate={rate}&events=all"
    async with connect(address, compression=None, max_size=None) as socket:
        one = Microphone(socket, rate, phone)
        try:
            yield one
        finally:
            one.close()


async def interrupts(one: Microphone, voices: Voices, question: str, other: str, after_s: float) -> float:
    """Asks, lets the agent talk so long, speaks into it and hears the answer out.

    Returns ms from the first voiced sample to silence.
    """
    before = _answers(one)
    one.say(_pcm(await voices.mulaw(question, "en-IN")))
    await one.until(lambda: _answers(one) > before and one.is_audible(), 15, f"an answer to {question!r}")
    await asyncio.sleep(after_s)
    cleared, answered = len(one.cleared), _answers(one)
    voiced = one.say(_pcm(await voices.mulaw(other, "en-IN")))
    await one.until(lambda: len(one.cleared) > cleared, 4, "silence")
    await one.until(lambda: _answers(one) > answered, 15, f"an answer to {other!r}")
    await one.until(lambda: not one.is_audible(1.0), 30, "its end")
    return (one.cleared[cleared] - voiced) * 1000 / one.rate


def _answers(one: Microphone) -> int:
    return sum(message["kind"] == "reply" for message in one.of("spoken"))


def _pcm(mulaw: bytes) -> bytes:
    return mulaw_decode(mulaw)
