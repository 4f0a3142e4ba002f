"""What the server and a worker of the ``faster_whisper`` transcriber say to each other.

Audio is PCM16 at the rate given in ``Begin``. ``key`` numbers utterances over all calls of one server.
"""

from __future__ import annotations

import msgspec


class Setup(msgspec.Struct, array_like=True):
    """The first message to a worker. ``stuck_s``: an utterance that takes longer ends the process."""

    model: str
    device: str
    compute_type: str
    threads: int
    beam_size: int
    prompt: str
    keywords: str
    no_speech: float
    download: bool
    folder: str
    stuck_s: float


class Begin(msgspec.Struct, array_like=True, tag=0):
    """A finished utterance follows. ``language``: Whisper's code, or "" to find it out."""

    key: int
    sample_rate: int
    language: str


class Audio(msgspec.Struct, array_like=True, tag=1):
    key: int
    pcm: bytes


class Finish(msgspec.Struct, array_like=True, tag=2):
    """All of its audio was sent: recognise it."""

    key: int


class Drop(msgspec.Struct, array_like=True, tag=3):
    """Nobody wants this utterance any more."""

    key: int


class Ready(msgspec.Struct, array_like=True, tag=0):
    """The model is loaded, in ``load_ms``."""

    load_ms: float


class Failed(msgspec.Struct, array_like=True, tag=1):
    """The model cannot be loaded; the worker ends. ``code`` is stable, ``reason`` says what to do."""

    code: str
    reason: str


class Final(msgspec.Struct, array_like=True, tag=2):
    """The last message about an utterance. ``language``: Whisper's code. ``error``: a stable code, ``reason`` why."""

    key: int
    text: str = ""
    language: str = ""
    confidence: float = 0.0
    language_confidence: float = 0.0
    error: str = ""
    reason: str = ""


ToWorker = Begin | Audio | Finish | Drop
FromWorker = Ready | Failed | Final
