"""The wire of Sarvam's speech services: addresses, languages, limits and typed answers. No I/O.

Sources (docs.sarvam.ai): "Realtime Streaming Speech-to-Text API" and its reference
``GET /speech-to-text-realtime/ws``; "Speech-to-Text Rest API" (``POST /speech-to-text``, at most 30 s of
audio); "Which Text-to-Speech API to Use", "WebSocket" (``GET /text-to-speech/ws``) and
``POST /text-to-speech``; "Errors & Troubleshooting" (a wrong key is 403). Names of events and fields were
checked against ``sarvamai`` 0.1.39.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from antiphon.errors import ProviderError
from antiphon.providers.failures import Failure, error_for, failed, refused
from antiphon.secret import Secret

BASE_URL = "https://api.sarvam.ai"
WS_URL = "wss://api.sarvam.ai"
KEY_VARIABLE = "SARVAM_API_KEY"
KEY_HEADER = "api-subscription-key"

MAX_AUDIO_S = 30
"""Of one REST transcription."""

IDLE_S = 60
"""A socket on which nothing is sent for so long is closed by the endpoint."""

SPOKEN_LANGUAGES = frozenset({"bn", "en", "gu", "hi", "kn", "ml", "mr", "or", "pa", "ta", "te"})
"""What the voices speak, as the first part of ``xx-IN``."""

HEARD_LANGUAGES = SPOKEN_LANGUAGES | {
    *("as", "ur", "ne", "kok", "ks", "sd", "sa", "sat", "mni", "brx", "mai", "doi"),
}
"""What is transcribed, as the first part of ``xx-IN``."""

MAX_TEXT_CHARS = {"bulbul:v2": 1500}
MAX_TEXT_CHARS_ELSE = 2500
"""Characters of one text, by model."""

SPEAKERS = {"bulbul:v2": "anushka", "bulbul:v3": "shubh", "bulbul:v4-flash": "shubh_enhi_ads"}
"""The default voice of each model. ``shubh`` of v3 speaks all languages; v4's voices are made for one or two."""


_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")


def max_text_chars(model: str) -> int:
    return MAX_TEXT_CHARS.get(model, MAX_TEXT_CHARS_ELSE)


def _primary(tag: str) -> str:
    base = tag.partition("-")[0].lower()
    return "or" if base == "od" else base


def heard_language(tag: str, *, odia: str = "od-IN") -> str:
    """The code that the transcription services have for a language tag; ``""`` if they have none.

    Odia is ``od-IN`` for all of them but the realtime socket, which has the standard's ``or-IN``.
    """
    base = _primary(tag)
    return "" if base not in HEARD_LANGUAGES else odia if base == "or" else f"{base}-IN"


def spoken_language(tag: str) -> str:
    """The code that the voices have for a language tag; ``""`` if they do not speak it."""
    base = _primary(tag)
    return "" if base not in SPOKEN_LANGUAGES else "od-IN" if base == "or" else f"{base}-IN"


def standard_tag(code: str | None) -> str:
    """A language code in an answer as a BCP 47 tag: Odia is ``or-IN``. ``""`` for none and for what is no tag."""
    base, dash, rest = (code or "").partition("-")
    tag = ("or" if base == "od" else base) + dash + rest
    return tag if _TAG.fullmatch(tag) else ""


def certainty(probability: float | None) -> float:
    """A probability as the endpoint gives it, within 0..1; 0 if there is none."""
    return min(1.0, max(0.0, probability)) if probability is not None and math.isfinite(probability) else 0.0


_BREAKS = tuple(map(re.compile, (r"[.!?…।॥](?=\s)|\n", r"[,;:—](?=\s)", r"\s")))


def split_text(text: str, limit: int) -> list[str]:
    """``text`` in pieces of at most ``limit`` characters, cut after a sentence, else a clause, else a word.

    Pieces without a letter or digit, which the voices refuse, are left out.
    """
    pieces = []
    rest = text.strip()
    while len(rest) > limit:
        ends = ([found.end() for found in pattern.finditer(rest, 0, limit + 1)] for pattern in _BREAKS)
        # A break in the first third would leave scraps: then the next kind of break is looked for.
        at = next((end for found in ends if found and (end := min(found[-1], limit)) > limit // 3), limit)
        pieces.append(rest[:at].strip())
        rest = rest[at:].strip()
    return [piece for piece in (*pieces, rest) if any(char.isalnum() for char in piece)]


# -- answers ------------------------------------------------------------------------------------


class Transcript(msgspec.Struct):
    """The answer of ``POST /speech-to-text``."""

    transcript: str
    language_code: str | None = None
    language_probability: float | None = None


class Audios(msgspec.Struct):
    """The answer of ``POST /text-to-speech``: a file for each text."""

    audios: list[bytes]


class AnswerMessage(msgspec.Struct):
    content: str | None = None


class AnswerChoice(msgspec.Struct):
    message: AnswerMessage


class Answer(msgspec.Struct):
    """The answer of ``POST /v1/chat/completions``."""

    choices: list[AnswerChoice]


class HeardEvent(msgspec.Struct):
    """An event of the realtime socket, with the fields of all kinds of them."""

    event: str
    text: str | None = None
    language: str | None = None
    language_confidence: float | None = None
    code: str | None = None
    is_fatal: bool = False
    message: str | None = None
    status_code: int | None = None


class SpeechData(msgspec.Struct):
    audio: bytes = b""
    content_type: str = ""
    event_type: str = ""
    message: str = ""
    code: Any = None


class SpeechMessage(msgspec.Struct):
    """A message of the voices' socket: ``audio``, ``event`` or ``error``."""

    type: str
    data: SpeechData = msgspec.field(default_factory=SpeechData)


# Not strict: some numbers come as text.
transcripts = msgspec.json.Decoder(Transcript, strict=False)
audios = msgspec.json.Decoder(Audios, strict=False)
answers = msgspec.json.Decoder(Answer, strict=False)
heard_events = msgspec.json.Decoder(HeardEvent, strict=False)
speech_messages = msgspec.json.Decoder(SpeechMessage, strict=False)


# -- failures -----------------------------------------------------------------------------------


def fatal_event(said: Failure, status: int | None, key: Secret, provider: str, stage: str) -> ProviderError:
    """The coded error for an error message on a socket. ``status`` is the HTTP status it stands for, if any."""
    said = said.without(key)
    if status is None and said.code.isdigit():
        status = int(said.code)
    return error_for(status if status is not None and 400 <= status < 600 else 0, said, provider, stage)


def closing(code: int, reason: str, key: Secret, provider: str, stage: str) -> ProviderError:
    """The coded error for a close frame: 1003 is key, credit or rate; 1008 a time limit; 4000 a refused session."""
    said = Failure(reason.strip()).without(key)
    detail = f": {said.message}" if said.message else ""
    text = f"the endpoint closed the connection ({code}){detail}"
    if code == 1003:
        low = reason.lower()
        if "quota" in low or "credit" in low:
            return refused(text, "quota", provider, stage)
        if "rate" in low or "limit" in low:
            return failed(text, "rate_limited", provider, stage)
        return refused("the endpoint refuses the API key (1003)", "unauthorized", provider, stage)
    if code == 4000:
        return refused(text, "bad_request", provider, stage)
    return failed(text, "server" if code in {1011, 1012, 1013} else "cut", provider, stage)
