"""The voices' socket: one text at a time on each, and some kept open for the next.

The protocol cannot take a text back. A request that is given up closes its socket, and another is opened in its
place, so that the answer to an interruption does not pay for a handshake.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import urlencode

from antiphon.errors import UNUSABLE, ProviderError
from antiphon.providers.failures import Failure, failed
from antiphon.providers.http import Patience, Waits
from antiphon.providers.sarvam_http import PROVIDER, SarvamHttp
from antiphon.providers.sarvam_wire import IDLE_S, SpeechMessage, closing, fatal_event, speech_messages
from antiphon.providers.tts.sarvam_settings import SarvamSynthesizerSettings
from antiphon.providers.websocket import Socket, connect

log = logging.getLogger("antiphon.providers.tts.sarvam")

FRESH_S = IDLE_S - 15.0
"""A socket that was not used for longer may be closed before the text arrives there."""


class Voices:
    """The sockets of one synthesizer."""

    def __init__(self, http: SarvamHttp, settings: SarvamSynthesizerSettings) -> None:
        self._http = http
        self._settings = settings
        self._spare: deque[tuple[float, Socket]] = deque()
        """With the loop's time of their last use, the oldest first."""
        self._busy: set[Socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = False

    async def speak(
        self, config: dict[str, Any], texts: Sequence[str], patience: Patience
    ) -> AsyncGenerator[tuple[bytes, str], None]:
        """Pieces of sound with their content type. Raises ``ProviderError``; closing it closes the socket."""
        socket, used = await self._take(patience)
        self._busy.add(socket)
        ended = given_up = False
        try:
            try:
                await self._ask(socket, config, texts, patience)
                message = await self._next(socket, patience)
            except ProviderError as error:
                if not used or error.code not in {"tts.cut", "tts.closed"} or self.closed:
                    raise
                # It was closed while nobody used it: a new one is not.
                await self._release(socket)
                socket = await self.open(patience)
                self._busy.add(socket)
                await self._ask(socket, config, texts, patience)
                message = await self._next(socket, patience)
            # An end before any sound is that of the text before.
            while not (patience.useful and message.type == "event" and message.data.event_type == "final"):
                if message.type == "audio" and message.data.audio:
                    patience.useful = True
                    yield message.data.audio, message.data.content_type
                message = await self._next(socket, patience)
            ended = True
        except (GeneratorExit, asyncio.CancelledError):
            given_up = True
            raise
        finally:
            if ended and not self.closed and len(self._spare) < self._settings.spares:
                self._busy.discard(socket)
                self._spare.append((asyncio.get_running_loop().time(), socket))
            else:
                await self._release(socket)
                if given_up:
                    self._refill()

    async def open(self, patience: Patience) -> Socket:
        """Raises ``ProviderError``."""
        settings = self._settings
        query = urlencode({"model": settings.model, "send_completion_event": "true"})
        return await connect(
            self._http.session,
            f"{settings.ws_url.rstrip('/')}/text-to-speech/ws?{query}",
            {},
            patience,
            provider=PROVIDER,
            stage="tts",
            connect_s=settings.connect_s,
            key=self._http.key,
        )

    async def close(self) -> None:
        """Requests under way end with ``tts.closed``."""
        self.closed = True
        for task in tuple(self._tasks):
            task.cancel()
        sockets = [socket for _, socket in self._spare] + list(self._busy)
        self._spare.clear()
        await asyncio.gather(*(socket.close() for socket in sockets), *self._tasks, return_exceptions=True)

    async def _take(self, patience: Patience) -> tuple[Socket, bool]:
        """A socket, and whether it was used or waited before."""
        now = asyncio.get_running_loop().time()
        while self._spare:
            since, socket = self._spare.pop()
            if now - since < FRESH_S and not socket.closed:
                return socket, True
            await socket.close()
        return await self.open(patience), False

    async def _release(self, socket: Socket) -> None:
        try:
            await socket.close()
        finally:
            self._busy.discard(socket)

    def _refill(self) -> None:
        """Opens a socket in the place of one that was given up."""
        if self.closed or len(self._spare) + len(self._tasks) >= self._settings.spares:
            return
        task = asyncio.get_running_loop().create_task(self._one_more())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one_more(self) -> None:
        seconds = self._settings.connect_s
        try:
            socket = await self.open(
                Patience(Waits(first_s=seconds, between_s=seconds, total_s=seconds), PROVIDER, "tts")
            )
        except ProviderError as error:
            log.debug("sarvam: no spare socket: %s", error)  # the next text opens its own, and tells if it fails
            return
        self._spare.append((asyncio.get_running_loop().time(), socket))

    async def _ask(self, socket: Socket, config: dict[str, Any], texts: Sequence[str], patience: Patience) -> None:
        await socket.send({"type": "config", "data": config}, patience)
        for text in texts:
            await socket.send({"type": "text", "data": {"text": text}}, patience)
        await socket.send({"type": "flush"}, patience)

    async def _next(self, socket: Socket, patience: Patience) -> SpeechMessage:
        """Raises ``ProviderError``, also for an error message."""
        received = await socket.receive(patience)
        if received is None:
            if self.closed:
                raise failed("the synthesizer was closed", "closed", PROVIDER, "tts")
            raise closing(socket.close_code, socket.close_reason, self._http.key, PROVIDER, "tts")
        try:
            message = speech_messages.decode(received)
        except UNUSABLE:
            text = "the endpoint sent something that is no message of its protocol"
            raise failed(text, "garbage", PROVIDER, "tts") from None
        if message.type == "error":
            said = Failure(message.data.message, str(message.data.code or "").lower())
            raise fatal_event(said, None, self._http.key, PROVIDER, "tts")
        return message
