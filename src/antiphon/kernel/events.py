"""Events: facts in the past tense. The ordered events of a session are its journal.

Conventions that hold for every event:

- Text is Unicode, already bounded by whoever reports it (``MAX_TEXT`` characters).
- Languages are BCP 47 tags such as ``en-IN``; ``""`` means unknown.
- ``turn`` numbers one exchange: what is said to the caller, and the work that leads to it. Turn 0 is
  the time before anything was said. ``attempt`` numbers the tries at answering one turn, from 1.
- ``segment`` numbers the pieces of speech within a turn, from 0, in the order they are played.
- ``utterance`` numbers what the caller says, from 1; it grows when an utterance is finished.
- ``*_ms`` are integer milliseconds. ``position_ms`` is media time: how much caller audio had arrived
  on the line when the edge was found, which is not the clock.

Events are encoded as msgpack arrays that start with the event's name, so a field may only ever be
added at the end, with a default.
"""

from __future__ import annotations

import msgspec

MAX_TEXT = 4000


class Passage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One retrieved passage: data, never instructions. ``score`` is a cosine in -1..1."""

    id: str
    text: str
    source: str
    score: float
    title: str = ""


class Event(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all events."""


# -- the session and its line -------------------------------------------------------------------


class SessionStarted(Event, frozen=True, tag=True):
    """A new session. ``policy`` is the encoded ``Policy`` it runs by, so that replay needs nothing else."""

    session: str
    transport: str
    language: str
    policy: bytes
    started_at: str = ""
    caller: str = ""
    parameters: dict[str, str] = {}
    language_by: str = ""
    """``chosen``: the caller named the language themselves, in a menu; else it is the application's."""


class LineAttached(Event, frozen=True, tag=True):
    """A line carries this session again after ``LineDropped`` or the death of its process."""

    transport: str
    epoch: int = 1


class LineDropped(Event, frozen=True, tag=True):
    """The transport is gone but the caller did not hang up: the session waits for them."""

    code: str


class CallerHungUp(Event, frozen=True, tag=True):
    """The far end ended the call."""

    reason: str = ""


class SessionClosed(Event, frozen=True, tag=True):
    """The runtime has released everything: always the last entry of a journal."""

    reason: str


# -- what the caller does -----------------------------------------------------------------------


class SpeechStarted(Event, frozen=True, tag=True):
    """The voice activity gate opened."""

    position_ms: int = 0


class SpeechStopped(Event, frozen=True, tag=True):
    """The gate closed. ``position_ms`` is where speech ended, ``hangover_ms`` how long the gate waited to be sure."""

    position_ms: int = 0
    hangover_ms: int = 0
    turn_over: bool = False
    """Whoever listens outside says that the caller's turn is over (B10): no further silence is waited for."""


class TranscriptPartial(Event, frozen=True, tag=True):
    """The transcriber's present guess at the whole utterance so far; it may change."""

    utterance: int
    text: str
    language: str = ""
    confidence: float = 0.0
    settled: bool = False
    """These words stand: an outside transcriber takes none of them back, though more may follow."""
    again: bool = False
    """Told before, and once more because they may be all: the caller pauses, or says nothing new, and the gate is
    still open."""


class TranscriptFinal(Event, frozen=True, tag=True):
    """The transcriber's last word on an utterance. Blank text: it heard nothing it understood."""

    utterance: int
    text: str
    language: str = ""
    confidence: float = 0.0
    provider: str = ""
    language_confidence: float = 0.0
    language_by: str = ""
    """Who says which language it is: ``stt``, or ``text`` (identified by the words)."""
    because: str = ""
    """Why ``provider`` is not the first choice: the code of that one's failure."""


class TranscriptionFailed(Event, frozen=True, tag=True):
    """The transcriber could not finish this utterance."""

    utterance: int
    code: str


class DigitPressed(Event, frozen=True, tag=True):
    """One key: ``0-9``, ``*`` or ``#``."""

    digit: str


class TextTyped(Event, frozen=True, tag=True):
    """The caller wrote instead of speaking: a whole turn at once."""

    text: str
    language: str = ""
    language_confidence: float = 0.0


# -- the work of a turn -------------------------------------------------------------------------


class LanguageSwitched(Event, frozen=True, tag=True):
    """From this turn on the conversation is held in ``language``. ``reason``: chosen, or detected."""

    turn: int
    language: str
    previous: str
    reason: str


class IntentReady(Event, frozen=True, tag=True):
    turn: int
    intent: str
    confidence: float = 0.0
    provider: str = ""


class PassagesReady(Event, frozen=True, tag=True):
    turn: int
    passages: tuple[Passage, ...] = ()
    provider: str = ""


class SpeculationEnded(Event, frozen=True, tag=True):
    """An answer begun before its question was confirmed was ``adopted`` or ``dropped``; what it had cost by then."""

    turn: int
    outcome: str
    chars: int = 0
    audio_ms: int = 0
    provider: str = ""


class StageFailed(Event, frozen=True, tag=True):
    """A stage gave up on this turn. ``stage``: intent, retrieval, llm, tts, agent."""

    turn: int
    attempt: int
    stage: str
    code: str
    provider: str = ""


class StageRerouted(Event, frozen=True, tag=True):
    """Within a stage somebody else was asked, or the same once more, before anything of it was heard.

    ``code`` says why: the error of ``provider``, ``breaker.open``, or ``hedge`` (it is late, and both are asked).
    """

    turn: int
    attempt: int
    stage: str
    provider: str
    code: str
    to: str


class ReplyBegun(Event, frozen=True, tag=True):
    """The first useful text of a reply arrived."""

    turn: int
    attempt: int
    provider: str = ""


class SegmentReady(Event, frozen=True, tag=True):
    """A piece of speech was decided on and given to the synthesizer. ``kind``: reply, or a phrase's name."""

    turn: int
    attempt: int
    segment: int
    text: str
    kind: str = "reply"
    language: str = ""


class SegmentSynthesized(Event, frozen=True, tag=True):
    """The first sound of a segment came from the synthesizer (latency ledger)."""

    turn: int
    attempt: int
    segment: int
    provider: str = ""


class SegmentStarted(Event, frozen=True, tag=True):
    """The first sample of a segment went out on the line."""

    turn: int
    segment: int


class SegmentCut(Event, frozen=True, tag=True):
    """The voice broke off: the segment ends after ``chars`` characters of its text, and that is all there is of it."""

    turn: int
    segment: int
    chars: int


class SegmentPlayed(Event, frozen=True, tag=True):
    """The last sample of a segment was heard (a mark came back, or the cursor passed it)."""

    turn: int
    segment: int


class ReplyGenerated(Event, frozen=True, tag=True):
    """All text of an attempt is written and all of it is in playout. ``ends_call``: it was a goodbye."""

    turn: int
    attempt: int
    segments: int
    ends_call: bool = False
    sources: tuple[str, ...] = ()


class PlayoutStarved(Event, frozen=True, tag=True):
    """The line ran dry although the reply is not complete: the caller hears silence."""

    turn: int


class PlayoutFinished(Event, frozen=True, tag=True):
    """Everything that was queued for the turn was heard, and nothing more will come."""

    turn: int


class PlayoutStopped(Event, frozen=True, tag=True):
    """Playout was cancelled. ``heard_chars`` of ``segment``'s text were heard; earlier segments wholly, later ones not.

    ``segment`` is -1 if nothing of the turn was heard.
    """

    turn: int
    segment: int = -1
    heard_chars: int = 0


# -- effects ------------------------------------------------------------------------------------


class EffectRequested(Event, frozen=True, tag=True):
    """A reply wants to act on the world. ``kind``: read, write or terminal. ``arguments`` is JSON."""

    turn: int
    attempt: int
    key: str
    name: str
    kind: str = "read"
    arguments: str = "{}"


class EffectSucceeded(Event, frozen=True, tag=True):
    key: str
    result: str = ""


class EffectFailed(Event, frozen=True, tag=True):
    key: str
    code: str


class CommandLost(Event, frozen=True, tag=True):
    """A process died while it ran a command that may not be issued again; its outcome is unknown."""

    key: str
    command: str


# -- time ---------------------------------------------------------------------------------------


class DeadlineReached(Event, frozen=True, tag=True):
    """The deadline of that name, as told by ``Session.next_deadline()``, has passed."""

    name: str


AnyEvent = (
    SessionStarted
    | LineAttached
    | LineDropped
    | CallerHungUp
    | SessionClosed
    | SpeechStarted
    | SpeechStopped
    | TranscriptPartial
    | TranscriptFinal
    | TranscriptionFailed
    | DigitPressed
    | TextTyped
    | LanguageSwitched
    | IntentReady
    | PassagesReady
    | SpeculationEnded
    | StageFailed
    | StageRerouted
    | ReplyBegun
    | SegmentReady
    | SegmentSynthesized
    | SegmentStarted
    | SegmentCut
    | SegmentPlayed
    | ReplyGenerated
    | PlayoutStarved
    | PlayoutFinished
    | PlayoutStopped
    | EffectRequested
    | EffectSucceeded
    | EffectFailed
    | CommandLost
    | DeadlineReached
)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One line of the journal: what happened, when, and a digest of what was decided.

    ``at`` is milliseconds since the session's process-independent start (monotonic within one
    process; a resumed session goes on from the last entry's time). ``digest`` is the first eight
    bytes of BLAKE2b over the encoded commands: replay compares it, so changed code is noticed.
    """

    seq: int
    at: int
    event: AnyEvent
    digest: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_entry_decoder = msgspec.msgpack.Decoder(Entry)


def encode_entry(entry: Entry) -> bytes:
    return _encoder.encode(entry)


def decode_entry(data: bytes) -> Entry:
    """Raises ``errors.UNUSABLE`` for what is not an entry."""
    return _entry_decoder.decode(data)
