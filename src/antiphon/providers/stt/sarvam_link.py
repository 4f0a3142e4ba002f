"""One session on Sarvam's realtime socket: opened, listened to, closed. It knows nothing of utterances."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgspec

from antiphon.errors import UNUSABLE, ProviderError
from antiphon.providers.failures import Failure, failed
from antiphon.providers.http import Patience, Waits
from antiphon.providers.sarvam_http import SarvamHttp
from antiphon.providers.sarvam_wire import HeardEvent, closing, fatal_event, heard_events
from antiphon.providers.stt.sarvam_settings import SarvamTranscriberSettings
from antiphon.providers.websocket import Socket, connect

log = logging.getLogger("antiphon.providers.stt.sarvam")

SEND_S = 2.0
"""An endpoint that takes no audio for so long has stopped."""

MAX_EVENT_BYTES = 64 * 1024

ANSWERS = frozenset({"transcript.partial", "transcript.final"})


class _Audio(msgspec.Struct):
    event: str
    audio: bytes


class Link:
    """An open session. ``lost`` says why it is over, once it is; ``on_event`` is called for that too, with None."""

    def __init__(
        self, socket: Socket, http: SarvamHttp, language: str, on_event: Callable[[HeardEvent | None], None]
    ) -> None:
        self.language = language
        """What the session is in: what was sent last and was not refused."""
        self._language_before = language
        self.lost: ProviderError | None = None
        self._socket = socket
        self._key = http.key
        self._on_event = on_event
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        http: SarvamHttp,
        settings: SarvamTranscriberSettings,
        sample_rate: int,
        language: str,
        on_event: Callable[[HeardEvent | None], None],
    ) -> Link:
        """Opens a session and waits until the endpoint has begun it. Raises ``ProviderError``."""
        seconds = settings.connect_s
        waits = Waits(first_s=seconds, between_s=seconds, total_s=seconds, first_code="timeout_connect")
        patience = Patience(waits, "sarvam", "stt")
        socket = await connect(
            http.session,
            f"{settings.ws_url.rstrip('/')}/speech-to-text-realtime/ws?{_query(settings, sample_rate, language)}",
            {},
            patience,
            provider="sarvam",
            stage="stt",
            connect_s=seconds,
            key=http.key,
            max_message_bytes=MAX_EVENT_BYTES,
        )
        link = cls(socket, http, language, on_event)
        try:
            while (await link._next(patience)).event != "session.begin":
                pass
        except BaseException:
            await socket.close()
            raise
        link._task = asyncio.get_running_loop().create_task(link._receive())
        return link

    async def send(self, event: str, **fields: Any) -> None:
        """Raises ``ProviderError`` if the session is over."""
        await self._send(msgspec.json.encode({"event": event, **fields}))

    async def change_language(self, language: str) -> None:
        """From the next utterance on. A refusal comes later and leaves the session in the language it had."""
        self._language_before, self.language = self.language, language
        await self.send("config.update", language_code=language)

    async def send_audio(self, pcm: bytes) -> None:
        await self._send(msgspec.json.encode(_Audio("audio_input", pcm)))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._socket.close()

    async def _send(self, message: bytes) -> None:
        if self.lost is not None:
            raise self.lost
        try:
            async with asyncio.timeout(SEND_S):
                await self._socket.send(message.decode())
        except TimeoutError:
            raise failed("the endpoint takes no more audio", "timeout_stalled", "sarvam", "stt") from None

    async def _receive(self) -> None:
        try:
            while True:
                event = await self._next(None)
                if event.event in ANSWERS:
                    self._on_event(event)
        except ProviderError as error:
            self.lost = error
            self._on_event(None)

    async def _next(self, patience: Patience | None) -> HeardEvent:
        """The next event that is no refusal. What is no event at all ends the session."""
        while True:
            message = await self._socket.receive(patience)
            if message is None:
                raise closing(self._socket.close_code, self._socket.close_reason, self._key, "sarvam", "stt")
            try:
                event = heard_events.decode(message)
            except UNUSABLE:
                raise failed("the endpoint sent something that is no event", "garbage", "sarvam", "stt") from None
            if event.event != "error":
                return event
            said = Failure(event.message or "", (event.code or "").lower())
            error = fatal_event(said, event.status_code, self._key, "sarvam", "stt")
            if event.is_fatal:
                raise error
            # The language is all that is ever changed.
            self.language = self._language_before
            log.warning("sarvam refuses a setting: %s", error)


def _query(settings: SarvamTranscriberSettings, sample_rate: int, language: str) -> str:
    query = {
        "language_code": language,
        "model": settings.model,
        "stream_type": settings.stream_type,
        "mode": settings.mode,
        "endpointing": "manual",
        "encoding": "linear16",
        "sample_rate": str(sample_rate),
    }
    if settings.prompt:
        query["prompt"] = settings.prompt
    if settings.keyterms:
        query["keyterms"] = msgspec.json.encode(settings.keyterms).decode()
    return urlencode(query)
