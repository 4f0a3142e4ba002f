"""A provider's one HTTP session: opened by its start or by the first request, and not by itself once it was closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from antiphon.providers.failures import closed

if TYPE_CHECKING:
    import aiohttp


class Session:
    """``headers`` are asked for when it is opened: they hold the key. Numbers: as of ``http.client_session``."""

    def __init__(
        self,
        provider: str,
        stage: str,
        url: str,
        *,
        headers: Callable[[], Mapping[str, str]],
        connect_s: float,
        max_connections: int,
    ) -> None:
        self.is_closed = False
        self._whose = (provider, stage)
        self._url = url
        self._headers = headers
        self._connect_s = connect_s
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Opens no connection: the first request does. On the loop that the requests are made on."""
        self.is_closed = False
        self.use()

    def use(self) -> aiohttp.ClientSession:
        """Raises ``ProviderError`` (``closed``)."""
        if self.is_closed:
            raise closed(*self._whose)
        if self._session is None:
            from antiphon.providers.http import client_session  # noqa: PLC0415 - 135 ms that only its users should pay

            self._session = client_session(
                self._url,
                headers=self._headers(),
                connect_s=self._connect_s,
                max_connections=self._max_connections,
            )
        return self._session

    async def close(self) -> None:
        """Requests under way fail. May be called twice."""
        self.is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()
