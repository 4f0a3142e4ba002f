"""Speech to text by Sarvam: streamed while the caller speaks, with partials and the language that was heard.

The realtime socket is told where utterances begin and end (``endpointing=manual``): the gate and the kernel decide
that, and two judges of turns would disagree. What a socket leaves unanswered goes to ``POST /speech-to-text`` as
a whole. Documents: see ``providers.sarvam_wire``.

Error codes: ``stt.unauthorized``, ``stt.quota``, ``stt.rate_limited``, ``stt.not_found``, ``stt.bad_request``,
``stt.server``, ``stt.unreachable``, ``stt.timeout_connect``, ``stt.timeout_total``, ``stt.cut``, ``stt.garbage``,
``stt.too_large``, ``stt.overloaded``, ``stt.sample_rate``, ``stt.closed``, ``stt.failed``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from antiphon.media.resample import RATES
from antiphon.providers.endpoints import api_key, check_url
from antiphon.providers.failures import failed, refused
from antiphon.providers.sarvam_wire import BASE_URL, KEY_VARIABLE, WS_URL
from antiphon.providers.settings import convert
from antiphon.providers.stt.sarvam_settings import CHUNK_MS, WHERE, SarvamTranscriberSettings
from antiphon.runtime.ports import Heard

if TYPE_CHECKING:
    from antiphon.providers.sarvam_http import SarvamHttp
    from antiphon.providers.stt.sarvam_stream import SarvamStream


class SarvamTranscriber:
    """See ``SarvamTranscriberSettings``. One HTTP session; a socket for each stream."""

    name = "sarvam"
    service = "sarvam_ai"
    piece_ms = CHUNK_MS
    final_ms = 3_500
    """The socket's final takes a fraction of a second. Where none comes within ``final_s``, or there is no socket, REST
    is asked for the whole utterance, and there may be no partial that could stand in for it."""

    def __init__(self, settings: SarvamTranscriberSettings) -> None:
        check_url(settings.base_url, "base_url", WHERE, BASE_URL)
        check_url(settings.ws_url, "ws_url", WHERE, WS_URL)
        self.settings = settings
        self._key = api_key(settings.api_key, settings.api_key_env or KEY_VARIABLE, WHERE)
        self._http: SarvamHttp | None = None
        self._streams: set[SarvamStream] = set()
        self._closed = False

    async def start(self) -> None:
        self._closed = False
        self._opened()

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> SarvamStream:
        """Opens a stream, and its socket in the background.

        Raises ``ProviderRefused`` (``stt.sample_rate``) and ``ProviderError`` (``stt.closed``).
        """
        from antiphon.providers.stt.sarvam_stream import SarvamStream  # noqa: PLC0415 - imports aiohttp

        if sample_rate not in RATES:
            raise refused(f"a sample rate of {sample_rate} Hz is none of {RATES}", "sample_rate", self.name, "stt")
        stream = SarvamStream(self._opened(), self.settings, sample_rate, language, on_heard)
        self._streams.add(stream)
        stream.task.add_done_callback(lambda _: self._streams.discard(stream))
        return stream

    async def check(self) -> str:
        """Opens a socket and closes it again: for ``antiphon doctor``. Raises ``ProviderError``."""
        from antiphon.providers.stt.sarvam_link import Link  # noqa: PLC0415 - imports aiohttp

        link = await Link.open(self._opened(), self.settings, 16_000, "auto", lambda _: None)
        await link.close()
        return f"{self.settings.ws_url} takes the key and has {self.settings.model}"

    async def close(self) -> None:
        self._closed = True
        streams, self._streams = self._streams, set()
        for stream in streams:
            stream.close()
        await asyncio.gather(*(stream.task for stream in streams), return_exceptions=True)
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def _opened(self) -> SarvamHttp:
        if self._closed:
            raise failed("the transcriber was closed", "closed", self.name, "stt")
        if self._http is None:
            from antiphon.providers.sarvam_http import SarvamHttp  # noqa: PLC0415 - imports aiohttp

            settings = self.settings
            self._http = SarvamHttp(
                settings.base_url, self._key, connect_s=settings.connect_s, max_connections=settings.max_connections
            )
        return self._http


def build(settings: dict[str, object]) -> SarvamTranscriber:
    """``[stt] provider = "sarvam"``. Raises ``ConfigError``, also where the key is not set."""
    return SarvamTranscriber(convert(settings, SarvamTranscriberSettings, WHERE))
