"""A small vector-space index over words and letter groups: cosine of idf-weighted terms. Pure Python.

It needs no model. Letter groups let a word survive a recogniser's spelling of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from antiphon.providers.retrieval.script import skeleton, words_of

Features = Callable[[str], dict[str, float]]
"""A text's terms with their weights before idf."""

GROUP = 4
"""Length of an English letter group: shorter ones match almost anything."""

GROUP_WEIGHT = 0.35
"""How much all letter groups of a word count beside the word itself."""

SKELETON_GROUP_WEIGHT = 0.7
"""More than in English: these languages put endings on their words, and the skeletons are short."""

_STOP_WORDS = (
    "a an the is are was were be been am do does did can could will would shall should may might must i me my we our "
    "you your it its he she they them their this that these those of to in on at for from by with about as and or but "
    "if so there here please tell give want like know get have has had any some just let us also then"
)
_STOP = frozenset(_STOP_WORDS.split())
_ENDINGS = ("ations", "ation", "ments", "ment", "ings", "ing", "ies", "ed", "es", "s", "ly")


class TermIndex:
    """Documents by position. ``scores`` gives the cosine of a query with each document that shares a term."""

    def __init__(self, documents: Sequence[str], features: Features) -> None:
        self._features = features
        counted = [features(document) for document in documents]
        frequency = Counter(term for terms in counted for term in terms)
        total = len(documents)
        self._unseen = math.log(1 + total)
        self._idf = {term: math.log(1 + (total - count + 0.5) / (count + 0.5)) for term, count in frequency.items()}
        self._postings: dict[str, list[tuple[int, float]]] = {}
        for position, terms in enumerate(counted):
            for term, weight in self._unit(terms).items():
                self._postings.setdefault(term, []).append((position, weight))

    def scores(self, text: str) -> dict[int, float]:
        """Position to cosine, 0..1. Words the index does not know count as unmatched."""
        found: dict[int, float] = {}
        for term, weight in self._unit(self._features(text)).items():
            for position, other in self._postings.get(term, ()):
                found[position] = found.get(position, 0.0) + weight * other
        return found

    def _unit(self, terms: dict[str, float]) -> dict[str, float]:
        weighted = {term: weight * self._idf.get(term, self._unseen) for term, weight in terms.items()}
        length = math.sqrt(sum(weight * weight for weight in weighted.values()))
        return {term: weight / length for term, weight in weighted.items()} if length else {}


def english_terms(text: str) -> dict[str, float]:
    """Stems of content words, and letter groups of the longer ones."""
    terms: dict[str, float] = {}
    for word in words_of(text):
        if word in _STOP:
            continue
        base, groups = _stem_and_groups(word)
        terms[base] = 1.0
        for group in groups:
            terms.setdefault(group, GROUP_WEIGHT / math.sqrt(len(groups)))
    return terms


@lru_cache(maxsize=8192)
def _stem_and_groups(word: str) -> tuple[str, frozenset[str]]:
    """Kept, for a knowledge base says the same few hundred words again and again, and so do its callers."""
    base = stem(word)
    return base, _groups(f"<{base}>", GROUP)


def stem(word: str) -> str:
    """Cuts common endings so that "fees" meets "fee"; at least three letters stay."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] in "ey" else word


def skeleton_terms(text: str) -> dict[str, float]:
    """Words in their own script, their consonant skeletons, and groups of three of these."""
    terms: dict[str, float] = {}
    for word in words_of(text):
        bones = skeleton(word)
        if not bones:
            continue
        terms[f"={bones}"] = 1.0
        groups = _groups(f"<{bones}>", 3)
        for group in groups:
            terms.setdefault(group, SKELETON_GROUP_WEIGHT / math.sqrt(len(groups)))
    return terms


def _groups(word: str, size: int) -> frozenset[str]:
    return frozenset(word[at : at + size] for at in range(len(word) - size + 1))
