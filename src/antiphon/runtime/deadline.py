"""Waiting for one answer after another, each until a time of its own.

What ``asyncio.timeout`` does for one wait, for the many of a stream: what is there at once takes no timer. Tokens and
pieces of sound come by the dozen, so that making a timer for each and taking it back was most of what they cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadline:
    """Of one request: one wait at a time, all in the task that makes the request."""

    __slots__ = ("_is_over", "_loop", "_task", "_timer", "until")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.until: float | None = None
        """When the present wait ends, by the loop's clock; None: never."""
        self._task: asyncio.Task[Any] | None = None
        """Who waits."""
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, answer: Awaitable[T], until: float | None) -> T:
        """The answer. Raises ``TimeoutError`` if it is not there at ``until``: what is waited for is cancelled."""
        self.until = until
        steps = answer.__await__()
        try:
            first = steps.send(None)
        except StopIteration as done:
            there: T = done.value
            return there
        return await self._wait(steps, first)

    async def _wait(self, steps: Generator[Any, Any, T], first: Any) -> T:
        task = self._task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can wait until a deadline")
        cancelling, self._is_over = task.cancelling(), False
        is_cancelled = False
        try:
            self._arm()
            return await _rest(steps, first)
        except asyncio.CancelledError:
            is_cancelled = True
            raise
        finally:
            self._task = None
            self._disarm()
            # As ``asyncio.timeout`` does: our own cancellation is taken back whatever became of it, and somebody
            # else's, which came meanwhile, is passed on.
            if self._is_over and task.uncancel() <= cancelling and is_cancelled:
                raise TimeoutError

    def move(self, until: float | None) -> None:
        """The present wait ends at another time. One that is over is over."""
        self.until = until
        if self._task is not None and not self._is_over:
            self._disarm()
            self._arm()

    def _arm(self) -> None:
        if self.until is not None:
            self._timer = self._loop.call_at(self.until, self._end)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        if self._task is not None:
            self._is_over = True
            self._task.cancel()


@coroutine
def _rest(steps: Generator[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Awaits what has taken its first step and waits for something."""
    while True:
        try:
            yield waits_for
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is meant for what is awaited
            try:
                waits_for = steps.throw(error)
            except StopIteration as done:
                there: T = done.value
                return there
        else:
            return (yield from steps)
