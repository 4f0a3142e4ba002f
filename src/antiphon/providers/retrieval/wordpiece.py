"""WordPiece tokens of an uncased BERT vocabulary.

A page of code here instead of the ``tokenizers`` package, whose installation brings fourteen more: a
question takes about ten microseconds, and on ordinary text the numbers are the same.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path

UNKNOWN, START, END = "[UNK]", "[CLS]", "[SEP]"
MAX_WORD = 100
"""Longer words are unknown, as in the reference tokenizer."""


class WordPiece:
    """Text to token numbers. ``vocabulary`` holds one token a line; its line number is its number."""

    def __init__(self, vocabulary: Path) -> None:
        lines = vocabulary.read_text(encoding="utf-8").splitlines()
        self._numbers = {token: number for number, token in enumerate(lines)}
        self._unknown = self._numbers[UNKNOWN]
        self._pieces = lru_cache(maxsize=4096)(self._split)

    def encode(self, text: str, limit: int) -> list[int]:
        """Numbers with the start and end tokens around them, at most ``limit`` of them."""
        numbers = [self._numbers[START]]
        for word in _words(text):
            numbers.extend(self._pieces(word))
            if len(numbers) >= limit:
                break
        return [*numbers[: limit - 1], self._numbers[END]]

    def _split(self, word: str) -> tuple[int, ...]:
        """The longest known pieces from the left; a word with an unknown rest is unknown as a whole."""
        if len(word) > MAX_WORD:
            return (self._unknown,)
        pieces: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                number = self._numbers.get(("##" if start else "") + word[start:end])
                if number is not None:
                    pieces.append(number)
                    start = end
                    break
            else:
                return (self._unknown,)
        return tuple(pieces)


def _words(text: str) -> list[str]:
    """Lower case, accents and control characters dropped, punctuation and CJK characters apart."""
    spaced: list[str] = []
    for character in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(character)
        if character.isspace():
            spaced.append(" ")
        elif category == "Mn" or category[0] == "C" or character == "\ufffd":
            continue
        elif _stands_alone(character, category):
            spaced.append(f" {character} ")
        else:
            spaced.append(character)
    return "".join(spaced).split()


def _stands_alone(character: str, category: str) -> bool:
    if character.isascii():
        return not character.isalnum()
    return category[0] == "P" or "\u4e00" <= character <= "\u9fff" or "\u3400" <= character <= "\u4dbf"
