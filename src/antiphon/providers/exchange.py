"""One HTTP request and its answer: opened, waited for no longer than allowed, read in pieces, closed at any moment.

Import it where a request is made, not at the top of a provider: aiohttp takes 135 ms to load.

Codes, after ``<stage>.``: unreachable, cut, those of ``failures.error_for`` and of ``Patience``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from email.message import Message
from typing import Any

import aiohttp

from antiphon.errors import ProviderError
from antiphon.providers.failures import MAX_ERROR_BYTES, error_for, failed, failure, retry_after
from antiphon.providers.http import Patience, encoded
from antiphon.secret import Secret

DRAIN_S = 0.02
"""After the last useful thing the end of the body is due at once; waiting for it keeps the connection for the next."""


class Exchange:
    """``place`` and ``hint`` are for the error that says that nobody is there; ``key`` is left out of all errors.

    ``close`` closes the connection while an answer is under way, by which the endpoint knows to stop.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        patience: Patience,
        provider: str,
        stage: str,
        *,
        key: Secret,
        place: str,
        hint: str = "",
    ) -> None:
        self._session = session
        self._patience = patience
        self._provider = provider
        self._stage = stage
        self._key = key
        self._place = place
        self._hint = hint
        self._response: aiohttp.ClientResponse | None = None

    async def post(self, url: str, body: dict[str, Any] | aiohttp.FormData) -> None:
        """Sends a dict as JSON, or a form.

        Raises ``ProviderError`` if the endpoint cannot be reached or answers with anything but 200.
        """
        if isinstance(body, dict):
            await self._send("POST", url, encoded(body), {"Content-Type": "application/json"})
        else:
            await self._send("POST", url, body)

    async def get(self, url: str, limit: int) -> bytes:
        """The whole answer, or its first ``limit`` bytes. Raises like ``post``."""
        await self._send("GET", url)
        try:
            return await self.whole(limit)
        finally:
            self.close()

    @property
    def content_type(self) -> str:
        """Of the answer, without its parameters."""
        return self._response.content_type if self._response is not None else ""

    def parameter(self, name: str) -> str:
        """A parameter of the answer's content type, such as ``rate``; "" where there is none."""
        head = Message()
        head["Content-Type"] = self._response.headers.get("Content-Type", "") if self._response is not None else ""
        found = head.get_param(name, "")
        return found if isinstance(found, str) else ""

    async def piece(self) -> bytes:
        """More of the body, as it comes; ``b""`` once it is over. Raises ``ProviderError`` (``cut``)."""
        response = self._response
        if response is None:
            return b""
        data = await self._read(response)
        if not data:
            self._response = None
            response.release()
        return data

    async def whole(self, limit: int) -> bytes:
        """All of the body, or its first ``limit`` bytes. Raises ``ProviderError`` (``cut``)."""
        body = bytearray()
        while len(body) < limit and (piece := await self.piece()):
            body += piece
        return bytes(body[:limit])

    async def finish(self) -> None:
        """Gives the connection back for the next request if the answer's end comes at once."""
        response, self._response = self._response, None
        if response is None:
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                while not response.content.at_eof():
                    await response.content.readany()
        except (TimeoutError, aiohttp.ClientError, OSError):
            response.close()
        else:
            response.release()

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def error(self, body: object, status: int = 0, headers: Mapping[str, str] | None = None) -> ProviderError:
        """The coded error for an error body, or for an error that came within an answer."""
        wait = retry_after(headers, time.time()) if headers is not None else None
        return error_for(status, failure(body).without(self._key), self._provider, self._stage, wait)

    async def _send(
        self, method: str, url: str, data: bytes | aiohttp.FormData | None = None, headers: dict[str, str] | None = None
    ) -> None:
        try:
            response = await self._patience.wait(
                # A redirect is not followed: a key goes nowhere else.
                self._session.request(method, url, data=data, headers=headers, allow_redirects=False)
            )
        except (aiohttp.ClientError, OSError) as error:
            hint = f": {self._hint}" if self._hint else ""
            text = f"{self._place} cannot be reached ({type(error).__name__}){hint}"
            raise failed(text, "unreachable", self._provider, self._stage) from None
        self._response = response
        if response.status != 200:
            try:
                body = await self.whole(MAX_ERROR_BYTES)
            except ProviderError:
                body = b""  # the status alone says enough
            finally:
                self.close()
            raise self.error(body, response.status, response.headers)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await self._patience.wait(response.content.readany())
        except (aiohttp.ClientError, OSError):
            raise failed("the connection broke within the answer", "cut", self._provider, self._stage) from None
