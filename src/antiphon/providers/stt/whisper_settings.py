"""Settings of the ``whisper`` transcriber, what becomes of them with a preset, and the fields of a request. No I/O.

Sources (read in November 2026): the OpenAI API reference, "Create transcription" and the models' pages (``whisper-1``
and the ``gpt-4o`` transcribers are announced to end on 2027-02-26, ``gpt-transcribe`` takes their place), the OpenAI
cookbook "Migrate from Whisper to GPT-Transcribe" (``languages`` and ``keywords`` in place of ``language``, and what a
keyword may not hold); console.groq.com "Speech to Text"; speaches.ai and docs.vllm.ai on their transcription servers.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from antiphon.errors import ConfigError
from antiphon.providers.endpoints import api_key, check_url
from antiphon.providers.stt.whisper_text import code_of
from antiphon.secret import Secret

Seconds = Annotated[float, Meta(gt=0, le=600)]
Tag = Annotated[str, Meta(min_length=2, max_length=35)]
Keyword = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^<>\r\n]+$")]
WHERE = "[stt] whisper"

Fields = tuple[tuple[str, str], ...]
"""Names and values of a form, besides the file."""


class WhisperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them have defaults; with nothing set, ``OPENAI_API_KEY`` is needed.

    ``preset``: openai, groq, speaches, vllm, or compatible (any ``base_url``). ``api_key_env`` names another variable
    for the key. ``language``: ``call`` tells the model what the call expects, which is heard better; with ``detect``
    the model finds it out, and its word may change the call's language (``gpt-transcribe`` takes what it is told for
    a hint and finds it out in any case). ``languages``: the BCP 47 tags that callers may speak; they decide which tag
    "english" means, and ``gpt-transcribe`` is told them. ``prompt``: a sentence on
    what is talked about, in the callers' language; ``keywords``: names that may be said. ``no_speech``: the
    probability of silence from which unsure words are not believed (1: never). ``interim_ms``: with a number above 0
    the beginning is transcribed each so many milliseconds of audio, each time a request of its own that is paid for.
    ``response_format`` and ``stream`` are for servers whose model's name does not tell what they can. ``form`` is
    added to each request. Seconds: ``first_s`` before anything useful of an answer, ``between_s`` for each wait after
    it, ``total_s`` for all waiting. A failed request is told; ``[stt.limits]`` says how often it is sent again.
    """

    preset: str = ""
    base_url: str = ""
    model: str = ""
    api_key: Secret = Secret("")
    api_key_env: str = ""
    language: Literal["call", "detect"] = "call"
    languages: Annotated[tuple[Tag, ...], Meta(max_length=20)] = ()
    prompt: Annotated[str, Meta(max_length=2000)] = ""
    keywords: Annotated[tuple[Keyword, ...], Meta(max_length=100)] = ()
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    no_speech: Annotated[float, Meta(gt=0, le=1)] = 0.6
    interim_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    response_format: Literal["auto", "json", "verbose_json"] = "auto"
    stream: Literal["auto", "on", "off"] = "auto"
    form: dict[str, str] = {}
    headers: dict[str, str] = {}
    connect_s: Seconds = 2.0
    first_s: Seconds = 8.0
    between_s: Seconds = 5.0
    total_s: Seconds = 15.0
    max_connections: Annotated[int, Meta(ge=1, le=10_000)] = 512

    def __post_init__(self) -> None:
        if 0 < self.interim_ms < 300:
            raise ValueError("interim_ms is at least 300, or 0 for none")


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between endpoints. ``key`` names the variable that holds the secret."""

    base_url: str = ""
    model: str = ""
    key: str = ""
    key_needed: bool = False
    hint: str = ""


_LOCAL = "http://localhost:8000/v1"

PRESETS = {
    "openai": Preset(
        base_url="https://api.openai.com/v1", model="gpt-transcribe", key="OPENAI_API_KEY", key_needed=True
    ),
    "groq": Preset(
        base_url="https://api.groq.com/openai/v1", model="whisper-large-v3-turbo", key="GROQ_API_KEY", key_needed=True
    ),
    "speaches": Preset(
        base_url=_LOCAL,
        model="Systran/faster-whisper-small",
        key="SPEACHES_API_KEY",
        hint="start speaches, and have it load the model (POST /v1/models/<model>)",
    ),
    "vllm": Preset(base_url=_LOCAL, key="VLLM_API_KEY", hint="run `vllm serve <a Whisper model>`"),
    "compatible": Preset(key="OPENAI_API_KEY"),
}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests go, with which key and which form. ``key`` is shown by nobody."""

    base_url: str
    model: str
    key: Secret
    headers: dict[str, str]
    hint: str

    def request_headers(self) -> dict[str, str]:
        made = {"Accept": "application/json, text/event-stream", "Accept-Encoding": "identity", **self.headers}
        if self.key:
            made["Authorization"] = f"Bearer {self.key.reveal()}"
        return made


def endpoint(settings: WhisperSettings) -> Endpoint:
    """Puts settings and preset together. Raises ``ConfigError`` for what is missing or cannot be."""
    name = settings.preset or ("compatible" if settings.base_url else "openai")
    if name not in PRESETS:
        raise ConfigError(f"{WHERE}: preset: there is no {name!r}: choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    base_url = (settings.base_url or preset.base_url).rstrip("/")
    model = settings.model or preset.model
    check_url(base_url, "base_url", WHERE, _LOCAL)
    if not model:
        raise ConfigError(f"{WHERE}: model must be set for preset {name!r}", code="config.missing_value")
    key = api_key(
        settings.api_key,
        settings.api_key_env or preset.key,
        WHERE,
        needed=preset.key_needed or bool(settings.api_key_env),
    )
    return Endpoint(base_url=base_url, model=model, key=key, headers=dict(settings.headers), hint=preset.hint)


def streams(settings: WhisperSettings, model: str) -> bool:
    """Whether the text comes piece by piece. ``whisper-1`` and the servers of that model answer in one piece."""
    return settings.stream == "on" or (settings.stream == "auto" and _is_gpt(model))


def form_of(settings: WhisperSettings, model: str, language: str) -> Fields:
    """The form of a request. ``language``: the BCP 47 tag that the call expects, or "".

    ``gpt-transcribe`` takes several languages, and keywords, as hints. The others take one language, which then holds,
    and words to expect as part of the prompt. Only Whisper itself tells how sure it was of each segment
    (``verbose_json``); the ``gpt-4o`` transcribers tell so of each token.
    """
    hinted = model.startswith("gpt-transcribe")
    verbose = settings.response_format == "verbose_json" or (settings.response_format == "auto" and not _is_gpt(model))
    fields = [("model", model), ("response_format", "verbose_json" if verbose else "json")]
    told = code_of(language) if settings.language == "call" else ""
    if hinted:
        codes = dict.fromkeys((told, *map(code_of, settings.languages)))
        fields += [("languages[]", code) for code in codes if code]
        fields += [("keywords[]", word) for word in settings.keywords]
    elif told:
        fields.append(("language", told))
    prompt = " ".join(part for part in (settings.prompt, "" if hinted else ", ".join(settings.keywords)) if part)
    if prompt:
        fields.append(("prompt", prompt))
    if model.startswith("gpt-4o") and "diarize" not in model and not verbose:
        fields.append(("include[]", "logprobs"))
    if settings.temperature is not None:
        fields.append(("temperature", f"{settings.temperature:g}"))
    if streams(settings, model):
        fields.append(("stream", "true"))
    return (*(field for field in fields if field[0] not in settings.form), *settings.form.items())


def _is_gpt(model: str) -> bool:
    return model.startswith("gpt-")
