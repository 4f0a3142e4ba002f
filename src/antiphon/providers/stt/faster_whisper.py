"""Speech to text by a Whisper model on this machine: the ``faster-whisper`` package (extra ``whisper``), no service.

An utterance is recognised once it is over, in a worker process, so there are no partials, and what that takes is
heard as silence before each answer: measure it with the model and the machine that are meant. The words come with how
sure the model is of them, and what it makes up out of silence is left out (``whisper_text``).

Models are not part of the package. ``model`` is a folder with a model in CTranslate2's format, or a name of the Hub's,
which is fetched only where ``download = "allowed"`` says that it may be.

Error codes: ``stt.model_missing`` and ``stt.model_broken`` (from ``start``, saying how to get one), ``stt.language``
(an English model and another language), ``stt.busy``, ``stt.timeout_total``, ``stt.worker_lost``, ``stt.unavailable``,
``stt.failed``, ``stt.closed``.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from antiphon.errors import MissingExtra, ProviderError
from antiphon.providers.settings import convert
from antiphon.providers.stt.faster_whisper_messages import Setup
from antiphon.providers.stt.faster_whisper_pool import NAME, Pool
from antiphon.providers.stt.utterances import PIECE_MS, Clip, Streams, UtteranceStream, Words, check_rate
from antiphon.providers.stt.whisper_text import code_of, tag_of
from antiphon.runtime.ports import Heard

log = logging.getLogger(__name__)

LOADED_S = 120.0
"""The largest model, from a slow disk."""

FETCHED_S = 1800.0
"""Three gigabytes over a slow line."""

MOST_THREADS = 4
"""Whisper gains little from more, and the media path needs some."""


Tag = Annotated[str, Meta(min_length=2, max_length=35)]


class FasterWhisperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``model``: a folder, or a name such as ``small``, ``large-v3-turbo`` or ``owner/repository``.

    ``download``: ``allowed`` lets a model that is not on this machine be fetched from the Hugging Face Hub (75 MB to
    3 GB, once; ``folder`` is where it is kept). ``workers``: processes, each with a model of its own. ``threads`` of
    each of them, 0 for one less than the cores and at most 4 in all. ``beam_size`` 1 is quickest. ``language``:
    ``call`` tells the model what the call expects; with ``detect`` the model finds it out, which takes another pass.
    ``languages``: the BCP 47 tags that callers may speak, which decide what tag "en" means. ``no_speech``: the
    probability of silence from which unsure words are not believed (1: never). ``total_s``: how long an utterance may
    take, the wait for a worker included; a worker that computes for twice as long is replaced.
    """

    model: Annotated[str, Meta(min_length=1, max_length=500)] = "small"
    download: Literal["never", "allowed"] = "never"
    folder: str = ""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    compute_type: Annotated[str, Meta(max_length=20)] = "int8"
    workers: Annotated[int, Meta(ge=1, le=16)] = 1
    threads: Annotated[int, Meta(ge=0, le=64)] = 0
    beam_size: Annotated[int, Meta(ge=1, le=10)] = 1
    language: Literal["call", "detect"] = "call"
    languages: Annotated[tuple[Tag, ...], Meta(max_length=20)] = ()
    prompt: Annotated[str, Meta(max_length=2000)] = ""
    keywords: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    no_speech: Annotated[float, Meta(gt=0, le=1)] = 0.6
    total_s: Annotated[float, Meta(gt=0, le=600)] = 15.0


class FasterWhisperTranscriber:
    """The ``Transcriber`` port over ``faster_whisper.WhisperModel``."""

    name = NAME
    piece_ms = PIECE_MS
    final_ms = 5_000
    """Recognised when it is over, by this machine: without a GPU that takes seconds."""

    def __init__(self, settings: FasterWhisperSettings) -> None:
        self.settings = settings
        self._pool = Pool(_setup(settings), settings.workers)
        self._streams = Streams(self.name)
        self._open = False

    async def start(self) -> None:
        """Starts the processes and waits until the first has its model; does nothing when they run.

        Raises ``MissingExtra``, and ``ProviderError`` (``stt.model_missing``, ``stt.model_broken``,
        ``stt.unavailable``).
        """
        if importlib.util.find_spec("faster_whisper") is None:
            raise MissingExtra("whisper", "Speech to text by a Whisper model of your own (faster-whisper)")
        if self.settings.download == "allowed":
            log.info("faster_whisper: the model %s is fetched if it is not there yet", self.settings.model)
        try:
            await self._pool.start(FETCHED_S if self.settings.download == "allowed" else LOADED_S)
        except BaseException:
            await self.close()
            raise
        self._open = True

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> UtteranceStream:
        """See ``Transcriber``. Raises ``ProviderError`` before ``start`` and for a rate outside 8 to 48 kHz."""
        if not self._open:
            raise ProviderError("the transcriber is not started", provider=self.name, stage="stt", code="stt.closed")
        check_rate(sample_rate, self.name)
        return self._streams.open(
            sample_rate=sample_rate, language=language, on_heard=on_heard, recognise=self._recognise
        )

    async def close(self) -> None:
        """Closes all streams and ends all processes. May be called twice."""
        self._open = False
        await self._streams.close()
        await self._pool.close()

    @property
    def pids(self) -> list[int]:
        """The worker processes that run now."""
        return self._pool.pids

    @property
    def load_ms(self) -> float:
        """How long the first worker took to load its model; 0 before that."""
        return self._pool.load_ms

    async def _recognise(self, clip: Clip, tell: Callable[[str], None]) -> Words:
        told = code_of(clip.language) if self.settings.language == "call" else ""
        final = await self._pool.recognise(clip.pcm, clip.sample_rate, told, self.settings.total_s)
        if final.error:
            text = final.reason or "the model failed"
            raise ProviderError(text, provider=self.name, stage="stt", code=final.error, retryable=False)
        language = tag_of(final.language, (clip.language, *self.settings.languages)) if final.language else ""
        return Words(final.text, language, final.confidence, final.language_confidence)


def _setup(settings: FasterWhisperSettings) -> Setup:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = settings.threads or max(1, min(MOST_THREADS, cores - 1) // settings.workers)
    return Setup(
        model=settings.model,
        device=settings.device,
        compute_type=settings.compute_type,
        threads=threads,
        beam_size=settings.beam_size,
        prompt=settings.prompt,
        keywords=", ".join(settings.keywords),
        no_speech=settings.no_speech,
        download=settings.download == "allowed",
        folder=settings.folder,
        stuck_s=2 * settings.total_s,
    )


def build(settings: dict[str, object]) -> FasterWhisperTranscriber:
    """``[stt] provider = "faster_whisper"``. Raises ``ConfigError``."""
    return FasterWhisperTranscriber(convert(settings, FasterWhisperSettings, "[stt] faster_whisper"))
