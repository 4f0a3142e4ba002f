"""The end of a TCP connection, done so that the last words arrive, and the bound on what may wait to be sent.

Closing a socket while the peer is still sending makes the kernel answer with a reset, and the reset can
overtake the HTTP refusal or WebSocket close frame sent just before (RFC 9112, section 9.6). So the sending
half is closed first, what still comes in is thrown away, and only then, or after a second, the socket closes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from antiphon.server.lane import Passage

log = logging.getLogger("antiphon.server.outlet")


LINGER_S = 1.0


class Linger(asyncio.Protocol):
    """Takes a connection over to its end. ``lost`` is called when it is gone."""

    def __init__(self, transport: asyncio.Transport, lost: Callable[[Exception | None], None] | None = None) -> None:
        self._lost = lost
        transport.set_protocol(self)
        # TLS has no half-close: there only the time limit ends the wait for a peer that neither reads nor closes.
        if transport.can_write_eof():
            transport.write_eof()
        transport.resume_reading()
        self._cut = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        pass

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._cut.cancel()
        if self._lost is not None:
            self._lost(exc)


class Outlet:
    """Stands between picows and the connection's transport: the same methods, but a close that lingers and a
    bound on unsent bytes.

    picows writes to the socket itself while nothing waits, and comes here only with what the socket did not
    take, so the bound costs nothing on a connection that keeps up. Above ``max_unsent`` bytes the connection
    is aborted: its peer does not read, and a close frame would never reach it either.
    """

    def __init__(self, transport: asyncio.Transport, max_unsent: int) -> None:
        self._transport = transport
        self._max_unsent = max_unsent
        self._closing = False
        self.passage: Passage | None = None
        """Where a lane reads the connection: it has to stop before the connection is closed."""
        self.picows: Any = None
        """The picows protocol, told of the loss when the close begins."""
        self.get_write_buffer_size = transport.get_write_buffer_size

    def write(self, data: bytes | memoryview) -> None:
        # picows hands over views of a buffer that it uses again for its next message.
        piece = bytes(data)
        if self.is_closing():
            return
        unsent = self.get_write_buffer_size()
        if unsent + len(piece) > self._max_unsent:
            log.warning("media socket cut: %s bytes unsent, the peer does not read", unsent)
            self.abort()
            return
        self._transport.write(piece)

    def writelines(self, pieces: Iterable[bytes | memoryview]) -> None:
        self.write(b"".join(pieces))

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        """Ends the connection; what is unsent still goes out. The listener is told in the loop's next round."""
        if self.is_closing():
            return
        self._closing = True
        self.leave_lane()
        if self.picows.transport.close_handshake is not None and self.picows.transport.close_handshake.recv is not None:
            self._transport.close()  # the peer said goodbye: nothing more comes that could cause a reset
        else:
            asyncio.get_running_loop().call_soon(self._leave)

    def _leave(self) -> None:
        if not self._transport.is_closing():
            self.picows.connection_lost(None)
            Linger(self._transport)

    def abort(self) -> None:
        self._closing = True
        self.leave_lane()
        self._transport.abort()

    def leave_lane(self) -> None:
        passage, self.passage = self.passage, None
        if passage is not None:
            passage.leave()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
