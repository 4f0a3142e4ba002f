"""Languages: what the agent says by itself, and the words it must know, read from one TOML file each.

A native speaker corrects ``antiphon/data/languages/<tag>.toml`` (or a copy of it in a folder of their
own) without touching code. What a language does not have is spoken in English (``en-IN``).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from antiphon.errors import ConfigError

DEFAULT_LANGUAGE = "en-IN"
BUILT_IN = Path(__file__).parent / "data" / "languages"

SPOKEN_BY_TURNS = (
    "greeting",
    "filler",
    "still_there",
    "please_repeat",
    "use_keypad",
    "apology",
    "resumed",
    "language_switched",
    "transfer",
    "goodbye",
)
"""Phrases of the turn machine (``Say`` commands)."""

SPOKEN_IN_REPLIES = (
    "greet_reply",
    "not_known",
    "offer_person",
    "did_you_mean",
    "deny_reply",
    "anything_else",
    "repeat_intro",
    "nothing_to_repeat",
    "thanks_reply",
    "help",
    "person_reply",
    "slower_reply",
    "louder_reply",
    "chitchat_reply",
    "other_language",
)
"""Phrases of the extractive responder."""

SPOKEN_BEFORE = ("choose_language",)
"""Phrases of the menu before the conversation: "For English, press {digit}." in each language."""

KINDS = frozenset(SPOKEN_BY_TURNS + SPOKEN_IN_REPLIES + SPOKEN_BEFORE)

INTENTS = (
    "goodbye",
    "speak_to_human",
    "repeat",
    "slower",
    "louder",
    "help",
    "deny",
    "affirm",
    "thanks",
    "greet",
    "chitchat",
)
"""What a caller may say besides a question. Where an utterance has two, the earlier one here counts."""

PLACEHOLDERS = {"did_you_mean": "{question}", "choose_language": "{digit}"}
"""The one placeholder a phrase may have; it must be there."""

SCRIPTS = {"Latin": "a", "Devanagari": "\u0905", "Telugu": "\u0c05", "Gujarati": "\u0a85"}
"""The scripts known here, each with its first letter."""

MAX_FILE_BYTES = 256 * 1024

_LENGTHS = {"cardinals": (100,), "hundreds": (9,), "hundreds_more": (9,), "ordinals": (31, 99), "months": (12,)}

_TAG = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")
_BRACES = re.compile(r"\{[^}]*\}?|\}")

Text = Annotated[str, Meta(min_length=1, max_length=400, pattern=r"\S")]
Word = Annotated[str, Meta(min_length=1, max_length=120, pattern=r"\S")]
Words = Annotated[tuple[Word, ...], Meta(max_length=1000)]
Commas = Annotated[str, Meta(max_length=32_768)]
"""A list, parted by commas: ``listed`` parts it."""
WordText = Annotated[str, Meta(max_length=32_768)]


class WordLists(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words and short phrases, lower case. ``unfinished`` holds single words.

    ``called``: what the language is called in any language; ``asked_for``: by which phrases it is asked for.
    """

    backchannels: Words = ()
    unfinished: Words = ()
    yes: Words = ()
    no: Words = ()
    interrupting: Words = ()
    fillers: Words = ()
    follow_up: Words = ()
    pointing: Words = ()
    called: Commas = ""
    asked_for: Commas = ""


class Identify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Latin spellings that tell the language of a sentence, parted by white space (see ``antiphon.language_id``).

    ``words`` belong to the language. ``borrowed`` are its words that the other languages use too.
    """

    words: WordText = ""
    borrowed: WordText = ""


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A unit that is counted: ``many`` holds {} for how many. The ``_more`` forms are for when something follows."""

    one: Text
    many: Text
    one_more: str = ""
    many_more: str = ""


class Clock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a time of day is read; the notes in ``en-IN.toml`` explain every part."""

    clock: Text
    minutes: Text
    clock_of_day: str = ""
    one_o_clock: str = ""
    half: str = ""
    quarter: str = ""
    three_quarters: str = ""
    one_and_half: str = ""
    two_and_half: str = ""
    marks: Commas = ""
    of_day: str = "{time}"
    morning: str = ""
    afternoon: str = ""
    evening: str = ""
    night: str = ""


class Numbers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How numbers are read (see ``antiphon.number_words``); what is empty is left to the voice."""

    cardinals: Commas = ""
    hundreds: Commas = ""
    hundreds_more: Commas = ""
    thousand: Scale | None = None
    lakh: Scale | None = None
    crore: Scale | None = None
    sizes: Commas = ""
    rupee: Scale | None = None
    paisa: Scale | None = None
    rupees_and_paise: str = "{} {}"
    ordinals: Commas = ""
    ordinal_end: str = ""
    ordinal_mark: str = ""
    months: Commas = ""
    date: str = ""
    nineteen_hundred: str = ""
    twenty_hundred: str = ""
    year_zero: str = ""
    point: str = ""
    minus: str = ""
    plus: str = ""
    percent: str = ""
    range: str = ""
    time: Clock | None = None


class Language(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One language. ``draft``: no native speaker has reviewed it. ``phrases``: kind to one or more variants."""

    tag: str
    english_name: Text
    own_name: Text
    script: str = "Latin"
    draft: bool = False
    phrases: dict[str, Annotated[tuple[Text, ...], Meta(min_length=1, max_length=20)]] = {}
    words: WordLists = WordLists()
    intents: dict[str, Words] = {}
    identify: Identify = Identify()
    numbers: Numbers = Numbers()

    def with_phrases(self, phrases: Mapping[str, tuple[str, ...]]) -> Language:
        """The same language with some phrases replaced, such as a greeting that names the house.

        Raises ``ConfigError`` for an unknown kind or a wrong placeholder.
        """
        _check_phrases(phrases, self.tag)
        return msgspec.structs.replace(self, phrases={**self.phrases, **phrases})


def load_language(tag: str, directory: Path | str | None = None) -> Language:
    """Reads ``<tag>.toml`` from ``directory``, or the one that comes with Antiphon.

    Raises ``ConfigError``: ``language.not_found``, ``language.not_readable``, ``language.not_toml``,
    ``language.bad_value``.
    """
    for folder in _folders(directory):
        path = folder / f"{tag}.toml"
        if _TAG.fullmatch(tag) and path.is_file():
            return _read(path)
    stems = {path.stem for folder in _folders(directory) for path in folder.glob("*.toml")}
    known = ", ".join(sorted(filter(_TAG.fullmatch, stems)))
    advice = f"add a file {tag}.toml in the languages folder" if _TAG.fullmatch(tag) else "a tag is written like te-IN"
    raise ConfigError(f"there is no language {tag!r}: there are {known}; {advice}", code="language.not_found")


def load_languages(directory: Path | str | None = None) -> dict[str, Language]:
    """All languages by tag: those that come with Antiphon, and those of ``directory``, which win.

    Raises ``ConfigError`` as ``load_language`` does.
    """
    tags = {path.stem for folder in _folders(directory) for path in folder.glob("*.toml")}
    return {tag: load_language(tag, directory) for tag in sorted(tags)}


def phrase(
    language: str | Language, kind: str, variant: int = 0, *, languages: Mapping[str, Language] | None = None
) -> str:
    """One phrase; ``variant`` counts on for ever (it is taken modulo the number of variants).

    A kind that the language lacks is taken from English. ``languages`` are the loaded ones; without
    them the built-in files are read. Raises ``ConfigError`` (``language.unknown_phrase``) for a kind
    that does not exist at all.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no phrase {kind!r}{_hint(kind, KINDS)}", code="language.unknown_phrase")
    chosen = language if isinstance(language, Language) else find_language(language, languages or load_languages())
    variants = chosen.phrases.get(kind)
    if not variants:
        english = (languages or {}).get(DEFAULT_LANGUAGE) or load_language(DEFAULT_LANGUAGE)
        variants = english.phrases[kind]
    return variants[variant % len(variants)]


def find_language(tag: str, languages: Mapping[str, Language]) -> Language:
    """The language of a tag, else one of the same base language ("hi" finds "hi-IN"), else English."""
    if tag in languages:
        return languages[tag]
    base = tag.partition("-")[0].lower()
    for known in sorted(languages):
        if base and known.partition("-")[0] == base:
            return languages[known]
    return languages.get(DEFAULT_LANGUAGE) or load_language(DEFAULT_LANGUAGE)


def language_requests(languages: Mapping[str, Language]) -> dict[str, tuple[str, ...]]:
    """For ``Policy.language_requests``: by which phrases a caller asks for a language."""
    return {tag: listed(language.words.asked_for) for tag, language in languages.items()}


def menu_prompt(language: Language, digit: str) -> str:
    """The line of the phone menu that offers ``language``, said in it."""
    return phrase(language, "choose_language").replace("{digit}", digit)


def listed(text: str) -> tuple[str, ...]:
    """The parts of a comma list of a language file."""
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def backchannels(languages: Mapping[str, Language]) -> dict[str, tuple[str, ...]]:
    """For ``Policy.backchannels``."""
    return {tag: language.words.backchannels for tag, language in languages.items()}


def unfinished(languages: Mapping[str, Language]) -> dict[str, tuple[str, ...]]:
    """For ``Policy.unfinished``."""
    return {tag: language.words.unfinished for tag, language in languages.items()}


def _folders(directory: Path | str | None) -> list[Path]:
    if directory is None:
        return [BUILT_IN]
    folder = Path(directory)
    if not folder.is_dir():
        raise ConfigError(f"languages folder {folder}: there is no such folder", code="language.not_found")
    return [folder, BUILT_IN]


def _read(path: Path) -> Language:
    raw = read_toml(path, "language")
    try:
        language = msgspec.convert(raw, Language)
    except msgspec.ValidationError as error:
        raise _bad(path, str(error)) from None
    if language.tag != path.stem:
        raise _bad(path, f"tag is {language.tag!r} but the file is named {path.stem!r}: make them the same")
    if language.script not in SCRIPTS:
        raise _bad(path, f"script {language.script!r} is not known: choose one of {', '.join(SCRIPTS)}")
    _check_phrases(language.phrases, str(path))
    missing = sorted(KINDS - set(language.phrases))
    if language.tag == DEFAULT_LANGUAGE and missing:
        raise _bad(path, f"[phrases] lacks {', '.join(missing)}; English must have all, the others fall back to it")
    for name in language.intents:
        if name not in INTENTS:
            raise _bad(path, f"[intents] there is no {name!r}{_hint(name, INTENTS)}")
    _check_numbers(language.numbers, path)
    spaced = [word for word in language.words.unfinished if len(word.split()) > 1]
    if spaced:
        raise _bad(path, f"[words] unfinished holds single words only, not {spaced[0]!r}")
    both = sorted(set(language.words.backchannels) & set(language.words.interrupting))
    if both:
        raise _bad(path, f"[words] {both[0]!r} is in backchannels and in interrupting: it can be only one of them")
    return language


def _check_numbers(numbers: Numbers, where: Path) -> None:
    for name, lengths in _LENGTHS.items():
        words = listed(getattr(numbers, name))
        if words and (len(words) not in lengths or not all(words)):
            wanted = " or ".join(map(str, lengths))
            raise _bad(where, f"[numbers] {name} holds {wanted} words parted by commas, not {len(words)}")
    scales = [numbers.thousand, numbers.lakh, numbers.crore]
    if numbers.cardinals and not (numbers.hundreds and all(scales)):
        raise _bad(where, "[numbers] cardinals need hundreds, thousand, lakh and crore beside them")
    texts = [(scale.many, 1) for scale in (*scales, numbers.rupee, numbers.paisa) if scale]
    texts += [(scale.many_more, 1) for scale in (*scales, numbers.rupee) if scale]
    texts += [(numbers.percent, 1), (numbers.range, 2), (numbers.rupees_and_paise, 2)]
    if clock := numbers.time:
        texts += [(clock.clock, 1), (clock.clock_of_day, 1), (clock.minutes, 2)]
        texts += [(clock.half, 1), (clock.quarter, 1), (clock.three_quarters, 1)]
    for text, count in texts:
        if text and _BRACES.findall(text) != ["{}"] * count:
            raise _bad(where, f"[numbers] {text!r} holds {{}} {'once' if count == 1 else 'twice'}")


def _check_phrases(phrases: Mapping[str, tuple[str, ...]], where: str) -> None:
    for kind, variants in phrases.items():
        if kind not in KINDS:
            raise _bad(where, f"[phrases] there is no {kind!r}{_hint(kind, KINDS)}")
        allowed = PLACEHOLDERS.get(kind)
        for text in variants:
            found = _BRACES.findall(text)
            if found != ([allowed] if allowed else []):
                wants = f"holds {allowed} once" if allowed else "holds no {...}"
                raise _bad(where, f"[phrases] {kind} {wants}: {text!r}")


def read_toml(path: Path, kind: str) -> dict[str, Any]:
    """Reads a data file. Raises ``ConfigError`` with code ``<kind>.not_readable`` or ``<kind>.not_toml``.

    A file that has not changed is not read again: what is returned is shared, look at it only.
    """
    try:
        file = path.stat()
        if file.st_size > MAX_FILE_BYTES * (8 if kind == "knowledge" else 1):
            raise ConfigError(f"{path}: the file is too large", code=f"{kind}.not_readable")
        return _parsed(path, (file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", code=f"{kind}.not_readable") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8: save it as UTF-8", code=f"{kind}.not_readable") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}", code=f"{kind}.not_toml") from None


@lru_cache(maxsize=64)
def _parsed(path: Path, state: tuple[int, ...]) -> dict[str, Any]:
    """At start five parts read the same files, and parsing one takes milliseconds. ``state`` changes with the file."""
    # Some editors begin a file with a byte order mark.
    return tomllib.loads(path.read_text(encoding="utf-8-sig"))


def _bad(where: Path | str, reason: str) -> ConfigError:
    return ConfigError(f"{where}: {reason}", code="language.bad_value")


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f": did you mean {near[0]!r}?" if near else f": there are {', '.join(sorted(known))}"
