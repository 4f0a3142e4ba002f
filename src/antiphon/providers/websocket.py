"""One WebSocket client for the providers on the network: how it opens, how long is waited, how it ends.

Import it where a connection is made, not at the top of a provider: aiohttp takes 135 ms to load.
A refused handshake (RFC 6455 section 4.1: any status but 101) is read like any other HTTP answer, with its
body; a redirect is not followed, so that a key never goes to another address.

Codes, after ``<stage>.``: those of ``failures.error_for``, and timeout_connect, unreachable, cut, garbage,
too_large, closed, with those of ``Patience``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, WSCloseCode, WSMsgType

from antiphon.errors import ProviderError
from antiphon.providers.endpoints import proxy_for
from antiphon.providers.failures import MAX_ERROR_BYTES, error_for, failed, failure, retry_after
from antiphon.providers.http import Patience, encoded
from antiphon.secret import Secret

MAX_MESSAGE_BYTES = 1024 * 1024
"""Twenty seconds of 24 kHz PCM as base64. A larger message ends the connection with close code 1009."""

CLOSE_S = 0.2
"""The longest wait to get the close frame out. The other end's own is not waited for: the caller already talks on."""

ERROR_BODY_S = 0.5


class Refused(aiohttp.ClientError):
    """The endpoint answers the handshake with something else than 101."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.headers = headers
        self.body = body


async def _refusals(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Reads what a refused handshake says. aiohttp itself would follow a redirect and drop the body."""
    response = await handler(request)
    if response.status == 101:
        return response
    body = b""
    try:
        async with asyncio.timeout(ERROR_BODY_S):
            while len(body) < MAX_ERROR_BYTES and (piece := await response.content.readany()):
                body += piece
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass  # the status alone says enough
    finally:
        response.close()
    raise Refused(response.status, response.headers, body[:MAX_ERROR_BYTES])


class Socket:
    """One open connection. One task may wait in ``receive`` while others send or close."""

    def __init__(
        self, ws: aiohttp.ClientWebSocketResponse, session: aiohttp.ClientSession, provider: str, stage: str
    ) -> None:
        self._ws = ws
        self._session = session
        self._provider = provider
        self._stage = stage
        self._ours = False
        self.close_code = 0
        """The code of the other end's close frame; 0 while there was none."""
        self.close_reason = ""

    @property
    def closed(self) -> bool:
        """True once nothing can be sent any more."""
        return self._ours or self._ws.closed

    async def send(self, message: dict[str, Any] | bytes | str, patience: Patience | None = None) -> None:
        """Sends a dict as JSON text, text as it is, bytes as a binary message.

        Waits only while the other end does not read what was sent before: for as long as ``patience`` allows, or
        without limit. Raises ``ProviderError`` (``cut``) if the connection is gone.
        """
        if isinstance(message, bytes):
            sending = self._ws.send_frame(message, WSMsgType.BINARY)
        else:
            text = message.encode("utf-8", "replace") if isinstance(message, str) else encoded(message)
            sending = self._ws.send_frame(text, WSMsgType.TEXT)
        try:
            await (sending if patience is None else patience.wait(sending))
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise self._failed("the connection broke", "cut") from None

    async def receive(self, patience: Patience | None = None) -> str | bytes | None:
        """The next message; ``None`` once the other end has closed in order, or we have.

        Raises ``ProviderError``: ``cut`` if the connection broke, ``too_large``, ``garbage`` if what came is no
        WebSocket frame, and what ``patience`` raises. Pings are answered within.
        """
        message = await (self._ws.receive() if patience is None else patience.wait(self._ws.receive()))
        if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
            data: str | bytes = message.data
            return data
        if message.type is WSMsgType.CLOSE:
            self.close_code, self.close_reason = message.data or 0, str(message.extra or "")
            return None
        if self._ours or self.close_code:
            return None
        raise self._broken(message.data if message.type is WSMsgType.ERROR else self._ws.exception())

    def ending(self, key: Secret | None = None) -> ProviderError:
        """The error for a close frame that came too early (RFC 6455 section 7.4.1), without ``key`` in its text."""
        said = failure({"message": self.close_reason}).without(key or Secret(""))
        detail = f": {said.message}" if said.message else ""
        text = f"the endpoint closed the connection ({self.close_code}){detail}"
        if self.close_code in {WSCloseCode.POLICY_VIOLATION, WSCloseCode.UNSUPPORTED_DATA, WSCloseCode.INVALID_TEXT}:
            return error_for(400, said, self._provider, self._stage)
        if self.close_code == WSCloseCode.MESSAGE_TOO_BIG:
            return error_for(413, said, self._provider, self._stage)
        if self.close_code in {WSCloseCode.INTERNAL_ERROR, WSCloseCode.SERVICE_RESTART, WSCloseCode.TRY_AGAIN_LATER}:
            return self._failed(text, "server")
        return self._failed(text, "closed" if self._ours else "cut")

    async def close(self, code: int = WSCloseCode.OK) -> None:
        """Sends the close frame and drops the connection. A second call does nothing."""
        if self._ours:
            return
        self._ours = True
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._ws.close(code=code)
        except TimeoutError:
            pass  # aiohttp has dropped the connection when its close is cancelled
        finally:
            await self._session.close()

    def _broken(self, error: BaseException | None) -> ProviderError:
        if isinstance(error, aiohttp.WebSocketError):
            if error.code == WSCloseCode.MESSAGE_TOO_BIG:
                return self._failed("the endpoint sent a message that is too large", "too_large")
            return self._failed("the endpoint sent something that is no WebSocket frame", "garbage")
        return self._failed("the connection broke", "cut")

    def _failed(self, text: str, code: str) -> ProviderError:
        return failed(text, code, self._provider, self._stage)


async def connect(
    session: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    patience: Patience,
    *,
    provider: str,
    stage: str,
    connect_s: float,
    key: Secret | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> Socket:
    """Opens a WebSocket over the session's connections. ``headers`` are added to the session's own.

    ``connect_s``: seconds for all of DNS, TCP, TLS and the handshake. ``key`` is left out of what an error says.
    Raises ``ProviderError``, ``ProviderTimeout`` (``timeout_connect``) or ``ProviderRefused``.
    """
    if session.closed:
        raise failed("the provider was closed", "closed", provider, stage)
    # A session of its own over the same connections: a middleware is given to a whole session only.
    own = aiohttp.ClientSession(
        connector=session.connector,
        connector_owner=False,
        headers={**session.headers, **headers},
        timeout=session.timeout,
        middlewares=(_refusals,),
        proxy=proxy_for(url),
    )
    opened: Socket | None = None
    try:
        ws = await patience.wait(_shaken(own, url, max_message_bytes, connect_s))
        opened = Socket(ws, own, provider, stage)
        return opened
    except Refused as refusal:
        said = failure(refusal.body).without(key or Secret(""))
        raise error_for(refusal.status, said, provider, stage, retry_after(refusal.headers, time.time())) from None
    except aiohttp.WSServerHandshakeError as error:
        raise failed(f"the endpoint speaks no WebSocket ({error.message})", "garbage", provider, stage) from None
    except (aiohttp.ClientError, OSError) as error:
        host = urlsplit(url).netloc.rpartition("@")[2]
        raise failed(f"{host} cannot be reached ({type(error).__name__})", "unreachable", provider, stage) from None
    finally:
        if opened is None:
            await own.close()


async def _shaken(
    session: aiohttp.ClientSession, url: str, max_message_bytes: int, connect_s: float
) -> aiohttp.ClientWebSocketResponse:
    try:
        async with asyncio.timeout(connect_s):
            # ws_close=0: the other end's close frame is not waited for.
            closing = aiohttp.ClientWSTimeout(ws_receive=None, ws_close=0.0)
            return await session.ws_connect(url, max_msg_size=max_message_bytes, timeout=closing)
    except TimeoutError:
        # Told apart from the patience of the whole request, which is a TimeoutError too.
        raise aiohttp.ConnectionTimeoutError from None
