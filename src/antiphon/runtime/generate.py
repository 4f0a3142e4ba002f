"""One attempt at an answer: the responder's text, cut into segments, handed to the mouth as it comes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from antiphon.errors import AntiphonError, ProviderError
from antiphon.kernel.commands import StartReply
from antiphon.kernel.events import AnyEvent, EffectRequested, ReplyBegun, ReplyGenerated, StageFailed
from antiphon.media.segmenter import Segmenter, speakable
from antiphon.runtime.effects import EffectRunner
from antiphon.runtime.ports import Act, ReplyEnd, ReplyPart
from antiphon.runtime.speech import Mouth
from antiphon.runtime.voicing import Rehearsal

MAX_REPLY_CHARS = 8_000
"""A reply longer than about ten minutes of speech is a fault of the model, not an answer."""

log = logging.getLogger("antiphon.reply")


class Source(Protocol):
    """Where an attempt's parts come from: a request, or a draft that was begun before."""

    @property
    def answered_by(self) -> str: ...

    def parts(self, act: Act) -> AsyncGenerator[ReplyPart, None]: ...

    def take_rehearsal(self, text: str) -> Rehearsal | None:
        """The first segment, if it is being spoken already."""

    def release(self) -> None:
        """What was begun and not taken is ended."""


class Attempt:
    """Runs one ``StartReply`` in one task. ``cancel`` closes the provider's request."""

    def __init__(
        self,
        order: StartReply,
        source: Source,
        *,
        session: str,
        mouth: Mouth,
        effects: EffectRunner,
        post: Callable[[AnyEvent], None],
    ) -> None:
        self.turn = order.turn
        self._order = order
        self._source = source
        self._session = session
        self._mouth = mouth
        self._effects = effects
        self._post = post
        self._told = {"call": session, "turn": order.turn}
        self._task: asyncio.Task[None] | None = asyncio.ensure_future(self._run())
        # Not in the task itself: one that is cancelled before its first step never runs.
        self._task.add_done_callback(self._over)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._source.release()
        # Both know this attempt: held on to, they would stay in memory until a full collection, which is seldom.
        self._task = None
        del self._source

    async def _run(self) -> None:
        try:
            await self._generate()
        except ProviderError as error:
            log.warning("the reply failed: %s", error, extra=self._told)
            self._fail(error.code)
        except AntiphonError as error:
            log.error("the reply failed: %s", error, extra=self._told)
            self._fail(error.code)
        except Exception:
            # A responder is often the application's own code: what it raises is booked as its fault
            # and climbs the ladder, so that the caller hears more than silence.
            log.exception("the responder %s raised", self._source.answered_by, extra=self._told)
            self._fail("llm.raised")

    def _fail(self, code: str) -> None:
        self._post(StageFailed(self._order.turn, self._order.attempt, "llm", code, self._source.answered_by))

    async def _generate(self) -> None:
        order, mouth = self._order, self._mouth
        segmenter = Segmenter(order.language)
        end, begun, chars, segments = ReplyEnd(), False, 0, 0
        parts = self._source.parts(self._act)
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, ReplyEnd):
                    end = part
                    break
                if not begun and part.text.strip():
                    begun = True
                    self._post(ReplyBegun(order.turn, order.attempt, self._source.answered_by))
                chars += len(part.text)
                if chars > MAX_REPLY_CHARS:
                    log.warning("a reply of more than %d characters was cut", MAX_REPLY_CHARS, extra=self._told)
                    break
                for text in segmenter.feed(part.text):
                    segments += self._speak(mouth, text)
        for text in segmenter.flush():
            segments += self._speak(mouth, text)
        mouth.complete(ReplyGenerated(order.turn, order.attempt, segments, end.ends_call, end.sources))

    def _speak(self, mouth: Mouth, text: str) -> int:
        text = speakable(text)
        if not text:
            return 0
        rehearsal = self._source.take_rehearsal(text)
        mouth.speak(self._order.turn, self._order.attempt, text, self._order.language, rehearsal)
        return 1

    async def _act(self, name: str, kind: str, arguments: str) -> str:
        """The same act asked for again by a later attempt at this question has the same key, so it runs once."""
        what = hashlib.blake2b(f"{name}\0{arguments}".encode(), digest_size=8).hexdigest()
        order = self._order
        key = f"{self._session}:{order.asked_in or order.turn}:{name}:{what}"
        return await self._effects.request(EffectRequested(order.turn, order.attempt, key, name, kind, arguments))
