"""The demo knowledge base is sound, and a bad file is refused with its place and a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from antiphon.errors import ConfigError
from antiphon.knowledge import load_knowledge, speaking_for, speech_sentences
from antiphon.languages import load_language, load_languages
from antiphon.providers.retrieval.script import script_of

DEMO = load_knowledge()

ENTRY = """
[[entry]]
id = "a"
topic = "t"
question = "What is a?"
answer = "A is a."
source = "Book, page 1"
"""
GOOD = 'title = "T"\n' + ENTRY
OTHER = ENTRY.replace('"a"', '"b"').replace("What is a", "What is b")


def write(folder: Path, text: str, name: str = "kb.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_demo_has_enough_entries_and_paraphrases() -> None:
    assert len(DEMO.entries) >= 70
    assert all(3 <= len(entry.questions) <= 8 for entry in DEMO.entries)
    assert sum(1 for entry in DEMO.entries if entry.variant_of) >= 15


def test_answers_can_be_spoken() -> None:
    for entry in DEMO.entries:
        assert not re.search(r"[0-9%&/@₹$]|Rs\b|etc\b|e\.g", entry.answer), entry.id
        assert 1 <= len(re.findall(r"[.?!](?:\s|$)", entry.answer)) <= 4, entry.id
        assert len(entry.answer) <= 260, entry.id
        assert entry.answer.endswith(".")


def test_every_entry_names_a_document_and_a_place_in_it() -> None:
    for entry in DEMO.entries:
        assert re.fullmatch(r"[A-Z][A-Za-z ]+, (section [0-9.]+|page [0-9]+)", entry.source), entry.id


def test_the_admission_requirements_are_in_it_b32() -> None:
    entry = DEMO.entry("requirements")
    assert "What are admission requirements?" in entry.questions
    assert "sixty percent" in entry.answer
    assert entry.source == "Admissions Handbook, section 2.1"


def test_translations_are_drafts_in_their_own_script() -> None:
    languages = load_languages()
    assert set(DEMO.translations) == {"hi-IN", "te-IN", "gu-IN"} == DEMO.drafts
    for tag, entries in DEMO.translations.items():
        assert len(entries) >= 10
        for entry in entries:
            assert script_of(entry.question) == script_of(entry.answer) == languages[tag].script, (tag, entry.entry)
            assert not re.search(r"[0-9]", entry.answer), (tag, entry.entry)
            assert any(script_of(text) == "Latin" for text in entry.paraphrases), (tag, entry.entry)


def test_the_demo_speaks_for_its_house() -> None:
    speaking = speaking_for(load_languages(), DEMO)
    assert "Meridian University" in speaking["en-IN"].phrases["greeting"][0]
    assert "మెరిడియన్" in speaking["te-IN"].phrases["greeting"][0]
    assert speaking["en-IN"].phrases["goodbye"] == load_language("en-IN").phrases["goodbye"]


def test_speech_sentences_hold_all_questions_and_phrases_once() -> None:
    sentences = speech_sentences(DEMO)
    assert len(sentences) == len(set(sentences)) > 700
    assert {text for entry in DEMO.entries for text in entry.questions} <= set(sentences)
    assert {"can you repeat that", "yes please", "what about international students"} <= set(sentences)
    assert sentences == speech_sentences(load_knowledge())
    hindi = speech_sentences(DEMO, load_language("hi-IN"))
    assert "phir se boliye" in hindi


def test_an_own_file_with_translations(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    write(
        tmp_path,
        'language = "hi-IN"\ndraft = false\n[[entry]]\nentry = "a"\nquestion = "क क्या है?"\nanswer = "क।"\n',
        "kb.hi-IN.toml",
    )
    knowledge = load_knowledge(path)
    assert knowledge.entry("a").source == "Book, page 1"
    assert knowledge.translations["hi-IN"][0].entry == "a"
    assert not knowledge.drafts
    with pytest.raises(KeyError):
        knowledge.entry("none")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('title = "T"\n', "entry"),
        ('title = "T"\nentry = []\n', "entry"),
        (GOOD + ENTRY, "id 'a' is used twice"),
        (GOOD + ENTRY.replace('"a"', '"b"'), "question 'what is a' is used twice"),
        (GOOD.replace('answer = "A is a."', 'answer = ""'), "entry 'a'"),
        (GOOD.replace('answer = "A is a."', 'answer = "    "'), "entry 'a'"),
        (GOOD.replace('answer = "A is a."\n', ""), "answer"),
        (GOOD.replace('id = "a"', 'id = "A b"'), "id"),
        (GOOD.replace("source", "sauce"), "sauce"),
        (GOOD + 'paraphrases = "one"\n', "paraphrases"),
        (GOOD + 'variant_of = "zz"\naudience = "x"\n', "zz"),
        (GOOD + OTHER + 'variant_of = "a"\n', "variant_of and audience"),
        (GOOD + 'variant_of = "a"\naudience = "x"\n', "general entry"),
        ('keypad = { 1 = "zz" }\n' + GOOD, "zz"),
        ('keypad = { x = "a" }\n' + GOOD, "keypad"),
        ('phrases = { greting = ["Hi."] }\n' + GOOD, "did you mean 'greeting'"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_knowledge(write(tmp_path, text))
    assert caught.value.code in {"knowledge.bad_value", "language.bad_value"}
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('language = "te-IN"\n', "does not fit"),
        ('language = "hi-IN"\n[[entry]]\nentry = "zz"\nquestion = "abc"\nanswer = "abc"\n', "zz"),
        ('language = "hi-IN"\n[[entry]]\nentry = "a"\nquestion = "abc"\n', "answer"),
        ('language = "hi-IN"\n' + '[[entry]]\nentry = "a"\nquestion = "abc"\nanswer = "abc"\n' * 2, "twice"),
    ],
)
def test_bad_translations_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, GOOD)
    write(tmp_path, text, "kb.hi-IN.toml")
    with pytest.raises(ConfigError, match=says) as caught:
        load_knowledge(path)
    assert "kb.hi-IN.toml" in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as missing:
        load_knowledge(tmp_path / "none.toml")
    assert missing.value.code == "knowledge.not_readable"
    with pytest.raises(ConfigError) as broken:
        load_knowledge(write(tmp_path, "title = "))
    assert broken.value.code == "knowledge.not_toml"
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')
    with pytest.raises(ConfigError) as latin:
        load_knowledge(tmp_path / "latin.toml")
    assert latin.value.code == "knowledge.not_readable"
    huge = write(tmp_path, "#" * (2 * 1024 * 1024 + 1), "huge.toml")
    with pytest.raises(ConfigError, match="too large"):
        load_knowledge(huge)
