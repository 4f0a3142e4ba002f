"""A streamed answer as its events' payloads, over one ``Exchange``."""

from __future__ import annotations

from typing import Any

from antiphon.providers.exchange import Exchange
from antiphon.providers.failures import failed
from antiphon.providers.llm.sse import MAX_EVENT_BYTES, EventStream, EventTooLarge


class Events:
    """``whole`` is True if the endpoint sent one JSON answer instead of a stream."""

    def __init__(self, exchange: Exchange, provider: str) -> None:
        self._exchange = exchange
        self._provider = provider
        self._stream = EventStream()
        self._over = False
        self.whole = False

    async def open(self, url: str, body: dict[str, Any]) -> None:
        """Raises what ``Exchange.post`` does."""
        await self._exchange.post(url, body)

    async def payloads(self) -> list[bytes] | None:
        """Those that came, possibly none; ``None`` once the answer is over. Raises ``ProviderError``."""
        if self._over:
            return None
        if self._exchange.content_type == "application/json":
            self._over = self.whole = True
            return [await self._exchange.whole(MAX_EVENT_BYTES)]
        data = await self._exchange.piece()
        try:
            if data:
                return self._stream.feed(data)
            self._over = True
            return self._stream.end()
        except EventTooLarge:
            raise failed("the endpoint sent an event over 1 MiB", "too_large", self._provider, "llm") from None
