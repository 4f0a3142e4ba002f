"""What a socket on ``/orchestrate`` is told of its session: entries in, messages out. Pure.

Times and what was heard come from the same projections that the journal's views do (``observe``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.history import LEADS
from antiphon.kernel.session import Session
from antiphon.observe.drafts import TurnDraft
from antiphon.observe.latency import divide
from antiphon.observe.projections import Turns
from antiphon.observe.report import STAGE_OF
from antiphon.observe.views import Latency
from antiphon.transports import orchestrate_messages as msg
from antiphon.transports.orchestrate_settings import Asked

KEPT_TURNS = 4
"""A turn's end may be reported after the next has begun; what is older is in the journal."""


class _Answer(msgspec.Struct):
    """What one turn's responses need beyond its draft."""

    intent: str = ""
    passages: tuple[ev.Passage, ...] = ()
    intent_ms: int | None = None
    retrieval_ms: int | None = None
    begun: bool = False
    """A response of it was sent; ``worded``: one with words; ``complete``: the last one."""
    worded: bool = False
    generated: bool = False
    complete: bool = False
    timed: str = ""
    """The kind of the sound whose latency was told."""


class SessionNews:
    """For one socket. Fits ``News``."""

    def __init__(self, asked: Asked) -> None:
        self.turn = 0
        self._asked = asked
        self._turns: Turns | None = None
        self._answers: dict[int, _Answer] = {}
        self._floor = ""

    def take(self, session: Session, entry: ev.Entry, commands: Sequence[cmd.AnyCommand]) -> Iterable[msg.Outbound]:
        out: list[msg.Outbound] = []
        if self._turns is None:
            self._turns = Turns(session)
            out.append(self._connected(session, entry.event, commands))
        self._turns.note(entry, commands)
        if session.stale:
            return out
        for command in commands:
            self._decided(session, command)
        out += self._heard(entry.event)
        out += self._state(session)
        out += self._interruptions(commands)
        out += self._work(session, entry)
        self._forget()
        return out

    def _connected(self, session: Session, event: ev.AnyEvent, commands: Sequence[cmd.AnyCommand]) -> msg.Connected:
        asked = self._asked
        self._floor = str(session.floor)
        return msg.Connected(
            session_id=asked.session,
            state=self._floor,  # type: ignore[arg-type]
            resumed=not isinstance(event, ev.SessionStarted),
            audio=msg.AudioForm(asked.audio, asked.codec, asked.rate),
            unheard=_unheard(commands),
        )

    # -- what is known of a turn -------------------------------------------------------------------

    def _answer(self, turn: int) -> _Answer:
        return self._answers.setdefault(turn, _Answer())

    def _decided(self, session: Session, command: cmd.AnyCommand) -> None:
        match command:
            case cmd.Repeat(turn=turn):
                answer = self._answer(turn)
                answer.intent, answer.passages = session.state.intent or "", session.state.passages or ()
            case cmd.StartReply(turn=turn, intent=intent, passages=passages):
                answer = self._answer(turn)
                answer.intent, answer.passages, answer.generated = intent, passages, False
            case cmd.AbandonAttempt(turn=turn):
                self._answer(turn).generated = False

    def _forget(self) -> None:
        for kept in (self._answers, self._turns.turns if self._turns is not None else {}):
            while len(kept) > KEPT_TURNS:
                del kept[min(kept)]
        if self._turns is not None:
            self._turns.ahead.clear()
            self._turns.line.clear()

    # -- messages ----------------------------------------------------------------------------------

    def _state(self, session: Session) -> Iterator[msg.Outbound]:
        floor = str(session.floor)
        if floor != self._floor:
            self._floor = floor
            if "state" in self._asked.events:
                yield msg.StateChanged(
                    session_id=self._asked.session,
                    state=floor,  # type: ignore[arg-type]
                    turn_id=session.state.turn,
                    at_ms=session.state.at,
                )

    def _heard(self, event: ev.AnyEvent) -> Iterator[msg.Outbound]:
        if isinstance(event, ev.TranscriptPartial) and event.again:
            return  # nothing new was heard
        if "transcript" in self._asked.events and isinstance(event, (ev.TranscriptPartial, ev.TranscriptFinal)):
            final = isinstance(event, ev.TranscriptFinal)
            yield msg.Transcript(utterance=event.utterance, text=event.text, final=final, language=event.language)

    def _interruptions(self, commands: Sequence[cmd.AnyCommand]) -> Iterator[msg.Outbound]:
        if "floor" not in self._asked.events:
            return
        for command in commands:
            match command:
                case cmd.PausePlayout(turn=turn):
                    yield msg.Interruption(turn_id=turn, decision="paused")
                case cmd.ResumePlayout(turn=turn):
                    yield msg.Interruption(turn_id=turn, decision="resumed")
                case cmd.CancelReply(turn=turn):
                    draft = self._draft(turn)
                    if draft is not None and draft.cut_by == "caller":
                        yield msg.Interruption(turn_id=turn, decision="cancelled")

    def _draft(self, turn: int) -> TurnDraft | None:
        return self._turns.turns.get(turn) if self._turns is not None else None

    def _work(self, session: Session, entry: ev.Entry) -> Iterator[msg.Outbound]:
        event = entry.event
        draft = self._draft(getattr(event, "turn", -1))
        if draft is None:
            return
        answer = self._answer(draft.turn)
        began = draft.marks.begun
        match event:
            case ev.IntentReady(intent=intent):
                answer.intent = intent
                answer.intent_ms = None if began is None else entry.at - began
            case ev.PassagesReady():
                answer.retrieval_ms = None if began is None else entry.at - began
            case ev.ReplyGenerated():
                answer.generated = True
            case ev.SegmentReady():
                self.turn = draft.turn
            case ev.SegmentStarted():
                yield from self._latency(draft, answer)
        yield from self._responses(draft, answer, entry.at)
        if "spoken" in self._asked.events and isinstance(event, _SPOKEN):
            yield _spoken(draft)

    def _responses(self, draft: TurnDraft, answer: _Answer, at: int) -> Iterator[msg.Outbound]:
        """Before the first sound, with the first words, and when the answer is whole and its latency known."""
        worded = any(segment.kind not in LEADS for segment in draft.segments)
        if answer.complete or not draft.segments:
            return
        started = any(each.kind not in LEADS and each.started_at is not None for each in draft.segments)
        latency = draft.view().latency if started else None
        answer.complete = worded and answer.generated and latency is not None
        if answer.complete or not answer.begun or (worded and not answer.worded):
            answer.begun, answer.worded = True, worded
            yield self._response(draft, answer, latency or _so_far(draft, at))

    def _response(self, draft: TurnDraft, answer: _Answer, latency: Latency | None) -> msg.Response:
        parts = [segment for segment in draft.segments if segment.kind not in LEADS]
        sources = answer.passages
        if answer.complete:
            sources = tuple(passage for passage in sources if passage.source in draft.sources)
        spent: dict[str, int] = {}
        for part in latency.parts if latency is not None else ():
            stage = STAGE_OF[part.name]
            stage = "understanding" if stage == "intent/retrieval" else stage
            spent[stage] = spent.get(stage, 0) + part.ms
        if answer.intent_ms is not None:
            spent["intent"] = answer.intent_ms
        if answer.retrieval_ms is not None:
            spent["retrieval"] = answer.retrieval_ms
        if latency is not None:
            spent["total"] = latency.total_ms
        return msg.Response(
            session_id=self._asked.session,
            turn_id=draft.turn,
            text=" ".join(segment.text.strip() for segment in parts),
            intent=answer.intent,
            sources=[msg.Source(each.id, each.title, each.source, each.score) for each in sources],
            language=(parts or draft.segments)[0].language or draft.language,
            latency_ms=spent,
            complete=answer.complete,
            kind=parts[0].kind if parts else "filler",
        )

    def _latency(self, draft: TurnDraft, answer: _Answer) -> Iterator[msg.Outbound]:
        """Once for a turn's first sound, and once more for its answer's where a filler came first."""
        if "latency" not in self._asked.events:
            return
        kinds = {each.kind for each in draft.segments if each.started_at is not None}
        told = "answer" if kinds - set(LEADS) else "lead"
        latency = draft.view().latency
        if latency is not None and answer.timed != told:
            answer.timed = told
            parts = [msg.LatencyPart(part.name, part.ms, part.owner) for part in latency.parts]
            yield msg.LatencyTold(turn_id=draft.turn, total_ms=latency.total_ms, parts=parts)


def _unheard(commands: Sequence[cmd.AnyCommand]) -> msg.Unheard | msgspec.UnsetType:
    """What is owed to a caller who is back stands in what was decided on it."""
    for command in commands:
        match command:
            case cmd.Repeat(turn=turn, texts=texts):
                return msg.Unheard(turn, " ".join(texts))
            case cmd.StartReply(turn=turn) | cmd.Classify(turn=turn):
                return msg.Unheard(turn, "")
    return msgspec.UNSET


_SPOKEN = (ev.SegmentReady, ev.SegmentCut, ev.SegmentPlayed, ev.PlayoutStopped, ev.PlayoutFinished)


def _so_far(draft: TurnDraft, at: int) -> Latency | None:
    """The ledger as if the first sound were now."""
    first = draft.segments[0]
    marks = msgspec.structs.replace(draft.marks, ready=first.ready_at, synthesized=first.synthesized_at, started=at)
    return divide(marks, first.kind, None)


def _spoken(draft: TurnDraft) -> msg.Spoken:
    text = " ".join(segment.text.strip() for segment in draft.segments)
    heard = " ".join(segment.text[: segment.heard_chars].strip() for segment in draft.segments if segment.heard_chars)
    kinds = [segment.kind for segment in draft.segments if segment.kind not in LEADS]
    kind = kinds[-1] if kinds else draft.segments[-1].kind if draft.segments else "reply"
    return msg.Spoken(turn_id=draft.turn, text=text, heard=heard, done=draft.finished or bool(draft.cut_by), kind=kind)
