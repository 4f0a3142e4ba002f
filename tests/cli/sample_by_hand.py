"""A sample call written by hand: its events with their times, and the caller's report of it."""

from __future__ import annotations

from antiphon.kernel import events as ev
from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.policy import Policy, encode_policy
from antiphon.kernel.session import Session
from antiphon.phone.report import CallReport, TurnReport

POLICY = Policy(backchannels={"en-IN": ("aha",)}, unfinished={"en-IN": ("and",)})
FEES = ev.Passage("fees", "The fee is ten rupees. It is paid once.", "Fees, page 1", 0.9)
DATES = ev.Passage("dates", "It begins on Monday.", "Dates, page 2", 0.8)

Script = list[tuple[int, ev.AnyEvent]]

GREETING: Script = [
    (0, ev.SessionStarted("CA1", "twilio", "en-IN", encode_policy(POLICY), "2026-01-02T03:04:05Z")),
    (1, ev.SegmentReady(1, 1, 0, "Hello.", "greeting", "en-IN")),
    (2, ev.ReplyGenerated(1, 1, 1)),
    (3, ev.SegmentStarted(1, 0)),
    (600, ev.SegmentPlayed(1, 0)),
    (601, ev.PlayoutFinished(1)),
]


def asked(at: int, utterance: int, text: str) -> Script:
    """The caller speaks for a second, until ``at``."""
    return [
        (at - 1000, ev.SpeechStarted(at - 1000)),
        (at - 500, ev.TranscriptPartial(utterance, " ".join(text.split()[:2]))),
        (at - 100, ev.TranscriptPartial(utterance, text)),
        (at + 200, ev.SpeechStopped(at, 200)),
        (at + 420, ev.DeadlineReached("endpoint")),
        (at + 430, ev.TranscriptFinal(utterance, text, "en-IN", 0.9, "pocketsphinx")),
    ]


def answered(at: int, turn: int, passage: ev.Passage, segments: tuple[str, ...], intent: str = "question") -> Script:
    """The answer to what was asked until ``at``: its first segment begins 460 ms later."""
    script: Script = [
        (at + 440, ev.IntentReady(turn, intent, 0.97, "minilm")),
        (at + 450, ev.PassagesReady(turn, (passage,), "minilm")),
        (at + 452, ev.ReplyBegun(turn, 1, "extractive")),
    ]
    for number, text in enumerate(segments):
        script.append((at + 453, ev.SegmentReady(turn, 1, number, text, "reply", "en-IN")))
        script.append((at + 458, ev.SegmentSynthesized(turn, 1, number, "espeak")))
    sources = (passage.source,) if intent == "question" else ()
    script.append((at + 459, ev.ReplyGenerated(turn, 1, len(segments), intent == "goodbye", sources)))
    script.append((at + 460, ev.SegmentStarted(turn, 0)))
    return sorted(script, key=lambda item: item[0])


def heard_out(at: int, turn: int, segments: int) -> Script:
    """The rest of an answer from ``at`` on: a second for each segment."""
    script: Script = []
    for number in range(segments):
        if number:
            script.append((at + 1000 * number, ev.SegmentStarted(turn, number)))
        script.append((at + 1000 * (number + 1), ev.SegmentPlayed(turn, number)))
    return [*script, (at + 1000 * segments + 1, ev.PlayoutFinished(turn))]


MURMUR: Script = [
    (3000, ev.SpeechStarted(2950)),
    (3200, ev.TranscriptPartial(2, "aha")),
    (3500, ev.SpeechStopped(3300, 200)),
    (3520, ev.TranscriptFinal(2, "aha", "en-IN", 0.5, "pocketsphinx")),
]

FIRST: Script = [
    *asked(2000, 1, "what is the fee"),
    *answered(2000, 2, FEES, ("The fee is ten rupees.", "It is paid once.")),
]
"""The first question; from 2460 on its answer is heard."""

INTERRUPTED: Script = [
    *asked(8000, 3, "and for children"),
    *answered(8000, 3, FEES, ("The fee is ten rupees.", "It is paid once.")),
    (9500, ev.SpeechStarted(9450)),
    (9700, ev.TranscriptPartial(4, "when does")),
    (9701, ev.PlayoutStopped(3, 0, 10)),
]
"""The second question, whose answer the third one interrupts after "The fee is"."""

LAST: Script = [
    (10_300, ev.TranscriptPartial(4, "when does it begin")),
    (10_600, ev.SpeechStopped(10_400, 200)),
    (10_820, ev.DeadlineReached("endpoint")),
    (10_830, ev.TranscriptFinal(4, "when does it begin", "en-IN", 0.9, "pocketsphinx")),
    *answered(10_400, 4, DATES, ("It begins on Monday.",)),
    *heard_out(10_860, 4, 1),
    *asked(14_000, 5, "okay bye"),
    *answered(14_000, 5, DATES, ("Goodbye.",), intent="goodbye"),
    *heard_out(14_460, 5, 1),
    (15_500, ev.CallerHungUp("agent")),
    (15_501, ev.SessionClosed("agent")),
]

WHOLE: Script = [*GREETING, *FIRST, *MURMUR, *heard_out(4000, 2, 2), *INTERRUPTED, *LAST]


def folded(script: Script) -> list[tuple[ev.Entry, tuple[AnyCommand, ...]]]:
    """What an onlooker of the host is told."""
    session = Session()
    return [session.receive(event, at) for at, event in script]


def journal(script: Script) -> list[ev.Entry]:
    return [entry for entry, _ in folded(script)]


def report() -> CallReport:
    """What the caller of ``WHOLE`` says of it."""
    said = (
        TurnReport(
            index=1, began_ms=1000, said="What is the fee?", answered=True, latency_ms=500.0, backchannels=("Aha.",)
        ),
        TurnReport(index=2, began_ms=7000, said="And for children?", answered=True, latency_ms=520.0, interrupted=True),
        TurnReport(index=3, began_ms=9450, said="When does it begin?", answered=True, latency_ms=480.0, barged_in=True),
        TurnReport(index=4, began_ms=13000, said="Okay, goodbye.", answered=True, latency_ms=510.0),
    )
    return CallReport(
        call_id="CA1", url="ws://x", turns=[TurnReport(index=0, kind="greeting"), *said], ended_by="agent"
    )
