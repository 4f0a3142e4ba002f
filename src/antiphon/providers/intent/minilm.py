"""What the caller wants: known phrases first, then the nearest example by meaning.

Intents are those of ``antiphon.languages.INTENTS`` (greet, goodbye, repeat, speak_to_human ...), ``question``
for what the knowledge base is to answer, and ``unknown`` for nothing at all. Everything that is not
surely small talk is a question. The examples are the phrases in the language files, and the knowledge
base's questions stand against them; the model shares one thread with the retriever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from antiphon.kernel.history import Message
from antiphon.kernel.interruption import tokens
from antiphon.knowledge import Knowledge, load_knowledge
from antiphon.languages import DEFAULT_LANGUAGE, INTENTS, Language, find_language, load_languages
from antiphon.providers.dialogue import Dialogue
from antiphon.providers.retrieval import embedding
from antiphon.providers.retrieval.bert import Floats
from antiphon.providers.retrieval.embedding import Embedder
from antiphon.providers.retrieval.minilm import embedded_sentences
from antiphon.providers.retrieval.ranking import question_sentences
from antiphon.providers.retrieval.script import script_of
from antiphon.providers.retrieval.vectors import vectors_of
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Intent

QUESTION, UNKNOWN = "question", "unknown"
BY_RULE = 1.0
"""Confidence of a known phrase."""


class IntentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``above``: cosine from which the nearest example counts; ``margin``: by which it must beat every question.

    ``knowledge``: the knowledge base with the questions, "" for the demo. ``languages``: a folder of
    corrected language files.
    """

    above: Annotated[float, Meta(ge=0, le=1)] = 0.55
    margin: Annotated[float, Meta(ge=0, le=1)] = 0.05
    knowledge: str = ""
    languages: str = ""


def available() -> str | None:
    """``None`` if the model is installed, else the command that installs it; without it only phrases count."""
    return embedding.available()


def example_sentences(languages: Mapping[str, Language]) -> list[str]:
    """The examples that the model reads: the English ones, in a fixed order."""
    return [text for _, text in _examples(languages)]


def _examples(languages: Mapping[str, Language]) -> list[tuple[str, str]]:
    english = find_language(DEFAULT_LANGUAGE, languages)
    named = {**english.intents, "affirm": english.words.yes, "deny": english.words.no}
    # One word alone lies near to any question that holds it; known phrases take care of these.
    return [(name, text) for name in INTENTS for text in named.get(name, ()) if len(text.split()) > 1]


class MiniLMIntent:
    """Fits ``Classifier``. Without an embedder it knows the phrases only."""

    name = "minilm"

    def __init__(
        self,
        languages: Mapping[str, Language],
        knowledge: Knowledge,
        embedder: Embedder | None,
        *,
        above: float = 0.55,
        margin: float = 0.05,
    ) -> None:
        self._dialogue = Dialogue(languages)
        self._sentences = embedded_sentences(knowledge)
        self._questions = len(question_sentences(knowledge))
        self._examples = _examples(languages)
        self._embedder = embedder
        self._above, self._margin = above, margin
        self._vectors: Floats | None = None
        self._against: Floats | None = None
        self._running = False

    async def start(self) -> None:
        """Loads the model and the examples' vectors. Raises ``ConfigError`` (``embedding.bad_model``)."""
        if self._embedder is None or self._running:
            return
        await self._embedder.start()
        self._running = True
        try:
            self._vectors = await vectors_of([text for _, text in self._examples], self._embedder)
            # The same list as the retriever's, so that the two share one file on disk.
            self._against = (await vectors_of(self._sentences, self._embedder))[: self._questions]
        except BaseException:
            await self.close()
            raise

    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
        """Raises ``ProviderError`` (``provider.busy``, ``provider.closed``)."""
        if not tokens(text):
            return Intent(UNKNOWN, 0.0)
        known = self._dialogue.recognise(text, language)
        if known:
            return Intent(known, BY_RULE)
        if self._embedder is None or not self._examples or script_of(text) != "Latin":
            return Intent(QUESTION, 0.5)
        vector = (await self._embedder.embed([text]))[0]
        return self._nearest(vector)

    def _nearest(self, vector: Floats) -> Intent:
        if self._vectors is None or self._against is None:
            return Intent(QUESTION, 0.5)
        cosines = self._vectors @ vector
        best = int(cosines.argmax())
        nearest, question = float(cosines[best]), float((self._against @ vector).max())
        if nearest > self._above and nearest > question + self._margin:
            return Intent(self._examples[best][0], round(nearest, 4))
        return Intent(QUESTION, round(min(max(question, 1 - nearest, 0.0), 1.0), 4))

    async def close(self) -> None:
        """May be called twice."""
        if self._running and self._embedder is not None:
            self._running = False
            await self._embedder.close()


def build(settings: dict[str, object]) -> MiniLMIntent:
    """Raises ``ConfigError`` for a wrong setting or language file."""
    wanted = convert(settings, IntentSettings, "[intent] minilm")
    embedder = None if available() else embedding.shared()
    languages, knowledge = load_languages(wanted.languages or None), load_knowledge(wanted.knowledge or None)
    return MiniLMIntent(languages, knowledge, embedder, above=wanted.above, margin=wanted.margin)
