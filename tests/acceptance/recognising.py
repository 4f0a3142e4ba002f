"""A stand-in for a transcriber of any language: it knows some sentences, and tells by their sound which one it hears.

Where no offline recogniser exists for a language, nothing else on this machine can transcribe it. What it returns
depends on the sound that arrived all the same. It speaks the protocol of the ``whisper`` provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import loopback_whisper
from aiohttp import web
from hearing import SAME, likeness

from antiphon.media.codec import wav_read
from antiphon.phone.voices import Voices


class KnowsSentences(loopback_whisper.Loopback):
    """``known``: sentences to the BCP 47 tags they are in. ``voices`` are the callers'."""

    def __init__(self, known: Mapping[str, str], voices: Voices) -> None:
        super().__init__("")
        self.known = dict(known)
        self.hints: dict[str, str] = {}
        """What it heard last time, to the language it was told to expect ("" for none)."""
        self._voices = voices

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        upload = form["file"]
        assert isinstance(upload, web.FileField)
        pcm, rate = wav_read(upload.file.read())
        upload.file.seek(0)
        assert rate == 8000
        alike = await asyncio.gather(*(likeness(pcm, self._voices, text, tag) for text, tag in self.known.items()))
        best = max(zip(alike, self.known, strict=True))
        # Nobody else runs between here and the answer.
        self.text = best[1] if best[0] > SAME else ""
        self.hints[self.text] = str(form.get("language", ""))
        return await super().transcribe(request)
