"""Settings of the ``sarvam`` synthesizer, and the request that they make of a text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from antiphon.providers.sarvam_wire import BASE_URL, SPEAKERS, WS_URL, spoken_language
from antiphon.secret import Secret

Seconds = Annotated[float, Meta(gt=0, le=60)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
WHERE = "[tts] sarvam"

SOCKET_RATES = (8_000, 16_000, 22_050, 24_000)
"""Hz that the socket gives; another rate is made from the highest."""


class SarvamSynthesizerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them have defaults; ``SARVAM_API_KEY`` is needed.

    ``speaker`` is the voice (``""``: the model's default), ``speakers`` those of single languages (``te-IN`` or
    ``te``). ``default_language`` is spoken where the language asked for has no voice. ``codec``: ``mulaw`` halves what
    is sent, at 8000 Hz only. ``language_field``: the name that the endpoint has for the language;
    ``target_language_code`` was the earlier one. Times in seconds: ``connect_s`` until a socket is open, ``first_s``
    until its first sound, ``between_s`` between pieces, ``rest_s`` for all of the REST request that takes its place.
    ``spares``: sockets that are kept open for the next text.
    """

    model: str = "bulbul:v3"
    speaker: str = ""
    speakers: dict[str, Name] = {}
    default_language: str = "en-IN"
    pace: Annotated[float, Meta(ge=0.3, le=3.0)] | None = None
    temperature: Annotated[float, Meta(ge=0.01, le=2.0)] | None = None
    dict_id: str = ""
    codec: Literal["linear16", "mulaw"] = "linear16"
    language_field: Literal["language_code", "target_language_code"] = "language_code"
    api_key: Secret = Secret("")
    api_key_env: str = ""
    base_url: str = BASE_URL
    ws_url: str = WS_URL
    connect_s: Seconds = 2.0
    first_s: Seconds = 1.5
    between_s: Seconds = 2.0
    rest_s: Seconds = 6.0
    spares: Annotated[int, Meta(ge=0, le=64)] = 4
    max_connections: Annotated[int, Meta(ge=1, le=10_000)] = 512

    def __post_init__(self) -> None:
        if not spoken_language(self.default_language):
            raise ValueError(f"default_language {self.default_language!r} is not spoken: use one such as en-IN")
        if not self.speaker and self.model not in SPEAKERS:
            raise ValueError(f"speaker must be set for model {self.model!r}")

    def voice(self, language: str, voice: str) -> dict[str, Any]:
        """What a request says about the voice. ``language`` is a tag, ``voice`` a speaker's name or ""."""
        tag = language.lower()
        speakers = {key.lower(): name for key, name in self.speakers.items()}
        speaker = voice or speakers.get(tag) or speakers.get(tag.partition("-")[0]) or self.speaker
        told: dict[str, Any] = {
            "model": self.model,
            self.language_field: spoken_language(language) or spoken_language(self.default_language),
            "speaker": speaker or SPEAKERS[self.model],
        }
        # What is not set is not sent: models refuse settings that they do not have.
        more = {"pace": self.pace, "temperature": self.temperature, "dict_id": self.dict_id or None}
        return told | {name: value for name, value in more.items() if value is not None}
