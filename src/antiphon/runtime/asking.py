"""Asking a responder: its first useful token in time, further tries before that, a second one when it is late.

Nothing is tried again once a part was passed on: what was said cannot be unsaid, and the ladder of the
floor goes on from there. A request that is given up is closed, so that the provider stops generating.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

from antiphon.errors import ProviderError, ProviderTimeout
from antiphon.runtime.chain import Chain, Member, gave_up, is_cancelled_by_us
from antiphon.runtime.deadline import Deadline
from antiphon.runtime.ports import Act, ReplyEnd, ReplyPart, ReplyRequest, Responder

Rerouted = Callable[[str, str, str], None]
"""(provider, why, who is asked now): to be journalled."""


class Asking:
    """One attempt's question to one member of the chain, and to the next one if it is hedged."""

    def __init__(
        self,
        chain: Chain[Responder],
        member: Member[Responder],
        request: ReplyRequest,
        *,
        left_s: float,
        rerouted: Rerouted,
        other: Member[Responder] | None = None,
        asked: list[Member[Responder]] | None = None,
    ) -> None:
        """``asked``: everybody who is asked is added to it, a rival in a hedge too."""
        self._chain = chain
        self._policy = chain.policy
        self._member = member
        self._other = other
        self._request = request
        self._until = asyncio.get_running_loop().time() + left_s
        self._rerouted = rerouted
        self._asked = [] if asked is None else asked
        self._asked.append(member)
        self._closing: set[asyncio.Task[None]] = set()
        self.answered_by = member.name
        """Whose parts come."""

    def _left_s(self) -> float:
        return self._until - asyncio.get_running_loop().time()

    def take_rehearsal(self, text: str) -> None:
        """Nothing of it was spoken ahead."""

    def release(self) -> None:
        """Nothing is left of it when its parts are closed."""

    async def parts(self, act: Act) -> AsyncGenerator[ReplyPart, None]:
        """Raises ``ProviderError``, ``CircuitBreakerOpen`` included, and whatever else a responder raises."""
        tries = self._policy.retries + 1
        self._pass_by_a_probe()
        while True:
            begun = False
            try:
                async with aclosing(self._once(act)) as parts:
                    async for part in parts:
                        begun = True
                        yield part
                return
            except ProviderError as error:
                tries -= 1
                pause = self._policy.pause_s(error)
                if begun or not tries or not error.retryable or error.code == "breaker.open":
                    raise
                if pause >= self._policy.first_within(self._left_s()):
                    raise
                if isinstance(error, ProviderTimeout) and self._other is not None and self._other.breaker.would_admit:
                    raise  # what time is left is for the one that has not been asked
                self._rerouted(self._member.name, error.code, self._member.name)
            await asyncio.sleep(pause)

    def _pass_by_a_probe(self) -> None:
        """A breaker lets one probe out: of the turns that begin in one moment the others go to who is next."""
        other = None if self._member.breaker.would_admit else next(self._chain.admitted(self._asked), None)
        if other is not None:
            self._rerouted(self._member.name, "breaker.open", other.name)
            self._asked.append(other)
            self._member, self._other = other, next(self._chain.admitted(self._asked), None)
            self.answered_by = other.name

    async def _once(self, act: Act) -> AsyncGenerator[ReplyPart, None]:
        p95 = self._member.lateness.p95() if self._policy.hedge and self._other is not None else None
        first = _Request(self._member, self._request, act, self._first_s())
        if self._other is not None and p95 is not None and p95 < self._first_s():
            winner, lead = await self._race(first, self._other, act, p95)
        else:
            winner, lead = first, await first.led_in()
        self.answered_by = winner.member.name
        error: BaseException | None = None
        try:
            for part in lead:
                yield part
            while not winner.is_complete and (more := await winner.next(self._policy.between_s)) is not None:
                yield more
        except BaseException as raised:
            error = raised
            raise
        finally:
            await winner.close(error)
            error = None  # it holds this frame, and would be held by it until a full collection

    def _first_s(self) -> float:
        return self._policy.first_within(self._left_s())

    async def _race(
        self, first: _Request, other: Member[Responder], act: Act, p95: float
    ) -> tuple[_Request, list[ReplyPart]]:
        """The first is late by its own measure: whoever says something useful first answers."""
        racers = {asyncio.ensure_future(first.lead_in()): first}
        winner: _Request | None = None
        try:
            done, _ = await asyncio.wait(racers, timeout=p95)
            failure = next(iter(done)).exception() if done else None
            if (failure is not None or not done) and other.breaker.would_admit:
                why = getattr(failure, "code", "llm.raised") if failure is not None else "hedge"
                self._rerouted(first.member.name, why, other.name)
                self._asked.append(other)
                second = _Request(other, self._request, act, self._first_s())
                racers[asyncio.ensure_future(second.lead_in())] = second
            task = await _first_useful(racers)
            winner = racers[task]
            return winner, task.result()
        finally:
            for task, request in racers.items():
                if request is not winner:
                    self._give_up(task, request)

    def _give_up(self, task: asyncio.Task[list[ReplyPart]], request: _Request) -> None:
        """A provider that does not listen to its cancellation must not hold the one that answers."""
        task.cancel()
        closing = asyncio.ensure_future(_close_after(task, request))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def _close_after(task: asyncio.Task[list[ReplyPart]], request: _Request) -> None:
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    await request.close(outcome if isinstance(outcome, BaseException) else asyncio.CancelledError())


async def _first_useful(racers: Iterable[asyncio.Task[list[ReplyPart]]]) -> asyncio.Task[list[ReplyPart]]:
    """The task that says something first; at the same time, the one that was begun first.

    An empty answer wins only if nobody says anything. Raises the last failure if nobody answers at all.
    """
    order = list(racers)
    pending = set(order)
    empty: asyncio.Task[list[ReplyPart]] | None = None
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in sorted(done, key=order.index):
            if task.exception() is None and any(
                not isinstance(part, ReplyEnd) and part.text.strip() for part in task.result()
            ):
                return task
            if task.exception() is None:
                empty = empty or task
        if not pending and empty is not None:
            return empty
        if not pending:
            max(done, key=order.index).result()


class _Request:
    """One request to one provider, its breaker asked and told."""

    def __init__(self, member: Member[Responder], request: ReplyRequest, act: Act, first_s: float) -> None:
        self.member = member
        self.is_complete = False
        self._first_s = first_s
        self._act_with = act
        self._request = request
        self._entered = False
        self._parts: AsyncGenerator[ReplyPart, None] | None = None
        # Effects: their time is not the model's.
        self._deadline = Deadline()
        self._left = 0.0
        """What the model has left of the present wait while an effect runs."""
        self._acting = 0
        self._acting_since = 0.0
        self._acted = 0.0

    async def lead_in(self) -> list[ReplyPart]:
        """The parts up to the first useful one. Raises ``ProviderTimeout`` if that does not come in time."""
        self.member.enter()
        self._entered = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._parts = self.member.provider.respond(self._request, self._act)
        lead: list[ReplyPart] = []
        while True:
            left = self._first_s - self._taken(began)
            part = await self._wait(left, self._first_s, "timeout_first_token")
            if part is None:
                return lead
            lead.append(part)
            if isinstance(part, ReplyEnd) or part.text.strip():
                self.member.lateness.note(self._taken(began))
                return lead

    async def led_in(self) -> list[ReplyPart]:
        """The same, for one that races nobody: its failure closes it."""
        try:
            return await self.lead_in()
        except BaseException as error:
            await self.close(error)
            raise

    async def next(self, within_s: float) -> ReplyPart | None:
        return await self._wait(within_s, within_s, "timeout_stalled")

    async def close(self, error: BaseException | None) -> None:
        """Ends the request; ``error`` is how it went."""
        parts, self._parts = self._parts, None
        entered, self._entered = self._entered, False
        if entered:
            self.member.book(None if self.is_complete else error)
        if parts is not None:
            await parts.aclose()

    def _taken(self, began: float) -> float:
        """Seconds of the model's since then."""
        now = asyncio.get_running_loop().time()
        return now - began - self._acted - (now - self._acting_since if self._acting else 0.0)

    async def _wait(self, left: float, limit: float, code: str) -> ReplyPart | None:
        assert self._parts is not None  # noqa: S101 - lead_in comes first
        self._left = max(left, 0.0)
        until = None if self._acting else asyncio.get_running_loop().time() + self._left
        try:
            part = await self._deadline.wait(anext(self._parts), until)
        except StopAsyncIteration:
            self.is_complete = True
            return None
        except TimeoutError:
            name = self.member.name
            text = f"{name} gave nothing useful for {limit:.1f} s"
            raise ProviderTimeout(text, provider=name, stage="llm", code=f"llm.{code}") from None
        except asyncio.CancelledError:
            if is_cancelled_by_us():
                raise
            raise gave_up(self.member.name, "llm") from None
        self.is_complete = isinstance(part, ReplyEnd)
        return part

    async def _act(self, name: str, kind: str, arguments: str) -> str:
        loop = asyncio.get_running_loop()
        self._acting += 1
        if self._acting == 1:
            self._acting_since = loop.time()
            if (until := self._deadline.until) is not None:
                self._left = max(until - loop.time(), 0.0)
                self._deadline.move(None)
        try:
            return await self._act_with(name, kind, arguments)
        finally:
            self._acting -= 1
            if not self._acting:
                self._acted += loop.time() - self._acting_since
                self._deadline.move(loop.time() + self._left)
