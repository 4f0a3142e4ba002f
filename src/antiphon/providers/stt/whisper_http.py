"""One request to a transcription endpoint: sending the recording, reading what comes of it.

Answers are JSON, or server-sent events: OpenAI's ``transcript.text.delta`` and ``.done``; a JSON answer for each
segment (speaches' older servers); chat-like chunks (vLLM).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import aiohttp
import msgspec

from antiphon.errors import UNUSABLE, ProviderError
from antiphon.media.codec import wav_write
from antiphon.providers.exchange import Exchange
from antiphon.providers.failures import failed
from antiphon.providers.http import Patience
from antiphon.providers.llm.sse import MAX_EVENT_BYTES, EventStream, EventTooLarge
from antiphon.providers.stt.utterances import Clip
from antiphon.providers.stt.whisper_settings import Endpoint, Fields
from antiphon.providers.stt.whisper_text import Segment

MAX_TEXT_CHARS = 20_000
"""Ten times what is said in a minute."""

DONE = b"[DONE]"


class LogProb(msgspec.Struct):
    logprob: float | None = None


class Code(msgspec.Struct):
    code: str = ""


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta | None = None


class Message(msgspec.Struct):
    """An answer, or an event of one: what servers send in any of them."""

    type: str = ""
    delta: str | None = None
    text: str | None = None
    language: str | None = None
    languages: list[Code] | None = None
    segments: list[Segment] | None = None
    logprobs: list[LogProb] | None = None
    choices: list[Choice] | None = None
    error: Any = None
    detail: Any = None


class Answer:
    """What came of a request so far."""

    def __init__(self) -> None:
        self.text = ""
        self.language = ""
        """The name or code of the language that was heard, if one is told."""
        self.listed = False
        """It stands in a list of the languages that were heard: the model found it out, whatever it was told."""
        self.segments: list[Segment] = []
        self.logprobs: list[float] = []
        self.ended = False
        """True once the endpoint said that this is all."""
        self.by_parts = False
        """Segments come one by one, and the end of the stream is the end of them."""

    def take(self, message: Message) -> None:
        """Adds an answer in one piece, or an event."""
        if message.type == "transcript.text.delta":
            self.text += message.delta or ""
        elif message.choices is not None:
            self.text += "".join(each.delta.content or "" for each in message.choices if each.delta)
        elif message.type == "transcript.text.done":
            self.text = message.text if message.text is not None else self.text
            self.ended = True
        elif message.text is not None:
            self.text = f"{self.text} {message.text.strip()}".strip()
            self.by_parts = True
        heard = next((each.code for each in message.languages or ()), "")
        self.listed = self.listed or bool(heard)
        self.language = message.language or heard or self.language
        self.segments += message.segments or ()
        if message.logprobs and message.type != "transcript.text.delta":
            self.logprobs = [each.logprob for each in message.logprobs if each.logprob is not None]


_decode = msgspec.json.Decoder(Message).decode


class Transcription:
    """One POST and its answer. Cancelling ``run`` closes the connection."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint, patience: Patience, provider: str) -> None:
        self._endpoint = endpoint
        self._patience = patience
        self._provider = provider
        self._exchange = Exchange(
            session, patience, provider, "stt", key=endpoint.key, place=endpoint.base_url, hint=endpoint.hint
        )

    async def run(self, clip: Clip, fields: Fields) -> AsyncGenerator[Answer, None]:
        """Sends the clip as a WAV file. Yields the answer as it grows where it streams, and once it is whole.

        Raises ``ProviderError``.
        """
        try:
            await self._exchange.post(f"{self._endpoint.base_url}/audio/transcriptions", _form(clip, fields))
            answer = Answer()
            if self._exchange.content_type == "text/event-stream":
                async with aclosing(self._events(answer)) as grown:
                    async for _ in grown:
                        if not answer.ended:
                            yield answer
            else:
                answer.take(self._decode(await self._exchange.whole(MAX_EVENT_BYTES)))
                answer.ended = True
            # First to the end of the body, so that the connection can be used again: nobody reads on after the answer.
            await self._exchange.finish()
            yield answer
        finally:
            self._exchange.close()

    async def models(self) -> str:
        """Asks which models there are (``GET /models``) and says whether the endpoint's is one of them."""
        place, wanted = self._endpoint.base_url, self._endpoint.model
        try:
            body = msgspec.json.decode(await self._exchange.get(f"{place}/models", MAX_EVENT_BYTES))
            listed = {each["id"] for each in body["data"]}
        except (*UNUSABLE, KeyError, TypeError):
            return f"{place} answers, but lists no models"
        return f"{place} {'has' if wanted in listed else 'answers, but does not list'} {wanted}"

    async def _events(self, answer: Answer) -> AsyncGenerator[None, None]:
        """Reads until the answer has ended; a turn for each piece that made it longer, and for the end."""
        events = EventStream()
        while not answer.ended:
            data = await self._exchange.piece()
            try:
                payloads = events.feed(data) if data else events.end()
            except EventTooLarge:
                raise self._failed("the endpoint sent an event over 1 MiB", "too_large") from None
            known = answer.text
            for payload in payloads:
                if payload == DONE:
                    answer.ended = True
                else:
                    answer.take(self._decode(payload))
            if len(answer.text) > MAX_TEXT_CHARS:
                raise self._failed(f"the transcript is over {MAX_TEXT_CHARS} characters", "too_large")
            if not data and not answer.ended and not answer.by_parts:
                raise self._failed("the stream ended before the transcript did", "cut")
            answer.ended = answer.ended or not data
            if answer.ended or answer.text != known:
                self._patience.useful = True
                yield

    def _decode(self, payload: bytes) -> Message:
        try:
            message = _decode(payload)
        except UNUSABLE:
            raise self._failed("the endpoint sent something that is no transcript", "garbage") from None
        if message.error or message.type == "error":
            said = message.error or {"message": message.text or message.detail or ""}
            raise self._exchange.error({"error": said})
        if message.text is None and message.delta is None and message.choices is None and not message.type:
            raise self._failed("the endpoint's answer has no text", "garbage")
        return message

    def _failed(self, text: str, code: str) -> ProviderError:
        return failed(text, code, self._provider, "stt")


def _form(clip: Clip, fields: Fields) -> aiohttp.FormData:
    """Anew for each attempt: a form can be sent once. The file comes last, so that a server knows what it is for."""
    form = aiohttp.FormData()
    for name, value in fields:
        form.add_field(name, value)
    wav = wav_write(clip.pcm, clip.sample_rate)
    form.add_field("file", wav, filename="utterance.wav", content_type="audio/wav")
    return form
