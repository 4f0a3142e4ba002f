"""The wire of OpenAI-compatible chat endpoints: presets, typed chunks, errors. No I/O.

Sources: the OpenAI API reference, "Chat Completions" and "Streaming" (``POST /chat/completions``,
``data:`` events ended by ``data: [DONE]``) and "Error codes"; ollama.com docs "OpenAI compatibility";
ai.google.dev "OpenAI compatibility"; docs.sarvam.ai "Chat Completion V1", "Errors & Troubleshooting"
(a wrong key is 403, spent credit 429 ``insufficient_quota_error``) and "reasoning_effort".
vLLM and others report a failure after the 200 as an event ``{"error": ...}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from antiphon.errors import ProviderError, ProviderRefused

DONE = b"[DONE]"
MAX_ERROR_BYTES = 16_384
SHOWN_CHARS = 200


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between endpoints. ``key`` names the variable that holds the secret."""

    base_url: str = ""
    model: str = ""
    key: str = ""
    key_needed: bool = False
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer"
    max_tokens_field: str = "max_tokens"
    body: dict[str, Any] = {}
    hint: str = ""


PRESETS = {
    "openai": Preset(
        base_url="https://api.openai.com/v1",
        model="gpt-5.4-mini",
        key="OPENAI_API_KEY",
        key_needed=True,
        max_tokens_field="max_completion_tokens",
        body={"reasoning_effort": "none"},
    ),
    "gemini": Preset(
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        model="gemini-3.5-flash",
        key="GEMINI_API_KEY",
        key_needed=True,
        body={"reasoning_effort": "minimal"},
    ),
    "sarvam": Preset(
        base_url="https://api.sarvam.ai/v1",
        model="sarvam-105b",
        key="SARVAM_API_KEY",
        key_needed=True,
        auth_header="api-subscription-key",
        auth_scheme="",
        body={"reasoning_effort": None},
    ),
    "ollama": Preset(
        base_url="http://localhost:11434/v1",
        key="OLLAMA_API_KEY",
        hint="run `ollama serve`, and `ollama pull` the model",
    ),
    "vllm": Preset(base_url="http://localhost:8000/v1", key="VLLM_API_KEY", hint="run `vllm serve <model>`"),
    "llama-server": Preset(
        base_url="http://localhost:8080/v1",
        model="default",
        key="LLAMA_API_KEY",
        hint="run `llama-server -m <model.gguf>`",
    ),
    "compatible": Preset(key="OPENAI_API_KEY"),
}
"""Reasoning is off or minimal where it can be: a caller waits. ``compatible`` is any other ``base_url``."""


class FunctionDelta(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCallDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None
    extra_content: Any = None


class Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class Choice(msgspec.Struct):
    """``delta`` in a stream, ``message`` in an answer that did not stream although it was asked to."""

    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Chunk(msgspec.Struct):
    choices: list[Choice] | None = None
    error: Any = None
    usage: Usage | None = None


class Model(msgspec.Struct):
    id: str


class ModelList(msgspec.Struct):
    """The answer to ``GET /models``."""

    data: list[Model]


chunk_decoder = msgspec.json.Decoder(Chunk)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After`` (seconds or a date, RFC 9110 section 10.2.3).

    ``now`` is Unix time in seconds. None if there is no usable value.
    """
    for name, divisor in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / divisor
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        date = parsedate_to_datetime(headers.get("Retry-After", ""))
    except (ValueError, TypeError):
        return None
    return max(0.0, date.timestamp() - now)


class Failure(msgspec.Struct, frozen=True):
    """What an error body says, in whatever shape it comes."""

    message: str = ""
    code: str = ""


def failure(body: bytes | object) -> Failure:
    """Reads ``{"error": {...}}``, ``{"error": "..."}``, ``[{"error": ...}]`` (Gemini), ``{"detail": ...}``."""
    value: Any = body
    if isinstance(body, bytes):
        try:
            value = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return Failure(" ".join(body.decode("utf-8", "replace").split())[:SHOWN_CHARS])
    if isinstance(value, list):
        value = value[0] if value else {}
    if isinstance(value, dict):
        value = value.get("error", value)
    if isinstance(value, dict):
        code = value.get("code") or value.get("type") or value.get("status") or ""
        kind = value.get("type") or value.get("status") or ""
        message = value.get("message") or value.get("detail") or ""
        return Failure(str(message)[:SHOWN_CHARS], f"{code} {kind}".strip().lower())
    return Failure(str(value)[:SHOWN_CHARS])


def error_for(status: int, said: Failure, provider: str, wait: float | None = None) -> ProviderError:
    """The coded error for an HTTP status, or for an error event (status 0)."""
    code = said.code
    if status in {401, 403} or "invalid_api_key" in code or "authentication" in code:
        # The endpoint's own words are left out: some repeat the key that they refuse.
        return ProviderRefused(
            f"the endpoint refuses the API key (HTTP {status})", provider=provider, stage="llm", code="llm.unauthorized"
        )
    detail = f": {said.message}" if said.message else ""
    refused = _refusal(status, code)
    if refused:
        text, stable = refused
        return ProviderRefused(f"{text} (HTTP {status}){detail}", provider=provider, stage="llm", code=stable)
    if status == 429 or "rate_limit" in code or "resource_exhausted" in code or code.startswith("429"):
        return ProviderError(
            f"too many requests{detail}",
            provider=provider,
            stage="llm",
            code="llm.rate_limited",
            retry_after_s=wait,
        )
    return ProviderError(
        f"the endpoint failed (HTTP {status}){detail}" if status else f"the endpoint failed{detail}",
        provider=provider,
        stage="llm",
        code="llm.server",
        retry_after_s=wait,
    )


def _refusal(status: int, code: str) -> tuple[str, str] | None:
    if status == 402 or "insufficient_quota" in code or "quota_exceeded" in code:
        return "the account has no credit left", "llm.quota"
    if "content_filter" in code or "content_policy" in code:
        return "the endpoint refuses this text", "llm.refused"
    if "context_length" in code:
        return "the conversation is longer than the model takes", "llm.too_long"
    if status == 404 or "model_not_found" in code:
        return "there is no such model or address", "llm.not_found"
    if 300 <= status < 400:
        return "the endpoint sends us elsewhere: correct base_url", "llm.bad_endpoint"
    if 400 <= status < 500 and status not in {408, 409, 425, 429}:
        return "the endpoint refuses the request", "llm.bad_request"
    return None
