"""Prepared phrases: what the agent must be able to say when nothing works, rendered once at start.

A filler that waits for a synthesizer is none, and an apology for a dead synthesizer cannot come from
it. So every phrase of every offered language is rendered at start and kept as audio; where even that
failed, a tone stands for it: audible, and honest about being no speech.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from antiphon.errors import ProviderError
from antiphon.media.codec import encode
from antiphon.media.resample import resampled
from antiphon.runtime.ports import Synthesizer

RENDER_TIMEOUT_S = 5.0
AT_ONCE = 4
"""Four languages have some seventy phrases: one after the other they cost a voice on the network half a minute. The
smallest plans of vendors allow about so many requests at once; what is refused is spoken by the next voice, or a tone.
"""
TONE_HZ = 425
"""The frequency of call-progress tones in India and most of Europe (ITU-T E.180)."""

log = logging.getLogger("antiphon.phrases")


class Clip(msgspec.Struct, frozen=True):
    """A phrase's text, and its audio as PCM at the book's rate; empty text: a tone."""

    text: str
    pcm: bytes


class PhraseBook:
    """Rendered phrases at one sample rate, per language and kind, in variants that take turns."""

    def __init__(self, texts: Callable[[str, str], Sequence[str]], *, sample_rate: int = 8000) -> None:
        self._texts = texts
        self._rate = sample_rate
        self._clips: dict[tuple[str, str], tuple[Clip, ...]] = {}
        self._encoded: dict[tuple[str, str, int, str, int], bytes] = {}
        self._tone = Clip("", _tone(sample_rate))

    async def prepare(
        self,
        synthesizers: Sequence[Synthesizer],
        languages: Iterable[str],
        kinds: Iterable[str],
        voice_of: Callable[[str], str] = lambda language: "",
    ) -> int:
        """Renders everything; returns how many phrases could not be. Never raises for a provider.

        ``voice_of`` names the first synthesizer's voice for a language, as the answers have it.
        """
        voices = list(enumerate(synthesizers))
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(text: str, language: str) -> Clip | None:
            async with turns:
                return await self._render(text, language, voices, voice_of(language))

        async def variants(language: str, kind: str) -> int:
            clips = await asyncio.gather(*(one(text, language) for text in self._texts(language, kind)))
            found = tuple(clip for clip in clips if clip is not None)
            if found:
                self._clips[language, kind] = found
            return len(clips) - len(found)

        jobs = [(language, kind) for language in languages for kind in kinds]
        return sum(await asyncio.gather(*(variants(*job) for job in jobs)))

    async def _render(self, text: str, language: str, voices: list[tuple[int, Synthesizer]], voice: str) -> Clip | None:
        """A voice that hangs is not asked again: the server is not to wait for it once a phrase."""
        for place, synthesizer in list(voices):
            named = "" if place else voice
            try:
                async with asyncio.timeout(RENDER_TIMEOUT_S):
                    sounds = [
                        sound.pcm
                        async for sound in synthesizer.synthesize(
                            text, language=language, sample_rate=self._rate, voice=named
                        )
                    ]
            except TimeoutError:
                log.warning(
                    "%s did not speak a phrase in %s s; it renders no others", synthesizer.name, RENDER_TIMEOUT_S
                )
                if (place, synthesizer) in voices:
                    voices.remove((place, synthesizer))
                continue
            except ProviderError as error:
                log.warning("a phrase could not be rendered by %s: %s", synthesizer.name, error)
                continue
            except Exception:
                # A voice may be the application's own code; the server starts without its phrases, not never.
                log.exception("%s raised", synthesizer.name)
                continue
            pcm = b"".join(sounds)
            if pcm:
                return Clip(text, pcm)
        return None

    def clip(self, kind: str, language: str, variant: int, codec: str, sample_rate: int = 8000) -> tuple[str, bytes]:
        """(text, audio in ``codec`` at ``sample_rate`` Hz). Another variant, or the tone, stands in for what was not
        rendered. Converted once, and kept.
        """
        clips = self._clips.get((language, kind), ())
        index = variant % len(clips) if clips else -1
        clip = clips[index] if clips else self._tone
        key = (kind, language, index, codec, sample_rate)
        audio = self._encoded.get(key)
        if audio is None:
            audio = self._encoded[key] = encode(codec, resampled(clip.pcm, self._rate, sample_rate))
        return clip.text, audio


def _tone(rate: int) -> bytes:
    """Two short beeps at -16 dBFS, 0.7 s."""
    time = np.arange(rate // 4) / rate
    beep = (np.sin(2 * np.pi * TONE_HZ * time) * 32767 * 0.16).astype("<i2").tobytes()
    gap = bytes(2 * (rate // 5))
    return beep + gap + beep
