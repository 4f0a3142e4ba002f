"""What a service on the network answers when it does not do its work, as coded errors. No I/O.

Sources: RFC 9110 (status codes, ``Retry-After``) and the vendors' pages on errors; OpenAI, Gemini, Sarvam and
ElevenLabs put the reason into the body in shapes of their own (``failure``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from antiphon.errors import UNUSABLE, ProviderError, ProviderRefused
from antiphon.secret import Secret

MAX_ERROR_BYTES = 16_384
SHOWN_CHARS = 200


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
    wait: float | None = None
    """Seconds to wait, where the body itself says it (Gemini)."""

    def without(self, key: Secret) -> Failure:
        """As it may be shown: without our key, should the endpoint repeat it, and then cut to ``SHOWN_CHARS``."""
        secret = key.reveal()
        message = self.message.replace(secret, "***") if secret else self.message
        return msgspec.structs.replace(self, message=message[:SHOWN_CHARS])


def failure(body: bytes | object) -> Failure:
    """Reads ``{"error": {...}}``, ``{"error": "..."}``, ``[{"error": ...}]`` (Gemini), ``{"detail": ...}``.

    The message is whole: cut before our key is taken out of it, it would show the key's beginning (``without``).
    """
    value: Any = body
    if isinstance(body, bytes):
        try:
            value = msgspec.json.decode(body)
        except UNUSABLE:
            return Failure(" ".join(body.decode("utf-8", "replace").split()))
    if isinstance(value, list):
        value = value[0] if value else {}
    if isinstance(value, dict):
        value = value.get("error", value)
    if isinstance(value, dict) and isinstance(value.get("detail"), dict):
        value = value["detail"]
    if isinstance(value, dict):
        reason, wait = _details(value.get("details"))
        code = value.get("code") or value.get("type") or value.get("status") or ""
        kind = value.get("type") or value.get("status") or ""
        message = value.get("message") or value.get("detail") or ""
        return Failure(str(message), f"{code} {kind} {reason}".strip().lower(), wait)
    return Failure(str(value))


def _details(details: object) -> tuple[str, float | None]:
    """The reason and the wait among google.rpc's ``ErrorInfo`` and ``RetryInfo`` (Gemini: the header is not sent)."""
    reason, wait = "", None
    for each in details if isinstance(details, list) else ():
        if isinstance(each, dict):
            reason = str(each.get("reason") or reason)
            wait = retry_after({"Retry-After": str(each.get("retryDelay", "")).removesuffix("s")}, 0.0) or wait
    return reason[:SHOWN_CHARS], wait


def failed(text: str, code: str, provider: str, stage: str) -> ProviderError:
    """A failure of ``stage``; ``code`` is without the stage's name, such as ``cut``."""
    return ProviderError(text, provider=provider, stage=stage, code=f"{stage}.{code}")


def refused(text: str, code: str, provider: str, stage: str) -> ProviderRefused:
    """Trying again will not help."""
    return ProviderRefused(text, provider=provider, stage=stage, code=f"{stage}.{code}")


_WRONG_KEY = ("invalid_api_key", "api_key_invalid", "authentication")


def closed(provider: str, stage: str) -> ProviderError:
    """The provider was closed under a request, or before it."""
    text = f"{provider} was closed"
    return ProviderError(text, provider=provider, stage=stage, code=f"{stage}.closed", retryable=False)


def error_for(status: int, said: Failure, provider: str, stage: str, wait: float | None = None) -> ProviderError:
    """The coded error for an HTTP status, or for an error event (status 0).

    Codes, after ``<stage>.``: unauthorized, quota, refused, too_long, not_found, bad_endpoint,
    bad_request, rate_limited, server.
    """
    code = said.code
    # ElevenLabs answers 401 for a spent quota too, and Gemini 400 for a wrong key.
    spent = "quota_exceeded" in code
    if not spent and (status in {401, 403} or any(each in code for each in _WRONG_KEY)):
        # The endpoint's own words are left out: some repeat the key that they refuse.
        return refused(f"the endpoint refuses the API key (HTTP {status})", "unauthorized", provider, stage)
    detail = f": {said.message}" if said.message else ""
    refusal = _refusal(status, code)
    if refusal:
        text, stable = refusal
        return refused(f"{text} (HTTP {status}){detail}", stable, provider, stage)
    if status == 429 or "rate_limit" in code or "resource_exhausted" in code or code.startswith("429"):
        return ProviderError(
            f"too many requests{detail}",
            provider=provider,
            stage=stage,
            code=f"{stage}.rate_limited",
            retry_after_s=wait if wait is not None else said.wait,
        )
    return ProviderError(
        f"the endpoint failed (HTTP {status}){detail}" if status else f"the endpoint failed{detail}",
        provider=provider,
        stage=stage,
        code=f"{stage}.server",
        retry_after_s=wait,
    )


def _refusal(status: int, code: str) -> tuple[str, str] | None:
    if status == 402 or "insufficient_quota" in code or "quota_exceeded" in code:
        return "the account has no credit left", "quota"
    if "content_filter" in code or "content_policy" in code:
        return "the endpoint refuses this text", "refused"
    if "context_length" in code:
        return "the conversation is longer than the model takes", "too_long"
    if status == 404 or "model_not_found" in code:
        return "there is no such model or address", "not_found"
    if 300 <= status < 400:
        return "the endpoint sends us elsewhere: correct base_url", "bad_endpoint"
    if 400 <= status < 500 and status not in {408, 409, 425, 429}:
        return "the endpoint refuses the request", "bad_request"
    return None
