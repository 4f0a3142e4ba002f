"""Pure folds over a journal: the conversation, the latency ledger, the summary.

A journal holds what happened, not what was decided on it, so it is folded through the kernel once
more: the kernel alone knows which words made up a turn and whether a sound took the floor. A journal
of older code may be decided otherwise today; ``Summary.diverged_at`` says from where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from antiphon.errors import UNUSABLE
from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.session import Session
from antiphon.observe.drafts import WORK, OverlapDraft, TurnDraft
from antiphon.observe.latency import Milestones, percentile
from antiphon.observe.views import (
    Conversation,
    EffectView,
    Failure,
    InputKind,
    LineEvent,
    Speech,
    Summary,
    TurnView,
    caller_turns,
)

OPEN_UTTERANCES = 8
"""The final of an older utterance does not come any more: its partials are not counted further."""


def conversation(entries: Iterable[ev.Entry]) -> Conversation:
    """The whole call as data. Entries are those of one session, in order, from the first."""
    reader = Reader()
    for entry in entries:
        reader.read(entry)
    return reader.result()


def summary(entries: Iterable[ev.Entry]) -> Summary:
    return conversation(entries).summary


class Turns:
    """Turns, as entries come: facts from the events, decisions from the commands of whoever folds them.

    ``note`` is owed each entry of ``session``, right after that session has received it.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.first: ev.SessionStarted | None = None
        self.turns: dict[int, TurnDraft] = {}
        self.line: list[LineEvent] = []
        self.ended = ""
        # the caller, between turns
        self.speech: list[Speech] = []
        self.partials: dict[int, int] = {}
        self.failures: list[Failure] = []
        self.ahead: list[ev.SpeculationEnded] = []
        self.marks = Milestones()
        self.overlap: OverlapDraft | None = None
        # as of before the entry that is noted
        self._utterance, self._pieces = session.state.utterance, len(session.state.pieces)

    def note(self, entry: ev.Entry, commands: Sequence[cmd.AnyCommand], *, trusted: bool = True) -> None:
        """``trusted``: the commands are those of then; else the facts alone count."""
        if self.session.stale and trusted:
            return
        event, at, state = entry.event, entry.at, self.session.state
        fact = _FIRST.get(type(event))
        if fact is not None:
            fact(self, event, at)
        elif isinstance(event, ev.TranscriptFinal):
            taken = len(state.pieces) > self._pieces or any(isinstance(each, cmd.Classify) for each in commands)
            self._final(event, at, taken or not trusted)
        for command in commands:
            self._decided(command, entry)
        fact = _THEN.get(type(event))
        if fact is not None:
            fact(self, event, at)
        self._utterance, self._pieces = state.utterance, len(state.pieces)

    # -- facts about the caller and the line -------------------------------------------------------

    def _speech_started(self, _: ev.SpeechStarted, at: int) -> None:
        self.overlap = OverlapDraft(at, turn=0, utterance=self._utterance)

    def _speech_stopped(self, event: ev.SpeechStopped, at: int) -> None:
        self.marks.ended, self.marks.stopped = max(0, at - event.hangover_ms), at

    def _partial(self, event: ev.TranscriptPartial, _: int) -> None:
        if event.again:
            return
        self.partials[event.utterance] = self.partials.get(event.utterance, 0) + 1
        if len(self.partials) > OPEN_UTTERANCES:
            del self.partials[min(self.partials)]
        self._overheard(event.utterance, event.text)

    def _not_transcribed(self, event: ev.TranscriptionFailed, at: int) -> None:
        self.partials.pop(event.utterance, None)
        self.marks.final = at
        self.failures.append(Failure(at, "stt", event.code))

    def _deadline(self, event: ev.DeadlineReached, at: int) -> None:
        if event.name == "final":
            self.marks.final = at

    def _entered(self, _: ev.DigitPressed | ev.TextTyped, at: int) -> None:
        self.marks = Milestones(ended=at)

    def _final(self, event: ev.TranscriptFinal, at: int, taken: bool) -> None:
        """``taken``: the kernel took it for part of the caller's turn; else it was said over the agent's speech."""
        self.marks.final = at
        self._overheard(event.utterance, event.text)
        partials = self.partials.pop(event.utterance, 0)
        if taken and event.text.strip():
            self.speech.append(
                Speech(at, event.utterance, event.text, partials, event.language, event.confidence, event.provider)
            )

    def _overheard(self, utterance: int, text: str) -> None:
        if self.overlap is not None and self.overlap.utterance == utterance and text.strip():
            self.overlap.text = text

    def _started(self, event: ev.SessionStarted, _: int) -> None:
        self.first = event

    def _dropped(self, event: ev.LineDropped, at: int) -> None:
        self.line.append(LineEvent(at, "dropped", event.code))
        self.ended = "detached"

    def _attached(self, event: ev.LineAttached, at: int) -> None:
        self.marks = Milestones(ended=at)
        self.line.append(LineEvent(at, "attached", event.transport))
        self.ended = ""

    def _hung_up(self, event: ev.CallerHungUp, at: int) -> None:
        self.line.append(LineEvent(at, "hung_up", event.reason))

    def _closed(self, event: ev.SessionClosed, at: int) -> None:
        self.line.append(LineEvent(at, "closed", event.reason))
        self.ended = event.reason or "closed"

    # -- decisions ---------------------------------------------------------------------------------

    def _decided(self, command: cmd.AnyCommand, entry: ev.Entry) -> None:
        match command:
            case cmd.FinishUtterance():
                # Asked for ahead, it comes while the silence is waited for anyway: what it takes longer is its own.
                self.marks.finished = max(entry.at, self.session.state.deadlines.get("endpoint", 0))
            case cmd.Classify(turn=turn, text=text):
                self._begin(turn, entry, text)
            case cmd.StartReply(turn=turn, tier=tier):
                draft = self._turn(turn, entry.at)
                draft.tiers.append(tier)
                if draft.marks.understood is None:
                    draft.marks.understood = entry.at
            case cmd.Say(turn=turn, phrase=phrase):
                asked = self._asked(turn)  # for a language, say: nothing else has to be understood then
                if turn not in self.turns and (asked or _is_end_of_utterance(entry.event)):
                    self._begin(turn, entry, asked)  # "": nothing of it was understood, so it is asked for again
                self._turn(turn, entry.at).phrases.append(phrase)
            case cmd.AbandonAttempt(turn=turn):
                self._turn(turn, entry.at).abandon()
            case cmd.PausePlayout(turn=turn):
                draft = self._turn(turn, entry.at)
                if self.overlap is not None and self.overlap.turn != turn:
                    self.overlap.turn = turn
                    draft.overlaps.append(self.overlap)
            case cmd.CancelReply(turn=turn):
                self._cancel(self._turn(turn, entry.at), entry)

    def _asked(self, turn: int) -> str:
        """What the caller said in a turn, as the conversation's history has it."""
        said = (each for each in reversed(self.session.state.history) if (each.role, each.turn) == ("user", turn))
        return next((each.content for each in said), "")

    def _begin(self, turn: int, entry: ev.Entry, question: str) -> None:
        """The caller's turn is confirmed: what was gathered since the last one is its input."""
        draft = self.turns[turn] = TurnDraft(turn, entry.at, _input_of(entry.event), self.session.state.language)
        draft.question = question
        draft.speech = self.speech
        draft.failures, draft.marks = self.failures, self.marks
        draft.marks.begun = entry.at
        if draft.marks.ended is None:
            draft.marks.ended = draft.marks.final if draft.marks.final is not None else entry.at
        self.speech, self.failures, self.marks = [], [], Milestones()

    def _turn(self, turn: int, at: int) -> TurnDraft:
        """The turn of that number; one that nothing was asked for begins here, with a phrase."""
        draft = self.turns.get(turn)
        if draft is None:
            draft = self.turns[turn] = TurnDraft(turn, at, "none", self.session.state.language)
            draft.marks = Milestones(ended=at)
        return draft

    def _cancel(self, draft: TurnDraft, entry: ev.Entry) -> None:
        """A reply was cut off: by the caller's words or keys, or by a failure, a lost line, a hang-up."""
        draft.cut_by = "other"
        match entry.event:
            case ev.TranscriptPartial() | ev.TranscriptFinal() | ev.TranscriptionFailed():
                said = self.overlap.text if self.overlap is not None and self.overlap.turn == draft.turn else ""
            case ev.DeadlineReached(name="interrupt"):
                said = ""
            case ev.DigitPressed(digit=digit):
                said = digit
            case ev.TextTyped(text=text):
                said = text
            case _:
                return
        draft.cut_by = "caller"
        overlap = self.overlap
        if overlap is None or overlap.turn != draft.turn or isinstance(entry.event, (ev.DigitPressed, ev.TextTyped)):
            # Words that came without an edge of the gate, or a key: the interruption begins with them.
            overlap = OverlapDraft(entry.at, draft.turn, 0, said or getattr(entry.event, "text", ""))
            draft.overlaps.append(overlap)
        overlap.took_floor = True

    # -- facts about the work ----------------------------------------------------------------------

    def _work(self, event: Any, at: int) -> None:
        WORK[type(event)](self._turn(event.turn, at), event, at)

    def _speculated(self, event: ev.SpeculationEnded, _: int) -> None:
        self.ahead.append(event)

    def _settle(self, event: ev.EffectSucceeded | ev.EffectFailed | ev.CommandLost, _: int) -> None:
        for draft in self.turns.values():
            effect = draft.effects.get(event.key)
            if effect is None:
                continue
            match event:
                case ev.EffectSucceeded(result=result):
                    status, detail = "done", result
                case ev.EffectFailed(code=code):
                    status, detail = "failed", code
                case _:
                    status, detail = "lost", event.command
            draft.effects[event.key] = EffectView(effect.at_ms, effect.key, effect.name, effect.kind, status, detail)


_Fact = Callable[[Turns, Any, int], None]
_FIRST: Final[dict[type, _Fact]] = {
    ev.SessionStarted: Turns._started,
    ev.LineDropped: Turns._dropped,
    ev.LineAttached: Turns._attached,
    ev.CallerHungUp: Turns._hung_up,
    ev.SessionClosed: Turns._closed,
    ev.SpeechStarted: Turns._speech_started,
    ev.SpeechStopped: Turns._speech_stopped,
    ev.TranscriptPartial: Turns._partial,
    ev.TranscriptionFailed: Turns._not_transcribed,
    ev.DeadlineReached: Turns._deadline,
    ev.DigitPressed: Turns._entered,
    ev.TextTyped: Turns._entered,
}
"""Facts about the caller and the line, which what is decided on them needs."""
_THEN: Final[dict[type, _Fact]] = {
    **dict.fromkeys(WORK, Turns._work),
    ev.SpeculationEnded: Turns._speculated,
    ev.EffectSucceeded: Turns._settle,
    ev.EffectFailed: Turns._settle,
    ev.CommandLost: Turns._settle,
}
"""Facts about the work, after what was decided on them."""


class Reader(Turns):
    """Reads one journal, entry by entry, also while the call goes on.

    Facts come from the events, decisions from the kernel that folds them again.
    """

    def __init__(self) -> None:
        super().__init__(Session())
        self.last: ev.Entry | None = None
        self.began_at = 0
        self.diverged_at = 0

    def read(self, entry: ev.Entry) -> None:
        if self.last is None:
            self.began_at = entry.at
        commands: tuple[cmd.AnyCommand, ...] = ()
        try:
            again, commands = self.session.receive(entry.event, entry.at)
        except UNUSABLE:  # a policy this code cannot read: the facts are shown, the decisions are not known
            again = entry
            self.diverged_at = self.diverged_at or entry.seq
        if again.digest != entry.digest and not self.diverged_at:
            self.diverged_at = entry.seq
        self.last = entry
        self.note(entry, commands, trusted=not self.diverged_at)

    def turn(self, number: int) -> TurnView | None:
        """What is known of a turn by now."""
        draft = self.turns.get(number)
        return draft.view() if draft is not None else None

    def result(self) -> Conversation:
        return self.result_of(tuple(self.turns[number].view() for number in sorted(self.turns)))

    def result_of(self, turns: tuple[TurnView, ...]) -> Conversation:
        """The result, for whoever has made the views of all turns one by one, in order."""
        return Conversation(
            summary=self._summary(turns),
            turns=turns,
            line=tuple(self.line),
            unanswered=tuple(self.speech),
        )

    def _summary(self, turns: Sequence[TurnView]) -> Summary:
        first = self.first or ev.SessionStarted("", "", "", b"")
        asked = caller_turns(turns)
        ledgers = [turn.latency for turn in asked if turn.latency is not None]
        kinds = [overlap.kind for turn in turns for overlap in turn.overlaps]
        totals = [ledger.total_ms for ledger in ledgers]
        return Summary(
            session=first.session,
            started_at=first.started_at,
            transport=first.transport,
            language=first.language,
            caller=first.caller,
            duration_ms=self.last.at - self.began_at if self.last else 0,
            entries=self.last.seq if self.last else 0,
            turns=len(asked),
            interruptions=kinds.count("barge_in"),
            backchannels=kinds.count("backchannel"),
            false_interruptions=kinds.count("noise"),
            failures=sum(len(turn.failures) for turn in turns) + len(self.failures),
            ended=self.ended,
            median_ms=percentile(totals, 0.5),
            p95_ms=percentile(totals, 0.95),
            added_median_ms=percentile([ledger.added_ms for ledger in ledgers], 0.5),
            diverged_at=self.diverged_at,
            answered=sum(turn.answered for turn in asked),
            adopted=sum(each.outcome == "adopted" for each in self.ahead),
            dropped=sum(each.outcome == "dropped" for each in self.ahead),
            dropped_chars=sum(each.chars for each in self.ahead if each.outcome == "dropped"),
        )


def _is_end_of_utterance(event: ev.AnyEvent) -> bool:
    match event:
        case ev.TranscriptFinal() | ev.TranscriptionFailed() | ev.DeadlineReached(name="final" | "endpoint"):
            return True
    return False


def _input_of(event: ev.AnyEvent) -> InputKind:
    match event:
        case ev.TextTyped():
            return "typed"
        case ev.DigitPressed() | ev.DeadlineReached(name="digits"):
            return "digits"
        case ev.LineAttached():
            return "resumed"
    return "speech"
