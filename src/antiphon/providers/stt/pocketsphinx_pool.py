"""The supervised processes of the pocketsphinx recogniser, as the server sees them.

One nursery, which has the models, and the workers it forked. A worker that dies or hangs is buried and
another forked in its place (milliseconds, since the models are loaded); when the nursery dies its workers die
with it and everything is started again. What an owner of utterances notices is ``stt.worker_lost``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable

import msgspec

from antiphon.errors import ProviderError
from antiphon.providers.stt.pocketsphinx_messages import (
    Audio,
    Begin,
    Bury,
    Drop,
    Failed,
    Final,
    Fork,
    Forked,
    FromNursery,
    FromWorker,
    Loaded,
    Partial,
    Setup,
    ToNursery,
    ToWorker,
)
from antiphon.providers.workers import Channel, RestartDelay, spawn

log = logging.getLogger("antiphon.providers.stt.pocketsphinx_pool")

MAX_WAIT_S = 3.0
"""How long an utterance waits for a worker while none runs: longer than it takes to start everything again."""

MAX_PARKED_BYTES = 1 << 20
"""Of one utterance's audio, while it waits (a minute at 8 kHz)."""

_encode = msgspec.msgpack.Encoder().encode
_decode_nursery = msgspec.msgpack.Decoder(FromNursery).decode
_decode_worker = msgspec.msgpack.Decoder(FromWorker).decode


class Utterance:
    """One utterance, with a worker that decodes it or waiting for one.

    ``on_final`` is called exactly once unless it is dropped. ``number`` is its owner's, 0 until it is finished.
    """

    __slots__ = ("_pool", "key", "number", "on_final", "on_partial", "parked", "parked_bytes", "worker")

    def __init__(
        self,
        pool: Pool,
        key: int,
        on_partial: Callable[[Utterance, Partial], None],
        on_final: Callable[[Utterance, Final], None],
    ) -> None:
        self._pool = pool
        self.key = key
        self.number = 0
        self.on_partial = on_partial
        self.on_final = on_final
        self.worker: Worker | None = None
        self.parked: list[ToWorker] = []
        self.parked_bytes = 0

    def send(self, task: ToWorker) -> None:
        """Hands the task to the worker, now or when there is one."""
        if self.worker is not None:
            self.worker.send(task)
            return
        self.parked.append(task)
        if isinstance(task, Audio):
            self.parked_bytes += len(task.pcm)
            if self.parked_bytes > MAX_PARKED_BYTES:
                self._pool.give_up(self)

    def drop(self) -> None:
        """Nobody wants it any more."""
        self._pool.forget(self)
        if self.worker is not None and self.worker.utterances.pop(self.key, None) is not None:
            self.worker.send(Drop(self.key))


class Worker:
    """One forked worker and the utterances it has."""

    def __init__(self, pid: int, sock: socket.socket, on_lost: Callable[[Worker, str], None]) -> None:
        self.pid = pid
        self.utterances: dict[int, Utterance] = {}
        self.started = time.monotonic()
        self._tell_lost = on_lost
        self._channel = Channel(sock, self._on_message, self._on_lost)

    def take(self, utterance: Utterance) -> None:
        utterance.worker = self
        self.utterances[utterance.key] = utterance
        parked, utterance.parked = utterance.parked, []
        for task in parked:
            self.send(task)

    def send(self, task: ToWorker) -> None:
        self._channel.send(_encode(task))

    def close(self) -> None:
        self._channel.close()

    def _on_message(self, payload: bytes) -> None:
        report = _decode_worker(payload)
        utterance = self.utterances.get(report.key)
        if utterance is None:
            return  # dropped meanwhile
        if isinstance(report, Partial):
            utterance.on_partial(utterance, report)
        else:
            del self.utterances[report.key]
            utterance.on_final(utterance, report)

    def _on_lost(self, reason: str) -> None:
        lost, self.utterances = self.utterances, {}
        self._tell_lost(self, reason)
        for utterance in lost.values():
            utterance.on_final(utterance, Final(utterance.key, error="stt.worker_lost"))


class Nursery:
    """The process that has the models. All callbacks come on the loop's thread."""

    def __init__(
        self,
        setup: Setup,
        on_report: Callable[[FromNursery, socket.socket | None], None],
        on_lost: Callable[[Nursery, str], None],
    ) -> None:
        self._on_report = on_report
        self.started = time.monotonic()
        sock, self.child = spawn("antiphon.providers.stt.pocketsphinx_worker")
        self._channel = Channel(sock, self._on_message, lambda reason: on_lost(self, reason))
        self._channel.send(_encode(setup))

    def send(self, order: ToNursery) -> None:
        self._channel.send(_encode(order))

    async def close(self) -> None:
        self._channel.close()
        self.child.kill()  # its children die with it (worker_pipe.settle), or of the end of their own pipes
        await self.child.reap()

    def _on_message(self, payload: bytes) -> None:
        report = _decode_nursery(payload)
        sock = socket.socket(fileno=self._channel.files.popleft()) if isinstance(report, Forked) else None
        self._on_report(report, sock)


class Pool:
    """``count`` workers, as long as it is started."""

    def __init__(self, setup: Setup, count: int) -> None:
        self._setup = setup
        self._count = count
        self._nursery: Nursery | None = None
        self._workers: list[Worker] = []
        self._started = False
        self._last_key = 0
        self._waiting: dict[Utterance, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._nursery_delay = RestartDelay()
        self._worker_delay = RestartDelay()
        self.ready = asyncio.Event()
        """Set when the first worker hears, or when it is known that none ever will (``failure``)."""
        self.failure = ""
        self.loaded: Loaded | None = None

    @property
    def worker_pids(self) -> list[int]:
        return [worker.pid for worker in self._workers]

    @property
    def nursery_pid(self) -> int:
        """0 while there is none."""
        return self._nursery.child.pid if self._nursery is not None else 0

    def start(self) -> None:
        """Does nothing when started. Raises ``ProviderError`` when no process can be started."""
        if self._started:
            return
        self.failure = ""
        self._nursery = Nursery(self._setup, self._on_report, self._on_nursery_lost)
        self._started = True

    async def close(self) -> None:
        self._started = False
        self.ready.clear()
        for task in self._tasks:
            task.cancel()
        tasks = tuple(self._tasks)
        for utterance in tuple(self._waiting):
            self.forget(utterance)
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.close()
        nursery, self._nursery = self._nursery, None
        if nursery is not None:
            await nursery.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(
        self,
        sample_rate: int,
        cmn: str,
        on_partial: Callable[[Utterance, Partial], None],
        on_final: Callable[[Utterance, Final], None],
    ) -> Utterance:
        """Gives an utterance to the worker with the least to do, or to the first there is within ``MAX_WAIT_S``."""
        self._last_key = key = self._last_key + 1
        utterance = Utterance(self, key, on_partial, on_final)
        utterance.send(Begin(key, sample_rate, cmn))
        if self._workers:
            self._least_busy().take(utterance)
        else:
            timer = asyncio.get_running_loop().call_later(MAX_WAIT_S, self.give_up, utterance)
            self._waiting[utterance] = timer
        return utterance

    def forget(self, utterance: Utterance) -> bool:
        """Takes it off the list of those that wait; False if it is not there."""
        timer = self._waiting.pop(utterance, None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def give_up(self, utterance: Utterance) -> None:
        """No worker came in time."""
        if self.forget(utterance):
            utterance.on_final(utterance, Final(utterance.key, error="stt.unavailable"))

    def _least_busy(self) -> Worker:
        return min(self._workers, key=lambda each: len(each.utterances))

    def _on_report(self, report: FromNursery, sock: socket.socket | None) -> None:
        if isinstance(report, Loaded):
            self.loaded = report
            for _ in range(self._count):
                self._fork(self._nursery)
        elif isinstance(report, Failed):
            self.failure = report.reason
            self.ready.set()
        elif sock is not None:
            self._workers.append(Worker(report.pid, sock, self._on_worker_lost))
            self.ready.set()
            for utterance in tuple(self._waiting):
                self.forget(utterance)
                self._least_busy().take(utterance)

    def _on_worker_lost(self, worker: Worker, reason: str) -> None:
        log.warning("pocketsphinx worker %s %s", worker.pid, reason)
        self._workers.remove(worker)
        nursery = self._nursery
        if nursery is not None:
            nursery.send(Bury(worker.pid))  # hung, perhaps: it must not compute on beside its successor
            self._later(self._worker_delay.after(time.monotonic() - worker.started), lambda: self._fork(nursery))

    def _on_nursery_lost(self, nursery: Nursery, reason: str) -> None:
        if self._nursery is not nursery:
            return
        log.warning("pocketsphinx nursery %s %s", nursery.child.pid, reason)
        self._nursery = None
        nursery.child.kill()
        self._keep(asyncio.get_running_loop().create_task(nursery.child.reap()))
        if not self.failure:
            self._later(self._nursery_delay.after(time.monotonic() - nursery.started), self._restart)

    def _fork(self, nursery: Nursery | None) -> None:
        """A new nursery forks all its workers by itself: what was asked of the old one is not asked again."""
        if nursery is not None and nursery is self._nursery:
            nursery.send(Fork())

    def _restart(self) -> None:
        if not self._started or self._nursery is not None:
            return
        try:
            self._nursery = Nursery(self._setup, self._on_report, self._on_nursery_lost)
        except ProviderError as error:
            log.warning("pocketsphinx nursery: %s", error)
            self._later(self._nursery_delay.after(0.0), self._restart)

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(delay)
            action()

        self._keep(asyncio.get_running_loop().create_task(wait()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
