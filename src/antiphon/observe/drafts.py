"""Views under construction: what ``projections`` fills in while it reads a journal."""

from __future__ import annotations

from typing import Literal

import msgspec

from antiphon.kernel import history
from antiphon.kernel.events import SegmentReady
from antiphon.kernel.history import LEADS
from antiphon.observe.latency import Milestones, divide
from antiphon.observe.views import (
    EffectView,
    Failure,
    Heard,
    InputKind,
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

    def decide(self, event: SegmentReady, at: int) -> None:
        self.segments.append(
            SegmentDraft(event.segment, event.text, event.kind, event.language, event.attempt, ready_at=at)
        )

    def begin(self, segment: SegmentDraft, at: int) -> None:
        """A segment's first sample went out; ``segments`` stays in the order of play, as the kernel keeps it."""
        if segment.started_at is None:
            segment.started_at = at
        if segment.heard == "ready":
            segment.heard = "started"
            self.segments.remove(segment)
            self.segments.insert(sum(other.heard != "ready" for other in self.segments), segment)

    def abandon(self) -> None:
        """What is not begun is taken back, except the phrases that lead up to an answer."""
        back = [segment for segment in self.segments if segment.heard == "ready" and segment.kind not in LEADS]
        for segment in back:
            segment.heard = "dropped"
            self.segments.remove(segment)
        self.dropped += back

    def cut(self, number: int, chars: int) -> None:
        """Its voice broke off: the segment says no more than that, as in the caller's history."""
        segment = self.segment(number)
        if segment is not None:
            segment.text = history.whole_words(segment.text, chars)

    def stop(self, stopped_in: int, chars: int) -> None:
        """Playout was cancelled ``chars`` characters into ``stopped_in``; -1: nothing was heard."""
        over = stopped_in < 0
        for segment in self.segments:
            if segment.number == stopped_in and not over:
                segment.hear(chars)
                over = True
            elif over or segment.heard == "ready":
                segment.heard, segment.heard_chars = "unheard", 0
            else:
                segment.hear()

    def finish(self) -> None:
        self.finished = True
        for segment in self.segments:
            segment.hear()

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

    def view(self) -> TurnView:
        begun = [segment for segment in self.segments if segment.started_at is not None]
        first = begun[0] if begun else None
        marks = self.marks
        if first is not None:
            marks.ready, marks.synthesized, marks.started = first.ready_at, first.synthesized_at, first.started_at
        answers = [segment.started_at for segment in begun if segment.kind not in LEADS]
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
            latency=divide(
                marks, first.kind if first else "", min((at for at in answers if at is not None), default=None)
            ),
        )
