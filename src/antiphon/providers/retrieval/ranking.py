"""From what a caller said to passages: what to look for, and what the findings mean. Pure.

A retriever asks ``Ranking.plan`` which texts to score, scores them in its own way (vectors, or words),
and gives the scores to ``Ranking.passages``. Threads of conversation are followed here, once for all
retrievers: "and for international students?", "how much is that?", "yes" to "did you mean ...?", "repeat".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.kernel.interruption import tokens
from antiphon.knowledge import Entry, Knowledge, Translation
from antiphon.languages import Language
from antiphon.providers.dialogue import AGAIN, Dialogue, last_answer, last_question
from antiphon.providers.retrieval.script import script_of
from antiphon.providers.retrieval.terms import TermIndex, skeleton_terms

TOP = 3
"""Passages returned."""

LOOK_BACK = 3
"""How many of the agent's messages may lie between a follow-up and the answer it leans on."""

ALONE, TOGETHER = 0.5, 0.5
"""A follow-up's score: what it says by itself, and together with what was talked about."""

VARIANT_BONUS = 0.08
"""For an entry that narrows down what was talked about; cosines of its sisters differ by less."""

CLEAR = 0.80
"""An utterance that matches a question this well by itself needs no context."""

_OPENING = 3

Scores = dict[str, float]
"""Entry id to score in -1..1, on the scale of ``Passage.score``."""


class Query(msgspec.Struct, frozen=True):
    """What to look for. ``certain``: this entry, no search. ``texts``: to be scored, in order.

    ``texts`` is one text, or two for a follow-up: by itself, and together with its subject.
    """

    text: str
    tag: str
    certain: str = ""
    texts: tuple[str, ...] = ()
    subject: str = ""
    opened: bool = False
    """It began with "and", "what about" ...: it goes on from the subject for sure."""


class Ranking:
    """A knowledge base ready to be searched."""

    def __init__(self, knowledge: Knowledge, languages: Mapping[str, Language]) -> None:
        self.knowledge = knowledge
        self.dialogue = Dialogue(languages)
        self._entries = {entry.id: entry for entry in knowledge.entries}
        self._translated = {
            tag: {entry.entry: entry for entry in entries} for tag, entries in knowledge.translations.items()
        }
        self._openings: dict[tuple[str, ...], list[tuple[tuple[str, ...], str]]] = {}
        self._titles: list[tuple[tuple[str, ...], str]] = []
        self._indexes: dict[str, tuple[TermIndex, list[str]]] = {}
        self._remember(knowledge.entries)
        for tag, entries in knowledge.translations.items():
            self._remember(entries)
            pairs = [(text, entry.entry) for entry in entries for text in entry.questions]
            index = TermIndex([text for text, _ in pairs], skeleton_terms)
            self._indexes[tag] = (index, [id for _, id in pairs])

    def _remember(self, entries: Sequence[Entry | Translation]) -> None:
        """Tables that find an entry again by its question or by the beginning of its answer."""
        for entry in entries:
            id = entry.id if isinstance(entry, Entry) else entry.entry
            answer = tokens(entry.answer)
            self._openings.setdefault(answer[:_OPENING], []).append((answer, id))
            self._titles.append((tokens(entry.question), id))

    # -- what to look for -----------------------------------------------------------------------

    def plan(self, text: str, tag: str, history: Sequence[Message]) -> Query:
        """Decides from the utterance and the conversation what has to be scored."""
        tag = self._language_of(text, tag)
        query = Query(text=text, tag=tag)
        words = tokens(text)
        if not words:
            return query
        if len(words) == 1 and words[0] in self.knowledge.keypad:
            return msgspec.structs.replace(query, certain=self.knowledge.keypad[words[0]])
        intent = self.dialogue.recognise(text, tag)
        subject = self.subject(history)
        if intent in AGAIN:
            return msgspec.structs.replace(query, certain=self._said(last_answer(history)))
        if intent == "affirm":
            return msgspec.structs.replace(query, certain=self._suggested(history, tag))
        if intent:
            return query
        if not self.dialogue.follows_on(text, tag):
            return msgspec.structs.replace(query, texts=(text,))
        alone = self.dialogue.without_opener(text, tag)
        opened = alone != text
        context = self._question(subject, tag) if subject else last_question(history)
        if not context:
            return msgspec.structs.replace(query, texts=(alone,))
        return msgspec.structs.replace(query, texts=(alone, f"{context} {text}"), subject=subject, opened=opened)

    def subject(self, history: Sequence[Message]) -> str:
        """The entry that the agent last answered with, "" if it is too long ago."""
        answers = [m.content for m in history if m.role == "assistant" and m.content.strip()]
        return next((id for content in reversed(answers[-LOOK_BACK:]) if (id := self._said(content))), "")

    def _said(self, content: str) -> str:
        """The entry whose answer, or a beginning of it, is in what was heard; the longest match."""
        words = tokens(content)
        longest, found = 0, ""
        for at in range(len(words) - _OPENING + 1):
            for answer, id in self._openings.get(words[at : at + _OPENING], ()):
                length = _common(answer, words[at:])
                if length > longest:
                    longest, found = length, id
        return found

    def _suggested(self, history: Sequence[Message], tag: str) -> str:
        """The entry whose question the agent asked back."""
        if self.dialogue.asked(history, tag) != "did_you_mean":
            return ""
        asked = tokens(self.dialogue.after_phrase(last_answer(history), "did_you_mean", tag))
        if not asked:
            return ""
        return next((id for title, id in self._titles if title[: len(asked)] == asked), "")

    def _language_of(self, text: str, tag: str) -> str:
        """The language to answer in: the script tells where it is not the one expected."""
        script = script_of(text)
        known = self.dialogue.languages
        if script == "Latin" or (tag in known and known[tag].script == script):
            return tag
        return next((other for other in sorted(known) if known[other].script == script), tag)

    def _question(self, id: str, tag: str) -> str:
        translation = self._translated.get(tag, {}).get(id)
        return translation.question if translation else self._entries[id].question

    # -- what was found -------------------------------------------------------------------------

    def in_main_language(self, query: Query) -> bool:
        """The text can be compared with the knowledge base's own questions (and not only with translations)."""
        return script_of(query.text) == "Latin"

    def translated_scores(self, query: Query) -> list[Scores]:
        """Scores of ``query.texts`` against the authored questions in the caller's language."""
        indexed = self._indexes.get(query.tag)
        if indexed is None:
            return [{} for _ in query.texts]
        index, ids = indexed
        return [best_of(index.scores(text), ids) for text in query.texts]

    def passages(self, query: Query, scores: Sequence[Scores]) -> tuple[Passage, ...]:
        """The best entries. ``scores``: one table for each of ``query.texts``."""
        if query.certain:
            return (self._passage(query.certain, query.tag, 1.0),)
        ranked = sorted(self._weighed(query, scores).items(), key=lambda found: (-found[1], found[0]))
        return tuple(self._passage(id, query.tag, score) for id, score in ranked[:TOP] if score > 0)

    def _weighed(self, query: Query, scores: Sequence[Scores]) -> Scores:
        if not scores:
            return {}
        alone = scores[0]
        if len(scores) == 1 or (not query.opened and max(alone.values(), default=0.0) >= CLEAR):
            return alone
        together = scores[1]
        root = self._root(query.subject)
        weighed: Scores = {}
        for id in alone.keys() | together.keys():
            own = alone.get(id, 0.0)
            if id == query.subject:
                weighed[id] = own  # the context alone must not bring the same answer again
                continue
            weighed[id] = ALONE * own + TOGETHER * together.get(id, 0.0)
            if root and self._root(id) == root:
                weighed[id] += VARIANT_BONUS
        return {id: max(min(score, 1.0), -1.0) for id, score in weighed.items()}

    def _root(self, id: str) -> str:
        entry = self._entries.get(id)
        return (entry.variant_of or entry.id) if entry else ""

    def _passage(self, id: str, tag: str, score: float) -> Passage:
        entry = self._entries[id]
        spoken = self._translated.get(tag, {}).get(id, entry)
        return Passage(id=id, text=spoken.answer, source=entry.source, score=round(score, 4), title=spoken.question)


def question_sentences(knowledge: Knowledge) -> list[str]:
    """All questions and paraphrases in the order of ``question_ids``."""
    return [text for entry in knowledge.entries for text in entry.questions]


def question_ids(knowledge: Knowledge) -> list[str]:
    """The entry of each of ``question_sentences``."""
    return [entry.id for entry in knowledge.entries for _ in entry.questions]


def best_of(scores: Mapping[int, float], ids: Sequence[str]) -> Scores:
    """Each entry's best score over its questions."""
    best: Scores = {}
    for position, score in scores.items():
        id = ids[position]
        if score > best.get(id, -1.0):
            best[id] = score
    return best


def merged(tables: Sequence[Scores]) -> Scores:
    """The higher of several scores of the same entry."""
    best: Scores = {}
    for table in tables:
        for id, score in table.items():
            best[id] = max(score, best.get(id, -1.0))
    return best


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length
