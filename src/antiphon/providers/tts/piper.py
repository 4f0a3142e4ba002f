"""Text to speech by Piper: offline neural voices, one file per voice (github.com/OHF-Voice/piper1-gpl).

The package (GPL-3, the extra ``piper``) is loaded only by worker processes (``piper_worker``). It brings no voice:
``python -m piper.download_voices`` fetches one, and lists them. Piper computes a sentence at a time, so its first
sound comes when the first sentence is done; the time of each word is told by voices that were made so alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from antiphon.errors import UNUSABLE, ConfigError, MissingExtra, ProviderRefused
from antiphon.providers.settings import convert
from antiphon.providers.tts.piper_worker import Load, Speak
from antiphon.providers.tts.speech_pool import Engine, SpeechPool, installed
from antiphon.runtime.ports import Sound

WHERE = "[tts] piper"
READY_S = 30.0
"""Loading takes half a second, and about as much for each voice."""

STALL_S = 10.0
"""A worker that says nothing for this long is stuck: a long sentence takes about a second on one core."""

SOUND = 1
"""Raise it when the same request shall give another sound: phrases that were kept are spoken again then."""

HOW = (
    'get one with `python -m piper.download_voices en_US-lessac-medium` (after `pip install "antiphon[piper]"`) and '
    'set model = "en_US-lessac-medium.onnx"'
)


class PiperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``model``: the path of a voice (``.onnx``, with its ``.onnx.json`` beside it). ``voices`` maps a language
    (``hi-IN`` or ``hi``) to another; a language that is not there is spoken by ``model`` if that is of the language,
    and refused otherwise. ``speed``: 1 is the voice's own. ``speaker``: of a voice with several; -1 is its own
    choice. ``threads``: how many compute one sentence, in each of ``workers`` processes.
    """

    model: str = ""
    voices: dict[str, str] = {}
    speaker: Annotated[int, Meta(ge=-1, le=10_000)] = -1
    speed: Annotated[float, Meta(ge=0.25, le=4)] = 1.0
    volume: Annotated[float, Meta(gt=0, le=2)] = 1.0
    workers: Annotated[int, Meta(ge=1, le=16)] = 1
    threads: Annotated[int, Meta(ge=1, le=64)] = 2


class _Language(msgspec.Struct):
    code: str = ""


class _Espeak(msgspec.Struct):
    voice: str = ""


class _Description(msgspec.Struct):
    """What is needed of a voice's ``.onnx.json``."""

    espeak: _Espeak
    phoneme_id_map: dict[str, list[int]]
    language: _Language = msgspec.field(default_factory=_Language)
    num_speakers: int = 1


class _Voice(msgspec.Struct, frozen=True):
    path: str
    name: str
    language: str
    """The first part of its tag, such as ``en``."""
    speakers: int


def build(settings: Mapping[str, object]) -> PiperSynthesizer:
    """Raises ``ConfigError`` for wrong settings and a voice that is not there, and says how to get one."""
    return PiperSynthesizer(convert(settings, PiperSettings, WHERE))


class PiperSynthesizer:
    """The ``Synthesizer`` port over Piper; see ``PiperSettings``."""

    name = "piper"

    def __init__(self, settings: PiperSettings) -> None:
        self.settings = settings
        if not settings.model and not settings.voices:
            raise ConfigError(f"{WHERE}: no voice: {HOW}", code="config.missing_value")
        self._model = _voice(settings.model) if settings.model else None
        self._voices = {tag.lower(): _voice(path) for tag, path in settings.voices.items()}
        known = [*self._voices.values(), *([self._model] if self._model else [])]
        self._by_name = {voice.name.lower(): voice for voice in known}
        models = list(dict.fromkeys(voice.path for voice in known))
        said = (settings.speaker, settings.speed, settings.volume, settings.model, sorted(settings.voices.items()))
        self.sound_version = repr((SOUND, installed("piper-tts"), list(map(_identity, models)), said))
        opening = msgspec.msgpack.encode(Load(models, settings.threads))
        self._pool = SpeechPool(
            Engine(
                provider=self.name,
                title="Piper",
                module="antiphon.providers.tts.piper_worker",
                ready_s=READY_S,
                opening=opening,
                stall_s=STALL_S,
            ),
            settings.workers,
        )

    async def start(self) -> None:
        """Starts the workers and waits until their voices are loaded; does nothing when they run.

        Raises ``MissingExtra``, ``ConfigError`` (``config.voice``) for a file that is no voice, and ``ProviderError``
        when no worker becomes ready.
        """
        if importlib.util.find_spec("piper") is None:
            raise MissingExtra("piper", "Offline text to speech (Piper)")
        await self._pool.start()

    async def close(self) -> None:
        """Ends the workers; requests under way raise ``ProviderError``. May be called twice."""
        await self._pool.close()

    async def synthesize(
        self, text: str, *, language: str, sample_rate: int, voice: str = ""
    ) -> AsyncGenerator[Sound, None]:
        """See ``Synthesizer``. ``voice`` is one of the configured files' names (``en_US-lessac-medium``), the number of
        a speaker (``#3``), or both.

        Raises ``ProviderRefused`` (``tts.too_long``, ``tts.language``, ``tts.voice``, ``tts.sample_rate``),
        ``ProviderTimeout`` (``tts.unavailable``, ``tts.timeout_stalled``) and ``ProviderError``
        (``tts.worker_lost``, ``tts.failed``, ``tts.closed``).
        """
        self._pool.check(text, sample_rate)
        chosen, speaker = self._choose(language, voice)
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent
        slower, volume = 1 / self.settings.speed, self.settings.volume
        sounds = self._pool.speak(
            lambda key: Speak(key, text, language, chosen.path, sample_rate, speaker, slower, volume)
        )
        async with aclosing(sounds):
            async for sound in sounds:
                yield sound

    @property
    def pids(self) -> list[int]:
        """The worker processes that run now."""
        return self._pool.pids

    def _choose(self, language: str, voice: str) -> tuple[_Voice, int]:
        name, _, number = voice.partition("#")
        chosen = self._by_name.get(name.lower()) if name else self._usual(language)
        if chosen is None and name:
            raise self._refused(f"no voice {name!r}: it has {', '.join(sorted(self._by_name))}", "tts.voice")
        if chosen is None:
            raise self._refused(f"no voice for {language!r}: add one to [tts] voices", "tts.language")
        speaker = self.settings.speaker
        if number:
            speaker = int(number) if number.isdecimal() and len(number) < 6 else chosen.speakers
            if speaker >= chosen.speakers:
                raise self._refused(f"{chosen.name} has {chosen.speakers} speakers, counted from #0", "tts.voice")
        return chosen, min(speaker, chosen.speakers - 1)

    def _usual(self, language: str) -> _Voice | None:
        tag = language.lower().replace("_", "-")
        primary = tag.partition("-")[0]
        listed = self._voices.get(tag) or self._voices.get(primary)
        if listed is not None:
            return listed
        return self._model if self._model is not None and primary in {"", self._model.language} else None

    def _refused(self, text: str, code: str) -> ProviderRefused:
        return ProviderRefused(text, provider=self.name, stage="tts", code=code)


def _voice(path: str) -> _Voice:
    """Looks at a voice's files. Raises ``ConfigError``."""
    model = Path(path).expanduser()
    described = Path(f"{model}.json")
    for file in (model, described):
        if not file.is_file():
            raise ConfigError(f"{WHERE}: there is no file {file}: {HOW}", code="config.missing_voice")
    try:
        text = described.read_bytes()
        description = msgspec.json.decode(text, type=_Description)
    except (OSError, *UNUSABLE) as error:
        raise ConfigError(f"{WHERE}: {described} describes no Piper voice: {error}", code="config.voice") from None
    language = description.language.code or description.espeak.voice
    return _Voice(
        path=str(model.resolve()),
        name=model.name.removesuffix(".onnx"),
        language=language.lower().replace("_", "-").partition("-")[0],
        speakers=max(1, description.num_speakers),
    )


def _identity(model: str) -> list[tuple[str, int, int]]:
    """Another voice in the same files has another."""
    files = [Path(model), Path(f"{model}.json")]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
