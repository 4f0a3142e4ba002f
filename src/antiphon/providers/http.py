"""One HTTP client for the providers on the network: how long is waited, what is sent, which proxy is taken.

Import it where a request is made, not at the top of a provider: aiohttp takes 135 ms to load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import aiohttp
import msgspec

from antiphon._version import __version__
from antiphon.errors import ProviderTimeout
from antiphon.providers.endpoints import proxy_for

T = TypeVar("T")

KEEPALIVE_S = 75.0
"""Longer than the pauses of a conversation, so that a turn seldom pays for a new TLS handshake."""


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: before the first useful thing, for each wait after it, and for all waiting together."""

    first_s: float
    between_s: float
    total_s: float
    first_code: str = "timeout_first_byte"


class Patience:
    """How long an answer may still be waited for. Only waiting counts, not the time of whoever reads it.

    Codes, after ``<stage>.``: timeout_connect, ``Waits.first_code``, timeout_stalled, timeout_total.
    """

    def __init__(self, waits: Waits, provider: str, stage: str) -> None:
        self._waits = waits
        self._provider = provider
        self._stage = stage
        self._total_left = waits.total_s
        self.expect_first()

    def expect_first(self) -> None:
        """A new request begins: nothing useful of it has come."""
        self.useful = False
        self._first_left = self._waits.first_s

    def left(self) -> float:
        """Seconds until the next wait ends."""
        limit = self._waits.between_s if self.useful else self._first_left
        return min(limit, self._total_left)

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Raises ``ProviderTimeout`` with the code of the limit that was reached."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self.left()):
                return await awaitable
        except aiohttp.ConnectionTimeoutError:
            raise self._late("the endpoint takes no connection", "timeout_connect") from None
        except TimeoutError:
            raise self._reached() from None
        finally:
            self.spend(loop.time() - began)

    def spend(self, seconds: float) -> None:
        self._total_left = max(0.0, self._total_left - seconds)
        if not self.useful:
            self._first_left = max(0.0, self._first_left - seconds)

    def _reached(self) -> ProviderTimeout:
        if self._total_left <= self.left():
            return self._late(f"the answer took over {self._waits.total_s:g} s", "timeout_total")
        if self.useful:
            return self._late(f"nothing for {self._waits.between_s:g} s", "timeout_stalled")
        return self._late(f"nothing useful within {self._waits.first_s:g} s", self._waits.first_code)

    def _late(self, text: str, code: str) -> ProviderTimeout:
        return ProviderTimeout(text, provider=self._provider, stage=self._stage, code=f"{self._stage}.{code}")


def encoded(body: dict[str, Any]) -> bytes:
    """JSON. Lone surrogates, which neither UTF-8 nor an endpoint takes, are sent as question marks."""
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        return msgspec.json.encode(_whole(body))


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def client_session(
    url: str, *, headers: Mapping[str, str], connect_s: float, max_connections: int = 512
) -> aiohttp.ClientSession:
    """A session for one endpoint. ``connect_s`` covers waiting for a free connection and making one."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=KEEPALIVE_S),
        headers={"User-Agent": f"antiphon/{__version__}", **headers},
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s),
        proxy=proxy_for(url),
    )
