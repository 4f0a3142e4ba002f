"""One object for all of Sarvam: speech to text, chat, text to speech, each a call that gives the whole answer.

For embedding in somebody's own server: ``AgentOrchestrator(sarvam, sarvam, sarvam)``. A conversation on a line uses
the providers called ``sarvam`` instead, which stream. Documents: see ``providers.sarvam_wire``; "Chat Completion V1".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from antiphon.errors import ConfigError
from antiphon.media.codec import BadAudio, wav_read, wav_write
from antiphon.providers.endpoints import api_key as find_key
from antiphon.providers.endpoints import check_url
from antiphon.providers.failures import failed, refused
from antiphon.providers.llm.openai_wire import PRESETS
from antiphon.providers.sarvam_wire import (
    BASE_URL,
    KEY_VARIABLE,
    MAX_AUDIO_S,
    heard_language,
    max_text_chars,
    split_text,
    standard_tag,
)
from antiphon.providers.settings import convert
from antiphon.providers.tts.sarvam import pcm_of
from antiphon.providers.tts.sarvam_settings import SOCKET_RATES, SarvamSynthesizerSettings
from antiphon.secret import Secret

if TYPE_CHECKING:
    from antiphon.providers.http import Patience
    from antiphon.providers.sarvam_http import SarvamHttp

STT_S = 15.0
CHAT_S = 15.0
TTS_S = 20.0
CONNECT_S = 5.0
"""Seconds; the first three are for all of a call (A55 to A57)."""

PCM_RATE = 8_000
"""Hz of audio that comes without a header."""

MAX_TEXT = 10_000
MAX_AUDIO_BYTES = 16 * 1024 * 1024

WHERE = "SarvamAI"

_FILES = {
    b"RIFF": "audio/wav",
    b"OggS": "audio/ogg",
    b"fLaC": "audio/flac",
    b"ID3\x02": "audio/mpeg",
    b"ID3\x03": "audio/mpeg",
    b"ID3\x04": "audio/mpeg",
    b"\x1aE\xdf\xa3": "audio/webm",
}
"""By a file's first four bytes."""


class SarvamAI:
    """Sarvam's REST services with one key and one HTTP session, which the first call opens and ``aclose`` closes.

    ``api_key`` is else read from ``SARVAM_API_KEY``. ``speakers`` are the voices of single languages. Errors are
    ``ProviderError``, ``ProviderTimeout`` and ``ProviderRefused`` with codes such as ``stt.unauthorized``.
    """

    name = "sarvam"

    def __init__(
        self,
        api_key: str | Secret | None = None,
        *,
        base_url: str = BASE_URL,
        stt_model: str = "saaras:v4",
        llm_model: str = PRESETS["sarvam"].model,
        tts_model: str = "bulbul:v3",
        speaker: str = "",
        speakers: Mapping[str, str] | None = None,
        sample_rate: int = 8_000,
        max_tokens: int = 512,
        language_field: str = "language_code",
    ) -> None:
        """``sample_rate``: Hz of the speech, one of 8000, 16000, 22050, 24000. Raises ``ConfigError``."""
        check_url(base_url, "base_url", WHERE, BASE_URL)
        if sample_rate not in SOCKET_RATES:
            raise ConfigError(f"{WHERE}: sample_rate {sample_rate} is none of {SOCKET_RATES}", code="config.bad_value")
        given = api_key if isinstance(api_key, Secret) else Secret(api_key or "")
        self._key = find_key(given, KEY_VARIABLE, WHERE)
        voice = {"model": tts_model, "speaker": speaker, "speakers": dict(speakers or {})}
        self._voice = convert({**voice, "language_field": language_field}, SarvamSynthesizerSettings, WHERE)
        base = base_url.rstrip("/")
        self.stt_url = f"{base}/speech-to-text"
        self.llm_url = f"{base}/v1/chat/completions"
        self.tts_url = f"{base}/text-to-speech"
        self.stt_model = stt_model
        self.llm_model = llm_model
        self.sample_rate = sample_rate
        self.max_tokens = max_tokens
        self._http: SarvamHttp | None = None

    async def speech_to_text(self, audio_bytes: bytes, language: str | None = None) -> tuple[str, str | None]:
        """The words, and the language they are in (a BCP 47 tag; ``None`` if nobody knows).

        ``audio_bytes``: a WAV, FLAC, Ogg, MP3 or WebM file, or bare 16-bit mono PCM at 8000 Hz, of at most 30 s.
        ``language`` is what to expect, ``None`` to find out.
        """
        file, content_type = self._file(audio_bytes)
        answer = await self._opened().transcribe(
            self.stt_url,
            file,
            content_type=content_type,
            fields={"model": self.stt_model, "language_code": heard_language(language or "") or "unknown"},
            patience=self._patience(STT_S, "stt"),
        )
        return answer.transcript, standard_tag(answer.language_code) or None

    async def chat(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The model's answer to ``[{"role": ..., "content": ...}, ...]``; other fields are not sent."""
        preset = PRESETS["sarvam"]
        body = {
            "model": self.llm_model,
            "messages": [{"role": each["role"], "content": each["content"]} for each in messages],
            preset.max_tokens_field: self.max_tokens,
            **preset.body,
        }
        answer = await self._opened().complete(self.llm_url, body, patience=self._patience(CHAT_S, "llm"))
        text = answer.choices[0].message.content if answer.choices else None
        if not text or not text.strip():
            raise failed("the reply is empty", "empty", self.name, "llm")
        return text

    async def text_to_speech(self, text: str, language: str) -> bytes:
        """A WAV file (16-bit, mono, ``sample_rate`` Hz). A text over the endpoint's limit is spoken in parts."""
        if len(text) > MAX_TEXT:
            raise refused(f"a text of {len(text)} characters is over {MAX_TEXT}", "too_long", self.name, "tts")
        parts = split_text(text, max_text_chars(self._voice.model))
        if not parts:
            raise refused("there is no word to speak in this text", "empty", self.name, "tts")
        http, patience = self._opened(), self._patience(TTS_S, "tts")
        spoken = []
        for part in parts:
            body = {
                **self._voice.voice(language, ""),
                "text": part,
                "speech_sample_rate": self.sample_rate,
                "output_audio_codec": "wav",
            }
            files = await http.synthesize(self.tts_url, body, patience=patience)
            spoken += [pcm_of(file, self.sample_rate) for file in files]
        return wav_write(b"".join(spoken), self.sample_rate)

    async def aclose(self) -> None:
        """Closes the connections; another call opens new ones. May be called twice."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _file(self, audio: bytes) -> tuple[bytes, str]:
        """What is uploaded, and its content type. Raises ``ProviderRefused``."""
        if not audio or len(audio) > MAX_AUDIO_BYTES:
            raise refused(f"{len(audio)} bytes are no recording of up to {MAX_AUDIO_S} s", "bad_audio", "sarvam", "stt")
        content_type = _FILES.get(audio[:4], "")
        if content_type not in {"", "audio/wav"}:
            return audio, content_type
        try:
            pcm, rate = wav_read(audio) if content_type else (audio[: len(audio) & ~1], PCM_RATE)
        except BadAudio as error:
            raise refused(f"this WAV file cannot be read: {error}", "bad_audio", "sarvam", "stt") from None
        seconds = len(pcm) / 2 / rate
        if seconds > MAX_AUDIO_S:
            text = f"{seconds:.0f} s of audio are more than the {MAX_AUDIO_S} s that are taken: send it in parts"
            raise refused(text, "too_long", "sarvam", "stt")
        return (audio if content_type else wav_write(pcm, rate)), "audio/wav"

    def _patience(self, seconds: float, stage: str) -> Patience:
        from antiphon.providers.http import Patience, Waits  # noqa: PLC0415 - imports aiohttp

        return Patience(Waits(first_s=seconds, between_s=seconds, total_s=seconds), self.name, stage)

    def _opened(self) -> SarvamHttp:
        if self._http is None:
            from antiphon.providers.sarvam_http import SarvamHttp  # noqa: PLC0415 - 135 ms that only users should pay

            self._http = SarvamHttp(self.tts_url, self._key, connect_s=CONNECT_S)
        return self._http
