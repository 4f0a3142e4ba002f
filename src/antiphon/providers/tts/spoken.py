"""What is written, made ready to be spoken, without losing where each character came from.

espeak-ng reads plain numbers by itself, with lakh and crore in Hindi, Telugu and Gujarati. Measured with its phonemes
(1.52): a date is read with "slash" or "dash", of "10:30 AM" the "AM" is said in English, a minus and a rupee sign are
silent, a phone number is one huge number, English reads 1,25,000 as three numbers, Telugu reads 105 as "one hundred
five" counted out. So all numbers are written out first (``antiphon.number_words``), and markdown, which would be read
out as signs, goes.
"""

from __future__ import annotations

import re
import unicodedata

from antiphon.media.speakable import Spoken
from antiphon.number_words import reader_for

__all__ = ["Spoken", "prepare", "word_start"]

_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_LINE_START = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]?|[-*+•][ \t]+)", re.MULTILINE)
_EMPHASIS = re.compile(r"\*{1,3}|_{2,3}|~~|`+|(?<!\w)_|_(?!\w)")
_TABLE = re.compile(r"[ \t]*\|[ \t]*")
_PICTURES = ("So", "Cs", "Co", "Cc")
"""Unicode categories: other symbols, surrogates, private use, control."""

_PICTURE_PARTS = "\ufe0e\ufe0f\u20e3\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
"""What changes the picture before it: variation selectors, a key's frame, skin tones."""


def prepare(written: str, language: str) -> Spoken:
    """The text as ``language`` (a BCP 47 tag) shall speak it. Pure; time grows with the length only."""
    spoken = Spoken(written)
    spoken.replace(_LINK, lambda match: [1])
    spoken.replace(_LINE_START, lambda match: [])
    spoken.replace(_EMPHASIS, lambda match: [])
    spoken.replace(_TABLE, lambda match: [", "])
    reader_for(language).read(spoken)
    _drop_pictures(spoken)
    return spoken


def word_start(text: str, char: int) -> int:
    """The start of the word (as divided by white space) that ``text[char]`` is in, or of the next one."""
    char = min(max(char, 0), len(text))
    while char < len(text) and text[char].isspace():
        char += 1
    while char > 0 and not text[char - 1].isspace():
        char -= 1
    return char


def _drop_pictures(spoken: Spoken) -> None:
    if any(map(_is_picture, spoken.text)):
        kept = [(char, at) for char, at in zip(spoken.text, spoken.origin, strict=True) if not _is_picture(char)]
        spoken.text = "".join(char for char, _ in kept)
        spoken.origin = [at for _, at in kept]


def _is_picture(char: str) -> bool:
    """Emoji and other signs that espeak reads out by their names, and control characters, which may end its text."""
    return char in _PICTURE_PARTS or (unicodedata.category(char) in _PICTURES and char not in "\n\t\r")
