"""What the media sockets take from picows beyond its documented interface. If an upgrade of picows breaks one of
these, no call can be taken: this file says which."""

from __future__ import annotations

import asyncio
import socket

import picows
import picows.picows
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from antiphon.server.picows_log import PicowsLog


def test_the_private_names_are_where_they_were() -> None:
    assert issubclass(picows.picows.WSProtocol, asyncio.BufferedProtocol)
    frame = picows.picows._make_test_ws_frame(WSMsgType.BINARY, b"payload", True, False)
    assert isinstance(frame, WSFrame)
    assert (frame.msg_type, bool(frame.fin), frame.payload_size) == (WSMsgType.BINARY, True, 7)
    assert frame.get_payload_as_bytes() == bytes(frame.get_payload_as_memoryview()) == b"payload"


def test_the_protocol_takes_a_transport_of_ours_and_is_fed_by_hand() -> None:
    """Its constructor's parameters, the methods it calls on a transport, and the two it is fed by."""

    class Listener(WSListener):
        def __init__(self) -> None:
            self.heard: list[bytes] = []
            self.gone = False

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            self.heard.append(frame.get_payload_as_bytes())

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            self.gone = True

    class Transport:
        def __init__(self, sock: socket.socket) -> None:
            self.socket = sock
            self.written = b""
            self.closed: list[str] = []

        def get_extra_info(self, name: str) -> object:
            return self.socket if name == "socket" else None

        def get_write_buffer_size(self) -> int:
            return 1  # so that picows writes through us and not to the socket itself

        def write(self, data: bytes) -> None:
            self.written += bytes(data)

        def close(self) -> None:
            self.closed.append("close")

        def abort(self) -> None:
            self.closed.append("abort")

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            listener, transport = Listener(), Transport(sock)
            protocol = picows.picows.WSProtocol(
                host_port=None,
                ws_path=None,
                is_client_side=False,
                ws_listener_factory=lambda _: listener,
                logger=PicowsLog(lambda code: protocol.transport.send_close(code, "ours")),
                disconnect_on_exception=True,
                websocket_handshake_timeout=None,
                enable_auto_ping=False,
                auto_ping_idle_timeout=1,
                auto_ping_reply_timeout=1,
                auto_ping_strategy=picows.WSAutoPingStrategy.PING_WHEN_IDLE,
                enable_auto_pong=True,
                max_frame_size=100,
                extra_headers=None,
                read_buffer_init_size=8192,
            )
            protocol.connection_made(transport)
            head = (
                b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            for piece in (head, b"\x81\x82\x00\x00\x00\x00hi"):
                buffer = protocol.get_buffer(-1)
                assert len(buffer) >= 4096
                buffer[: len(piece)] = piece
                protocol.buffer_updated(len(piece))
            # The example of RFC 6455, section 1.3.
            assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in transport.written
            assert listener.heard == [b"hi"]
            # Its parser's refusal is heard in its log, before its own close frame.
            announced = b"\x81\xfe\x00\x7e"  # 126 bytes
            protocol.get_buffer(-1)[: len(announced)] = announced
            protocol.buffer_updated(len(announced))
            assert transport.written.endswith(b"xOo=\r\n\r\n" + b"\x88\x06\x03\xf1ours")
            protocol.transport.disconnect()
            protocol.transport.disconnect(graceful=False)
            assert transport.closed == ["close", "abort"]
            protocol.connection_lost(None)
            assert listener.gone
            assert protocol.transport.is_disconnected

    asyncio.run(main())
