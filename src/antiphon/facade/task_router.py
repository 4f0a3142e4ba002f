"""Routes one stage of a turn to its provider: speech to text, text to answer, answer to speech.

A provider is any object with the one method its stage calls (A6):

- ``async speech_to_text(audio_bytes, language=None) -> (text, detected_language)``
- ``async chat(messages) -> str``; ``messages`` are dicts of ``role`` and ``content``
- ``async text_to_speech(text, language) -> bytes``, a WAV of 8 kHz

or one of Antiphon's own (``antiphon.providers.registry.load``). How often it is asked and how long is decided in
``antiphon.runtime.batch``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from antiphon.clip import clipped
from antiphon.errors import AntiphonError, ConfigError, ProviderRefused
from antiphon.facade.ports_as_modules import (
    Chat,
    Module,
    ResponderModule,
    SpeechToText,
    TextToSpeech,
    as_llm,
    as_stt,
    as_tts,
)
from antiphon.kernel.events import MAX_TEXT
from antiphon.media.codec import BadAudio, wav_read
from antiphon.runtime.batch import LIMITS, Clock, Sleep, Stage
from antiphon.runtime.breaker import CircuitBreaker
from antiphon.runtime.chain import breaker_for
from antiphon.runtime.generate import MAX_REPLY_CHARS
from antiphon.runtime.ports import Responder, Synthesizer, Transcriber
from antiphon.runtime.resilience import StagePolicy

ATTEMPTS = 2
"""Altogether, not besides the first (A25, A28)."""

log = logging.getLogger("antiphon.orchestrator")

T = TypeVar("T")


class TaskRouter:
    """``stt``, ``llm`` and ``tts`` are the providers as they are called; they may be one object (three breakers still).

    Routers that are given the same object share its breakers: what one conversation found out, the others know.
    ``policies`` replaces the limits of a stage; ``clock`` and ``sleep`` are for tests. Raises ``ConfigError`` for a
    provider that lacks its method and for the policy of a stage that there is not.
    """

    def __init__(
        self,
        stt: SpeechToText | Transcriber,
        llm: Chat | Responder,
        tts: TextToSpeech | Synthesizer,
        *,
        enable_circuit_breaker: bool = True,
        call_id: str = "",
        policies: Mapping[str, StagePolicy] | None = None,
        clock: Clock = time.perf_counter,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.stt = as_stt(stt)
        self.llm = as_llm(llm)
        self.tts = as_tts(tts)
        self.last_errors: dict[str, AntiphonError] = {}
        """Why a stage last came to nothing; a stage that went well since is not in it."""
        self._told = {"call": call_id}
        limits = {**LIMITS, **(policies or {})}
        if len(limits) > len(LIMITS):
            unknown = ", ".join(name for name in limits if name not in LIMITS)
            raise ConfigError(f"policies: no stage is called {unknown}: take {', '.join(LIMITS)}")
        self.breakers: dict[str, CircuitBreaker] = (
            {
                name: breaker_for(each, name, limits[name], clock)
                for name, each in zip(LIMITS, (stt, llm, tts), strict=True)
            }
            if enable_circuit_breaker
            else {}
        )
        self._stages = {
            name: Stage(
                name,
                limits[name],
                breaker=self.breakers.get(name),
                # An answer that is no answer stays so (A26); a line that was hard to hear is worth a second listening.
                blank="final" if name == "llm" else "again",
                call_id=call_id,
                clock=clock,
                sleep=sleep,
            )
            for name in LIMITS
        }

    async def route_transcription(
        self, audio_data: bytes, language: str | None = None, retry_count: int = ATTEMPTS
    ) -> tuple[str | None, str | None]:
        """What was said and in which language (None: the provider does not say); ``(None, None)`` if nothing was heard.

        ``language`` is a hint. ``retry_count`` is the number of attempts, the first included.
        """
        heard = await self._run("stt", lambda: self.stt.speech_to_text(audio_data, language), _transcript, retry_count)
        text, detected = heard if heard is not None else (None, None)
        if text is not None:
            log.info("STT successful: '%s' (lang: %s)", _shown(text), detected, extra=self._told)
        return text, detected

    async def route_generation(self, text: str, context: list[dict[str, str]], language: str) -> str | None:
        """The answer to ``text`` after ``context``, which is not changed; None if there is none."""
        messages = [*context, {"role": "user", "content": text}]
        model = self.llm
        response = await self._run(
            "llm",
            lambda: model.answer(messages, language) if isinstance(model, ResponderModule) else model.chat(messages),
            _reply,
        )
        if response is not None:
            log.info("LLM successful: '%s'", _shown(response), extra=self._told)
        return response

    async def route_synthesis(self, text: str, language: str, retry_count: int = ATTEMPTS) -> bytes | None:
        """``text`` spoken, as the provider's WAV; None after all attempts."""
        audio = await self._run("tts", lambda: self.tts.text_to_speech(text, language), _audio, retry_count)
        if audio is not None:
            self._look_at(audio)
            log.info("TTS successful: %d bytes", len(audio), extra=self._told)
        return audio

    def _look_at(self, audio: bytes) -> None:
        """What is no WAV is handed on all the same: who plays it may know what to do with it."""
        try:
            wav_read(audio)
        except BadAudio as error:
            log.warning("[tts.not_wav] text_to_speech gave back what cannot be played: %s", error, extra=self._told)

    def get_breaker_status(self) -> dict[str, dict[str, Any]]:
        """``{"stt": {"state", "failure_count", ...}, ...}``; empty if the breakers are switched off."""
        return {name: breaker.status() for name, breaker in self.breakers.items()}

    async def start(self) -> None:
        """Starts those providers that are Antiphon's own now, instead of at their first turn. Raises as they do."""
        await asyncio.gather(*(module.start() for module in self._own()))

    async def close(self) -> None:
        """Closes those providers that are Antiphon's own. Yours are yours."""
        await asyncio.gather(*(module.close() for module in self._own()))

    def _own(self) -> list[Module]:
        return [module for module in (self.stt, self.llm, self.tts) if isinstance(module, Module)]

    async def _run(
        self, name: str, ask: Callable[[], Awaitable[object]], read: Callable[[Any], T | None], tries: int | None = None
    ) -> T | None:
        outcome = await self._stages[name].run(ask, read, tries)
        self.last_errors.pop(name, None)
        if outcome.error is not None:
            self.last_errors[name] = outcome.error
        return outcome.value


def _shown(text: str) -> str:
    """For a line of the log, which stays one line whatever was said. Indic scripts are written with the joiners."""
    return "".join(char if char.isprintable() or char in "\u200c\u200d" else " " for char in clipped(text))


def _sendable(text: str) -> str:
    """Without lone surrogates, which careless JSON has and no socket takes."""
    return text.encode("utf-8", "replace").decode()


def _transcript(answer: Any) -> tuple[str, str | None] | None:
    """What a recogniser gave back; None if nothing was said in it."""
    match answer:
        case (str() | None as text, str() | None as language):
            return (_sendable(text[:MAX_TEXT]), language or None) if text and text.strip() else None
    raise _wrong(answer, "stt", "speech_to_text", "(text, language)")


def _reply(answer: Any) -> str | None:
    if answer is None or isinstance(answer, str):
        return _sendable(answer[:MAX_REPLY_CHARS]) if answer and answer.strip() else None
    raise _wrong(answer, "llm", "chat", "text")


def _audio(answer: Any) -> bytes | None:
    if answer is None or isinstance(answer, bytes | bytearray | memoryview):
        return bytes(answer) if answer else None
    raise _wrong(answer, "tts", "text_to_speech", "the bytes of a WAV")


def _wrong(answer: object, stage: str, method: str, wanted: str) -> ProviderRefused:
    message = f"{method} gave back {type(answer).__name__}: it must give back {wanted}"
    return ProviderRefused(message, stage=stage, code=f"{stage}.bad_result")
