"""Supervised worker processes: the server's end.

What computes, crashes, leaks or is not thread-safe runs in a process of its own and is spoken to over one
socket with framed messages (``worker_pipe``). The loop reads it with ``add_reader``: no thread, no task per
request. ``Channel`` watches over its process: the end of file says that it died, missing pongs that it
hangs; either way ``on_lost`` is called once and the owner starts another.
"""

from __future__ import annotations

import asyncio
import collections
import os
import socket
import subprocess
import sys
from collections.abc import Callable

from antiphon.errors import ProviderError
from antiphon.providers.worker_pipe import PING, Unframer, framed

MAX_UNSENT = 8 << 20
"""Bytes waiting for a worker that does not read. More and it is given up."""

TICK_S = 0.5
"""Time between two pings."""

MISSED_TICKS = 4
"""Pings without any answer after which a worker counts as hung.

Ticks are counted instead of time so that a server that was itself suspended does not blame its workers.
"""

MAX_FILES = 8
"""File descriptors taken with one read."""

START_TICKS = 12
"""A worker that has not spoken yet is loading: it gets this many ticks more (6 s)."""

RESTART_DELAYS_S = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Before the first, second, ... restart in a row; a worker that lived for ``HEALTHY_S`` starts the row again."""

HEALTHY_S = 10.0


class Channel:
    """The server's end of the pipe to one worker. All callbacks come on the loop's thread."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[bytes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._on_lost = on_lost
        self._unframer = Unframer()
        self.files: collections.deque[int] = collections.deque()
        """File descriptors that came with messages (SCM_RIGHTS), in order; whoever takes one owns it."""
        self._unsent = bytearray()
        self._flush_due = False
        self._writing = False
        self._open = True
        self._missed = -START_TICKS
        self._loop.add_reader(sock, self._read)
        self._tick = self._loop.call_later(TICK_S, self._ping)

    def send(self, payload: bytes) -> None:
        """Takes a message; those of one turn of the loop go out together. Never blocks, never raises."""
        if not self._open:
            return
        self._unsent += framed(payload)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Lets go of the pipe, which ends the worker; ``on_lost`` is not called."""
        if self._open:
            self._open = False
            self._tick.cancel()
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            while self.files:
                os.close(self.files.popleft())

    def _lose(self, reason: str) -> None:
        if self._open:
            self.close()
            self._on_lost(reason)

    def _flush(self) -> None:
        self._flush_due = False
        if not self._open or self._writing:
            return
        self._write()
        if self._open and self._unsent:
            self._writing = True
            self._loop.add_writer(self._sock, self._write)

    def _write(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
            del self._unsent[:sent]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._lose(f"died ({error.strerror})")
            return
        if len(self._unsent) > MAX_UNSENT:
            self._lose("does not read")
        elif self._writing and not self._unsent:
            self._writing = False
            self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        try:
            data, files, _, _ = socket.recv_fds(self._sock, 1 << 18, MAX_FILES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(f"died ({error.strerror})")
            return
        if not data:
            self._lose("died")
            return
        self._missed = 0
        self.files.extend(files)
        try:
            for payload in self._unframer.feed(data):
                if payload and self._open:
                    self._on_message(payload)
        except ValueError as error:
            self._lose(str(error))

    def _ping(self) -> None:
        if self._missed >= MISSED_TICKS:
            self._lose("hangs")
            return
        self._missed += 1
        self._tick = self._loop.call_later(TICK_S, self._ping)
        self._unsent += PING
        self._flush()


class Child:
    """A worker process that this process started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def kill(self) -> None:
        self._process.kill()

    async def reap(self) -> None:
        """Waits for the process to be gone, and kills it if it does not go by itself within a second."""
        try:
            await asyncio.to_thread(self._process.wait, 1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


def spawn(module: str) -> tuple[socket.socket, Child]:
    """Starts ``python -m module`` and returns the socket to it. Takes 1 to 3 ms on the calling thread.

    It must be the loop's thread: on Linux the worker is told to die with the thread that started it
    (``worker_pipe.settle``), and a thread of a pool may end before the server does. The worker has a
    session of its own, so Ctrl-C in a terminal reaches the server alone. Raises ``ProviderError``.
    """
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(os.getpid()), str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise ProviderError(f"cannot start a worker process: {error}", code="worker.start_failed") from error
    finally:
        theirs.close()
    return ours, Child(process)


class RestartDelay:
    """How long to wait before the next start of a worker that keeps dying."""

    def __init__(self) -> None:
        self._deaths = 0

    def after(self, lived_s: float) -> float:
        """Seconds to wait, given how long the last one lived."""
        if lived_s >= HEALTHY_S:
            self._deaths = 0
        delay = RESTART_DELAYS_S[min(self._deaths, len(RESTART_DELAYS_S) - 1)]
        self._deaths += 1
        return delay
