"""Short utterances without a model: what they want, and what they answer to."""

from __future__ import annotations

import pytest

from antiphon.kernel.history import Message
from antiphon.languages import load_languages
from antiphon.providers.dialogue import Dialogue, last_answer, last_question

DIALOGUE = Dialogue(load_languages())


def heard(text: str) -> tuple[Message, ...]:
    return (Message("user", "something"), Message("assistant", text))


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("Hello!", "greet"),
        ("okay thanks, bye", "goodbye"),
        ("thank you so much", "thanks"),
        ("sorry, can you repeat that please?", "repeat"),
        ("yes please", "affirm"),
        ("okay", "affirm"),
        ("okay thank you", "thanks"),
        ("yes thank you", "affirm"),
        ("no, thank you", "deny"),
        ("speak slowly please", "slower"),
        ("louder", "louder"),
        ("help", "help"),
        ("I want to talk to a person", "speak_to_human"),
        ("hello, what are the fees", ""),
        ("thanks and what about the hostel", ""),
        ("yes I have a question about fees", ""),
        ("", ""),
        ("?!...", ""),
        ("hello " * 15, ""),
    ],
)
def test_english(text: str, intent: str) -> None:
    assert DIALOGUE.recognise(text, "en-IN") == intent


@pytest.mark.parametrize(
    ("tag", "text", "intent"),
    [
        ("hi-IN", "नमस्ते", "greet"),
        ("hi-IN", "जी धन्यवाद", "thanks"),
        ("hi-IN", "haan ji", "affirm"),
        ("hi-IN", "phir se boliye please", "repeat"),
        ("hi-IN", "thank you", "thanks"),
        ("te-IN", "అవును", "affirm"),
        ("te-IN", "malli cheppandi", "repeat"),
        ("te-IN", "వద్దు", "deny"),
        ("gu-IN", "આવજો", "goodbye"),
        ("gu-IN", "kem cho", "greet"),
        ("fr-FR", "goodbye", "goodbye"),
        ("en-IN", "धन्यवाद", ""),
    ],
)
def test_other_languages_and_code_mixing(tag: str, text: str, intent: str) -> None:
    assert DIALOGUE.recognise(text, tag) == intent


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("I am not sure I understood. Did you mean: What are the fees?", "did_you_mean"),
        ("I am sorry, I do not have an answer to that. Would you like to know how to reach a person?", "offer_person"),
        ("I am sorry, I do not have an answer to that. Would you like to know", "offer_person"),
        ("You are welcome. Is there anything else?", "thanks_reply"),
        ("Alright. Is there anything else you would like to know?", "anything_else"),
        ("B Tech costs one lakh eighty thousand rupees a year.", ""),
        ("", ""),
    ],
)
def test_what_the_agent_asked(content: str, kind: str) -> None:
    assert DIALOGUE.asked(heard(content), "en-IN") == kind


def test_only_the_last_message_asks() -> None:
    history = (*heard("Let me check. Are you asking: What are the fees?"), *heard("B Tech costs one lakh."))
    assert DIALOGUE.asked(history, "en-IN") == ""
    assert DIALOGUE.asked((), "en-IN") == ""


def test_the_question_that_was_asked_back() -> None:
    text = "One moment, please. Let me check. Are you asking: What are the fees?"
    assert DIALOGUE.after_phrase(text, "did_you_mean", "hi-IN") == "What are the fees?"
    assert DIALOGUE.after_phrase("nothing of the kind", "did_you_mean", "en-IN") == ""


@pytest.mark.parametrize(
    ("text", "follows", "rest"),
    [
        ("and for international students", True, "international students"),
        ("what about the hostel", True, "the hostel"),
        ("how much is that", True, "how much is that"),
        ("hostel fees", True, "hostel fees"),
        ("what is the last date to apply", False, "what is the last date to apply"),
        ("and", True, "and"),
        ("", False, ""),
    ],
)
def test_utterances_that_lean_on_what_was_said(text: str, follows: bool, rest: str) -> None:
    assert DIALOGUE.follows_on(text, "en-IN") is follows
    assert DIALOGUE.without_opener(text, "en-IN") == rest


def test_last_messages_skip_blank_ones() -> None:
    history = (Message("user", "one"), Message("assistant", "two"), Message("assistant", " "), Message("user", ""))
    assert (last_question(history), last_answer(history)) == ("one", "two")
    assert (last_question(()), last_answer(())) == ("", "")
