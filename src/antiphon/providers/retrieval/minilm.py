"""Retrieval by meaning: MiniLM vectors of the knowledge base's questions, and authored phrases for other scripts.

The model reads English only. Questions in an Indic script, or Latin spellings of them, are compared
with the authored questions of that language by their consonant skeletons (``script.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.knowledge import Knowledge, load_knowledge
from antiphon.languages import Language, load_languages
from antiphon.providers.retrieval import embedding
from antiphon.providers.retrieval.bert import Floats
from antiphon.providers.retrieval.embedding import Embedder
from antiphon.providers.retrieval.lexical import Lexical, WordScores
from antiphon.providers.retrieval.ranking import (
    Ranking,
    Scores,
    best_of,
    merged,
    question_ids,
    question_sentences,
)
from antiphon.providers.retrieval.vectors import vectors_of
from antiphon.providers.settings import convert

ANSWER, WORDS = 0.3, 0.2
"""What the answer's meaning and shared words count beside the nearest question's meaning.

Measured on sentences that are not in the demo: 86 of 107 found first without the two, 95 with them;
of a recogniser's garbled sentences 21 and 24 of 29.
"""


class RetrievalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``knowledge``: a knowledge base file, "" for the demo. ``languages``: a folder of corrected language files.

    ``fallback``: search by words when the model is not installed; else that is an error at start.
    """

    knowledge: str = ""
    languages: str = ""
    fallback: bool = True


def available() -> str | None:
    """``None`` if the model is installed, else the command that installs it."""
    return embedding.available()


class MiniLM:
    """Fits ``Retriever``."""

    name = "minilm"

    def __init__(self, knowledge: Knowledge, languages: Mapping[str, Language], embedder: Embedder) -> None:
        self._ranking = Ranking(knowledge, languages)
        self._sentences = embedded_sentences(knowledge)
        self._ids = question_ids(knowledge)
        self._answers = [entry.id for entry in knowledge.entries]
        self._words = WordScores(knowledge)
        self._embedder = embedder
        self._vectors: Floats | None = None
        self._running = False

    async def start(self) -> None:
        """Loads the model and the questions' vectors. Raises ``ConfigError`` (``embedding.bad_model``)."""
        if self._running:
            return
        await self._embedder.start()
        self._running = True
        try:
            self._vectors = await vectors_of(self._sentences, self._embedder)
        except BaseException:
            await self.close()
            raise

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[Passage, ...]:
        """The three best passages. Raises ``ProviderError`` (``provider.busy``, ``provider.closed``)."""
        query = self._ranking.plan(text, language, history)
        scores = self._ranking.translated_scores(query)
        if query.texts and self._ranking.in_main_language(query):
            scores = [merged(pair) for pair in zip(scores, await self._by_meaning(query.texts), strict=True)]
        return self._ranking.passages(query, scores)

    async def _by_meaning(self, texts: Sequence[str]) -> list[Scores]:
        vectors = await self._embedder.embed(texts)
        if self._vectors is None:
            return [{} for _ in texts]
        cosines = (vectors @ self._vectors.T).tolist()
        return [self._blended(text, row) for text, row in zip(texts, cosines, strict=True)]

    def _blended(self, text: str, cosines: list[float]) -> Scores:
        split = len(self._ids)
        questions = best_of(dict(enumerate(cosines[:split])), self._ids)
        answers = dict(zip(self._answers, cosines[split:], strict=True))
        words = self._words.nearest_question(text)
        return {
            id: (score + ANSWER * answers[id] + WORDS * words.get(id, 0.0)) / (1 + ANSWER + WORDS)
            for id, score in questions.items()
        }

    async def close(self) -> None:
        """May be called twice."""
        if self._running:
            self._running = False
            await self._embedder.close()


def embedded_sentences(knowledge: Knowledge) -> list[str]:
    """What is embedded of a knowledge base: all questions, then all answers."""
    return [*question_sentences(knowledge), *(entry.answer for entry in knowledge.entries)]


def build(settings: dict[str, object]) -> MiniLM | Lexical:
    """Raises ``ConfigError`` for a bad file or setting, ``MissingExtra`` without the model and ``fallback``."""
    wanted = convert(settings, RetrievalSettings, "[retrieval] minilm")
    languages = load_languages(wanted.languages or None)
    knowledge = load_knowledge(wanted.knowledge or None)
    if wanted.fallback and available():
        return Lexical(knowledge, languages)
    return MiniLM(knowledge, languages, embedding.shared())
