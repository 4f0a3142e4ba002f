"""Carries effects out. The kernel's ledger decides what runs; this runs it and reports what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from antiphon.errors import AntiphonError, ProviderError
from antiphon.kernel.commands import RunEffect
from antiphon.kernel.effects import MAX_EFFECTS, Effect, EffectStatus
from antiphon.kernel.events import MAX_TEXT, AnyEvent, EffectFailed, EffectRequested, EffectSucceeded

Effector = Callable[[str, str], Awaitable[str]]
"""``await effector(arguments_json, key)`` acts on the world and returns a result; ``key`` is its idempotency key."""

EFFECT_TIMEOUT_S = 30.0

log = logging.getLogger("antiphon.effects")


class EffectRunner:
    """The effects of one session. ``ledger`` reads the kernel's ledger as it is now."""

    def __init__(
        self,
        call_id: str,
        effectors: Mapping[str, Effector],
        ledger: Callable[[], Mapping[str, Effect]],
        post: Callable[[AnyEvent], None],
    ) -> None:
        self._told = {"call": call_id}
        self._effectors = effectors
        self._ledger = ledger
        self._post = post
        self._waiting: dict[str, list[asyncio.Future[str]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self, event: EffectRequested) -> asyncio.Future[str]:
        """Asks the kernel for an effect; what comes of it, or of the same one asked for before.

        Its failure is a ``ProviderError``: ``effect.too_long`` for arguments over ``MAX_TEXT`` characters,
        ``effect.too_many`` past ``MAX_EFFECTS`` in a session, ``effect.refused`` for a reply that is not live
        any more or a kind that does not exist; or whatever the effect itself failed with.
        """
        if len(event.arguments) > MAX_TEXT:
            return self._refused(event, "effect.too_long")
        outcome = self.outcome(event.key)
        self._post(event)
        ledger = self._ledger()
        if event.key not in ledger:
            self._waiting.pop(event.key, None)
            return self._refused(event, "effect.too_many" if len(ledger) >= MAX_EFFECTS else "effect.refused")
        return outcome

    def _refused(self, event: EffectRequested, code: str) -> asyncio.Future[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.set_exception(_failure(event.name, code))
        return future

    def outcome(self, key: str) -> asyncio.Future[str]:
        """The result of an effect that ran, runs or is about to be asked for; its failure is a ``ProviderError``."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        known = self._ledger().get(key)
        if known is None or known.status is EffectStatus.RUNNING:
            self._waiting.setdefault(key, []).append(future)
        elif known.status is EffectStatus.DONE:
            future.set_result(known.outcome)
        else:
            future.set_exception(_failure(known.name, known.outcome))
        return future

    def run(self, order: RunEffect, error: Exception | None) -> None:
        """``error``: the entry could not be made durable. What cannot be recorded is not done."""
        if error is not None:
            log.error("the effect %s is refused, the journal cannot keep it: %s", order.name, error, extra=self._told)
            self._settle(order, None, "effect.not_durable")
            return
        effector = self._effectors.get(order.name)
        if effector is None:
            self._settle(order, None, "effect.unknown")
            return
        task = asyncio.ensure_future(self._carry_out(effector, order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, effector: Effector, order: RunEffect) -> None:
        try:
            async with asyncio.timeout(EFFECT_TIMEOUT_S):
                result = await effector(order.arguments, order.key)
            if not isinstance(result, str):
                raise TypeError(f"an effect's result is text, not {type(result).__name__}")
        except TimeoutError:
            self._settle(order, None, "effect.timeout")
        except AntiphonError as error:
            self._settle(order, None, error.code)
        except Exception:
            log.exception("the effect %s raised", order.name, extra=self._told)
            self._settle(order, None, "effect.raised")
        else:
            self._settle(order, result[:MAX_TEXT], "")

    def _settle(self, order: RunEffect, result: str | None, code: str) -> None:
        self._post(EffectFailed(order.key, code) if result is None else EffectSucceeded(order.key, result))
        for future in self._waiting.pop(order.key, ()):
            if future.done():
                continue
            if result is None:
                future.set_exception(_failure(order.name, code))
            else:
                future.set_result(result)

    @property
    def running(self) -> bool:
        return bool(self._tasks)

    async def settled(self) -> None:
        """Returns when what is running has come to its end (``EFFECT_TIMEOUT_S`` at most) and was reported."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """Effects that run are left to finish: their outcome belongs to the world, not to the line."""
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()
        self._waiting.clear()


def _failure(name: str, code: str) -> ProviderError:
    return ProviderError(f"the effect {name} failed", stage="agent", code=code, retryable=False)
