"""Media sockets over real connections: what reaches the listener, and what never does."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

import pytest
import trustme
from picows import WSListener, WSMsgType
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close, Opcode

from antiphon.errors import AdmissionRefused, NotAllowed
from antiphon.server.answers import refuse
from antiphon.server.outlet import Linger
from antiphon.server.run import Tls
from antiphon.server.sockets import SocketLimits

TEXT, BINARY, PONG, CLOSE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PONG, WSMsgType.CLOSE


def masked(opcode: Opcode, data: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A client's frame, also a wrong one: written out here because libraries refuse to."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([fin << 7 | rsv1 << 6 | opcode]) + length + bytes(4) + data  # masked with zeros


async def opened(kit: Any, server: Any, path: str = "/media") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw connection after its 101."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(kit.upgrade_request(path))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 101 ")
    return reader, writer


async def read_close(reader: asyncio.StreamReader) -> Close:
    """The next frame, which must be a close."""
    first, length = await asyncio.wait_for(reader.readexactly(2), 5)
    assert first == 0x88, "not a close frame"
    return Close.parse(await reader.readexactly(length))


def test_text_and_binary_messages_reach_the_listener_as_such(kit: Any, run_on: Any) -> None:
    async def main() -> None:
        route = kit.Echoes()
        async with kit.running({"/media": route}) as server, connect(server.url("/media", "ws")) as client:
            await client.send("hello")
            await client.send(b"\x00\xff")
            assert [await client.recv(), await client.recv()] == ["hello", b"\x00\xff"]
        assert route.all[0].told[:2] == [(TEXT, b"hello", True), (BINARY, b"\x00\xff", True)]
        assert route.all[0].gone.is_set()

    run_on(main())


def test_tls(kit: Any, run_on: Any, tmp_path: Any) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    for number, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(tmp_path / "cert.pem", append=number > 0)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    tls = Tls(cert=str(tmp_path / "cert.pem"), key=str(tmp_path / "key.pem"), oldest="1.3")

    async def main() -> None:
        route = kit.Echoes()
        async with kit.running({"/media": route}, tls=tls) as server:
            async with connect(server.url("/media", "ws"), ssl=trust) as client:
                for size in (1, 1000, 20_000, 65_536):
                    await client.send("x" * size)
                    assert await client.recv() == "x" * size
            assert route.all[0].upgrade.scheme == "wss"
            async with connect(server.url("/media", "ws"), ssl=trust, max_size=None) as client:
                await client.send("x" * 100_000)
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
                assert closed.value.rcvd.code == 1009
            old = ssl.create_default_context()
            authority.configure_trust(old)
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(OSError):  # noqa: PT011 - an SSL alert or a reset, as the loop has it
                await connect(server.url("/media", "ws"), ssl=old)

    run_on(main())


@pytest.mark.parametrize(
    ("answer", "status", "code", "header"),
    [
        (refuse(401, "auth.refused", "no token"), 401, "auth.refused", ("connection", "close")),
        (NotAllowed("no token"), 401, "auth.refused", ("www-authenticate", "Bearer")),
        (AdmissionRefused("full", retry_after_s=7), 503, "admission.full", ("retry-after", "7")),
        (RuntimeError("secret detail"), 500, "internal", ("connection", "close")),
    ],
)
def test_a_refusal_comes_before_the_101(kit: Any, answer: Any, status: int, code: str, header: tuple[str, str]) -> None:
    def route(_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> None:
        async with kit.running({"/media": route}) as server:
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.url("/media", "ws"))
            response = refused.value.response
            assert response.status_code == status
            assert f'"code": "{code}"'.encode() in response.body
            assert b"secret detail" not in response.body
            assert response.headers[header[0]] == header[1]
            seen = await kit.raw(server, kit.upgrade_request())
            assert b" 101 " not in seen
            assert seen.count(b"HTTP/1.1") == 1

    asyncio.run(main())


def test_the_route_sees_the_request_whole(kit: Any) -> None:
    seen: list[Any] = []

    def route(upgrade: Any) -> Any:
        seen.append(upgrade)
        return refuse(403, "auth.refused", "no")

    async def main() -> None:
        async with kit.running({"/a b": route}, root_path="/voice") as server:
            await kit.raw(server, kit.upgrade_request("/a%20b?x=1&y", Cookie="a", Sec_WebSocket_Protocol="p1, p2 ,"))
            await kit.raw(
                server,
                kit.upgrade_request(
                    "/a%20b", X_Forwarded_For="203.0.113.9", X_Forwarded_Proto="https", Connection="keep-alive, Upgrade"
                ),
            )
        async with kit.running({"/a b": route}, trusted_proxies="10.0.0.1") as server:
            await kit.raw(
                server, kit.upgrade_request("/a%20b", X_Forwarded_For="203.0.113.9", X_Forwarded_Proto="https")
            )

    asyncio.run(main())
    first, proxied, untrusted = seen
    assert (first.path, first.query, first.subprotocols) == ("/a b", "x=1&y", ("p1", "p2"))
    assert first.headers["cookie"] == "a"
    assert (first.client[0], first.scheme) == ("127.0.0.1", "ws")
    assert (proxied.client[0], proxied.scheme) == ("203.0.113.9", "wss")
    assert (untrusted.client[0], untrusted.scheme) == ("127.0.0.1", "ws")


def test_a_browsers_connection_header_is_accepted(kit: Any) -> None:
    async def main() -> None:
        async with kit.running({"/media": kit.Echoes()}) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(kit.upgrade_request(Connection="keep-alive, Upgrade"))
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            writer.close()

    asyncio.run(main())


def test_subprotocols(kit: Any) -> None:
    def make(upgrade: Any) -> Any:
        echo = kit.Echo(upgrade)
        echo.subprotocol = "v2" if upgrade.query == "" else "never offered"
        return echo

    async def main() -> None:
        async with kit.running({"/media": kit.Echoes(make)}) as server:
            async with connect(server.url("/media", "ws"), subprotocols=["v1", "v2"]) as client:
                assert client.subprotocol == "v2"
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.url("/media?wrong", "ws"), subprotocols=["v1"])
            assert refused.value.response.status_code == 500

    asyncio.run(main())


def test_fragments_become_one_message_and_control_frames_pass_between(kit: Any, run_on: Any) -> None:
    async def main() -> None:
        route = kit.Echoes()
        async with kit.running({"/media": route}) as server:
            reader, writer = await opened(kit, server)
            writer.write(masked(Opcode.TEXT, b'{"a":', fin=False) + masked(Opcode.PING, b"are you there"))
            assert await asyncio.wait_for(reader.readexactly(15), 5) == b"\x8a\x0dare you there"
            writer.write(masked(Opcode.CONT, b"", fin=False) + masked(Opcode.PONG, b"p"))
            writer.write(masked(Opcode.CONT, b"1}") + masked(Opcode.BINARY, b"\x01", fin=False))
            writer.write(masked(Opcode.CONT, b"\x02"))
            assert await asyncio.wait_for(reader.readexactly(13), 5) == b'\x81\x07{"a":1}' + b"\x82\x02\x01\x02"
            writer.close()
            await asyncio.wait_for(route.all[0].gone.wait(), 5)
        assert route.all[0].told == [(PONG, b"p", True), (TEXT, b'{"a":1}', True), (BINARY, b"\x01\x02", True)]

    run_on(main())


HALF = b"x" * 40_000
EMPTY = masked(Opcode.TEXT, b"", fin=False) + masked(Opcode.CONT, b"", fin=False) * 5000
TOO_LARGE = "peer.frame_too_large"


@pytest.mark.parametrize(
    ("frames", "code", "reason"),
    [
        (masked(Opcode.TEXT, b"x" * 65_537), 1009, TOO_LARGE),
        (masked(Opcode.BINARY, b"x" * 65_537, fin=False), 1009, TOO_LARGE),
        (masked(Opcode.TEXT, b"x" * 3_000_000), 1009, TOO_LARGE),
        (masked(Opcode.TEXT, HALF, fin=False) + masked(Opcode.CONT, HALF), 1009, TOO_LARGE),
        (EMPTY, 1009, TOO_LARGE),
        (masked(Opcode.TEXT, b"a", fin=False) + masked(Opcode.TEXT, b"b"), 1002, "frame.fragmentation"),
        (masked(Opcode.CONT, b"a"), 1002, "frame.fragmentation"),
        (masked(Opcode.TEXT, b"a", rsv1=True), 1002, "frame.extension"),
        (masked(Opcode.TEXT, b"a", fin=False) + masked(Opcode.CONT, b"a", rsv1=True), 1002, "frame.extension"),
        (b"\x83\x80\x00\x00\x00\x00", 1002, "frame.protocol"),
        (b"\x81\x01a", 1002, "frame.protocol"),
        (b"\x81\xff" + bytes([255] * 8), 1002, "frame.protocol"),
        (masked(Opcode.CLOSE, b"\x03"), 1002, "frame.protocol"),
        (masked(Opcode.CLOSE, b"\x03\xe8\xff"), 1007, "frame.protocol"),
        (masked(Opcode.CLOSE, b""), 1000, ""),
        (masked(Opcode.CLOSE, b"\x03\xe8"), 1000, ""),
        (masked(Opcode.CLOSE, b"\x0f\xa1bye"), 4001, ""),
    ],
)
def test_close_codes(kit: Any, run_on: Any, frames: bytes, code: int, reason: str) -> None:
    async def main() -> None:
        route = kit.Echoes()
        async with kit.running({"/media": route}) as server:
            reader, writer = await opened(kit, server)
            # More behind a wrong one, which a careless close would answer with a reset that overtakes the close frame.
            more = masked(Opcode.TEXT, b"late") * 1000 if reason else b""  # nothing follows a correct close
            writer.write(frames + more)
            assert await read_close(reader) == Close(code, reason)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            await asyncio.wait_for(route.all[0].gone.wait(), 5)
            writer.close()
        assert all(kind is CLOSE for kind, _, _ in route.all[0].told)
        assert route.all[0].faults == ([reason] if reason else [])

    run_on(main())


def test_what_a_peer_announces_takes_no_room(kit: Any, run_on: Any) -> None:
    """A gibibyte by its header: closed there, and whatever follows is thrown away from that moment on."""

    async def main() -> None:
        route = kit.Echoes()
        async with kit.running({"/media": route}) as server:
            reader, writer = await opened(kit, server)
            writer.write(b"\x82\xff" + (1 << 30).to_bytes(8, "big") + bytes(100_000))
            assert await read_close(reader) == Close(1009, TOO_LARGE)
            assert isinstance(route.all[0].transport.underlying_transport.get_protocol(), Linger)
            writer.write(bytes(1 << 20))
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        assert route.all[0].told == []

    run_on(main())


def test_a_listener_that_cannot_take_a_fault_is_left_like_any(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Fragile(kit.Echo):
        def on_peer_fault(self, code: str) -> None:
            raise KeyError(code)

    async def main() -> None:
        route = kit.Echoes(Fragile)
        async with kit.running({"/media": route}) as server:
            reader, writer = await opened(kit, server)
            writer.write(masked(Opcode.CONT, b"a"))
            assert await read_close(reader) == Close(1002, "frame.fragmentation")
            await asyncio.wait_for(route.all[0].gone.wait(), 5)
            writer.close()

    asyncio.run(main())
    assert "on_peer_fault failed" in caplog.text


def test_the_largest_message_passes(kit: Any) -> None:
    async def main() -> None:
        async with (
            kit.running({"/media": kit.Echoes()}) as server,
            connect(server.url("/media", "ws")) as client,
        ):
            await client.send("x" * 65_536)
            assert len(await client.recv()) == 65_536
            await client.send(["x" * 65_000, "y" * 536])
            assert len(await client.recv()) == 65_536

    asyncio.run(main())


def test_a_listener_that_raises_closes_its_own_socket_only(kit: Any) -> None:
    class Broken(WSListener):
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            raise KeyError("a defect")

    async def main() -> None:
        async with (
            kit.running({"/media": kit.Echoes(), "/broken": lambda _: Broken()}) as server,
            connect(server.url("/media", "ws")) as good,
            connect(server.url("/broken", "ws")) as bad,
        ):
            await bad.send("x")
            with pytest.raises(ConnectionClosed) as closed:
                await bad.recv()
            assert closed.value.rcvd.code == 1011
            await good.send("still here")
            assert await good.recv() == "still here"

    asyncio.run(main())


def test_a_peer_that_sends_and_never_reads_is_cut_off(kit: Any, run_on: Any) -> None:
    limit = 256 * 1024

    class Measured(kit.Echo):
        most = 0

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            super().on_ws_frame(transport, frame)
            self.most = max(self.most, transport.underlying_transport.get_write_buffer_size())

    async def main() -> None:
        route = kit.Echoes(Measured)
        limits = SocketLimits(max_unsent_bytes=limit)
        async with kit.running({"/media": route}, socket_limits=limits) as server:
            _, writer = await opened(kit, server)
            writer.transport.pause_reading()
            echo = route.all[0]
            # Pings as well: their answers must not grow without bound either.
            piece = masked(Opcode.PING, b"x" * 125) * 200 + masked(Opcode.TEXT, b"y" * 30_000)
            with contextlib.suppress(ConnectionError):
                for _ in range(2000):
                    writer.write(piece)
                    await asyncio.wait_for(writer.drain(), 5)
                    if echo.gone.is_set():
                        break
            await asyncio.wait_for(echo.gone.wait(), 5)
            writer.close()
        assert limit / 2 < echo.most <= limit

    run_on(main())


def test_two_hundred_sockets_at_once(kit: Any, run_on: Any) -> None:
    async def one(url: str, number: int) -> bool:
        async with connect(url) as client:
            for turn in range(5):
                await client.send(f"{number}.{turn}")
                if await client.recv() != f"{number}.{turn}":
                    return False
        return True

    async def main() -> None:
        route = kit.Echoes()
        async with kit.running({"/media": route}) as server:
            url = server.url("/media", "ws")
            answers = await asyncio.gather(*(one(url, number) for number in range(200)))
        assert answers == [True] * 200
        assert len(route.all) == 200

    run_on(main())


def test_a_dropped_connection_is_told(kit: Any, run_on: Any) -> None:
    async def main() -> None:
        route = kit.Echoes()
        async with kit.running({"/media": route}) as server:
            _, writer = await opened(kit, server)
            writer.transport.abort()
            await asyncio.wait_for(route.all[0].gone.wait(), 5)
            route.all[0].transport.send(TEXT, b"to nobody")
            route.all[0].transport.send_close(1000)
            route.all[0].transport.disconnect()

    run_on(main())


def test_a_listener_may_close_and_go_at_once(kit: Any, run_on: Any) -> None:
    """The peer is still sending; it must read the code and not a reset."""

    class Curt(kit.Echo):
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if not self.told:
                transport.send_close(1008, "enough")
                transport.disconnect()
                transport.send(TEXT, b"nobody sends after a close")
                transport.disconnect()
            self.told.append(frame.msg_type)

    async def main() -> None:
        route = kit.Echoes(Curt)
        async with kit.running({"/media": route}) as server:
            reader, writer = await opened(kit, server)
            for _ in range(50):
                writer.write(masked(Opcode.TEXT, b"x" * 10_000))
                await asyncio.sleep(0)
            assert (await read_close(reader)).code == 1008
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            await asyncio.wait_for(route.all[0].gone.wait(), 5)
            route.all[0].transport.disconnect()
            await asyncio.sleep(0.01)
        assert (route.all[0].told, route.all[0].losses) == ([TEXT], 1)

    run_on(main())
