"""The connection under one line: what may go out on it, what its peer may do, and how it ends.

The line owns it and reads the messages; everything that is the same for every protocol is here.
"""

from __future__ import annotations

from collections.abc import Callable

from picows import WSMsgType, WSTransport

from antiphon.errors import AdmissionRefused, AntiphonError, PeerError
from antiphon.transports.line_guard import LineGuard, Verdict
from antiphon.transports.line_stats import LineStats
from antiphon.transports.sweep import LineSweep, Swept
from antiphon.transports.twilio_settings import LineLimits

_CLOSE_REASON_BYTES = 123
"""RFC 6455, section 5.5: a control frame holds at most 125 bytes, two of them the code."""


def _is_gone() -> bool:
    return True


def _tell_nobody(code: str, fault: bool) -> None:
    """The line is over."""


class LineSocket:
    """``ended`` is told once why the line is over, and whether that is a fault: not if the line itself closes it."""

    __slots__ = (
        "_cut_at",
        "_ended",
        "_is_closing",
        "_limits",
        "_socket",
        "_sweep",
        "closed_for",
        "guard",
        "is_choked",
        "is_open",
        "stats",
    )

    def __init__(self, limits: LineLimits, sweep: LineSweep, ended: Callable[[str, bool], None]) -> None:
        self.stats = LineStats()
        self.guard = LineGuard(limits, sweep.clock())
        self.closed_for = ""
        self.is_open = False
        self.is_choked = False
        self._limits = limits
        self._sweep = sweep
        self._ended = ended
        self._socket: WSTransport | None = None
        self._is_closing: Callable[[], bool] = _is_gone
        self._cut_at = 0.0

    # -- what the network tells ---------------------------------------------------------------------

    def connected(self, line: Swept, transport: WSTransport, max_unsent_bytes: int) -> None:
        self._socket = transport
        self._is_closing = transport.underlying_transport.is_closing
        transport.underlying_transport.set_write_buffer_limits(high=max_unsent_bytes, low=max_unsent_bytes // 4)
        self.is_open = True
        self._sweep.join(line)

    def gone(self, line: Swept) -> None:
        self._sweep.leave(line)
        self._end("line.lost", False)
        # They know each other: only a full collection, which is seldom, would find them.
        self._socket, self._is_closing, self._ended = None, _is_gone, _tell_nobody

    def faulty(self, code: str) -> None:
        """The peer broke the protocol, and was sent a close for it."""
        self._end(code, True)

    def closing(self) -> None:
        """A close came from the peer; it is answered elsewhere."""
        self._cut_at = self._sweep.clock() + self._limits.close_timeout_s

    def choke(self) -> None:
        self.is_choked = True
        self.guard.choke(self._sweep.clock())

    def free(self) -> None:
        self.is_choked = False
        self.guard.choke(0.0)

    # -- sending ------------------------------------------------------------------------------------

    def sendable(self) -> bool:
        """Asked each time (A70): picows keeps the file descriptor's number of a connection that broke in this very
        round of the loop, and another call may own that number already."""
        return self.is_open and not self._is_closing()

    def is_saying_goodbye(self) -> bool:
        """We sent a close, or the server did: what the peer had on its way is not heard any more."""
        return self._socket is None or bool(self._socket.is_close_frame_sent)

    def send(self, kind: WSMsgType, message: bytes) -> None:
        """To be asked only if it is ``sendable``."""
        self._socket.send(kind, message)  # type: ignore[union-attr]
        self.stats.sent_messages += 1

    # -- the end ------------------------------------------------------------------------------------

    def judge(self, verdict: Verdict | None) -> None:
        if verdict is not None and self.is_open:
            self.fail(*verdict)

    def fail(self, code: int, reason: str, *, fault: bool = True) -> None:
        """The line ends the connection; the call is told and may come back on another."""
        self._end(reason, fault)
        self.shut(code, reason)

    def refused(self, error: AntiphonError) -> None:
        """The switchboard did not take the line on."""
        if isinstance(error, PeerError):
            self.fail(1008, error.code)
        elif isinstance(error, AdmissionRefused):
            self.fail(1013, error.code, fault=False)  # the host says it, of all those that it turns away
        else:
            self.fail(1011, error.code)

    def _end(self, code: str, fault: bool) -> None:
        self.is_open = False
        self._ended(code, fault)

    def shut(self, code: int, reason: str) -> None:
        """Closes; nobody is told."""
        self.is_open = False
        socket = self._socket
        if socket is None or self.closed_for:
            return
        self.closed_for = reason or "closed"
        socket.send_close(code, reason.encode()[:_CLOSE_REASON_BYTES].decode(errors="ignore"))  # type: ignore[arg-type]
        self._cut_at = self._sweep.clock() + self._limits.close_timeout_s

    def sweep(self, now: float) -> bool:
        """Cuts the connection off where the peer does not answer a close in time. True: it is open, look further."""
        if not self._cut_at:
            return True
        if now >= self._cut_at and self._socket is not None:
            self._socket.disconnect(graceful=False)
        return False
