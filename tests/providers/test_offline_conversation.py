"""Classifier, retriever and responder together: conversations without a language model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from heldout import KNOWLEDGE

from antiphon.kernel.history import Message
from antiphon.languages import load_languages
from antiphon.providers import registry
from antiphon.runtime.ports import ReplyEnd, ReplyRequest

PHRASES = load_languages()["en-IN"].phrases


async def act(name: str, kind: str, arguments: str) -> str:
    raise AssertionError("the extractive responder never acts")


def converse(lines: Sequence[str], language: str = "en-IN") -> list[tuple[str, ReplyEnd]]:
    """What the agent answers to each line, with the real parts as the server builds them."""

    async def run() -> list[tuple[str, ReplyEnd]]:
        classifier, retriever = registry.load("intent", "minilm"), registry.load("retrieval", "minilm")
        responder = registry.load("llm", "extractive")
        await asyncio.gather(classifier.start(), retriever.start(), responder.start())
        history: list[Message] = []
        answers = []
        try:
            for turn, text in enumerate(lines, start=1):
                intent, passages = await asyncio.gather(
                    classifier.classify(text, language=language, history=history),
                    retriever.retrieve(text, language=language, history=history),
                )
                request = ReplyRequest(
                    "s", turn, 1, text, language, intent=intent.name, passages=passages, history=tuple(history)
                )
                *deltas, end = [part async for part in responder.respond(request, act)]
                answer = "".join(delta.text for delta in deltas)
                history += [Message("user", text, language, turn), Message("assistant", answer, language, turn)]
                answers.append((answer, end))
        finally:
            await asyncio.gather(classifier.close(), retriever.close(), responder.close())
        return answers

    return asyncio.run(run())


def answer_of(id: str) -> str:
    return KNOWLEDGE.entry(id).answer


def test_a_whole_call_b32() -> None:
    answers = converse(
        [
            "Hello, good morning",
            "What are admission requirements?",
            "and for international students?",
            "what about the fees?",
            "sorry, could you repeat that",
            "do you have a hostel",
            "how much is that",
            "can you book me a flight to mars",
            "yes please",
            "thank you",
            "no, that's all, bye",
        ]
    )
    texts = [text for text, _ in answers]
    assert texts[0] in PHRASES["greet_reply"]
    assert texts[1] == answer_of("requirements")
    assert answers[1][1].sources == ("Admissions Handbook, section 2.1",)
    assert texts[2] == answer_of("requirements-international")
    assert texts[3] in {answer_of("fees-international"), answer_of("fees")}
    assert any(texts[4] == f"{intro} {texts[3]}" for intro in PHRASES["repeat_intro"])
    assert answers[4][1].sources == answers[3][1].sources
    assert texts[5] == answer_of("hostel")
    assert texts[6] == answer_of("hostel-fee")
    assert texts[7].startswith(tuple(PHRASES["not_known"]))
    assert not answers[7][1].sources
    assert "zero four zero" in texts[8]
    assert texts[9] in PHRASES["thanks_reply"]
    assert texts[10] in PHRASES["goodbye"]
    assert [end.ends_call for _, end in answers] == [False] * 10 + [True]


def test_a_garbled_question_is_asked_back() -> None:
    [(first, _), (second, end), (third, _)] = converse(
        ["how can i contact the emissions office", "yes", "what are the fees"]
    )
    assert first.startswith(tuple(text.partition("{")[0] for text in PHRASES["did_you_mean"]))
    assert first.endswith(KNOWLEDGE.entry("contact").question)
    assert second == answer_of("contact")
    assert end.sources == (KNOWLEDGE.entry("contact").source,)
    assert third == answer_of("fees")


def test_a_call_in_telugu() -> None:
    telugu = {entry.entry: entry.answer for entry in KNOWLEDGE.translations["te-IN"]}
    answers = [
        text for text, _ in converse(["నమస్కారం", "ఫీజు ఎంత?", "malli cheppandi", "hostel unda?", "ధన్యవాదాలు"], "te-IN")
    ]
    phrases = load_languages()["te-IN"].phrases
    assert answers[0] == phrases["greet_reply"][0]
    assert answers[1] == telugu["fees"]
    assert any(answers[2] == f"{intro} {telugu['fees']}" for intro in phrases["repeat_intro"])
    assert answers[3] == telugu["hostel"]
    assert answers[4] == phrases["thanks_reply"][0]


def test_what_is_not_translated_is_said_in_english_with_a_notice() -> None:
    [(answer, end)] = converse(["library timings"], "hi-IN")
    assert answer == f"{load_languages()['hi-IN'].phrases['other_language'][0]} {answer_of('library')}"
    assert end.sources == (KNOWLEDGE.entry("library").source,)
