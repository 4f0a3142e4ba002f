"""One streamed request: opening it, waiting for it no longer than allowed, reading its chunks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import msgspec

from antiphon.errors import ProviderError
from antiphon.providers.failures import MAX_ERROR_BYTES, error_for, failed, failure, retry_after
from antiphon.providers.http import Patience, encoded
from antiphon.providers.llm.openai_settings import Endpoint
from antiphon.providers.llm.openai_wire import (
    DONE,
    Chunk,
    ModelList,
    chunk_decoder,
)
from antiphon.providers.llm.sse import MAX_EVENT_BYTES, EventStream, EventTooLarge

DRAIN_S = 0.02
"""After ``[DONE]`` the end of the body is due at once; waiting for it keeps the connection for the next turn."""


class Exchange:
    """One POST and its answer. ``close`` at any moment closes the connection, which stops the generation."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint, patience: Patience, provider: str) -> None:
        self._session = session
        self._endpoint = endpoint
        self._patience = patience
        self._provider = provider
        self._events = EventStream()
        self._response: aiohttp.ClientResponse | None = None
        self.done = False
        """True once the endpoint said ``[DONE]``, or sent one whole answer instead of a stream."""

    async def open(self, body: dict[str, Any]) -> None:
        """Raises ``ProviderError`` if the endpoint cannot be reached or answers with anything but 200."""
        url = f"{self._endpoint.base_url}/chat/completions"
        try:
            self._response = await self._patience.wait(
                self._session.post(url, data=encoded(body), allow_redirects=False)
            )
        except (aiohttp.ClientError, OSError) as error:
            raise self.unreachable(error) from None
        if self._response.status != 200:
            raise await self._error(self._response)

    async def chunks(self) -> list[Chunk] | None:
        """The next chunks; ``None`` once the answer is over."""
        response = self._response
        if response is None or self.done:
            return None
        if response.content_type == "application/json":
            self.done = True
            return [self._decode(await self._read(response, MAX_EVENT_BYTES))]
        try:
            data = await self._patience.wait(response.content.readany())
        except (aiohttp.ClientError, OSError):
            raise failed("the connection broke within the reply", "cut", self._provider, "llm") from None
        try:
            payloads = self._events.feed(data) if data else self._events.end()
        except EventTooLarge:
            raise failed("the endpoint sent an event over 1 MiB", "too_large", self._provider, "llm") from None
        if DONE in payloads:
            self.done = True
            payloads = payloads[: payloads.index(DONE)]
        elif not data:
            self._response = None
            response.release()
        return [self._decode(payload) for payload in payloads]

    async def models(self, wanted: str) -> str:
        """Asks which models there are (``GET /models``) and says whether ``wanted`` is one of them."""
        url = f"{self._endpoint.base_url}/models"
        try:
            response = await self._patience.wait(self._session.get(url, allow_redirects=False))
        except (aiohttp.ClientError, OSError) as error:
            raise self.unreachable(error) from None
        try:
            if response.status != 200:
                raise await self._error(response)
            listed = msgspec.json.decode(await self._read(response, MAX_EVENT_BYTES), type=ModelList).data
        except msgspec.DecodeError:
            return f"{self._endpoint.base_url} answers, but lists no models"
        finally:
            response.close()
        # Gemini's ids begin with "models/".
        here = any(model.id.removeprefix("models/") == wanted for model in listed)
        return f"{self._endpoint.base_url} {'has' if here else 'answers, but does not list'} {wanted}"

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

    def unreachable(self, error: Exception) -> ProviderError:
        hint = f": {self._endpoint.hint}" if self._endpoint.hint else ""
        host = self._endpoint.base_url
        return failed(f"{host} cannot be reached ({type(error).__name__}){hint}", "unreachable", self._provider, "llm")

    def _decode(self, payload: bytes) -> Chunk:
        try:
            chunk = chunk_decoder.decode(payload)
        except msgspec.DecodeError:
            raise failed(
                "the endpoint sent something that is no chat chunk", "garbage", self._provider, "llm"
            ) from None
        if chunk.error:
            raise error_for(0, failure({"error": chunk.error}).without(self._endpoint.key), self._provider, "llm")
        return chunk

    async def _error(self, response: aiohttp.ClientResponse) -> ProviderError:
        try:
            body = await self._read(response, MAX_ERROR_BYTES)
        except ProviderError:
            body = b""
        wait = retry_after(response.headers, time.time())
        return error_for(response.status, failure(body).without(self._endpoint.key), self._provider, "llm", wait)

    async def _read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """The whole body, or its first ``limit`` bytes."""
        body = b""
        try:
            while len(body) < limit and (piece := await self._patience.wait(response.content.readany())):
                body += piece
        except (aiohttp.ClientError, OSError):
            raise failed("the connection broke within the answer", "cut", self._provider, "llm") from None
        return body[:limit]
