"""Binding, starting and the three ways to end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from fastapi import APIRouter
from picows import WSMsgType
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from antiphon.errors import AntiphonError, ConfigError
from antiphon.server.binding import bind
from antiphon.server.run import Running, Tls, run, serve
from antiphon.server.sockets import SocketLimits
from antiphon.server.vitals import Vitals


def refused(kit: Any, **options: Any) -> AntiphonError:
    async def main() -> None:
        await serve(kit.make_app(), {}, signals=False, tune_gc=False, **{"port": 0, **options})

    with pytest.raises(AntiphonError) as error:
        asyncio.run(asyncio.wait_for(main(), 5))
    return error.value


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])  # noqa: S104 - refused is what they are to be
def test_others_are_not_let_in_unless_something_authenticates_them(kit: Any, host: str) -> None:
    error = refused(kit, host=host)
    assert isinstance(error, ConfigError)
    assert error.code == "server.open_bind"
    assert "127.0.0.1" in str(error)

    async def main() -> None:
        for option in ("authenticated", "allow_open"):
            async with kit.running({}, host=host, **{option: True}) as server:
                address = "::1" if host == "::" else "127.0.0.1"
                _, writer = await asyncio.open_connection(address, server.port)
                writer.close()

    asyncio.run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_this_machine_is_always_let_in(kit: Any, host: str) -> None:
    async def main() -> None:
        async with (
            kit.running({"/media": kit.Echoes()}, host=host) as server,
            connect(server.url("/media", "ws")) as client,
        ):
            await client.send("x")
            assert await client.recv() == "x"

    asyncio.run(main())


def test_an_address_in_use(kit: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        error = refused(kit, port=taken.getsockname()[1])
    assert error.code == "server.bind"


def test_several_sockets_may_share_a_port(kit: Any) -> None:
    async def main() -> None:
        first, second = await bind("127.0.0.1", 0, open_allowed=False, sockets=2)
        assert first.getsockname() == second.getsockname()
        async with kit.running({}, listening=first) as server:
            assert server.port == second.getsockname()[1]
            second.close()
            answer = await kit.raw(server, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200")
        assert first.fileno() == -1, "it is closed at the end"

    asyncio.run(main())


def test_several_sockets_are_bound_under_the_same_conditions() -> None:
    async def main() -> None:
        with pytest.raises(ConfigError) as caught:
            await bind("0.0.0.0", 0, open_allowed=False, sockets=2)  # noqa: S104
        assert caught.value.code == "server.open_bind"
        with socket.create_server(("127.0.0.1", 0)) as taken:
            with pytest.raises(ConfigError) as caught:
                await bind("127.0.0.1", taken.getsockname()[1], open_allowed=False, sockets=2)
            assert caught.value.code == "server.bind"

    asyncio.run(main())


@pytest.mark.parametrize("secure", [False, True])
def test_a_connection_that_somebody_else_accepted_is_served(kit: Any, secure: bool, tmp_path: Path) -> None:
    """As the supervisor of several workers passes them on for one that is down."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    tls = Tls(cert=str(tmp_path / "cert.pem"), key=str(tmp_path / "key.pem")) if secure else None
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as elsewhere:
            async with kit.running({}, tls=tls) as server:
                calling = asyncio.open_connection(*elsewhere.getsockname(), ssl=trusting if secure else None)
                asking = asyncio.ensure_future(calling)
                connection, _ = await asyncio.to_thread(elsewhere.accept)
                connection.setblocking(False)
                await server.adopt(connection)
                reader, writer = await asking
                writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200")
                writer.close()

    asyncio.run(main())


def test_an_unusable_certificate(kit: Any, tmp_path: Any) -> None:
    (tmp_path / "bad.pem").write_text("not a certificate")
    for path in ("bad.pem", "missing.pem"):
        error = refused(kit, tls=Tls(cert=str(tmp_path / path), key=str(tmp_path / path)))
        assert error.code == "server.tls"
    assert refused(kit, tls=Tls(cert="", key="", oldest="1.0")).code == "server.tls"


def test_an_application_that_does_not_start(kit: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    async def main() -> None:
        await serve(app, {}, port=0, signals=False, tune_gc=False)

    with pytest.raises(AntiphonError) as error:
        asyncio.run(main())
    assert error.value.code == "server.startup"


def test_cancellation_is_a_clean_stop(kit: Any, run_on: Any) -> None:
    async def main() -> None:
        route = kit.Echoes()
        ready: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(
            serve(kit.make_app(), {"/media": route}, port=0, on_ready=ready.set_result, signals=False, tune_gc=False)
        )
        server = await ready
        async with connect(server.url("/media", "ws")) as client:
            task.cancel()
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd.code == 1001
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()
        assert route.all[0].gone.is_set()
        assert route.all[0].told[-1][0] is WSMsgType.CLOSE, "the peer's answer to our close was waited for"

    run_on(main())


def test_drain_lets_calls_end_and_takes_no_new_ones(kit: Any, run_on: Any) -> None:
    async def main() -> None:
        told: list[str] = []
        vitals = Vitals()

        def make(upgrade: Any) -> Any:
            echo = kit.Echo(upgrade)
            echo.on_drain = lambda: told.append("drain")
            return echo

        async with kit.running(
            {"/media": kit.Echoes(make)}, drain_s=30, vitals=vitals, on_drain=lambda: told.append("server")
        ) as server:
            async with connect(server.url("/media", "ws")) as client:
                server.drain()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert told == ["drain", "server"]
                assert vitals.draining
                with pytest.raises(InvalidStatus) as refusal:
                    await connect(server.url("/media", "ws"))
                assert refusal.value.response.status_code == 503
                assert refusal.value.response.headers["retry-after"] == "1"
                await client.send("still talking")
                assert await client.recv() == "still talking"
            begun = time.monotonic()
        assert time.monotonic() - begun < 2, "the server waits no longer than the last call"

    run_on(main())


def test_drain_has_an_end(kit: Any, run_on: Any) -> None:
    async def main() -> None:
        def broken() -> None:
            raise RuntimeError("must not keep the server from ending")

        def make(upgrade: Any) -> Any:
            echo = kit.Echo(upgrade)
            echo.on_drain = broken
            return echo

        route = kit.Echoes(make)

        async with (
            kit.running({"/media": route}, drain_s=0.2, on_drain=broken) as server,
            connect(server.url("/media", "ws")) as client,
        ):
            server.drain()
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(client.recv(), 5)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "server.restart")
        assert route.all[0].gone.is_set()

    run_on(main())


def test_a_peer_that_answers_no_close_is_cut_off(kit: Any, run_on: Any) -> None:
    async def main() -> None:
        route = kit.Echoes()
        limits = SocketLimits(close_timeout_s=0.2)
        begun = time.monotonic()
        async with kit.running({"/media": route}, socket_limits=limits) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(kit.upgrade_request())
            await reader.readuntil(b"\r\n\r\n")
            server.stop()
            assert (await asyncio.wait_for(reader.readexactly(2), 5))[0] == 0x88
            await asyncio.wait_for(route.all[0].gone.wait(), 5)
            writer.close()
        assert time.monotonic() - begun < 3

    run_on(main())


def test_uvicorns_own_word_to_end_is_obeyed(kit: Any) -> None:
    async def main() -> None:
        route = kit.Echoes()
        async with kit.running({"/media": route}, socket_limits=SocketLimits(close_timeout_s=0.2)) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(kit.upgrade_request())
            await reader.readuntil(b"\r\n\r\n")
            (connection,) = server._server.server_state.connections
            connection.shutdown()
            assert (await asyncio.wait_for(reader.readexactly(18), 5))[2:] == b"\x03\xf4server.restart"
            await asyncio.wait_for(route.all[0].gone.wait(), 2)
            assert server._server.server_state.connections == set()
            writer.close()

    asyncio.run(main())


def test_a_second_stop_waits_for_no_request(kit: Any, run_on: Any) -> None:
    router = APIRouter()
    asked = asyncio.Event()

    @router.get("/hangs")
    async def hangs() -> None:
        asked.set()
        await asyncio.Event().wait()

    async def main() -> None:
        async with kit.running({}, kit.make_app(routers=(router,))) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"GET /hangs HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.wait_for(asked.wait(), 5)
            begun = time.monotonic()
            server.stop()
            await asyncio.sleep(0.05)
            server.stop()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 1) == b""
        writer.close()
        assert time.monotonic() - begun < 2

    run_on(main())


def test_a_second_stop_cuts(kit: Any) -> None:
    async def main() -> None:
        async with kit.running({"/media": kit.Echoes()}, socket_limits=SocketLimits(close_timeout_s=60)) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(kit.upgrade_request())
            await reader.readuntil(b"\r\n\r\n")
            server.stop()
            await asyncio.sleep(0.05)
            begun = time.monotonic()
            server.stop()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await asyncio.wait_for(reader.readexactly(10_000), 5)
            writer.close()
        assert time.monotonic() - begun < 2

    asyncio.run(main())


PROGRAM = """
import asyncio, gc, sys
from picows import WSListener
from antiphon.server.app import Services, create_app
from antiphon.server.run import run, serve
from antiphon.server.vitals import Vitals
class Host:
    active, capacity = 0, 10
class Listener(WSListener):
    def on_drain(self): print("drain", flush=True)
def ready(server): print(server.port, flush=True)
vitals = Vitals(watchdog_s=2)
app = create_app(Services(host=Host(), vitals=vitals))
async def main():
    await serve(app, {"/media": lambda _: Listener()}, port=0, vitals=vitals, on_ready=ready, drain_s=0.4)
    print("ended", gc.get_freeze_count() < 1000, flush=True)
run(main())
"""


@pytest.mark.parametrize(
    ("signals", "code", "lines"),
    [
        ([signal.SIGTERM], 1012, ["drain", "ended True"]),
        ([signal.SIGINT], 1001, ["drain", "ended True"]),
        ([signal.SIGTERM, signal.SIGINT], 1001, ["drain", "ended True"]),
    ],
)
def test_signals(signals: list[int], code: int, lines: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None

    async def main(port: int) -> int:
        async with connect(f"ws://127.0.0.1:{port}/media") as client:
            for number in signals:
                process.send_signal(number)
                await asyncio.sleep(0.05)
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(client.recv(), 5)
            return int(closed.value.rcvd.code)

    try:
        assert asyncio.run(main(int(process.stdout.readline()))) == code
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert out.splitlines() == lines
    assert process.returncode == 0
    assert "Traceback" not in err


def test_the_collector_is_told_to_rest_and_woken_after(kit: Any) -> None:
    before = gc.get_threshold()
    seen: list[tuple[int, bool]] = []

    async def main() -> None:
        async with kit.running({}, tune_gc=True):
            seen.append((gc.get_freeze_count(), gc.get_threshold()[0] > before[0]))

    asyncio.run(main())
    ((frozen, raised),) = seen
    assert frozen > 10_000
    assert raised
    assert gc.get_threshold() == before


def test_run_uses_uvloop() -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert run(main()).startswith("uvloop")
