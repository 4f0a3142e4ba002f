"""Carries commands out: each command has one short method here; what comes of it returns as events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from antiphon.errors import AntiphonError, ProviderError
from antiphon.kernel import commands as cmd
from antiphon.kernel.events import AnyEvent, IntentReady, LanguageSwitched, PassagesReady, StageFailed
from antiphon.kernel.history import Message
from antiphon.kernel.session import Session
from antiphon.runtime.effects import EffectRunner
from antiphon.runtime.generate import Attempt
from antiphon.runtime.listen import Listener
from antiphon.runtime.ports import Responder
from antiphon.runtime.services import Providers
from antiphon.runtime.speech import Mouth

UNDERSTAND_TIMEOUT_S = 5.0
"""When intent or retrieval is given up. The kernel has long gone on; this only frees the task."""

log = logging.getLogger("antiphon.executor")


class Executor:
    """The hands of one call on one line. ``end`` releases the session."""

    def __init__(
        self,
        session_id: str,
        *,
        providers: Providers,
        session: Callable[[], Session],
        mouth: Mouth,
        ear: Listener,
        effects: EffectRunner,
        end: Callable[[str], None],
        post: Callable[[AnyEvent], None],
    ) -> None:
        self.effects = effects
        self._id = session_id
        self._providers = providers
        self._session = session
        self._mouth = mouth
        self._ear = ear
        self._end = end
        self._post = post
        self._attempt: Attempt | None = None
        self._understanding: dict[asyncio.Task[None], None] = {}  # a set's order would differ from run to run
        self._do: dict[type, Callable[[Any], None]] = {
            cmd.SetLanguage: self._set_language,
            cmd.FinishUtterance: lambda order: ear.finish(order.utterance),
            cmd.Classify: self._classify,
            cmd.Retrieve: self._retrieve,
            cmd.StartReply: self._start_reply,
            cmd.Say: mouth.say,
            cmd.CancelReply: self._cancel_reply,
            cmd.AbandonAttempt: self._abandon_attempt,
            cmd.PausePlayout: lambda order: mouth.pause(order.turn),
            cmd.ResumePlayout: lambda order: mouth.resume(order.turn),
            cmd.CloseSession: lambda order: end(order.reason),
        }

    def run(self, command: cmd.AnyCommand, error: Exception | None) -> None:
        """``error``: the command was to wait for its entry to be durable, and that failed."""
        if isinstance(command, cmd.RunEffect):
            self.effects.run(command, error)
        else:
            self._do[type(command)](command)

    def _set_language(self, order: cmd.SetLanguage) -> None:
        self._ear.hint(order.language)
        self._post(LanguageSwitched(order.turn, order.language, order.previous, order.reason))

    # -- understanding ----------------------------------------------------------------------------

    def _classify(self, order: cmd.Classify) -> None:
        classifier = self._providers.classifier
        if classifier is None:
            self._post(IntentReady(order.turn, "", 0.0))
            return

        async def work() -> None:
            intent = await classifier.classify(order.text, language=order.language, history=self._history(order.turn))
            self._post(IntentReady(order.turn, intent.name, intent.confidence, classifier.name))

        self._understand(work, order.turn, "intent", classifier.name)

    def _retrieve(self, order: cmd.Retrieve) -> None:
        retriever = self._providers.retriever
        if retriever is None:
            self._post(PassagesReady(order.turn))
            return

        async def work() -> None:
            found = await retriever.retrieve(order.text, language=order.language, history=self._history(order.turn))
            self._post(PassagesReady(order.turn, found, retriever.name))

        self._understand(work, order.turn, "retrieval", retriever.name)

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
            async with asyncio.timeout(UNDERSTAND_TIMEOUT_S):
                await work()
        except TimeoutError:
            code = f"{stage}.timeout"
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

    # -- answering --------------------------------------------------------------------------------

    def _start_reply(self, order: cmd.StartReply) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
        self._mouth.begin_attempt(order.turn, order.attempt)
        self._attempt = Attempt(
            order,
            session=self._id,
            history=self._history(order.turn),
            responder=self._responder(order),
            mouth=self._mouth,
            effects=self.effects,
            post=self._post,
        )

    def _responder(self, order: cmd.StartReply) -> Responder:
        """Who answers on this tier. Without a second provider the first one may end the sentence it broke off.

        Asked anew before anything was heard it would only fail or hang again: then the passages answer.
        """
        responders = self._providers.responders
        if order.tier == "full":
            return responders[0]
        if order.tier == "fallback" and (len(responders) > 1 or order.said):
            return responders[min(1, len(responders) - 1)]
        return self._providers.degraded

    def _abandon_attempt(self, order: cmd.AbandonAttempt) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        self._mouth.abandon(order.turn)

    def _cancel_reply(self, order: cmd.CancelReply) -> None:
        if self._attempt is not None and self._attempt.turn == order.turn:
            self._attempt.cancel()
            self._attempt = None
        self._mouth.cancel(order.turn)

    def stop_work(self) -> None:
        """Nobody is on the line any more: what was being worked at is dropped."""
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        for task in list(self._understanding):
            task.cancel()
