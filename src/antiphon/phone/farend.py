"""The far end of a media stream: what the caller hears, and when. Pure; time is an argument.

Source for the behaviour: Twilio, "Media Streams - WebSocket Messages": audio is buffered and played in the order it
comes; a ``mark`` comes back when the audio before it has been played, at once if none is waiting; ``clear`` empties
the buffer and returns all waiting marks.
"""

from __future__ import annotations

from collections import deque

RATE = 8000
SILENCE = 0xFF


class FarEnd:
    """Both sides of one call on one time line, in samples at 8000 Hz, mu-law, from the start of the stream.

    ``agent`` is what was or will be heard; positions never written are silence.
    """

    def __init__(self) -> None:
        self.agent = bytearray()
        self.cleared: list[int] = []
        """Where it was silenced: positions of the ``clear`` messages."""
        self.marks_returned = 0
        self._marks: deque[tuple[int, str]] = deque()

    def receive(self, audio: bytes, now: int) -> None:
        """Audio arrived at position ``now``: it is heard behind what waits, or at once if nothing does."""
        if len(self.agent) < now:
            self.agent += bytes([SILENCE]) * (now - len(self.agent))
        self.agent += audio

    def mark(self, name: str, now: int) -> list[str]:
        """Returns the marks to send back at once."""
        self._marks.append((len(self.agent), name))
        return self.passed(now)

    def clear(self, now: int) -> list[str]:
        """Drops what was not heard by ``now``. Returns all waiting marks."""
        self.cleared.append(now)
        del self.agent[max(now, 0) :]
        names = [name for _, name in self._marks]
        self._marks.clear()
        self.marks_returned += len(names)
        return names

    def passed(self, now: int) -> list[str]:
        """The marks whose audio was played by ``now``, in order; each is returned once."""
        names = []
        while self._marks and self._marks[0][0] <= now:
            names.append(self._marks.popleft()[1])
        self.marks_returned += len(names)
        return names

    def waiting(self, now: int) -> int:
        """Samples received and not yet heard."""
        return max(0, len(self.agent) - now)

    def heard(self, start: int, end: int) -> bytes:
        """What was heard in ``start <= position < end``: exactly that long, silence where nothing came."""
        piece = bytes(self.agent[start:end])
        return piece + bytes([SILENCE]) * (end - start - len(piece))
