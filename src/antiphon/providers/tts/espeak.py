"""Text to speech by espeak-ng: offline, over a hundred languages, the first sound within a millisecond.

It sounds like a machine; what it says is clear. The library (GPL-3, the extra ``local``) is loaded only by
worker processes (``espeak_worker``). This module starts and supervises them and hands requests out.
"""

from __future__ import annotations

import asyncio
import collections
import importlib.util
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated

import msgspec

from antiphon.errors import MissingExtra, ProviderError, ProviderRefused, ProviderTimeout
from antiphon.media.resample import RATES
from antiphon.providers.settings import convert
from antiphon.providers.tts.espeak_worker import Cancel, Done, Piece, Ready, Report, Request, Speak
from antiphon.providers.workers import Channel, RestartDelay, spawn
from antiphon.runtime.ports import Sound, WordMark

log = logging.getLogger("antiphon.providers.tts.espeak")

MAX_CHARS = 2000
"""Of one segment: about two minutes of speech, so what waits for a slow reader is bounded too."""

READY_S = 5.0
"""A worker that is not ready by then is given up; a request waits no longer for one."""

VOICES = {"en": "en-us+edward"}
"""A voice per language (a whole tag or its first part) where espeak's own choice is not the best one.

espeak has no Indian English. Of some sixty English voices and variants over mu-law this one (a Klatt
synthesizer) is understood best by the embedded recogniser: 11 words of 100 wrong, 43 with espeak's own choice.
"""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Report).decode


class EspeakSettings(msgspec.Struct, frozen=True):
    workers: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    rate_wpm: Annotated[int, msgspec.Meta(ge=80, le=450)] = 165
    pitch: Annotated[int, msgspec.Meta(ge=0, le=99)] = 50
    voices: dict[str, str] = {}


def build(settings: Mapping[str, object]) -> EspeakSynthesizer:
    """Raises ``ConfigError`` for a setting that does not exist or is out of range."""
    values = convert(settings, EspeakSettings, "[tts] espeak")
    return EspeakSynthesizer(workers=values.workers, rate_wpm=values.rate_wpm, pitch=values.pitch, voices=values.voices)


class _Request:
    """What a worker has said about one request and nobody has taken yet."""

    __slots__ = ("done", "error", "news", "sounds", "worker")

    def __init__(self, worker: _Worker) -> None:
        self.worker = worker
        self.sounds: collections.deque[Sound] = collections.deque()
        self.done = False
        self.error: ProviderError | None = None
        self.news: asyncio.Future[None] | None = None

    def tell(self) -> None:
        if self.news is not None and not self.news.done():
            self.news.set_result(None)

    async def next(self) -> Sound | None:
        """The next sound; ``None`` at the end. Raises the request's error."""
        while not self.sounds:
            if self.error is not None:
                raise self.error
            if self.done:
                return None
            self.news = asyncio.get_running_loop().create_future()
            await self.news
        return self.sounds.popleft()


class _Worker:
    """One worker process and the requests it has."""

    def __init__(self, owner: EspeakSynthesizer) -> None:
        self._owner = owner
        self.requests: dict[int, _Request] = {}
        self.ready = False
        self.started = time.monotonic()
        sock, self.child = spawn("antiphon.providers.tts.espeak_worker")
        self._channel = Channel(sock, self._on_message, self._on_lost)

    def send(self, request: Request) -> None:
        self._channel.send(_encode(request))

    async def close(self) -> None:
        """The pipe's end is what an idle worker dies of; a busy or stuck one is killed."""
        self._channel.close()
        self.child.kill()
        await self.child.reap()

    def _on_message(self, payload: bytes) -> None:
        report = _decode(payload)
        if isinstance(report, Ready):
            self.ready = True
            self._owner.on_ready()
            return
        request = self.requests.get(report.id)
        if request is None:
            return  # cancelled; what was on its way still comes
        if isinstance(report, Piece):
            request.sounds.append(Sound(report.pcm, tuple(WordMark(char, sample) for char, sample in report.words)))
        else:
            del self.requests[report.id]
            request.done = True
            if report.code:
                request.error = _refusal(report)
        request.tell()

    def _on_lost(self, reason: str) -> None:
        lost, self.requests = self.requests, {}
        for request in lost.values():
            request.error = ProviderError(
                f"the espeak-ng worker {reason}", provider="espeak", stage="tts", code="tts.worker_lost"
            )
            request.tell()
        self._owner.on_lost(self)


def _refusal(done: Done) -> ProviderError:
    if done.code == "tts.failed":
        return ProviderError(done.reason, provider="espeak", stage="tts", code=done.code)
    return ProviderRefused(done.reason, provider="espeak", stage="tts", code=done.code)


class EspeakSynthesizer:
    """The ``Synthesizer`` port over espeak-ng in ``workers`` processes.

    ``rate_wpm``: 80 to 450 words a minute; ``pitch``: 0 to 99. ``voices`` maps a language (``hi-IN`` or ``hi``)
    to an espeak voice, with a variant if wanted (``hi+f2``).
    """

    name = "espeak"

    def __init__(
        self, *, workers: int = 1, rate_wpm: int = 165, pitch: int = 50, voices: Mapping[str, str] | None = None
    ) -> None:
        self._count = workers
        self._rate_wpm = rate_wpm
        self._pitch = pitch
        self._voices = {tag.lower(): voice for tag, voice in {**VOICES, **(voices or {})}.items()}
        self._workers: list[_Worker] = []
        self._delay = RestartDelay()
        self._ready = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_id = 0
        self._started = False

    async def start(self) -> None:
        """Starts the workers and waits for them; does nothing when they run.

        Raises ``MissingExtra``, and ``ProviderError`` when they do not become ready.
        """
        if self._started:
            await self._wait_ready()
            return
        if importlib.util.find_spec("espeakng_loader") is None:
            raise MissingExtra("local", "Offline text to speech (espeak-ng)")
        self._started = True
        try:
            self._workers = [_Worker(self) for _ in range(self._count)]
            await self._wait_ready()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends the workers; requests under way raise ``ProviderError``. May be called twice."""
        self._started = False
        self._ready.clear()
        workers, self._workers = self._workers, []
        for task in self._tasks:
            task.cancel()
        for worker in workers:
            for request in worker.requests.values():
                request.error = ProviderError(
                    "the synthesizer was closed", provider="espeak", stage="tts", code="tts.closed", retryable=False
                )
                request.tell()
        await asyncio.gather(*(worker.close() for worker in workers), *self._tasks, return_exceptions=True)

    async def synthesize(
        self, text: str, *, language: str, sample_rate: int, voice: str = ""
    ) -> AsyncGenerator[Sound, None]:
        """See ``Synthesizer``. ``voice`` is an espeak voice with or without a variant (``en-us+f3``, ``+m2``).

        Raises ``ProviderRefused`` (``tts.too_long``, ``tts.language``, ``tts.voice``, ``tts.sample_rate``),
        ``ProviderTimeout`` (``tts.unavailable``) while no worker runs and ``ProviderError``
        (``tts.worker_lost``, ``tts.failed``, ``tts.closed``).
        """
        if len(text) > MAX_CHARS:
            message = f"a text of {len(text)} characters is over the cap of {MAX_CHARS}: speak it in segments"
            raise ProviderRefused(message, provider=self.name, stage="tts", code="tts.too_long")
        if sample_rate not in RATES:
            message = f"a sample rate of {sample_rate} Hz is none of {RATES}"
            raise ProviderRefused(message, provider=self.name, stage="tts", code="tts.sample_rate")
        await self._wait_ready()
        worker = min((each for each in self._workers if each.ready), key=lambda each: len(each.requests))
        self._last_id = key = self._last_id + 1
        request = worker.requests[key] = _Request(worker)
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent
        worker.send(Speak(key, text, language, self._voice(language, voice), sample_rate, self._rate_wpm, self._pitch))
        try:
            while (sound := await request.next()) is not None:
                yield sound
        finally:
            if worker.requests.pop(key, None) is not None:
                worker.send(Cancel(key))

    @property
    def pids(self) -> list[int]:
        """The worker processes that run now."""
        return [worker.child.pid for worker in self._workers]

    def _voice(self, language: str, voice: str) -> str:
        if voice and not voice.startswith("+"):
            return voice
        tag = language.lower()
        usual = self._voices.get(tag) or self._voices.get(tag.partition("-")[0], "")
        return usual.partition("+")[0] + voice if voice else usual

    async def _wait_ready(self) -> None:
        if self._ready.is_set():
            return
        if not self._started:
            raise ProviderError("the synthesizer is not started", provider=self.name, stage="tts", code="tts.closed")
        try:
            await asyncio.wait_for(self._ready.wait(), READY_S)
        except TimeoutError:
            message = f"no espeak-ng worker became ready within {READY_S:g} s"
            raise ProviderTimeout(message, provider=self.name, stage="tts", code="tts.unavailable") from None

    def on_ready(self) -> None:
        """A worker can be spoken to."""
        self._ready.set()

    def on_lost(self, worker: _Worker) -> None:
        """A worker is gone: bury it and start another."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        if not any(each.ready for each in self._workers):
            self._ready.clear()
        task = asyncio.get_running_loop().create_task(self._replace(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, worker: _Worker) -> None:
        worker.child.kill()
        burial = asyncio.get_running_loop().create_task(worker.child.reap())
        lived = time.monotonic() - worker.started
        replaced = False
        try:
            while self._started and not replaced:
                await asyncio.sleep(self._delay.after(lived))
                lived = 0.0
                try:
                    self._workers.append(_Worker(self))
                    replaced = True
                except ProviderError as error:  # no more processes or files for now: requests say tts.unavailable
                    log.warning("espeak-ng worker: %s", error)
        finally:
            await burial
