"""What is written, made ready to be spoken, without losing where each character came from.

espeak-ng reads numbers, dates and most signs by itself in every language. Mended here is what it does
not do well: markdown is read out as signs, the rupee sign is spoken only in English, a phone number is
read as one huge number, and English reads 1,25,000 as three numbers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

Part = str | int
"""A piece of a replacement: new text, or the number of a group of the match that is kept."""

_RUPEES = {
    "en": "rupees",
    "hi": "रुपये",
    "mr": "रुपये",
    "te": "రూపాయలు",
    "gu": "રૂપિયા",
    "ta": "ரூபாய்",
    "kn": "ರೂಪಾಯಿ",
    "bn": "টাকা",
    "ml": "രൂപ",
    "pa": "ਰੁਪਏ",
}

_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_LINE_START = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]?|[-*+•][ \t]+)", re.MULTILINE)
_EMPHASIS = re.compile(r"\*{1,3}|_{2,3}|~~|`+|(?<!\w)_|_(?!\w)")
_TABLE = re.compile(r"[ \t]*\|[ \t]*")
_SIZES = (
    "lakhs?|crores?|thousand|million|लाख|करोड़|हज़ार|లక్షలు|లక్షల|కోట్లు|వేలు|લાખ|કરોડ|હજાર"  # between number and currency
)
_MONEY = re.compile(rf"(?:₹|(?<!\w)(?:Rs\.?|INR))[ \t]*(\d[\d,]*(?:\.\d+)?)((?:[ \t]+(?:{_SIZES})(?!\w))?)(?:/-)?")
_SIGN = re.compile("₹")
_PHONE = re.compile(r"(?<![\w.,])(\+\d{1,3}(?:[ -]?\d{2,5}){2,4}|\d{3,5}(?:[ -]\d{3,5}){1,3}|\d{9,15})(?![\w]|[.,]\d)")
_INDIAN_GROUPS = re.compile(r"(?<![\d,])(?:(\d{1,2}),)?(\d{1,2}),(\d{2}),(\d{3})(?![\d,])")
_GROUPS = re.compile(r"(?<![\d,])(\d{1,3}(?:,\d{3})+)(?![\d,])")

_PICTURES = ("So", "Cs", "Co", "Cc")
"""Unicode categories: other symbols, surrogates, private use, control."""

_PICTURE_PARTS = "\ufe0e\ufe0f\u20e3\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
"""What changes the picture before it: variation selectors, a key's frame, skin tones."""

PHONE_DIGITS = 10
"""Fewer digits in several groups may be two years or a range of marks."""


class Spoken:
    """``text`` to be spoken; ``origin[i]`` is the index in what was written that ``text[i]`` stands for."""

    __slots__ = ("origin", "text")

    def __init__(self, written: str) -> None:
        self.text = written
        self.origin = list(range(len(written)))

    def replace(self, pattern: re.Pattern[str], parts: Callable[[re.Match[str]], list[Part]]) -> None:
        """Replaces every match by its parts; new text takes the origin of what was kept before it in the match."""
        texts: list[str] = []
        origin: list[int] = []
        at = 0
        for match in pattern.finditer(self.text):
            start, end = match.span()
            if start == end:
                continue
            texts.append(self.text[at:start])
            origin += self.origin[at:start]
            last = self.origin[start]
            for part in parts(match):
                if isinstance(part, int):
                    low, high = match.span(part)
                    texts.append(self.text[low:high])
                    origin += self.origin[low:high]
                    last = origin[-1] if high > low else last
                else:
                    texts.append(part)
                    origin += [last] * len(part)
            at = end
        if at:
            texts.append(self.text[at:])
            origin += self.origin[at:]
            self.text = "".join(texts)
            self.origin = origin


def prepare(written: str, language: str) -> Spoken:
    """The text as ``language`` (a BCP 47 tag) shall speak it. Pure; time grows with the length only."""
    primary = language.partition("-")[0].lower()
    spoken = Spoken(written)
    spoken.replace(_LINK, lambda match: [1])
    spoken.replace(_LINE_START, lambda match: [])
    spoken.replace(_EMPHASIS, lambda match: [])
    spoken.replace(_TABLE, lambda match: [", "])
    word = _RUPEES.get(primary, _RUPEES["en"])
    spoken.replace(_MONEY, lambda match: [1, 2, f" {word}"])
    spoken.replace(_SIGN, lambda match: [f" {word} "])
    spoken.replace(_PHONE, _digits)
    if primary == "en":
        spoken.replace(_INDIAN_GROUPS, _lakhs)
        spoken.replace(_GROUPS, lambda match: [match[1].replace(",", "")])
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


def _digits(match: re.Match[str]) -> list[Part]:
    """Digit by digit, with a comma (a short pause) between the groups; ten digits alone are two groups of five."""
    number = match[1]
    groups = re.findall(r"\d+", number)
    if sum(map(len, groups)) < PHONE_DIGITS - (len(groups) == 1):
        return [1]
    if len(groups) == 1 and len(groups[0]) == PHONE_DIGITS:
        groups = [groups[0][:5], groups[0][5:]]
    plus = "plus " if number.startswith("+") else ""
    return [plus + ", ".join(" ".join(group) for group in groups)]


def _lakhs(match: re.Match[str]) -> list[Part]:
    crores, lakhs, thousands, rest = (int(group or 0) for group in match.groups())
    named = ((crores, "crore"), (lakhs, "lakh"), (thousands, "thousand"), (rest, ""))
    return [" ".join(f"{count} {name}".rstrip() for count, name in named if count) or "0"]


def _drop_pictures(spoken: Spoken) -> None:
    if any(map(_is_picture, spoken.text)):
        kept = [(char, at) for char, at in zip(spoken.text, spoken.origin, strict=True) if not _is_picture(char)]
        spoken.text = "".join(char for char, _ in kept)
        spoken.origin = [at for _, at in kept]


def _is_picture(char: str) -> bool:
    """Emoji and other signs that espeak reads out by their names, and control characters, which may end its text."""
    return char in _PICTURE_PARTS or (unicodedata.category(char) in _PICTURES and char not in "\n\t\r")
