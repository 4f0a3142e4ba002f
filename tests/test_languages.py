"""Language files: what comes with Antiphon is whole, and a bad file is refused with its place and a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from antiphon.errors import ConfigError
from antiphon.kernel.interruption import Words, contains, tokens, weigh
from antiphon.kernel.policy import Policy
from antiphon.languages import (
    BUILT_IN,
    INTENTS,
    KINDS,
    SCRIPTS,
    Language,
    backchannels,
    find_language,
    language_requests,
    load_language,
    load_languages,
    menu_prompt,
    phrase,
    read_toml,
    unfinished,
)

LANGUAGES = load_languages()
GOOD = 'tag = "xx-YY"\nenglish_name = "X"\nown_name = "X"\n'


def test_the_four_languages_are_there_a41() -> None:
    assert set(LANGUAGES) == {"te-IN", "hi-IN", "en-IN", "gu-IN"}
    assert {tag: language.own_name for tag, language in LANGUAGES.items()} == {
        "te-IN": "తెలుగు",
        "hi-IN": "हिन्दी",
        "en-IN": "English",
        "gu-IN": "ગુજરાતી",
    }


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda language: language.tag)
def test_each_has_all_phrases_words_and_intents(language: Language) -> None:
    assert set(language.phrases) == KINDS
    for words in (language.words.backchannels, language.words.unfinished, language.words.yes, language.words.no):
        assert len(words) >= 5
    assert len(language.words.interrupting) >= 4
    assert set(language.intents) == set(INTENTS)
    assert all(language.intents[name] for name in INTENTS if name not in {"affirm", "deny"})  # those are yes and no
    assert language.draft == (language.tag != "en-IN")


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda language: language.tag)
def test_phrases_are_written_in_the_language_s_script(language: Language) -> None:
    first = ord(SCRIPTS[language.script]) & ~0x7F
    for variants in language.phrases.values():
        for text in variants:
            inside = any(first <= ord(character) < first + 0x80 for character in text)
            assert inside or language.script == "Latin"


OFTEN_SAID = ("filler", "apology", "please_repeat", "goodbye", "still_there", "language_switched")


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda language: language.tag)
def test_what_is_said_often_has_variants(language: Language) -> None:
    for kind in OFTEN_SAID:
        assert len(set(language.phrases[kind])) >= 2, kind


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda language: language.tag)
def test_sentences_end_as_the_language_ends_them(language: Language) -> None:
    stop = "।" if language.script == "Devanagari" else "."
    for kind, variants in language.phrases.items():
        for text in variants:
            assert text.endswith((stop, "?", ":", "{question}")), (kind, text)
            assert ({"।", "."} - {stop}).isdisjoint(text), (kind, text)


def test_the_menu_offers_each_language_in_its_own_words_a68() -> None:
    assert menu_prompt(LANGUAGES["en-IN"], "1") == "For English, press 1."
    assert menu_prompt(LANGUAGES["te-IN"], "2") == "తెలుగు కోసం 2 నొక్కండి."
    assert menu_prompt(LANGUAGES["hi-IN"], "3") == "हिन्दी के लिए 3 दबाइए।"
    assert menu_prompt(LANGUAGES["gu-IN"], "4") == "ગુજરાતી માટે 4 દબાવો."


@pytest.mark.parametrize(
    ("said", "tag"),
    [
        ("Please speak in Telugu.", "te-IN"),
        ("telugu lo matladandi", "te-IN"),
        ("తెలుగులో మాట్లాడండి.", "te-IN"),
        ("क्या आप तेलुगु में बात कीजिए", "te-IN"),
        ("Hindi mein baat karo", "hi-IN"),
        ("हिंदी में बोलिए।", "hi-IN"),
        ("can you switch to English please", "en-IN"),
        ("gujarati ma vaat karo", "gu-IN"),
        ("ગુજરાતીમાં વાત કરો", "gu-IN"),
        ("is the exam held in telugu", ""),
        ("do you teach hindi literature", ""),
    ],
)
def test_asking_for_a_language(said: str, tag: str) -> None:
    asked = [tag for tag, phrases in language_requests(LANGUAGES).items() if contains(tokens(said), phrases)]
    assert asked == ([tag] if tag else [])


@pytest.mark.parametrize(
    ("tag", "said", "weight"),
    [
        ("en-IN", "mm-hm okay", Words.BACKCHANNEL),
        ("en-IN", "stop", Words.SPEECH),
        ("en-IN", "wait what about the hostel", Words.SPEECH),
        ("hi-IN", "हाँ जी अच्छा", Words.BACKCHANNEL),
        ("hi-IN", "haan theek hai", Words.BACKCHANNEL),
        ("hi-IN", "रुकिए", Words.SPEECH),
        ("te-IN", "అవును సరే", Words.BACKCHANNEL),
        ("te-IN", "avunu sare", Words.BACKCHANNEL),
        ("te-IN", "aagandi", Words.SPEECH),
        ("gu-IN", "હા બરાબર", Words.BACKCHANNEL),
        ("gu-IN", "ઊભા રહો", Words.SPEECH),
    ],
)
def test_backchannels_do_not_interrupt(tag: str, said: str, weight: Words) -> None:
    assert weigh(said, tag, Policy(backchannels=backchannels(LANGUAGES))) is weight


def test_no_interrupting_word_is_a_backchannel() -> None:
    policy = Policy(backchannels=backchannels(LANGUAGES))
    for language in LANGUAGES.values():
        for word in language.words.interrupting:
            assert weigh(word, language.tag, policy) is Words.SPEECH, (language.tag, word)


def test_unfinished_words_are_single_tokens() -> None:
    for words in unfinished(LANGUAGES).values():
        assert all(len(tokens(word)) == 1 for word in words)


def test_phrase_goes_round_its_variants_and_falls_back_to_english() -> None:
    english = LANGUAGES["en-IN"].phrases["filler"]
    assert [phrase("en-IN", "filler", n, languages=LANGUAGES) for n in range(4)] == [*english, english[0]]
    assert phrase("fr-FR", "goodbye", languages=LANGUAGES) == LANGUAGES["en-IN"].phrases["goodbye"][0]
    empty = Language(tag="xx", english_name="X", own_name="X")
    assert phrase(empty, "help", languages={"xx": empty}) == LANGUAGES["en-IN"].phrases["help"][0]
    assert phrase("hi-IN", "goodbye") == LANGUAGES["hi-IN"].phrases["goodbye"][0]


def test_a_base_tag_finds_its_language() -> None:
    assert find_language("hi", LANGUAGES).tag == "hi-IN"
    assert find_language("te-US", LANGUAGES).tag == "te-IN"
    assert find_language("", LANGUAGES).tag == "en-IN"


def test_an_unknown_phrase_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'greeting'") as caught:
        phrase("en-IN", "greting", languages=LANGUAGES)
    assert caught.value.code == "language.unknown_phrase"


def test_own_folder_wins_and_adds(tmp_path: Path) -> None:
    corrected = (BUILT_IN / "hi-IN.toml").read_text(encoding="utf-8").replace("draft = true", "draft = false")
    (tmp_path / "hi-IN.toml").write_text(corrected, encoding="utf-8")
    (tmp_path / "xx-YY.toml").write_text(GOOD, encoding="utf-8")
    loaded = load_languages(tmp_path)
    assert not loaded["hi-IN"].draft
    assert set(loaded) == {"te-IN", "hi-IN", "en-IN", "gu-IN", "xx-YY"}


def test_own_phrases_replace_single_kinds() -> None:
    changed = LANGUAGES["en-IN"].with_phrases({"greeting": ("Hi.",)})
    assert changed.phrases["greeting"] == ("Hi.",)
    assert changed.phrases["goodbye"] == LANGUAGES["en-IN"].phrases["goodbye"]
    with pytest.raises(ConfigError, match="holds no"):
        LANGUAGES["en-IN"].with_phrases({"greeting": ("Hello {name}",)})


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"tag = ", "language.not_toml", "not TOML"),
        (b'tag = "xx-YY"\nown_name = "\xff"', "language.not_readable", "UTF-8"),
        ('tag = "xx-YY"\nown_name = "X"\n', "language.bad_value", "english_name"),
        (GOOD.replace("xx-YY", "zz-ZZ"), "language.bad_value", "make them the same"),
        (GOOD + "nonsense = 1\n", "language.bad_value", "nonsense"),
        (GOOD + 'script = "Runes"\n', "language.bad_value", "Runes"),
        (GOOD + '[phrases]\ngreting = ["hi"]\n', "language.bad_value", "did you mean 'greeting'"),
        (GOOD + "[phrases]\ngreeting = []\n", "language.bad_value", "phrases"),
        (GOOD + '[phrases]\ngreeting = ["  "]\n', "language.bad_value", "phrases"),
        (GOOD + '[phrases]\ndid_you_mean = ["Did you mean that?"]\n', "language.bad_value", "{question} once"),
        (GOOD + '[phrases]\ngoodbye = ["Bye {question}"]\n', "language.bad_value", "holds no"),
        (GOOD + '[phrases]\ngoodbye = ["Bye {"]\n', "language.bad_value", "holds no"),
        (GOOD + '[words]\nunfinished = ["and then"]\n', "language.bad_value", "single words"),
        (GOOD + '[words]\nbackchannels = ["no"]\ninterrupting = ["no"]\n', "language.bad_value", "only one"),
        (GOOD + '[phrases]\nchoose_language = ["Press 1"]\n', "language.bad_value", "{digit} once"),
        (GOOD + "[identify]\nword = ''\n", "language.bad_value", "word"),
        (
            GOOD + "[numbers]\ncardinals = 'zero, one'\n",
            "language.bad_value",
            "holds 100 words parted by commas, not 2",
        ),
        (GOOD + "[numbers]\nmonths = '" + "m, " * 11 + "'\n", "language.bad_value", "months holds 12"),
        (GOOD + "[numbers]\ncardinals = '" + ", ".join("x" * 100) + "'\n", "language.bad_value", "need hundreds"),
        (GOOD + "[numbers]\npercent = 'percent'\n", "language.bad_value", "holds {} once"),
        (GOOD + "[numbers]\nrange = '{} to'\n", "language.bad_value", "holds {} twice"),
        (GOOD + "[numbers]\nrupee = { one = 'r', many = 'rs' }\n", "language.bad_value", "holds {} once"),
        (GOOD + "[numbers.time]\nclock = '{}'\nminutes = '{}'\n", "language.bad_value", "holds {} twice"),
        (GOOD + '[intents]\ngreeet = ["hi"]\n', "language.bad_value", "did you mean 'greet'"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: str | bytes, code: str, says: str) -> None:
    path = tmp_path / "xx-YY.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load_languages(tmp_path)
    assert caught.value.code == code
    assert says in str(caught.value)
    assert "xx-YY.toml" in str(caught.value)


def test_english_must_be_whole(tmp_path: Path) -> None:
    text = (BUILT_IN / "en-IN.toml").read_text(encoding="utf-8")
    (tmp_path / "en-IN.toml").write_text(text.replace('goodbye = ["Thank', '# goodbye = ["Thank'), encoding="utf-8")
    with pytest.raises(ConfigError, match="lacks goodbye"):
        load_language("en-IN", tmp_path)


@pytest.mark.parametrize("tag", ["fr-FR", "", "../en-IN", "en-IN/../../x", "a" * 500])
def test_an_unknown_tag_lists_what_there_is(tag: str) -> None:
    with pytest.raises(ConfigError, match="en-IN, gu-IN, hi-IN, te-IN") as caught:
        load_language(tag)
    assert caught.value.code == "language.not_found"


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_languages(tmp_path / "none")
    assert caught.value.code == "language.not_found"


def test_a_file_is_parsed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def loads(text: str) -> dict[str, str]:
        parsed.append(text)
        return {"text": text}

    monkeypatch.setattr("antiphon.languages.tomllib.loads", loads)
    file = tmp_path / "one.toml"
    file.write_text("a")
    assert [read_toml(file, "language")["text"] for _ in range(3)] == ["a"] * 3
    (tmp_path / "new.toml").write_text("b")
    (tmp_path / "new.toml").replace(file)  # as an editor saves: another file of the same name and size
    assert read_toml(file, "language") == {"text": "b"}
    os.utime(file, ns=(0, 0))
    assert read_toml(file, "language") == {"text": "b"}
    assert parsed == ["a", "b", "b"]


def test_a_file_that_cannot_be_parsed_is_told_every_time(tmp_path: Path) -> None:
    file = tmp_path / "one.toml"
    file.write_text("a = ")
    for _ in range(2):
        with pytest.raises(ConfigError, match="not TOML"):
            read_toml(file, "language")


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    text = (BUILT_IN / "te-IN.toml").read_text(encoding="utf-8")
    (tmp_path / "te-IN.toml").write_text(text, encoding="utf-8-sig")
    assert load_language("te-IN", tmp_path) == load_language("te-IN")


def test_a_file_of_another_name_is_no_language(tmp_path: Path) -> None:
    (tmp_path / "telugu.toml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no language 'telugu': there are en-IN, .*te-IN; a tag is written like"):
        load_languages(tmp_path)
