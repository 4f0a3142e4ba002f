"""Endpointing: which words ask for more patience, in each language that comes with Antiphon."""

from __future__ import annotations

import pytest

from antiphon.kernel.endpointing import is_unfinished, silence_needed
from antiphon.kernel.policy import Policy
from antiphon.languages import load_languages, unfinished

LISTS = unfinished(load_languages())
POLICY = Policy(endpoint_ms=420, endpoint_unfinished_ms=900, unfinished=LISTS)


def needed(text: str, language: str) -> int:
    return silence_needed(text, language, POLICY)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en-IN", "I want to know the fees and"),
        ("en-IN", "because"),
        ("en-IN", "The fees, BECAUSE"),
        ("en-IN", "what is the"),
        ("en-IN", "the hostel,"),
        ("en-IN", "well …"),
        ("en-IN", "I was thinking..."),
        ("en-IN", "the comput-"),
        ("hi-IN", "मुझे फीस के बारे में जानना है और"),
        ("hi-IN", "लेकिन"),
        ("hi-IN", "mujhe fees lekin"),
        ("te-IN", "ఫీజు మరియు"),
        ("te-IN", "fees mariyu"),
        ("gu-IN", "ફી કેટલી છે અને"),
        ("gu-IN", "fee ketli ane"),
    ],
)
def test_more_is_to_come(language: str, text: str) -> None:
    assert needed(text, language) == 900


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en-IN", ""),
        ("en-IN", "   "),
        ("en-IN", "what are the fees"),
        ("en-IN", "What are the fees?"),
        ("en-IN", "and what are the fees."),
        ("en-IN", "brand"),  # ends in "and", is none
        ("hi-IN", "फीस कितनी है"),
        ("hi-IN", "और फीस कितनी है।"),
        ("te-IN", "ఫీజు ఎంత?"),
        ("gu-IN", "ફી કેટલી છે?"),
        ("xx", "this language has no list and"),
    ],
)
def test_all_is_said(language: str, text: str) -> None:
    assert needed(text, language) == 420


def test_a_final_danda_is_punctuation() -> None:
    """Words are compared without what a recogniser puts around them."""
    assert is_unfinished("मुझे फीस और।", "hi-IN", POLICY)
    assert is_unfinished("the fees and.", "en-IN", POLICY)


@pytest.mark.parametrize("language", sorted(LISTS))
def test_every_listed_word_is_found_at_the_end_of_a_sentence(language: str) -> None:
    assert LISTS[language], "every language that comes with Antiphon has such words"
    missed = [word for word in LISTS[language] if needed(f"xyz {word}", language) != 900]
    assert missed == []
