"""How much of what people say is shown where a journal is not meant: in logs and reports."""

from __future__ import annotations


def clipped(text: str, limit: int = 50) -> str:
    """At most ``limit`` characters of ``text``, the last of them an ellipsis if there was more.

    What callers say is personal: so much of it is enough to find the turn again in the journal.
    """
    return text if len(text) <= limit else text[: limit - 1] + "…"
