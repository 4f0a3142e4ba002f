"""A session: the journal's fold. ``receive`` is the only way in, and the only place that drops what is stale.

Obligations of the caller: one ``Session`` per conversation, every event through ``receive`` in the
order it happened, ``now`` in milliseconds from any steady origin (it may not run backwards: an
earlier ``now`` counts as the latest), one timer for ``next_deadline``. In return every event gives
one entry for the journal and the commands to carry out, and the same entries folded again give the
same state and the same digests, in any process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Final

import msgspec

from antiphon.errors import ChartError, ReplayDiverged
from antiphon.kernel import degradation, events
from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.effects import EffectKind
from antiphon.kernel.events import AnyEvent, Entry
from antiphon.kernel.floor import FLOOR
from antiphon.kernel.history import LEADS
from antiphon.kernel.policy import Policy, decode_policy
from antiphon.kernel.state import SHAPE, Floor, Phase, Reply, State, decode_state, encode_state
from antiphon.kernel.step import Step

_command_encoder = msgspec.msgpack.Encoder()
_snapshot_encoder = msgspec.msgpack.Encoder()
_snapshot_decoder = msgspec.msgpack.Decoder(tuple[bytes, bytes, bytes])

_AFTER_THE_END = (
    events.PlayoutStopped,
    events.SessionClosed,
    events.EffectSucceeded,
    events.EffectFailed,
    events.CommandLost,
)


class Session:
    """One conversation: state, the policy it runs by, and the fold."""

    __slots__ = ("_policy_bytes", "last_failure", "policy", "stale", "state")

    def __init__(self) -> None:
        self.state = State()
        self.policy = Policy()
        self._policy_bytes = b""
        self.last_failure: Exception | None = None
        """The exception of the latest step if it raised, for the runtime to log."""
        self.stale = False
        """The latest event no longer concerned this session: it changed nothing."""

    def receive(self, event: AnyEvent, now: int) -> tuple[Entry, tuple[AnyCommand, ...]]:
        """Folds one event into the state.

        Returns the entry for the journal and the commands decided. A stale event changes nothing but
        is journalled. A step that raises leaves the state as it was before it and degrades instead.
        Raises ``errors.UNUSABLE`` only for a ``SessionStarted`` whose policy cannot be read.
        """
        self.last_failure = None
        if isinstance(event, events.SessionStarted) and self.state.phase is Phase.NEW:
            self.policy, self._policy_bytes = decode_policy(event.policy), event.policy
        state = self.state
        now = max(now, state.at)
        commands: tuple[AnyCommand, ...] = ()
        self.stale = is_stale(state, event, now)
        if not self.stale:
            commands = self._step(event, now)
        self.state.seq += 1
        self.state.at = now
        return Entry(self.state.seq, now, event, digest(commands)), commands

    def _step(self, event: AnyEvent, now: int) -> tuple[AnyCommand, ...]:
        before = encode_state(self.state)
        try:
            step = Step(self.state, self.policy, event, now)
            run(step)
        except Exception as error:  # noqa: BLE001 - a step that raises may never end a call (the kernel's rule 13)
            self.last_failure = error
            self.state = decode_state(before)
            step = Step(self.state, self.policy, event, now)
            degradation.degrade(step)
        return tuple(step.commands)

    def next_deadline(self) -> tuple[str, int] | None:
        """The deadline that is due first, as (name, time), or None. At equal times the name decides."""
        first: tuple[str, int] | None = None
        for name, at in self.state.deadlines.items():
            if first is None or (at, name) < (first[1], first[0]):
                first = name, at
        return first

    @property
    def floor(self) -> Floor:
        return self.state.floor

    @property
    def is_over(self) -> bool:
        return self.state.phase in (Phase.ENDED, Phase.CLOSED)

    def snapshot(self) -> bytes:
        """The whole session as bytes; ``Session.restore`` is its inverse."""
        return _snapshot_encoder.encode((SHAPE, self._policy_bytes, encode_state(self.state)))

    @classmethod
    def restore(cls, data: bytes) -> Session:
        """Raises ``errors.UNUSABLE`` for what is not a snapshot, or one of a release with another state."""
        shape, policy, state = _snapshot_decoder.decode(data)
        if shape != SHAPE:
            raise msgspec.DecodeError("the snapshot is of a release whose state has other fields")
        session = cls()
        session._policy_bytes = policy
        if policy:
            session.policy = decode_policy(policy)
        session.state = decode_state(state)
        return session


def run(step: Step) -> None:
    """One step of the floor chart, and the check that no state is left without a deadline."""
    event, state = step.event, step.state
    trigger = type(event).__name__
    if isinstance(event, events.DeadlineReached):
        del state.deadlines[event.name]
        trigger = f"{trigger}:{event.name}"
    target = FLOOR.step(state.floor, trigger, step)
    if target is not None and target != state.floor:
        state.floor = Floor(target)
    here = FLOOR.states[state.floor]
    for name in [name for name in state.deadlines if name not in here.deadlines]:
        del state.deadlines[name]
    if not state.deadlines and not here.rest:
        raise ChartError(f"{state.floor} is without a deadline after {trigger}: the call could fall silent")


def is_stale(state: State, event: AnyEvent, now: int) -> bool:
    """True for what no longer concerns this session: the one place where this is decided."""
    if state.phase is Phase.NEW:
        return not isinstance(event, events.SessionStarted)
    if isinstance(event, events.SessionStarted):
        return True
    if isinstance(event, events.LineAttached):
        return event.epoch <= state.epoch
    if state.phase is Phase.CLOSED or (state.phase is Phase.ENDED and not isinstance(event, _AFTER_THE_END)):
        return True
    check = _CHECKS.get(type(event))
    return _is_stale_work(state, event) if check is None else check(state, event, now)


def _is_stale_deadline(state: State, event: events.DeadlineReached, now: int) -> bool:
    return event.name not in state.deadlines or state.deadlines[event.name] > now


def _is_stale_partial(state: State, event: events.TranscriptPartial, _: int) -> bool:
    """Words of the utterance whose final is owed still tell what was said, while the floor is the caller's. Words told
    again are no more certain than before: they must not interrupt anybody."""
    if state.floor is Floor.LISTENING:
        return event.utterance not in (state.utterance, state.awaited)
    return event.again or event.utterance != state.utterance


def _is_stale_final(state: State, event: events.TranscriptFinal | events.TranscriptionFailed, _: int) -> bool:
    return event.utterance != state.awaited


def _is_stale_stop(state: State, event: events.PlayoutStopped, _: int) -> bool:
    return state.closing is None or state.closing.turn != event.turn


_CHECKS: Final[dict[type, Callable[[State, Any, int], bool]]] = {
    events.DeadlineReached: _is_stale_deadline,
    events.TranscriptPartial: _is_stale_partial,
    events.TranscriptFinal: _is_stale_final,
    events.TranscriptionFailed: _is_stale_final,
    events.PlayoutStopped: _is_stale_stop,
}


def _is_stale_work(state: State, event: AnyEvent) -> bool:
    """The same for the work of a turn: another turn's, another attempt's, an unknown segment's."""
    turn = getattr(event, "turn", None)
    if turn is None:
        return False
    reply = state.reply
    if reply is None or reply.turn != turn:
        return True
    return _CHECKS_OF_REPLY.get(type(event), _is_of_other_attempt)(reply, event)


def _is_of_other_attempt(reply: Reply, event: AnyEvent) -> bool:
    return bool(getattr(event, "attempt", reply.attempt) != reply.attempt)


def _is_too_late(reply: Reply, _: events.IntentReady | events.PassagesReady) -> bool:
    return reply.attempt != 0


def _is_stale_failure(reply: Reply, event: events.StageFailed) -> bool:
    return reply.attempt != (0 if event.stage in ("intent", "retrieval") else event.attempt)


def _is_unknown_segment(reply: Reply, event: events.SegmentStarted | events.SegmentPlayed | events.SegmentCut) -> bool:
    return all(part.number != event.segment for part in reply.segments)


def _is_stale_segment(reply: Reply, event: events.SegmentReady) -> bool:
    known = any(part.number == event.segment for part in reply.segments)
    return known or event.attempt > reply.attempt or (event.kind not in LEADS and event.attempt != reply.attempt)


def _is_stale_effect(reply: Reply, event: events.EffectRequested) -> bool:
    return event.attempt != reply.attempt or event.kind not in list(EffectKind)


_CHECKS_OF_REPLY: Final[dict[type, Callable[[Reply, Any], bool]]] = {
    events.IntentReady: _is_too_late,
    events.PassagesReady: _is_too_late,
    events.StageFailed: _is_stale_failure,
    events.SegmentStarted: _is_unknown_segment,
    events.SegmentPlayed: _is_unknown_segment,
    events.SegmentCut: _is_unknown_segment,
    events.SegmentReady: _is_stale_segment,
    events.EffectRequested: _is_stale_effect,
}


def digest(commands: tuple[AnyCommand, ...]) -> bytes:
    """Eight bytes that stand for what was decided; empty for nothing."""
    if not commands:
        return b""
    return blake2b(_command_encoder.encode(commands), digest_size=8).digest()


def replay(entries: Iterable[Entry], *, session: Session | None = None) -> Session:
    """Folds a journal again (or the rest of one, onto a restored ``session``).

    Raises ``ReplayDiverged`` at the first entry whose digest, number or time differs from what is
    decided now.
    """
    session = session or Session()
    for entry in entries:
        again, commands = session.receive(entry.event, entry.at)
        if (again.seq, again.at) != (entry.seq, entry.at):
            raise ReplayDiverged(entry.seq, f"entry {entry.seq} at {entry.at} ms folds as {again.seq} at {again.at} ms")
        if again.digest != entry.digest:
            decided = ", ".join(type(command).__name__ for command in commands) or "nothing"
            what = type(entry.event).__name__
            raise ReplayDiverged(
                entry.seq, f"entry {entry.seq} ({what}) decides now: {decided}; it decided otherwise then"
            )
    return session
