"""Interruption: what counts as taking the floor. Silence comes first; this decides afterwards.

A sound during playback pauses it at once. Words that are more than a backchannel confirm the
barge-in; a backchannel or nothing at all lets the reply go on.

A recogniser's first guess at a murmur is often a short word of another kind ("what" for "okay"). Since
playback is silent already, waiting costs nothing: in a partial such words do not count, and one word
alone counts only once it has stood in two partials.

Words that the agent is just saying, several in a row and in its order, are its own: an echo that the ear let through,
or that the caller's own transcriber heard. One word alone is the caller's ("yes, fees"), and so are two once it is
their last word on it: people answer with the words they were offered ("hostel fees").
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache

from antiphon.kernel.policy import Policy

OWN_IN_PARTIAL, OWN_IN_FINAL = 2, 3
"""Words in a row from which on they are the agent's: a partial can wait for the next one."""

_APART = re.compile(r"[\s\u0964\u0965.,!?;:\"'()\[\]…]+")


def prepare(policy: Policy) -> None:
    """Makes the tables of all lists that ``policy`` has, so that a server's first caller does not wait for them."""
    for language in policy.backchannels:
        without_backchannels(("",), language, policy)
    for phrases in policy.language_requests.values():
        contains((), phrases)


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
def _by_first_word(listed: tuple[str, ...]) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for phrase in sorted(_phrases(listed)):
        if phrase:
            found.setdefault(phrase[0], []).append(phrase)
    return found


@lru_cache(maxsize=64)
def _longest(listed: tuple[str, ...]) -> int:
    return max((len(phrase) for phrase in _phrases(listed)), default=0)


def weigh(text: str, language: str, policy: Policy, own: tuple[str, ...] = ()) -> Words:
    """Weighs what the caller said over the agent's speech, by the transcriber's last word on it.

    What is left after taking the backchannels away has to reach ``interrupt_words`` to be speech. Beside a
    backchannel, words that nobody ends with ("mm-hm the") are taken for a part of it. ``own`` are the agent's words.
    """
    words = tokens(text)
    if not words:
        return Words.NONE
    words = without_own(words, own, OWN_IN_FINAL)
    left = without_backchannels(words, language, policy)
    if len(left) < len(words):
        left = [word for word in left if word not in policy.unfinished.get(language, ())]
    return Words.SPEECH if len(left) >= max(policy.interrupt_words, 1) else Words.BACKCHANNEL


def confirms(partial: str, before: str, language: str, policy: Policy, own: tuple[str, ...] = ()) -> bool:
    """True if a partial is speech beyond doubt: two words of weight, or one that the partial before had, too."""
    now, then = (_weighty(text, language, policy, own) for text in (partial, before))
    needed = max(policy.interrupt_words, 1)
    return len(now) >= needed and (len(now) > 1 or any(word in then for word in now))


def _weighty(text: str, language: str, policy: Policy, own: tuple[str, ...]) -> list[str]:
    light = policy.unfinished.get(language, ())
    words = without_own(tokens(text), own, OWN_IN_PARTIAL)
    return [word for word in without_backchannels(words, language, policy) if word not in light]


def without_own(words: tuple[str, ...], own: tuple[str, ...], run: int) -> tuple[str, ...]:
    """What is left without ``run`` or more words in a row that stand so in ``own``."""
    places: dict[tuple[str, ...], list[int]] = {}
    for start in range(len(own) - run + 1):
        places.setdefault(own[start : start + run], []).append(start)
    left: list[str] = []
    at = 0
    while at < len(words):
        starts = places.get(words[at : at + run], ())
        if starts:
            at += max(_alike(words, at, own, start) for start in starts)
        else:
            left.append(words[at])
            at += 1
    return tuple(left)


def _alike(one: tuple[str, ...], at: int, other: tuple[str, ...], start: int) -> int:
    """How many words the two have in common from there on."""
    most = min(len(one) - at, len(other) - start)
    return next((count for count in range(most) if one[at + count] != other[start + count]), most)


def same_words(one: str, other: str) -> bool:
    """The same but for case and punctuation."""
    return one == other or tokens(one) == tokens(other)


def contains(words: tuple[str, ...], phrases: tuple[str, ...]) -> bool:
    """True if one of the phrases stands somewhere in the words, as whole words."""
    begun = _by_first_word(phrases)
    return any(
        words[at : at + len(phrase)] == phrase for at, word in enumerate(words) for phrase in begun.get(word, ())
    )


def without_backchannels(words: tuple[str, ...], language: str, policy: Policy) -> list[str]:
    """What is left; backchannels of the language and of English count (code-mixed speech is common)."""
    listed = policy.backchannels.get(language, ()) + policy.backchannels.get("en-IN", ())
    phrases, longest = _phrases(listed), _longest(listed)
    left: list[str] = []
    at = 0
    while at < len(words):
        for size in range(min(longest, len(words) - at), 0, -1):
            if words[at : at + size] in phrases:
                at += size
                break
        else:
            left.append(words[at])
            at += 1
    return left
