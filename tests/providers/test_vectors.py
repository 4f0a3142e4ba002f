"""Vectors on disk: computed once, refused when they do not fit, never an error of the disk."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from tests.damage import WAYS, damage

from antiphon import disk_cache
from antiphon.knowledge import load_knowledge
from antiphon.languages import load_languages
from antiphon.providers.intent.minilm import example_sentences
from antiphon.providers.retrieval import vectors
from antiphon.providers.retrieval.bert import DIMENSIONS, Floats
from antiphon.providers.retrieval.embedding import Embedder
from antiphon.providers.retrieval.minilm import embedded_sentences
from antiphon.providers.retrieval.vectors import KEPT, vectors_of

TEXTS = [f"sentence {number % 90}" for number in range(100)]


class Counting:
    """Stands for the embedder: a different unit vector for each text."""

    def __init__(self) -> None:
        self.computed = 0

    async def embed(self, texts: Sequence[str]) -> Floats:
        self.computed += len(texts)
        made = np.zeros((len(texts), DIMENSIONS), np.float32)
        for row, text in enumerate(texts):
            made[row, int(text.split()[-1])] = 1
        return made


def load(texts: Sequence[str], folder: Path | None, embedder: Counting) -> Floats:
    return asyncio.run(vectors_of(texts, cast(Embedder, embedder), folder))


def test_computed_once_each_distinct_text_once(tmp_path: Path) -> None:
    embedder = Counting()
    first = load(TEXTS, tmp_path, embedder)
    assert embedder.computed == 90
    assert first.shape == (100, DIMENSIONS)
    assert [int(row.argmax()) for row in first] == [number % 90 for number in range(100)]
    assert np.array_equal(load(TEXTS, tmp_path, embedder), first)
    assert embedder.computed == 90
    load([*TEXTS, "sentence 91"], tmp_path, embedder)
    assert embedder.computed == 181


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_file_is_computed_again(tmp_path: Path, way: str) -> None:
    embedder = Counting()
    first = load(TEXTS, tmp_path, embedder)
    [path] = tmp_path.iterdir()
    damage(path, way)
    assert np.array_equal(load(TEXTS, tmp_path, embedder), first)
    assert embedder.computed == 180
    if way != "unreadable":  # nothing can be written in its place, either
        load(TEXTS, tmp_path, embedder)
        assert embedder.computed == 180


@pytest.mark.parametrize("wrong", ["garbage", "shape", "lengths", "type"])
def test_a_packaged_file_that_does_not_fit_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setattr(vectors, "PACKAGED", tmp_path / "packaged")
    monkeypatch.setattr(disk_cache, "folders", lambda: [tmp_path / "kept"])
    embedder = Counting()
    first = load(TEXTS, None, embedder)
    vectors.PACKAGED.mkdir()
    path = vectors.PACKAGED / vectors._name(TEXTS)
    contents = {"shape": first[:5].astype(np.float16), "lengths": (first * 3).astype(np.float16), "type": first}
    if wrong == "garbage":
        path.write_bytes(os.urandom(200))
    else:
        np.save(path, contents[wrong])
    assert np.array_equal(load(TEXTS, None, embedder), first)
    assert embedder.computed == 90
    shutil.rmtree(tmp_path / "kept")
    assert np.array_equal(load(TEXTS, None, embedder), first)
    assert embedder.computed == 180


def test_old_files_go(tmp_path: Path) -> None:
    embedder = Counting()
    for number in range(KEPT + 3):
        load([f"sentence {number}"], tmp_path, embedder)
    assert len(list(tmp_path.glob("vectors-*.npy"))) == KEPT
    assert not list(tmp_path.glob(".vectors-*"))


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    embedder = Counting()
    assert load(TEXTS, tmp_path / "file" / "below", embedder).shape == (100, DIMENSIONS)


def test_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    best, spare = disk_cache.folders()
    assert best == tmp_path / "cache" / "antiphon"
    assert spare.parent == tmp_path / "tmp"
    (tmp_path / "cache").write_text("not a folder")
    load(TEXTS, None, Counting())
    assert len(list(spare.glob("vectors-*.npy"))) == 1
    assert spare.stat().st_mode & 0o077 == 0
    embedder = Counting()
    load(TEXTS, None, embedder)
    assert embedder.computed == 0


def test_the_demo_s_vectors_come_with_the_package() -> None:
    """Run ``python scripts/embed_demo.py`` after a change of the demo or of the English phrases."""
    expected = {
        vectors._name(embedded_sentences(load_knowledge())),
        vectors._name(example_sentences(load_languages())),
    }
    assert {path.name for path in vectors.PACKAGED.glob("vectors-*.npy")} == expected
    embedder = Counting()
    load(embedded_sentences(load_knowledge()), None, embedder)
    assert embedder.computed == 0
