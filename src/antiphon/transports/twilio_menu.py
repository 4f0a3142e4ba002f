"""The spoken menu before the stream: each language offered in itself, and which one an answer means (A68).

A caller may press the key or say the language's name, in whatever language and much as a recogniser spells it.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from difflib import SequenceMatcher
from typing import Final

import msgspec

from antiphon.kernel.interruption import contains, tokens
from antiphon.languages import Language, find_language, listed, menu_prompt

log = logging.getLogger("antiphon.transports.twilio_menu")

MAX_CHOICES: Final = 9
"""One key each."""
MAX_SPEECH: Final = 200
"""Characters of an answer; who says more did not answer this question."""
CLOSE: Final = 0.8
"""A word so like a name (``difflib``) is taken for it: "telegu", "gujrati"."""
SHORTEST: Final = 4
"""Shorter words are like many."""
COUNTED_WORDS: Final = 3
"""A number in words ends an answer no longer than this: "press two". In a longer one it may be an article."""
MAX_HINT: Final = 100
"""Characters in one of ``<Gather>``'s hints; there may be 500 (Twilio, "TwiML Voice: <Gather>", hints)."""


class MenuChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the menu: press ``digit`` for ``language``; ``prompt`` is said in it.

    ``names``: what the language is called. ``requests``: sentences that ask for it. ``counted``: the digit in words.
    """

    digit: str
    language: str
    prompt: str
    names: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()


class LanguageMenu(msgspec.Struct, frozen=True, kw_only=True):
    """``hears``: the language that the carrier's recogniser expects (BCP 47), with ``hints`` of what may be said."""

    choices: tuple[MenuChoice, ...] = ()
    hears: str = "en-IN"
    hints: tuple[str, ...] = ()

    def meant(self, digits: str, speech: str) -> str:
        """The language of an answer; "" if it means none of them, or more than one."""
        if digits:
            return next((each.language for each in self.choices if each.digit == digits), "")
        words = tokens(speech[:MAX_SPEECH])
        if not words:
            return ""
        ways: tuple[Callable[[MenuChoice], bool], ...] = (
            lambda each: contains(words, each.requests),
            lambda each: contains(words, each.names),
            lambda each: _sounds_like(words, each.names),
            lambda each: each.digit in words or (len(words) <= COUNTED_WORDS and words[-1] in each.counted),
        )
        for is_meant in ways:
            found = {each.language for each in self.choices if is_meant(each)}
            if found:
                return found.pop() if len(found) == 1 else ""
        return ""


def menu_of(offered: Iterable[str], default: str, languages: Mapping[str, Language]) -> LanguageMenu:
    """The menu of the offered tags, in their order; without choices where there is nothing to choose.

    A language whose file has no ``choose_language`` cannot be offered in itself, and is left out.
    """
    known: dict[str, Language] = {}
    for tag in offered:
        language = find_language(tag, languages)
        is_itself = language.tag.partition("-")[0] == tag.partition("-")[0].lower()
        if is_itself and "choose_language" in language.phrases and language not in known.values():
            known[tag] = language
        else:
            log.warning("the language menu leaves %s out: no language file says how to offer it", tag)
    if len(known) > MAX_CHOICES:
        log.warning("the language menu has %d keys: %s are left out", MAX_CHOICES, list(known)[MAX_CHOICES:])
    if len(known) < 2:
        return LanguageMenu()
    spoken = dict(list(known.items())[:MAX_CHOICES])
    choices = tuple(_choice(str(at), tag, spoken) for at, tag in enumerate(spoken, 1))
    script = find_language(default, languages).script
    hints = dict.fromkeys(name for each in choices for name in each.names if len(name) <= MAX_HINT)
    return LanguageMenu(
        choices=choices, hears=default, hints=tuple(name for name in hints if _is_written_in(script, name))
    )


def _choice(digit: str, tag: str, spoken: Mapping[str, Language]) -> MenuChoice:
    language = spoken[tag]
    names = (language.own_name, language.english_name, *listed(language.words.called))
    counts = [listed(each.numbers.cardinals) for each in spoken.values()]
    return MenuChoice(
        digit=digit,
        language=tag,
        prompt=menu_prompt(language, digit),
        names=tuple(dict.fromkeys(name.lower() for name in names)),
        requests=listed(language.words.asked_for),
        counted=tuple(dict.fromkeys(count[int(digit)].lower() for count in counts if count)),
    )


def _sounds_like(words: Iterable[str], names: Iterable[str]) -> bool:
    return any(
        SequenceMatcher(None, word, name).ratio() >= CLOSE
        for word in words
        for name in names
        if min(len(word), len(name)) >= SHORTEST
    )


def _is_written_in(script: str, text: str) -> bool:
    """Whether a recogniser that writes ``script`` could write this: another's letters are no hint to it."""
    return all(unicodedata.name(each, "").startswith(script.upper()) for each in text if each.isalpha())
