"""Which of the known languages an utterance is in: by script, and for Latin text by naive Bayes.

A native script names its language. Hindi, Telugu and Gujarati are also written in Latin letters, as everybody spells
them, and are mixed with English: "mujhe MBA ki fees batao". So each Latin word is evidence on its own:

- a word of the lists in ``data/languages/<tag>.toml`` (``[identify]``) speaks against every language that lacks it;
  where it is not there as written, its folded spelling (``kithna`` and ``kitnaa`` are ``kitna``) is tried;
- a word that every language borrows ("fees", "sir", "ok") speaks softly for English, and all of them together still do;
- any other word is judged by its three-letter groups, softly, since it may be a name.

The grammar words decide, not the nouns, which is why a Hindi sentence full of English nouns is Hindi.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from antiphon.languages import DEFAULT_LANGUAGE, SCRIPTS, Language, load_languages

MAX_CHARS: Final = 1000
"""What an utterance says after this many characters does not change its language."""

LISTED: Final = math.log(20)
"""A listed word is taken to be this many nats likelier in the languages that list it. It need not be exact: two such
words outweigh any doubt, and what one word may claim is bounded by ``SATURATION``."""
FOLDED: Final = math.log(10)
"""The same for a word found by its folded spelling only."""
BORROWED: Final = 0.3
MOST_BORROWED: Final = 1.0
"""Borrowed words are worth so many nats each, and all of them so many: not enough to reach a confidence of 0.5."""
LETTERS: Final = 0.35
MOST_LETTERS: Final = 1.2
"""The share of the letter groups' evidence that counts for a word of no list, and its bound in nats."""
UNSEEN: Final = 0.05
"""Added to every count of a three-letter group."""

HALF: Final = 0.5
SMALL: Final = 0.25
SATURATION: Final = 0.6
"""Confidence is the posterior times ``1 - exp(-SATURATION * weight)``: 0.45 after one word, 0.70 after two."""


class Guess(msgspec.Struct, frozen=True):
    """``language``: a tag as it was offered, ``""`` if unknown.

    ``confidence`` (0 to 1) holds two doubts: how far the best language is ahead of the others, and how little was said.
    Below 0.5 nothing should switch: no single word reaches it, no answer such as "haan" or "ok sir thank you", no name
    and no number. From 0.5 on there is evidence worth more than one word and a clear winner; 0.8 takes three telling
    words that agree.
    """

    language: str
    confidence: float


UNKNOWN: Final = Guess("", 0.0)

_Vector = tuple[float, ...]
_Evidence = tuple[_Vector, float]
"""Nats for each known language, 0 for the best, and the weight: 1 for a word that says as much as a word can."""


class LanguageIdentifier:
    """Holds no state between calls, so any number of calls may share one."""

    def __init__(self, offered: Sequence[str], folder: Path | None = None) -> None:
        """``offered`` tags are what may be guessed; ``folder`` holds corrected language files.

        All known languages compete, and what is best explained by one that is not offered is unknown: a Hindi sentence
        is no English one because nobody offered Hindi. Raises ``ConfigError`` for a bad language file.
        """
        known = load_languages(folder)
        self._tags = tuple(known)
        self._offered = _offered(offered, known)
        languages = tuple(known.values())
        self._pattern, self._scripts = _scripts(languages)
        self._words, self._folded = _tables(languages)
        self._letters = _letter_groups(languages)
        self._english = self._tags.index(DEFAULT_LANGUAGE)
        self._borrowed = frozenset(word for language in languages for word in language.identify.borrowed.split())
        self._replies = frozenset(
            word.lower()
            for language in languages
            for word in (*language.words.backchannels, *language.words.yes, *language.words.no)
        )

    def identify(self, text: str) -> Guess:
        """The language of one utterance. Pure, and never raises."""
        scores = [0.0] * len(self._tags)
        borrowed = weight = 0.0
        for match in self._pattern.finditer(text[:MAX_CHARS].lower()):
            word, script = match.group(), match.lastgroup or ""
            if word in self._borrowed:
                borrowed += BORROWED
                weight += HALF
                continue
            vector, worth = self._scripts.get(script) or self._latin(word)
            for at, value in enumerate(vector):
                scores[at] += value
            weight += 0.0 if word in self._replies else worth
        if not weight:
            return UNKNOWN
        scores[self._english] += min(borrowed, MOST_BORROWED)
        return self._decide(scores, weight)

    def _latin(self, word: str) -> _Evidence:
        word = word.replace("\u2019", "'")
        return self._words.get(word) or self._folded.get(fold(word)) or self._by_letters(word)

    def _by_letters(self, word: str) -> _Evidence:
        sums = [0.0] * len(self._tags)
        for group in _groups(word):
            for at, value in enumerate(self._letters.get(group, ())):
                sums[at] += value
        best = max(sums)
        return tuple(max((value - best) * LETTERS, -MOST_LETTERS) for value in sums), SMALL

    def _decide(self, scores: list[float], weight: float) -> Guess:
        best = max(range(len(scores)), key=scores.__getitem__)
        tag = self._offered.get(self._tags[best], "")
        if not tag:
            return UNKNOWN
        total = sum(math.exp(score - scores[best]) for score in scores)
        return Guess(tag, (1.0 - math.exp(-SATURATION * weight)) / total)


_FOLDS: Final = (
    *(("y", "i"), ("ee", "i"), ("ie", "i"), ("ii", "i"), ("oo", "u"), ("ou", "u")),
    *(("chh", "c"), ("ch", "c"), ("ph", "f"), ("w", "v"), ("z", "j")),
    *((f"{letter}h", letter) for letter in "kgtdbsj"),
)
"""Where spellings of one Indian word differ: long vowels, breathed consonants; ``fold`` adds doubled letters and the
nasal at the end."""
_DOUBLED: Final = re.compile(r"(\w)\1+")
_NASAL_END: Final = re.compile(r"(?<=[aeiou])[nm]\b")


def fold(words: str) -> str:
    """One spelling for those in use: ``chaahiye`` and ``chahie`` are the same. Many words at once cost little more."""
    for spelling, instead in _FOLDS:
        words = words.replace(spelling, instead)
    return _NASAL_END.sub("", _DOUBLED.sub(r"\1", words))


def _offered(offered: Iterable[str], known: Mapping[str, Language]) -> dict[str, str]:
    """Known tag to offered tag; ``hi`` or ``hi-Latn`` offers what is known of Hindi."""
    found: dict[str, str] = {}
    for tag in offered:
        base = tag.partition("-")[0].lower()
        name = tag if tag in known else next((name for name in known if name.partition("-")[0] == base), "")
        if name:
            found.setdefault(name, tag)
    return found


def _scripts(languages: Sequence[Language]) -> tuple[re.Pattern[str], dict[str, _Evidence]]:
    """The pattern of words, one group a script, and what a word of a script says.

    Indic blocks are 128 code points with the digits and dandas at 0x64 to 0x70 (Unicode, chapter 12).
    """
    groups: list[str] = []
    vectors: dict[str, _Evidence] = {}
    for script, letter in SCRIPTS.items():
        if script == "Latin":
            continue
        first = ord(letter) & ~0x7F
        letters = f"{chr(first)}-{chr(first + 0x63)}{chr(first + 0x71)}-{chr(first + 0x7F)}"
        # A joiner goes on a word and begins none: alone it stands inside an emoji.
        groups.append(f"(?P<{script}>[{letters}][{letters}\u200c\u200d]*)")
        vectors[script] = tuple(0.0 if language.script == script else -LISTED for language in languages), 1.0
    groups.append("(?P<Latin>[a-z\u00df-\u024f]+(?:['\u2019][a-z]+)?)")
    return re.compile("|".join(groups)), vectors


def _tables(languages: Sequence[Language]) -> tuple[dict[str, _Evidence], dict[str, _Evidence]]:
    """Evidence by word, and by folded spelling. English is not folded: its spelling is settled."""
    exact: dict[str, int] = {}
    folded: dict[str, int] = {}
    for at, language in enumerate(languages):
        for word in language.identify.words.split():
            exact[word] = exact.get(word, 0) | 1 << at
        for word in fold(language.identify.words).split() if language.tag != DEFAULT_LANGUAGE else ():
            folded[word] = folded.get(word, 0) | 1 << at
    return _weighed(exact, len(languages), LISTED), _weighed(folded, len(languages), FOLDED)


def _weighed(owners: Mapping[str, int], count: int, nats: float) -> dict[str, _Evidence]:
    """``owners`` has one bit for each language that lists the word; the more there are, the less the word says."""
    evidence = {
        bits: (tuple(0.0 if bits >> at & 1 else -nats for at in range(count)), 1 / bits.bit_count())
        for bits in set(owners.values())
    }
    return {word: evidence[bits] for word, bits in owners.items()}


def _letter_groups(languages: Sequence[Language]) -> dict[str, _Vector]:
    """The logarithm of how often each three-letter group is one of a language's words."""
    counts = [Counter(_groups(f"{language.identify.words} {language.identify.borrowed}")) for language in languages]
    every: set[str] = set().union(*counts)
    columns: list[list[float]] = []
    for seen in counts:
        total = seen.total() + UNSEEN * (len(every) + 1)
        logs = {count: math.log((count + UNSEEN) / total) for count in (0, *seen.values())}
        columns.append([logs[seen.get(group, 0)] for group in every])
    return dict(zip(every, zip(*columns, strict=True), strict=True))


def _groups(words: str) -> list[str]:
    """All runs of three letters; a space stands for a word's beginning and its end."""
    padded = f" {' '.join(words.split())} "
    return [padded[at : at + 3] for at in range(len(padded) - 2) if padded[at + 1] != " "]
