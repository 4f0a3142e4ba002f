"""Interruption: which words take the floor, in each language that comes with Antiphon, mixed ones too."""

from __future__ import annotations

from itertools import pairwise

import pytest

from antiphon.kernel.interruption import Words, _by_first_word, _longest, confirms, prepare, tokens, weigh
from antiphon.kernel.language_actions import requested
from antiphon.kernel.policy import Policy
from antiphon.languages import backchannels, load_languages

LANGUAGES = load_languages()
POLICY = Policy(backchannels=backchannels(LANGUAGES))
TAGS = sorted(LANGUAGES)


@pytest.mark.parametrize("language", TAGS)
def test_every_listed_backchannel_lets_the_agent_go_on(language: str) -> None:
    listed = LANGUAGES[language].words.backchannels
    assert len(listed) > 10
    wrong = [phrase for phrase in listed if weigh(phrase, language, POLICY) is not Words.BACKCHANNEL]
    assert wrong == []
    shouted = [phrase for phrase in listed if weigh(f"{phrase.upper()}!", language, POLICY) is not Words.BACKCHANNEL]
    assert shouted == []


@pytest.mark.parametrize("language", TAGS)
def test_backchannels_in_a_row_are_still_none_of_them_speech(language: str) -> None:
    words = LANGUAGES[language].words.backchannels
    for first, second in pairwise(words):
        assert weigh(f"{first}, {second}.", language, POLICY) is Words.BACKCHANNEL


@pytest.mark.parametrize("language", TAGS)
def test_every_interrupting_phrase_takes_the_floor(language: str) -> None:
    listed = LANGUAGES[language].words.interrupting
    assert len(listed) > 5
    assert [phrase for phrase in listed if weigh(phrase, language, POLICY) is not Words.SPEECH] == []


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("te-IN", "అవును"),
        ("te-IN", "సరే, అవును"),
        ("te-IN", "avunu avunu"),
        ("hi-IN", "हाँ जी"),
        ("hi-IN", "अच्छा अच्छा।"),
        ("hi-IN", "haan ji, theek hai"),
        ("gu-IN", "હા, બરાબર છે"),
        ("gu-IN", "haa barabar"),
        ("en-IN", "Mm-hm."),
        ("en-IN", "uh huh, okay, got it"),
        # code-mixed: English backchannels count in every language
        ("te-IN", "ok సరే"),
        ("hi-IN", "हाँ okay right"),
        ("gu-IN", "yeah હા yeah"),
    ],
)
def test_listening_noises(language: str, text: str) -> None:
    assert weigh(text, language, POLICY) is Words.BACKCHANNEL


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("te-IN", "ఆగండి"),
        ("te-IN", "అవును కానీ ఫీజు ఎంత"),
        ("hi-IN", "रुको"),
        ("hi-IN", "हाँ लेकिन hostel fees"),
        ("hi-IN", "okay but kitna"),
        ("gu-IN", "ના ના"),
        ("gu-IN", "હા પણ hostel"),
        ("en-IN", "ok stop"),
        ("en-IN", "what"),
    ],
)
def test_words_of_weight(language: str, text: str) -> None:
    assert weigh(text, language, POLICY) is Words.SPEECH


@pytest.mark.parametrize("text", ["", "  ", "...", "?!", "-", "।", "- -"])
def test_nothing_is_no_words(text: str) -> None:
    assert weigh(text, "hi-IN", POLICY) is Words.NONE


def test_a_backchannel_of_another_language_is_speech() -> None:
    assert weigh("avunu", "gu-IN", POLICY) is Words.SPEECH


def test_a_phrase_counts_as_a_whole_only() -> None:
    policy = Policy(backchannels={"en-IN": ("i see", "of course")})
    assert weigh("I see", "en-IN", policy) is Words.BACKCHANNEL
    assert weigh("I see of course I see", "en-IN", policy) is Words.BACKCHANNEL
    assert weigh("see", "en-IN", policy) is Words.SPEECH
    assert weigh("of", "en-IN", policy) is Words.SPEECH
    assert weigh("I see it", "en-IN", policy) is Words.SPEECH


def test_how_many_words_it_takes_is_a_setting() -> None:
    two = Policy(interrupt_words=2, backchannels={"en-IN": ("ok",)})
    assert weigh("fees", "en-IN", two) is Words.BACKCHANNEL
    assert weigh("ok fees ok", "en-IN", two) is Words.BACKCHANNEL
    assert weigh("hostel fees", "en-IN", two) is Words.SPEECH
    assert weigh("ok", "en-IN", Policy(interrupt_words=0, backchannels={"en-IN": ("ok",)})) is Words.BACKCHANNEL


def test_without_lists_every_word_interrupts() -> None:
    assert weigh("ok", "en-IN", Policy()) is Words.SPEECH


def test_words_are_taken_apart_the_same_for_every_script() -> None:
    assert tokens("Mm-hm... OK, (yes)!") == ("mm-hm", "ok", "yes")
    assert tokens("हाँ। ठीक है॥") == ("हाँ", "ठीक", "है")
    assert tokens("అవును, సరే") == ("అవును", "సరే")


LISTED = Policy(backchannels={"en-IN": ("okay", "mmm", "yes")}, unfinished={"en-IN": ("what", "the", "can", "about")})


@pytest.mark.parametrize(
    ("before", "now", "confirmed"),
    [
        ("", "what", False),  # a recogniser's first guess at "okay"
        ("what", "okay", False),
        ("", "hostel", False),  # one word, once
        ("hostel", "hostel", True),
        ("hostel", "hotel", False),  # it changed its mind
        ("", "hostel fees", True),
        ("", "what about the", False),  # words that nobody ends with prove nothing yet
        ("what about the", "what about the fees", False),
        ("what about the fees", "what about the fees", True),
        ("okay", "okay hostel", False),
    ],
)
def test_a_partial_confirms_only_beyond_doubt(before: str, now: str, confirmed: bool) -> None:
    assert confirms(now, before, "en-IN", LISTED) is confirmed


def test_a_final_murmur_with_a_stray_word_is_a_murmur() -> None:
    assert weigh("mmm can", "en-IN", LISTED) is Words.BACKCHANNEL
    assert weigh("what", "en-IN", LISTED) is Words.SPEECH
    assert weigh("okay hostel", "en-IN", LISTED) is Words.SPEECH


SAYING = tokens("The tuition fees are two hundred thousand rupees a year. Would you like hostel fees or a scholarship?")


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("fees are two hundred", Words.BACKCHANNEL),
        ("okay tuition fees are", Words.BACKCHANNEL),
        ("Would you like hostel fees", Words.BACKCHANNEL),
        ("yes, fees", Words.SPEECH),
        ("fees", Words.SPEECH),
        ("hostel fees", Words.SPEECH),
        ("fees are two hundred no wait", Words.SPEECH),
        ("are fees two hundred", Words.SPEECH),
    ],
)
def test_the_agents_own_words_in_its_order_are_no_interruption(text: str, weight: Words) -> None:
    assert weigh(text, "en-IN", POLICY, SAYING) is weight
    assert weigh(text, "en-IN", POLICY) is Words.SPEECH


def test_a_partial_of_two_own_words_waits_for_the_next() -> None:
    assert confirms("hostel fees", "hostel", "en-IN", POLICY)
    assert not confirms("hostel fees", "hostel", "en-IN", POLICY, SAYING)
    assert confirms("hostel fees please tell", "hostel fees", "en-IN", POLICY, SAYING)
    assert confirms("no hostel fees", "no hostel", "en-IN", POLICY, SAYING), "a word of their own that stood in two"


def test_what_was_prepared_is_not_made_when_somebody_speaks() -> None:
    policy = Policy(
        backchannels={"en-IN": ("quite so", "uh"), "hi-IN": ("accha ji",)}, language_requests={"hi-IN": ("in hindi",)}
    )
    prepare(policy)
    made = _by_first_word.cache_info().misses, _longest.cache_info().misses
    for language in policy.backchannels:
        assert weigh("quite so", language, policy) is Words.BACKCHANNEL
    assert requested("please go on in hindi", policy) == "hi-IN"
    assert (_by_first_word.cache_info().misses, _longest.cache_info().misses) == made
