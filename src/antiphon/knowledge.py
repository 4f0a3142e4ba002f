"""The knowledge base: questions with answers and their sources, read from TOML files that a person can edit.

``admissions.toml`` holds the entries in its main language; ``admissions.hi-IN.toml`` beside it holds
what of it is translated. Point ``[retrieval] knowledge`` at a file of your own to answer about
something else. The text of an entry is data that is read out, never instructions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from antiphon.errors import ConfigError
from antiphon.languages import DEFAULT_LANGUAGE, Language, load_languages, read_toml

DEMO = Path(__file__).parent / "data" / "kb" / "admissions.toml"
"""The demo: frequent questions to the admissions office of an invented university."""

Id = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Question = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
Answer = Annotated[str, Meta(min_length=1, max_length=1000, pattern=r"\S")]
Line = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question and its answer.

    ``variant_of`` names the general entry that this one narrows down for an ``audience``, so that
    "and for international students?" finds it. ``answer`` is what a voice says, word for word.
    """

    id: Id
    topic: Line
    question: Question
    paraphrases: Annotated[tuple[Question, ...], Meta(max_length=50)] = ()
    answer: Answer
    source: Line
    variant_of: str = ""
    audience: str = ""

    @property
    def questions(self) -> tuple[str, ...]:
        """The question and its paraphrases."""
        return (self.question, *self.paraphrases)


class Translation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry in another language. Paraphrases may be in the script or in Latin letters."""

    entry: str
    question: Question
    paraphrases: Annotated[tuple[Question, ...], Meta(max_length=50)] = ()
    answer: Answer

    @property
    def questions(self) -> tuple[str, ...]:
        """The question and its paraphrases."""
        return (self.question, *self.paraphrases)


StructT = TypeVar("StructT", bound=msgspec.Struct)
Phrases = dict[str, tuple[str, ...]]


class Knowledge(msgspec.Struct, frozen=True, kw_only=True):
    """A checked knowledge base. ``keypad`` maps a key to an entry's id."""

    title: str
    language: str
    entries: tuple[Entry, ...]
    translations: dict[str, tuple[Translation, ...]] = {}
    phrases: dict[str, Phrases] = {}
    keypad: dict[str, str] = {}
    drafts: frozenset[str] = frozenset()
    """Languages whose translations no native speaker has reviewed."""
    path: str = ""

    def entry(self, id: str) -> Entry:
        """Raises ``KeyError`` for an unknown id."""
        for entry in self.entries:
            if entry.id == id:
                return entry
        raise KeyError(id)


class _Main(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: Line
    language: str = DEFAULT_LANGUAGE
    keypad: dict[Annotated[str, Meta(pattern=r"^[0-9]{1,2}$")], str] = {}
    phrases: Phrases = {}
    entry: Annotated[tuple[Entry, ...], Meta(min_length=1, max_length=5000)]


class _Translated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    language: str
    draft: bool = True
    phrases: Phrases = {}
    entry: Annotated[tuple[Translation, ...], Meta(max_length=5000)] = ()


def load_knowledge(path: Path | str | None = None) -> Knowledge:
    """Reads a knowledge base and the translations beside it; without a path, the demo.

    Raises ``ConfigError``: ``knowledge.not_readable``, ``knowledge.not_toml``, ``knowledge.bad_value``
    (a missing or empty text, an id used twice, a link to an entry that does not exist ...).
    """
    file = DEMO if path is None or str(path) == "" else Path(path)
    main = _convert(file, _Main)
    ids = _check_entries(main, file)
    phrases = {main.language: main.phrases} if main.phrases else {}
    translations: dict[str, tuple[Translation, ...]] = {}
    drafts = set()
    for beside in sorted(file.parent.glob(f"{file.stem}.*.toml")):
        translated = _convert(beside, _Translated)
        if beside.name != f"{file.stem}.{translated.language}.toml" or translated.language in {"", main.language}:
            raise _bad(beside, f"language is {translated.language!r}, which does not fit the file's name")
        _check_translations(translated, ids, beside)
        translations[translated.language] = translated.entry
        if translated.phrases:
            phrases[translated.language] = translated.phrases
        if translated.draft:
            drafts.add(translated.language)
    knowledge = Knowledge(
        title=main.title,
        language=main.language,
        entries=main.entry,
        translations=translations,
        phrases=phrases,
        keypad=main.keypad,
        drafts=frozenset(drafts),
        path=str(file),
    )
    speaking_for(load_languages(), knowledge)  # a wrong phrase is found now, not in a call
    return knowledge


def speaking_for(languages: Mapping[str, Language], knowledge: Knowledge) -> dict[str, Language]:
    """The languages with the knowledge base's own phrases in place, such as a greeting that names the house.

    Raises ``ConfigError`` (``language.bad_value``) for an unknown kind of phrase.
    """
    return {tag: language.with_phrases(knowledge.phrases.get(tag, {})) for tag, language in languages.items()}


def speech_sentences(knowledge: Knowledge, language: Language | None = None) -> list[str]:
    """Sentences that callers are likely to say, for a recogniser's language model.

    The questions and paraphrases in the knowledge base's language, then the general phrases of
    ``language`` (the language file of the same tag if none is given), each once, in a fixed order.
    """
    spoken = language or load_languages().get(knowledge.language)
    sentences: list[str] = [text for entry in knowledge.entries for text in entry.questions]
    if spoken is not None:
        words = spoken.words
        sentences += [text for phrases in spoken.intents.values() for text in phrases]
        sentences += [*words.yes, *words.no, *words.interrupting, *words.backchannels, *words.follow_up]
        audiences = dict.fromkeys(entry.audience for entry in knowledge.entries if entry.audience)
        openers = [opener for opener in words.follow_up if opener.endswith((" for", " about")) or opener == "for"]
        sentences += [f"{opener} {audience}" for audience in audiences for opener in openers]
    return list(dict.fromkeys(" ".join(text.split()) for text in sentences))


def _convert(path: Path, kind: type[StructT]) -> StructT:
    raw = read_toml(path, "knowledge")
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise _bad(path, f"{error}{_which(raw.get('entry'), str(error))}") from None


def _which(entries: object, error: str) -> str:
    """Names the entry that msgspec points at by number only."""
    at = re.search(r"entry\[(\d+)\]", error)
    if at is None or not isinstance(entries, list):
        return ""
    entry = entries[int(at[1])] if int(at[1]) < len(entries) else None
    name = entry.get("id", entry.get("entry", "")) if isinstance(entry, dict) else ""
    return f" (entry {name!r})" if name else f" (entry number {int(at[1]) + 1})"


def _check_entries(main: _Main, path: Path) -> set[str]:
    ids = _once((entry.id for entry in main.entry), path, "id")
    _once((_plain(text) for entry in main.entry for text in entry.questions), path, "question")
    variants = {entry.id for entry in main.entry if entry.variant_of}
    for entry in main.entry:
        if entry.variant_of and (entry.variant_of not in ids or entry.variant_of in variants):
            raise _bad(path, f"entry {entry.id!r}: variant_of {entry.variant_of!r} is not the id of a general entry")
        if bool(entry.variant_of) != bool(entry.audience):
            raise _bad(path, f"entry {entry.id!r}: set variant_of and audience, or neither")
    for key, id in main.keypad.items():
        if id not in ids:
            raise _bad(path, f"keypad {key}: there is no entry {id!r}")
    return ids


def _check_translations(translated: _Translated, ids: set[str], path: Path) -> None:
    _once((entry.entry for entry in translated.entry), path, "entry")
    _once((_plain(text) for entry in translated.entry for text in entry.questions), path, "question")
    for entry in translated.entry:
        if entry.entry not in ids:
            raise _bad(path, f"entry {entry.entry!r} does not exist in the main file")


def _once(values: Iterable[str], path: Path, what: str) -> set[str]:
    counted = Counter(values)
    twice = [value for value, count in counted.items() if count > 1]
    if twice:
        raise _bad(path, f"{what} {twice[0]!r} is used twice")
    return set(counted)


def _plain(text: str) -> str:
    return " ".join(text.casefold().rstrip("?.!\u0964 ").split())


def _bad(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"{path}: {reason}", code="knowledge.bad_value")
