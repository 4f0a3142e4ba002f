"""The worker's end of the pipe between a server and its worker processes, and the framing of both ends.

A message is a four-byte little-endian length and that many bytes (msgpack, as the two ends agree). A
message of length 0 is a ping to the worker and a pong from it: it proves that the process is alive and
reads, however long the queue of work behind it is.

This module is imported by every worker, so it imports nothing that is slow to load.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator

MAX_MESSAGE = 1 << 20
"""Bytes. A longer message means that the other end has gone mad; the pipe is given up."""

HEADER = 4
PING = b"\0\0\0\0"

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(HEADER, "little") + payload


class Unframer:
    """Bytes in, whole messages out."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields the payloads completed by ``data``. Raises ``ValueError`` for one over ``MAX_MESSAGE``."""
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= HEADER:
                length = int.from_bytes(buffer[at : at + HEADER], "little")
                if length > MAX_MESSAGE:
                    raise ValueError(f"a message of {length} bytes is over the cap of {MAX_MESSAGE}")
                if len(buffer) - at < HEADER + length:
                    break
                payload = bytes(buffer[at + HEADER : at + HEADER + length])
                at += HEADER + length
                yield payload
        finally:
            del buffer[:at]


class WorkerPipe:
    """Blocking, single-threaded; the server's end never blocks, so neither end can wait for the other for ever."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self.socket = sock
        self._unframer = Unframer()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def read(self, timeout_ms: int | None) -> list[bytes]:
        """The messages that have come, after waiting at most ``timeout_ms`` (``None``: for ever) for the first.

        Pings are answered here and not returned. Raises ``EOFError`` when the server is gone.
        """
        if not self._poll.poll(timeout_ms):
            return []
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError
        messages = list(self._unframer.feed(data))
        if b"" in messages:
            self.send(b"")  # framed it is a ping, and a pong
            messages = [message for message in messages if message]
        return messages

    def send(self, *payloads: bytes) -> None:
        """Messages, in one system call. Raises ``OSError`` (``BrokenPipeError``) when the server is gone."""
        self.socket.sendall(b"".join(map(framed, payloads)))

    def close(self) -> None:
        self.socket.close()


class SharedPipe(WorkerPipe):
    """Two threads write into it: one reads and so answers pings, one tells what came of work that takes seconds."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._writing = threading.Lock()

    def send(self, *payloads: bytes) -> None:
        with self._writing:
            super().send(*payloads)


def argument() -> socket.socket:
    """The socket of a process started by ``workers.spawn``, which passes its file descriptor as the last argument."""
    return socket.socket(fileno=int(sys.argv[-1]))


def from_arguments() -> WorkerPipe:
    """The pipe over ``argument``."""
    return WorkerPipe(argument())


def settle(parent: int) -> None:
    """Makes this process a worker: dies with its parent, leaves Ctrl-C to it.

    End of file on the pipe is what a worker normally dies of; the kernel's signal (Linux) also ends one that
    is stopped or stuck in a computation. A parent that died before the signal was armed shows in ``getppid``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    gc.freeze()
