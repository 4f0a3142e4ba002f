"""The language menu: what is offered, and which language an answer means."""

from __future__ import annotations

import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.languages import load_languages
from antiphon.transports.twilio_menu import MAX_CHOICES, LanguageMenu, menu_of

LANGUAGES = load_languages()
FOUR = ("en-IN", "hi-IN", "te-IN", "gu-IN")
MENU = menu_of(FOUR, "en-IN", LANGUAGES)


def test_each_language_is_offered_in_itself_with_its_own_key() -> None:
    assert [(each.digit, each.language) for each in MENU.choices] == list(zip("1234", FOUR, strict=True))
    assert MENU.choices[0].prompt == "For English, press 1."
    assert "తెలుగు" in MENU.choices[2].prompt
    assert "3" in MENU.choices[2].prompt
    assert MENU.hears == "en-IN"


def test_only_what_the_recogniser_can_write_is_a_hint_to_it() -> None:
    assert {"english", "hindi", "telugu", "gujarati", "angrezi"} <= set(MENU.hints)
    assert all(hint.isascii() for hint in MENU.hints)
    telugu = menu_of(FOUR, "te-IN", LANGUAGES)
    assert telugu.hears == "te-IN"
    assert {"తెలుగు", "ఇంగ్లీష్", "హిందీ", "గుజరాతీ"} <= set(telugu.hints)
    assert not any(hint.isascii() for hint in telugu.hints)


@pytest.mark.parametrize(
    ("digits", "speech", "language"),
    [
        ("3", "", "te-IN"),
        ("9", "", ""),
        ("*", "", ""),
        ("33", "", ""),
        ("2", "Telugu", "hi-IN"),
        ("", "Telugu.", "te-IN"),
        ("", "TELUGU!", "te-IN"),
        ("", "తెలుగు", "te-IN"),
        ("", "तेलुगु", "te-IN"),
        ("", "Telegu please", "te-IN"),
        ("", "Gujrati", "gu-IN"),
        ("", "ગુજરાતી", "gu-IN"),
        ("", "I want Hindi", "hi-IN"),
        ("", "हिंदी", "hi-IN"),
        ("", "हिन्दी।", "hi-IN"),
        ("", "Angrezi", "en-IN"),
        ("", "अंग्रेजी", "en-IN"),
        ("", "english", "en-IN"),
        ("", "not english, speak in telugu", "te-IN"),
        ("", "తెలుగులో మాట్లాడండి", "te-IN"),
        ("", "3", "te-IN"),
        ("", "3.", "te-IN"),
        ("", "press 2", "hi-IN"),
        ("", "press two", "hi-IN"),
        ("", "మూడు", "te-IN"),
        ("", "चार", "gu-IN"),
        ("", "English or Hindi", ""),
        ("", "what are the fees", ""),
        ("", "this is one of those", ""),
        ("", "hello?", ""),
        ("", "...", ""),
        ("", "", ""),
        ("", "spanish", ""),
        ("", "x" * 100_000 + " telugu", ""),
    ],
)
def test_what_an_answer_means(digits: str, speech: str, language: str) -> None:
    assert MENU.meant(digits, speech) == language


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_answer_is_a_language_of_the_menu_or_none(digits: str, speech: str) -> None:
    assert MENU.meant(digits, speech) in {"", *FOUR}


@pytest.mark.parametrize("offered", [(), ("te-IN",), ("en-IN", "en-US"), ("en-IN", "fr-FR")])
def test_there_is_no_menu_where_there_is_nothing_to_choose(offered: tuple[str, ...]) -> None:
    assert menu_of(offered, "en-IN", LANGUAGES) == LanguageMenu()


def test_a_language_without_a_file_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        menu = menu_of(("en-IN", "fr-FR", "hi"), "en-IN", LANGUAGES)
    assert [(each.digit, each.language) for each in menu.choices] == [("1", "en-IN"), ("2", "hi")]
    assert "fr-FR" in caplog.text


def test_there_are_nine_keys(caplog: pytest.LogCaptureFixture) -> None:
    many = {
        f"{letters}-IN": msgspec.structs.replace(LANGUAGES["te-IN"], tag=f"{letters}-IN")
        for letters in ("aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh", "ii", "jj")
    }
    menu = menu_of(many, "aa-IN", many)
    assert "".join(each.digit for each in menu.choices) == "123456789"
    assert len(menu.choices) == MAX_CHOICES
    assert "jj-IN" in caplog.text
