"""``AgentOrchestrator``: one turn, its parts replaced by mocks."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from unittest.mock import AsyncMock, Mock, call

import pytest

from antiphon.errors import ConfigError
from antiphon.media.codec import wav_write
from antiphon.providers.llm.prompt import language_instruction
from antiphon.sim.clock import run
from orchestrator import AgentOrchestrator, ContextManager, LanguageCoordinator, MetricsCollector, TaskRouter

SHAPE = {"text", "response", "audio", "language", "metrics", "error"}
TIMES = {"stt_time", "llm_time", "tts_time", "total_time"}


def made(stt: Any, llm: Any, tts: Any, **options: Any) -> AgentOrchestrator:
    """On the loop's clock, so that virtual time is what is measured."""
    return AgentOrchestrator(stt, llm, tts, clock=lambda: asyncio.get_running_loop().time(), **options)


def after(seconds: float, result: Any) -> Any:
    """A method that gives ``result`` after so long."""

    async def method(*arguments: object) -> Any:
        await asyncio.sleep(seconds)
        return result

    return method


def test_a_new_one(orchestrator: AgentOrchestrator) -> None:
    assert isinstance(orchestrator.task_router, TaskRouter)
    assert isinstance(orchestrator.context_manager, ContextManager)
    assert isinstance(orchestrator.language_coordinator, LanguageCoordinator)
    assert (orchestrator.metrics, orchestrator.is_processing, orchestrator.processing_state) == (None, False, "idle")
    assert orchestrator.context_manager.max_history == 10
    assert orchestrator.language_coordinator.selected_language == "en-IN"


def test_a_turn(orchestrator: AgentOrchestrator) -> None:
    result = run(orchestrator.process_turn(b"wav"))
    assert set(result) == SHAPE
    assert result["text"] == "Hello, how are you?"
    assert result["response"] == "I am well, thank you."
    assert result["audio"] == b"RIFF a WAV"
    assert result["language"] == "en-IN"
    assert result["error"] is None
    assert set(result["metrics"]) == TIMES
    assert (orchestrator.is_processing, orchestrator.processing_state) == (False, "idle")


def test_the_steps_are_in_their_order(orchestrator: AgentOrchestrator) -> None:
    steps = Mock()
    steps.route_transcription = AsyncMock(return_value=("fees?", "te-IN"))
    steps.route_generation = AsyncMock(return_value="Ninety thousand.")
    steps.route_synthesis = AsyncMock(return_value=b"RIFF")
    steps.get_processing_language = Mock(return_value="te-IN")
    steps.ensure_consistency = Mock(return_value="te-IN")
    steps.get_context = Mock(return_value=[{"role": "system", "content": "x"}])
    orchestrator.task_router = orchestrator.context_manager = orchestrator.language_coordinator = steps
    result = run(orchestrator.process_turn(b"wav", system_prompt="Be brief."))
    assert result["audio"] == b"RIFF"
    assert steps.mock_calls == [
        call.get_processing_language(),
        call.route_transcription(b"wav", language="te-IN"),
        call.set_detected_language("te-IN"),
        call.ensure_consistency(),
        call.get_context(system_prompt=steps.get_context.call_args.kwargs["system_prompt"]),
        call.route_generation("fees?", [{"role": "system", "content": "x"}], "te-IN"),
        call.add_turn("fees?", "Ninety thousand.", "te-IN"),
        call.route_synthesis("Ninety thousand.", "te-IN"),
    ]
    prompt = steps.get_context.call_args.kwargs["system_prompt"]
    assert prompt.startswith("Be brief.\n\n")
    assert "Telugu" in prompt


def test_times_are_measured_in_seconds_and_told_to_the_collector() -> None:
    metrics = MetricsCollector()
    one = made(
        Mock(speech_to_text=after(1.2, ("fees?", "hi-IN"))),
        Mock(chat=after(0.8, "Ninety thousand.")),
        Mock(text_to_speech=after(1.0, b"RIFF")),
        metrics_collector=metrics,
        default_language="hi-IN",
    )
    told = run(one.process_turn(b"wav"))["metrics"]
    assert told == pytest.approx({"stt_time": 1.2, "llm_time": 0.8, "tts_time": 1.0, "total_time": 3.0})
    (turn,) = metrics.turn_metrics
    assert (turn.stt_latency, turn.llm_latency, turn.tts_latency) == pytest.approx((1.2, 0.8, 1.0))
    assert (turn.total_latency, turn.language) == (pytest.approx(3.0), "hi-IN")


def test_the_state_follows_the_turn() -> None:
    seen: list[tuple[str, bool]] = []

    def watching(result: Any) -> Any:
        async def method(*arguments: object) -> Any:
            seen.append((one.processing_state, one.is_processing))
            return result

        return method

    class Collector:
        def record_turn(self, *times: Any) -> None:
            seen.append((one.processing_state, one.is_processing))

        def record_failure(self, *told: Any, **times: float) -> None:
            seen.append((one.processing_state, one.is_processing))

    stt = Mock(speech_to_text=watching(("hi", None)))
    one = made(stt, Mock(chat=watching("hello")), Mock(text_to_speech=watching(b"RIFF")), metrics_collector=Collector())
    run(one.process_turn(b"wav"))
    assert seen[:3] == [("transcribing", True), ("generating", True), ("synthesizing", True)]
    assert one.processing_state == "idle"
    seen.clear()
    stt.speech_to_text = watching(("", None))
    run(one.process_turn(b"wav"))
    assert seen[-1] == ("error", True)
    assert (one.processing_state, one.is_processing) == ("idle", False)


def test_a_second_turn_is_refused_while_one_runs() -> None:
    stt = Mock(speech_to_text=after(1, ("hi", None)))
    one = made(stt, Mock(chat=after(1, "hello")), Mock(text_to_speech=after(1, b"RIFF")))

    async def main() -> list[dict[str, Any]]:
        return await asyncio.gather(one.process_turn(b"wav"), one.process_turn(b"wav"))

    first, second = run(main())
    assert first["error"] is None
    assert second == {
        "text": "",
        "response": "",
        "audio": None,
        "language": "en-IN",
        "metrics": dict.fromkeys(TIMES, 0.0),
        "error": "busy",
    }
    assert one.context_manager.get_turn_count() == 1
    one.is_processing = True
    assert run(one.process_turn(b"wav"))["error"] == "busy"
    assert one.is_processing, "whoever set it is still at work"


def test_nothing_heard_ends_the_turn(orchestrator: AgentOrchestrator, mock_llm_module: Any) -> None:
    orchestrator.task_router.stt.speech_to_text = AsyncMock(return_value=("", None))
    result = run(orchestrator.process_turn(b"wav"))
    assert set(result) == SHAPE
    assert result["error"].startswith("[stt.blank]")
    assert (result["text"], result["response"], result["audio"]) == ("", "", None)
    assert result["metrics"]["llm_time"] == result["metrics"]["tts_time"] == 0.0
    assert not mock_llm_module.chat.called
    assert orchestrator.context_manager.conversation_history == []


def test_no_answer_ends_the_turn(orchestrator: AgentOrchestrator, mock_tts_module: Any) -> None:
    orchestrator.task_router.llm.chat = AsyncMock(side_effect=RuntimeError("overloaded"))
    result = run(orchestrator.process_turn(b"wav"))
    assert result["error"].startswith("[llm.raised]")
    assert (result["text"], result["response"]) == ("Hello, how are you?", "")
    assert not mock_tts_module.text_to_speech.called
    assert orchestrator.context_manager.conversation_history == []


def test_no_voice_still_gives_the_text(orchestrator: AgentOrchestrator, caplog: pytest.LogCaptureFixture) -> None:
    orchestrator.task_router.tts.text_to_speech = AsyncMock(return_value=b"")
    with caplog.at_level(logging.WARNING):
        result = run(orchestrator.process_turn(b"wav"))
    assert (result["error"], result["audio"], result["response"]) == (None, None, "I am well, thank you.")
    assert ("WARNING", "TTS failed, but returning text response") in [
        (record.levelname, record.getMessage()) for record in caplog.records
    ]
    assert orchestrator.context_manager.get_turn_count() == 1


@pytest.mark.parametrize(
    ("audio", "code"), [(b"", "audio.empty"), ("text", "audio.not_bytes"), (None, "audio.not_bytes")]
)
def test_audio_that_is_none_is_refused(orchestrator: AgentOrchestrator, audio: Any, code: str) -> None:
    result = run(orchestrator.process_turn(audio))
    assert result["error"].startswith(f"[{code}]")
    assert not orchestrator.task_router.stt.speech_to_text.called  # type: ignore[attr-defined]


def test_whatever_raises_is_an_error_in_the_result(orchestrator: AgentOrchestrator) -> None:
    orchestrator.context_manager.get_context = Mock(side_effect=ZeroDivisionError("a patched part"))  # type: ignore[method-assign]
    result = run(orchestrator.process_turn(b"wav"))
    assert result["error"] == "[internal] ZeroDivisionError: a patched part"
    assert not orchestrator.is_processing


def test_a_collector_that_raises_costs_no_answer(orchestrator: AgentOrchestrator) -> None:
    orchestrator.metrics = Mock(record_turn=Mock(side_effect=OSError("disk full")))
    assert run(orchestrator.process_turn(b"wav"))["error"] is None


def test_a_collector_of_record_turn_alone_will_do(orchestrator: AgentOrchestrator) -> None:
    collector = Mock(spec=["record_turn"])
    orchestrator.metrics = collector
    run(orchestrator.process_turn(b"wav"))
    orchestrator.task_router.tts.text_to_speech = AsyncMock(return_value=None)
    run(orchestrator.process_turn(b"wav"))
    orchestrator.task_router.stt.speech_to_text = AsyncMock(return_value=("", None))
    run(orchestrator.process_turn(b"wav"))
    assert collector.record_turn.call_count == 2


@pytest.mark.parametrize("stage", ["stt", "llm", "tts"])
def test_a_cancelled_turn_leaves_no_trace(stage: str) -> None:
    hangs = after(1000, None)
    metrics = MetricsCollector()
    one = made(
        Mock(speech_to_text=hangs if stage == "stt" else after(1, ("hi", None))),
        Mock(chat=hangs if stage == "llm" else after(1, "hello")),
        Mock(text_to_speech=hangs if stage == "tts" else after(1, b"RIFF")),
        metrics_collector=metrics,
    )
    one.context_manager.add_turn("before", "it", "en-IN")
    history = [*one.context_manager.conversation_history]

    async def main() -> None:
        task = asyncio.ensure_future(one.process_turn(b"wav"))
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert (one.is_processing, one.processing_state) == (False, "idle")
    assert one.context_manager.conversation_history == history
    assert (metrics.turn_metrics, metrics.failures) == ([], [])
    assert {each["failure_count"] for each in one.get_status()["circuit_breakers"].values()} == {0}


# -- language --------------------------------------------------------------------------------------


def test_a_choice_goes_to_the_coordinator(orchestrator: AgentOrchestrator) -> None:
    orchestrator.set_language("te-IN")
    result = run(orchestrator.process_turn(b"wav"))
    router = orchestrator.task_router
    router.stt.speech_to_text.assert_awaited_once_with(b"wav", "te-IN")  # type: ignore[attr-defined]
    router.tts.text_to_speech.assert_awaited_once_with("I am well, thank you.", "te-IN")  # type: ignore[attr-defined]
    assert result["language"] == "te-IN"
    with pytest.raises(ConfigError):
        orchestrator.set_language("fr-FR")


def test_a_language_for_one_turn(orchestrator: AgentOrchestrator) -> None:
    result = run(orchestrator.process_turn(b"wav", language="gu"))
    assert result["language"] == "gu-IN"
    assert "Gujarati" in orchestrator.task_router.llm.chat.call_args.args[0][0]["content"]  # type: ignore[attr-defined]
    assert orchestrator.language_coordinator.selected_language == "en-IN"
    assert run(orchestrator.process_turn(b"wav"))["language"] == "en-IN"
    assert run(orchestrator.process_turn(b"wav", language="xx"))["error"].startswith("[language.not_offered]")


def test_where_the_provider_names_no_language_the_words_do(orchestrator: AgentOrchestrator) -> None:
    orchestrator.task_router.stt.speech_to_text = AsyncMock(return_value=("ఫీజు ఎంత చెప్పండి", None))
    languages = [run(orchestrator.process_turn(b"wav"))["language"] for _ in range(2)]
    assert languages == ["en-IN", "te-IN"]
    orchestrator.task_router.stt.speech_to_text = AsyncMock(return_value=("ok", None))
    run(orchestrator.process_turn(b"wav"))
    assert orchestrator.language_coordinator.turn_count == 2, "a doubtful guess says nothing"


# -- prompt ----------------------------------------------------------------------------------------


def prompts(orchestrator: AgentOrchestrator) -> str:
    message = orchestrator.task_router.llm.chat.call_args.args[0][0]  # type: ignore[attr-defined]
    assert message["role"] == "system"
    return str(message["content"])


def test_the_prompt_is_yours_and_asks_for_the_language(orchestrator: AgentOrchestrator) -> None:
    orchestrator.set_system_prompt("You sell tickets.")
    assert orchestrator.system_prompt == "You sell tickets."
    run(orchestrator.process_turn(b"wav"))
    assert prompts(orchestrator).startswith("You sell tickets.\n\nAnswer in English (en-IN)")
    run(orchestrator.process_turn(b"wav", system_prompt="You sell boats."))
    assert prompts(orchestrator).startswith("You sell boats.\n\nAnswer in English")
    run(orchestrator.process_turn(b"wav"))
    assert prompts(orchestrator).startswith("You sell tickets.")


def test_a_message_of_the_system_in_the_history_does_not_outlive_a_switch(orchestrator: AgentOrchestrator) -> None:
    """A33: it wins over the prompt. A42: the answer is in the language that the caller has changed to all the same."""
    theirs = {"role": "system", "content": "You sell tickets. Answer in English."}
    orchestrator.context_manager.conversation_history.append(theirs)
    orchestrator.task_router.stt.speech_to_text = AsyncMock(return_value=("फीस कितनी है", "hi-IN"))
    for language in ("en-IN", "hi-IN", "hi-IN"):
        run(orchestrator.process_turn(b"wav"))
        messages = orchestrator.task_router.llm.chat.call_args.args[0]  # type: ignore[attr-defined]
        system = [message["content"] for message in messages if message["role"] == "system"]
        assert system == [theirs["content"], language_instruction(language)]
        assert [message["role"] for message in messages[:3]] == ["system", "system", "user"]
    assert [line for line in orchestrator.context_manager.conversation_history if line["role"] == "system"] == [theirs]


def test_a_switch_calls_the_hook_before_the_answer(orchestrator: AgentOrchestrator) -> None:
    orchestrator.set_system_prompt("You sell tickets.")
    orchestrator.task_router.stt.speech_to_text = AsyncMock(return_value=("फीस कितनी है", "hi-IN"))
    run(orchestrator.process_turn(b"wav"))
    assert orchestrator.system_prompt == "You sell tickets."
    run(orchestrator.process_turn(b"wav"))
    assert orchestrator.system_prompt.startswith("You sell tickets.\n\nAnswer in Hindi (hi-IN)")
    assert prompts(orchestrator) == orchestrator.system_prompt


def test_the_hook_can_bring_a_prompt_of_its_own(
    mock_stt_module: Any, mock_llm_module: Any, mock_tts_module: Any
) -> None:
    class Mine(AgentOrchestrator):
        def _update_system_prompt_for_language(self, lang: str) -> None:
            self.set_system_prompt({"hi-IN": "आप टिकट बेचते हैं।"}[lang])

    mine = Mine(mock_stt_module, mock_llm_module, mock_tts_module, system_prompt="You sell tickets.")
    mock_stt_module.speech_to_text.return_value = ("फीस कितनी है", "hi-IN")
    for _ in range(2):
        run(mine.process_turn(b"wav"))
    assert prompts(mine).startswith("आप टिकट बेचते हैं।\n\nAnswer in Hindi")


# -- status ----------------------------------------------------------------------------------------


def test_the_status(orchestrator: AgentOrchestrator) -> None:
    run(orchestrator.process_turn(b"wav"))
    status = orchestrator.get_status()
    breakers = status.pop("circuit_breakers")
    assert status == {
        "is_processing": False,
        "processing_state": "idle",
        "current_language": "en-IN",
        "language_name": "English",
        "turn_count": 1,
        "history_length": 2,
        "language_switching": orchestrator.language_coordinator.get_switch_status(),
    }
    assert {name: each["state"] for name, each in breakers.items()} == {
        "stt": "closed",
        "llm": "closed",
        "tts": "closed",
    }


def test_one_object_may_be_all_three_and_has_three_breakers() -> None:
    sarvam = Mock(
        speech_to_text=AsyncMock(return_value=("hi", "hi-IN")),
        chat=AsyncMock(return_value="hello"),
        text_to_speech=AsyncMock(side_effect=RuntimeError),
    )
    one = made(sarvam, sarvam, sarvam, max_history=10)

    async def main() -> dict[str, Any]:
        for _ in range(3):
            await one.process_turn(b"wav")
        return one.get_status()["circuit_breakers"]

    breakers = run(main())
    assert [breakers[name]["state"] for name in ("stt", "llm", "tts")] == ["closed", "closed", "open"]


def test_the_log_of_a_turn(
    orchestrator: AgentOrchestrator, mock_tts_module: Any, caplog: pytest.LogCaptureFixture
) -> None:
    mock_tts_module.text_to_speech.return_value = wav_write(bytes(320), 8_000)
    with caplog.at_level(logging.DEBUG, logger="antiphon"):
        run(orchestrator.process_turn(b"wav"))
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name.startswith("antiphon")]
    assert told[:-1] == [
        ("INFO", "Step 1: Transcribing audio..."),
        ("INFO", "STT successful: 'Hello, how are you?' (lang: en-IN)"),
        ("INFO", "Step 3: Generating response..."),
        ("INFO", "LLM successful: 'I am well, thank you.'"),
        ("INFO", "Step 4: Synthesizing audio..."),
        ("INFO", "TTS successful: 364 bytes"),
    ]
    assert told[-1][0] == "DEBUG"
    assert told[-1][1].startswith("Metrics: stt_time=0.0")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"system_prompt": ["You sell tickets."]}, "system_prompt is list: give text"),
        ({"turn_timeout": 0}, "turn_timeout is 0: give seconds, more than 0"),
        ({"turn_timeout": float("nan")}, "turn_timeout is nan"),
        ({"turn_timeout": "50"}, "turn_timeout is '50'"),
        ({"metrics_collector": object()}, r"metrics_collector is object without record_turn: take a MetricsCollector"),
        ({"languages": []}, r"languages is \[\]: name at least one tag"),
        ({"languages": [None]}, r"languages is \[None\]"),
    ],
)
def test_a_setting_that_would_fail_every_turn_fails_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        made(AsyncMock(), AsyncMock(), AsyncMock(), **options)


@pytest.mark.parametrize("turns", ["10", None, 2.5, -1])
def test_turns_to_remember_are_a_number(turns: Any) -> None:
    with pytest.raises(ValueError, match="give the number of turns to remember, 0 or more"):
        made(AsyncMock(), AsyncMock(), AsyncMock(), max_history=turns)


def test_one_language_needs_no_list() -> None:
    one = made(AsyncMock(), AsyncMock(), AsyncMock(), languages="fr-FR", default_language="fr")
    assert [*one.language_coordinator.languages] == ["fr-FR"]


def test_a_prompt_that_is_no_text(orchestrator: AgentOrchestrator) -> None:
    result = run(orchestrator.process_turn(b"wav", system_prompt=5))  # type: ignore[arg-type]
    assert result["error"] == "[config.bad_value] system_prompt is int: give text"
    with pytest.raises(ConfigError):
        orchestrator.set_system_prompt(5)  # type: ignore[arg-type]
    assert run(orchestrator.process_turn(b"wav"))["error"] is None


def test_what_was_said_stays_one_line_of_the_log_and_can_be_sent(
    mock_stt_module: Any, mock_llm_module: Any, mock_tts_module: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mock_stt_module.speech_to_text = AsyncMock(return_value=("one\r\nERROR two\x1b[31m", None))
    mock_llm_module.chat = AsyncMock(return_value="half an emoji \ud83d")
    result = run(made(mock_stt_module, mock_llm_module, mock_tts_module).process_turn(b"wav"))
    assert result["text"] == "one\r\nERROR two\x1b[31m"
    assert result["response"] == "half an emoji ?"
    assert "STT successful: 'one  ERROR two [31m' (lang: None)" in caplog.messages
