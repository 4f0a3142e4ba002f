"""Text to speech by ElevenLabs, streamed over warm sockets, or over HTTP while none can be opened.

``elevenlabs_settings`` names the pages this follows. Models that the sockets do not take (``eleven_v3`` and later),
and so the languages that only those speak, go over HTTP; there the vendor tells no times of words.

Error codes: ``tts.unauthorized``, ``tts.quota``, ``tts.rate_limited``, ``tts.not_found``, ``tts.bad_request``,
``tts.bad_endpoint``, ``tts.server``, ``tts.unreachable``, ``tts.timeout_connect``, ``tts.timeout_first_byte``,
``tts.timeout_stalled``, ``tts.timeout_total``, ``tts.cut``, ``tts.garbage``, ``tts.empty``, ``tts.too_large``,
``tts.closed``, ``tts.too_long``, ``tts.language``, ``tts.voice``, ``tts.sample_rate``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from antiphon.errors import ProviderRefused
from antiphon.providers.failures import closed, failed, refused
from antiphon.providers.settings import convert
from antiphon.providers.tts.elevenlabs_settings import (
    FORMATS,
    WHERE,
    ElevenLabsSettings,
    Manner,
    endpoint,
    is_voice,
    manner,
)
from antiphon.providers.tts.elevenlabs_wire import Alignment, Marks, WordTimes
from antiphon.providers.tts.inflow import Inflow
from antiphon.providers.tts.spoken import Spoken, prepare
from antiphon.runtime.ports import Sound

if TYPE_CHECKING:
    import aiohttp

    from antiphon.providers.exchange import Exchange
    from antiphon.providers.http import Patience
    from antiphon.providers.tts.elevenlabs_sockets import Sockets

log = logging.getLogger(__name__)

MAX_CHARS = 2000
"""Of one segment: about two minutes of speech."""

MAX_VOICE_BYTES = 262_144
"""Of the description of a voice."""

WITHOUT_SOCKETS_S = 30.0
"""After a socket could not be opened, texts go over HTTP for this long: none waits in vain for a second time."""

ROADBLOCKS = frozenset({"tts.unreachable", "tts.timeout_connect", "tts.garbage", "tts.server", "tts.bad_request"})
"""What opening a socket raises where HTTP may still get through, such as behind a proxy that knows no sockets."""

Heard = tuple[bytes, tuple[Alignment, ...]]
"""Bytes in the format asked for, and when characters are spoken where the vendor tells."""


class ElevenLabsSynthesizer:
    """See ``ElevenLabsSettings``. One HTTP session, opened by ``start`` or by the first text; sockets as needed."""

    name = "elevenlabs"

    def __init__(self, settings: ElevenLabsSettings) -> None:
        self.settings = settings
        self.endpoint = endpoint(settings)
        self._session: aiohttp.ClientSession | None = None
        self._sockets: Sockets | None = None
        self._no_sockets_until = 0.0
        self._closed = False

    async def start(self) -> None:
        """Opens no connection: the first text does."""
        self._closed = False
        if self._session is not None:
            return
        from antiphon.providers.http import client_session  # noqa: PLC0415 - 135 ms that only its users should pay
        from antiphon.providers.tts.elevenlabs_sockets import Sockets  # noqa: PLC0415 - imports aiohttp

        self._session = client_session(
            self.endpoint.base_url,
            headers={**self.endpoint.headers(), "Content-Type": "application/json"},
            connect_s=self.settings.connect_s,
            max_connections=2 * self.settings.max_connections,
        )
        self._sockets = Sockets(
            self._session,
            self.endpoint,
            connect_s=self.settings.connect_s,
            contexts=self.settings.contexts,
            most=self.settings.max_connections,
        )

    async def synthesize(
        self, text: str, *, language: str, sample_rate: int, voice: str = ""
    ) -> AsyncGenerator[Sound, None]:
        """See ``Synthesizer``. ``voice`` is an id. Raises ``ProviderError`` with the module's codes."""
        wanted = self._manner(text, language, sample_rate, voice)
        spoken = prepare(text, language)
        if not any(map(str.isalnum, spoken.text)):
            return
        patience = self._patience()
        _, codec, rate = FORMATS[sample_rate]
        inflow = Inflow(codec, rate, sample_rate)
        times, marks, samples = WordTimes(text, spoken), Marks(sample_rate), 0
        async with aclosing(self._attempt(spoken, wanted, patience)) as heard:
            async for audio, alignments in heard:
                for alignment in alignments:
                    for char, ms in times.feed(alignment):
                        marks.add(char, ms)
                pcm = inflow.feed(audio)
                samples += len(pcm) // 2
                if pcm:
                    yield Sound(pcm, marks.upto(samples))
        pcm = inflow.end()
        samples += len(pcm) // 2
        if pcm:
            yield Sound(pcm, marks.upto(samples, end=True))

    async def check(self) -> str:
        """Asks for the default voice: for ``antiphon doctor``. Raises ``ProviderError``."""
        exchange = await self._exchange(self._patience())
        voice = self.settings.voice
        try:
            await exchange.get(f"{self.endpoint.base_url}/v1/voices/{voice}", MAX_VOICE_BYTES)
        except ProviderRefused as error:
            if error.code == "tts.unauthorized":
                text = "the endpoint refuses the API key, or lets it speak only and not list voices"
                raise refused(text, "unauthorized", self.name, "tts") from None
            raise
        return f"{self.endpoint.base_url} has the voice {voice}"

    async def close(self) -> None:
        """Texts under way raise ``ProviderError``. May be called twice."""
        self._closed = True
        sockets, self._sockets = self._sockets, None
        session, self._session = self._session, None
        if sockets is not None:
            await sockets.close()
        if session is not None:
            await session.close()

    async def _attempt(self, spoken: Spoken, wanted: Manner, patience: Patience) -> AsyncGenerator[Heard, None]:
        """One road or the other; raises if no sound came of it."""
        road = self._over_http(spoken, wanted, patience)
        if self._may_use_sockets(wanted):
            road = self._over_socket(spoken, wanted, patience)
        begun = False
        early: tuple[Alignment, ...] = ()
        async with aclosing(road) as heard:
            async for audio, alignments in heard:
                early += alignments
                if audio:
                    begun = patience.useful = True
                    yield audio, early
                    early = ()
        if not begun:
            raise failed("the endpoint sent no sound", "empty", self.name, "tts")

    async def _over_socket(self, spoken: Spoken, wanted: Manner, patience: Patience) -> AsyncGenerator[Heard, None]:
        from antiphon.providers.tts.elevenlabs_sockets import NotOpened  # noqa: PLC0415 - imports aiohttp

        await self._ready()
        assert self._sockets is not None  # noqa: S101 - start() made it
        messages = self._sockets.speak(wanted, spoken.text, patience)
        try:
            async with aclosing(messages):
                async for message in messages:
                    alignment = message.alignment or message.normalizedAlignment
                    yield message.audio or b"", (alignment,) if alignment is not None else ()
            return
        except NotOpened as blocked:
            if self._closed or blocked.error.code not in ROADBLOCKS:
                raise blocked.error from None
            self._no_sockets_until = asyncio.get_running_loop().time() + WITHOUT_SOCKETS_S
            log.warning("elevenlabs: no socket, so over HTTP for %g s: %s", WITHOUT_SOCKETS_S, blocked.error)
        async with aclosing(self._over_http(spoken, wanted, patience)) as heard:
            async for each in heard:
                yield each

    async def _over_http(self, spoken: Spoken, wanted: Manner, patience: Patience) -> AsyncGenerator[Heard, None]:
        exchange = await self._exchange(patience)
        try:
            await exchange.post(self.endpoint.stream_url(wanted), self.endpoint.stream_body(wanted, spoken.text))
            if not exchange.content_type.startswith("audio/") and "octet-stream" not in exchange.content_type:
                raise failed(f"the endpoint sent {exchange.content_type}, no sound", "garbage", self.name, "tts")
            while data := await exchange.piece():
                yield data, ()
        finally:
            exchange.close()

    async def _exchange(self, patience: Patience) -> Exchange:
        from antiphon.providers.exchange import Exchange  # noqa: PLC0415 - imports aiohttp

        await self._ready()
        assert self._session is not None  # noqa: S101 - start() made it
        here = self.endpoint
        return Exchange(self._session, patience, self.name, "tts", key=here.key, place=here.base_url)

    async def _ready(self) -> None:
        if self._closed:
            raise closed(self.name, "tts")
        await self.start()

    def _may_use_sockets(self, wanted: Manner) -> bool:
        if self.settings.transport == "http" or wanted.http_only:
            return False
        return asyncio.get_running_loop().time() >= self._no_sockets_until

    def _manner(self, text: str, language: str, sample_rate: int, voice: str) -> Manner:
        """Raises ``ProviderRefused``."""
        if len(text) > MAX_CHARS:
            told = f"a text of {len(text)} characters is over the cap of {MAX_CHARS}: speak it in segments"
            raise refused(told, "too_long", self.name, "tts")
        if sample_rate not in FORMATS:
            raise refused(
                f"a sample rate of {sample_rate} Hz is none of {tuple(FORMATS)}", "sample_rate", self.name, "tts"
            )
        if voice and not is_voice(voice):
            raise refused(f"a voice is an id, not {voice!r}", "voice", self.name, "tts")
        found = manner(self.settings, language, sample_rate, voice)
        if found is None:
            raise refused(f"{self.settings.model} does not speak {language!r}", "language", self.name, "tts")
        return found

    def _patience(self) -> Patience:
        from antiphon.providers.http import Patience, Waits  # noqa: PLC0415 - imports aiohttp

        settings = self.settings
        limits = Waits(first_s=settings.first_sound_s, between_s=settings.between_sounds_s, total_s=settings.total_s)
        return Patience(limits, self.name, "tts")


def build(settings: dict[str, object]) -> ElevenLabsSynthesizer:
    """``[tts] provider = "elevenlabs"``. Raises ``ConfigError``, also where the key is not set."""
    return ElevenLabsSynthesizer(convert(settings, ElevenLabsSettings, WHERE))
