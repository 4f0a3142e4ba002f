"""Writes lines from a thread of its own: whoever logs never waits for a full pipe or a slow disk."""

from __future__ import annotations

import atexit
import threading
from collections import deque
from typing import TextIO

MAX_WAITING = 10_000
"""Some megabytes of text. Further lines are dropped, counted, and the count is written when writing goes on."""


class LineWriter:
    """Bounded. ``dropped`` counts the lines that found no room."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._told = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="antiphon-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, line: str) -> None:
        with self._wake:
            if self._closed or len(self._lines) >= MAX_WAITING:
                self.dropped += 1
                return
            self._lines.append(line)
            self._wake.notify()

    def close(self, timeout_s: float = 1.0) -> None:
        """Writes what is waiting, for at most ``timeout_s``. May be called twice."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout_s)
        atexit.unregister(self.close)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._lines and not self._closed:
                    self._wake.wait()
                lines, self._lines = self._lines, deque()
                dropped, self._told = self.dropped - self._told, self.dropped
                closed = self._closed
            text = "".join(f"{line}\n" for line in lines)
            if dropped:
                text += f"... {dropped} log lines were dropped: they came faster than they could be written\n"
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                return  # the reader is gone or the stream is closed: there is nobody left to tell
            if closed and not self._lines:
                return
