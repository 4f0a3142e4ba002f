"""One turn of a conversation inside somebody else's server: what was said goes in as a WAV, what to play comes out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from antiphon.clip import clipped
from antiphon.errors import AntiphonError, ConfigError, PeerError, ProviderError
from antiphon.facade.context_manager import ContextManager
from antiphon.facade.language_coordinator import LanguageCoordinator
from antiphon.facade.ports_as_modules import SURE, Chat, SpeechToText, TextToSpeech
from antiphon.facade.task_router import TaskRouter
from antiphon.kernel.state import Floor
from antiphon.languages import DEFAULT_LANGUAGE
from antiphon.media.codec import MAX_WAV_BYTES
from antiphon.providers.llm.prompt import language_instruction
from antiphon.runtime.batch import SHOWN_CHARS, TURN_S, Clock, Sleep, turn_within
from antiphon.runtime.ports import Responder, Synthesizer, Transcriber
from antiphon.runtime.resilience import StagePolicy

if TYPE_CHECKING:
    from antiphon.language_id import LanguageIdentifier

STATES: Mapping[Floor, str] = {
    Floor.IDLE: "idle",
    Floor.LISTENING: "transcribing",
    Floor.THINKING: "generating",
    Floor.SPEAKING: "synthesizing",
    Floor.INTERRUPT: "transcribing",
}
"""How the turn machine's states are told here (A17, X1)."""

_FLOORS = {"stt": Floor.LISTENING, "llm": Floor.THINKING, "tts": Floor.SPEAKING}

log = logging.getLogger("antiphon.orchestrator")

T = TypeVar("T")


class Metrics(Protocol):
    """What a collector must have. One with ``record_failure`` too is told of turns that were not answered."""

    def record_turn(self, stt_time: float, llm_time: float, tts_time: float, language: str, /) -> None:
        """Seconds."""


@dataclass
class _Turn:
    """A turn on its way. ``seconds`` of the stages that were begun; ``stage`` is the present one."""

    language: str
    stage: str = "stt"
    text: str = ""
    response: str = ""
    audio: bytes | None = None
    error: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def result(self) -> dict[str, Any]:
        stt, llm, tts = (self.seconds.get(name, 0.0) for name in ("stt", "llm", "tts"))
        return {
            "text": self.text,
            "response": self.response,
            "audio": self.audio,
            "language": self.language,
            "metrics": {"stt_time": stt, "llm_time": llm, "tts_time": tts, "total_time": stt + llm + tts},
            "error": self.error,
        }


class AgentOrchestrator:
    """Speech to text, language, model with context, text to speech: one conversation's, one turn at a time.

    - The modules are objects with ``speech_to_text``, ``chat`` and ``text_to_speech`` (see ``TaskRouter``), or
      Antiphon's own providers. One object may be all three.
    - ``max_history``: turns that the model is told of.
    - ``default_language``: what the conversation begins in. ``languages``: BCP 47 tags that it may change to.
    - ``system_prompt``: yours; an instruction to answer in the turn's language is added to it.
    - ``metrics_collector``: is told of every turn.
    - ``enable_circuit_breaker``: False asks a provider however often it has failed.
    - ``call_id`` is named in every line of the log.
    - ``turn_timeout``: seconds for a whole turn; a stage gets its own limit or what is left, whichever is less.
    - ``policies`` are those limits, by stage: stt, llm, tts. ``clock`` and ``sleep`` are for tests.

    Raises ``ConfigError`` for a module that lacks its method, a language that is not offered and a setting that is not
    of its kind, and ``ValueError`` for ``max_history`` as ``ContextManager`` does.
    """

    def __init__(  # noqa: PLR0917 - the order is a promise (A8)
        self,
        stt_module: SpeechToText | Transcriber,
        llm_module: Chat | Responder,
        tts_module: TextToSpeech | Synthesizer,
        max_history: int = 10,
        default_language: str = DEFAULT_LANGUAGE,
        system_prompt: str | None = None,
        metrics_collector: Metrics | None = None,
        enable_circuit_breaker: bool = True,
        *,
        call_id: str = "",
        languages: Iterable[str] | None = None,
        turn_timeout: float = TURN_S,
        policies: Mapping[str, StagePolicy] | None = None,
        clock: Clock = time.perf_counter,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.task_router = TaskRouter(
            stt_module,
            llm_module,
            tts_module,
            enable_circuit_breaker=enable_circuit_breaker,
            call_id=call_id,
            policies=policies,
            clock=clock,
            sleep=sleep,
        )
        self.context_manager = ContextManager(max_history)
        self.language_coordinator = LanguageCoordinator(default_language, languages=languages, call_id=call_id)
        _check_settings(metrics_collector, turn_timeout)
        self.metrics = metrics_collector
        self.is_processing = False
        self._told = {"call": call_id}
        self._offered = tuple(self.language_coordinator.languages)
        self._turn_timeout = turn_timeout
        self._clock = clock
        self._floor = Floor.IDLE
        self._failing = False
        self._own_prompt = _as_prompt(system_prompt)
        self._prompt_language = ""

    # -- a turn -------------------------------------------------------------------------------------

    async def process_turn(
        self, audio_data: bytes, language: str | None = None, system_prompt: str | None = None
    ) -> dict[str, Any]:
        """Answers what is said in ``audio_data``, a WAV. ``language`` and ``system_prompt`` hold for this turn only.

        Gives ``text`` (what was heard), ``response``, ``audio`` (a WAV of 8 kHz; None if it could not be spoken),
        ``language``, ``metrics`` (``stt_time``, ``llm_time``, ``tts_time``, ``total_time`` in seconds; 0 for what was
        not reached) and ``error``: None, or a text that begins with a stable code in brackets. While a turn is being
        processed another is refused with the error ``busy``. Raises nothing but ``CancelledError``: a turn that is
        cancelled leaves no trace in the history.
        """
        turn = _Turn(language=self.language_coordinator.get_processing_language())
        if self.is_processing:
            log.warning("A turn is being processed; another one is refused", extra=self._told)
            turn.error = "busy"
            return turn.result()
        self.is_processing = True
        try:
            await self._attempt(turn, audio_data, language, system_prompt)
            self._failing = turn.error is not None
            self._record(turn)
        finally:
            self._floor = Floor.IDLE
            self._failing = self.is_processing = False
        return turn.result()

    async def _attempt(self, turn: _Turn, audio_data: bytes, language: str | None, system_prompt: str | None) -> None:
        try:
            with turn_within(self._turn_timeout, self._clock):
                await self._run(turn, audio_data, language, system_prompt)
        except AntiphonError as error:
            log.error("The turn failed: %s", error, extra=self._told)
            turn.error = str(error)
        except Exception as error:
            # A module's wrapper, a coordinator of the application's own: whoever asked gets an answer all the same.
            log.exception("The turn failed", extra=self._told)
            turn.error = str(AntiphonError(clipped(f"{type(error).__name__}: {error}", SHOWN_CHARS)))

    async def _run(self, turn: _Turn, audio_data: bytes, language: str | None, system_prompt: str | None) -> None:
        """The six steps, in their order (A12). Raises the error that ends the turn."""
        _check_audio(audio_data)
        _as_prompt(system_prompt)
        if language:
            turn.language = self._as_offered(language)
        log.info("Step 1: Transcribing audio...", extra=self._told)
        hearing = self.task_router.route_transcription(audio_data, language=turn.language)
        text, detected = await self._timed(turn, "stt", hearing)
        if text is None:
            raise self._why("stt", "nothing was understood")
        turn.text = text
        self._follow(detected or self._identified(text))
        turn.language = turn.language if language else self.language_coordinator.ensure_consistency()
        context = self.context_manager.get_context(system_prompt=self._prompt(system_prompt, turn.language))
        if isinstance(self.context_manager, ContextManager):  # another's own is the application's business
            context = _asking_for(turn.language, context)

        log.info("Step 3: Generating response...", extra=self._told)
        answering = self.task_router.route_generation(text, context, turn.language)
        response = await self._timed(turn, "llm", answering)
        if response is None:
            raise self._why("llm", "there is no answer")
        turn.response = response
        self.context_manager.add_turn(text, response, turn.language)

        log.info("Step 4: Synthesizing audio...", extra=self._told)
        speaking = self.task_router.route_synthesis(response, turn.language)
        try:
            turn.audio = await self._timed(turn, "tts", speaking)
        except asyncio.CancelledError:
            # History is what was heard, and of this answer nothing will be.
            self.context_manager.take_back_turn()
            raise
        if turn.audio is None:
            log.warning("TTS failed, but returning text response", extra=self._told)

    async def _timed(self, turn: _Turn, stage: str, work: Awaitable[T]) -> T:
        turn.stage, self._floor = stage, _FLOORS[stage]
        began = self._clock()
        try:
            return await work
        finally:
            turn.seconds[stage] = self._clock() - began

    def _record(self, turn: _Turn) -> None:
        """Tells the collector of the turn, once (A22)."""
        told = turn.result()["metrics"]
        log.debug("Metrics: %s", " ".join(f"{name}={value:.3f}" for name, value in told.items()), extra=self._told)
        stt, llm, tts = told["stt_time"], told["llm_time"], told["tts_time"]
        failed = getattr(self.metrics, "record_failure", None)
        try:
            if turn.audio is not None or (failed is None and turn.error is None):
                if self.metrics is not None:
                    self.metrics.record_turn(stt, llm, tts, turn.language)
            elif failed is not None:
                # The time of the stage that failed does not tell how long that stage takes.
                done = {"stt_time": stt, "llm_time": llm, "tts_time": tts, f"{turn.stage}_time": 0.0}
                failed(turn.stage, turn.language, **done)
        except Exception:
            log.exception("The metrics collector raised", extra=self._told)

    def _why(self, stage: str, otherwise: str) -> AntiphonError:
        """What ended a stage, as far as the router knows."""
        errors = getattr(self.task_router, "last_errors", None)
        found = errors.get(stage) if isinstance(errors, dict) else None
        return found or ProviderError(otherwise, stage=stage, code=f"{stage}.failed")

    # -- language -----------------------------------------------------------------------------------

    def set_language(self, language_code: str) -> None:
        """The caller's own choice, in a menu for instance. Raises ``ConfigError`` for one that is not offered."""
        self.language_coordinator.set_language(language_code)
        self._update_system_prompt_for_language(self.language_coordinator.selected_language)

    def _follow(self, detected: str | None) -> None:
        """Step 2: what the caller spoke may change the conversation's language."""
        if not detected:
            return
        before = self.language_coordinator.selected_language
        self.language_coordinator.set_detected_language(detected)
        selected = self.language_coordinator.selected_language
        if selected != before:
            self._update_system_prompt_for_language(selected)

    def _identified(self, text: str) -> str | None:
        """The language of the words themselves, where the module that heard them does not say."""
        guess = _identifier(self._offered).identify(text)
        return guess.language if guess.confidence >= SURE else None

    def _as_offered(self, language: str) -> str:
        coordinator = self.language_coordinator
        return coordinator.offered(language) if isinstance(coordinator, LanguageCoordinator) else language

    # -- prompt -------------------------------------------------------------------------------------

    @property
    def system_prompt(self) -> str:
        """Your prompt, and since the language was set or changed the instruction to answer in it."""
        own = self._own_prompt or ""
        return self._prompt(own, self._prompt_language) if self._prompt_language else own

    def set_system_prompt(self, prompt: str) -> None:
        """Yours, from the next turn on. Raises ``ConfigError`` for what is no text."""
        self._own_prompt = _as_prompt(prompt)

    def _update_system_prompt_for_language(self, lang: str) -> None:
        """Called when the conversation's language has changed, before the answer is asked for.

        Your own prompt stays; the instruction that goes with it is of the turn's language (``_prompt``). Override
        this to ``set_system_prompt`` one of your own per language.
        """
        self._prompt_language = lang
        log.info("The system prompt asks for %s", lang, extra=self._told)

    def _prompt(self, given: str | None, language: str) -> str:
        own = self._own_prompt if given is None else given
        return "\n\n".join(part for part in (own, language_instruction(language)) if part)

    # -- state --------------------------------------------------------------------------------------

    @property
    def processing_state(self) -> str:
        """idle, transcribing, generating, synthesizing; error while a turn that failed is being recorded."""
        return "error" if self._failing else STATES[self._floor]

    def get_status(self) -> dict[str, Any]:
        """For monitoring (A20). ``circuit_breakers`` is empty if they are switched off."""
        language = self.language_coordinator
        return {
            "is_processing": self.is_processing,
            "processing_state": self.processing_state,
            "current_language": language.get_processing_language(),
            "language_name": language.get_language_name(),
            "turn_count": self.context_manager.get_turn_count(),
            "history_length": len(self.context_manager.conversation_history),
            "language_switching": language.get_switch_status(),
            "circuit_breakers": self.task_router.get_breaker_status(),
        }

    async def start(self) -> None:
        """Starts the modules that are Antiphon's own providers, so that the first turn need not wait for them."""
        await self.task_router.start()

    async def close(self) -> None:
        """Closes the modules that are Antiphon's own providers; yours are yours. ``async with`` does both."""
        await self.task_router.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def _check_settings(collector: object, turn_timeout: object) -> None:
    if collector is not None and not callable(getattr(collector, "record_turn", None)):
        text = f"metrics_collector is {type(collector).__name__} without record_turn: take a MetricsCollector()"
        raise ConfigError(text, code="config.bad_value")
    if not isinstance(turn_timeout, int | float) or not turn_timeout > 0:
        raise ConfigError(f"turn_timeout is {turn_timeout!r}: give seconds, more than 0", code="config.bad_value")


def _as_prompt(prompt: str | None) -> str | None:
    if not isinstance(prompt, str | None):
        raise ConfigError(f"system_prompt is {type(prompt).__name__}: give text", code="config.bad_value")
    return prompt


def _asking_for(language: str, context: list[dict[str, str]]) -> list[dict[str, str]]:
    """A message of the system in the history wins over the prompt (A33), but not over the turn's language (A42)."""
    instruction = language_instruction(language)
    system = [at for at, message in enumerate(context) if message["role"] == "system"]
    if not system or any(instruction in context[at]["content"] for at in system):
        return context
    behind = system[-1] + 1
    return [*context[:behind], {"role": "system", "content": instruction}, *context[behind:]]


def _check_audio(audio: object) -> None:
    if not isinstance(audio, bytes | bytearray | memoryview):
        raise PeerError(f"audio_data is {type(audio).__name__}: give the bytes of a WAV", code="audio.not_bytes")
    if not len(audio):
        raise PeerError("audio_data is empty: give the bytes of a WAV", code="audio.empty")
    if len(audio) > MAX_WAV_BYTES:
        raise PeerError(f"audio_data has {len(audio)} bytes: at most {MAX_WAV_BYTES} are taken", code="audio.too_large")


@lru_cache(maxsize=16)
def _identifier(offered: tuple[str, ...]) -> LanguageIdentifier:
    """One for all conversations that offer the same languages: it holds no state."""
    from antiphon.language_id import LanguageIdentifier  # noqa: PLC0415 - reads word lists; few turns need it

    return LanguageIdentifier(offered)
