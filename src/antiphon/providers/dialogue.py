"""Reading a conversation without a model: what a short utterance wants, and what it answers to. Pure.

Shared by the classifier, the retriever and the extractive responder, so that the three agree on what
"yes" means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from antiphon.kernel.history import Message
from antiphon.kernel.interruption import tokens
from antiphon.languages import DEFAULT_LANGUAGE, INTENTS, Language, find_language

MAX_WORDS = 14
"""A longer utterance is a question, whatever else it holds."""

_OPENING = 4
"""A phrase counts as spoken once its first words were heard: the caller may have answered before its end."""

ASKED = ("did_you_mean", "offer_person", "anything_else", "thanks_reply", "help", "greet_reply")
"""Phrases that a yes or a no can answer."""

AGAIN = frozenset({"repeat", "slower", "louder"})
"""Intents that want the last answer once more."""

Words = tuple[str, ...]


class _Tables(msgspec.Struct, frozen=True):
    """One language's lists with English added (code-mixed speech is common), split into words."""

    intents: dict[Words, str]
    fillers: frozenset[Words]
    follow_up: frozenset[Words]
    pointing: frozenset[Words]
    openings: tuple[tuple[Words, str], ...]
    longest: int


class Dialogue:
    """The word lists of all languages, ready for use. Unknown tags are read as the nearest language."""

    def __init__(self, languages: Mapping[str, Language]) -> None:
        self.languages = languages
        self._tables: dict[str, _Tables] = {}
        for tag in languages:
            self._of(tag)

    def recognise(self, text: str, tag: str) -> str:
        """The intent of an utterance that is wholly made of known phrases; ``""`` for anything else.

        Fillers ("please", "okay") count only if there is nothing else. Of several intents the first in
        ``INTENTS`` wins: "thanks, bye" is a goodbye, and "hello, what are the fees" is none of them.
        """
        words = tokens(text)
        if not 0 < len(words) <= MAX_WORDS:
            return ""
        found = _cover(words, self._of(tag))
        return min(found, key=INTENTS.index) if found else ""

    def asked(self, history: Sequence[Message], tag: str) -> str:
        """The kind of phrase in the agent's last message that a yes or no would answer, the latest; or ``""``."""
        said = tokens(last_answer(history))
        latest, kind_asked = -1, ""
        for opening, kind in self._of(tag).openings:
            at = _find(opening, said)
            if at > latest:
                latest, kind_asked = at, kind
        return kind_asked

    def after_phrase(self, text: str, kind: str, tag: str) -> str:
        """What follows a phrase's fixed beginning in ``text``: the question in "Did you mean: ..."."""
        for language in _both(tag, self.languages):
            for variant in language.phrases.get(kind, ()):
                head = variant.partition("{")[0].strip()
                at = text.rfind(head)
                if head and at >= 0:
                    return text[at + len(head) :].strip()
        return ""

    def follows_on(self, text: str, tag: str) -> bool:
        """The utterance leans on what was said before: "and for ...", "how much is that", or a mere fragment."""
        tables, words = self._of(tag), tokens(text)
        if not 0 < len(words) <= MAX_WORDS:
            return False
        opens = any(words[:size] in tables.follow_up for size in range(1, min(len(words), 5) + 1))
        points = any((word,) in tables.pointing for word in words)
        return opens or points or len(words) <= 3

    def without_opener(self, text: str, tag: str) -> str:
        """The utterance without "and what about" and the like; the whole if nothing else is left."""
        tables, words = self._of(tag), tokens(text)
        for size in range(min(len(words) - 1, 5), 0, -1):
            if words[:size] in tables.follow_up:
                return " ".join(words[size:])
        return text

    def _of(self, tag: str) -> _Tables:
        chosen = find_language(tag, self.languages)
        if chosen.tag not in self._tables:
            self._tables[chosen.tag] = _tables(_both(chosen.tag, self.languages))
        return self._tables[chosen.tag]


def last_answer(history: Sequence[Message]) -> str:
    """What the caller last heard."""
    return next((m.content for m in reversed(history) if m.role == "assistant" and m.content.strip()), "")


def last_question(history: Sequence[Message]) -> str:
    """What the caller last said."""
    return next((m.content for m in reversed(history) if m.role == "user" and m.content.strip()), "")


def _cover(words: Words, tables: _Tables) -> set[str]:
    """The intents of the phrases that the words are made of; none if a word is left over."""
    strong: set[str] = set()
    weak: set[str] = set()
    at = 0
    while at < len(words):
        for size in range(min(tables.longest, len(words) - at), 0, -1):
            piece = words[at : at + size]
            filler, intent = piece in tables.fillers, tables.intents.get(piece)
            if filler or intent:
                if intent:
                    (weak if filler else strong).add(intent)
                at += size
                break
        else:
            return set()
    return strong or weak


def _both(tag: str, languages: Mapping[str, Language]) -> list[Language]:
    chosen = find_language(tag, languages)
    english = find_language(DEFAULT_LANGUAGE, languages)
    return [chosen] if chosen.tag == english.tag else [chosen, english]


def _tables(both: Sequence[Language]) -> _Tables:
    intents: dict[Words, str] = {}
    openings: list[tuple[Words, str]] = []
    for language in both:
        named = dict(language.intents)
        named["affirm"] = (*named.get("affirm", ()), *language.words.yes)
        named["deny"] = (*named.get("deny", ()), *language.words.no)
        for intent in INTENTS:
            for phrase in _split(named.get(intent, ())):
                intents.setdefault(phrase, intent)
        for kind in ASKED:
            for variant in language.phrases.get(kind, ()):
                openings.append((tokens(variant.partition("{")[0])[:_OPENING], kind))
    fillers = _split(word for language in both for word in language.words.fillers)
    return _Tables(
        intents=intents,
        fillers=fillers,
        follow_up=_split(word for language in both for word in language.words.follow_up),
        pointing=_split(word for language in both for word in language.words.pointing),
        openings=tuple(openings),
        longest=max((len(phrase) for phrase in (*intents, *fillers)), default=0),
    )


def _split(listed: Iterable[str]) -> frozenset[Words]:
    return frozenset(tokens(phrase) for phrase in listed) - {()}


def _find(part: Words, whole: Words) -> int:
    """Where ``part`` last begins in ``whole``, or -1."""
    if not part:
        return -1
    return next((at for at in range(len(whole) - len(part), -1, -1) if whole[at : at + len(part)] == part), -1)
