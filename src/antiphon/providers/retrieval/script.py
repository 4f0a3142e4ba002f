"""Scripts and skeletons: matching words written in an Indic script with the same words in Latin letters.

A caller's recogniser may write "फीस कितनी है" or "fees kitni hai". Both are reduced to consonant
skeletons ("ps ktn h"), where the many ways to spell vowels, aspiration and doubled letters no longer
matter. The Indic blocks of Unicode share one layout (that of ISCII), so one table serves all of them.
"""

from __future__ import annotations

import re
from functools import lru_cache

BLOCKS = {"Devanagari": 0x0900, "Gujarati": 0x0A80, "Telugu": 0x0C00}
"""Where each script's 128 characters begin (Unicode, chapter 12)."""

_CONSONANTS = "kkggnccjjnttddnttddnnppbbmyrrlllvsssh"
_FIRST_CONSONANT = 0x15
_NASALS = {0x00, 0x01, 0x02}
_VOCALIC_R = {0x0B, 0x43, 0x44, 0x60}
_DIGIT_ZERO = 0x66

_LATIN = (
    ("sch", "sk"),
    ("chh", "c"),
    ("ch", "c"),
    ("sh", "s"),
    ("kh", "k"),
    ("gh", "g"),
    ("th", "t"),
    ("dh", "d"),
    ("ph", "p"),
    ("bh", "b"),
    ("jh", "j"),
    ("ck", "k"),
    ("qu", "kv"),
    ("x", "ks"),
)
_SOFT_C = re.compile(r"c(?=[eiy])")
_SOFT_G = re.compile(r"ge?s?$")
_ONE_BY_ONE = str.maketrans({"f": "p", "w": "v", "z": "j", "q": "k", "c": "k", "C": "c"})
_VOWELS = re.compile(r"[aeiouy]")
_INNER_H = re.compile(r"(?<=.)h")
_DOUBLED = re.compile(r"(.)\1+")
_NASAL_BEFORE_LIP = re.compile(r"m(?=[pb])")
_WORD = re.compile(r"[^\W_]+(?:[\u0900-\u0d7f]*[^\W_]*)*")


def script_of(text: str) -> str:
    """The script most letters are in: a name of ``BLOCKS``, else ``"Latin"``."""
    counts = dict.fromkeys(BLOCKS, 0)
    latin = 0
    for character in text:
        block = next((name for name, first in BLOCKS.items() if first <= ord(character) < first + 0x80), "")
        if block:
            counts[block] += 1
        elif character.isalpha():
            latin += 1
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] > latin else "Latin"


def words_of(text: str) -> list[str]:
    """Lower-case words; vowel signs stay with their letters."""
    return [word for word in _WORD.findall(text.casefold()) if word]


@lru_cache(maxsize=8192)
def skeleton(word: str) -> str:
    """The consonant skeleton of one word in either script; may be empty (a word of vowels only)."""
    letters = _indic(word) if ord(max(word)) >= 0x0900 else _latin(word)
    letters = _NASAL_BEFORE_LIP.sub("n", letters.replace("y", ""))
    return _DOUBLED.sub(r"\1", _INNER_H.sub("", letters))


def _indic(word: str) -> str:
    letters = []
    for at, character in enumerate(word):
        place = ord(character) & 0x7F
        if ord(character) < 0x0900:
            letters.append(character if character not in "aeiouy" else "")
        elif 0 <= place - _FIRST_CONSONANT < len(_CONSONANTS):
            letters.append(_CONSONANTS[place - _FIRST_CONSONANT])
        elif place in _VOCALIC_R:
            letters.append("r")
        elif place in _NASALS and at < len(word) - 1:
            letters.append("n")  # at the end it only colours the vowel, and Latin spellings often drop it
        elif 0 <= place - _DIGIT_ZERO <= 9:
            letters.append(str(place - _DIGIT_ZERO))
    return "".join(letters)


def _latin(word: str) -> str:
    word = _SOFT_G.sub("j", word) if word.endswith(("ge", "ges")) else word
    for spelling, sound in _LATIN:
        word = word.replace(spelling, sound.replace("c", "C"))
    return _VOWELS.sub("", _SOFT_C.sub("s", word).translate(_ONE_BY_ONE))
