"""What the session API answers: the shapes, and how they are made of a journal. Pure.

The making is in steps (``observe.replaying.Steps``), one for each entry. Times named ``at_ms`` are milliseconds since
the session began. Text in it came from callers, models and documents: whoever shows it shows it as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from antiphon.errors import UNUSABLE
from antiphon.kernel import events as ev
from antiphon.kernel.session import Session
from antiphon.observe.projections import Reader
from antiphon.observe.replaying import Steps, examining
from antiphon.observe.views import (
    EffectView,
    Failure,
    Latency,
    LineEvent,
    Note,
    Overlap,
    Part,
    SegmentView,
    Speech,
    TurnView,
)
from antiphon.runtime.host import CallView
from antiphon.runtime.ports import SessionRow

# -- beginning one --------------------------------------------------------------------------------


class NewSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``POST /sessions`` may be given. ``session_id``: 1 to 255 of ``[A-Za-z0-9_.:-]``, else one is made."""

    session_id: str = ""
    language: str = ""


class IssuedSession(msgspec.Struct, frozen=True):
    """``token`` opens ``url``, a WebSocket, within ``expires_in`` seconds; the socket then stays open."""

    session_id: str
    token: str
    expires_in: int
    url: str


# -- the list -------------------------------------------------------------------------------------

Status = Literal["live", "detached", "closed", "interrupted"]


class SessionItem(msgspec.Struct, frozen=True):
    """One session. ``last_turn``: the highest turn number, the greeting's among them; ``floor``: who has it, where
    this server holds the session.
    """

    session_id: str
    status: str
    started_at: str
    transport: str
    language: str
    caller: str
    last_turn: int
    entries: int
    duration_ms: int
    floor: str = ""


class SessionList(msgspec.Struct, frozen=True):
    """Newest first. ``complete`` is false while the journal does not answer: then only what is live here is known."""

    sessions: tuple[SessionItem, ...]
    complete: bool = True


def listing(rows: Iterable[SessionRow], calls: Sequence[CallView]) -> tuple[SessionItem, ...]:
    """The journal's rows; before them the calls held here that it has no row of yet."""
    held = {call.call_id: call for call in calls}
    items = []
    for row in rows:
        call = held.pop(row.session, None)
        items.append(
            SessionItem(
                session_id=row.session,
                status=row.status,
                started_at=row.started_at,
                transport=row.transport,
                language=row.language,
                caller=row.caller,
                last_turn=row.turns,
                entries=row.entries,
                duration_ms=row.last_at_ms,
                floor=call.floor if call else "",
            )
        )
    fresh = [
        SessionItem(call.call_id, "live", "", call.transport, call.language, "", call.turn, 0, 0, call.floor)
        for call in reversed(held.values())
    ]
    return (*fresh, *items)


# -- one session ----------------------------------------------------------------------------------


class Source(msgspec.Struct, frozen=True):
    """A passage that an answer rests on; ``id`` is "" where only its source was told."""

    id: str
    title: str
    source: str
    score: float
    text: str


class TurnLatency(msgspec.Struct, frozen=True):
    """From the end of the caller's input to the first sound; ``parts`` sum to ``total_ms``."""

    total_ms: int
    added_ms: int
    first: str
    answer_ms: int | None
    parts: tuple[Part, ...]


class Interruption(msgspec.Struct, frozen=True):
    """A sound of the caller while the agent spoke. ``cancelled``: it took the floor; ``resumed``: the agent went on."""

    at_ms: int
    decision: Literal["cancelled", "resumed"]
    kind: str
    text: str


class Turn(msgspec.Struct, frozen=True):
    """One exchange. ``answer`` is all that was decided to be said in it, ``heard`` what of it the caller heard."""

    turn: int
    at_ms: int
    input: str
    outcome: str
    language: str
    question: str
    answer: str
    heard: str
    intent: str
    intent_confidence: float
    sources: tuple[Source, ...]
    latency: TurnLatency | None
    interruptions: tuple[Interruption, ...]
    segments: tuple[SegmentView, ...]
    speech: tuple[Speech, ...]
    failures: tuple[Failure, ...]
    notes: tuple[Note, ...]
    effects: tuple[EffectView, ...]


class SessionView(msgspec.Struct, frozen=True):
    """One session with some of its turns; ``next``: ask for those after this turn, ``None`` if these are the last.

    ``diverged_at``: the first entry that today's code decides otherwise, 0: none; what follows it may be incomplete.
    """

    session_id: str
    status: str
    started_at: str
    transport: str
    language: str
    caller: str
    duration_ms: int
    entries: int
    ended: str
    floor: str
    counts: dict[str, int]
    median_ms: int | None
    p95_ms: int | None
    diverged_at: int
    turns: tuple[Turn, ...]
    line: tuple[LineEvent, ...]
    unanswered: tuple[Speech, ...]
    next: int | None = None


_COUNTS = ("turns", "answered", "interruptions", "backchannels", "false_interruptions", "failures")


def viewing(
    session: str, entries: Sequence[ev.Entry], status: str, floor: str, *, after: int, limit: int
) -> Steps[SessionView]:
    """The view, with at most ``limit`` turns numbered above ``after``."""
    reader = Reader()
    found: dict[int, list[ev.Passage]] = {}
    for entry in entries:
        reader.read(entry)
        if isinstance(entry.event, ev.PassagesReady):
            found.setdefault(entry.event.turn, []).extend(entry.event.passages)
        yield
    turns: list[TurnView] = []
    for number in sorted(reader.turns):
        turns.append(reader.turns[number].view())
        yield
    call = reader.result_of(tuple(turns))
    yield
    chosen = [turn for turn in turns if turn.turn > after]
    shown: list[Turn] = []
    for turn in chosen[:limit]:
        shown.append(_turn(turn, found.get(turn.turn, ())))
        yield
    summary = call.summary
    return SessionView(
        session_id=session,
        status=status,
        started_at=summary.started_at,
        transport=summary.transport,
        language=summary.language,
        caller=summary.caller,
        duration_ms=summary.duration_ms,
        entries=summary.entries,
        ended=summary.ended,
        floor=floor,
        counts={name: getattr(summary, name) for name in _COUNTS},
        median_ms=summary.median_ms,
        p95_ms=summary.p95_ms,
        diverged_at=summary.diverged_at,
        turns=tuple(shown),
        line=call.line,
        unanswered=call.unanswered,
        next=chosen[limit - 1].turn if len(chosen) > limit else None,
    )


def _turn(turn: TurnView, passages: Sequence[ev.Passage]) -> Turn:
    said = [segment for segment in turn.segments if segment.heard != "dropped"]
    return Turn(
        turn=turn.turn,
        at_ms=turn.at_ms,
        input=turn.input,
        outcome=turn.outcome,
        language=turn.language,
        question=turn.question,
        answer=" ".join(segment.text.strip() for segment in said),
        heard=" ".join(part for segment in said if (part := segment.text[: segment.heard_chars].strip())),
        intent=turn.intent,
        intent_confidence=turn.intent_confidence,
        sources=sources_of(turn, passages),
        latency=_latency(turn.latency),
        interruptions=tuple(_interruption(overlap) for overlap in turn.overlaps),
        segments=turn.segments,
        speech=turn.speech,
        failures=turn.failures,
        notes=turn.notes,
        effects=turn.effects,
    )


def sources_of(turn: TurnView, passages: Sequence[ev.Passage]) -> tuple[Source, ...]:
    """What the answer says it rests on, with what was retrieved for the turn in place of the bare name."""
    known = [each for each in passages if each.id in turn.passages]
    found: dict[tuple[str, str], Source] = {}
    for name in turn.sources:
        named = [each for each in known if name in (each.source, each.id)]
        for each in named:
            found[each.source, each.id] = Source(each.id, each.title, each.source, each.score, each.text)
        if not named:
            found[name, ""] = Source("", "", name, 0.0, "")
    return tuple(found.values())


def _latency(ledger: Latency | None) -> TurnLatency | None:
    if ledger is None:
        return None
    return TurnLatency(ledger.total_ms, ledger.added_ms, ledger.first, ledger.answer_ms, ledger.parts)


def _interruption(overlap: Overlap) -> Interruption:
    decision: Literal["cancelled", "resumed"] = "cancelled" if overlap.kind == "barge_in" else "resumed"
    return Interruption(overlap.at_ms, decision, overlap.kind, overlap.text)


# -- its entries, in time -------------------------------------------------------------------------


class TimelineEntry(msgspec.Struct, frozen=True):
    """One entry. ``event`` is its name, ``data`` its fields, ``floor`` who has the floor after it ("": not known)."""

    seq: int
    at_ms: int
    event: str
    floor: str
    data: dict[str, Any]


class Timeline(msgspec.Struct, frozen=True):
    """``next``: ask for the entries after this one, ``None`` if these are the last."""

    session_id: str
    duration_ms: int
    entries: tuple[TimelineEntry, ...]
    next: int | None = None


def timing(session: str, entries: Sequence[ev.Entry], after: int, limit: int) -> Steps[Timeline]:
    """At most ``limit`` entries numbered above ``after``."""
    fold = Session()
    found: list[TimelineEntry] = []
    readable = True
    for entry in entries:
        if len(found) == limit:
            break
        try:
            fold.receive(entry.event, entry.at)
        except UNUSABLE:  # a policy that this code cannot read: the floor is not known
            readable = False
        if entry.seq > after:
            name, floor = type(entry.event).__name__, str(fold.floor) if readable else ""
            found.append(TimelineEntry(entry.seq, entry.at, name, floor, _fields(entry.event)))
        yield
    last = entries[-1] if entries else None
    more = bool(found) and last is not None and found[-1].seq < last.seq
    return Timeline(session, last.at if last else 0, tuple(found), found[-1].seq if more else None)


def _fields(event: ev.AnyEvent) -> dict[str, Any]:
    fields = msgspec.structs.asdict(event)
    fields.pop("policy", None)  # bytes, the same for every session
    if isinstance(event, ev.PassagesReady):
        fields["passages"] = [msgspec.structs.asdict(each) for each in event.passages]
    return fields


# -- folded again ---------------------------------------------------------------------------------


class Divergence(msgspec.Struct, frozen=True):
    """The first entry that today's code decides otherwise: digests of then and now, and what is decided now."""

    seq: int
    at_ms: int
    floor: str
    event: str
    then: str
    now: str
    decided_now: tuple[str, ...]


class Replayed(msgspec.Struct, frozen=True):
    """``identical``: every digest agrees. ``error``: why it could not be folded, "" if it could."""

    session_id: str
    identical: bool
    entries: int
    diverged: Divergence | None = None
    error: str = ""


def replaying(session: str, entries: Sequence[ev.Entry]) -> Steps[Replayed]:
    result = yield from examining(session, entries)
    where = result.get("diverged")
    return Replayed(
        session,
        result["identical"],
        len(entries),
        Divergence(**{**where, "decided_now": tuple(where["decided_now"])}) if where else None,
        result.get("error", ""),
    )
