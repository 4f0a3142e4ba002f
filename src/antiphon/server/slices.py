"""Long work on the event loop, a little at a time, so that the calls beside it do not hear it.

A thread would not do: it shares the interpreter, which changes hands every five milliseconds at best.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from antiphon.errors import AdmissionRefused
from antiphon.observe.replaying import ResultT, Steps

SLICE_S = 0.002
"""A tenth of the time between two frames of audio."""
MOST_WAITING = 32


class Slices:
    """Carries out one piece of work at a time, in slices; the others wait, at most ``MOST_WAITING`` of them."""

    def __init__(self, slice_s: float = SLICE_S, clock: Callable[[], float] = time.perf_counter) -> None:
        self._slice_s = slice_s
        self._clock = clock
        self._free = asyncio.Lock()
        self._waiting = 0

    async def run(self, begin: Callable[[], Awaitable[Steps[ResultT]]]) -> ResultT:
        """What the steps that ``begin`` gives come to; it is called when it is their turn.

        Raises what they raise, and ``AdmissionRefused`` (``server.busy``) if too many wait.
        """
        if self._waiting >= MOST_WAITING:
            raise AdmissionRefused("too many journals are being read, try again shortly", code="server.busy")
        self._waiting += 1
        try:
            async with self._free:
                return await self._carry_out(await begin())
        finally:
            self._waiting -= 1

    async def _carry_out(self, steps: Steps[ResultT]) -> ResultT:
        while True:
            until = self._clock() + self._slice_s
            try:
                next(steps)
                while self._clock() < until:
                    next(steps)
            except StopIteration as end:
                result: ResultT = end.value
                return result
            await asyncio.sleep(0)
