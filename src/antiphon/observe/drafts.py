"""Views under construction: what ``projections`` fills in while it reads a journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from antiphon.kernel import events as ev
from antiphon.kernel import history
from antiphon.kernel.history import LEADS
from antiphon.observe.latency import Milestones, divide
from antiphon.observe.views import (
    EffectView,
    Failure,
    Heard,
    InputKind,
    Latency,
    Note,
    Outcome,
    Overlap,
    SegmentView,
    Speech,
    TurnView,
)


class SegmentDraft(msgspec.Struct):
    number: int
    text: str
    kind: str
    language: str
    attempt: int
    ready_at: int
    synthesized_at: int | None = None
    started_at: int | None = None
    heard: Heard = "ready"
    heard_chars: int = 0

    def hear(self, chars: int | None = None) -> None:
        """All of it was heard, or its first ``chars`` characters."""
        if chars is None or chars >= len(self.text):
            self.heard, self.heard_chars = "heard", len(self.text)
        else:
            # The same cut as in the caller's history: whole words only.
            self.heard, self.heard_chars = "partly", len(history.whole_words(self.text, chars))

    def view(self) -> SegmentView:
        at = self.ready_at if self.started_at is None else self.started_at
        return SegmentView(
            self.number, self.text, self.kind, self.language, self.attempt, self.heard, self.heard_chars, at
        )


class OverlapDraft(msgspec.Struct):
    at: int
    turn: int
    utterance: int
    text: str = ""
    took_floor: bool = False

    def view(self) -> Overlap:
        if self.took_floor:
            return Overlap(self.at, "barge_in", self.text)
        return Overlap(self.at, "backchannel" if self.text.strip() else "noise", self.text)


class TurnDraft(msgspec.Struct):
    turn: int
    at: int
    input: InputKind
    language: str
    question: str = ""
    speech: list[Speech] = []
    intent: str = ""
    intent_confidence: float = 0.0
    passages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    segments: list[SegmentDraft] = []
    dropped: list[SegmentDraft] = []
    phrases: list[str] = []
    tiers: list[str] = []
    overlaps: list[OverlapDraft] = []
    failures: list[Failure] = []
    notes: list[Note] = []
    effects: dict[str, EffectView] = {}
    starved: int = 0
    cut_by: Literal["", "caller", "other"] = ""
    finished: bool = False
    marks: Milestones = msgspec.field(default_factory=Milestones)

    def segment(self, number: int) -> SegmentDraft | None:
        return next((segment for segment in self.segments if segment.number == number), None)

    # -- facts about its work ----------------------------------------------------------------------

    def understood(self, event: ev.IntentReady, _: int) -> None:
        self.intent, self.intent_confidence = event.intent, event.confidence

    def found(self, event: ev.PassagesReady, _: int) -> None:
        self.passages = tuple(passage.id for passage in event.passages)

    def failed(self, event: ev.StageFailed, at: int) -> None:
        self.failures.append(Failure(at, event.stage, event.code, event.provider, event.attempt))

    def remark(self, event: ev.LanguageSwitched | ev.StageRerouted, at: int) -> None:
        self.notes.append(Note(at, noted(event)))

    def begun(self, _: ev.ReplyBegun, at: int) -> None:
        if self.marks.text is None:
            self.marks.text = at

    def generated(self, event: ev.ReplyGenerated, _: int) -> None:
        self.sources = event.sources

    def requested(self, event: ev.EffectRequested, at: int) -> None:
        self.effects[event.key] = EffectView(at, event.key, event.name, event.kind)

    def decided(self, event: ev.SegmentReady, at: int) -> None:
        self.segments.append(
            SegmentDraft(event.segment, event.text, event.kind, event.language, event.attempt, ready_at=at)
        )

    def synthesized(self, event: ev.SegmentSynthesized, at: int) -> None:
        segment = self.segment(event.segment)
        if segment is not None and segment.synthesized_at is None:
            segment.synthesized_at = at

    def started(self, event: ev.SegmentStarted, at: int) -> None:
        """A segment's first sample went out; ``segments`` stays in the order of play, as the kernel keeps it."""
        segment = self.segment(event.segment)
        if segment is None:
            return
        if segment.started_at is None:
            segment.started_at = at
        if segment.heard == "ready":
            segment.heard = "started"
            self.segments.remove(segment)
            self.segments.insert(sum(other.heard != "ready" for other in self.segments), segment)

    def cut(self, event: ev.SegmentCut, _: int) -> None:
        """Its voice broke off: the segment says no more than that, as in the caller's history."""
        segment = self.segment(event.segment)
        if segment is not None:
            segment.text = history.whole_words(segment.text, event.chars)

    def played(self, event: ev.SegmentPlayed, _: int) -> None:
        segment = self.segment(event.segment)
        if segment is not None:
            segment.hear()

    def ran_dry(self, _event: ev.PlayoutStarved, _: int) -> None:
        self.starved += 1

    def stopped(self, event: ev.PlayoutStopped, _: int) -> None:
        """Playout was cancelled so many characters into a segment; -1: nothing was heard."""
        over = event.segment < 0
        for segment in self.segments:
            if segment.number == event.segment and not over:
                segment.hear(event.heard_chars)
                over = True
            elif over or segment.heard == "ready":
                segment.heard, segment.heard_chars = "unheard", 0
            else:
                segment.hear()

    def finish(self, _event: ev.PlayoutFinished, _: int) -> None:
        self.finished = True
        for segment in self.segments:
            segment.hear()

    # -- what was decided on it, and what became of it ---------------------------------------------

    def abandon(self) -> None:
        """What is not begun is taken back, except the phrases that lead up to an answer."""
        back = [segment for segment in self.segments if segment.heard == "ready" and segment.kind not in LEADS]
        for segment in back:
            segment.heard = "dropped"
            self.segments.remove(segment)
        self.dropped += back

    def outcome(self) -> Outcome:
        heard = any(segment.heard_chars for segment in self.segments)
        if self.cut_by == "other":
            return "cut_off"
        if self.cut_by == "caller":
            return "interrupted" if heard else "unheard"
        if not self.finished:
            return "open"
        kinds = {segment.kind for segment in self.segments if segment.heard == "heard"}
        if "apology" in kinds:
            return "apologised"
        return "answered" if "reply" in kinds else "said"

    def latency(self) -> Latency | None:
        """Where the time to the first sound went; None if there was none."""
        begun = [segment for segment in self.segments if segment.started_at is not None]
        first = begun[0] if begun else None
        marks = self.marks
        if first is not None:
            marks.ready, marks.synthesized, marks.started = first.ready_at, first.synthesized_at, first.started_at
        answers = [segment.started_at for segment in begun if segment.kind not in LEADS]
        return divide(marks, first.kind if first else "", min((at for at in answers if at is not None), default=None))

    def view(self) -> TurnView:
        return TurnView(
            turn=self.turn,
            at_ms=self.at,
            input=self.input,
            outcome=self.outcome(),
            language=self.language,
            question=self.question,
            speech=tuple(self.speech),
            intent=self.intent,
            intent_confidence=self.intent_confidence,
            passages=self.passages,
            sources=self.sources,
            segments=tuple(segment.view() for segment in self.segments + self.dropped),
            phrases=tuple(self.phrases),
            tiers=tuple(self.tiers),
            overlaps=tuple(overlap.view() for overlap in self.overlaps),
            failures=tuple(self.failures),
            notes=tuple(self.notes),
            effects=tuple(self.effects.values()),
            starved=self.starved,
            latency=self.latency(),
        )


def noted(event: ev.LanguageSwitched | ev.StageRerouted) -> str:
    """In words for people."""
    if isinstance(event, ev.LanguageSwitched):
        why = "the caller chose it" if event.reason == "chosen" else "the caller speaks it"
        return f"goes on in {event.language} instead of {event.previous}: {why}"
    if event.to == event.provider:
        return f"{event.stage}: {event.provider} is asked once more: {event.code}"
    return f"{event.stage}: {event.to} is asked instead of {event.provider}: {event.code}"


WORK: Final[dict[type, Callable[[TurnDraft, Any, int], None]]] = {
    ev.LanguageSwitched: TurnDraft.remark,
    ev.IntentReady: TurnDraft.understood,
    ev.PassagesReady: TurnDraft.found,
    ev.StageFailed: TurnDraft.failed,
    ev.StageRerouted: TurnDraft.remark,
    ev.ReplyBegun: TurnDraft.begun,
    ev.SegmentReady: TurnDraft.decided,
    ev.SegmentSynthesized: TurnDraft.synthesized,
    ev.SegmentStarted: TurnDraft.started,
    ev.SegmentCut: TurnDraft.cut,
    ev.SegmentPlayed: TurnDraft.played,
    ev.ReplyGenerated: TurnDraft.generated,
    ev.PlayoutStarved: TurnDraft.ran_dry,
    ev.PlayoutFinished: TurnDraft.finish,
    ev.PlayoutStopped: TurnDraft.stopped,
    ev.EffectRequested: TurnDraft.requested,
}
"""What each fact with a turn's number adds to that turn."""
