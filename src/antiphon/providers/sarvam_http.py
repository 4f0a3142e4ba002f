"""Sarvam's services over REST, and the one HTTP session of an account, which its sockets are opened with too."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from antiphon.errors import UNUSABLE
from antiphon.providers.exchange import Exchange
from antiphon.providers.failures import failed
from antiphon.providers.http import Patience, client_session
from antiphon.providers.sarvam_wire import KEY_HEADER, Answer, Audios, Transcript, answers, audios, transcripts
from antiphon.secret import Secret

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Four minutes of 48 kHz audio as base64: what 2500 characters slowly spoken come to."""

PROVIDER = "sarvam"

T = TypeVar("T")


class SarvamHttp:
    """One account. ``key`` is shown by nobody. All requests raise ``ProviderError`` with codes of their stage."""

    def __init__(self, base_url: str, key: Secret, *, connect_s: float, max_connections: int = 512) -> None:
        self.key = key
        self.session = client_session(
            base_url,
            headers={KEY_HEADER: key.reveal(), "Accept-Encoding": "identity"},
            connect_s=connect_s,
            max_connections=max_connections,
        )

    async def close(self) -> None:
        await self.session.close()

    async def transcribe(
        self, url: str, audio: bytes, *, content_type: str, fields: dict[str, str], patience: Patience
    ) -> Transcript:
        """``POST /speech-to-text``: a file of at most 30 s."""
        form = aiohttp.FormData()
        form.add_field("file", audio, filename=f"audio.{content_type.partition('/')[2]}", content_type=content_type)
        for name, value in fields.items():
            form.add_field(name, value)
        return await self._ask(url, form, transcripts, patience, "stt")

    async def synthesize(self, url: str, body: dict[str, Any], *, patience: Patience) -> list[bytes]:
        """``POST /text-to-speech``: audio files, in order."""
        spoken: Audios = await self._ask(url, body, audios, patience, "tts")
        if not any(spoken.audios):
            raise failed("the endpoint sent no audio", "empty", PROVIDER, "tts")
        return spoken.audios

    async def complete(self, url: str, body: dict[str, Any], *, patience: Patience) -> Answer:
        """``POST /v1/chat/completions``, not streamed."""
        return await self._ask(url, body, answers, patience, "llm")

    async def _ask(
        self,
        url: str,
        body: dict[str, Any] | aiohttp.FormData,
        decoder: msgspec.json.Decoder[T],
        patience: Patience,
        stage: str,
    ) -> T:
        if self.session.closed:
            raise failed("the provider was closed", "closed", PROVIDER, stage)
        place = urlsplit(url).netloc.rpartition("@")[2]
        exchange = Exchange(self.session, patience, PROVIDER, stage, key=self.key, place=place)
        try:
            await exchange.post(url, body)
            answer = await exchange.whole(MAX_ANSWER_BYTES + 1)
        finally:
            exchange.close()
        if len(answer) > MAX_ANSWER_BYTES:
            raise failed(f"the answer is over {MAX_ANSWER_BYTES} bytes", "too_large", PROVIDER, stage)
        try:
            return decoder.decode(answer)
        except UNUSABLE:
            text = "the endpoint's answer is not what its documents say"
            raise failed(text, "garbage", PROVIDER, stage) from None
