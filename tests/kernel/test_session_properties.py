"""Random event sequences: whatever happens, in whatever order, the kernel keeps its promises."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.kernel import events as ev
from antiphon.kernel.commands import CancelReply, CloseSession, HangUp, RunEffect, Say, StartReply
from antiphon.kernel.floor import FLOOR
from antiphon.kernel.policy import Policy, encode_policy
from antiphon.kernel.session import Session, replay
from antiphon.kernel.state import Phase

POLICY = Policy(
    backchannels={"en-IN": ("ok", "mm-hm")}, unfinished={"en-IN": ("and",)}, transfer_target="", history_turns=3
)
TEXTS = st.sampled_from(["", "mm-hm", "what are the fees", "stop", "and", "the fees and", "ok ok", "नमस्ते"])
SMALL = st.integers(0, 4)

EVENTS = st.one_of(
    st.builds(ev.SpeechStarted),
    st.builds(ev.SpeechStopped, hangover_ms=st.integers(0, 300)),
    st.builds(ev.TranscriptPartial, utterance=st.integers(1, 6), text=TEXTS),
    st.builds(ev.TranscriptFinal, utterance=st.integers(1, 6), text=TEXTS),
    st.builds(ev.TranscriptionFailed, utterance=st.integers(1, 6), code=st.just("stt.lost")),
    st.builds(ev.DigitPressed, digit=st.sampled_from("0123456789*#")),
    st.builds(ev.TextTyped, text=TEXTS),
    st.builds(ev.IntentReady, turn=SMALL, intent=st.just("question")),
    st.builds(ev.PassagesReady, turn=SMALL),
    st.builds(
        ev.StageFailed,
        turn=SMALL,
        attempt=SMALL,
        stage=st.sampled_from(["intent", "retrieval", "llm", "tts"]),
        code=st.just("x"),
    ),
    st.builds(
        ev.SegmentReady,
        turn=SMALL,
        attempt=SMALL,
        segment=SMALL,
        text=TEXTS,
        kind=st.sampled_from(["reply", "filler", "apology", "greeting"]),
    ),
    st.builds(ev.SegmentStarted, turn=SMALL, segment=SMALL),
    st.builds(ev.SegmentPlayed, turn=SMALL, segment=SMALL),
    st.builds(ev.ReplyGenerated, turn=SMALL, attempt=SMALL, segments=SMALL, ends_call=st.booleans()),
    st.builds(ev.PlayoutStarved, turn=SMALL),
    st.builds(ev.PlayoutFinished, turn=SMALL),
    st.builds(ev.PlayoutStopped, turn=SMALL, segment=st.integers(-1, 4), heard_chars=st.integers(0, 30)),
    st.builds(
        ev.EffectRequested,
        turn=SMALL,
        attempt=SMALL,
        key=st.sampled_from("ab"),
        name=st.just("pay"),
        kind=st.sampled_from(["read", "write", "terminal", "odd"]),
    ),
    st.builds(ev.EffectSucceeded, key=st.sampled_from("abc")),
    st.builds(ev.LineDropped, code=st.just("line.lost")),
    st.builds(ev.LineAttached, transport=st.just("twilio"), epoch=st.integers(1, 4)),
    st.builds(ev.CallerHungUp),
    st.none(),
)


def started() -> ev.SessionStarted:
    return ev.SessionStarted("s1", "test", "en-IN", encode_policy(POLICY))


def aim(session: Session, event: ev.AnyEvent) -> ev.AnyEvent:
    """Most random numbers are made to hit the live turn, attempt and utterance; some stay stale."""
    state, changes = session.state, {}
    if getattr(event, "turn", 4) < 3:
        changes["turn"] = state.turn
    if getattr(event, "attempt", 4) < 3 and state.reply is not None:
        changes["attempt"] = state.reply.attempt
    if getattr(event, "utterance", 6) < 5:
        final = isinstance(event, (ev.TranscriptFinal, ev.TranscriptionFailed))
        changes["utterance"] = state.awaited if final else state.utterance
    return msgspec.structs.replace(event, **changes) if changes else event


def play(steps: list[tuple[ev.AnyEvent | None, int]]) -> tuple[Session, list[ev.Entry], list[object]]:
    """``None`` stands for time passing up to the next deadline, which the runtime then reports."""
    session, entries, commands, now = Session(), [], [], 0
    for given_event, wait in [(started(), 0), *steps]:
        event = given_event
        now += wait
        due = session.next_deadline()
        if event is None or (due is not None and due[1] <= now):
            if due is None:
                continue
            now = max(now, due[1])
            event = ev.DeadlineReached(due[0])
        entry, decided = session.receive(aim(session, event), now)
        assert session.last_failure is None, session.last_failure
        check(session, commands, list(decided))
        entries.append(entry)
        commands.extend(decided)
    return session, entries, commands


def check(session: Session, before: list[object], decided: list[object]) -> None:
    state = session.state
    if not FLOOR.states[state.floor].rest:
        assert session.next_deadline() is not None
    assert (state.reply is not None) <= (str(state.floor) in ("THINKING", "SPEAKING", "INTERRUPT"))
    for command in decided:
        if isinstance(command, (StartReply, Say)):
            assert state.reply is not None
            assert command.turn == state.reply.turn
        if isinstance(command, RunEffect):
            assert all(not isinstance(old, RunEffect) or old.key != command.key for old in before)
        if isinstance(command, HangUp):
            assert state.phase is Phase.ENDING
    turns = [c.turn for c in [*before, *decided] if isinstance(c, CancelReply)]
    assert len(turns) == len(set(turns)), "one reply is cancelled twice"
    closes = [c for c in [*before, *decided] if isinstance(c, CloseSession)]
    assert len(closes) <= state.epoch, "closed more often than it was taken on"
    assert len({message.turn for message in state.history}) <= POLICY.history_turns
    assert [m.turn for m in state.history] == sorted(m.turn for m in state.history)


STEPS = st.lists(st.tuples(EVENTS, st.sampled_from([0, 1, 20, 90, 300, 700, 2500])), max_size=60)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_any_sequence_keeps_the_rules_and_replays(steps: list[tuple[ev.AnyEvent | None, int]]) -> None:
    session, entries, _ = play(steps)
    again = replay([ev.decode_entry(ev.encode_entry(entry)) for entry in entries])
    assert again.snapshot() == session.snapshot()


@settings(max_examples=100, deadline=None)
@given(STEPS, STEPS)
def test_a_snapshot_goes_on_like_the_original(
    first: list[tuple[ev.AnyEvent | None, int]], second: list[tuple[ev.AnyEvent | None, int]]
) -> None:
    session, entries, _ = play(first)
    copy = Session.restore(session.snapshot())
    now = entries[-1].at
    for event, wait in second:
        now += wait
        if event is not None:
            assert session.receive(event, now) == copy.receive(event, now)
    assert copy.snapshot() == session.snapshot()


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_left_alone_every_session_comes_to_rest(steps: list[tuple[ev.AnyEvent | None, int]]) -> None:
    """Without any further fact, deadlines alone lead every session to its end."""
    session, entries, _ = play(steps)
    now = entries[-1].at
    for _ in range(200):
        due = session.next_deadline()
        if due is None:
            break
        now = max(now, due[1])
        session.receive(ev.DeadlineReached(due[0]), now)
        assert session.last_failure is None
    assert session.is_over
