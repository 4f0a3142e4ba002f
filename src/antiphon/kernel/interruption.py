"""Interruption: what counts as taking the floor. Silence comes first; this decides afterwards.

A sound during playback pauses it at once. Words that are more than a backchannel confirm the
barge-in; a backchannel or nothing at all lets the reply go on.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache

from antiphon.kernel.policy import Policy

_APART = re.compile(r"[\s\u0964\u0965.,!?;:\"'()\[\]…]+")


class Words(StrEnum):
    NONE = "none"
    BACKCHANNEL = "backchannel"
    SPEECH = "speech"


def tokens(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation; "mm-hm" stays one word."""
    return tuple(word for word in _APART.split(text.lower()) if word.strip("-"))


@lru_cache(maxsize=64)
def _phrases(listed: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    return frozenset(tokens(phrase) for phrase in listed)


@lru_cache(maxsize=64)
def _longest(listed: tuple[str, ...]) -> int:
    return max((len(phrase) for phrase in _phrases(listed)), default=0)


def weigh(text: str, language: str, policy: Policy) -> Words:
    """Weighs what the caller said over the agent's speech.

    Backchannels of the call's language and of English count (code-mixed speech is common). What is
    left after taking them away has to reach ``interrupt_words`` to be speech.
    """
    words = tokens(text)
    if not words:
        return Words.NONE
    listed = policy.backchannels.get(language, ()) + policy.backchannels.get("en-IN", ())
    phrases, longest = _phrases(listed), _longest(listed)
    left, at = 0, 0
    while at < len(words):
        for size in range(min(longest, len(words) - at), 0, -1):
            if words[at : at + size] in phrases:
                at += size
                break
        else:
            left += 1
            at += 1
    return Words.SPEECH if left >= max(policy.interrupt_words, 1) else Words.BACKCHANNEL
