"""The ports: one small Protocol for each thing the runtime needs from outside.

Everything here is called on the event loop's thread and never blocks it; an adapter that computes
does so in a worker of its own. Audio is bytes. ``pcm`` always means signed 16-bit little-endian mono.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec

from antiphon.kernel.events import Entry, Passage
from antiphon.kernel.history import Message
from antiphon.media.played import Played

# -- hearing ------------------------------------------------------------------------------------


class Heard(msgspec.Struct, frozen=True):
    """What a transcriber reports. ``error`` is a stable code when the utterance could not be finished."""

    utterance: int
    text: str
    final: bool = False
    language: str = ""
    confidence: float = 0.0
    error: str = ""
    language_confidence: float = 0.0
    """How sure the provider is of ``language``, 0..1. 0: it was told the language, or does not say."""
    provider: str = ""
    """Who heard it, where that is not the transcriber that was opened."""
    because: str = ""
    """Why it was not the first choice: the code of its failure."""


class TranscriberStream(Protocol):
    """One caller's ear. Audio fed before ``finish(n)`` belongs to utterance ``n``, later audio to ``n + 1``."""

    def feed(self, pcm: bytes) -> None:
        """Takes PCM at the rate given to ``open``. Any length, also empty. Never blocks, never raises."""

    def finish(self, utterance: int) -> None:
        """Ends the utterance: exactly one final (possibly blank) or one error for it is owed."""

    def hint(self, language: str) -> None:
        """Expect this language from the next utterance on."""

    def close(self) -> None:
        """Nothing is reported after this returns. May be called twice."""


class Transcriber(Protocol):
    """Speech to text.

    One that hears some languages only says so with an attribute ``hears``: their primary subtags, such as ``("en",)``.
    It is optional and read by ``providers.wiring.unheard``, so that an operator is told before a caller finds out.

    One whose finals come sooner or later than ``Policy.final_expected_ms`` may say so with an attribute of that name.
    One that needs more for a final than ``Policy.final_ms`` gives says so with an attribute ``final_ms``: milliseconds
    from ``finish`` to the final, as a rule and with room to spare. Optional; ``assembly.policy_of`` reads it. The
    stage's own ``[stt.limits] first_s`` ends every wait, so more than that is of no use.

    One that does nothing with audio before it has so many milliseconds of it says so with an attribute ``piece_ms``,
    100 at most: an utterance then comes in such pieces instead of frame by frame, the last one shorter. Optional;
    ``listen.Ear`` reads it.
    """

    name: str

    async def start(self) -> None: ...

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> TranscriberStream:
        """Opens a stream for PCM at ``sample_rate`` Hz; ``on_heard`` is called on the loop's thread."""

    async def close(self) -> None: ...


# -- understanding ------------------------------------------------------------------------------


class Intent(msgspec.Struct, frozen=True):
    name: str
    confidence: float


class Classifier(Protocol):
    """Text to intent."""

    name: str

    async def start(self) -> None: ...

    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent: ...

    async def close(self) -> None: ...


class Retriever(Protocol):
    """Text to passages, best first. ``history`` lets "and for international students?" find its subject."""

    name: str

    async def start(self) -> None: ...

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[Passage, ...]: ...

    async def close(self) -> None: ...


# -- answering ----------------------------------------------------------------------------------


class ReplyRequest(msgspec.Struct, frozen=True):
    """All that a responder needs for one attempt at one turn.

    ``said`` is what the caller already heard of this turn from an attempt that broke: go on from
    there and repeat nothing. ``history`` ends before ``text``. ``prompt`` is what the application tells
    a model about its role in this turn, "" for the responder's own settings.
    """

    session: str
    turn: int
    attempt: int
    text: str
    language: str
    intent: str = ""
    passages: tuple[Passage, ...] = ()
    history: tuple[Message, ...] = ()
    tier: str = "full"
    said: str = ""
    prompt: str = ""


class TextDelta(msgspec.Struct, frozen=True):
    """More of the answer's text, as it comes: any length, joined without separators."""

    text: str


class ReplyEnd(msgspec.Struct, frozen=True):
    """The answer is complete. ``sources`` name the passages it rests on; ``ends_call``: it was a goodbye."""

    sources: tuple[str, ...] = ()
    ends_call: bool = False


ReplyPart = TextDelta | ReplyEnd

Act = Callable[[str, str, str], Awaitable[str]]
"""``await act(name, kind, arguments_json)`` runs an effect exactly once and returns its result."""


class Responder(Protocol):
    """A turn to a stream of text. Raises ``ProviderError``; closing the iterator cancels the request."""

    name: str

    async def start(self) -> None: ...

    def respond(self, request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]: ...

    async def close(self) -> None: ...


# -- speaking -----------------------------------------------------------------------------------


class WordMark(msgspec.Struct, frozen=True, array_like=True):
    """The word that starts at ``text[char]`` begins ``sample`` samples into the segment."""

    char: int
    sample: int


class Sound(msgspec.Struct, frozen=True):
    """A piece of speech: PCM, and the words that begin in it where the provider tells."""

    pcm: bytes
    words: tuple[WordMark, ...] = ()


class Synthesizer(Protocol):
    """Text to speech. Raises ``ProviderError``; closing the iterator cancels the request.

    One whose sound depends on nothing but the request and on what it knows at start says so with an attribute
    ``sound_version``: a text of all that (the engine's version, its own settings). Its prepared phrases are kept on
    disk until that text is another. Optional; ``PhraseBook`` reads it.
    """

    name: str

    async def start(self) -> None: ...

    def synthesize(self, text: str, *, language: str, sample_rate: int, voice: str = "") -> AsyncGenerator[Sound, None]:
        """Yields PCM at ``sample_rate`` Hz in order, the first piece as early as it can."""

    async def close(self) -> None: ...


# -- lines --------------------------------------------------------------------------------------


class Line(Protocol):
    """The sending half of one caller's connection.

    ``codec`` is ``mulaw``, ``alaw`` or ``pcm16``; audio given to ``send`` is already encoded so.
    All methods are synchronous, never raise for a connection that is gone, and may be called after ``close``.
    """

    transport: str
    codec: str
    sample_rate: int
    marks: bool
    """True if ``mark`` comes back through ``CallSink.on_mark`` once the audio before it was played."""

    def send(self, audio: bytes) -> None: ...

    def mark(self, name: str) -> None: ...

    def clear(self) -> None:
        """Discard what was sent and not yet played."""

    def hang_up(self, reason: str) -> None:
        """End the call itself, not only the connection, where the transport can.

        Nothing is told to the call after it, as after ``close``.
        """

    def close(self, code: int, reason: str) -> None:
        """Close the connection (WebSocket close codes)."""


class CallSink(Protocol):
    """The receiving half: what a line tells its call. Synchronous; audio comes fifty times a second, so it is quick."""

    @property
    def piece_bytes(self) -> int:
        """Less audio than this changes nothing for the call: a line may keep it back for so long. 1: as it comes.

        At most 1024 is taken for it, and 1 where a sink does not say.
        """

    def on_audio(self, audio: bytes) -> None:
        """Audio in the line's codec, in order, 20 ms as a rule, or ``piece_bytes`` and multiples of it."""

    def on_mark(self, name: str) -> None: ...

    def on_digit(self, digit: str) -> None: ...

    def on_hangup(self, reason: str) -> None:
        """The caller ended the call."""

    def on_dropped(self, code: str) -> None:
        """The connection is gone; the call may come back on another."""


class WordSink(CallSink, Protocol):
    """The receiving half for a line that also brings words (``CallStart.words``)."""

    def on_speaking(self) -> None:
        """The caller's voice has begun; its words follow."""

    def on_fragment(self, text: str, settled: bool) -> None:
        """Words of an outside transcriber. Settled ones stand; others are a guess that the next fragment replaces."""

    def on_turn_end(self) -> None:
        """The caller is done: their turn is over now."""

    def on_text(self, text: str, language: str) -> None:
        """A typed line, a whole turn at once. ``language``: a BCP 47 tag, "" where it is to be told from the words."""


CALL_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,255}")
"""X37: an opaque id that is safe in a path, a key and a log line."""


class CallStart(msgspec.Struct, frozen=True):
    """What a line knows when its call begins. ``call_id`` fits ``CALL_ID``."""

    call_id: str
    transport: str
    language: str = ""
    caller: str = ""
    parameters: dict[str, str] = {}
    words: bool = False
    """The line may bring words instead of sound; the first kind that comes decides."""
    policy: dict[str, bool | int] = {}
    """Fields of ``kernel.policy.Policy`` that are otherwise on this line; they count for a session that is new."""


class Switchboard(Protocol):
    """Where lines bring their callers (implemented by ``runtime.host.Host``)."""

    def connect(self, start: CallStart, line: Line) -> CallSink:
        """Takes a line on. A second line for a live ``call_id`` takes the call over; the older is closed.

        Raises ``AdmissionRefused`` when there is no room and ``PeerError`` for an unusable ``call_id``.
        """


# -- voice activity -----------------------------------------------------------------------------


class VoiceMember(Protocol):
    """One call's place in the shared voice activity detector."""

    def push(self, audio: bytes) -> None:
        """Audio in the codec and at the rate given to ``join``, any length."""

    def ago_ms(self, position_ms: int) -> float:
        """How long ago the audio up to there (since ``join``) was spoken, as far as that is known; else 0."""

    def recent(self, size: int) -> bytes:
        """The last ``size`` bytes pushed, as far as they are kept: 400 ms at least."""

    def leave(self) -> None: ...


class VoiceActivity(Protocol):
    """Speech probability for all calls at once: one batched model in one thread."""

    async def start(self) -> None: ...

    def join(
        self,
        codec: str,
        on_window: Callable[[float], None],
        *,
        sample_rate: int = 8000,
        played: Played | None = None,
    ) -> VoiceMember:
        """``on_window(p)`` is called on the loop's thread for each 32 ms of audio, in order; p in 0..1.

        ``played`` is what the caller is sent: what comes back of it is no speech. A detector may leave that to others.

        ``codec`` is ``mulaw``, ``alaw`` or ``pcm16``, ``sample_rate`` 8000, 16000, 24000 or 48000 Hz. Raises
        ``ValueError`` for others.
        """

    async def close(self) -> None: ...


# -- the journal --------------------------------------------------------------------------------


class Batch(msgspec.Struct, frozen=True):
    """Entries of one session to append. ``expected_seq`` is the sequence number of the last entry before them."""

    session: str
    epoch: int
    expected_seq: int
    entries: tuple[Entry, ...]


class SessionRow(msgspec.Struct, frozen=True):
    """One session in a listing. ``status``: live, detached, closed or interrupted (its process died)."""

    session: str
    status: str
    started_at: str
    transport: str
    language: str
    turns: int
    entries: int
    last_at_ms: int
    epoch: int
    caller: str = ""


class Journal(Protocol):
    """Where entries are kept. A claim raises a session's epoch; an append of an older epoch is refused."""

    async def start(self) -> None: ...

    async def claim(self, session: str) -> int:
        """Takes ownership (creating the session if it is new) and returns the new epoch, from 1."""

    async def append(self, batches: Sequence[Batch]) -> list[Exception | None]:
        """One durable group commit. Per batch: ``None``, or ``StaleWriter`` / ``StoreError``."""

    async def read(self, session: str, after_seq: int = 0) -> list[Entry]:
        """Raises ``UnknownSession``."""

    async def save_snapshot(self, session: str, epoch: int, seq: int, data: bytes) -> None: ...

    async def load_snapshot(self, session: str) -> tuple[int, bytes] | None: ...

    async def session(self, session: str) -> SessionRow:
        """Its row in the listing, however old it is. Raises ``UnknownSession``."""

    async def sessions(self, limit: int = 50) -> list[SessionRow]:
        """Newest first."""

    async def close(self) -> None: ...
