"""Passages from a service over HTTP: ``POST /retrieve`` of ``service_wire``. Codes: see ``service_client``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from antiphon.kernel.events import MAX_TEXT, Passage
from antiphon.kernel.history import Message
from antiphon.providers.service_client import Seconds, ServiceClient, ServiceSettings
from antiphon.providers.service_wire import (
    MAX_PASSAGES,
    MAX_TAG,
    RetrieveAnswer,
    RetrieveRequest,
    lines_of,
    passages_of,
)
from antiphon.providers.settings import convert

MAX_ANSWER_BYTES = 512 * 1024
"""Ten passages of 4000 characters, each of up to four bytes, and as much again."""

_answer = msgspec.json.Decoder(RetrieveAnswer)


class HttpRetrieverSettings(ServiceSettings, frozen=True, kw_only=True):
    """See ``ServiceSettings``. ``timeout_s``: for the passages; a turn waits less than this.
    ``limit``: passages asked for. All of them are read by the model before its first word. ``knowledge``: the passages
    are the service's, but the greeting and the like are spoken here, in the words of this file ("": the demo's).
    """

    timeout_s: Seconds = 2.0
    limit: Annotated[int, Meta(ge=1, le=MAX_PASSAGES)] = 4
    knowledge: str = ""


class HttpRetriever:
    name = "http"

    def __init__(self, settings: HttpRetrieverSettings) -> None:
        self.client = ServiceClient("retrieval", settings)
        self.service = self.client.title
        self._timeout_s = settings.timeout_s
        self._limit = settings.limit

    async def start(self) -> None:
        await self.client.start()

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[Passage, ...]:
        """See ``Retriever``. Raises ``ProviderError``."""
        asked = RetrieveRequest(text[:MAX_TEXT], language[:MAX_TAG], lines_of(history), self._limit)
        body = msgspec.structs.asdict(asked) | {"history": [msgspec.structs.asdict(each) for each in asked.history]}
        found = await self.client.ask(body, _answer, seconds=self._timeout_s, most=MAX_ANSWER_BYTES)
        return passages_of(found.passages)[: self._limit]

    async def check(self) -> str:
        """Raises ``ProviderError``."""
        return await self.client.check()

    async def close(self) -> None:
        await self.client.close()


def build(settings: dict[str, object]) -> HttpRetriever:
    """``[retrieval] provider = "http"``, or ``RAG_SERVICE_URL`` in the environment. Raises ``ConfigError``."""
    return HttpRetriever(convert(settings, HttpRetrieverSettings, "[retrieval] http"))
