"""Vectors of a list of sentences, kept on disk so that only the first start computes them.

One ``.npy`` file a list, named by a hash of its sentences and of the model, in ``disk_cache``. Those of the
demo come with the package. A file that does not fit is computed anew; no failure of the disk is an error.
Numbers are stored as 16 bits: that moves a cosine by less than 0.001.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antiphon import disk_cache
from antiphon.providers.retrieval.bert import BATCH, DIMENSIONS, Floats
from antiphon.providers.retrieval.embedding import MAX_CHARACTERS, MAX_WAITING, Embedder

MODEL = "all-MiniLM-L6-v2, numpy, 1"
"""Part of the hash: change it when the same sentence gets another vector."""

PACKAGED = Path(__file__).parents[2] / "data" / "kb"
"""Written by ``scripts/embed_demo.py``."""

KEPT = 16
"""Files in the folder; the oldest goes first."""

Halves = NDArray[np.float16]
log = logging.getLogger(__name__)


async def vectors_of(texts: Sequence[str], embedder: Embedder, folder: Path | None = None) -> Floats:
    """``(len(texts), 384)`` unit vectors, from disk or computed. Raises what ``Embedder.embed`` raises."""
    name = _name(texts)
    stored = await asyncio.to_thread(_load, name, len(texts), folder)
    if stored is not None:
        return stored
    distinct = list(dict.fromkeys(text[:MAX_CHARACTERS] for text in texts))
    rows = {text: row for row, text in enumerate(distinct)}
    # In portions, so that a caller's question does not wait behind a whole knowledge base.
    step = min(BATCH * 4, MAX_WAITING)
    portions = [await embedder.embed(distinct[at : at + step]) for at in range(0, len(distinct), step)]
    computed = np.concatenate(portions) if portions else np.empty((0, DIMENSIONS), np.float32)
    short = computed[[rows[text[:MAX_CHARACTERS]] for text in texts]].astype(np.float16)
    await asyncio.to_thread(_store, name, short, folder)
    return short.astype(np.float32)


def _name(texts: Sequence[str]) -> str:
    digest = hashlib.blake2b(MODEL.encode(), digest_size=16)
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "replace"))
    return f"vectors-{digest.hexdigest()}.npy"


def _load(name: str, rows: int, folder: Path | None) -> Floats | None:
    packaged = PACKAGED / name
    for path in (packaged if folder is None and packaged.is_file() else None, disk_cache.found(name, folder)):
        if path is None:
            continue
        try:
            vectors = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            log.warning("%s: unusable, computing it again: %s", path, error)
            continue
        if vectors.shape == (rows, DIMENSIONS) and vectors.dtype == np.float16:
            loaded: Floats = vectors.astype(np.float32)
            if np.allclose(np.linalg.norm(loaded, axis=1), 1, atol=1e-2):
                return loaded
        log.warning("%s: does not fit, computing it again", path)
    return None


def _store(name: str, vectors: Halves, folder: Path | None) -> None:
    file = io.BytesIO()
    np.save(file, vectors, allow_pickle=False)
    disk_cache.store(name, file.getvalue(), kept=KEPT, folder=folder)
