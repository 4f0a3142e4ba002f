"""Speech to text by an OpenAI-compatible ``/audio/transcriptions``: OpenAI, Groq, speaches, vLLM and others.

An utterance is collected and sent as a WAV file in the call's own rate once it is over. ``gpt-transcribe`` and the
``gpt-4o`` transcribers stream the text then; ``interim_ms`` asks for partials while the caller still speaks. What
Whisper makes up out of silence is left out (``whisper_text``).

Error codes: ``stt.unauthorized``, ``stt.quota``, ``stt.rate_limited``, ``stt.not_found``, ``stt.bad_request``,
``stt.bad_endpoint``, ``stt.refused``, ``stt.server``, ``stt.unreachable``, ``stt.timeout_connect``,
``stt.timeout_first_byte``, ``stt.timeout_stalled``, ``stt.timeout_total``, ``stt.cut``, ``stt.garbage``,
``stt.too_large``, ``stt.busy``, ``stt.closed``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from antiphon.providers.failures import closed, failed
from antiphon.providers.session import Session
from antiphon.providers.settings import convert
from antiphon.providers.stt.utterances import PIECE_MS, Clip, Streams, UtteranceStream, Words, check_rate
from antiphon.providers.stt.whisper_settings import WHERE, WhisperSettings, endpoint, form_of
from antiphon.providers.stt.whisper_text import believed, confidence, mean_probability, tag_of
from antiphon.runtime.ports import Heard

if TYPE_CHECKING:
    from antiphon.providers.http import Patience
    from antiphon.providers.stt.whisper_http import Answer, Transcription

log = logging.getLogger(__name__)


LISTED = 0.75
"""How sure a model is taken to be of the language it names without a number.

``gpt-transcribe`` lists no language that it could not tell reliably. It is enough to speak for a change of the call's
language, which takes several such utterances.
"""


class WhisperTranscriber:
    """See ``WhisperSettings``. One shared HTTP session, opened by ``start`` or by the first request."""

    name = "whisper"
    final_ms = 4_000
    """The whole utterance is sent when it is over: a second or two as a rule, and another try."""

    def __init__(self, settings: WhisperSettings) -> None:
        self.settings = settings
        self.piece_ms = 0 if settings.interim_ms else PIECE_MS
        self.endpoint = endpoint(settings)
        self._streams = Streams(self.name)
        self._session = Session(
            self.name,
            "stt",
            self.endpoint.base_url,
            headers=self.endpoint.request_headers,
            connect_s=settings.connect_s,
            max_connections=settings.max_connections,
        )

    async def start(self) -> None:
        self._session.start()

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> UtteranceStream:
        """See ``Transcriber``. Raises ``ProviderError`` after ``close`` and for a rate outside 8 to 48 kHz."""
        if self._session.is_closed:
            raise closed(self.name, "stt")
        check_rate(sample_rate, self.name)
        return self._streams.open(
            sample_rate=sample_rate,
            language=language,
            on_heard=on_heard,
            recognise=self._recognise,
            interim_ms=self.settings.interim_ms,
        )

    async def check(self) -> str:
        """Asks for the list of models: for ``antiphon doctor``. Raises ``ProviderError``."""
        return await (await self._request(self._patience())).models()

    async def close(self) -> None:
        self._session.is_closed = True  # an utterance that ends now opens none
        await self._streams.close()
        await self._session.close()

    async def _recognise(self, clip: Clip, tell: Callable[[str], None]) -> Words:
        """Transcribes; ``tell`` gets what is known before the end."""
        fields = form_of(self.settings, self.endpoint.model, clip.language)
        request = await self._request(self._patience())
        async with aclosing(request.run(clip, fields)) as answers:
            async for answer in answers:
                if answer.ended:
                    return self._words(answer, clip, dict(fields).get("prompt", ""))
                tell(answer.text)
        raise failed("the endpoint's answer has no end", "cut", self.name, "stt")

    def _words(self, answer: Answer, clip: Clip, prompt: str) -> Words:
        """What is believed of an answer, and how sure it is."""
        text, sure = answer.text, 0.0
        if answer.segments:
            spoken = believed(answer.segments, self.settings.no_speech)
            if len(spoken) < len(answer.segments):
                text = " ".join(each.text.strip() for each in spoken)
                log.info("whisper: %d segment(s) of silence left out", len(answer.segments) - len(spoken))
            sure = confidence(spoken)
        elif answer.logprobs:
            sure = mean_probability((each, 1) for each in answer.logprobs)
        if text.strip() == prompt.strip():
            text = ""  # out of silence these models repeat what they were told to expect
        if not text.strip():
            return Words("")
        language = tag_of(answer.language, (clip.language, *self.settings.languages)) if answer.language else ""
        if language and (answer.listed or self.settings.language == "detect"):
            return Words(text, language, sure, sure or LISTED)
        return Words(text, language or (clip.language if self.settings.language == "call" else ""), sure)

    async def _request(self, patience: Patience) -> Transcription:
        from antiphon.providers.stt.whisper_http import Transcription  # noqa: PLC0415 - imports aiohttp

        return Transcription(self._session.use(), self.endpoint, patience, self.name)

    def _patience(self) -> Patience:
        from antiphon.providers.http import Patience, Waits  # noqa: PLC0415 - imports aiohttp

        settings = self.settings
        waits = Waits(first_s=settings.first_s, between_s=settings.between_s, total_s=settings.total_s)
        return Patience(waits, self.name, "stt")


def build(settings: dict[str, object]) -> WhisperTranscriber:
    """``[stt] provider = "whisper"``. Raises ``ConfigError``, also where a key is needed and not set."""
    return WhisperTranscriber(convert(settings, WhisperSettings, WHERE))
