"""Antiphon's own providers where an object with ``speech_to_text``, ``chat`` or ``text_to_speech`` is expected (A6).

``AgentOrchestrator(load("stt", "pocketsphinx"), ...)`` wraps each provider by itself. Make a ``ResponderModule``
yourself to give a responder the passages and intents that it has on the phone. Providers are started when they are
first asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol, TypeVar

from antiphon.errors import AntiphonError, ConfigError, PeerError, ProviderError
from antiphon.kernel.history import Message
from antiphon.kernel.policy import Policy
from antiphon.media.codec import wav_read, wav_write
from antiphon.media.resample import RATES, resampled
from antiphon.providers.llm.prompt import language_instruction
from antiphon.runtime.generate import MAX_REPLY_CHARS
from antiphon.runtime.ports import (
    Classifier,
    ReplyEnd,
    ReplyRequest,
    Responder,
    Retriever,
    Synthesizer,
    Transcriber,
)
from antiphon.runtime.recording import hear, speak

STT_RATE = 16_000
"""Hz; what other rates than those of ``RATES`` are brought to before a transcriber gets them."""
TTS_RATE = 8_000
"""Hz; the telephone's (A28)."""
SURE = Policy().language_confidence
"""A detection or guess of the language below this says nothing, as on the phone."""
LONGEST_S = 60.0
"""Of one recording. Transcribers shared by many calls hear no longer utterance, and a turn is none."""
UNDERSTAND_S = 2.0
"""Intent and passages that are later than this are left behind."""

log = logging.getLogger("antiphon.orchestrator")

T = TypeVar("T")


class SpeechToText(Protocol):
    async def speech_to_text(self, audio_bytes: bytes, language: str | None = None, /) -> tuple[str | None, str | None]:
        """What a WAV says, and in which language if that is known."""


class Chat(Protocol):
    async def chat(self, messages: list[dict[str, str]], /) -> str | None:
        """The answer to the last of ``messages``, dicts of ``role`` and ``content``."""


class TextToSpeech(Protocol):
    async def text_to_speech(self, text: str, language: str, /) -> bytes | None:
        """A WAV of 8 kHz."""


class _Startable(Protocol):
    async def start(self) -> None: ...

    async def close(self) -> None: ...


class _Parts:
    """Providers that are started together when one of them is first needed, and closed together."""

    def __init__(self, *parts: _Startable | None) -> None:
        self._parts = [part for part in parts if part is not None]
        self._starts: dict[int, asyncio.Task[None]] = {}
        """By place among the parts: those that are being started, and those that were."""
        self._begun = False

    async def started(self) -> None:
        """A caller who gives up does not stop the start; a part whose start failed is started anew the next time."""
        self._begun = True
        for at, part in enumerate(self._parts):
            if at not in self._starts:
                task = self._starts[at] = asyncio.get_running_loop().create_task(_start(part))
                task.add_done_callback(partial(self._over, at))
        starts = list(self._starts.values())
        if starting := [task for task in starts if not task.done()]:
            await asyncio.wait(starting, return_when=asyncio.FIRST_EXCEPTION)
        for task in starts:
            if task.done():
                task.result()

    def _over(self, at: int, task: asyncio.Task[None]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._starts.get(at) is task:
            del self._starts[at]

    async def close(self) -> None:
        """What was never started needs no closing."""
        starts = list(self._starts.values())
        for task in starts:
            task.cancel()
        if starts:
            await asyncio.wait(starts)
        if self._begun:
            await asyncio.gather(*(part.close() for part in self._parts))
        self._starts, self._begun = {}, False


async def _start(part: _Startable) -> None:
    await part.start()


class TranscriberModule:
    """A ``Transcriber`` as an object with ``speech_to_text``. ``longest_s``: seconds of one recording."""

    def __init__(self, transcriber: Transcriber, *, longest_s: float = LONGEST_S) -> None:
        self._transcriber = transcriber
        self._longest_s = longest_s
        self._parts = _Parts(transcriber)

    async def speech_to_text(self, audio_bytes: bytes, language: str | None = None) -> tuple[str, str | None]:
        """Takes a WAV of any rate.

        Raises ``BadAudio`` for what is none, ``PeerError`` (``audio.too_long``), ``ProviderError`` as the transcriber.
        """
        pcm, rate = wav_read(audio_bytes)
        seconds = len(pcm) / 2 / rate
        if seconds > self._longest_s:
            raise PeerError(
                f"the recording has {seconds:.0f} s, at most {self._longest_s:g} are heard: send one utterance a turn",
                code="audio.too_long",
            )
        if rate not in RATES:
            pcm, rate = resampled(pcm, rate, STT_RATE), STT_RATE
        await self._parts.started()
        heard = await hear(self._transcriber, pcm, rate, language or "")
        return heard.text, heard.language if heard.language and heard.language_confidence >= SURE else None

    async def start(self) -> None:
        """Now, instead of when it is first asked. Raises ``ProviderError`` and ``MissingExtra``."""
        await self._parts.started()

    async def close(self) -> None:
        """Also what it was made of. Asked again, it starts again."""
        await self._parts.close()


class SynthesizerModule:
    """A ``Synthesizer`` as an object with ``text_to_speech``. ``voice`` is the provider's name of one."""

    def __init__(self, synthesizer: Synthesizer, *, voice: str = "", sample_rate: int = TTS_RATE) -> None:
        self._synthesizer = synthesizer
        self._voice = voice
        self._rate = sample_rate
        self._parts = _Parts(synthesizer)

    async def text_to_speech(self, text: str, language: str) -> bytes:
        """A WAV, or nothing for a text that holds nothing to be spoken. Raises ``ProviderError``."""
        await self._parts.started()
        pcm = await speak(self._synthesizer, text, language=language, sample_rate=self._rate, voice=self._voice)
        return wav_write(pcm, self._rate) if pcm else b""

    async def start(self) -> None:
        """Now, instead of when it is first asked. Raises ``ProviderError`` and ``MissingExtra``."""
        await self._parts.started()

    async def close(self) -> None:
        """Also what it was made of. Asked again, it starts again."""
        await self._parts.close()


class ResponderModule:
    """A ``Responder`` as an object with ``chat``.

    ``classifier`` and ``retriever`` understand the question first, side by side (A75); without them the responder
    gets no intent and no passages. The messages of the system are its prompt for the turn. Effects are not offered:
    a responder that asks for one is refused (``effect.unknown``).
    """

    def __init__(
        self, responder: Responder, *, classifier: Classifier | None = None, retriever: Retriever | None = None
    ) -> None:
        self._responder = responder
        self._classifier = classifier
        self._retriever = retriever
        self._parts = _Parts(responder, classifier, retriever)

    async def chat(self, messages: list[dict[str, str]]) -> str:
        """The answer in whatever language the responder chooses; see ``answer``."""
        return await self.answer(messages, "")

    async def answer(self, messages: Sequence[dict[str, str]], language: str) -> str:
        """The answer to the last message, of the user. Raises ``ProviderError`` as the responder does."""
        await self._parts.started()
        text = messages[-1]["content"]
        history = _history(messages[:-1], language)
        intent, passages = await asyncio.gather(
            _in_time(
                "intent",
                self._classifier.classify(text, language=language, history=history) if self._classifier else None,
            ),
            _in_time(
                "retrieval",
                self._retriever.retrieve(text, language=language, history=history) if self._retriever else None,
            ),
        )
        request = ReplyRequest(
            session="batch",
            turn=1 + sum(message.role == "user" for message in history),
            attempt=1,
            text=text,
            language=language,
            intent=intent.name if intent else "",
            passages=passages or (),
            history=history,
            prompt=_prompt(messages, language),
        )
        reply = ""
        async with aclosing(self._responder.respond(request, _no_effects)) as parts:
            async for part in parts:
                if isinstance(part, ReplyEnd) or len(reply) > MAX_REPLY_CHARS:
                    break
                reply += part.text
        return reply

    async def start(self) -> None:
        """Now, instead of when it is first asked. Raises ``ProviderError`` and ``MissingExtra``."""
        await self._parts.started()

    async def close(self) -> None:
        """Also what it was made of. Asked again, it starts again."""
        await self._parts.close()


async def _in_time(stage: str, work: Awaitable[T] | None) -> T | None:
    """What an optional stage finds in time; its failure costs accuracy and never the answer."""
    if work is None:
        return None
    try:
        async with asyncio.timeout(UNDERSTAND_S):
            return await work
    except (AntiphonError, TimeoutError) as error:
        log.warning("the answer goes without %s: %s", stage, str(error) or "too late")
    except Exception:
        log.exception("the answer goes without %s", stage)
    return None


async def _no_effects(name: str, kind: str, arguments: str) -> str:
    raise ProviderError(f"nothing here can do {name!r}", stage="agent", code="effect.unknown", retryable=False)


def _history(messages: Sequence[dict[str, str]], language: str) -> tuple[Message, ...]:
    """What was said, each question beginning a turn."""
    history: list[Message] = []
    turn = 0
    for message in messages:
        if message["role"] in {"user", "assistant"}:
            turn += message["role"] == "user"
            history.append(Message(message["role"], message["content"], language, turn))
    return tuple(history)


def _prompt(messages: Sequence[dict[str, str]], language: str) -> str:
    """What the system says, without the language: responders say that by themselves."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    return system.removesuffix(language_instruction(language)).strip() if language else system


Module = TranscriberModule | ResponderModule | SynthesizerModule


def as_stt(provider: SpeechToText | Transcriber) -> SpeechToText:
    """Raises ``ConfigError`` for what can be neither."""
    found: Any = provider
    if _has(found, "speech_to_text"):
        return found  # type: ignore[no-any-return]
    if _has(found, "open", "start"):
        return TranscriberModule(found)
    raise _unfit(provider, "stt", "speech_to_text(audio_bytes, language=None)")


def as_llm(provider: Chat | Responder) -> Chat:
    """Raises ``ConfigError`` for what can be neither."""
    found: Any = provider
    if _has(found, "chat"):
        return found  # type: ignore[no-any-return]
    if _has(found, "respond", "start"):
        return ResponderModule(found)
    raise _unfit(provider, "llm", "chat(messages)")


def as_tts(provider: TextToSpeech | Synthesizer) -> TextToSpeech:
    """Raises ``ConfigError`` for what can be neither."""
    found: Any = provider
    if _has(found, "text_to_speech"):
        return found  # type: ignore[no-any-return]
    if _has(found, "synthesize", "start"):
        return SynthesizerModule(found)
    raise _unfit(provider, "tts", "text_to_speech(text, language)")


def _has(provider: object, *methods: str) -> bool:
    return not isinstance(provider, type) and all(callable(getattr(provider, name, None)) for name in methods)


def _unfit(provider: object, stage: str, method: str) -> ConfigError:
    if isinstance(provider, type):
        text = f"{stage}_module is the class {provider.__name__}: give it an object, {provider.__name__}(...)"
        return ConfigError(text, code="config.provider")
    return ConfigError(
        f"{stage}_module is a {type(provider).__name__} without `async def {method}`: give it that method, or take "
        f'one of Antiphon\'s own: antiphon.providers.registry.load("{stage}", ...)',
        code="config.provider",
    )
