"""Worker processes that speak, seen from the server: started, watched over, replaced, and given requests.

What an engine is (espeak-ng, Piper) its worker module knows; here are only requests and sounds.
"""

from __future__ import annotations

import asyncio
import collections
import importlib.metadata
import logging
import time
from collections.abc import AsyncGenerator, Callable

import msgspec

from antiphon.errors import ConfigError, ProviderError, ProviderRefused, ProviderTimeout
from antiphon.media.resample import RATES
from antiphon.providers.tts.speech_messages import Broken, Cancel, Done, Piece, Ready, Report
from antiphon.providers.workers import Channel, RestartDelay, spawn
from antiphon.runtime.ports import Sound, WordMark

log = logging.getLogger("antiphon.providers.tts")

MAX_CHARS = 2000
"""Of one segment: about two minutes of speech, so what waits for a slow reader is bounded too."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Report).decode


def installed(distribution: str) -> str:
    """The version of an engine's package, "" without it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool has to know of its engine.

    ``provider`` is the name in errors, ``title`` the engine's own. ``module`` is run by each worker, which is sent
    ``opening`` first, if there is one. A worker that is not ready after ``ready_s`` seconds is given up; a request
    waits no longer for one, and ``stall_s`` for each piece of its sound (0: as long as the worker answers pings).
    """

    provider: str
    title: str
    module: str
    ready_s: float
    opening: bytes = b""
    stall_s: float = 0.0


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

    async def next(self, stall_s: float) -> Sound | None:
        """The next sound; ``None`` at the end. Raises the request's error, and ``TimeoutError``."""
        while not self.sounds:
            if self.error is not None:
                raise self.error
            if self.done:
                return None
            self.news = asyncio.get_running_loop().create_future()
            if stall_s:
                async with asyncio.timeout(stall_s):
                    await self.news
            else:
                await self.news
        return self.sounds.popleft()


class _Worker:
    """One worker process and the requests it has."""

    def __init__(self, owner: SpeechPool, engine: Engine) -> None:
        self._owner = owner
        self._engine = engine
        self.requests: dict[int, _Request] = {}
        self.ready = False
        self.started = self.heard = time.monotonic()
        sock, self.child = spawn(engine.module)
        self._channel = Channel(sock, self._on_message, self._on_lost)
        if engine.opening:
            self._channel.send(engine.opening)

    def send(self, message: bytes) -> None:
        self._channel.send(message)

    async def close(self) -> None:
        """The pipe's end is what an idle worker dies of; a busy or stuck one is killed."""
        self._channel.close()
        self.child.kill()
        await self.child.reap()

    def give_up(self) -> None:
        """It answers pings and does nothing else."""
        self._channel.close()
        self._on_lost("is stuck")

    def _on_message(self, payload: bytes) -> None:
        self.heard = time.monotonic()
        report = _decode(payload)
        if isinstance(report, Ready):
            self.ready = True
            self._owner.on_ready()
            return
        if isinstance(report, Broken):
            self._owner.on_broken(report.reason)
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
                request.error = self._refusal(report)
        request.tell()

    def _on_lost(self, reason: str) -> None:
        lost, self.requests = self.requests, {}
        for request in lost.values():
            text = f"the {self._engine.title} worker {reason}"
            request.error = ProviderError(text, provider=self._engine.provider, stage="tts", code="tts.worker_lost")
            request.tell()
        self._owner.on_lost(self)

    def _refusal(self, done: Done) -> ProviderError:
        kind = ProviderError if done.code == "tts.failed" else ProviderRefused
        return kind(done.reason, provider=self._engine.provider, stage="tts", code=done.code)


class SpeechPool:
    """``count`` workers of one engine."""

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine = engine
        self._count = count
        self._workers: list[_Worker] = []
        self._delay = RestartDelay()
        self._ready = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_id = 0
        self._started = False
        self._broken = ""

    async def start(self) -> None:
        """Starts the workers and waits for one; does nothing when they run.

        Raises ``ConfigError`` when the engine cannot be loaded, and ``ProviderError`` when no worker becomes ready.
        """
        if self._started:
            await self._wait_ready()
            return
        self._started, self._broken = True, ""
        try:
            self._workers = [_Worker(self, self._engine) for _ in range(self._count)]
            await self._wait_ready()
            if self._broken:
                raise ConfigError(self._broken, code="config.voice")
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
                request.error = self._failed("the synthesizer was closed", "tts.closed", retryable=False)
                request.tell()
        await asyncio.gather(*(worker.close() for worker in workers), *self._tasks, return_exceptions=True)

    def check(self, text: str, sample_rate: int) -> None:
        """Raises ``ProviderRefused`` (``tts.too_long``, ``tts.sample_rate``) for what no engine is asked to speak."""
        if len(text) > MAX_CHARS:
            told = f"a text of {len(text)} characters is over the cap of {MAX_CHARS}: speak it in segments"
            raise self._refused(told, "tts.too_long")
        if sample_rate not in RATES:
            raise self._refused(f"a sample rate of {sample_rate} Hz is none of {RATES}", "tts.sample_rate")

    async def speak(self, message: Callable[[int], msgspec.Struct]) -> AsyncGenerator[Sound, None]:
        """The sounds of one request; ``message`` makes it for an id. Closing the iterator cancels it.

        Raises ``ProviderRefused``, ``ProviderTimeout`` (``tts.unavailable`` while no worker runs,
        ``tts.timeout_stalled``) and ``ProviderError`` (``tts.worker_lost``, ``tts.failed``, ``tts.closed``).
        """
        await self._wait_ready()
        ready = [each for each in self._workers if each.ready]
        if not ready:
            raise self._failed(self._broken or "no worker runs", "tts.unavailable")
        worker = min(ready, key=lambda each: len(each.requests))
        self._last_id = key = self._last_id + 1
        request = worker.requests[key] = _Request(worker)
        worker.send(_encode(message(key)))
        try:
            while (sound := await request.next(self._engine.stall_s)) is not None:
                yield sound
        except TimeoutError:
            raise self._stalled(worker) from None
        finally:
            if worker.requests.pop(key, None) is not None:
                worker.send(_encode(Cancel(key)))

    @property
    def pids(self) -> list[int]:
        """The worker processes that run now."""
        return [worker.child.pid for worker in self._workers]

    async def _wait_ready(self) -> None:
        if self._ready.is_set():
            return
        if not self._started:
            raise self._failed("the synthesizer is not started", "tts.closed")
        try:
            await asyncio.wait_for(self._ready.wait(), self._engine.ready_s)
        except TimeoutError:
            text = f"no {self._engine.title} worker became ready within {self._engine.ready_s:g} s"
            raise ProviderTimeout(text, provider=self._engine.provider, stage="tts", code="tts.unavailable") from None

    def _stalled(self, worker: _Worker) -> ProviderError:
        """A worker with nothing to say about anybody's request is stuck; one that is only busy is left alone."""
        limit = self._engine.stall_s
        if time.monotonic() - worker.heard >= limit:
            worker.give_up()
        text = f"the {self._engine.title} worker gave no sound for {limit:g} s"
        return ProviderTimeout(text, provider=self._engine.provider, stage="tts", code="tts.timeout_stalled")

    def on_ready(self) -> None:
        """A worker can be spoken to."""
        self._ready.set()

    def on_broken(self, reason: str) -> None:
        """The engine cannot be loaded: whoever waits for a worker waits in vain."""
        self._broken = reason
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
                    self._workers.append(_Worker(self, self._engine))
                    replaced = True
                except ProviderError as error:  # no more processes or files for now: requests say tts.unavailable
                    log.warning("%s worker: %s", self._engine.title, error)
        finally:
            await burial

    def _failed(self, text: str, code: str, *, retryable: bool = True) -> ProviderError:
        return ProviderError(text, provider=self._engine.provider, stage="tts", code=code, retryable=retryable)

    def _refused(self, text: str, code: str) -> ProviderRefused:
        return ProviderRefused(text, provider=self._engine.provider, stage="tts", code=code)
