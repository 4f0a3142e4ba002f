"""Settings of the ``openai`` responder, and what becomes of them with a preset."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from antiphon.errors import ConfigError
from antiphon.providers.endpoints import api_key, check_url
from antiphon.providers.llm.openai_wire import PRESETS
from antiphon.providers.llm.tool_calls import Tool
from antiphon.secret import Secret

Seconds = Annotated[float, Meta(gt=0, le=600)]
WHERE = "[llm] openai"


class OpenAISettings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them have defaults; with nothing set, ``OPENAI_API_KEY`` is needed.

    ``preset``: openai, gemini, sarvam, ollama, vllm, llama-server, or compatible (any ``base_url``).
    ``api_key_env`` names another variable for the key. ``headers`` and ``body`` are added to each
    request. Times in seconds: ``first_token_s`` is for everything before the first useful text;
    ``between_tokens_s`` for each wait after it; ``total_s`` for all waiting of a reply, the time of tools
    and of a slow reader left out. A failed request is told; ``[llm.limits]`` says how often it is sent again.
    """

    preset: str = ""
    base_url: str = ""
    model: str = ""
    api_key: Secret = Secret("")
    api_key_env: str = ""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=100_000)] = 512
    reasoning_effort: str = ""
    system_prompt: Annotated[str, Meta(max_length=50_000)] = ""
    max_history: Annotated[int, Meta(ge=0, le=200)] = 20
    headers: dict[str, str] = {}
    body: dict[str, Any] = {}
    connect_s: Seconds = 2.0
    first_token_s: Seconds = 4.0
    between_tokens_s: Seconds = 5.0
    total_s: Seconds = 15.0
    tools: tuple[Tool, ...] = ()
    max_tool_rounds: Annotated[int, Meta(ge=1, le=10)] = 3
    max_connections: Annotated[int, Meta(ge=1, le=10_000)] = 512


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests go and what each of them holds. ``key`` is shown by nobody."""

    base_url: str
    model: str
    key: Secret
    headers: dict[str, str]
    body: dict[str, Any]
    auth_header: str
    auth_scheme: str
    hint: str = ""

    def request_headers(self) -> dict[str, str]:
        made = {"Accept": "text/event-stream", "Accept-Encoding": "identity", **self.headers}
        if self.key:
            made[self.auth_header] = f"{self.auth_scheme} {self.key.reveal()}".strip()
        return made


def endpoint(settings: OpenAISettings) -> Endpoint:
    """Puts settings and preset together. Raises ``ConfigError`` for what is missing or cannot be."""
    name = settings.preset or ("compatible" if settings.base_url else "openai")
    if name not in PRESETS:
        raise ConfigError(f"{WHERE}: preset: there is no {name!r}: choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    base_url = (settings.base_url or preset.base_url).rstrip("/")
    model = settings.model or preset.model
    check_url(base_url, "base_url", WHERE, "http://localhost:11434/v1")
    if not model:
        hint = f" ({preset.hint})" if preset.hint else ""
        raise ConfigError(f"{WHERE}: model must be set for preset {name!r}{hint}", code="config.missing_value")
    variable = settings.api_key_env or preset.key
    key = api_key(settings.api_key, variable, WHERE, needed=preset.key_needed or bool(settings.api_key_env))
    body: dict[str, Any] = {"model": model, "stream": True, preset.max_tokens_field: settings.max_tokens, **preset.body}
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.reasoning_effort:
        body["reasoning_effort"] = settings.reasoning_effort
    if settings.tools:
        body["tools"] = [tool.declaration() for tool in settings.tools]
    return Endpoint(
        base_url=base_url,
        model=model,
        key=key,
        headers=dict(settings.headers),
        body={**body, **settings.body},
        auth_header=preset.auth_header,
        auth_scheme=preset.auth_scheme,
        hint=preset.hint,
    )
