"""The two files a decoder needs for an application: its language model and its pronunciation dictionary.

They are made of the application's phrases in about half a second and kept in ``disk_cache`` under a name that
is a hash of all that went into them. Blocking: it runs in the recogniser's own process.
"""

from __future__ import annotations

import hashlib
import heapq
import importlib.util
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from antiphon import disk_cache
from antiphon.providers.stt.language_model import MAX_SENTENCES, TrigramModel, words
from antiphon.providers.stt.phrases import general
from antiphon.providers.stt.pronounce import pronunciations

VERSION = 1
"""Raise it when the same phrases shall give other files."""

BACKGROUND_SHARE = 0.35
"""Of the unigram probability, for words that are in no phrase."""

GENERAL_WEIGHT = 0.5
"""How much a general phrase counts against one of the application's."""

PHONEMES_TIMEOUT_S = 20

KEPT = 64
"""Files, two an application, some 0.3 MB together; the oldest by use goes first. Many, since a running recogniser opens
its own again when it needs one more decoder."""


def files(phrases: Iterable[str], *, model: Path, background_words: int, cache: str = "") -> tuple[Path, Path]:
    """The paths of (ARPA language model, dictionary) for these phrases; made now if they are not cached.

    ``model`` is the wheel's ``en-us`` directory. Raises ``OSError`` when nothing can be written.
    """
    sentences = [words(phrase) for phrase in list(phrases)[:MAX_SENTENCES]]
    common = [words(phrase) for phrase in general()]
    size = (model / "cmudict-en-us.dict").stat().st_size
    espeak = importlib.util.find_spec("espeakng_loader") is not None  # without it fewer words are known
    content = repr((VERSION, espeak, BACKGROUND_SHARE, GENERAL_WEIGHT, background_words, size, sentences, common))
    key = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
    folder = Path(cache) if cache else None
    names = f"lexicon-{key}.lm", f"lexicon-{key}.dict"
    arpa, dictionary = (disk_cache.found(name, folder) for name in names)
    if arpa and dictionary:
        return arpa, dictionary
    made = _make(sentences, common, model, background_words)
    arpa, dictionary = (_stored(name, text, folder) for name, text in zip(names, made, strict=True))
    return arpa, dictionary


def _stored(name: str, text: str, folder: Path | None) -> Path:
    """The decoder opens files: where no place keeps them, one of this process alone must do."""
    data = text.encode()
    path = disk_cache.store(name, data, kept=KEPT, folder=folder)
    if path is None:
        path = Path(tempfile.mkdtemp(prefix="antiphon-")) / name
        path.write_bytes(data)
    return path


def _make(sentences: list[list[str]], common: list[list[str]], model: Path, background_words: int) -> tuple[str, str]:
    known = _read_dictionary(model / "cmudict-en-us.dict")
    wanted = {word for sentence in (*sentences, *common) for word in sentence}
    phonemes = _Phonemes(sorted({word.lower() for word in wanted if word.lower() not in known}))
    background = _background(model, known, background_words)
    ipa = phonemes.result()
    spoken: dict[str, list[str]] = {}
    for word in sorted(wanted):
        ways = spoken.setdefault(word.lower(), [])
        ways += [way for way in pronunciations(word, known, ipa) if way not in ways]
    spoken = {word: ways for word, ways in spoken.items() if ways}
    for word in background:
        spoken.setdefault(word, known[word])
    trigrams = TrigramModel()
    for group, weight in ((sentences, 1.0), (common, GENERAL_WEIGHT)):
        lowered = ([word.lower() for word in sentence] for sentence in group)
        trigrams.add(([word for word in sentence if word in spoken] for sentence in lowered), weight)
    entries = []
    for word, ways in sorted(spoken.items()):
        entries += [f"{word}{f'({at + 1})' if at else ''} {way}" for at, way in enumerate(ways)]
    return trigrams.arpa(background, BACKGROUND_SHARE), "\n".join([*entries, ""])


def _read_dictionary(path: Path) -> dict[str, list[str]]:
    known: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            word, _, phones = line.rstrip().partition(" ")
            known.setdefault(word.partition("(")[0], []).append(phones)
    return known


def _background(model: Path, known: dict[str, list[str]], count: int) -> dict[str, float]:
    """The most frequent words of everyday English and their probabilities, from the wheel's own language model."""
    if count <= 0:
        return {}
    from pocketsphinx import NGramModel  # noqa: PLC0415

    everyday = NGramModel.readfile(str(model / "en-us.lm.bin"))
    scored = heapq.nlargest(count, ((everyday.prob([word]), word) for word in known if word.isascii()))
    return {word: math.exp(score * math.log(1.0001)) for score, word in scored}


class _Phonemes:
    """IPA of words by espeak-ng, in a process of its own that works while this one does other things."""

    def __init__(self, unknown: list[str]) -> None:
        self._words = unknown
        self._process = None
        if unknown:
            command = [sys.executable, "-m", "antiphon.providers.tts.espeak_library"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def result(self) -> dict[str, str]:
        """Empty where espeak-ng is not installed (which it says on standard error): those words are not heard."""
        if self._process is None:
            return {}
        try:
            spoken, _ = self._process.communicate("\n".join(self._words) + "\n", timeout=PHONEMES_TIMEOUT_S)
        finally:
            self._process.kill()
        return dict(zip(self._words, spoken.splitlines(), strict=False))
