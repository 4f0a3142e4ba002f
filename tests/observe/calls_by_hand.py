"""Journals written by hand: events with their times, folded through the kernel as the runtime would."""

from __future__ import annotations

from antiphon.kernel import events as ev
from antiphon.kernel.policy import Policy, encode_policy
from antiphon.kernel.session import Session

POLICY = Policy(
    greeting=False, understand_ms=120, backchannels={"en-IN": ("mm-hm", "ok")}, unfinished={"en-IN": ("and",)}
)

Script = list[tuple[int, ev.AnyEvent]]


def started(policy: Policy = POLICY, session: str = "CA1") -> ev.SessionStarted:
    return ev.SessionStarted(
        session, "twilio", "en-IN", encode_policy(policy), started_at="2026-01-02T03:04:05Z", caller="+911234"
    )


def journal(script: Script) -> list[ev.Entry]:
    session = Session()
    return [session.receive(event, at)[0] for at, event in script]


ADMISSION = ev.Passage("p1", "Ten years of school.", "faq#1", 0.8)

ANSWERED: Script = [
    (0, started()),
    (1000, ev.SpeechStarted(1000)),
    (1500, ev.TranscriptPartial(1, "what are the")),
    (2000, ev.TranscriptPartial(1, "what are the admission requirements")),
    (2400, ev.SpeechStopped(2200, 200)),
    (2620, ev.DeadlineReached("endpoint")),
    (2655, ev.TranscriptFinal(1, "what are the admission requirements", "en-IN", 0.9, "pocketsphinx")),
    (2665, ev.IntentReady(1, "admissions", 0.91, "minilm")),
    (2680, ev.PassagesReady(1, (ADMISSION,), "minilm")),
    (2690, ev.ReplyBegun(1, 1, "extractive")),
    (2691, ev.SegmentReady(1, 1, 0, "You need ten years of school.", language="en-IN")),
    (2692, ev.SegmentReady(1, 1, 1, "And a language test.", language="en-IN")),
    (2692, ev.ReplyGenerated(1, 1, 2, sources=("faq#1",))),
    (2760, ev.SegmentSynthesized(1, 1, 0, "espeak")),
    (2763, ev.SegmentStarted(1, 0)),
]
"""One question, answered from 2200 (end of speech) to 2763 (first sample); the rest is added by each test."""

BACKCHANNEL: Script = [
    (3500, ev.SpeechStarted(3500)),
    (3700, ev.TranscriptPartial(2, "mm-hm")),
    (3900, ev.SpeechStopped(3750, 150)),
    (3950, ev.TranscriptFinal(2, "mm-hm", "en-IN", 0.8)),
]
PLAYED: Script = [
    (4600, ev.SegmentPlayed(1, 0)),
    (4601, ev.SegmentStarted(1, 1)),
    (6000, ev.SegmentPlayed(1, 1)),
    (6001, ev.PlayoutFinished(1)),
]
BARGE_IN: Script = [
    (4600, ev.SegmentPlayed(1, 0)),
    (4601, ev.SegmentStarted(1, 1)),
    (5000, ev.SpeechStarted(5000)),
    (5350, ev.TranscriptPartial(2, "wait what about fees")),
    (5372, ev.PlayoutStopped(1, 1, 8)),
    (6200, ev.SpeechStopped(6000, 200)),
    (6420, ev.DeadlineReached("endpoint")),
    (6450, ev.TranscriptFinal(2, "wait what about fees", "en-IN")),
]
