"""What an agent said, from what was heard of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from antiphon.phone.farend import RATE
from antiphon.runtime.ports import Heard, Transcriber

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
        final: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()

        def on_heard(heard: Heard) -> None:
            if (heard.final or heard.error) and not final.done():
                final.set_result(heard)

        stream = transcriber.open(sample_rate=RATE, language=language, on_heard=on_heard)
        try:
            stream.feed(pcm + _TAIL)
            stream.finish(1)
            async with asyncio.timeout(TIMEOUT_S):
                return (await final).text
        except TimeoutError:
            return ""
        finally:
            stream.close()

    try:
        yield transcribe
    finally:
        await transcriber.close()
