"""Hearing by a service: the WebSocket ``/listen`` of ``service_wire``, one for each caller.

Error codes: those of ``service_client``, and ``stt.sample_rate``, ``stt.overloaded``, ``stt.failed``, and what the
service itself says of an utterance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from antiphon.providers.failures import closed, refused
from antiphon.providers.service_client import Seconds, ServiceClient, ServiceSettings
from antiphon.providers.service_wire import CHUNK_MS, RATES
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Heard

if TYPE_CHECKING:
    from antiphon.providers.stt.http_stream import HttpStream


class HttpTranscriberSettings(ServiceSettings, frozen=True, kw_only=True):
    """See ``ServiceSettings``. ``final_s``: seconds from the end of an utterance to its final. ``final_ms``: how long
    a turn waits for one before it takes the last partial, where that is longer than ``policy.final_ms``: for a service
    that recognises an utterance only once it is over.
    """

    final_s: Seconds = 5.0
    final_ms: Annotated[int, Meta(ge=0, le=30_000)] = 0


class HttpTranscriber:
    name = "http"
    piece_ms = CHUNK_MS

    def __init__(self, settings: HttpTranscriberSettings) -> None:
        self.client = ServiceClient("stt", settings)
        self.service = self.client.title
        self.settings = settings
        self.final_ms = settings.final_ms
        self._streams: set[HttpStream] = set()

    async def start(self) -> None:
        await self.client.start()

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> HttpStream:
        """Opens a stream, and its socket in the background.

        Raises ``ProviderRefused`` (``stt.sample_rate``) and ``ProviderError`` (``stt.closed``).
        """
        from antiphon.providers.stt.http_stream import HttpStream  # noqa: PLC0415 - imports aiohttp

        if sample_rate not in RATES:
            raise refused(f"a sample rate of {sample_rate} Hz is none of {RATES}", "sample_rate", self.name, "stt")
        if self.client.session.is_closed:
            raise closed(self.name, "stt")
        stream = HttpStream(
            self.client,
            sample_rate,
            language,
            on_heard,
            connect_s=self.settings.connect_s,
            final_s=self.settings.final_s,
        )
        self._streams.add(stream)
        stream.task.add_done_callback(lambda _: self._streams.discard(stream))
        return stream

    async def check(self) -> str:
        """Raises ``ProviderError``."""
        return await self.client.check()

    async def close(self) -> None:
        streams, self._streams = self._streams, set()
        for stream in streams:
            stream.close()
        await asyncio.gather(*(stream.task for stream in streams), return_exceptions=True)
        await self.client.close()


def build(settings: dict[str, object]) -> HttpTranscriber:
    """``[stt] provider = "http"``, or ``STT_SERVICE_URL`` in the environment. Raises ``ConfigError``."""
    return HttpTranscriber(convert(settings, HttpTranscriberSettings, "[stt] http"))
