"""Health checks: run together, each within its time, and not more often than needed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

log = logging.getLogger("antiphon.server.health")


HealthCheck = Callable[[], Awaitable[bool]]
"""Answers True if what it looks at works; False, an exception and silence all mean that it does not."""


class Checks:
    """Named checks. An answer is kept for ``keep_s``, so that being asked often costs the services nothing."""

    def __init__(
        self,
        checks: Mapping[str, HealthCheck],
        *,
        timeout_s: float = 2.0,
        keep_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks = dict(checks)
        self._timeout_s = timeout_s
        self._keep_s = keep_s
        self._clock = clock
        self._running: asyncio.Task[dict[str, bool]] | None = None
        self._fresh_until = 0.0
        self._known: dict[str, bool] = {}

    async def results(self) -> dict[str, bool]:
        """What each check says; everybody who asks at once waits for the same round."""
        return await asyncio.shield(self._begun())

    def known(self) -> dict[str, bool]:
        """What each said the last time, without any wait; empty before that. If it is old, the next time is better."""
        self._begun()
        return self._known

    def _begun(self) -> asyncio.Task[dict[str, bool]]:
        if self._running is None or (self._running.done() and self._clock() >= self._fresh_until):
            self._running = asyncio.get_running_loop().create_task(self._round())
        return self._running

    async def _round(self) -> dict[str, bool]:
        answers = await asyncio.gather(*(self._one(name, check) for name, check in self._checks.items()))
        self._fresh_until = self._clock() + self._keep_s
        self._known = dict(zip(self._checks, answers, strict=True))
        return self._known

    async def _one(self, name: str, check: HealthCheck) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                return bool(await check())
        except TimeoutError:
            log.warning("health check %s did not answer in %s s", name, self._timeout_s)
        except Exception as error:  # noqa: BLE001 - a check may fail in any way; that is its answer
            log.warning("health check %s failed: %s: %s", name, type(error).__name__, error)
        return False
