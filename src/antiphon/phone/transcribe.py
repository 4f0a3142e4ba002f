"""What an agent said, from what was heard of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from antiphon.errors import ProviderError
from antiphon.phone.farend import RATE
from antiphon.runtime.ports import Transcriber
from antiphon.runtime.recording import hear

TIMEOUT_S = 30.0
_TAIL = bytes(RATE // 2 * 2)
"""Half a second of silence behind the reply: recognisers settle on the last word in it."""


@contextlib.asynccontextmanager
async def transcribe_reply(transcriber: Transcriber, language: str) -> AsyncIterator[Callable[[bytes], Awaitable[str]]]:
    """Gives a function from PCM (8000 Hz) to text; ``""`` for silence, or if the transcriber failed on it."""
    await transcriber.start()

    async def transcribe(pcm: bytes) -> str:
        if not pcm:
            return ""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return (await hear(transcriber, pcm + _TAIL, RATE, language)).text
        except (ProviderError, TimeoutError):
            return ""

    try:
        yield transcribe
    finally:
        await transcriber.close()
