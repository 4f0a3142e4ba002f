"""Running the server: binding, start, and the three ways to end.

- drain (SIGTERM): nothing new is taken, listeners are told, running calls get ``drain_s``; then 1012.
- stop (SIGINT): everything is closed cleanly at once, with 1001.
- cut (SIGINT again): connections are aborted.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine, Generator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import uvicorn

from antiphon.errors import AntiphonError, ConfigError
from antiphon.server import garbage
from antiphon.server.binding import bind
from antiphon.server.connection import HttpConnection, HttpLimits
from antiphon.server.sockets import MediaRoute, MediaSockets, SocketLimits
from antiphon.server.vitals import Vitals

log = logging.getLogger("antiphon.server.run")

T = TypeVar("T")

HTTP_GRACE_S = 5
"""How long HTTP requests in flight may take when the server ends."""


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files, and the oldest version spoken: "1.2" or "1.3"."""

    cert: str
    key: str
    oldest: str = "1.2"

    def context(self) -> ssl.SSLContext:
        """Raises ``ConfigError`` if the files cannot be used."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        versions = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
        if self.oldest not in versions:
            raise ConfigError('the oldest TLS version must be "1.2" or "1.3"', code="server.tls")
        context.minimum_version = versions[self.oldest]
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            files = f"{Path(self.cert)} and {Path(self.key)}"
            raise ConfigError(f"the TLS certificate cannot be used ({files}): {error}", code="server.tls") from None
        return context


class Running:
    """A server that listens. ``port`` is the real one, also when 0 was asked for."""

    def __init__(self, server: Server, host: str, port: int, secure: bool) -> None:
        self._server = server
        self.host = host
        self.port = port
        self.secure = secure

    def url(self, path: str = "/", scheme: str = "http") -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}{'s' if self.secure else ''}://{host}:{self.port}{path}"

    async def adopt(self, connection: socket.socket) -> None:
        """Serves a connection that somebody else has accepted, such as for a worker that is gone."""
        await self._server.adopt(connection)

    def leave(self) -> None:
        """Listens no more, and drains: for one of several that share an address, whose others go on."""
        for listener in self._server.servers:
            listener.close()
        self.drain()

    def drain(self) -> None:
        """What SIGTERM does. A second time it changes nothing."""
        self._server.end_with("drain")

    def stop(self) -> None:
        """What SIGINT does: a clean end without waiting; called again, connections are cut."""
        self._server.end_with("cut" if self._server.ending in ("stop", "cut") else "stop")


class Server(uvicorn.Server):
    """uvicorn's server with our way to end, and no signal handlers of its own."""

    def __init__(self, config: uvicorn.Config, sockets: MediaSockets, vitals: Vitals, drain_s: float) -> None:
        super().__init__(config)
        self.sockets = sockets
        self.vitals = vitals
        self.drain_s = drain_s
        self.ending = ""
        self.on_start: Callable[[], None] = lambda: None
        self.on_drain: Callable[[], None] = lambda: None
        self._changed = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_start()

    async def adopt(self, connection: socket.socket) -> None:
        config = self.config

        def protocol() -> asyncio.Protocol:  # as uvicorn makes one for what it accepts itself
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
                _loop=asyncio.get_running_loop(),
            )
            return made

        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(protocol, connection, ssl=config.ssl)

    def end_with(self, how: str) -> None:
        """``drain``, ``stop`` or ``cut``; a later word only ever makes it quicker."""
        order = ("", "drain", "stop", "cut")
        if order.index(how) > order.index(self.ending):
            self.ending = how
            self._changed.set()

    async def end(self) -> None:
        """Waits for the word, then ends the media sockets; uvicorn ends the rest."""
        while not self.ending:
            await self._changed.wait()
        self.vitals.draining = True
        self.sockets.drain()
        try:
            self.on_drain()
        except Exception:
            log.exception("on_drain failed")
        if self.ending == "drain":
            log.info("draining: %s media sockets open, %s s at most", len(self.sockets.open), self.drain_s)
            await self._empty_or_quicker(self.drain_s, "drain")
        if self.ending == "drain":
            self.sockets.close(1012, "server.restart")
        else:
            self.sockets.close(1001, "server.stopping")
        if self.ending != "cut":
            await self._empty_or_quicker(self.sockets.limits.close_timeout_s, "drain", "stop")
        self.sockets.abort()
        self.should_exit = True
        while self.ending != "cut":
            self._changed.clear()
            await self._changed.wait()
        self.force_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _empty_or_quicker(self, seconds: float, *while_ending: str) -> None:
        """Until no media socket is open, the time is over, or a quicker end is asked for."""
        empty = asyncio.ensure_future(self.sockets.wait_empty())
        try:
            async with asyncio.timeout(seconds):
                while not empty.done() and self.ending in while_ending:
                    self._changed.clear()
                    word = asyncio.ensure_future(self._changed.wait())
                    await asyncio.wait({empty, word}, return_when=asyncio.FIRST_COMPLETED)
                    word.cancel()
        except TimeoutError:
            pass
        finally:
            empty.cancel()


async def serve(
    app: Any,
    routes: Mapping[str, MediaRoute],
    host: str = "127.0.0.1",
    port: int = 8004,
    *,
    vitals: Vitals | None = None,
    tls: Tls | None = None,
    authenticated: bool = False,
    allow_open: bool = False,
    drain_s: float = 30.0,
    on_ready: Callable[[Running], None] | None = None,
    on_drain: Callable[[], None] | None = None,
    root_path: str = "",
    trusted_proxies: str = "127.0.0.1,::1",
    listening: socket.socket | None = None,
    signals: bool = True,
    tune_gc: bool = True,
    socket_limits: SocketLimits | None = None,
    http_limits: HttpLimits | None = None,
) -> None:
    """Serves until it is told to end (a signal, ``Running``, or cancellation, which is a ``stop``).

    ``routes`` maps paths to media routes; ``app`` gets everything else. ``on_ready`` is called once with the bound
    port, ``on_drain`` when the server begins to end. ``trusted_proxies``: whose ``X-Forwarded-*`` count, addresses or
    networks with commas between. ``listening``: a socket of ``binding.bind`` to serve on instead, which is closed at
    the end. ``signals`` needs the main thread.

    Raises ``ConfigError``: ``server.open_bind`` (an address others can reach, and neither ``authenticated`` nor
    ``allow_open``; X35), ``server.bind`` (the address cannot be listened on), ``server.tls``; and ``AntiphonError``
    ``server.startup`` if the application's own start failed.
    """
    context = tls.context() if tls else None
    listening = listening or (await bind(host, port, open_allowed=authenticated or allow_open))[0]
    vitals = vitals or Vitals()
    sockets = MediaSockets(routes, socket_limits, vitals.refused)
    config = uvicorn.Config(
        app,
        http=functools.partial(HttpConnection, sockets, http_limits or HttpLimits()),  # type: ignore[arg-type]
        ws="websockets-sansio",
        ws_max_size=sockets.limits.max_message_bytes,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,  # a line per media message or webhook costs more than the request
        server_header=False,
        forwarded_allow_ips=trusted_proxies,
        root_path=root_path,
        timeout_graceful_shutdown=HTTP_GRACE_S,
        ssl_context_factory=(lambda _, __: context) if context else None,
    )
    server = Server(config, sockets, vitals, drain_s)
    running = Running(server, host, listening.getsockname()[1], secure=context is not None)
    if on_drain is not None:
        server.on_drain = on_drain

    def started() -> None:
        vitals.start()
        log.info("listening on %s", running.url())
        if on_ready is not None:
            on_ready(running)

    server.on_start = started
    with contextlib.ExitStack() as undo:
        undo.callback(listening.close)
        undo.callback(vitals.stop)
        if signals:
            undo.enter_context(_signals(running))
        if tune_gc:
            undo.enter_context(garbage.seldom())
        await _run(server, listening)


async def _run(server: Server, listening: socket.socket) -> None:
    async def uvicorn_serves() -> None:
        with contextlib.suppress(SystemExit):  # how uvicorn says, in some versions, that it did not start
            await server.serve(sockets=[listening])
        if not server.started and not server.ending:
            raise AntiphonError("the application's start failed, see the log", code="server.startup")

    serving = asyncio.ensure_future(uvicorn_serves())
    ending = asyncio.ensure_future(server.end())
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.end_with("stop")
        await serving
        raise
    finally:
        ending.cancel()


@contextlib.contextmanager
def _signals(running: Running) -> Generator[None, None, None]:
    loop = asyncio.get_running_loop()

    loop.add_signal_handler(signal.SIGTERM, running.drain)
    loop.add_signal_handler(signal.SIGINT, running.stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGINT)


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on uvloop where it is installed (20 to 40 % less CPU under HTTP)."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:  # on Windows and other interpreters
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
