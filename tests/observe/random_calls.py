"""Random journals: whatever the caller, the providers and the line may do, in any order, folded by the kernel."""

from __future__ import annotations

import random
from collections.abc import Callable

from calls_by_hand import ADMISSION, started

from antiphon.kernel import events as ev
from antiphon.kernel.policy import Policy
from antiphon.kernel.session import Session

POLICY = Policy(backchannels={"en-IN": ("mm-hm", "ok")}, history_turns=10_000)
WORDS = ("mm-hm", "what about the fees", "", "stop", "and", "ok ok")


def random_call(seed: int, steps: int = 120) -> tuple[list[ev.Entry], Session]:
    """A journal and the session it was made with."""
    rng = random.Random(seed)
    session = Session()
    now = 0
    entries = [session.receive(started(POLICY), now)[0]]
    for _ in range(steps):
        now += rng.choice((0, 1, 7, 60, 400, 1500))
        event = _due(session, now) or _something(rng, session)
        entries.append(session.receive(event, now)[0])
    if rng.random() < 0.7:
        for last in (ev.CallerHungUp("caller"), ev.SessionClosed("caller")):
            entries.append(session.receive(last, now + 5)[0])
    return entries, session


def _due(session: Session, now: int) -> ev.AnyEvent | None:
    due = session.next_deadline()
    return ev.DeadlineReached(due[0]) if due and due[1] <= now else None


def _something(rng: random.Random, session: Session) -> ev.AnyEvent:
    state = session.state
    live = state.reply or state.closing
    turn = live.turn if live is not None and rng.random() < 0.95 else rng.randint(0, state.turn + 1)
    attempt = live.attempt if live is not None else 1
    known = len(live.segments) if live is not None else 0
    segment = rng.randint(0, max(known - 1, 0))
    text = rng.choice(WORDS)
    likely: list[Callable[[], ev.AnyEvent]] = [
        ev.SpeechStarted,
        lambda: ev.SpeechStopped(0, rng.choice((0, 100, 240))),
        lambda: ev.TranscriptPartial(state.utterance, text),
        lambda: ev.TranscriptFinal(state.awaited or state.utterance, text, "en-IN", 0.9),
        lambda: ev.IntentReady(turn, "fees", 0.9),
        lambda: ev.PassagesReady(turn, (ADMISSION,)),
        lambda: ev.ReplyBegun(turn, attempt),
        lambda: ev.SegmentReady(turn, attempt, known, f"Segment {known} of turn {turn}."),
        lambda: ev.SegmentReady(turn, attempt, known, "One moment please.", "filler"),
        lambda: ev.SegmentSynthesized(turn, attempt, segment),
        lambda: ev.SegmentStarted(turn, segment),
        lambda: ev.SegmentStarted(turn, segment),
        lambda: ev.SegmentPlayed(turn, segment),
        lambda: ev.ReplyGenerated(turn, attempt, known, sources=("faq#1",)),
    ]
    seldom: list[Callable[[], ev.AnyEvent]] = [
        lambda: ev.PlayoutFinished(turn),
        lambda: ev.PlayoutStopped(turn, rng.randint(-1, known), rng.randint(0, 30)),
        lambda: ev.PlayoutStarved(turn),
        lambda: ev.StageFailed(turn, attempt, rng.choice(("intent", "retrieval", "llm", "tts")), "provider.timeout"),
        lambda: ev.TranscriptionFailed(state.awaited, "provider.timeout"),
        lambda: ev.DigitPressed(rng.choice("0123456789#")),
        lambda: ev.TextTyped(text),
        lambda: ev.LineDropped("1006"),
        lambda: ev.LineAttached("twilio", state.epoch + 1),
        lambda: ev.EffectRequested(turn, attempt, f"k{turn}", "pay", "terminal"),
        lambda: ev.EffectSucceeded(f"k{turn}", "paid"),
    ]
    return rng.choice(likely if rng.random() < 0.85 else seldom)()
