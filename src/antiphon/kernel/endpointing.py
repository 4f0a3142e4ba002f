"""Endpointing: how long a caller's silence must last before their turn is over. The rule lives here."""

from __future__ import annotations

from antiphon.kernel.interruption import tokens
from antiphon.kernel.policy import Policy


def silence_needed(text: str, language: str, policy: Policy) -> int:
    """Milliseconds of silence after ``text`` (the latest partial) that end the turn."""
    return policy.endpoint_unfinished_ms if is_unfinished(text, language, policy) else policy.endpoint_ms


def is_unfinished(text: str, language: str, policy: Policy) -> bool:
    """True after a trailing comma, an ellipsis, or a word of the language's unfinished list."""
    stripped = text.rstrip()
    if stripped.endswith((",", "…", "...", "-")):
        return True
    words = tokens(stripped)
    return bool(words) and words[-1] in policy.unfinished.get(language, ())
