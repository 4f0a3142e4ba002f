"""Retrieval by words: what is left without the model still answers what is asked plainly."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from heldout import HELD_OUT, KNOWLEDGE, recall, run

from antiphon.errors import ConfigError
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.providers.llm.extractive import ANSWER_ABOVE
from antiphon.providers.retrieval import lexical
from antiphon.providers.retrieval.script import script_of, skeleton, words_of
from antiphon.providers.retrieval.terms import TermIndex, english_terms, skeleton_terms, stem

RETRIEVER = lexical.build({})


def retrieve(text: str, language: str = "en-IN", history: tuple[Message, ...] = ()) -> tuple[Passage, ...]:
    return asyncio.run(RETRIEVER.retrieve(text, language=language, history=history))


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return asyncio.run(run(RETRIEVER))


def test_every_authored_question_finds_its_entry() -> None:
    for entry in KNOWLEDGE.entries:
        best = retrieve(entry.question)[0]
        assert (best.id, best.score > ANSWER_ABOVE) == (entry.id, True), entry.question


def test_held_out(found: dict[str, Any]) -> None:
    assert recall("paraphrases", found["paraphrases"], 1) >= 0.5  # measured 0.59
    assert recall("paraphrases", found["paraphrases"], 3) >= 0.72  # measured 0.79
    assert recall("mangled", found["mangled"], 1) >= 0.8  # measured 0.90
    foreign = [p[0].score if p else 0.0 for p in found["out_of_domain"]]
    assert sum(score > ANSWER_ABOVE for score in foreign) <= 4  # measured 2
    assert sum(passages[0].id == id for _, id, passages in found["threads"]) >= 17  # measured 19 of 25


def test_nothing_in_common_finds_nothing() -> None:
    assert retrieve("zzz qqq") == ()
    assert retrieve("") == ()


def test_it_is_quick_enough_for_the_loop() -> None:
    sentences = HELD_OUT["out_of_domain"]["sentences"]
    begun = time.thread_time()
    for text in sentences:
        retrieve(text)
    assert (time.thread_time() - begun) / len(sentences) < 0.005  # measured 0.0003 s


def test_unknown_setting() -> None:
    with pytest.raises(ConfigError, match="did you mean 'knowledge'"):
        lexical.build({"knowlege": "x"})


@pytest.mark.parametrize(
    ("native", "latin"),
    [
        ("फीस", "fees"),
        ("कितनी", "kitni"),
        ("एडमिशन", "admission"),
        ("यूनिवर्सिटी", "university"),
        ("कॉलेज", "college"),
        ("छात्रवृत्ति", "chhatravritti"),
        ("सर्टिफिकेट", "certificate"),
        ("హాస్టల్", "hostel"),
        ("దరఖాస్తు", "darakhastu"),
        ("విద్యార్థులకు", "vidyarthulaku"),
        ("ક્યારે", "kyare"),
        ("સ્કોલરશિપ", "scholarship"),
    ],
)
def test_skeletons_meet_across_scripts(native: str, latin: str) -> None:
    assert skeleton(native) == skeleton(latin) != ""


def test_skeletons_of_odd_words() -> None:
    assert skeleton("aeiou") == ""
    assert skeleton("आई") == ""
    assert skeleton("१२") == "12"
    assert skeleton("hindi") != skeleton("sindhi")


def test_scripts() -> None:
    assert script_of("फीस कितनी hai") == "Devanagari"
    assert script_of("fees क्या hai bataiye") == "Latin"
    assert script_of("ఫీజు") == "Telugu"
    assert script_of("ફી") == "Gujarati"
    assert script_of("") == script_of("123 ?!") == "Latin"
    assert words_of("क्या फीस कितनी है? What's") == ["क्या", "फीस", "कितनी", "है", "what", "s"]


def test_stems() -> None:
    assert stem("fees") == stem("fee")
    assert stem("documents") == stem("document")
    assert stem("bus") == "bus"


def test_the_index() -> None:
    index = TermIndex(["red apples", "green pears", "red cars"], english_terms)
    scores = index.scores("red apple")
    assert scores[0] > scores[2] > 0
    assert 1 not in scores
    assert scores[0] == pytest.approx(1.0)
    assert index.scores("an unknown red thing")[0] < 0.6
    assert index.scores("the of") == {}
    assert TermIndex([], english_terms).scores("anything") == {}
    assert TermIndex(["फीस कितनी है"], skeleton_terms).scores("fees kitni hai")[0] == pytest.approx(1.0)
