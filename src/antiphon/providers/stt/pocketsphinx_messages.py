"""What the server, the nursery and the workers of the pocketsphinx recogniser say to each other.

Audio is PCM16 at the rate given in ``Begin``. ``key`` numbers utterances over all calls of one server.
"""

from __future__ import annotations

import msgspec


class Setup(msgspec.Struct, array_like=True):
    """The first message to the nursery."""

    phrases: list[str]
    background_words: int
    cache: str
    decoders: int


class Fork(msgspec.Struct, array_like=True, tag=0):
    """Make a worker and send ``Forked`` with its socket."""


class Bury(msgspec.Struct, array_like=True, tag=1):
    """Kill this child."""

    pid: int


class Loaded(msgspec.Struct, array_like=True, tag=0):
    """The nursery is ready. ``files_ms`` went into language model and dictionary, ``models_ms`` into loading."""

    files_ms: float
    models_ms: float


class Forked(msgspec.Struct, array_like=True, tag=1):
    pid: int


class Failed(msgspec.Struct, array_like=True, tag=2):
    """The nursery cannot work and ends."""

    reason: str


class Begin(msgspec.Struct, array_like=True, tag=0):
    """A new utterance of a call whose cepstral mean is ``cmn`` (empty: unknown)."""

    key: int
    sample_rate: int
    cmn: str


class Audio(msgspec.Struct, array_like=True, tag=1):
    key: int
    pcm: bytes


class Finish(msgspec.Struct, array_like=True, tag=2):
    key: int


class Drop(msgspec.Struct, array_like=True, tag=3):
    """Nobody wants this utterance any more."""

    key: int


class Partial(msgspec.Struct, array_like=True, tag=0):
    key: int
    text: str
    confidence: float


class Final(msgspec.Struct, array_like=True, tag=1):
    """The last message about an utterance."""

    key: int
    text: str = ""
    confidence: float = 0.0
    cmn: str = ""
    error: str = ""


ToNursery = Fork | Bury
FromNursery = Loaded | Forked | Failed
ToWorker = Begin | Audio | Finish | Drop
FromWorker = Partial | Final
