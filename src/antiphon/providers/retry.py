"""Asking again, as long as nothing of the first answer was passed on."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from antiphon.errors import ProviderError

if TYPE_CHECKING:
    from antiphon.providers.http import Patience

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
"""Before the second attempt, give or take a quarter; each later pause is twice as long."""

T = TypeVar("T")


async def tried_again(
    attempt: Callable[[], AsyncGenerator[T, None]], *, retries: int, patience: Patience, stage: str
) -> AsyncGenerator[T, None]:
    """The parts of the first attempt that gives any; ``attempt`` is called for each, at most ``retries`` times more.

    Raises the last attempt's ``ProviderError`` once a part was passed on, when it is not ``retryable``, when no
    retries are left, or when the pause before the next (``retry_after_s`` where the endpoint says it) is over what
    ``patience`` has left.
    """
    for number in range(retries + 1):
        begun = False
        try:
            async with aclosing(attempt()) as parts:
                async for part in parts:
                    begun = True
                    yield part
            return
        except ProviderError as error:
            pause = FIRST_PAUSE_S * 2**number * random.uniform(0.75, 1.25)  # noqa: S311 - spreads the load
            if error.retry_after_s is not None:
                pause = max(error.retry_after_s, FIRST_PAUSE_S)
            if begun or not error.retryable or number == retries or pause >= patience.left():
                raise
            log.debug("%s retry", stage, extra={"code": error.code, "attempt": number + 1, "pause_s": pause})
        await asyncio.sleep(pause)
        patience.spend(pause)
