"""Cuts a stream of text into pieces fit to be spoken, each as soon as it is safe.

A cut is made when enough of what follows is known, never earlier: the pieces do not depend on how
the text was split into deltas. Where a rule is in doubt it does not cut; that costs a little time,
while a pause after "Dr." is heard by everybody.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from antiphon.errors import ConfigError
from antiphon.media.speakable import speakable

__all__ = ["FIRST_CLAUSE_CHARS", "Segmenter", "speakable"]

FIRST_CLAUSE_CHARS: Final = 20
"""The first piece may be a clause if it is this long: about a second and a half of speech."""

_CANDIDATE: Final = re.compile(r"[.!?\u2026\u0964\u0965\n,;:\u2014\u2013-]")
_CLAUSE_MARKS: Final = frozenset(",;:\u2014\u2013-")
_ENDERS: Final = frozenset(".!?\u2026\u0964\u0965")
_DANDAS: Final = frozenset("\u0964\u0965")
_CLOSERS: Final = frozenset("\"'\u201d\u2019\u00bb)]}*_`~")
_OPENERS: Final = "\"'\u201c\u2018\u00ab([{*_`~"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEVER: Final = _words(
    "dr mr mrs ms mx prof hon rev st shri sri smt kum capt col lt maj sgt gov er adv vs viz cf e.g i.e mt messrs"
)
"""A name or an example follows."""

_BEFORE_NUMBER: Final = _words(
    "no nos fig figs vol pp pg ch sec art para eq ext qty tel mob jan feb apr aug sep sept oct nov dec max min"
)
"""Abbreviations before a number, else words like any other."""

_MAY_END: Final = _words(
    "etc inc ltd co corp pvt jr sr dept univ approx rs re govt dist rd ave hrs hr mins secs ph incl excl"
)
"""They end a sentence only if a word follows that begins one; so do initials and dotted ones (a.m., B.Tech.)."""

_BEGINNERS: Final = _words(
    "the an you we it they he she this that these those please if for our your in on at by but and so or after before "
    "then to there here all any each every some what which how who when where why would do does did can could may "
    "will shall should is are was were as once since while also however yes no not thank thanks sorry let from with "
    "most many more both only my his her its their"
)

_NATIVE: Final[dict[str, frozenset[str]]] = {
    "hi": _words("डॉ डा प्रो श्री सुश्री पं रु रू सं नं"),
    "mr": _words("डॉ प्रा श्री सौ रु रू क्र नं"),
    "te": _words("డా డాక్ ప్రొ శ్రీ రూ రు నం నెం"),
    "gu": _words("ડૉ ડો પ્રો શ્રી રૂ રુ નં"),
}
"""What a name or a number follows, by the language's primary subtag; English ones hold everywhere."""

_LETTER_NAMES: Final = _words(
    "ए बी सी डी ई एफ जी एच आई जे के एल एम एन ओ पी क्यू आर एस टी यू वी डब्ल्यू एक्स वाई ज़ेड "
    "ఎ ఏ బి సి డి ఇ ఈ ఎఫ్ జి హెచ్ ఐ జె కె ఎల్ ఎమ్ ఎం ఎన్ ఓ పి క్యూ ఆర్ ఎస్ టి యు వి డబ్ల్యూ ఎక్స్ వై జెడ్ "
    "એ બી સી ડી ઈ એફ જી એચ આઈ જે કે એલ એમ એન ઓ પી ક્યુ આર એસ ટી યુ વી ડબલ્યુ એક્સ વાય ઝેડ"
)
"""English letters as they are spelt in Indic scripts. Some are words as well: only two in a row are initials."""

_DOTTED: Final = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]{1,5}|Ph\.D|(?:[\u0900-\u0dff]{1,6}\.)+[\u0900-\u0dff]{1,6}")

_JOINERS: Final = "\u200c\u200d"
_VIRAMA: Final = 9
"""The canonical combining class of the sign that joins two consonants (Unicode, UnicodeData.txt)."""

_NO: Final = 0
_UNDECIDED: Final = -1


class Segmenter:
    """One reply's text, incrementally.

    ``language`` is a BCP 47 tag. ``first_clause``: the first piece may already end at a comma,
    semicolon, colon or dash, so that speech begins early. No piece is longer than ``max_chars``
    (40 to 2000). Raises ``ConfigError`` for another.
    """

    def __init__(self, language: str = "en-IN", *, first_clause: bool = True, max_chars: int = 220) -> None:
        if not 40 <= max_chars <= 2000:
            raise ConfigError(f"max_chars is {max_chars}: give 40 to 2000")
        self._never = _NEVER | _NATIVE.get(language.partition("-")[0].lower(), frozenset())
        self._first_clause = first_clause
        self._max = max_chars
        self._rest = ""
        self._scan = 0
        self._first = True

    def feed(self, delta: str) -> list[str]:
        """More text, of any length. Returns the pieces that are complete, without space around them."""
        self._rest += delta
        return self._drain(final=False)

    def flush(self) -> list[str]:
        """The text is over. Returns what is left; the segmenter is ready for another text."""
        pieces = self._drain(final=True)
        rest = self._rest.strip()
        if rest:
            pieces.append(rest)
        self._rest = ""
        self._scan = 0
        self._first = True
        return pieces

    def _drain(self, final: bool) -> list[str]:
        pieces: list[str] = []
        while True:
            if not self._scan:
                self._rest = self._rest.lstrip()
            end = self._next_cut(final)
            if end <= 0:
                return pieces
            piece = self._rest[:end].rstrip()
            self._rest = self._rest[end:]
            self._scan = 0
            if piece:
                pieces.append(piece)
                self._first = False

    def _next_cut(self, final: bool) -> int:
        """Where the next piece ends, or 0 if that is not known yet."""
        # All is decided within one window, so a cut depends on nothing but the text. What is left after
        # ``feed`` fits into one: at the end of the text nothing is out of sight.
        full = len(self._rest) > self._max
        text = self._rest[: self._max]
        clauses = self._first and self._first_clause
        while found := _CANDIDATE.search(text, self._scan):
            at = found.start()
            mark = text[at]
            if mark == "\n":
                return at + 1
            if mark not in _CLAUSE_MARKS:
                end = self._sentence_end(text, at, final)
            elif clauses:
                end = _clause_end(text, at, final)
                if 0 < end < FIRST_CLAUSE_CHARS:
                    end = _NO
            else:
                end = _NO
            if end > 0:
                return end
            if end == _UNDECIDED and not full:
                self._scan = at
                return 0
            self._scan = at + 1
            while mark in _ENDERS and self._scan < len(text) and text[self._scan] in _ENDERS:
                self._scan += 1
        if full:
            return _forced_cut(self._rest[: self._max + 1])
        self._scan = len(text)
        return 0

    def _sentence_end(self, text: str, at: int, final: bool) -> int:
        """The end of the sentence whose mark is at ``at``, ``_NO`` if it is none, or ``_UNDECIDED``."""
        stop = at
        while stop < len(text) and text[stop] in _ENDERS:
            stop += 1
        marks = text[at:stop]
        end = stop
        while end < len(text) and text[end] in _CLOSERS:
            end += 1
        if end == len(text):
            return end if final else _UNDECIDED
        if not _DANDAS.isdisjoint(marks):
            return end
        if not text[end].isspace():
            return _NO
        following = end
        while following < len(text) and (text[following].isspace() or text[following] in _OPENERS):
            if text[following] == "\n":
                return end
            following += 1
        if following == len(text):
            return end if final else _UNDECIDED
        if marks == ".":
            return self._full_stop(text, at, end, following, final)
        # "Wait... what", and '"Really?" he asked', go on.
        goes_on = text[following].islower() and (end > stop or ("!" not in marks and "?" not in marks))
        return _NO if goes_on else end

    def _full_stop(self, text: str, at: int, end: int, following: int, final: bool) -> int:
        """Like ``_sentence_end``, for a single full stop with space and, at ``following``, a word behind it."""
        begin = at
        while begin and not text[begin - 1].isspace():
            begin -= 1
        raw = text[begin:at]
        token = raw.lstrip(_OPENERS)
        low = token.lower()
        after = text[following]
        if token.isdecimal() and len(token) <= 3:
            # "1. Apply online" is an item of a list, "the 3. floor" an ordinal.
            return _NO if not text[:begin].strip() or (len(token) <= 2 and not after.isupper()) else end
        if low in self._never:
            return _NO
        if low in _BEFORE_NUMBER:
            return _NO if after.isdigit() or after == "#" else end
        initial = len(token) == 1 and token.isascii() and token.isalpha()
        if initial or low in _MAY_END or _DOTTED.fullmatch(token):
            return _if_begins(text, end, following, final)
        if token in _LETTER_NAMES:
            return _if_no_initial(text, begin, end, following, final)
        return end


def _word_end(text: str, start: int) -> int:
    while start < len(text) and not text[start].isspace() and text[start] not in ".,;:!?":
        start += 1
    return start


def _if_begins(text: str, end: int, following: int, final: bool) -> int:
    """``end`` if the word at ``following`` begins a sentence."""
    stop = _word_end(text, following)
    if stop == len(text) and not final:
        return _UNDECIDED
    word = text[following:stop]
    return end if word[:1].isupper() and word.lower() in _BEGINNERS else _NO


def _if_no_initial(text: str, begin: int, end: int, following: int, final: bool) -> int:
    """``end`` unless a spelt letter stands before or behind: then the full stop is part of a name."""
    before = text[:begin].split()
    if before and before[-1].endswith(".") and before[-1][:-1].lstrip(_OPENERS) in _LETTER_NAMES:
        return _NO
    stop = _word_end(text, following)
    if stop == len(text) and not final:
        return _UNDECIDED
    return _NO if text[stop : stop + 1] == "." and text[following:stop] in _LETTER_NAMES else end


def _clause_end(text: str, at: int, final: bool) -> int:
    """The end of the clause whose mark is at ``at``, ``_NO`` if it is none, or ``_UNDECIDED``."""
    mark = text[at]
    before = text[at - 1] if at else " "
    end = at + 1
    while mark in ",;:" and end < len(text) and text[end] in _CLOSERS:
        end += 1
    if end == len(text):
        return end if final else _UNDECIDED
    if mark == "\u2014":
        return _NO if before.isdigit() and text[end].isdigit() else end
    if not text[end].isspace() or (mark in "-\u2013" and not before.isspace()):
        return _NO
    following = end
    while following < len(text) and text[following].isspace():
        following += 1
    if following == len(text):
        return end if final else _UNDECIDED
    # "15 January, 2025", "1, 2 or 3"
    return _NO if before.isdigit() and text[following].isdigit() else end


def _forced_cut(text: str) -> int:
    """Where to cut a text whose last letter is one too many: at a clause, else between words, else anywhere."""
    least = len(text) // 3
    for at in range(len(text) - 2, least, -1):
        if text[at] in _CLAUSE_MARKS:
            end = _clause_end(text, at, final=False)
            if end > 0:
                return end
    spaces = [at for at in range(least, len(text)) if text[at].isspace()]
    # Not behind a full stop: those that are left are abbreviations.
    good = [at for at in spaces if text[at - 1] != "."] or spaces
    if good:
        return good[-1]
    end = len(text) - 1
    while end > least and _joined(text[end - 1], text[end]):
        end -= 1
    return end if end > least else len(text) - 1


def _joined(before: str, after: str) -> bool:
    """The two are parts of one written sign: a letter and its vowel, or a conjunct."""
    if after in _JOINERS or before in _JOINERS:
        return True
    return unicodedata.category(after)[0] == "M" or unicodedata.combining(before) == _VIRAMA
