"""Carries commands out: each command has one short method here; what comes of it returns as events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from antiphon.errors import AntiphonError, ProviderError
from antiphon.kernel import commands as cmd
from antiphon.kernel.events import (
    AnyEvent,
    IntentReady,
    LanguageSwitched,
    PassagesReady,
    ReplyGenerated,
    SpeculationEnded,
    StageFailed,
    StageRerouted,
)
from antiphon.kernel.history import Message
from antiphon.kernel.session import Session
from antiphon.runtime.asking import Asking
from antiphon.runtime.chain import Chain, Member
from antiphon.runtime.draft import Draft
from antiphon.runtime.effects import EffectRunner
from antiphon.runtime.generate import Attempt, Source
from antiphon.runtime.listen import Listener
from antiphon.runtime.ports import ReplyRequest, Responder
from antiphon.runtime.speech import Mouth
from antiphon.runtime.stages import Stages
from antiphon.runtime.understanding import find_intent, find_passages

log = logging.getLogger("antiphon.executor")


class Executor:
    """The hands of one call on one line. ``end`` releases the session."""

    def __init__(
        self,
        session_id: str,
        *,
        stages: Stages,
        session: Callable[[], Session],
        mouth: Mouth,
        ear: Listener,
        effects: EffectRunner,
        end: Callable[[str], None],
        post: Callable[[AnyEvent], None],
    ) -> None:
        self.effects = effects
        self._id = session_id
        self._stages = stages
        self._session = session
        self._mouth = mouth
        self._ear = ear
        self._end = end
        self._post = post
        self._attempt: Attempt | None = None
        self._draft: Draft | None = None
        self._tried: list[Member[Responder]] = []
        """Who was asked in the present turn."""
        self._understanding: dict[asyncio.Task[None], None] = {}  # a set's order would differ from run to run

    def run(self, command: cmd.AnyCommand, error: Exception | None) -> None:
        """``error``: the command was to wait for its entry to be durable, and that failed."""
        if isinstance(command, cmd.RunEffect):
            self.effects.run(command, error)
        else:
            _DO[type(command)](self, command)

    def _set_language(self, order: cmd.SetLanguage) -> None:
        self._ear.hint(order.language)
        self._post(LanguageSwitched(order.turn, order.language, order.previous, order.reason))

    # -- understanding ----------------------------------------------------------------------------

    def _classify(self, order: cmd.Classify) -> None:
        self._begin_turn(order.turn)
        chain, draft = self._stages.intent, self._draft
        name = chain.members[0].name if chain.members else ""

        async def work() -> None:
            if draft is not None:
                intent = await draft.intent
            else:
                intent = await find_intent(chain, order.text, order.language, self._history(order.turn))
            self._post(IntentReady(order.turn, intent.name, intent.confidence, name))

        self._understand(work, order.turn, "intent", name)

    def _retrieve(self, order: cmd.Retrieve) -> None:
        chain, draft = self._stages.retrieval, self._draft
        name = chain.members[0].name if chain.members else ""

        async def work() -> None:
            if draft is not None:
                found = await draft.passages
            else:
                found = await find_passages(chain, order.text, order.language, self._history(order.turn))
            self._post(PassagesReady(order.turn, found, name))

        self._understand(work, order.turn, "retrieval", name)

    def _understand(self, work: Callable[[], Awaitable[None]], turn: int, stage: str, provider: str) -> None:
        task = asyncio.ensure_future(self._guard(work, turn, stage, provider))
        self._understanding[task] = None
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._understanding.pop(task, None)

    async def _guard(self, work: Callable[[], Awaitable[None]], turn: int, stage: str, provider: str) -> None:
        """An optional stage never fails a required one: its failure is a fact like another."""
        code = ""
        try:
            await work()
        except AntiphonError as error:
            code = error.code
            provider = (error.provider if isinstance(error, ProviderError) else "") or provider
        except Exception:
            log.exception("%s raised in %s", provider, stage, extra={"call": self._id})
            code = f"{stage}.raised"
        if code:
            self._post(StageFailed(turn, 0, stage, code, provider))

    def _history(self, turn: int) -> tuple[Message, ...]:
        """What was said before the turn."""
        return tuple(message for message in self._session().state.history if message.turn < turn)

    # -- answering ahead --------------------------------------------------------------------------

    def _speculate(self, order: cmd.Speculate) -> None:
        self._drop_draft()
        policy = self._session().policy
        self._draft = Draft(
            order,
            session=self._id,
            stages=self._stages,
            history=self._history(order.turn),
            left_s=policy.reply_ms / 1000,
            rate=self._mouth.line.sample_rate,
            voice=self._mouth.voice_of(order.language),
        )

    def _begin_turn(self, turn: int) -> None:
        self._tried = []
        if self._draft is not None and (self._draft.turn != turn or self._draft.is_failed):
            self._drop_draft()

    def _drop_draft(self) -> None:
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.release()
            self._book(draft, "dropped")

    def _book(self, draft: Draft, outcome: str) -> None:
        audio_ms = draft.samples * 1000 // self._mouth.line.sample_rate
        self._post(SpeculationEnded(draft.turn, outcome, draft.chars, audio_ms, draft.answered_by))

    # -- answering --------------------------------------------------------------------------------

    def _start_reply(self, order: cmd.StartReply) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
        self._mouth.begin_attempt(order.turn, order.attempt)
        self._attempt = Attempt(
            order,
            self._source(order),
            session=self._id,
            mouth=self._mouth,
            effects=self.effects,
            post=self._post,
        )

    def _repeat(self, order: cmd.Repeat) -> None:
        mouth = self._mouth
        mouth.begin_attempt(order.turn, order.attempt)
        for text in order.texts:
            mouth.speak(order.turn, order.attempt, text, order.language)
        mouth.complete(ReplyGenerated(order.turn, order.attempt, len(order.texts), order.ends_call, order.sources))

    def _source(self, order: cmd.StartReply) -> Source:
        """The draft of this very turn, if there is one that is well; else a request."""
        draft = self._draft
        if draft is not None and draft.turn == order.turn and order.attempt == 1 and not draft.is_failed:
            self._draft = None
            self._book(draft, "adopted")
            for told in draft.reroutes:
                self._rerouted(order, *told)
            draft.rerouted = partial(self._rerouted, order)
            self._tried = draft.asked  # the very list: it may be about to ask
            return draft
        self._drop_draft()
        chain, member = self._who_answers(order)
        request = ReplyRequest(
            session=self._id,
            turn=order.turn,
            attempt=order.attempt,
            text=order.text,
            language=order.language,
            intent=order.intent,
            passages=order.passages,
            history=self._history(order.turn),
            tier=order.tier,
            said=order.said,
        )
        return Asking(
            chain,
            member,
            request,
            left_s=self._left_s(),
            rerouted=partial(self._rerouted, order),
            other=next(chain.admitted([*self._tried, member]), None),
            asked=self._tried,
        )

    def _who_answers(self, order: cmd.StartReply) -> tuple[Chain[Responder], Member[Responder]]:
        """Who answers on this tier: the first that may be asked and was not asked in this turn.

        Without another one, the one that broke off within its sentence may end it. Asked anew before
        anything was heard it would only fail or hang again: then the passages answer.
        """
        chain, degraded = self._stages.llm, self._stages.degraded
        if order.tier == "degraded":
            return degraded, degraded.members[0]
        member = next(chain.admitted(self._tried), None)
        if member is None and self._tried and order.said:
            member = self._tried[0]
        if member is None:
            return degraded, degraded.members[0]
        if not self._tried and member is not chain.members[0]:
            self._rerouted(order, chain.members[0].name, "breaker.open", member.name)
        return chain, member

    def _rerouted(self, order: cmd.StartReply, provider: str, why: str, to: str) -> None:
        self._post(StageRerouted(order.turn, order.attempt, "llm", provider, why, to))

    def _left_s(self) -> float:
        """What the attempt has of the turn's time, in seconds."""
        state, policy = self._session().state, self._session().policy
        return max(0, state.deadlines.get("reply", state.at + policy.reply_ms) - state.at) / 1000

    def _abandon_attempt(self, order: cmd.AbandonAttempt) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        self._mouth.abandon(order.turn)

    def _cancel_reply(self, order: cmd.CancelReply) -> None:
        if self._attempt is not None and self._attempt.turn == order.turn:
            self._attempt.cancel()
            self._attempt = None
        if self._draft is not None and self._draft.turn == order.turn:
            self._drop_draft()
        self._mouth.cancel(order.turn)

    def stop_work(self) -> None:
        """Nobody is on the line any more: what was being worked at is dropped."""
        self._drop_draft()
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        for task in list(self._understanding):
            task.cancel()


_DO: dict[type, Callable[[Executor, Any], None]] = {
    cmd.SetLanguage: Executor._set_language,
    cmd.FinishUtterance: lambda self, order: self._ear.finish(order.utterance),
    cmd.Classify: Executor._classify,
    cmd.Retrieve: Executor._retrieve,
    cmd.Speculate: Executor._speculate,
    cmd.DropSpeculation: lambda self, _: self._drop_draft(),
    cmd.StartReply: Executor._start_reply,
    cmd.Say: lambda self, order: self._mouth.say(order),
    cmd.Repeat: Executor._repeat,
    cmd.CancelReply: Executor._cancel_reply,
    cmd.AbandonAttempt: Executor._abandon_attempt,
    cmd.PausePlayout: lambda self, order: self._mouth.pause(order.turn),
    cmd.ResumePlayout: lambda self, order: self._mouth.resume(order.turn),
    cmd.CloseSession: lambda self, order: self._end(order.reason),
}
