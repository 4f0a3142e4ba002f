"""What a journal looks like to people and programs: plain data, also in JSON (``antiphon show --json``).

Times named ``at_ms`` are journal time: milliseconds since the session began. Durations end in ``_ms`` too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Heard = Literal["ready", "started", "heard", "partly", "unheard", "dropped"]
"""How far a segment came: decided on, playing, heard whole, heard to ``heard_chars``, cancelled, taken back."""

InputKind = Literal["speech", "typed", "digits", "resumed", "none"]
"""What a turn answers. ``resumed``: a question left open when the line broke; ``none``: the agent spoke unasked."""

Outcome = Literal["answered", "interrupted", "unheard", "cut_off", "apologised", "said", "open"]
"""``interrupted``: by the caller; ``unheard``: the same, before a sound of it; ``cut_off``: by a failure or the line's
end; ``said``: a phrase was heard whole; ``open``: the journal ends before."""

Owner = Literal["wait", "provider", "antiphon"]


class Part(msgspec.Struct, frozen=True):
    """One stretch of a turn's latency. ``owner``: a wait that is policy, a provider's work, or Antiphon's own share."""

    name: str
    ms: int
    owner: Owner


class Latency(msgspec.Struct, frozen=True):
    """From the end of the caller's input to the first sample on the line; ``parts`` sum to ``total_ms`` exactly.

    ``first`` is the kind of the first segment (``reply``, ``filler``, ...), ``answer_ms`` the time to the first
    segment that is no filler, None if none began. ``added_ms`` is what neither waits nor providers took.
    """

    total_ms: int
    parts: tuple[Part, ...]
    first: str
    answer_ms: int | None = None

    @property
    def added_ms(self) -> int:
        return sum(part.ms for part in self.parts if part.owner == "antiphon")


class Speech(msgspec.Struct, frozen=True):
    """One utterance of the caller. ``partials`` counts the guesses that came before the final."""

    at_ms: int
    utterance: int
    text: str
    partials: int = 0
    language: str = ""
    confidence: float = 0.0
    provider: str = ""


class SegmentView(msgspec.Struct, frozen=True):
    """One piece of the agent's speech; the caller heard the first ``heard_chars`` characters of ``text``."""

    segment: int
    text: str
    kind: str
    language: str
    attempt: int
    heard: Heard
    heard_chars: int
    at_ms: int


class Failure(msgspec.Struct, frozen=True):
    at_ms: int
    stage: str
    code: str
    provider: str = ""
    attempt: int = 0


class Note(msgspec.Struct, frozen=True):
    """Something worth knowing that is no failure: another language, another provider."""

    at_ms: int
    text: str


class EffectView(msgspec.Struct, frozen=True):
    """``status``: requested, done, failed or lost; ``detail`` its result or code."""

    at_ms: int
    key: str
    name: str
    kind: str
    status: str = "requested"
    detail: str = ""


class Overlap(msgspec.Struct, frozen=True):
    """A sound of the caller while the agent had the floor.

    ``kind``: ``barge_in`` took the floor, ``backchannel`` was words that did not, ``noise`` was no words.
    """

    at_ms: int
    kind: Literal["barge_in", "backchannel", "noise"]
    text: str = ""


class TurnView(msgspec.Struct, frozen=True):
    """One exchange. ``question`` is what the turn answers, "" if the caller was not understood; ``speech`` the
    utterances it was made of.
    """

    turn: int
    at_ms: int
    input: InputKind
    outcome: Outcome
    language: str
    question: str = ""
    speech: tuple[Speech, ...] = ()
    intent: str = ""
    intent_confidence: float = 0.0
    passages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    segments: tuple[SegmentView, ...] = ()
    phrases: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    failures: tuple[Failure, ...] = ()
    notes: tuple[Note, ...] = ()
    effects: tuple[EffectView, ...] = ()
    starved: int = 0
    latency: Latency | None = None

    @property
    def interrupted(self) -> bool:
        return self.outcome in ("interrupted", "unheard")

    @property
    def answered(self) -> bool:
        """The caller heard an answer, or the beginning of one, and no apology for it.

        A request to repeat, a question whether they are still there, a filler or a goodbye by itself is no answer.
        """
        heard = {segment.kind for segment in self.segments if segment.heard_chars}
        return "reply" in heard and "apology" not in heard


def caller_turns(turns: Iterable[TurnView]) -> list[TurnView]:
    """The exchanges that the caller opened: what a count of turns counts.

    Not among them: the greeting, and what the agent said after a silence or when a line came back. One that was not
    understood is among them.
    """
    return [turn for turn in turns if turn.input != "none"]


class LineEvent(msgspec.Struct, frozen=True):
    """Something about the line or the session itself. ``kind``: dropped, attached, hung_up, closed."""

    at_ms: int
    kind: Literal["dropped", "attached", "hung_up", "closed"]
    detail: str = ""


class Summary(msgspec.Struct, frozen=True):
    """A call in one line. ``turns`` counts the caller's (``caller_turns``), ``answered`` those of them that were
    answered; latencies are over those in which anything was heard.

    ``ended`` is the reason of ``SessionClosed``, ``detached`` if the line was lost last, else ``""``.
    ``diverged_at`` is the first entry that today's code decides otherwise than was decided then; 0: none.
    """

    session: str
    started_at: str
    transport: str
    language: str
    caller: str
    duration_ms: int
    entries: int
    turns: int
    interruptions: int
    backchannels: int
    false_interruptions: int
    failures: int
    ended: str
    median_ms: int | None = None
    p95_ms: int | None = None
    added_median_ms: int | None = None
    diverged_at: int = 0
    answered: int = 0
    adopted: int = 0
    """Answers begun before their question was confirmed, and used; ``dropped``: not used."""
    dropped: int = 0
    dropped_chars: int = 0
    """What the latter had cost: characters that a model wrote for nothing."""


class Conversation(msgspec.Struct, frozen=True):
    """A whole call. ``unanswered`` are utterances that no turn took up before the journal ended."""

    summary: Summary
    turns: tuple[TurnView, ...]
    line: tuple[LineEvent, ...]
    unanswered: tuple[Speech, ...] = ()
