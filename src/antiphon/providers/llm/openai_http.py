"""One streamed chat request: its chunks, typed."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

from antiphon.errors import UNUSABLE
from antiphon.providers.exchange import Exchange
from antiphon.providers.failures import failed
from antiphon.providers.http import Patience
from antiphon.providers.llm.events import Events
from antiphon.providers.llm.openai_settings import Endpoint
from antiphon.providers.llm.openai_wire import (
    DONE,
    Chunk,
    ModelList,
    chunk_decoder,
)
from antiphon.providers.llm.sse import MAX_EVENT_BYTES


class ChatExchange:
    """One POST and its answer. ``close`` at any moment closes the connection, which stops the generation."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint, patience: Patience, provider: str) -> None:
        self._endpoint = endpoint
        self._provider = provider
        self._exchange = Exchange(
            session, patience, provider, "llm", key=endpoint.key, place=endpoint.base_url, hint=endpoint.hint
        )
        self._events = Events(self._exchange, provider)
        self.done = False
        """True once the endpoint said ``[DONE]``, or sent one whole answer instead of a stream."""

    async def open(self, body: dict[str, Any]) -> None:
        """Raises ``ProviderError`` if the endpoint cannot be reached or answers with anything but 200."""
        await self._events.open(f"{self._endpoint.base_url}/chat/completions", body)

    async def chunks(self) -> list[Chunk] | None:
        """The next chunks; ``None`` once the answer is over."""
        payloads = None if self.done else await self._events.payloads()
        if payloads is None:
            return None
        if DONE in payloads:
            self.done = True
            payloads = payloads[: payloads.index(DONE)]
        self.done = self.done or self._events.whole
        return [self._decode(payload) for payload in payloads]

    async def models(self) -> str:
        """Asks which models there are (``GET /models``) and says whether the endpoint's is one of them."""
        place, wanted = self._endpoint.base_url, self._endpoint.model
        try:
            listed = msgspec.json.decode(
                await self._exchange.get(f"{place}/models", MAX_EVENT_BYTES), type=ModelList
            ).data
        except UNUSABLE:
            return f"{place} answers, but lists no models"
        # Gemini's ids begin with "models/".
        here = any(model.id.removeprefix("models/") == wanted for model in listed)
        return f"{place} {'has' if here else 'answers, but does not list'} {wanted}"

    async def finish(self) -> None:
        """Gives the connection back for the next request if the answer's end comes at once."""
        await self._exchange.finish()

    def close(self) -> None:
        self._exchange.close()

    def _decode(self, payload: bytes) -> Chunk:
        try:
            chunk = chunk_decoder.decode(payload)
        except UNUSABLE:
            raise failed(
                "the endpoint sent something that is no chat chunk", "garbage", self._provider, "llm"
            ) from None
        if chunk.error:
            raise self._exchange.error({"error": chunk.error})
        return chunk
