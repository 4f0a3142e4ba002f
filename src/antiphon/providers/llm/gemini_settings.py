"""Settings of the ``gemini`` responder, and the request they make."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from antiphon.errors import ConfigError
from antiphon.providers.endpoints import api_key, check_url
from antiphon.providers.llm.gemini_wire import declarations
from antiphon.providers.llm.tool_calls import Tool
from antiphon.secret import Secret

Seconds = Annotated[float, Meta(gt=0, le=600)]
WHERE = "[llm] gemini"
BASE_URL = "https://generativelanguage.googleapis.com/v1beta"
_MODEL = re.compile(r"[A-Za-z0-9._-]{1,100}")


class GeminiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them have defaults; ``GEMINI_API_KEY`` is needed.

    ``model``: the default is the fastest of the stable ones (ai.google.dev, "Gemini 3.5 Flash-Lite").
    ``thinking``: minimal, low, medium or high (Gemini 3; not every model takes minimal), off (Gemini 2.5 Flash),
    or default, which leaves it to the model. A caller waits for all of it. ``safety`` maps harm categories to
    thresholds (``HARM_CATEGORY_HARASSMENT = "BLOCK_ONLY_HIGH"``). ``body`` is added to each request and
    ``headers`` too. ``max_tokens`` counts thinking. Times in seconds: ``first_token_s`` is for everything before
    the first useful text; ``between_tokens_s`` for each wait after it; ``total_s`` for all waiting of a reply,
    the time of tools and of a slow reader left out. A failed request is told; ``[llm.limits]`` says how often it
    is sent again.
    """

    base_url: str = BASE_URL
    model: str = "gemini-3.5-flash-lite"
    api_key: Secret = Secret("")
    api_key_env: str = "GEMINI_API_KEY"
    thinking: Literal["minimal", "low", "medium", "high", "off", "default"] = "minimal"
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=100_000)] = 512
    safety: dict[str, str] = {}
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
    """Where requests go and what each of them holds but the conversation. ``key`` is shown by nobody."""

    base_url: str
    model: str
    key: Secret
    headers: dict[str, str]
    body: dict[str, Any]

    def request_headers(self) -> dict[str, str]:
        made = {"Accept": "text/event-stream", "Accept-Encoding": "identity", **self.headers}
        return {**made, "x-goog-api-key": self.key.reveal()}

    @property
    def model_url(self) -> str:
        return f"{self.base_url}/models/{self.model}"


def endpoint(settings: GeminiSettings) -> Endpoint:
    """Raises ``ConfigError`` for what is missing or cannot be."""
    base_url = settings.base_url.rstrip("/")
    check_url(base_url, "base_url", WHERE, BASE_URL)
    model = settings.model.removeprefix("models/")
    if not _MODEL.fullmatch(model):
        raise ConfigError(f'{WHERE}: model must be such as "gemini-3.5-flash-lite", not {settings.model!r}')
    generation: dict[str, Any] = {"maxOutputTokens": settings.max_tokens}
    if settings.temperature is not None:
        generation["temperature"] = settings.temperature
    if settings.thinking == "off":
        generation["thinkingConfig"] = {"thinkingBudget": 0}
    elif settings.thinking != "default":
        generation["thinkingConfig"] = {"thinkingLevel": settings.thinking.upper()}
    body: dict[str, Any] = {"generationConfig": generation}
    if settings.safety:
        body["safetySettings"] = [{"category": name, "threshold": limit} for name, limit in settings.safety.items()]
    if settings.tools:
        body["tools"] = declarations(settings.tools)
    return Endpoint(
        base_url=base_url,
        model=model,
        key=api_key(settings.api_key, settings.api_key_env, WHERE),
        headers=dict(settings.headers),
        body={**body, **settings.body},
    )
