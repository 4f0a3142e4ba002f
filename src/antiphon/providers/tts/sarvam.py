"""Text to speech by Sarvam's Bulbul voices: streamed over a socket, over REST where the socket gives nothing.

Documents: see ``providers.sarvam_wire``. The name of the language's field has changed once (``language_field``).

Error codes: ``tts.unauthorized``, ``tts.quota``, ``tts.rate_limited``, ``tts.not_found``, ``tts.bad_request``,
``tts.server``, ``tts.unreachable``, ``tts.timeout_connect``, ``tts.timeout_first_byte``, ``tts.timeout_stalled``,
``tts.timeout_total``, ``tts.cut``, ``tts.garbage``, ``tts.empty``, ``tts.too_large``, ``tts.too_long``,
``tts.sample_rate``, ``tts.closed``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from antiphon.errors import ProviderError
from antiphon.media.codec import BadAudio, wav_read
from antiphon.media.resample import RATES, resampled
from antiphon.providers.endpoints import api_key, check_url
from antiphon.providers.failures import failed, refused
from antiphon.providers.sarvam_wire import BASE_URL, KEY_VARIABLE, WS_URL, max_text_chars, split_text
from antiphon.providers.settings import convert
from antiphon.providers.tts.sarvam_audio import SoundDecoder
from antiphon.providers.tts.sarvam_settings import SOCKET_RATES, WHERE, SarvamSynthesizerSettings
from antiphon.runtime.ports import Sound

if TYPE_CHECKING:
    from antiphon.providers.http import Patience
    from antiphon.providers.sarvam_http import SarvamHttp
    from antiphon.providers.tts.sarvam_socket import Voices

log = logging.getLogger("antiphon.providers.tts.sarvam")

MAX_CHARS = 10_000
"""Of one text: ten minutes of speech. A segment of a reply has some hundred."""

SOCKET_CHARS = 500
"""Of one message: longer ones come later (docs.sarvam.ai: fewer than 500 are recommended)."""

MAX_CHAR_S = 1.0
SPARE_S = 10.0
"""Sound of more than a second a character, and ten, has run away."""

TOTAL_S = 600.0

HOPELESS = frozenset({"tts.unauthorized", "tts.quota", "tts.closed"})
"""What REST would answer as well."""


class SarvamSynthesizer:
    """See ``SarvamSynthesizerSettings``. One HTTP session; sockets are kept open between texts."""

    name = "sarvam"
    service = "sarvam_ai"

    def __init__(self, settings: SarvamSynthesizerSettings) -> None:
        check_url(settings.base_url, "base_url", WHERE, BASE_URL)
        check_url(settings.ws_url, "ws_url", WHERE, WS_URL)
        self.settings = settings
        self._key = api_key(settings.api_key, settings.api_key_env or KEY_VARIABLE, WHERE)
        self._http: SarvamHttp | None = None
        self._voices: Voices | None = None
        self._closed = False

    async def start(self) -> None:
        self._closed = False
        self._opened()

    async def synthesize(
        self, text: str, *, language: str, sample_rate: int, voice: str = ""
    ) -> AsyncGenerator[Sound, None]:
        """See ``Synthesizer``. ``voice`` is a speaker's name. Gives nothing for a text without letters and digits.

        Raises ``ProviderError``, ``ProviderTimeout`` or ``ProviderRefused`` with the module's codes.
        """
        if sample_rate not in RATES:
            raise refused(f"a sample rate of {sample_rate} Hz is none of {RATES}", "sample_rate", self.name, "tts")
        if len(text) > MAX_CHARS:
            raise refused(f"a text of {len(text)} characters is over {MAX_CHARS}", "too_long", self.name, "tts")
        pieces = split_text(_sayable(text), min(SOCKET_CHARS, max_text_chars(self.settings.model)))
        if not pieces:
            return
        most = int((len(text) * MAX_CHAR_S + SPARE_S) * sample_rate) * 2
        given = 0
        try:
            async with aclosing(self._streamed(pieces, language, sample_rate, voice)) as sounds:
                async for pcm in sounds:
                    given += len(pcm)
                    if given > most:
                        raise failed(f"the sound of {len(text)} characters does not end", "too_large", self.name, "tts")
                    yield Sound(pcm)
                if not given:
                    raise failed("the endpoint sent no sound", "empty", self.name, "tts")
                return
        except ProviderError as error:
            if given or error.code in HOPELESS:
                raise
            log.warning("sarvam: the socket failed: %s", error, extra={"code": error.code})
        pieces = split_text(_sayable(text), max_text_chars(self.settings.model))
        async with aclosing(self._whole(pieces, language, sample_rate, voice)) as sounds:
            async for pcm in sounds:
                yield Sound(pcm)

    async def check(self) -> str:
        """Opens a socket and closes it again: for ``antiphon doctor``. Raises ``ProviderError``."""
        _, voices = self._opened()
        socket = await voices.open(self._patience())
        await socket.close()
        return f"{self.settings.ws_url} takes the key"

    async def close(self) -> None:
        """Requests under way end, with what there is or ``tts.closed``. May be called twice."""
        self._closed = True
        http, voices, self._http, self._voices = self._http, self._voices, None, None
        if voices is not None:
            await voices.close()
        if http is not None:
            await http.close()

    async def _streamed(
        self, texts: Sequence[str], language: str, sample_rate: int, voice: str
    ) -> AsyncGenerator[bytes, None]:
        settings = self.settings
        rate = sample_rate if sample_rate in SOCKET_RATES else SOCKET_RATES[-1]
        codec = settings.codec if rate == 8_000 else "linear16"
        config = {
            **settings.voice(language, voice),
            "speech_sample_rate": rate,
            "output_audio_codec": codec,
        }
        decoder = SoundDecoder(codec, rate, sample_rate)
        _, voices = self._opened()
        async with aclosing(voices.speak(config, texts, self._patience())) as pieces:
            async for data, content_type in pieces:
                if pcm := decoder.feed(data, content_type):
                    yield pcm
        if rest := decoder.end():
            yield rest

    async def _whole(
        self, texts: Sequence[str], language: str, sample_rate: int, voice: str
    ) -> AsyncGenerator[bytes, None]:
        settings = self.settings
        http, _ = self._opened()
        patience = self._patience(settings.rest_s)
        rate = sample_rate if sample_rate in SOCKET_RATES else SOCKET_RATES[-1]
        for text in texts:
            body = {
                **settings.voice(language, voice),
                "text": text,
                "speech_sample_rate": rate,
                "output_audio_codec": "wav",
            }
            files = await http.synthesize(f"{settings.base_url.rstrip('/')}/text-to-speech", body, patience=patience)
            for file in files:
                if pcm := pcm_of(file, sample_rate):
                    yield pcm

    def _patience(self, whole_s: float = 0.0) -> Patience:
        from antiphon.providers.http import Patience, Waits  # noqa: PLC0415 - imports aiohttp

        settings = self.settings
        if whole_s:
            waits = Waits(first_s=whole_s, between_s=whole_s, total_s=whole_s)
        else:
            waits = Waits(first_s=settings.first_s, between_s=settings.between_s, total_s=TOTAL_S)
        return Patience(waits, self.name, "tts")

    def _opened(self) -> tuple[SarvamHttp, Voices]:
        """Raises ``ProviderError`` (``tts.closed``): what comes after ``close`` must not open anything again."""
        if self._closed:
            raise failed("the synthesizer was closed", "closed", self.name, "tts")
        if self._http is None or self._voices is None:
            from antiphon.providers.sarvam_http import SarvamHttp  # noqa: PLC0415 - imports aiohttp
            from antiphon.providers.tts.sarvam_socket import Voices  # noqa: PLC0415 - imports aiohttp

            settings = self.settings
            self._http = SarvamHttp(
                settings.base_url, self._key, connect_s=settings.connect_s, max_connections=settings.max_connections
            )
            self._voices = Voices(self._http, settings)
        return self._http, self._voices


def pcm_of(file: bytes, sample_rate: int) -> bytes:
    """A WAV file of an answer as PCM at ``sample_rate`` Hz. Raises ``ProviderError`` (``tts.garbage``)."""
    try:
        pcm, rate = wav_read(file)
        return resampled(pcm, rate, sample_rate)
    except BadAudio as error:
        raise failed(f"the endpoint sent no sound that can be played: {error}", "garbage", "sarvam", "tts") from None


def _sayable(text: str) -> str:
    """Control characters, which have no sound, as spaces."""
    return "".join(char if char.isprintable() or char in "\n\u200c\u200d" else " " for char in text)


def build(settings: dict[str, object]) -> SarvamSynthesizer:
    """``[tts] provider = "sarvam"``. Raises ``ConfigError``, also where the key is not set."""
    return SarvamSynthesizer(convert(settings, SarvamSynthesizerSettings, WHERE))
