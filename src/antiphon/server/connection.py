"""One HTTP connection: uvicorn's, with bounds it does not have, and media sockets handed over to picows.

On an upgrade to WebSocket the path decides: a media path goes to ``sockets``, any other to uvicorn's own
WebSocket protocol and so to the ASGI application. Everything is on one port.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Any
from urllib.parse import unquote

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from antiphon.server.answers import Refusal, as_bytes, refuse
from antiphon.server.outlet import Linger
from antiphon.server.sockets import MediaSockets, Upgrade, handshake_fault, joined, offered, open_media_socket


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """- ``request_timeout_s``: for a request to arrive whole, from the connection's start or its first byte.
    - ``max_head_bytes``: request line and headers; more is answered 431.
    - ``max_body_bytes``: more is answered 413. Webhooks are a few kilobytes.
    - ``max_connections``: open at once, media sockets included; one more is closed unheard.
    """

    request_timeout_s: float = 10.0
    max_head_bytes: int = 16_384
    max_body_bytes: int = 1 << 20
    max_connections: int = 16_384


async def upgrade_required(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI answer to a plain request for a media path (RFC 9110, section 15.5.22)."""
    refusal = refuse(426, "http.upgrade_required", "this address is a WebSocket")
    headers = [(b"content-type", b"application/json"), (b"upgrade", b"websocket"), (b"connection", b"upgrade")]
    headers.append((b"content-length", b"%d" % len(refusal.body)))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body.encode()})


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """The application behind the proxy middleware when only what it does to the scope is wanted."""


@functools.lru_cache(maxsize=8)
def _proxies(trusted: str) -> ProxyHeadersMiddleware:
    """One for each server: to make one is to read the networks that are trusted."""
    return ProxyHeadersMiddleware(_nothing, trusted)


class HttpConnection(HttpToolsProtocol):
    """Give ``functools.partial(HttpConnection, sockets, limits)`` to uvicorn as ``http``."""

    def __init__(
        self,
        sockets: MediaSockets,
        limits: HttpLimits,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._sockets = sockets
        self._limits = limits
        self._fault: Refusal | None = None
        self._in_head = True
        self._head_bytes = 0
        self._body_bytes = 0
        self._overdue: asyncio.TimerHandle | None = None

    # -- bounds -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self._limits.max_connections:
            transport.abort()
            return
        super().connection_made(transport)
        self._overdue = self.loop.call_later(self._limits.request_timeout_s, self._on_overdue)

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_done()
        if self.transport is not None:
            super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._overdue is None:
            self._overdue = self.loop.call_later(self._limits.request_timeout_s, self._on_overdue)

    def on_headers_complete(self) -> None:
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._limits.max_head_bytes:
            self._fail(431, "the request's head is too large")
        length = dict(self.headers).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limits.max_body_bytes:
            self._fail(413, "the request's body is too large")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            self._fail(413, "the request's body is too large")
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes, self._body_bytes = True, 0, 0
        self._request_done()
        super().on_message_complete()

    def _fail(self, status: int, message: str) -> None:
        """Leaves the parser; ``data_received`` answers."""
        self._fault = refuse(status, "http.too_large", message)
        raise ValueError(message)

    def _request_done(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _on_overdue(self) -> None:
        self._overdue = None
        self._refuse(refuse(408, "http.request_timeout", "the request did not arrive in time"))

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Anything else than a WebSocket was already answered as a plain request.
            if self._should_upgrade():
                self._upgrade(early=upgrade.args[0] < len(data))
        except httptools.HttpParserError:
            self._refuse(self._fault or refuse(400, "http.bad_request", "this is not HTTP"))
        else:
            if self._in_head and self._head_bytes > self._limits.max_head_bytes:
                self._refuse(refuse(431, "http.too_large", "the request's head is too large"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answers and ends the connection."""
        self._request_done()
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()  # there is no place for another answer
                return
        self.transport.write(as_bytes(refusal, self.server_state.default_headers))
        Linger(self.transport, self.connection_lost)

    # -- upgrades -----------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        is_media = cycle.scope["path"].removeprefix(self.root_path) in self._sockets.routes
        super()._start_asgi_task(cycle, upgrade_required if is_media else app)

    def _upgrade(self, early: bool) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # the answer to the request before is still on its way
            return
        headers = joined(self.headers)
        fault = handshake_fault(self.scope["method"], self.scope["http_version"], headers)
        if fault is None and early:
            fault = refuse(400, "http.bad_upgrade", "data came before the handshake was answered")
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            fault = fault or refuse(400, "http.bad_request", "the address cannot be read")
        if fault is not None:
            self._refuse(fault)
            return
        path = unquote((url.path or b"/").decode("latin-1"))
        if path in self._sockets.routes:
            self._open_media(path, (url.query or b"").decode("latin-1"), headers)
        else:
            self.handle_websocket_upgrade()
            self._forget()

    def _forget(self) -> None:
        """The connection is another protocol's. The parser would keep all of this in memory until a full collection,
        which is seldom: it knows this object, and this object it (uvicorn lets go of it when a connection is lost)."""
        self.parser = None  # type: ignore[assignment]

    def _open_media(self, path: str, query: str, headers: dict[str, str]) -> None:
        client, scheme = self._caller()
        upgrade = Upgrade(path, query, headers, client, "wss" if scheme == "wss" else "ws", offered(headers))
        answer = self._sockets.decide(upgrade)
        if isinstance(answer, Refusal):
            self._refuse(answer)
            return
        self.connections.discard(self)
        open_media_socket(self._sockets, answer, self.transport, headers["sec-websocket-key"], self.connections)
        self._forget()

    def _caller(self) -> tuple[tuple[str, int] | None, str]:
        """Address and scheme of the caller, behind proxies that are trusted (uvicorn's rules, its own code)."""
        scope: Any = {
            "type": "websocket",
            "client": self.client,
            "scheme": "wss" if self.scheme == "https" else "ws",
            "headers": self.headers,
        }
        if self.config.proxy_headers:
            steps = _proxies(self.config.forwarded_allow_ips)(scope, None, None)  # type: ignore[arg-type]
            with contextlib.suppress(StopIteration):
                steps.send(None)  # nothing in it waits, so one step is all of it
        return scope["client"], scope["scheme"]
