"""The kernel's state: plain data, encoded whole into a snapshot. Only ``Session.receive`` changes it."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b

import msgspec

from antiphon.kernel.effects import Effect
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message, Segment
from antiphon.kernel.language import Tongue


class Floor(StrEnum):
    """Who may speak: the five states of the turn machine, named as on the wire (B5)."""

    IDLE = "IDLE"
    LISTENING = "LISTENING"
    THINKING = "THINKING"
    SPEAKING = "SPEAKING"
    INTERRUPT = "INTERRUPT"


class Caller(StrEnum):
    """What the voice activity gate says of the caller."""

    SILENT = "silent"
    SPEAKING = "speaking"


class Phase(StrEnum):
    """Where the session is in its life."""

    NEW = "new"
    LIVE = "live"
    DETACHED = "detached"
    ENDING = "ending"
    ENDED = "ended"
    CLOSED = "closed"


ANSWER = "answer"
"""The purpose of a reply that answers a question; other purposes are phrase names."""

TIERS = ("full", "fallback", "degraded")
"""The tiers of an answer, best first: the first attempt, those that other providers get, and the last."""


class Reply(msgspec.Struct, array_like=True):
    """The speech of one turn. At most one is live."""

    turn: int
    purpose: str = ANSWER
    question: str = ""
    attempt: int = 0
    """0 until the first attempt is started."""
    segments: list[Segment] = []
    generated: bool = False
    ends_call: bool = False
    fillers: int = 0
    heard: bool = False
    """Some of it has gone out on the line."""
    failed: bool = False
    """The present attempt failed while the caller held the floor; the next is tried on resuming."""
    sources: tuple[str, ...] = ()
    said: str = ""
    """What was heard of the answer in an earlier turn, before the line broke."""
    is_broken: bool = False
    """Its line broke: what of it was not heard is kept for when the caller is back."""
    asked_in: int = 0
    """The turn in which the question was asked, where that was an earlier one."""


class Unheard(msgspec.Struct, array_like=True):
    """The rest of an answer whose line broke. ``texts`` are the segments that were decided on and not heard."""

    question: str
    said: str
    texts: list[str]
    is_whole: bool
    """The answer was written to its end: ``texts`` are all that is missing."""
    sources: tuple[str, ...] = ()
    ends_call: bool = False
    asked_in: int = 0
    """The turn in which the question was asked."""


class State(msgspec.Struct, array_like=True):
    """All that a session knows."""

    session: str = ""
    transport: str = ""
    tongue: Tongue = msgspec.field(default_factory=Tongue)
    phase: Phase = Phase.NEW
    floor: Floor = Floor.IDLE
    seq: int = 0
    at: int = 0
    epoch: int = 0
    turn: int = 0
    # the caller
    caller: Caller = Caller.SILENT
    speech_at: int = 0
    """When the present or last speech started (journal time)."""
    quiet_at: int = 0
    """When it ended, as the gate found it: the edge's time less the hangover."""
    turn_over: bool = False
    """It was said from outside that the caller is done: their silence need not last."""
    utterance: int = 1
    """The utterance that is being heard."""
    awaited: int = 0
    """The utterance whose final is owed; 0: none."""
    asked_at: int = 0
    """When it was asked for."""
    final_takes: int = -1
    """What finals took of late, in ms; -1: none was there yet."""
    partial: str = ""
    last_partial: str = ""
    """The partial of the awaited utterance: what counts if its final never comes."""
    spoken: bool = False
    """Something was said in the utterance that is being heard."""
    pieces: list[str] = []
    """Finals of the present turn, until the caller is done."""
    speculated: str = ""
    """The words that are being answered before they are confirmed; "": none."""
    speculated_in: str = ""
    speculations: int = 0
    """How often in the present turn."""
    spoken_language: str = ""
    """What they tell of the language they are in; "": nothing."""
    digits: str = ""
    # the work
    intent: str | None = None
    passages: tuple[Passage, ...] | None = None
    reply: Reply | None = None
    closing: Reply | None = None
    """A cancelled reply that still owes ``PlayoutStopped``."""
    unheard: Unheard | None = None
    """Said when the caller is back."""
    interrupted_at: int = 0
    reply_left: int = 0
    """What the present attempt had left of its time (ms) when the caller made a sound; 0: no deadline ran."""
    history: list[Message] = []
    effects: dict[str, Effect] = {}
    deadlines: dict[str, int] = {}
    # patience
    silence_left: int = 0
    """What was left of the caller's silence (ms) when a sound came that may be no word; 0: it begins anew."""
    silences: int = 0
    blanks: int = 0
    apologies: int = 0
    failures: int = 0
    end_reason: str = ""

    @property
    def language(self) -> str:
        """The conversation's language, as of the present turn."""
        return self.tongue.selected


_PARTS = (State, Reply, Unheard, Segment, Message, Effect, Passage, Tongue)
_SHAPE = [(kind.__name__, kind.__struct_fields__) for kind in _PARTS]

SHAPE = blake2b(repr(_SHAPE).encode(), digest_size=8).digest()
"""Stands for the fields above. They are encoded by position: a snapshot of another shape must not be read."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)


def encode_state(state: State) -> bytes:
    return _encoder.encode(state)


def decode_state(data: bytes) -> State:
    return _decoder.decode(data)
