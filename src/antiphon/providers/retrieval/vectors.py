"""Vectors of a list of sentences, kept on disk so that only the first start computes them.

One ``.npy`` file a list, named by a hash of its sentences and of the model, in
``$XDG_CACHE_HOME/antiphon`` (``~/.cache/antiphon``), else in the system's temporary folder, else
nowhere. Those of the demo come with the package. A file that does not fit is computed anew; no failure
of the disk is an error. Numbers are stored as 16 bits: that moves a cosine by less than 0.001.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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


def folders() -> list[Path]:
    """Where vectors may be kept, the best place first."""
    found = []
    base = os.environ.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(RuntimeError):  # no home directory
        found.append((Path(base) if base else Path.home() / ".cache") / "antiphon")
    owner = str(os.getuid()) if hasattr(os, "getuid") else "user"
    found.append(Path(tempfile.gettempdir()) / f"antiphon-{owner}")
    return found


def _name(texts: Sequence[str]) -> str:
    digest = hashlib.blake2b(MODEL.encode(), digest_size=16)
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "replace"))
    return f"vectors-{digest.hexdigest()}.npy"


def _load(name: str, rows: int, folder: Path | None) -> Floats | None:
    for place in [folder] if folder else [PACKAGED, *folders()]:
        path = place / name
        if not (place == PACKAGED or _is_ours(place)) or not path.is_file():
            continue
        try:
            vectors = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            log.warning("%s: unusable, computing it again: %s", path, error)
            continue
        if vectors.shape == (rows, DIMENSIONS) and vectors.dtype == np.float16:
            loaded: Floats = vectors.astype(np.float32)
            if np.allclose(np.linalg.norm(loaded, axis=1), 1, atol=1e-2):
                with contextlib.suppress(OSError):
                    if place != PACKAGED:
                        os.utime(path)  # the oldest by use is the first to go
                return loaded
        log.warning("%s: does not fit, computing it again", path)
    return None


def _store(name: str, vectors: Halves, folder: Path | None) -> None:
    for place in [folder] if folder else folders():
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(place):
                continue
            _write(place / name, vectors)
            _prune(place)
        except OSError as error:
            log.info("%s: vectors not kept: %s", place, error)
            continue
        return


def _write(path: Path, vectors: Halves) -> None:
    """Whole or not at all: another process may read or write the same file."""
    handle, temporary = tempfile.mkstemp(prefix=".vectors-", suffix=".npy", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, vectors, allow_pickle=False)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _prune(place: Path) -> None:
    files = sorted(place.glob("vectors-*.npy"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[KEPT:]:
        path.unlink(missing_ok=True)


def _is_ours(place: Path) -> bool:
    """Not a folder that somebody else made in a place open to all."""
    try:
        return not hasattr(os, "getuid") or place.stat().st_uid == os.getuid()
    except OSError:
        return False
