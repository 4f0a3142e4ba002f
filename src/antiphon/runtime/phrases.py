"""Prepared phrases: what the agent must be able to say when nothing works, rendered once at start.

A filler that waits for a synthesizer is none, and an apology for a dead synthesizer cannot come from
it. So every phrase of every offered language is rendered at start and kept as audio; where even that
failed, a tone stands for it: audible, and honest about being no speech.

What a voice says of itself that its sound never changes by (``Synthesizer.sound_version``) is also kept on disk, and
read at the next start instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import astuple

from antiphon import disk_cache
from antiphon._version import __version__
from antiphon.errors import ProviderError
from antiphon.media.codec import encode
from antiphon.media.resample import resampled
from antiphon.runtime.ports import Synthesizer

RENDER_TIMEOUT_S = 5.0
AT_ONCE = 4
"""Four languages have some seventy phrases: one after the other they cost a voice on the network half a minute. The
smallest plans of vendors allow about so many requests at once; what is refused is spoken by the next voice, or a tone.
"""
KEPT = 4
"""Sets of phrases on disk, some 4 MB each; the oldest by use goes first."""
TONE_HZ = 425
"""The frequency of call-progress tones in India and most of Europe (ITU-T E.180)."""

log = logging.getLogger("antiphon.phrases")


class Clip(msgspec.Struct, frozen=True):
    """A phrase's text, and its audio as PCM at the book's rate; empty text: a tone."""

    text: str
    pcm: bytes


class _Wanted(msgspec.Struct, frozen=True):
    language: str
    kind: str
    text: str
    voice: str


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
        folder: Path | None = None,
    ) -> int:
        """Renders everything; returns how many phrases could not be. Never raises for a provider.

        ``voice_of`` names the first synthesizer's voice for a language, as the answers have it. ``folder``: where
        phrases are kept on disk, instead of the usual place.
        """
        wanted = [
            _Wanted(language, kind, text, voice_of(language))
            for language, kind in product(languages, kinds)
            for text in self._texts(language, kind)
        ]
        file = self._file(synthesizers, wanted)
        clips = await asyncio.to_thread(_recalled, file, wanted, folder) if file else None
        if clips is None:
            clips, own = await self._rendered(synthesizers, wanted)
            if file and own:
                await asyncio.to_thread(_keep, file, clips, folder)
        found: dict[tuple[str, str], list[Clip]] = {}
        for each, clip in zip(wanted, clips, strict=True):
            if clip is not None:
                found.setdefault((each.language, each.kind), []).append(clip)
        self._clips |= {key: tuple(clips) for key, clips in found.items()}
        return clips.count(None)

    def _file(self, synthesizers: Sequence[Synthesizer], wanted: Sequence[_Wanted]) -> str:
        """The name of the file with these phrases of the first voice; "" if its sound may change from day to day."""
        first = next(iter(synthesizers), None)
        version = getattr(first, "sound_version", "")
        if first is None or not isinstance(version, str) or not version:
            return ""
        content = repr((__version__, first.name, version, self._rate, list(map(astuple, wanted))))
        return f"phrases-{hashlib.blake2b(content.encode('utf-8', 'replace'), digest_size=16).hexdigest()}.msgpack"

    async def _rendered(
        self, synthesizers: Sequence[Synthesizer], wanted: Sequence[_Wanted]
    ) -> tuple[list[Clip | None], bool]:
        """A clip each, and whether the first voice spoke them all."""
        voices = list(enumerate(synthesizers))
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(each: _Wanted) -> tuple[Clip | None, int]:
            async with turns:
                return await self._render(each.text, each.language, voices, each.voice)

        rendered = await asyncio.gather(*map(one, wanted))
        return [clip for clip, _ in rendered], all(place == 0 for _, place in rendered)

    async def _render(
        self, text: str, language: str, voices: list[tuple[int, Synthesizer]], voice: str
    ) -> tuple[Clip | None, int]:
        """The clip and the place of the voice that spoke it, -1 where none could.

        A voice that hangs is not asked again: the server is not to wait for it once a phrase.
        """
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
                return Clip(text, pcm), place
        return None, -1

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


def _recalled(name: str, wanted: Sequence[_Wanted], folder: Path | None) -> list[Clip | None] | None:
    """What is on disk of exactly these phrases, if anything is."""
    path = disk_cache.found(name, folder)
    if path is None:
        return None
    try:
        audio = msgspec.msgpack.decode(path.read_bytes(), type=list[bytes])
    except (OSError, msgspec.DecodeError) as error:
        log.warning("%s: unusable, speaking the phrases again: %s", path, error)
        return None
    if len(audio) == len(wanted) and all(pcm and len(pcm) % 2 == 0 for pcm in audio):
        return [Clip(each.text, pcm) for each, pcm in zip(wanted, audio, strict=True)]
    log.warning("%s: does not fit, speaking the phrases again", path)
    return None


def _keep(name: str, clips: Sequence[Clip | None], folder: Path | None) -> None:
    audio = [clip.pcm for clip in clips if clip is not None]
    disk_cache.store(name, msgspec.msgpack.encode(audio), kept=KEPT, folder=folder)


def _tone(rate: int) -> bytes:
    """Two short beeps at -16 dBFS, 0.7 s."""
    time = np.arange(rate // 4) / rate
    beep = (np.sin(2 * np.pi * TONE_HZ * time) * 32767 * 0.16).astype("<i2").tobytes()
    gap = bytes(2 * (rate // 5))
    return beep + gap + beep
