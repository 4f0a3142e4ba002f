"""The worker process that holds the MiniLM model: texts in, unit vectors out.

Started by ``embedding.Embedder`` as ``python -m``; never imported by the server's own code but for its
messages. Questions that wait are computed together: the cost of one is mostly that of reading the
weights from memory.
"""

from __future__ import annotations

import collections
import contextlib
import sys
from pathlib import Path

import msgspec
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from antiphon.errors import ConfigError
from antiphon.providers.retrieval.bert import BATCH, Bert
from antiphon.providers.worker_pipe import WorkerPipe, from_arguments, settle


class Load(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The first message: where the model is."""

    folder: str


class Embed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A text to embed; answered by a ``Vector`` with the same id."""

    id: int
    text: str


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The model is loaded, or, with an ``error``, cannot be."""

    error: str = ""


class Vector(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """384 little-endian 32-bit floats; none and an ``error`` if the text could not be embedded."""

    id: int
    floats: bytes
    error: str = ""


Order = Load | Embed
Report = Ready | Vector

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Order).decode


def serve(pipe: WorkerPipe) -> None:
    """Works until the server lets go of the pipe (``EOFError``)."""
    model: Bert | None = None
    waiting: collections.deque[Embed] = collections.deque()
    while True:
        for message in pipe.read(0 if waiting else None):
            order = _decode(message)
            if isinstance(order, Embed):
                waiting.append(order)
                continue
            try:
                model = Bert(Path(order.folder))
                pipe.send(_encode(Ready()))
            except ConfigError as error:
                pipe.send(_encode(Ready(Exception.__str__(error))))
        batch = [waiting.popleft() for _ in range(min(len(waiting), BATCH))]
        if batch:
            for report in _embedded(model, batch):
                pipe.send(_encode(report))


def _embedded(model: Bert | None, batch: list[Embed]) -> list[Vector]:
    if model is None:
        return [Vector(order.id, b"", "the model is not loaded") for order in batch]
    vectors = model.embed([order.text for order in batch]).astype("<f4")
    return [Vector(order.id, vector.tobytes()) for order, vector in zip(batch, vectors, strict=True)]


def main() -> None:
    pipe = from_arguments()
    settle(int(sys.argv[1]))
    # More threads of BLAS only spin for each other on products this small: on a busy machine that made a
    # question take 180 ms instead of 10.
    threadpool_limits(1, user_api="blas")
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(pipe)


if __name__ == "__main__":
    main()
