"""A voice on the network that really speaks: ElevenLabs' protocol on this machine, the sound by espeak.

It comes in pieces of ``PIECE_S``, each with the times of its characters as the vendor sends them. What breaks is told
by the loopback's ``script``: ``cut`` ends the connection after the second piece of a text.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import loopback_elevenlabs
import numpy as np
from aiohttp import web
from loopback_elevenlabs import KEY, Spoken, serving

from antiphon.media.codec import mulaw_encode
from antiphon.phone.voices import Voices
from antiphon.providers import registry

RATE = 8000
PIECE_S = 0.8
ESPEAK = {"pitch": 70}
"""Higher than espeak's own 50: a listener can tell the two apart."""
SPEAKER = "pFZP5JQG7iQjIQuC4Bku"
"""Its id, which is the name of no espeak voice."""

__all__ = ["KEY", "SPEAKER", "Speaker", "speaking"]


class Speaker(loopback_elevenlabs.Loopback):
    def __init__(self) -> None:
        super().__init__()
        self.unable: set[str] = set()
        """Languages (``en``) in which it refuses whatever comes."""
        self.untimed: list[bool] = []
        """For each of the next texts: True, and no times of characters are told."""
        self.voices: Voices
        """The same voice, for comparing."""
        self.espeak = registry.load("tts", "espeak", ESPEAK)
        self._spoken: dict[str, tuple[bytes, list[float]]] = {}
        """Texts to 16-bit samples at ``RATE``, and when each character begins, in ms."""

    def slow_down(self) -> None:
        """From now on a piece comes when the one before it has nearly been heard."""
        self.chunk_s = PIECE_S * 0.9

    async def _take(
        self, said: dict[str, Any], contexts: dict[str, Spoken], socket: web.WebSocketResponse, request: web.Request
    ) -> bool:
        language = request.query["language_code"]
        if language in self.unable:
            await socket.close(code=1011, message=b"internal error")
            return False
        if said.get("flush"):
            await self._speak((contexts[said["context_id"]].text + said["text"]).strip(), language)
        return await super()._take(said, contexts, socket, request)

    def begins_ms(self, text: str) -> list[float]:
        """When each character of a text that it has spoken begins."""
        return self._spoken[text][1]

    async def _speak(self, text: str, language: str) -> None:
        pcm, marks = bytearray(), []
        async for sound in self.espeak.synthesize(text, language=language, sample_rate=RATE):
            pcm += sound.pcm
            marks += [(mark.char, mark.sample * 1000 / RATE) for mark in sound.words]
        marks.append((len(text), len(pcm) // 2 * 1000 / RATE))
        # Within a word the characters are evenly spread.
        begins = np.interp(range(len(text)), *zip(*marks, strict=True))
        self._spoken[text] = (bytes(pcm), [float(each) for each in begins])

    def chunks(self, text: str, output_format: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
        assert output_format == "ulaw_8000", "what a telephone line takes"
        pcm, begins = self._spoken[text]
        timed = not (self.untimed.pop(0) if self.untimed else False)
        ends = [*begins[1:], len(pcm) // 2 * 1000 / RATE]
        size = int(PIECE_S * RATE) * 2
        for at in range(0, len(pcm), size):
            since, until = at / 2 * 1000 / RATE, (at + size) / 2 * 1000 / RATE
            chars = [place for place, begin in enumerate(begins) if since <= begin < until]
            alignment = {
                "chars": [text[place] for place in chars],
                "charStartTimesMs": [begins[place] - since for place in chars],
                "charDurationsMs": [ends[place] - begins[place] for place in chars],
            }
            yield mulaw_encode(pcm[at : at + size]), {"alignment": alignment if timed else None}


@asynccontextmanager
async def speaking() -> AsyncIterator[Speaker]:
    speaker = Speaker()
    await speaker.espeak.start()
    try:
        async with serving(speaker), Voices(registry.load("tts", "espeak", ESPEAK)) as same:
            speaker.voices = same
            yield speaker
    finally:
        await speaker.espeak.close()
