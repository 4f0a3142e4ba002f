"""Asking one voice for one text: its breaker asked and told, each piece of sound in its time.

``Rehearsal`` does so ahead of time, for a reply that is not confirmed yet: what it has is kept, and
given out like the voice's own sounds once somebody wants to speak it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from antiphon.errors import ProviderError, ProviderTimeout
from antiphon.runtime.chain import Chain, Member, gave_up, is_cancelled_by_us
from antiphon.runtime.deadline import Deadline
from antiphon.runtime.ports import Sound, Synthesizer
from antiphon.runtime.tape import Tape

MAX_REHEARSED_S = 30
"""Of one segment; a clause takes some three."""


async def voiced(
    chain: Chain[Synthesizer], member: Member[Synthesizer], text: str, *, language: str, rate: int, voice: str
) -> AsyncGenerator[Sound, None]:
    """Raises ``CircuitBreakerOpen``, ``ProviderTimeout`` (``tts.timeout``), ``ProviderError`` (``tts.empty``: it ended
    without any sound), and what the voice raises.
    """
    if member is not chain.members[0]:
        voice = ""  # a voice's name means something to the first provider alone; another has its own settings
    member.enter()
    loop, policy = asyncio.get_running_loop(), chain.policy
    began = loop.time()
    begun, until, deadline = False, began + policy.first_s, Deadline()
    error: BaseException | None = None
    try:
        async with aclosing(
            member.provider.synthesize(text, language=language, sample_rate=rate, voice=voice)
        ) as sounds:
            while (sound := await _next(sounds, deadline, until)) is not None:
                if sound.pcm and not begun:
                    begun = True
                    member.lateness.note(loop.time() - began)
                yield sound
                if sound.pcm:
                    until = loop.time() + policy.between_s
        if not begun:
            raise ProviderError(f"{member.name} gave no sound", provider=member.name, stage="tts", code="tts.empty")
    except TimeoutError:
        text = f"{member.name} gave no sound for {policy.between_s if begun else policy.first_s:g} s"
        error = ProviderTimeout(text, provider=member.name, stage="tts", code="tts.timeout")
        raise error from None
    except asyncio.CancelledError as raised:
        error = raised if is_cancelled_by_us() else gave_up(member.name, "tts")
        raise error from None
    except BaseException as raised:
        error = raised
        raise
    finally:
        member.book(error)
        error = None  # it holds this frame, and would be held by it until a full collection


async def _next(sounds: AsyncGenerator[Sound, None], deadline: Deadline, until: float) -> Sound | None:
    """None at the end. Raises ``TimeoutError`` at ``until``, by the loop's clock."""
    try:
        return await deadline.wait(anext(sounds), until)
    except StopAsyncIteration:
        return None


class Rehearsal:
    """A text that is being spoken where nobody hears it yet."""

    def __init__(
        self, chain: Chain[Synthesizer], member: Member[Synthesizer], text: str, *, language: str, rate: int, voice: str
    ) -> None:
        self.text = text
        self.member = member
        self.samples = 0
        """What it has cost so far."""
        self._limit = MAX_REHEARSED_S * rate
        self._tape: Tape[Sound] = Tape()
        self._room = asyncio.Event()
        self._room.set()
        self._task = asyncio.ensure_future(
            self._run(voiced(chain, member, text, language=language, rate=rate, voice=voice))
        )
        # Its failure is told to whoever reads it, and of no interest if nobody does.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _run(self, sounds: AsyncGenerator[Sound, None]) -> None:
        async with aclosing(sounds):
            async for sound in sounds:
                self.samples += len(sound.pcm) // 2
                self._tape.add(sound)
                if self.samples > self._limit:
                    self._room.clear()
                await self._room.wait()

    def sounds(self) -> AsyncGenerator[Sound, None]:
        """All sounds from the first on, as they come. Closing it ends the request. Raises what the voice raised."""
        self._limit = 2**62
        self._room.set()
        return self._tape.read(self._task)

    def cancel(self) -> None:
        """Nobody will speak it."""
        self._task.cancel()
