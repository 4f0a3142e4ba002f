"""Server-sent events, the part that chat endpoints use: bytes in, data payloads out.

The format is the WHATWG HTML standard's "Server-sent events", section "Interpreting an event stream":
lines end in LF, CR LF or CR; ``data`` lines of one event are joined with LF; a blank line ends the
event; a line that begins with a colon is a comment (servers send them to keep a connection open).
"""

from __future__ import annotations

MAX_EVENT_BYTES = 1024 * 1024
"""A reply's token takes some hundred bytes; a whole tool call may take some ten thousand."""


class EventTooLarge(ValueError):
    """A line or an event is over ``MAX_EVENT_BYTES``."""


class EventStream:
    """Takes bytes cut anywhere, also within a character or a line end."""

    __slots__ = ("_data", "_size", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that ``data`` completes. Raises ``EventTooLarge``."""
        buffer = self._tail + data if self._tail else data
        lines = buffer.splitlines(keepends=True)
        # A CR at the very end may be half of a CR LF: it waits for what follows.
        self._tail = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        if len(self._tail) > MAX_EVENT_BYTES:
            raise EventTooLarge
        payloads: list[bytes] = []
        for line in lines:
            self._take(line.rstrip(b"\r\n"), payloads)
        return payloads

    def end(self) -> list[bytes]:
        """The stream is over: what a server left without its closing blank line counts too."""
        payloads: list[bytes] = []
        self._take(self._tail.rstrip(b"\r\n"), payloads)
        self._tail = b""
        self._take(b"", payloads)
        return payloads

    def _take(self, line: bytes, payloads: list[bytes]) -> None:
        if not line:
            if self._data:
                payloads.append(b"\n".join(self._data))
                self._data = []
                self._size = 0
        elif line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._size += len(value)
            if self._size > MAX_EVENT_BYTES:
                raise EventTooLarge
            self._data.append(value)
