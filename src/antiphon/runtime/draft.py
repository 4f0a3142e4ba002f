"""A draft: the answer to words that are not confirmed yet, begun so that it is there when they are (DESIGN rule 9).

It understands, generates, and has the first segment spoken where nobody hears it. Nothing of it is
reported, stored or acted upon; what it wants to do to the world waits until it is adopted. If the caller
goes on, or the words turn out to be others, it is dropped, and only its cost remains.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

from antiphon.errors import AntiphonError
from antiphon.kernel.commands import Speculate
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.media.segmenter import Segmenter, speakable
from antiphon.runtime.asking import Asking, Rerouted
from antiphon.runtime.chain import Member
from antiphon.runtime.ports import Act, Intent, ReplyEnd, ReplyPart, ReplyRequest, Responder
from antiphon.runtime.stages import Stages
from antiphon.runtime.tape import Tape
from antiphon.runtime.understanding import find_intent, find_passages
from antiphon.runtime.voicing import Rehearsal

MAX_CHARS = 4_000
"""A draft that has written this much waits until it is wanted."""

T = TypeVar("T")

log = logging.getLogger("antiphon.draft")


class Draft:
    """One draft. ``chars`` and ``samples`` are what it has cost."""

    def __init__(
        self,
        order: Speculate,
        *,
        session: str,
        stages: Stages,
        history: tuple[Message, ...],
        left_s: float,
        rate: int,
        voice: str,
    ) -> None:
        self.turn, self.text, self.language = order.turn, order.text, order.language
        self.chars = 0
        self.rehearsal: Rehearsal | None = None
        self.answered_by = ""
        self.asked: list[Member[Responder]] = []
        self.reroutes: list[tuple[str, str, str]] = []
        """(provider, why, who was asked then), for the journal of whoever adopts it."""
        self.rerouted: Rerouted = lambda *told: self.reroutes.append(told)
        """Whom to tell of more of them."""
        self._session = session
        self._stages = stages
        self._history = history
        self._left_s = left_s
        self._rate, self._voice = rate, voice
        self._rehearsal_taken = False
        self._tape: Tape[ReplyPart] = Tape()
        self._act: asyncio.Future[Act] = asyncio.get_running_loop().create_future()
        self.intent = asyncio.ensure_future(find_intent(stages.intent, order.text, order.language, history))
        self.passages = asyncio.ensure_future(find_passages(stages.retrieval, order.text, order.language, history))
        self._task = asyncio.ensure_future(self._write())

    @property
    def samples(self) -> int:
        return self.rehearsal.samples if self.rehearsal is not None else 0

    # -- writing ----------------------------------------------------------------------------------

    async def _write(self) -> None:
        await self._understand()
        await self._generate(_result(self.intent, Intent("", 0.0)), _result(self.passages, ()))

    async def _understand(self) -> None:
        """Nobody waits for a draft: what is late is waited for until it is adopted, and the turn's time runs."""
        waiting: set[asyncio.Future[Any]] = {self.intent, self.passages}
        while waiting and not self._act.done():
            done, _ = await asyncio.wait({*waiting, self._act}, return_when=asyncio.FIRST_COMPLETED)
            waiting -= done

    async def _generate(self, intent: Intent, passages: tuple[Passage, ...]) -> None:
        members = list(self._stages.llm.admitted())
        if not members:
            raise self._stages.llm.members[0].breaker.opened()
        request = ReplyRequest(
            session=self._session,
            turn=self.turn,
            attempt=1,
            text=self.text,
            language=self.language,
            intent=intent.name,
            passages=passages,
            history=self._history,
        )
        asking = Asking(
            self._stages.llm,
            members[0],
            request,
            left_s=self._left_s,
            rerouted=self._note_reroute,
            other=members[1] if len(members) > 1 else None,
            asked=self.asked,
        )
        self.answered_by = asking.answered_by
        segmenter, first = Segmenter(self.language), ""
        async with aclosing(asking.parts(self._act_when_adopted)) as parts:
            async for part in parts:
                self.answered_by = asking.answered_by
                self._tape.add(part)
                if isinstance(part, ReplyEnd):
                    first = first or next(iter(segmenter.flush()), "")
                else:
                    self.chars += len(part.text)
                    first = first or next(iter(segmenter.feed(part.text)), "")
                if first and self.rehearsal is None:
                    self._rehearse(speakable(first))
                if self.chars > MAX_CHARS:
                    await asyncio.shield(self._act)

    def _note_reroute(self, provider: str, why: str, to: str) -> None:
        self.rerouted(provider, why, to)

    def _rehearse(self, text: str) -> None:
        member = next(self._stages.tts.admitted(), None)
        if text and member is not None:
            self.rehearsal = Rehearsal(
                self._stages.tts, member, text, language=self.language, rate=self._rate, voice=self._voice
            )

    async def _act_when_adopted(self, name: str, kind: str, arguments: str) -> str:
        act = await asyncio.shield(self._act)
        return await act(name, kind, arguments)

    # -- being wanted, or not ---------------------------------------------------------------------

    def parts(self, act: Act) -> AsyncGenerator[ReplyPart, None]:
        """Adopts it: all parts from the first on, as they come. Closing it ends the request."""
        if not self._act.done():
            self._act.set_result(act)
        return self._tape.read(self._task)

    @property
    def is_failed(self) -> bool:
        """It has come to nothing: whoever wants an answer had better ask anew."""
        return self._task.done() and (self._task.cancelled() or self._task.exception() is not None)

    def take_rehearsal(self, text: str) -> Rehearsal | None:
        """The first segment's sounds, if that is what it says; they are whoever's who takes them."""
        rehearsal = self.rehearsal
        if rehearsal is None or rehearsal.text != text or self._rehearsal_taken:
            return None
        self._rehearsal_taken = True
        return rehearsal

    def release(self) -> None:
        """Every request of it is closed, save what was taken."""
        for task in (self._task, self.intent, self.passages):
            task.cancel()
            task.add_done_callback(self._look_at)
        self._act.cancel()
        if self.rehearsal is not None and not self._rehearsal_taken:
            self._rehearsal_taken = True
            self.rehearsal.cancel()

    def _look_at(self, task: asyncio.Task[Any]) -> None:
        """Nobody waits for it; asyncio would warn of an exception that nobody looked at."""
        error = None if task.cancelled() else task.exception()
        if error is not None and self._act.cancelled() and not isinstance(error, AntiphonError):
            log.warning("a draft that nobody wanted had failed: %r", error, extra={"call": self._session})


def _result(task: asyncio.Task[T], default: T) -> T:
    """What a task found, if it found something in time."""
    if not task.done() or task.cancelled() or task.exception() is not None:
        return default
    return task.result()
