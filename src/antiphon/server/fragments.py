"""WebSocket messages that arrive in pieces (RFC 6455, section 5.4): put together here, for every line. Pure."""

from __future__ import annotations

from antiphon.errors import FrameTooLarge, PeerError

_LEAST_PIECE = 16
"""A message of smaller pieces than this on average is refused: each costs far more than the bytes it carries."""


class Fragments:
    """Puts the pieces of one message together, within ``limit`` bytes."""

    __slots__ = ("_limit", "_pieces", "_size", "_text", "begun")

    def __init__(self, limit: int) -> None:
        self.begun = False
        self._limit = limit
        self._text = True
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, payload: bytes, *, text: bool, continues: bool, fin: bool) -> tuple[bool, bytes] | None:
        """Takes one frame; returns (is it text, the whole message) with the last.

        Raises ``FrameTooLarge``, and ``PeerError`` for a piece of nothing or a message begun within another.
        """
        if continues is not self.begun:
            raise PeerError("a fragment out of place", code="frame.fragmentation")
        if not continues:
            self.begun, self._text, self._size = True, text, 0
        self._size += len(payload)
        if self._size > self._limit or len(self._pieces) >= self._limit // _LEAST_PIECE:
            raise FrameTooLarge(f"a fragmented message is over {self._limit} bytes")
        self._pieces.append(payload)
        if not fin:
            return None
        data = b"".join(self._pieces)
        self.begun, self._pieces = False, []
        return self._text, data
