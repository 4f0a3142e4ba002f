"""What a task brings, kept for a reader who comes later and then reads along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

T = TypeVar("T")


class Tape(Generic[T]):
    """One task adds, one reader reads. How much may be added is for the task to bound."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._news = asyncio.Event()

    def add(self, item: T) -> None:
        self._items.append(item)
        self._news.set()

    async def read(self, task: asyncio.Task[None]) -> AsyncGenerator[T, None]:
        """All items from the first on, as ``task`` adds them. Raises what it raises; closing this ends it."""
        task.add_done_callback(lambda _: self._news.set())
        given = 0
        try:
            while True:
                while given < len(self._items):
                    given += 1
                    yield self._items[given - 1]
                if task.done():
                    task.result()
                    return
                self._news.clear()
                await self._news.wait()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
