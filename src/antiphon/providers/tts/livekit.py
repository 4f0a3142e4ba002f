"""A synthesizer over any LiveKit Agents TTS plugin: ``livekit.plugins.cartesia:TTS`` and the like.

A segment is one request (``synthesize``), or with ``mode = "stream"`` one of the plugin's streams, which some vendors
give word timings for and which keep a socket open between segments. Sound is resampled to the rate asked for; closing
the iterator closes the plugin's stream. The voice is one of the plugin's options, and ``languages`` has other options
for other languages; the ``voice`` argument is not used.

Error codes: ``tts.plugin``, ``tts.unauthorized``, ``tts.quota``, ``tts.rate_limited``, ``tts.not_found``,
``tts.bad_request``, ``tts.server``, ``tts.unreachable``, ``tts.cut``, ``tts.timeout_first_byte``,
``tts.timeout_stalled``, ``tts.timeout_total``, ``tts.too_long``, ``tts.too_large``, ``tts.sample_rate``,
``tts.closed``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from antiphon.errors import ProviderError
from antiphon.media.resample import RATES, Resampler
from antiphon.providers.failures import failed, refused
from antiphon.providers.livekit_plugin import NAME, Plugin, PluginSettings, Seconds, closed
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Sound, WordMark

if TYPE_CHECKING:
    from antiphon.providers.http import Patience

MAX_CHARS = 2000
"""Of one segment: about two minutes of speech."""

MAX_AUDIO_S = 600
"""Of one segment. A plugin that gives more has run away."""

TIMED = "lk.timed_transcripts"
"""Where a frame has the words that begin in it (``livekit.agents.types.USERDATA_TIMED_TRANSCRIPT``)."""


class LivekitSynthesizerSettings(PluginSettings, frozen=True, kw_only=True):
    """See ``PluginSettings``.

    Seconds: ``first_s`` before the first sound, ``between_s`` for each wait after it, ``total_s`` for all waiting.
    """

    mode: Literal["request", "stream"] = "request"
    first_s: Seconds = 4.0
    between_s: Seconds = 4.0
    total_s: Seconds = 30.0


class LivekitSynthesizer:
    """The ``Synthesizer`` port over a plugin, or over one object of LiveKit's (``given``)."""

    name = NAME

    def __init__(self, settings: LivekitSynthesizerSettings, *, given: object | None = None) -> None:
        self.settings = settings
        self.plugin = Plugin("tts", settings, given)

    async def start(self) -> None:
        """Raises ``MissingExtra`` and ``ConfigError``."""
        await self.plugin.start()

    async def synthesize(
        self, text: str, *, language: str, sample_rate: int, voice: str = ""
    ) -> AsyncGenerator[Sound, None]:
        """See ``Synthesizer``. Raises ``ProviderError`` with the module's codes."""
        from antiphon.providers.http import Patience, Waits  # noqa: PLC0415 - imports aiohttp

        if len(text) > MAX_CHARS:
            message = f"a text of {len(text)} characters is over the cap of {MAX_CHARS}: speak it in segments"
            raise refused(message, "too_long", self.name, "tts")
        if sample_rate not in RATES:
            raise refused(f"a sample rate of {sample_rate} Hz is none of {RATES}", "sample_rate", self.name, "tts")
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent
        if not any(character.isalnum() for character in text):
            return  # LiveKit takes a text without sound for a failure
        settings = self.settings
        waits = Waits(first_s=settings.first_s, between_s=settings.between_s, total_s=settings.total_s)
        patience = Patience(waits, self.name, "tts")
        async with (
            aclosing(self._frames(text, language, patience)) as frames,
            aclosing(_sounds(frames, text, sample_rate)) as sounds,
        ):
            async for sound in sounds:
                yield sound

    async def close(self) -> None:
        await self.plugin.close()

    async def _frames(self, text: str, language: str, patience: Patience) -> AsyncGenerator[Any, None]:
        """The plugin's ``rtc.AudioFrame``s."""
        plugin, settings = self.plugin, self.settings
        tts = plugin.of(language)
        options = plugin.options()
        if settings.mode == "stream" and tts.capabilities.streaming:
            stream = plugin.call(tts.stream, conn_options=options)
            plugin.call(stream.push_text, text)
            plugin.call(stream.end_input)
        else:
            stream = plugin.call(tts.synthesize, text, conn_options=options)
        seconds = 0.0
        try:
            while (event := await self._next(stream, patience)) is not None:
                patience.useful = True
                seconds += event.frame.samples_per_channel / event.frame.sample_rate
                if seconds > MAX_AUDIO_S:
                    raise failed(f"a segment of over {MAX_AUDIO_S} s of sound", "too_large", self.name, "tts")
                yield event.frame
        finally:
            await closed(stream.aclose())

    async def _next(self, stream: Any, patience: Patience) -> Any:
        try:
            return await patience.wait(self.plugin.next(stream))
        except ProviderError:
            raise
        except Exception as error:
            raise self.plugin.error(error, "cut" if patience.useful else "unreachable") from error


async def _sounds(frames: AsyncGenerator[Any, None], text: str, sample_rate: int) -> AsyncGenerator[Sound, None]:
    """PCM at ``sample_rate``, with the words that begin in it where the plugin tells."""
    resampler: Resampler | None = None
    words = Words(text, sample_rate)
    given = 0
    async for frame in frames:
        if resampler is None:
            if frame.sample_rate not in RATES:
                message = f"the plugin speaks at {frame.sample_rate} Hz, which is none of {RATES}: set its sample_rate"
                raise refused(message, "sample_rate", NAME, "tts")
            resampler = Resampler(frame.sample_rate, sample_rate)
        words.take(frame.userdata.get(TIMED) or ())
        pcm = resampler.process(mono(frame))
        if pcm:
            given += len(pcm) // 2
            yield Sound(pcm, words.due(given))
    if resampler is not None and (pcm := resampler.process(b"", last=True)):
        yield Sound(pcm, words.due(given + len(pcm) // 2))


def mono(frame: Any) -> bytes:
    """A frame's PCM; several channels are averaged."""
    pcm = bytes(frame.data.cast("b"))
    if frame.num_channels == 1:
        return pcm
    wave = np.frombuffer(pcm, "<i2").reshape(-1, frame.num_channels)
    mixed: bytes = (wave.sum(axis=1, dtype=np.int32) // frame.num_channels).astype("<i2").tobytes()
    return mixed


class Words:
    """Finds in the text what the plugin says is spoken when. Seconds count from the segment's beginning."""

    def __init__(self, text: str, sample_rate: int) -> None:
        self._text = text
        self._rate = sample_rate
        self._from = 0
        self._waiting: list[WordMark] = []
        self._last = 0

    def take(self, timed: Any) -> None:
        """``livekit.agents.types.TimedString``s. What is not in the text, or begins no word of it, is left out."""
        for each in timed:
            word, start = str(each).strip(), each.start_time
            at = self._text.find(word, self._from) if word else -1
            if at < 0 or not isinstance(start, int | float):
                continue
            self._from = at + len(word)
            if at == 0 or self._text[at - 1].isspace():
                self._last = max(self._last, round(start * self._rate))
                self._waiting.append(WordMark(at, self._last))

    def due(self, given: int) -> tuple[WordMark, ...]:
        """The words that begin within the first ``given`` samples and were not told yet."""
        due = tuple(word for word in self._waiting if word.sample < given)
        self._waiting = self._waiting[len(due) :]
        return due


def build(settings: dict[str, object]) -> LivekitSynthesizer:
    """``[tts] provider = "livekit"``. Raises ``ConfigError``, also where a named key is not set."""
    return LivekitSynthesizer(convert(settings, LivekitSynthesizerSettings, f"[tts] {NAME}"))
