"""Faults on demand, for the fake providers: every n-th request fails or hangs."""

from __future__ import annotations

import asyncio
from typing import NoReturn


class Faults:
    """Counts requests and says which of them go wrong. ``0`` never; a failure wins over a hang."""

    def __init__(self, fail_every: int, hang_every: int) -> None:
        self._fail_every = fail_every
        self._hang_every = hang_every
        self.requests = 0

    def next(self) -> str:
        """``""``, ``"fail"`` or ``"hang"`` for the request that begins now."""
        self.requests += 1
        if self._fail_every and self.requests % self._fail_every == 0:
            return "fail"
        if self._hang_every and self.requests % self._hang_every == 0:
            return "hang"
        return ""


async def hang() -> NoReturn:
    """Waits until it is cancelled."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a future that nobody resolves was resolved")
