"""A session: the journal's fold. ``receive`` is the only way in, and the only place that drops what is stale.

Obligations of the caller: one ``Session`` per conversation, every event through ``receive`` in the
order it happened, ``now`` in milliseconds from any steady origin (it may not run backwards: an
earlier ``now`` counts as the latest), one timer for ``next_deadline``. In return every event gives
one entry for the journal and the commands to carry out, and the same entries folded again give the
same state and the same digests, in any process.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from antiphon.errors import ChartError, ReplayDiverged
from antiphon.kernel import degradation, events
from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.effects import EffectKind
from antiphon.kernel.events import AnyEvent, Entry
from antiphon.kernel.floor import FLOOR
from antiphon.kernel.history import LEADS
from antiphon.kernel.policy import Policy, decode_policy
from antiphon.kernel.state import SHAPE, Floor, Phase, State, decode_state, encode_state
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
        deadlines = self.state.deadlines
        if not deadlines:
            return None
        at, name = min((at, name) for name, at in deadlines.items())
        return name, at

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
    if target is not None:
        state.floor = Floor(target)
    allowed = FLOOR.states[state.floor].deadlines
    for name in [name for name in state.deadlines if name not in allowed]:
        del state.deadlines[name]
    if not state.deadlines and not FLOOR.states[state.floor].rest:
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
    match event:
        case events.DeadlineReached(name=name):
            return name not in state.deadlines or state.deadlines[name] > now
        case events.TranscriptPartial():
            return _is_stale_partial(state, event)
        case events.TranscriptFinal(utterance=utterance) | events.TranscriptionFailed(utterance=utterance):
            return utterance != state.awaited
        case events.PlayoutStopped(turn=turn):
            return state.closing is None or state.closing.turn != turn
    return _is_stale_work(state, event)


def _is_stale_partial(state: State, event: events.TranscriptPartial) -> bool:
    """Words of the utterance whose final is owed still tell what was said, while the floor is the caller's. Words told
    again are no more certain than before: they must not interrupt anybody."""
    if state.floor is Floor.LISTENING:
        return event.utterance not in (state.utterance, state.awaited)
    return event.again or event.utterance != state.utterance


def _is_stale_work(state: State, event: AnyEvent) -> bool:
    """The same for the work of a turn: another turn's, another attempt's, an unknown segment's."""
    turn = getattr(event, "turn", None)
    if turn is None:
        return False
    reply = state.reply
    if reply is None or reply.turn != turn:
        return True
    match event:
        case events.IntentReady() | events.PassagesReady():
            return reply.attempt != 0
        case events.StageFailed(stage="intent" | "retrieval"):
            return reply.attempt != 0
        case (
            events.SegmentStarted(segment=segment)
            | events.SegmentPlayed(segment=segment)
            | events.SegmentCut(segment=segment)
        ):
            return all(part.number != segment for part in reply.segments)
        case events.SegmentReady(attempt=attempt, kind=kind, segment=segment):
            known = any(part.number == segment for part in reply.segments)
            return known or attempt > reply.attempt or (kind not in LEADS and attempt != reply.attempt)
        case events.EffectRequested(attempt=attempt, kind=kind):
            return attempt != reply.attempt or kind not in list(EffectKind)
    attempt = getattr(event, "attempt", reply.attempt)
    return bool(attempt != reply.attempt)


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
