"""Numbers as they are written to numbers as they are read out: amounts, phone numbers, dates, times, years and counts.

The words are in ``data/languages/<tag>.toml`` (``[numbers]``); the rules are here and nowhere else. Counting is Indian:
thousand, lakh, crore. A date is day, month, year, unless it begins with the year. What a language has no words for
stays as it was written, for the voice to read as it can.
"""

from __future__ import annotations

import enum
import functools
import re
from typing import Final

from antiphon.languages import Clock, Language, Numbers, Scale, find_language, listed, load_languages
from antiphon.media.speakable import Part, Spoken

MAX_DIGITS: Final = 12
"""A longer number, and one that begins with a zero, is read digit by digit: it is a code, not a count."""

PHONE_DIGITS: Final = 10
"""Fewer digits in several groups may be two years or a range of marks."""

ROUND: Final = 50
"""Marks and amounts from one to another end so; of telephone numbers one in five thousand does, and rises."""

YEARS: Final = range(1900, 2100)
"""Four digits in this range are a year, unless rupees follow."""

_RUPEES = {"mr": "रुपये", "ta": "ரூபாய்", "kn": "ರೂಪಾಯಿ", "bn": "টাকা", "ml": "രൂപ", "pa": "ਰੁਪਏ"}
"""For languages that have no file."""

_NOT_INSIDE = r"(?<![\w@#/:])(?<!\w[.,/:_-])"
_NO_MORE = r"(?![A-Za-z_\d@]|[.,:/-]\d)"
_COUNT = r"(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d{1,20})"
_NUMBER = rf"{_COUNT}(?:\.\d{{1,10}})?"
_DASH = r"[ \t]?[-\u2013\u2014][ \t]?"
_SIGN = r"(?:₹|(?<!\w)(?i:Rs\.?|INR))[ \t]?"
_HALF_DAY = r"((?i:[ap]m\b|[ap]\.m\.?))"

_PHONE = re.compile(r"(?<![\w.,])(\+\d{1,3}(?:[ -]?\d{2,5}){2,4}|\d{3,5}(?:[ -]\d{3,5}){1,3}|\d{9,15})(?![\w]|[.,]\d)")
_ENDS = re.compile(r"([1-9]\d*)-([1-9]\d*)")
_DATE = re.compile(rf"{_NOT_INSIDE}(\d{{1,2}})([/.-])(\d{{1,2}})\2(\d{{4}}){_NO_MORE}")
_ISO_DATE = re.compile(rf"{_NOT_INSIDE}(\d{{4}})-(\d{{2}})-(\d{{2}}){_NO_MORE}")
_TIME = re.compile(rf"{_NOT_INSIDE}(\d{{1,2}}):(\d\d)(?:[ \t]?{_HALF_DAY})?{_NO_MORE}")
_HOUR = re.compile(rf"{_NOT_INSIDE}(\d{{1,2}})(?:\.(\d\d))?[ \t]?{_HALF_DAY}{_NO_MORE}")
_RANGE = re.compile(rf"{_NOT_INSIDE}({_NUMBER}){_DASH}({_NUMBER})([ \t]?%)?{_NO_MORE}")
_PLAIN = re.compile(rf"((?<![\w)])[-\u2212](?=\d))?{_NOT_INSIDE}({_NUMBER})([ \t]?%)?{_NO_MORE}")
_LONE_SIGN = re.compile("₹")


class Before(enum.Enum):
    """What follows a number. Telugu says 100, the 100 of 105 and the 200 of 200 rupees each in a way of its own."""

    NOTHING = enum.auto()
    NUMBER = enum.auto()
    WORD = enum.auto()


class NumberReader:
    """Reads the numbers of one language out. Holds no state."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._cardinals = listed(numbers.cardinals)
        self._hundreds = listed(numbers.hundreds)
        self._hundreds_more = listed(numbers.hundreds_more) or self._hundreds
        self._ordinals = listed(numbers.ordinals)
        self._months = listed(numbers.months)
        self._marks = listed(numbers.time.marks) if numbers.time else ()
        sizes = "|".join(map(re.escape, listed(numbers.sizes)))
        size = rf"((?:[ \t]+(?:{sizes})(?!\w))?)" if sizes else "()"
        self._money = re.compile(
            rf"{_SIGN}({_NUMBER})(?:{_DASH}(?:{_SIGN})?({_NUMBER}))?{size}(?:/-)?{_NO_MORE}|{_NOT_INSIDE}({_NUMBER})/-(?!\w)"
        )
        rupees = [words.split()[-1] for words in (numbers.rupee.one, numbers.rupee.many)] if numbers.rupee else []
        money = "|".join(map(re.escape, (*rupees, *listed(numbers.sizes))))
        self._no_year = re.compile(rf"[ \t]?(?:{money})" if money else "(?!)")
        mark = rf"|{re.escape(numbers.ordinal_mark)}" if numbers.ordinal_mark else ""
        self._nth = re.compile(rf"{_NOT_INSIDE}({_COUNT})(?:(?:st|nd|rd|th)\b{mark})")

    def read(self, spoken: Spoken) -> None:
        """Puts the words in the place of the figures."""
        if not any(map(str.isdecimal, spoken.text)) and "₹" not in spoken.text:
            return
        spoken.replace(self._money, self._say_money)
        spoken.replace(_LONE_SIGN, lambda match: self._say_sign())
        spoken.replace(_PHONE, self._say_phone)
        spoken.replace(_DATE, lambda match: self._say_date(match[1], match[3], match[4]))
        spoken.replace(_ISO_DATE, lambda match: self._say_date(match[3], match[2], match[1]))
        spoken.replace(_TIME, self._say_time)
        spoken.replace(_HOUR, self._say_time)
        spoken.replace(self._nth, self._say_nth)
        spoken.replace(_RANGE, self._say_range)
        spoken.replace(_PLAIN, self._say_plain)

    def cardinal(self, number: int, before: Before = Before.NOTHING) -> str:
        """The words of a whole number, as the language counts before ``before``."""
        if not self._cardinals:
            return str(number)
        rest, parts = number, []
        for size, scale in (
            (10_000_000, self._numbers.crore),
            (100_000, self._numbers.lakh),
            (1000, self._numbers.thousand),
        ):
            count, rest = divmod(rest, size)
            if count and scale:
                parts.append((count, scale))
        words = [
            self._counted(count, scale, before if at == len(parts) - 1 and not rest else Before.NUMBER)
            for at, (count, scale) in enumerate(parts)
        ]
        hundreds, rest = divmod(rest, 100)
        if hundreds:
            more = rest or (before is not Before.NOTHING and hundreds > 1)
            words.append((self._hundreds_more if more else self._hundreds)[hundreds - 1])
        if rest or not words:
            words.append(self._cardinals[rest])
        return " ".join(words)

    def digits(self, figures: str) -> str:
        """Digit by digit; anything else in ``figures`` is left out."""
        return " ".join(
            self._cardinals[int(digit)] if self._cardinals else digit for digit in figures if digit.isdecimal()
        )

    def figure(self, written: str, before: Before = Before.NOTHING) -> str:
        """A number as it was written, such as ``1,25,000.50``."""
        if not self._cardinals:
            return written
        whole, point, part = written.partition(".")
        plain = whole.replace(",", "")
        if point:
            before = Before.NOTHING
        code = len(plain) > MAX_DIGITS or (len(plain) > 1 and int(plain[0]) == 0)
        words = self.digits(plain) if code else self.cardinal(int(plain), before)
        return f"{words} {self._numbers.point} {self.digits(part)}" if point else words

    def year(self, year: int) -> str:
        """A year of ``YEARS``."""
        century, rest = divmod(year, 100)
        hundred = {19: self._numbers.nineteen_hundred, 20: self._numbers.twenty_hundred}.get(century)
        if not hundred or rest < (1 if century == 19 else 10):
            return self.cardinal(year)
        zero = f"{self._numbers.year_zero} " if self._numbers.year_zero and rest < 10 else ""
        return f"{hundred} {zero}{self._cardinals[rest]}"

    def ordinal(self, number: int) -> str:
        rest = number % 100
        if not 1 <= rest <= len(self._ordinals):
            return self.cardinal(number) + self._numbers.ordinal_end
        words = self._ordinals[rest - 1]
        return words if number < 100 else f"{self.cardinal(number - rest, Before.NUMBER)} {words}"

    def clock(self, hour: int, minute: int, *, part: str = "", marked: str = "") -> str:
        """A time of day; ``part`` is the part of the day, ``marked`` the word for the clock if it follows anyway."""
        clock = self._numbers.time
        if clock is None:
            return ""
        twelve = hour % 12 or 12
        words = self._on_the_clock(clock, twelve, minute)
        if words and not marked:
            words = _fill(clock.clock_of_day if part and clock.clock_of_day else clock.clock, words)
            words = clock.one_o_clock if clock.one_o_clock and (twelve, minute) == (1, 0) else words
        elif not words:
            both = self.cardinal(twelve), self.cardinal(minute)
            words = " ".join(both) if marked else _fill(clock.minutes, *both)
        return clock.of_day.replace("{time}", words).replace("{part}", part) if part else words

    def _on_the_clock(self, clock: Clock, hour: int, minute: int) -> str:
        """The full, half and quarter hours, if the language has words for them, without the word for the clock."""
        if minute == 30 and hour <= 2 and (special := (clock.one_and_half, clock.two_and_half)[hour - 1]):
            return special
        template = {0: "{}", 15: clock.quarter, 30: clock.half, 45: clock.three_quarters}.get(minute, "")
        return _fill(template, self.cardinal(hour % 12 + 1 if minute == 45 else hour))

    def _counted(self, count: int, scale: Scale, before: Before) -> str:
        if count == 1:
            return scale.one_more if before is Before.NUMBER and scale.one_more else scale.one
        many = scale.many_more if before is not Before.NOTHING and scale.many_more else scale.many
        return _fill(many, self.cardinal(count, Before.WORD))

    def _say_money(self, match: re.Match[str]) -> list[Part] | None:
        rupee, amount, upto, size = self._numbers.rupee, match[1] or match[4], match[2], match[3] or ""
        if rupee is None:
            return None
        if upto:
            if not self._numbers.range:
                return None
            both = _fill(self._numbers.range, self.figure(amount), self.figure(upto, Before.WORD))
            return [_fill(rupee.many, both + size)]
        whole, _, part = amount.partition(".")
        paisa, money = self._numbers.paisa, self._numbers.rupees_and_paise
        if size or not self._cardinals or not paisa or len(part) > 2:
            return [_fill(rupee.many, self.figure(amount, Before.WORD) + size)]
        paise = int(part.ljust(2, "0"))
        joined = match.string[match.end() : match.end() + 1].isalpha()
        rupees = self._amount(whole, rupee, Before.NUMBER if paise else Before.WORD if joined else Before.NOTHING)
        return [_fill(money, rupees, self._counted(paise, paisa, Before.NOTHING)) if paise else rupees]

    def _amount(self, whole: str, rupee: Scale, before: Before) -> str:
        if whole == "1":
            return rupee.one
        many = rupee.many_more if before is not Before.NOTHING and rupee.many_more else rupee.many
        return _fill(many, self.figure(whole, Before.WORD))

    def _say_sign(self) -> list[Part] | None:
        rupee = self._numbers.rupee
        return [" " + rupee.many.replace("{}", "").strip() + " "] if rupee else None

    def _say_phone(self, match: re.Match[str]) -> list[Part] | None:
        """A comma, which is a short pause, between the groups; ten digits alone are two groups of five.

        Two round numbers, the second the larger, are from one to the other: ``10000-20000``.
        """
        ends = _ENDS.fullmatch(match[1])
        if ends and int(ends[1]) < int(ends[2]) and int(ends[1]) % ROUND == int(ends[2]) % ROUND == 0:
            return None
        groups = re.findall(r"\d+", match[1])
        if sum(map(len, groups)) < PHONE_DIGITS - (len(groups) == 1):
            return None
        if len(groups) == 1 and len(groups[0]) == PHONE_DIGITS:
            groups = [groups[0][:5], groups[0][5:]]
        plus = f"{self._numbers.plus or 'plus'} " if match[1].startswith("+") else ""
        return [plus + ", ".join(map(self.digits, groups))]

    def _say_date(self, day: str, month: str, year: str) -> list[Part] | None:
        if not (self._numbers.date and self._months and 1 <= int(month) <= 12 and 1 <= int(day) <= 31):
            return None
        words = self._numbers.date.replace("{day}", self.cardinal(int(day))).replace("{nth}", self.ordinal(int(day)))
        return [
            words.replace("{month}", self._months[int(month) - 1]).replace("{year}", self._year_or_number(int(year)))
        ]

    def _year_or_number(self, number: int) -> str:
        return self.year(number) if number in YEARS else self.cardinal(number)

    def _say_time(self, match: re.Match[str]) -> list[Part] | None:
        hour, minute, half_day = int(match[1]), int(match[2] or 0), (match[3] or "").lower()
        clock = self._numbers.time
        if clock is None or hour > (12 if half_day else 24) or minute > 59:
            return None
        if half_day:
            hour = hour % 12 + (12 if half_day.startswith("p") else 0)
        part = _part_of_day(clock, hour % 24) if half_day or hour > 12 else ""
        follows = match.string[match.end() : match.end() + 20].lstrip(" ")
        marked = next((mark for mark in self._marks if follows.startswith(mark)), "")
        return [self.clock(hour, minute, part=part, marked=marked)]

    def _say_nth(self, match: re.Match[str]) -> list[Part] | None:
        number = int(match[1].replace(",", ""))
        return [self.ordinal(number)] if self._ordinals and number else None

    def _say_range(self, match: re.Match[str]) -> list[Part] | None:
        """Upwards only: ``10-2`` may be a score or a code. ``2024-25`` is two years, one after the other."""
        if not self._numbers.range or not self._cardinals:
            return None
        first, last = match[1], match[2]
        low, high = (float(number.replace(",", "")) for number in (first, last))
        if low in YEARS and len(first) == 4 and len(last) == 2 and high == (low + 1) % 100:
            return [f"{self.year(int(first))}, {self.cardinal(int(last))}"]
        if low >= high:
            return None
        years = all(len(number) == 4 and int(number) in YEARS for number in (first, last) if "." not in number)
        if years and "." not in first + last:
            return [_fill(self._numbers.range, self.year(int(first)), self.year(int(last)))]
        words = _fill(self._numbers.range, self.figure(first), self.figure(last, _following(match)))
        return [_fill(self._numbers.percent, words) if match[3] and self._numbers.percent else words]

    def _say_plain(self, match: re.Match[str]) -> list[Part] | None:
        if not self._cardinals:
            return None
        minus, written, percent = match[1], match[2], match[3] and self._numbers.percent
        follows = match.string[match.end() : match.end() + 20]
        if len(written) == 4 and written.isdecimal() and int(written) in YEARS and not self._no_year.match(follows):
            words = self.year(int(written))
        else:
            words = self.figure(written, Before.WORD if percent else _following(match))
        if percent:
            words = _fill(percent, words)
        sign = f"{self._numbers.minus} " if minus and self._numbers.minus else minus or ""
        return [sign + words]


def read_numbers(text: str, language: str | Language) -> str:
    """``text`` with its numbers in words; ``language`` is the tag of a file that comes with Antiphon, or a language.

    For voices that read figures badly. Pure for a ``Language``; time grows with the length of the text only.
    """
    spoken = Spoken(text)
    reader = reader_for(language) if isinstance(language, str) else NumberReader(language.numbers)
    reader.read(spoken)
    return spoken.text


@functools.lru_cache(maxsize=32)
def reader_for(tag: str) -> NumberReader:
    """The reader of a tag, ``hi`` or ``hi-IN``. A language without a file has one that knows rupees and no numbers."""
    language, base = find_language(tag, load_languages()), tag.partition("-")[0].lower()
    if language.tag.partition("-")[0] == base:
        return NumberReader(language.numbers)
    rupees = _RUPEES.get(base, "rupees")
    return NumberReader(Numbers(rupee=Scale(one=f"1 {rupees}", many=f"{{}} {rupees}")))


def load_readers() -> None:
    """Reads the languages that come with Antiphon now (20 ms), instead of before the first sentence."""
    for tag in load_languages():
        reader_for(tag)


def _fill(template: str, *words: str) -> str:
    for each in words:
        template = template.replace("{}", each, 1)
    return template


def _following(match: re.Match[str]) -> Before:
    """Whether a word goes on where the number ends, or follows after a space."""
    follows = match.string[match.end() : match.end() + 2]
    letter = follows[:1] if follows[:1] not in (" ", "\u00a0") else follows[1:]
    return Before.WORD if letter.isalpha() else Before.NOTHING


def _part_of_day(clock: Clock, hour: int) -> str:
    for first, last, part in ((4, 11, clock.morning), (12, 15, clock.afternoon), (16, 19, clock.evening)):
        if first <= hour <= last:
            return part
    return clock.night
