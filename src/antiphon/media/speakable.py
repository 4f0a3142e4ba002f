"""Text as it is written to text as it can be spoken: markup goes, words stay."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

Part = str | int
"""A piece of a replacement: new text, or the number of a group of the match that is kept."""

_EMOJI: Final = "\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u20e3"
# A zero-width joiner goes only inside an emoji: in Indic scripts it shapes letters.
_EMOJI_RUN: Final = re.compile(f"[{_EMOJI}]+(?:\u200d[{_EMOJI}]+)*")

_STEPS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"(?m)^[ \t]{0,8}(?:```|~~~)[^\n`]{0,40}$"), ""),  # code fences
    (re.compile(r"!?\[([^\[\]]{0,500})\]\([^()\s]{0,2000}(?:[ \t]\"[^\"\n]{0,200}\")?\)"), r"\1"),  # links, images
    (re.compile(r"<((?:https?://|mailto:)[^<>\s]{1,2000})>"), r"\1"),  # autolinks
    (re.compile(r"(?i)</?(?:br|p|li|ul|ol|div|tr|td|th|h[1-6])\b[^<>]{0,200}>"), " "),  # HTML: these part words
    (re.compile(r"</?[a-zA-Z][^<>]{0,200}>"), ""),
    (re.compile(r"(?m)^[ \t]{0,8}(?:[-*_][ \t]?){3,80}$"), ""),  # rules
    (re.compile(r"(?m)^[ \t]{0,8}\|?[ \t]{0,8}:?-{3,80}[-:| \t]{0,200}$"), ""),  # the line below a table's head
    (re.compile(r"(?m)^[ \t]{0,8}(?:>[ \t]?){1,8}"), ""),  # quotations
    (re.compile(r"(?m)^[ \t]{0,16}[-*+\u2022\u2023\u25e6\u25aa\u2013][ \t]+"), ""),  # bullets
    (re.compile(r"(?m)^[ \t]{0,8}#{1,6}[ \t]+"), ""),  # headings
    (re.compile(r"(?m)^[ \t]{0,8}\|[ \t]?|[ \t]?\|[ \t]{0,8}$"), ""),  # the sides of a table
    (re.compile(r"[ \t]\|[ \t]"), ", "),  # the cells of a table
    (re.compile(r"\*\*|__(?!\w)|(?<!\w)__|~~|`"), ""),
    (re.compile(r"(?<![\w\\])[*_]+(?=\S)|(?<=[^\s\\])[*_]+(?!\w)"), ""),  # emphasis, but not 2 * 3 nor snake_case
    (_EMOJI_RUN, " "),
    (re.compile(r"\\([\\`*_{}\[\]()#+.!|>~-])"), r"\1"),
    (re.compile(r"\s+"), " "),
)

_MARKED: Final = re.compile(rf"[`~\[<>*_|#+\\\u2022\u2023\u25e6\u25aa\u2013{_EMOJI}-]|[^\S ]|  |^ | $")
"""What any of the steps begins with. Most sentences have nothing of it, and are spared them all."""


def speakable(text: str) -> str:
    """``text`` without markdown, HTML tags and emoji, in one line; ``""`` if no letter or digit is left."""
    if _MARKED.search(text):
        for pattern, instead in _STEPS:
            text = pattern.sub(instead, text)
        text = text.strip()
    return text if any(char.isalnum() for char in text) else ""


class Spoken:
    """``text`` to be spoken; ``origin[i]`` is the index in what was written that ``text[i]`` stands for."""

    __slots__ = ("origin", "text")

    def __init__(self, written: str) -> None:
        self.text = written
        self.origin = list(range(len(written)))

    def replace(self, pattern: re.Pattern[str], parts: Callable[[re.Match[str]], list[Part] | None]) -> None:
        """Replaces every match by its parts; new text takes the origin of what was kept before it in the match.

        A match whose parts are ``None`` stays.
        """
        texts: list[str] = []
        origin: list[int] = []
        at = 0
        for match in pattern.finditer(self.text):
            start, end = match.span()
            pieces = None if start == end else parts(match)
            if pieces is None:
                continue
            texts.append(self.text[at:start])
            origin += self.origin[at:start]
            last = self.origin[start]
            for part in pieces:
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
