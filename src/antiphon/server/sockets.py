"""Media sockets: WebSockets served by picows, without ASGI, a task or a queue between the wire and the listener.

A media route decides synchronously on the upgrade request, before anything is accepted: it returns a picows
``WSListener`` (the socket opens and the listener is called for every message) or a ``Refusal`` (sent as plain
HTTP; no 101). It may also raise one of ``antiphon.errors``.

What a listener gets: whole messages only (fragments are put together; ``frame.fin`` is always 1), text, binary
and pong frames and at the end the close frame, which is answered for it. Pings are answered for it as well.
Optional attributes of a listener: ``subprotocol: str`` (one of those offered, chosen in ``__init__``),
``on_drain()`` (the server is about to stop: end at the next good moment), ``on_lane(slot)`` (its audio may be read
past all this: ``server.lane``) and ``on_peer_fault(code: str)`` (the
peer broke the protocol and was sent a close with this reason; ``on_ws_disconnected`` follows).

What a listener owes: it sends what may be dropped only while
``transport.underlying_transport.get_write_buffer_size()`` is small (F15). A peer with more than
``SocketLimits.max_unsent_bytes`` waiting is cut off.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from binascii import Error as Base64Error
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest
from picows import WSUpgradeResponse as Response
from picows import WSUpgradeResponseWithListener as ResponseWithListener
from picows.picows import WSProtocol, _make_test_ws_frame  # type: ignore[attr-defined]

from antiphon.errors import AntiphonError, FrameTooLarge, PeerError
from antiphon.server.answers import Refusal, refusal_for, refuse
from antiphon.server.fragments import Fragments
from antiphon.server.lane import Lanes
from antiphon.server.outlet import Outlet
from antiphon.server.picows_log import PicowsLog

log = logging.getLogger("antiphon.server.sockets")

__all__ = ["MediaRoute", "MediaSockets", "Refusal", "SocketLimits", "Upgrade"]

_TEXT, _BINARY, _CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
_CLOSE_REASON_BYTES = 123
"""RFC 6455, section 5.5: a control frame holds at most 125 bytes, two of them the code."""


class Upgrade(msgspec.Struct, frozen=True):
    """A request to open a WebSocket.

    ``path`` is decoded and without the root path; ``headers`` have lower-case names, repeated ones are joined
    by ", "; ``client`` and ``scheme`` are the caller's own if a trusted proxy forwarded the request.
    """

    path: str
    query: str
    headers: dict[str, str]
    client: tuple[str, int] | None
    scheme: Literal["ws", "wss"]
    subprotocols: tuple[str, ...]


MediaRoute = Callable[[Upgrade], WSListener | Refusal]


class SocketLimits(msgspec.Struct, frozen=True, kw_only=True):
    """- ``max_message_bytes``: a longer message, fragmented or not, closes the socket with 1009 (F14).
    - ``max_unsent_bytes``: a peer for which more waits is cut off (F15). 1 MiB is a minute of mu-law in base64.
    - ``close_timeout_s``: how long a peer may take to answer our close.
    """

    max_message_bytes: int = 65_536
    max_unsent_bytes: int = 1 << 20
    close_timeout_s: float = 2.0


class MediaSockets:
    """The media routes of one server and the sockets open on them."""

    def __init__(
        self,
        routes: Mapping[str, MediaRoute],
        limits: SocketLimits | None = None,
        refused: Counter[str] | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self.routes = dict(routes)
        self.refused: Counter[str] = Counter() if refused is None else refused
        """Upgrades that were refused, by code."""
        self.limits = limits or SocketLimits()
        self.open: set[MediaSocket] = set()
        self.lanes = Lanes() if lanes is None else lanes
        self.draining = False
        self._changed = asyncio.Event()

    def decide(self, upgrade: Upgrade) -> WSListener | Refusal:
        """Asks the route; whatever goes wrong in it becomes a refusal."""
        answer = self._ask(upgrade)
        if isinstance(answer, Refusal):
            self.refused[answer.code or "other"] += 1
        return answer

    def _ask(self, upgrade: Upgrade) -> WSListener | Refusal:
        if self.draining:
            return refuse(503, "server.draining", "the server is about to stop", {"retry-after": "1"})
        try:
            answer = self.routes[upgrade.path](upgrade)
        except AntiphonError as error:
            return refusal_for(error)
        except Exception:
            log.exception("media route %s failed", upgrade.path)
            return refuse(500, "internal", "something went wrong on our side")
        if isinstance(answer, Refusal):
            return answer
        chosen = getattr(answer, "subprotocol", "")
        if chosen and chosen not in upgrade.subprotocols:
            log.error("media route %s chose subprotocol %r, which was not offered", upgrade.path, chosen)
            return refuse(500, "internal", "something went wrong on our side")
        return answer

    def drain(self) -> None:
        """No socket opens from now on; listeners with ``on_drain`` are told."""
        self.draining = True
        for socket in list(self.open):
            socket.drain()

    def close(self, code: int, reason: str) -> None:
        """Closes every socket; a peer that does not answer in time is cut off."""
        for socket in list(self.open):
            socket.close(code, reason)

    def abort(self) -> None:
        """Cuts every socket off."""
        for socket in list(self.open):
            socket.abort()

    async def wait_empty(self) -> None:
        """Returns when no socket is open."""
        while self.open:
            self._changed.clear()
            await self._changed.wait()

    def left(self, socket: MediaSocket) -> None:
        self.open.discard(socket)
        self._changed.set()


class MediaSocket(WSListener):
    """One open media socket: stands before its listener, makes fragments whole and answers the close.

    A listener with ``on_ws_text`` is given whole text messages there, as bytes; all else, and all of one without it,
    comes to its ``on_ws_frame``.
    """

    __slots__ = (
        "_fragments", "_listener", "_on_message", "_on_text", "_outlet", "_peers", "_sockets", "_transport",
    )  # fmt: skip

    def __init__(self, listener: WSListener, sockets: MediaSockets, outlet: Outlet, peers: set[Any]) -> None:
        self._listener = listener
        self._sockets = sockets
        self._outlet = outlet
        self._peers = peers  # uvicorn's connections: it counts them, and tells each to shut down
        self._fragments = Fragments(sockets.limits.max_message_bytes)
        self._transport: WSTransport | None = None
        self._on_message = listener.on_ws_frame
        self._on_text: Callable[[bytes], None] | None = getattr(listener, "on_ws_text", None)

    # -- what picows tells --------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._sockets.open.add(self)
        self._peers.add(self)
        self._listener.on_ws_connected(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if transport.is_close_frame_sent and kind is not WSMsgType.CLOSE:
            return  # what the peer had on its way when we closed
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._refuse(WSCloseCode.PROTOCOL_ERROR, "frame.extension")  # none was agreed on
        elif (kind is _TEXT or kind is _BINARY) and frame.fin and not self._fragments.begun:
            if kind is _TEXT and self._on_text is not None:
                self._on_text(frame.get_payload_as_bytes())
            else:
                self._on_message(transport, frame)
        elif kind is _TEXT or kind is _BINARY or kind is _CONTINUATION:
            self._on_fragment(transport, frame)
        else:
            self._on_message(transport, frame)
            if kind is WSMsgType.CLOSE:
                # An empty close frame has no code; the code 0 that picows gives it must not be sent.
                transport.send_close(frame.get_close_code() or WSCloseCode.OK)
                transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._peers.discard(self)
        self._sockets.left(self)
        try:
            self._listener.on_ws_disconnected(transport)
        finally:
            self._outlet.leave_lane()
            # They know each other: only a full collection, which is seldom, would find them.
            self._outlet.picows = self._transport = None

    def pause_writing(self) -> None:
        self._listener.pause_writing()

    def resume_writing(self) -> None:
        self._listener.resume_writing()

    def _on_fragment(self, transport: WSTransport, frame: WSFrame) -> None:
        try:
            whole = self._fragments.add(
                frame.get_payload_as_bytes(),
                text=frame.msg_type is _TEXT,
                continues=frame.msg_type is _CONTINUATION,
                fin=bool(frame.fin),
            )
        except FrameTooLarge as wrong:
            self._refuse(WSCloseCode.MESSAGE_TOO_BIG, wrong.code)
        except PeerError as wrong:
            self._refuse(WSCloseCode.PROTOCOL_ERROR, wrong.code)
        else:
            if whole is not None:
                is_text, payload = whole
                self._on_message(transport, _make_test_ws_frame(_TEXT if is_text else _BINARY, payload, True, False))

    def on_parser_error(self, code: WSCloseCode) -> None:
        """picows cannot make a frame of what came, or will not: the header announces more than the limit."""
        too_large = code is WSCloseCode.MESSAGE_TOO_BIG
        self._refuse(code, FrameTooLarge.default_code if too_large else "frame.protocol")

    def _refuse(self, code: WSCloseCode, reason: str) -> None:
        """Closes and leaves at once: what the peer has on its way is read by nobody and needs no room."""
        transport = self._transport
        if transport is not None and not transport.is_close_frame_sent:
            transport.send_close(code, reason)
            transport.disconnect()
            self._tell("on_peer_fault", reason)

    # -- what the server orders ---------------------------------------------------------------------

    def drain(self) -> None:
        self._tell("on_drain")

    def _tell(self, name: str, *what: str) -> None:
        """Calls an optional method of the listener. A defect in one must not keep the others from being told."""
        method = getattr(self._listener, name, None)
        if method is not None:
            try:
                method(*what)
            except Exception:
                log.exception("%s failed", name)

    def close(self, code: int, reason: str) -> None:
        if self._transport is not None and not self._outlet.is_closing():
            short = reason.encode()[:_CLOSE_REASON_BYTES].decode(errors="ignore")
            self._transport.send_close(code, short)  # type: ignore[arg-type]
            asyncio.get_running_loop().call_later(self._sockets.limits.close_timeout_s, self.abort)

    def abort(self) -> None:
        self._outlet.abort()

    def shutdown(self) -> None:
        """uvicorn's word to every connection when the server ends."""
        self.close(1012, "server.restart")


def open_media_socket(
    sockets: MediaSockets, listener: WSListener, transport: asyncio.Transport, key: str, peers: set[Any]
) -> None:
    """Answers 101 and hands the connection to picows. ``key`` is the valid ``Sec-WebSocket-Key``.

    picows gets a request of our own making with only what its handshake needs: it would refuse
    ``Connection: keep-alive, Upgrade``, which browsers send, and would keep every header for the call's length.
    """
    outlet = Outlet(transport, sockets.limits.max_unsent_bytes)
    socket = MediaSocket(listener, sockets, outlet, peers)
    chosen = getattr(listener, "subprotocol", "")

    def accept(_: WSUpgradeRequest) -> ResponseWithListener:
        headers = {"Sec-WebSocket-Protocol": chosen} if chosen else None
        return ResponseWithListener(Response.create_101_response(headers), socket)

    protocol = WSProtocol(
        host_port=None,
        ws_path=None,
        is_client_side=False,
        ws_listener_factory=accept,
        logger=PicowsLog(socket.on_parser_error),
        disconnect_on_exception=True,
        websocket_handshake_timeout=None,  # the handshake is complete below
        enable_auto_ping=False,  # a task per socket; lines time out on silence themselves
        auto_ping_idle_timeout=1,
        auto_ping_reply_timeout=1,
        auto_ping_strategy=1,
        enable_auto_pong=True,
        max_frame_size=sockets.limits.max_message_bytes,
        extra_headers=None,
        read_buffer_init_size=8192,
    )
    outlet.picows = protocol
    head = (
        "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()
    protocol.connection_made(outlet)
    transport.set_protocol(protocol)
    protocol.get_buffer(-1)[: len(head)] = head
    protocol.buffer_updated(len(head))
    if hasattr(listener, "on_lane") and not outlet.is_closing():
        outlet.passage = passage = sockets.lanes.join(transport, outlet)
        if passage is not None:
            listener.on_lane(passage.slot)


# -- the upgrade request ----------------------------------------------------------------------------


def handshake_fault(method: str, http_version: str, headers: Mapping[str, str]) -> Refusal | None:
    """What is wrong with an upgrade request by RFC 6455, sections 4.2.1 and 4.4; ``None`` if nothing is."""
    if http_version != "1.1":
        return refuse(400, "http.bad_upgrade", "a WebSocket needs HTTP/1.1")
    if method != "GET":
        return refuse(405, "http.bad_upgrade", "a WebSocket is asked for with GET", {"allow": "GET"})
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        return refuse(400, "http.bad_upgrade", "a WebSocket request has no body")
    if headers.get("sec-websocket-version") != "13":
        wanted = {"sec-websocket-version": "13", "upgrade": "websocket"}
        return refuse(426, "http.bad_upgrade", "only WebSocket version 13 is spoken here", wanted)
    try:
        usable = len(b64decode(headers.get("sec-websocket-key", ""), validate=True)) == 16
    except (Base64Error, ValueError):
        usable = False
    return None if usable else refuse(400, "http.bad_upgrade", "Sec-WebSocket-Key must be 16 bytes in base64")


def joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name; repeated ones joined by ", " (RFC 9110, section 5.2)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def offered(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The subprotocols offered, in order of preference."""
    tokens = (token.strip() for token in headers.get("sec-websocket-protocol", "").split(","))
    return tuple(token for token in tokens if token)
