"""Speech to text by pocketsphinx: offline English, no download beyond its wheel.

It hears what it was told to expect: the application's own sentences well, paraphrases of them half as well,
anything else badly. So show partials, confirm, and offer typing or the keypad. Only English is supported: an
utterance in another language (``hint``) ends with the error ``stt.language``, since English words made of
Hindi sounds would be worse than none.

Decoding runs in worker processes: ``pocketsphinx_worker`` is what they do, ``pocketsphinx_pool`` keeps them
alive, ``pocketsphinx_stream`` is one caller's ear.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec

from antiphon.errors import ConfigError, MissingExtra, ProviderError, ProviderTimeout
from antiphon.providers.settings import convert
from antiphon.providers.stt.pocketsphinx_messages import Setup
from antiphon.providers.stt.pocketsphinx_pool import Pool
from antiphon.providers.stt.pocketsphinx_stream import COALESCE_MS, PocketsphinxStream
from antiphon.providers.stt.utterances import check_rate
from antiphon.runtime.ports import Heard, Transcriber
from antiphon.runtime.recording import hear

READY_S = 20.0
"""The first start with new phrases makes a language model, half a second on a quiet machine; later ones load it."""

DECODERS = 4
"""Loaded before the fork; a worker that needs more makes them (15 to 20 ms each)."""


class PocketsphinxSettings(msgspec.Struct, frozen=True):
    workers: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    phrases: list[str] = []
    phrases_file: str = ""
    background_words: Annotated[int, msgspec.Meta(ge=0, le=20_000)] = 2000
    cache: str = ""


def build(settings: Mapping[str, object]) -> PocketsphinxTranscriber:
    """``phrases_file``: a text file with a sentence on each line, or a knowledge base (TOML).

    Without ``phrases`` and ``phrases_file`` the shipped demo knowledge base is expected. Raises ``ConfigError``
    for a setting that does not exist or is out of range, and for a file that cannot be read.
    """
    values = convert(settings, PocketsphinxSettings, "[stt] pocketsphinx")
    phrases = list(values.phrases)
    if values.phrases_file:
        phrases += read_phrases(Path(values.phrases_file))
    elif not phrases:
        with resources.as_file(resources.files("antiphon.data") / "kb" / "admissions.toml") as demo:
            phrases = read_phrases(demo)
    return PocketsphinxTranscriber(
        phrases=phrases, workers=values.workers, background_words=values.background_words, cache=values.cache
    )


def read_phrases(path: Path) -> list[str]:
    """The sentences callers may say, from a text file or from a knowledge base. Raises ``ConfigError``."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return _knowledge_phrases(tomllib.loads(text))
        return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"[stt] pocketsphinx: phrases_file {path}: {error}", code="config.bad_value") from error


def _knowledge_phrases(knowledge: Mapping[str, Any]) -> list[str]:
    """Questions, their paraphrases, and how callers go on from one to the next."""
    phrases: list[str] = []
    subjects: set[str] = set()
    for entry in knowledge.get("entry", []):
        phrases += [entry.get("question", ""), *entry.get("paraphrases", [])]
        subjects |= {entry.get("audience", ""), entry.get("topic", "")}
    for subject in sorted(subjects - {""}):
        phrases += [f"{lead} {subject}" for lead in ("and for", "what about", "and what about", "tell me about the")]
    return [phrase for phrase in phrases if phrase]


class PocketsphinxTranscriber:
    """The ``Transcriber`` port over pocketsphinx.

    ``phrases`` are the sentences callers may say. ``workers``: processes, 0 for one less than the cores (at
    least one). ``background_words``: how many of the most frequent English words are known besides.
    ``cache``: the directory for language models, the user's cache directory if empty.
    """

    name = "pocketsphinx"
    final_expected_ms = 50
    """It decodes while somebody speaks, on this machine: 20 to 35 ms were measured."""
    hears = ("en",)
    piece_ms = COALESCE_MS

    def __init__(
        self,
        *,
        phrases: Iterable[str] = (),
        workers: int = 0,
        background_words: int = 2000,
        cache: str = "",
    ) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._pool = Pool(Setup(list(phrases), background_words, cache, DECODERS), workers or max(1, cores - 1))
        self._streams: set[PocketsphinxStream] = set()
        self._open = False
        self.timings_ms: dict[str, float] = {}
        """Of the first start: ``files`` (language model and dictionary), ``models`` (loading), ``total``."""

    async def start(self) -> None:
        """Starts the processes and waits until the first worker hears; does nothing when they run.

        Raises ``MissingExtra``, and ``ProviderError`` (``stt.unavailable``) when they do not become ready.
        """
        if importlib.util.find_spec("pocketsphinx") is None:
            raise MissingExtra("local", "Offline speech to text (pocketsphinx)")
        began = time.monotonic()
        self._pool.start()
        self._open = True
        try:
            await asyncio.wait_for(self._pool.ready.wait(), READY_S)
        except TimeoutError:
            await self.close()
            message = f"the pocketsphinx workers did not become ready within {READY_S:g} s"
            raise ProviderTimeout(message, provider=self.name, stage="stt", code="stt.unavailable") from None
        except asyncio.CancelledError:
            await self.close()
            raise
        if self._pool.failure:
            await self.close()
            raise ProviderError(
                self._pool.failure, provider=self.name, stage="stt", code="stt.unavailable", retryable=False
            )
        if self._pool.loaded is not None and not self.timings_ms:
            loaded = self._pool.loaded
            total = (time.monotonic() - began) * 1e3
            self.timings_ms = {"files": loaded.files_ms, "models": loaded.models_ms, "total": total}

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> PocketsphinxStream:
        """See ``Transcriber``. Raises ``ProviderError`` before ``start`` and for a rate outside 8 to 48 kHz."""
        if not self._open:
            raise ProviderError("the transcriber is not started", provider=self.name, stage="stt", code="stt.closed")
        check_rate(sample_rate, self.name)
        stream = PocketsphinxStream(self._pool, sample_rate, language, on_heard, self._streams.discard)
        self._streams.add(stream)
        return stream

    async def close(self) -> None:
        """Closes all streams and ends all processes. May be called twice."""
        self._open = False
        for stream in tuple(self._streams):
            stream.close()
        await self._pool.close()

    @property
    def pids(self) -> list[int]:
        """The processes that run now: the nursery, then the workers."""
        return [pid for pid in (self._pool.nursery_pid, *self._pool.worker_pids) if pid]


async def transcribe(pcm: bytes, sample_rate: int, *, transcriber: Transcriber, language: str = "en-IN") -> str:
    """The text of a whole recording by any started ``Transcriber``: one utterance, as fast as it can.

    Raises ``ProviderError`` with the transcriber's code when it cannot be finished.
    """
    return (await hear(transcriber, pcm, sample_rate, language)).text
