"""Text to speech by espeak-ng: offline, over a hundred languages, the first sound within a millisecond.

It sounds like a machine; what it says is clear. The library (GPL-3, the extra ``local``) is loaded only by
worker processes (``espeak_worker``). This module hands requests to them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated

import msgspec

from antiphon.errors import MissingExtra
from antiphon.providers.settings import convert
from antiphon.providers.tts.espeak_worker import Speak
from antiphon.providers.tts.speech_pool import Engine, SpeechPool, installed
from antiphon.runtime.ports import Sound

ENGINE = Engine(provider="espeak", title="espeak-ng", module="antiphon.providers.tts.espeak_worker", ready_s=5.0)

SOUND = 1
"""Raise it when the same request shall give another sound: phrases that were kept are spoken again then."""

VOICES = {"en": "en-us+edward"}
"""A voice per language (a whole tag or its first part) where espeak's own choice is not the best one.

espeak has no Indian English. Of some sixty English voices and variants over mu-law this one (a Klatt
synthesizer) is understood best by the embedded recogniser: 11 words of 100 wrong, 43 with espeak's own choice.
"""


class EspeakSettings(msgspec.Struct, frozen=True):
    workers: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    rate_wpm: Annotated[int, msgspec.Meta(ge=80, le=450)] = 165
    pitch: Annotated[int, msgspec.Meta(ge=0, le=99)] = 50
    voices: dict[str, str] = {}


def build(settings: Mapping[str, object]) -> EspeakSynthesizer:
    """Raises ``ConfigError`` for a setting that does not exist or is out of range."""
    values = convert(settings, EspeakSettings, "[tts] espeak")
    return EspeakSynthesizer(workers=values.workers, rate_wpm=values.rate_wpm, pitch=values.pitch, voices=values.voices)


class EspeakSynthesizer:
    """The ``Synthesizer`` port over espeak-ng in ``workers`` processes.

    ``rate_wpm``: 80 to 450 words a minute; ``pitch``: 0 to 99. ``voices`` maps a language (``hi-IN`` or ``hi``)
    to an espeak voice, with a variant if wanted (``hi+f2``).
    """

    name = "espeak"

    def __init__(
        self, *, workers: int = 1, rate_wpm: int = 165, pitch: int = 50, voices: Mapping[str, str] | None = None
    ) -> None:
        self._rate_wpm = rate_wpm
        self._pitch = pitch
        self._voices = {tag.lower(): voice for tag, voice in {**VOICES, **(voices or {})}.items()}
        self._pool = SpeechPool(ENGINE, workers)
        self.sound_version = repr((SOUND, installed("espeakng_loader"), rate_wpm, pitch, sorted(self._voices.items())))

    async def start(self) -> None:
        """Starts the workers and waits for them; does nothing when they run.

        Raises ``MissingExtra``, and ``ProviderError`` when they do not become ready.
        """
        if importlib.util.find_spec("espeakng_loader") is None:
            raise MissingExtra("local", "Offline text to speech (espeak-ng)")
        await self._pool.start()

    async def close(self) -> None:
        """Ends the workers; requests under way raise ``ProviderError``. May be called twice."""
        await self._pool.close()

    async def synthesize(
        self, text: str, *, language: str, sample_rate: int, voice: str = ""
    ) -> AsyncGenerator[Sound, None]:
        """See ``Synthesizer``. ``voice`` is an espeak voice with or without a variant (``en-us+f3``, ``+m2``).

        Raises ``ProviderRefused`` (``tts.too_long``, ``tts.language``, ``tts.voice``, ``tts.sample_rate``),
        ``ProviderTimeout`` (``tts.unavailable``) while no worker runs and ``ProviderError``
        (``tts.worker_lost``, ``tts.failed``, ``tts.closed``).
        """
        self._pool.check(text, sample_rate)
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent
        chosen = self._voice(language, voice)
        sounds = self._pool.speak(
            lambda key: Speak(key, text, language, chosen, sample_rate, self._rate_wpm, self._pitch)
        )
        async with aclosing(sounds):
            async for sound in sounds:
                yield sound

    @property
    def pids(self) -> list[int]:
        """The worker processes that run now."""
        return self._pool.pids

    def _voice(self, language: str, voice: str) -> str:
        if voice and not voice.startswith("+"):
            return voice
        tag = language.lower()
        usual = self._voices.get(tag) or self._voices.get(tag.partition("-")[0], "")
        return usual.partition("+")[0] + voice if voice else usual
