"""Speech from a service over HTTP: ``POST /synthesize`` of ``service_wire``.

The answer streams: as lines with the times of words, or as bare PCM, whose words are then placed by estimate as those
of any voice that tells no times. Error codes: those of ``service_client``, and ``tts.empty``, ``tts.sample_rate``,
``tts.too_long``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from antiphon.errors import UNUSABLE, ProviderError
from antiphon.kernel.events import MAX_TEXT
from antiphon.media.resample import RATES
from antiphon.providers.failures import failed, refused
from antiphon.providers.service_client import Seconds, ServiceClient, ServiceSettings
from antiphon.providers.service_wire import (
    LINES,
    MAX_LINE_BYTES,
    MAX_TAG,
    MAX_VOICE,
    PCM,
    PLACES,
    SoundLine,
    SynthesizeRequest,
)
from antiphon.providers.settings import convert
from antiphon.providers.tts.elevenlabs_wire import Marks
from antiphon.providers.tts.inflow import Inflow
from antiphon.runtime.ports import Sound, WordMark

if TYPE_CHECKING:
    from antiphon.providers.exchange import Exchange
    from antiphon.providers.http import Patience

MAX_SOUND_S = 600
"""4000 characters take about five minutes; what goes on past this has run away."""

Piece = tuple[bytes, tuple[WordMark, ...]]
"""Bytes of PCM, cut anywhere, and the words that begin in what was sent so far."""

_line = msgspec.json.Decoder(SoundLine)


class HttpSynthesizerSettings(ServiceSettings, frozen=True, kw_only=True):
    """See ``ServiceSettings``. Times in seconds: until the first sound, between two pieces, for all waiting."""

    first_sound_s: Seconds = 2.0
    between_sounds_s: Seconds = 2.0
    total_s: Seconds = 30.0


class HttpSynthesizer:
    name = "http"

    def __init__(self, settings: HttpSynthesizerSettings) -> None:
        self.client = ServiceClient("tts", settings, accept=f"{LINES}, {PCM}")
        self.service = self.client.title
        self._settings = settings

    async def start(self) -> None:
        await self.client.start()

    async def synthesize(
        self, text: str, *, language: str, sample_rate: int, voice: str = ""
    ) -> AsyncGenerator[Sound, None]:
        """See ``Synthesizer``. Raises ``ProviderError`` with the module's codes."""
        if sample_rate not in RATES:
            raise refused(f"a rate of {sample_rate} Hz is none of {RATES}", "sample_rate", self.name, "tts")
        if len(text) > MAX_TEXT:
            told = f"a text of {len(text)} characters is over {MAX_TEXT}: speak it in segments"
            raise refused(told, "too_long", self.name, "tts")
        if not any(map(str.isalnum, text)):
            return
        settings = self._settings
        patience = self.client.patience(settings.first_sound_s, settings.between_sounds_s, settings.total_s)
        asked = SynthesizeRequest(text, language[:MAX_TAG], sample_rate, voice[:MAX_VOICE])
        exchange = self.client.exchange(patience)
        try:
            await exchange.post(f"{self.client.base_url}{PLACES['tts'].path}", msgspec.structs.asdict(asked))
            async with aclosing(self._sounds(exchange, asked, patience)) as sounds:
                async for sound in sounds:
                    yield sound
        finally:
            exchange.close()

    async def check(self) -> str:
        """Raises ``ProviderError``."""
        return await self.client.check()

    async def close(self) -> None:
        """Texts under way raise ``ProviderError``. May be called twice."""
        await self.client.close()

    async def _sounds(
        self, exchange: Exchange, asked: SynthesizeRequest, patience: Patience
    ) -> AsyncGenerator[Sound, None]:
        rate, length = asked.rate, len(asked.text)
        source = self._rate_of(exchange, rate)
        inflow, marks = Inflow("pcm16", source, rate), Marks(rate)
        samples, char = 0, -1
        pieces = self._lines(exchange) if exchange.content_type == LINES else self._bare(exchange)
        async with aclosing(pieces):
            async for data, words in pieces:
                for mark in words:
                    if char < mark.char < length:
                        char = mark.char
                        marks.add(char, mark.sample * 1000 / source)
                pcm = inflow.feed(data)
                samples += len(pcm) // 2
                if samples > MAX_SOUND_S * rate:
                    raise failed(f"the sound is over {MAX_SOUND_S} s", "too_large", self.name, "tts")
                if pcm:
                    patience.useful = True
                    yield Sound(pcm, marks.upto(samples))
        rest = inflow.end()
        samples += len(rest) // 2
        if rest:
            yield Sound(rest, marks.upto(samples, end=True))
        if not samples:
            raise failed("the service sent no sound", "empty", self.name, "tts")

    def _rate_of(self, exchange: Exchange, asked: int) -> int:
        """Of the sound that comes. Raises ``ProviderError`` for an answer that is no sound."""
        kind, told = exchange.content_type, exchange.parameter("rate")
        if kind not in {LINES, PCM}:
            raise self.client.garbage(f"it answers {kind or 'without a type'}, neither {LINES} nor {PCM}")
        rate = int(told) if told.isdecimal() else asked
        if rate not in RATES:
            raise self.client.garbage(f"its sound has {told} Hz, none of {RATES}")
        return rate

    async def _bare(self, exchange: Exchange) -> AsyncGenerator[Piece, None]:
        while data := await exchange.piece():
            yield data, ()

    async def _lines(self, exchange: Exchange) -> AsyncGenerator[Piece, None]:
        rest = b""
        while data := await exchange.piece():
            *whole, rest = (rest + data).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise failed(f"a line is over {MAX_LINE_BYTES} bytes", "too_large", self.name, "tts")
            for each in whole:
                yield self._piece(each)
        if rest.strip():
            yield self._piece(rest)

    def _piece(self, text: bytes) -> Piece:
        try:
            line = _line.decode(text)
        except UNUSABLE as error:
            raise self.client.garbage(str(error)) from None
        if line.error is not None:
            told = f"the service broke off: {line.error.message[:200]} ({line.error.code[:64]})"
            raise ProviderError(told, provider=self.name, stage="tts", code="tts.server")
        return line.audio, tuple(WordMark(char, sample) for char, sample in line.words)


def build(settings: dict[str, object]) -> HttpSynthesizer:
    """``[tts] provider = "http"``, or ``TTS_SERVICE_URL`` in the environment. Raises ``ConfigError``."""
    return HttpSynthesizer(convert(settings, HttpSynthesizerSettings, "[tts] http"))
