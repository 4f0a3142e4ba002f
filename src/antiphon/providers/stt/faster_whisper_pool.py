"""The supervised processes of the ``faster_whisper`` transcriber, as the server sees them.

Each worker has a model of its own. One that dies, or that an utterance was too much for, is replaced; what it was
at ends with ``stt.worker_lost``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import msgspec

from antiphon.errors import ProviderError, ProviderRefused, ProviderTimeout
from antiphon.providers.stt.faster_whisper_messages import (
    Audio,
    Begin,
    Drop,
    Failed,
    Final,
    Finish,
    FromWorker,
    Ready,
    Setup,
    ToWorker,
)
from antiphon.providers.workers import Channel, RestartDelay, spawn

log = logging.getLogger(__name__)

NAME = "faster_whisper"
PIECE_BYTES = 1 << 19

MAX_WAITING_BYTES = 6 << 20
"""Of audio that one worker has, what it is at included. A longer queue would not be heard in time."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FromWorker).decode


class Worker:
    """One process with a model, and the utterances it has."""

    def __init__(self, pool: Pool, setup: Setup) -> None:
        self._pool = pool
        self.ready = False
        self.started = time.monotonic()
        self.jobs: dict[int, asyncio.Future[Final]] = {}
        self.bytes = 0
        sock, self.child = spawn("antiphon.providers.stt.faster_whisper_worker")
        self._channel = Channel(sock, self._on_message, self._on_lost)
        self._channel.send(_encode(setup))

    def send(self, task: ToWorker) -> None:
        self._channel.send(_encode(task))

    async def close(self) -> None:
        self._channel.close()
        self.child.kill()
        await self.child.reap()

    def _on_message(self, payload: bytes) -> None:
        report = _decode(payload)
        if isinstance(report, Ready):
            self.ready = True
            self._pool.on_ready(report)
        elif isinstance(report, Failed):
            self._pool.on_failed(report)
        elif (waiting := self.jobs.pop(report.key, None)) is not None and not waiting.done():
            waiting.set_result(report)

    def _on_lost(self, reason: str) -> None:
        self.ready = False
        lost, self.jobs = self.jobs, {}
        for waiting in lost.values():
            if not waiting.done():
                waiting.set_exception(_error(f"the worker {reason}", "stt.worker_lost"))
        self._pool.on_lost(self)


class Pool:
    """``count`` workers, as long as it is started."""

    def __init__(self, setup: Setup, count: int) -> None:
        self._setup = setup
        self._count = count
        self._workers: list[Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay = RestartDelay()
        self._settled = asyncio.Event()
        """Set while a worker is ready, or once it is known that none ever will be (``failure``)."""
        self._last_key = 0
        self._started = False
        self.failure: ProviderError | None = None
        self.load_ms = 0.0

    @property
    def pids(self) -> list[int]:
        return [worker.child.pid for worker in self._workers]

    async def start(self, wait_s: float) -> None:
        """Starts the workers and waits for the first; does nothing when they run. Raises ``ProviderError``."""
        if not self._started:
            self._started = True
            self.failure = None
            self._workers = [Worker(self, self._setup) for _ in range(self._count)]
        await self._wait(wait_s)

    async def close(self) -> None:
        """Ends the workers; utterances under way end in ``stt.closed``. May be called twice."""
        self._started = False
        self._settled.clear()
        workers, self._workers = self._workers, []
        for task in self._tasks:
            task.cancel()
        for worker in workers:
            for waiting in worker.jobs.values():
                if not waiting.done():
                    waiting.set_exception(_error("the transcriber was closed", "stt.closed"))
        await asyncio.gather(*(worker.close() for worker in workers), *self._tasks, return_exceptions=True)

    async def recognise(self, pcm: bytes, sample_rate: int, language: str, within_s: float) -> Final:
        """What a worker makes of a whole utterance. Cancelling it takes the utterance from the worker's queue.

        Raises ``ProviderError``: ``stt.busy``, ``stt.timeout_total``, ``stt.unavailable``, ``stt.worker_lost``,
        ``stt.closed``, and what stopped the workers for good.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        await self._wait(within_s)
        worker = min((each for each in self._workers if each.ready), key=lambda each: each.bytes)
        if worker.jobs and worker.bytes + len(pcm) > MAX_WAITING_BYTES:
            raise _error("too many utterances wait to be recognised: set workers, or a smaller model", "stt.busy")
        self._last_key = key = self._last_key + 1
        answer: asyncio.Future[Final] = loop.create_future()
        worker.jobs[key] = answer
        worker.bytes += len(pcm)
        for task in _tasks(key, pcm, sample_rate, language):
            worker.send(task)
        try:
            async with asyncio.timeout_at(until):
                return await answer
        except TimeoutError:
            text = f"an utterance was not recognised within {within_s:g} s: take a smaller model, or more workers"
            raise ProviderTimeout(text, provider=NAME, stage="stt", code="stt.timeout_total") from None
        finally:
            worker.bytes -= len(pcm)
            if worker.jobs.pop(key, None) is not None:
                worker.send(Drop(key))

    async def _wait(self, wait_s: float) -> None:
        """Until a worker is ready."""
        if not self._started:
            raise _error("the transcriber is not started", "stt.closed")
        try:
            await asyncio.wait_for(self._settled.wait(), wait_s)
        except TimeoutError:
            text = f"no worker had its model loaded within {wait_s:g} s"
            raise ProviderTimeout(text, provider=NAME, stage="stt", code="stt.unavailable") from None
        if self.failure is not None and not any(each.ready for each in self._workers):
            raise self.failure

    def on_ready(self, report: Ready) -> None:
        self.load_ms = self.load_ms or report.load_ms
        self._settled.set()

    def on_failed(self, report: Failed) -> None:
        """The model cannot be loaded, and trying again will not help: utterances say why."""
        self.failure = ProviderRefused(report.reason, provider=NAME, stage="stt", code=report.code)
        self._settled.set()

    def on_lost(self, worker: Worker) -> None:
        """A worker is gone: bury it and start another."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        if self.failure is None and not any(each.ready for each in self._workers):
            self._settled.clear()
        task = asyncio.get_running_loop().create_task(self._replace(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, worker: Worker) -> None:
        worker.child.kill()
        burial = asyncio.get_running_loop().create_task(worker.child.reap())
        lived = time.monotonic() - worker.started
        replaced = self.failure is not None
        try:
            while self._started and not replaced:
                await asyncio.sleep(self._delay.after(lived))
                lived = 0.0
                try:
                    self._workers.append(Worker(self, self._setup))
                    replaced = True
                except ProviderError as error:  # no more processes or files for now: utterances say stt.unavailable
                    log.warning("faster_whisper worker: %s", error)
        finally:
            await burial


def _tasks(key: int, pcm: bytes, sample_rate: int, language: str) -> Iterator[ToWorker]:
    yield Begin(key, sample_rate, language)
    for at in range(0, len(pcm), PIECE_BYTES):
        yield Audio(key, pcm[at : at + PIECE_BYTES])
    yield Finish(key)


def _error(text: str, code: str) -> ProviderError:
    return ProviderError(text, provider=NAME, stage="stt", code=code)
