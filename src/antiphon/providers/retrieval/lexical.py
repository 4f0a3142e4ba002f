"""Retrieval by words alone: no model and no dependency. What ``minilm`` falls back to without its weights.

It finds what shares words with an authored question, and misses paraphrases that share none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.knowledge import Knowledge, load_knowledge
from antiphon.languages import Language, load_languages
from antiphon.providers.retrieval.ranking import (
    Ranking,
    Scores,
    best_of,
    merged,
    question_ids,
    question_sentences,
)
from antiphon.providers.retrieval.terms import TermIndex, english_terms
from antiphon.providers.settings import convert


class LexicalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``knowledge``: a knowledge base file, "" for the demo. ``languages``: a folder of corrected language files."""

    knowledge: str = ""
    languages: str = ""


def available() -> str | None:
    """Always there."""
    return None


WHOLE = 0.4
"""How much the words of the whole entry, with its answer, count beside its nearest question."""


class WordScores:
    """The questions of a knowledge base's main language, by words."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._ids = question_ids(knowledge)
        self._questions = TermIndex(question_sentences(knowledge), english_terms)

    def nearest_question(self, text: str) -> Scores:
        """Each entry by its question that shares most with the text."""
        return best_of(self._questions.scores(text), self._ids)


class Lexical:
    """Fits ``Retriever``. A query costs well under a millisecond, so it runs where it is called."""

    name = "lexical"

    def __init__(self, knowledge: Knowledge, languages: Mapping[str, Language]) -> None:
        self._ranking = Ranking(knowledge, languages)
        self._words = WordScores(knowledge)
        self._entries = [entry.id for entry in knowledge.entries]
        whole = [" ".join((*entry.questions, entry.answer)) for entry in knowledge.entries]
        self._whole = TermIndex(whole, english_terms)

    async def start(self) -> None:
        """Nothing to prepare."""

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[Passage, ...]:
        """The three best passages. Never raises."""
        query = self._ranking.plan(text, language, history)
        scores = self._ranking.translated_scores(query)
        if self._ranking.in_main_language(query):
            english = [self._by_words(part) for part in query.texts]
            scores = [merged(pair) for pair in zip(scores, english, strict=True)]
        return self._ranking.passages(query, scores)

    def _by_words(self, text: str) -> Scores:
        """The nearest question together with the whole entry."""
        whole = best_of(self._whole.scores(text), self._entries)
        nearest = self._words.nearest_question(text)
        return {id: (nearest.get(id, 0.0) + WHOLE * score) / (1 + WHOLE) for id, score in whole.items()}

    async def close(self) -> None:
        """Nothing to release."""


def build(settings: dict[str, object]) -> Lexical:
    """Raises ``ConfigError`` for a bad file or setting."""
    wanted = convert(settings, LexicalSettings, "[retrieval] lexical")
    return Lexical(load_knowledge(wanted.knowledge or None), load_languages(wanted.languages or None))
