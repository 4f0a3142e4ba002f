"""The wire of OpenAI-compatible chat endpoints: presets and typed chunks. No I/O.

Sources: the OpenAI API reference, "Chat Completions" and "Streaming" (``POST /chat/completions``,
``data:`` events ended by ``data: [DONE]``) and "Error codes"; ollama.com docs "OpenAI compatibility";
ai.google.dev "OpenAI compatibility"; docs.sarvam.ai "Chat Completion V1", "Errors & Troubleshooting"
(a wrong key is 403, spent credit 429 ``insufficient_quota_error``) and "reasoning_effort".
vLLM and others report a failure after the 200 as an event ``{"error": ...}``.
"""

from __future__ import annotations

from typing import Any

import msgspec

DONE = b"[DONE]"


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
        model="gemini-3.5-flash-lite",
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
