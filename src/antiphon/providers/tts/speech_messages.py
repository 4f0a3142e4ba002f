"""What a worker process that speaks says to the server, and how it is told to stop. Each engine adds its ``Speak``."""

from __future__ import annotations

import msgspec


class Cancel(msgspec.Struct, array_like=True, tag=1):
    id: int


class Piece(msgspec.Struct, array_like=True, tag=0):
    """PCM, and pairs of (index in the text, sample in the segment) for the words that begin in it."""

    id: int
    pcm: bytes
    words: list[tuple[int, int]]


class Done(msgspec.Struct, array_like=True, tag=1):
    """The last message about a request; ``code`` is empty when it went well."""

    id: int
    code: str = ""
    reason: str = ""


class Ready(msgspec.Struct, array_like=True, tag=2):
    """The engine is loaded. ``languages`` are those it can speak (lower case BCP 47), where it knows them."""

    languages: list[str] = []


class Broken(msgspec.Struct, array_like=True, tag=3):
    """The engine cannot be loaded, now or later: ``reason`` says what to do."""

    reason: str


Report = Piece | Done | Ready | Broken
