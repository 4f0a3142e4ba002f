"""The extractive responder: answers without a language model, only from what was retrieved.

It reads a passage out word for word, or speaks a phrase of the caller's language; it makes nothing
up. What a passage says is never followed, only read out. No input makes it raise, and the same
request always gets the same answer, so it is also the last tier when a model fails.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from antiphon.kernel.events import MAX_TEXT, Passage
from antiphon.kernel.interruption import tokens
from antiphon.knowledge import load_knowledge, speaking_for
from antiphon.languages import DEFAULT_LANGUAGE, INTENTS, SCRIPTS, Language, find_language, load_languages, phrase
from antiphon.providers.dialogue import AGAIN, Dialogue, last_answer
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Act, ReplyEnd, ReplyPart, ReplyRequest, TextDelta

ANSWER_ABOVE, SUGGEST_ABOVE = 0.45, 0.33
"""Above the first a passage is the answer, above the second it is asked back.

Measured with the MiniLM retriever on sentences that are not in the demo: of 107 questions 89 were
answered rightly, 9 wrongly, 9 asked back; of 40 on other subjects 2 were answered, 10 asked back and
28 refused.
"""

SURE = 0.65
"""A passage of this score is an answer even if the classifier took the words for small talk."""

WORDS_PER_DELTA = 3
"""The text comes in pieces of this many words, as from a model that streams."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SPACE = re.compile(r"\s+")
_PIECE = re.compile(r"\s*\S+")

Score = Annotated[float, Meta(ge=-1, le=1)]


class ExtractiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``answer_above``: a passage scoring more is the answer; ``suggest_above``: it is asked back.

    ``knowledge`` is the file whose own phrases (greeting, how to reach a person) are spoken, "" for the
    demo; ``languages`` is a folder of corrected language files.
    """

    answer_above: Score = ANSWER_ABOVE
    suggest_above: Score = SUGGEST_ABOVE
    knowledge: str = ""
    languages: str = ""

    def __post_init__(self) -> None:
        if self.suggest_above > self.answer_above:
            raise ValueError("suggest_above must not exceed answer_above")


class Plan(msgspec.Struct, frozen=True):
    """All of a reply, before it is streamed."""

    text: str
    sources: tuple[str, ...] = ()
    ends_call: bool = False


class Extractive:
    """Fits ``Responder``. Pure: no model, no clock, no randomness."""

    name = "extractive"

    def __init__(
        self,
        languages: Mapping[str, Language],
        *,
        answer_above: float = ANSWER_ABOVE,
        suggest_above: float = SUGGEST_ABOVE,
    ):
        self._languages = languages
        self._dialogue = Dialogue(languages)
        self._answer_above = answer_above
        self._suggest_above = suggest_above

    async def start(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to release."""

    async def respond(self, request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
        """Streams the answer in pieces of a few words; what was already said of this turn is left out."""
        plan = self.plan(request)
        for piece in pieces(unsaid(plan.text, request.said)):
            yield TextDelta(piece)
        yield ReplyEnd(plan.sources, plan.ends_call)

    def plan(self, request: ReplyRequest) -> Plan:
        """Decides what to say."""
        passages = _usable(request.passages)
        best = passages[0] if passages else None
        intent = self._intent(request, best)
        if intent in AGAIN:
            return self._again(request, intent, best)
        if intent == "affirm":
            return self._affirmed(request, best)
        if intent == "deny":
            return self._denied(request)
        kind = _REPLIES.get(intent)
        if kind is not None:
            return Plan(self._phrase(request, kind), ends_call=kind == "goodbye")
        return self._answered(request, best)

    def _intent(self, request: ReplyRequest, best: Passage | None) -> str:
        """Known phrases decide; then the classifier, unless a passage fits much better than small talk."""
        if not tokens(request.text):
            return "blank"
        known = self._dialogue.recognise(request.text, request.language)
        if known:
            return known
        fits = self._answer_above if request.intent == "chitchat" else max(SURE, self._answer_above)
        if request.intent in INTENTS and (best is None or best.score <= fits):
            return request.intent
        return "question"

    def _answered(self, request: ReplyRequest, best: Passage | None) -> Plan:
        if best is not None and best.score > self._answer_above:
            return self._read_out(request, best)
        if best is not None and best.score >= self._suggest_above and best.title.strip():
            return Plan(self._phrase(request, "did_you_mean").replace("{question}", _clean(best.title), 1))
        return Plan(f"{self._phrase(request, 'not_known')} {self._phrase(request, 'offer_person')}")

    def _read_out(self, request: ReplyRequest, passage: Passage) -> Plan:
        text = _clean(passage.text)
        if self._is_foreign(text, request.language):
            text = f"{self._phrase(request, 'other_language')} {text}"
        return Plan(text, (passage.source or passage.id,))

    def _affirmed(self, request: ReplyRequest, best: Passage | None) -> Plan:
        question = self._dialogue.asked(request.history, request.language)
        if question == "did_you_mean" and best is not None and best.score > self._answer_above:
            return self._read_out(request, best)
        if question == "offer_person":
            return Plan(self._phrase(request, "person_reply"))
        return Plan(self._phrase(request, "anything_else"))

    def _denied(self, request: ReplyRequest) -> Plan:
        question = self._dialogue.asked(request.history, request.language)
        if question in {"anything_else", "thanks_reply"}:
            return Plan(self._phrase(request, "goodbye"), ends_call=True)
        return Plan(self._phrase(request, "deny_reply" if question == "did_you_mean" else "anything_else"))

    def _again(self, request: ReplyRequest, intent: str, best: Passage | None) -> Plan:
        heard = self._without_intro(_clean(last_answer(request.history)), request.language)
        if not heard:
            return Plan(self._phrase(request, "nothing_to_repeat"))
        intro = self._phrase(request, {"repeat": "repeat_intro"}.get(intent, f"{intent}_reply"))
        if best is not None and _begins(_clean(best.text), heard):
            # What was heard may be cut short; the passage has all of it.
            return Plan(f"{intro} {_clean(best.text)}", (best.source or best.id,))
        return Plan(f"{intro} {heard}")

    def _without_intro(self, text: str, tag: str) -> str:
        """The answer alone, without what introduced it or filled the wait for it."""
        variants = [
            variant
            for language in (find_language(tag, self._languages), find_language(DEFAULT_LANGUAGE, self._languages))
            for kind in ("repeat_intro", "slower_reply", "louder_reply", "other_language", "filler", "resumed")
            for variant in language.phrases.get(kind, ())
        ]
        stripped = True
        while stripped:
            stripped = False
            for variant in variants:
                if text.startswith(variant):
                    text, stripped = text[len(variant) :].strip(), True
        return text

    def _is_foreign(self, text: str, tag: str) -> bool:
        """English text for a caller whose language is written in another script."""
        script = find_language(tag, self._languages).script
        first = ord(SCRIPTS[script]) & ~0x7F  # these blocks hold 128 characters each
        return script != "Latin" and not any(first <= ord(character) < first + 0x80 for character in text)

    def _phrase(self, request: ReplyRequest, kind: str) -> str:
        return phrase(find_language(request.language, self._languages), kind, request.turn, languages=self._languages)


_REPLIES = {
    "blank": "please_repeat",
    "goodbye": "goodbye",
    "speak_to_human": "person_reply",
    "help": "help",
    "thanks": "thanks_reply",
    "greet": "greet_reply",
    "chitchat": "chitchat_reply",
}
"""Intents that one phrase answers."""


def pieces(text: str) -> Iterator[str]:
    """Word groups that joined give the text again."""
    words = _PIECE.findall(text)
    for at in range(0, len(words), WORDS_PER_DELTA):
        yield "".join(words[at : at + WORDS_PER_DELTA])


def unsaid(text: str, said: str) -> str:
    """What of ``text`` is still to be said when ``said`` was heard of this turn.

    ``said`` may begin with a filler ("One moment, please.") and may stop anywhere. If it is something
    else altogether (a model's words), the whole text is left.
    """
    spoken = [(match.group().strip(), match.end()) for match in _PIECE.finditer(text)]
    heard = [match.group().strip() for match in _PIECE.finditer(said)]
    plain_text = [_bare(word) for word, _ in spoken]
    plain_said = [_bare(word) for word in heard]
    for start in range(len(heard)):
        length = len(heard) - start
        new_sentence = start == 0 or heard[start - 1][-1] in ".!?:\u0964"
        if length <= len(spoken) and (length > 1 or new_sentence) and plain_said[start:] == plain_text[:length]:
            return text[spoken[length - 1][1] :].lstrip()
    if text and f" {' '.join(plain_text)} " in f" {' '.join(plain_said)} ":
        return ""
    return text


def _bare(word: str) -> str:
    return "".join(tokens(word)) or word


def _begins(text: str, heard: str) -> bool:
    """``heard`` is the text or a beginning of it."""
    words = tokens(heard)
    return bool(words) and tokens(text)[: len(words)] == words


def _usable(passages: tuple[Passage, ...]) -> list[Passage]:
    """Passages that have a text and a score, best first."""
    usable = [p for p in passages if _clean(p.text) and math.isfinite(p.score)]
    return sorted(usable, key=lambda passage: -passage.score)


def _clean(text: str) -> str:
    """One line, without control characters, within ``MAX_TEXT``."""
    return _SPACE.sub(" ", _CONTROL.sub(" ", text)).strip()[:MAX_TEXT]


def build(settings: dict[str, object]) -> Extractive:
    """Raises ``ConfigError`` for a wrong setting, knowledge base or language file."""
    wanted = convert(settings, ExtractiveSettings, "[llm] extractive")
    languages = speaking_for(load_languages(wanted.languages or None), load_knowledge(wanted.knowledge or None))
    return Extractive(languages, answer_above=wanted.answer_above, suggest_above=wanted.suggest_above)
