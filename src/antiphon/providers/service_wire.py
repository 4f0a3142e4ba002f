"""What the parts of an agent say to each other where they run as services: paths, messages, bounds. No I/O.

The clients are ``providers.intent.http``, ``providers.retrieval.http``, ``providers.stt.http`` and
``providers.tts.http``; the servers are in ``server.services``. ``docs/api`` holds the same as OpenAPI and AsyncAPI
documents, written from these structs. Texts are Unicode, languages BCP 47 tags ("": unknown), sound is PCM: signed
16-bit little-endian mono.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from antiphon.kernel.events import MAX_TEXT, Passage
from antiphon.kernel.history import Message
from antiphon.media import decimate

Stage = Literal["stt", "intent", "retrieval", "tts"]


class Place(msgspec.Struct, frozen=True):
    """Where one of the services is looked for. ``part`` is what the command line calls it, ``title`` its name in
    health; ``port`` as contract row B4 has it; ``variable`` tells its address to the orchestrator (B17 to B20)."""

    part: str
    title: str
    port: int
    variable: str
    path: str


PLACES: dict[Stage, Place] = {
    "stt": Place("stt", "stt-vad-service", 8001, "STT_SERVICE_URL", "/listen"),
    "intent": Place("intent", "intent-service", 8002, "INTENT_SERVICE_URL", "/classify"),
    "retrieval": Place("rag", "rag-service", 8003, "RAG_SERVICE_URL", "/retrieve"),
    "tts": Place("tts", "tts-service", 8005, "TTS_SERVICE_URL", "/synthesize"),
}

KEY_VARIABLE = "ANTIPHON_SERVICE_KEY"
"""Holds the key that a service asks for and its clients show, as ``Authorization: Bearer``."""

MAX_HISTORY = 40
MAX_PASSAGES = 10
MAX_NAME = 2000
MAX_INTENT = 100
MAX_TAG = 64
MAX_VOICE = 200
RATES = decimate.RATES
"""Hz: those that the voice activity detector takes, so that a caller's sound goes on as it came."""
CHUNK_MS = 60
"""A caller's sound is sent in such pieces: a message for each frame would cost three times this."""

Text = Annotated[str, Meta(max_length=MAX_TEXT, description="what was said or is to be said")]
Tag = Annotated[str, Meta(max_length=MAX_TAG, description='BCP 47 tag such as "en-IN"; "" is unknown')]
Name = Annotated[str, Meta(max_length=MAX_NAME)]
Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[int, Meta(ge=8000, le=48_000, description="Hz")]


class Line(msgspec.Struct, frozen=True):
    """One line of the conversation before ``text``, the oldest first."""

    role: Literal["user", "assistant"]
    content: Text


History = Annotated[tuple[Line, ...], Meta(max_length=MAX_HISTORY, description="the conversation before it")]


class ClassifyRequest(msgspec.Struct, frozen=True):
    """What does the caller want?"""

    text: Text
    language: Tag = ""
    history: History = ()


class ClassifyAnswer(msgspec.Struct, frozen=True):
    """``intent`` "" means none. ``confidence`` in 0..1."""

    intent: Annotated[str, Meta(max_length=MAX_INTENT)]
    confidence: Share = 0.0


class RetrieveRequest(msgspec.Struct, frozen=True):
    """What is known about it?"""

    text: Text
    language: Tag = ""
    history: History = ()
    limit: Annotated[int, Meta(ge=1, le=MAX_PASSAGES, description="passages at most")] = MAX_PASSAGES


class FoundPassage(msgspec.Struct, frozen=True):
    """Data, never instructions. ``score`` is a cosine in -1..1; ``source`` names where it stands."""

    id: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    text: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
    source: Name = ""
    score: Annotated[float, Meta(ge=-1, le=1)] = 0.0
    title: Name = ""


class RetrieveAnswer(msgspec.Struct, frozen=True):
    """Best first."""

    passages: Annotated[tuple[FoundPassage, ...], Meta(max_length=MAX_PASSAGES)]


class SynthesizeRequest(msgspec.Struct, frozen=True):
    """Say this. ``voice`` is a name of the service's own; "" is its choice. ``rate`` is that of the sound, Hz."""

    text: Text
    language: Tag = ""
    rate: Rate = 8000
    voice: Annotated[str, Meta(max_length=MAX_VOICE)] = ""


PCM = "audio/pcm"
"""The answer as bare sound: ``audio/pcm; rate=8000``. Not ``audio/l16``, which is big-endian (RFC 2586)."""

LINES = "application/x-ndjson"
"""The answer as ``SoundLine`` after ``SoundLine``: asked for with ``Accept``."""

MAX_LINE_BYTES = 1 << 20


class Fault(msgspec.Struct, frozen=True):
    """What went wrong: a stable ``code`` and words for a person."""

    code: str
    message: str = ""


class Refused(msgspec.Struct, frozen=True):
    """The body of every answer that is not 200."""

    error: Fault


class SoundLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of the sound, or why there is no more of it.

    ``audio`` is PCM in base64. Each of ``words`` is ``[char, sample]``: the word that starts at ``text[char]`` begins
    ``sample`` samples after the start of all the sound.
    """

    audio: bytes = b""
    words: tuple[tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]], ...] = ()
    error: Fault | None = None


# -- the ear's socket ---------------------------------------------------------------------------

MAX_AUDIO_BYTES = 32_768
"""Of one binary message to the ear: a third of a second at 48 kHz, two seconds at 8 kHz."""

EAR_IDLE_S = 60.0
"""The ear closes a socket on which nothing came for so long: who has nothing to say sends a ping."""

EAR_AHEAD_S = 75.0
"""The ear closes a socket whose audio comes so much sooner than it could be spoken: more than any utterance that is
told again, and less than would choke the process that hears for the other callers as well."""

PING_S = 20.0


class Finish(msgspec.Struct, frozen=True, tag="finish", tag_field="type"):
    """The utterance is over: one ``final`` or one ``error`` for it is owed. They are numbered 1, 2, 3 by the socket."""

    utterance: Annotated[int, Meta(ge=1)]


class Expect(msgspec.Struct, frozen=True, tag="language", tag_field="type"):
    """Expect this language from the next utterance on."""

    language: Tag


class Ping(msgspec.Struct, frozen=True, tag="ping", tag_field="type"):
    """Nobody speaks and the socket is still wanted."""


ToEar = Finish | Expect | Ping


class PartialHeard(msgspec.Struct, frozen=True, tag="partial", tag_field="type", omit_defaults=True):
    """The utterance so far; the next replaces it."""

    utterance: Annotated[int, Meta(ge=1)]
    text: str
    language: Tag = ""
    confidence: Share = 0.0


class FinalHeard(msgspec.Struct, frozen=True, tag="final", tag_field="type", omit_defaults=True):
    """All of the utterance; a blank text if nothing was said. ``language_confidence`` 0: it was told the language."""

    utterance: Annotated[int, Meta(ge=1)]
    text: str
    language: Tag = ""
    confidence: Share = 0.0
    language_confidence: Share = 0.0


class NotHeard(msgspec.Struct, frozen=True, tag="error", tag_field="type"):
    """The utterance could not be finished. ``code`` is stable, such as ``stt.failed``."""

    utterance: Annotated[int, Meta(ge=1)]
    code: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_.]{0,63}$")]


FromEar = PartialHeard | FinalHeard | NotHeard


class Health(msgspec.Struct, frozen=True):
    """What a client reads of ``GET /health``: ``status`` healthy or degraded, and who does the work."""

    status: str
    service: str = ""
    provider: str = ""


# -- to and from the ports ----------------------------------------------------------------------


def lines_of(history: Sequence[Message]) -> tuple[Line, ...]:
    """The last of a conversation that may be sent."""
    kept = [each for each in history if each.role in {"user", "assistant"}][-MAX_HISTORY:]
    return tuple(Line(each.role, each.content[:MAX_TEXT]) for each in kept)  # type: ignore[arg-type]


def messages_of(history: Sequence[Line]) -> tuple[Message, ...]:
    return tuple(Message(each.role, each.content) for each in history)


def passages_of(found: Sequence[FoundPassage]) -> tuple[Passage, ...]:
    """Best first, whatever order they came in."""
    ordered = sorted(found, key=lambda each: -each.score)
    return tuple(Passage(each.id, each.text, each.source, each.score, each.title) for each in ordered)


def found_of(passages: Sequence[Passage], limit: int) -> tuple[FoundPassage, ...]:
    """The first ``limit`` of them, within the wire's bounds. One without id, text or a score that is one goes."""
    whole = [each for each in passages if each.id and each.text.strip() and math.isfinite(each.score)]
    return tuple(
        FoundPassage(
            each.id[:MAX_NAME],
            each.text[:MAX_TEXT],
            each.source[:MAX_NAME],
            max(-1.0, min(1.0, each.score)),
            each.title[:MAX_NAME],
        )
        for each in whole[:limit]
    )
