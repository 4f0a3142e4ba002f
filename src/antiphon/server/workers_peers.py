"""How the workers of one server ask each other: a UNIX socket each, in a folder that is the supervisor's user's alone.

One question a connection: msgpack of ``[what, argument]`` up to the end of file, then the answer likewise. A worker
that is starting, frozen or dead gives no answer in time, and that is known as such.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from antiphon.errors import UNUSABLE

log = logging.getLogger("antiphon.server.workers")

ANSWER_S: Final = 2.5
"""Longer than a check may take (2 s): a worker with a slow check has an answer, which names the check."""
_READ_S: Final = 5.0
MOST_BYTES: Final = 32 << 20
"""The metrics of a full server are a few hundred kilobytes; 10,000 calls by name about two megabytes."""

Answering = Callable[[Any], Awaitable[Any]]
"""Takes the argument, gives what msgpack can hold (``msgspec.Raw`` for what is encoded already)."""


class Peers:
    """``answers``: by what is asked. Only ``start`` lets questions in."""

    def __init__(self, folder: Path, me: int, count: int) -> None:
        self.me = me
        self.count = count
        self.answers: dict[str, Answering] = {}
        self._folder = folder
        self._server: asyncio.Server | None = None
        self._telling: set[asyncio.Task[Any]] = set()

    @property
    def others(self) -> list[int]:
        return [number for number in range(1, self.count + 1) if number != self.me]

    async def start(self) -> None:
        place = self._place(self.me)
        place.unlink(missing_ok=True)  # of the one before, which was killed
        self._server = await asyncio.start_unix_server(self._answer, place)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._place(self.me).unlink(missing_ok=True)
        for task in self._telling:
            task.cancel()

    async def ask(self, worker: int, what: str, argument: Any = None) -> bytes | None:
        """The answer as msgpack; None if there is none within ``ANSWER_S``."""
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._place(worker))
                try:
                    writer.write(msgspec.msgpack.encode([what, argument]))
                    writer.write_eof()
                    return await _all(reader) or None
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            log.debug("worker %d does not answer %s: %s", worker, what, error or type(error).__name__)
            return None

    async def ask_all(self, what: str) -> dict[int, bytes | None]:
        """What each of the others answers."""
        others = self.others
        answers = await asyncio.gather(*(self.ask(worker, what) for worker in others))
        return dict(zip(others, answers, strict=True))

    def tell(self, worker: int, what: str, argument: Any) -> None:
        """Says it and waits for nothing."""
        task = asyncio.ensure_future(self.ask(worker, what, argument))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def tell_all(self, what: str, argument: Any) -> None:
        for worker in self.others:
            self.tell(worker, what, argument)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                async with asyncio.timeout(_READ_S):
                    what, argument = msgspec.msgpack.decode(await _all(reader), type=tuple[str, Any])
                    writer.write(msgspec.msgpack.encode(await self.answers[what](argument)))
                    await writer.drain()
            except (OSError, TimeoutError, KeyError, *UNUSABLE) as error:
                log.warning("a worker's question was not answered: %s: %s", type(error).__name__, error)

    def _place(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}.sock"


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Up to the end of file. Raises ``ValueError`` beyond ``MOST_BYTES``."""
    found = bytearray()
    while piece := await reader.read(1 << 16):
        found += piece
        if len(found) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
    return bytes(found)
