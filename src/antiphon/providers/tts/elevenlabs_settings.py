"""Settings of the ``elevenlabs`` synthesizer, and what becomes of them for one text. No I/O.

Sources (elevenlabs.io/docs): "Models" (which model speaks what), "Multi-Context Websocket" and its API reference
(``/v1/text-to-speech/{voice_id}/multi-stream-input``: not for ``eleven_v3``, five contexts a connection), "Stream
speech" (``POST /v1/text-to-speech/{voice_id}/stream``: formats, ``language_code``, voice settings, speed 0.7 to 1.2).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from antiphon.errors import ConfigError
from antiphon.providers.endpoints import api_key, check_url
from antiphon.secret import Secret

Seconds = Annotated[float, Meta(gt=0, le=600)]
Share = Annotated[float, Meta(ge=0, le=1)]
WHERE = "[tts] elevenlabs"
BASE_URL = "https://api.elevenlabs.io"

INACTIVITY_S = 180
"""The longest that may be asked for (20 without asking): a connection without any text is closed by the vendor then."""

_MULTILINGUAL = frozenset(
    "en ja zh de hi fr ko pt it es id nl tr fil pl sv bg ro ar cs el fi hr ms sk da ta uk ru".split()  # noqa: SIM905
)
LANGUAGES = {
    "eleven_flash_v2_5": _MULTILINGUAL | {"hu", "no", "vi"},
    "eleven_turbo_v2_5": _MULTILINGUAL | {"hu", "no", "vi"},
    "eleven_multilingual_v2": _MULTILINGUAL,
    "eleven_flash_v2": frozenset({"en"}),
    "eleven_turbo_v2": frozenset({"en"}),
}
"""What a model speaks, where it is not nearly everything. Telugu and Gujarati are ``eleven_v3``'s."""

NO_LANGUAGE_CODE = frozenset({"eleven_multilingual_v2", "eleven_flash_v2", "eleven_turbo_v2"})
HTTP_ONLY = ("eleven_v3", "eleven_v4")
"""How the names of models begin that the socket for text does not take."""

FORMATS = {
    8_000: ("ulaw_8000", "mulaw", 8_000),
    16_000: ("pcm_16000", "pcm16", 16_000),
    22_050: ("pcm_22050", "pcm16", 22_050),
    24_000: ("pcm_24000", "pcm16", 24_000),
    44_100: ("pcm_24000", "pcm16", 24_000),
    48_000: ("pcm_24000", "pcm16", 24_000),
}
"""For a rate: what is asked for, its codec and its own rate. 8 kHz is for telephones, which are mu-law anyway; PCM at
44.1 kHz and more is not in every plan, and has no more of a voice in it."""

_VOICE = re.compile(r"[A-Za-z0-9]{8,64}")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


class ElevenLabsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them have defaults; ``ELEVENLABS_API_KEY`` is needed.

    ``voice`` and ``model``: an id from the vendor's list; ``voices`` and ``models`` map a language (``hi-IN`` or
    ``hi``) to others. A language that ``model`` does not speak is spoken by ``other_model``; "" refuses it. Voice
    settings that are not set are the voice's own. ``transport``: socket (HTTP while it cannot be opened) or http.
    ``ws_url`` is made from ``base_url``. Times in seconds: ``connect_s`` for opening the socket, ``first_sound_s``
    for everything before the first sound, ``between_sounds_s`` for each wait after it, ``total_s`` for all waiting.
    ``contexts``: texts at once on one socket.
    """

    api_key: Secret = Secret("")
    api_key_env: str = "ELEVENLABS_API_KEY"
    base_url: str = BASE_URL
    ws_url: str = ""
    transport: Literal["socket", "http"] = "socket"
    voice: str = "JBFqnCBsd6RMkjVDRZzb"
    voices: dict[str, str] = {}
    model: str = "eleven_flash_v2_5"
    models: dict[str, str] = {}
    other_model: str = "eleven_v3"
    stability: Share | None = None
    similarity: Share | None = None
    style: Share | None = None
    speed: Annotated[float, Meta(ge=0.7, le=1.2)] | None = None
    connect_s: Seconds = 1.0
    first_sound_s: Seconds = 4.0
    between_sounds_s: Seconds = 2.0
    total_s: Seconds = 30.0
    contexts: Annotated[int, Meta(ge=1, le=5)] = 3
    max_connections: Annotated[int, Meta(ge=1, le=1000)] = 64


class Manner(msgspec.Struct, frozen=True):
    """How a text is spoken: all that a socket is opened for. ``language`` is ISO 639-1, or "" where none is sent."""

    voice: str
    model: str
    language: str
    output_format: str

    def query(self) -> dict[str, str]:
        return {"model_id": self.model, "output_format": self.output_format}

    @property
    def http_only(self) -> bool:
        return self.model.startswith(HTTP_ONLY)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests go. ``key`` is shown by nobody."""

    base_url: str
    ws_url: str
    key: Secret
    voice_settings: dict[str, float]

    def headers(self) -> dict[str, str]:
        return {"xi-api-key": self.key.reveal(), "Accept-Encoding": "identity"}

    def socket_url(self, manner: Manner) -> str:
        query = {
            **manner.query(),
            "auto_mode": "true",  # for whole sentences: nothing is held back for more text
            "sync_alignment": "true",
            "inactivity_timeout": str(INACTIVITY_S),
        }
        if manner.language:
            query["language_code"] = manner.language
        return f"{self.ws_url}/v1/text-to-speech/{manner.voice}/multi-stream-input?{urlencode(query)}"

    def stream_url(self, manner: Manner) -> str:
        query = urlencode({"output_format": manner.output_format})
        return f"{self.base_url}/v1/text-to-speech/{manner.voice}/stream?{query}"

    def stream_body(self, manner: Manner, text: str) -> dict[str, Any]:
        body: dict[str, Any] = {"text": text, "model_id": manner.model}
        if manner.language:
            body["language_code"] = manner.language
        if self.voice_settings:
            body["voice_settings"] = self.voice_settings
        return body

    def first_message(self, context: str) -> dict[str, Any]:
        """Opens a context: a single space, and the voice settings, which no later message may hold."""
        message: dict[str, Any] = {"text": " ", "context_id": context}
        if self.voice_settings:
            message["voice_settings"] = self.voice_settings
        return message


def endpoint(settings: ElevenLabsSettings) -> Endpoint:
    """Raises ``ConfigError`` for what is missing or cannot be."""
    base_url = settings.base_url.rstrip("/")
    check_url(base_url, "base_url", WHERE, BASE_URL)
    ws_url = settings.ws_url.rstrip("/") or f"ws{base_url.removeprefix('http')}"
    check_url(ws_url, "ws_url", WHERE, "wss://api.elevenlabs.io")
    for voice in (settings.voice, *settings.voices.values()):
        if not is_voice(voice):
            raise ConfigError(f"{WHERE}: a voice is an id such as {ElevenLabsSettings().voice!r}, not {voice!r}")
    wanted = {
        "stability": settings.stability,
        "similarity_boost": settings.similarity,
        "style": settings.style,
        "speed": settings.speed,
    }
    return Endpoint(
        base_url=base_url,
        ws_url=ws_url,
        key=api_key(settings.api_key, settings.api_key_env, WHERE),
        voice_settings={name: value for name, value in wanted.items() if value is not None},
    )


def is_voice(voice: str) -> bool:
    return bool(_VOICE.fullmatch(voice))


def manner(settings: ElevenLabsSettings, language: str, sample_rate: int, voice: str) -> Manner | None:
    """``sample_rate`` is one of ``FORMATS``. None if no model is to speak the language."""
    tag = language.lower().replace("_", "-")
    primary = tag.partition("-")[0]
    code = primary if _LANGUAGE.fullmatch(primary) else ""
    model = _of(settings.models, tag) or settings.model
    if code and code not in LANGUAGES.get(model, {code}):
        model = settings.other_model
    if not model:
        return None
    chosen = voice or _of(settings.voices, tag) or settings.voice
    return Manner(chosen, model, "" if model in NO_LANGUAGE_CODE else code, FORMATS[sample_rate][0])


def _of(table: dict[str, str], tag: str) -> str:
    lowered = {name.lower(): value for name, value in table.items()}
    return lowered.get(tag) or lowered.get(tag.partition("-")[0], "")
