"""Media sockets read together, in C: what a line need not decide itself costs no Python object (``antiphon.lane``).

Optional: where the extension was not compiled (no C compiler, not Linux), or a connection cannot be read this way
(TLS), picows reads the socket as ever. The bytes are the same, so is the parser of all that is not ordinary audio, and
so is everything that a line counts. What it saves: over half of what receiving costs.

A listener that has ``on_lane(slot)`` is offered its place when it opens, and arms it when its call has begun.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from antiphon.lane import is_compiled, open_lane
from antiphon.transports.line_guard import MESSAGE_COST

if TYPE_CHECKING:
    from antiphon.lane import Lane, Slot
    from antiphon.server.outlet import Outlet

log = logging.getLogger("antiphon.server.lane")

MANY = 16
BEAT_S = 0.010
"""With so many sockets they are read in beats: a hundred times a second whatever comes is read at once, instead of
waking up for nearly every message. A barge-in, a digit or a mark is known up to 10 ms later for it; the end of a turn
is not, as that is counted from when the caller fell silent."""


class Lanes:
    """The lane of one server; it is opened for the first socket, and rests while there is none.

    From ``many`` sockets on they are read in beats, and audio is given in whole pieces: below, as it comes.
    """

    def __init__(self, *, wanted: bool = True, many: int = MANY) -> None:
        self._many = many
        self._wanted = wanted and is_compiled()
        self._lane: Lane | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_watched = False
        self._beat: asyncio.TimerHandle | None = None
        self._has_more = False

    @property
    def joined(self) -> int:
        """How many sockets it reads."""
        return 0 if self._lane is None else len(self._lane)

    def join(self, transport: asyncio.Transport, outlet: Outlet) -> Passage | None:
        """Takes the reading of a connection over, which must stand at the beginning of a frame. ``None``: it cannot."""
        if not self._wanted or transport.get_extra_info("sslcontext") is not None:
            return None
        peer = transport.get_extra_info("socket")
        if peer is None:
            return None
        passage = Passage(self, transport, outlet)
        transport.pause_reading()
        try:
            if self._lane is None:
                self._lane, self._loop = open_lane(self._many), asyncio.get_running_loop()
            if self._lane is not None:
                passage.slot = self._lane.join(peer.fileno(), passage, MESSAGE_COST)
        except OSError as error:  # no descriptor or memory left: the connection can be read without it
            log.warning("a media socket is read without the lane: %s", error)
        if passage.slot is None:
            transport.resume_reading()
            return None
        self.changed()
        return passage

    def changed(self) -> None:
        """Few sockets are watched; many are read in beats."""
        lane, loop = self._lane, self._loop
        if lane is None or loop is None:
            return
        joined = len(lane)
        watch = 0 < joined < self._many
        if watch and not self._is_watched:
            loop.add_reader(lane.fileno(), lane.poll)
        elif self._is_watched and not watch:
            loop.remove_reader(lane.fileno())
        self._is_watched = watch
        if joined >= self._many and self._beat is None:
            self._beat = loop.call_later(BEAT_S, self._read)

    def _read(self) -> None:
        lane, loop = self._lane, self._loop
        self._beat = None
        if lane is not None and loop is not None and len(lane) >= self._many:
            self._beat = loop.call_later(BEAT_S, self._read)
            if not self._has_more:  # else the rest of the last beat is still being read
                self._read_some()

    def _read_some(self) -> None:
        """Some sockets, and the others in the loop's next round: a burst of reading holds up the answers."""
        lane, loop = self._lane, self._loop
        self._has_more = False  # whatever becomes of this read, the next beat reads again
        self._has_more = lane is not None and loop is not None and lane.poll()
        if self._has_more and loop is not None:
            loop.call_soon(self._read_some)


class Passage:
    """One connection's way past picows, and to it: the ``owner`` of its slot."""

    __slots__ = ("_lanes", "_outlet", "_transport", "slot")

    def __init__(self, lanes: Lanes, transport: asyncio.Transport, outlet: Outlet) -> None:
        self._lanes = lanes
        self._transport = transport
        self._outlet: Outlet | None = outlet
        self.slot: Slot | None = None

    def pass_on(self, data: bytes) -> None:
        """To picows, as if it had read it."""
        outlet = self._outlet
        while data and outlet is not None:
            room = outlet.picows.get_buffer(-1)
            taken = min(len(room), len(data))
            room[:taken] = data[:taken]
            outlet.picows.buffer_updated(taken)
            data, outlet = data[taken:], self._outlet

    def at_end(self) -> None:
        """The transport finds out itself what there is to find out."""
        self.leave()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def failed(self, error: BaseException) -> None:
        """A listener raised; picows ends such a connection as well."""
        log.error("a media socket's listener failed: the connection is cut", exc_info=error)
        if self._outlet is not None:
            self._outlet.abort()

    def leave(self) -> None:
        """Reads no more. May be called twice."""
        slot, self.slot, self._outlet = self.slot, None, None
        if slot is not None:
            slot.leave()
            self._lanes.changed()
