"""The simulated callers' voices: any synthesizer, each line spoken once and kept."""

from __future__ import annotations

from antiphon.media.codec import mulaw_encode
from antiphon.phone.farend import RATE
from antiphon.runtime.ports import Synthesizer

MAX_LINES = 1000


class Voices:
    """Use as ``async with Voices(synthesizer) as voices``; raises the synthesizer's ``ProviderError``."""

    def __init__(self, synthesizer: Synthesizer, voice: str = "") -> None:
        self._synthesizer = synthesizer
        self._voice = voice
        self._spoken: dict[tuple[str, str], bytes] = {}

    async def __aenter__(self) -> Voices:
        await self._synthesizer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._synthesizer.close()

    async def mulaw(self, text: str, language: str) -> bytes:
        """The line as mu-law at 8000 Hz."""
        key = (text, language)
        if key not in self._spoken:
            pieces = [
                sound.pcm
                async for sound in self._synthesizer.synthesize(
                    text, language=language, sample_rate=RATE, voice=self._voice
                )
            ]
            if len(self._spoken) >= MAX_LINES:
                del self._spoken[next(iter(self._spoken))]
            self._spoken[key] = mulaw_encode(b"".join(pieces))
        return self._spoken[key]
