"""The contract's rows A1 to A57 and what belongs to them, one test for each row or part of it, by the row's name.

Short on purpose: what a row means in every case stands in ``tests/unit``, ``tests/integration`` and beside this file.
A5 is done in ``test_guide.py``; A59 to A63, A78 and the server of A4 in ``tests/examples``.
"""

# ruff: noqa: N802 - tests are called as their rows are

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import logging
import re
import time
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

import antiphon
import orchestrator
from antiphon import audio_utils
from antiphon.media.codec import wav_read
from antiphon.sim.clock import run
from orchestrator import (
    AgentOrchestrator,
    CircuitBreaker,
    CircuitBreakerOpen,
    ContextManager,
    LanguageCoordinator,
    MetricsCollector,
    TaskRouter,
    TurnMetrics,
)

ROOT = Path(__file__).parents[2]
REQUIRED = inspect.Parameter.empty


class Module:
    """All three in one object, as in the guide."""

    def __init__(self, text: str = "what are the fees", language: str | None = "en-IN") -> None:
        self.speech_to_text = AsyncMock(return_value=(text, language))
        self.chat = AsyncMock(return_value="Ninety thousand.")
        self.text_to_speech = AsyncMock(return_value=b"RIFF")


def made(module: Any = None, **options: Any) -> AgentOrchestrator:
    module = module or Module()
    return AgentOrchestrator(module, module, module, **{"clock": lambda: asyncio.get_running_loop().time(), **options})


def parameters(function: Any) -> list[tuple[str, Any]]:
    """Names and defaults, without ``self`` and what is given by keyword only."""
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.default) for each in found if each.name != "self" and each.kind != each.KEYWORD_ONLY]


# -- A.1 package ---------------------------------------------------------------------------------


def test_A1_the_guides_import() -> None:
    namespace: dict[str, Any] = {}
    exec("from orchestrator import AgentOrchestrator, MetricsCollector", namespace)  # noqa: S102
    assert namespace["AgentOrchestrator"] is antiphon.AgentOrchestrator


def test_A2_the_tests_import() -> None:
    line = "from orchestrator import AgentOrchestrator, ContextManager, LanguageCoordinator, TaskRouter"
    exec(line, namespace := {})  # noqa: S102
    assert namespace["TaskRouter"] is antiphon.TaskRouter


@pytest.mark.parametrize(
    "name",
    ["agent_orchestrator", "task_router", "context_manager", "language_coordinator", "metrics", "circuit_breaker"],
)
def test_A3_a_module_each_and_the_api_documents(name: str) -> None:
    assert import_module(f"orchestrator.{name}").__all__
    assert (Path(orchestrator.__file__).parent / "README.md").stat().st_size > 2000


def test_A4_the_programs_of_the_guide() -> None:
    for name in ("twilio_server.py", "requirements.txt", ".env.example"):
        assert (ROOT / "examples" / name).is_file()
    assert antiphon.SarvamAI.__module__ == "antiphon.providers.sarvam_ai"
    assert audio_utils.__name__ == "antiphon.audio_utils"


def test_A6_any_object_with_the_methods_will_do_three_times() -> None:
    module = Module()
    result = run(made(module).process_turn(b"wav"))
    module.speech_to_text.assert_awaited_once()
    module.chat.assert_awaited_once()
    module.text_to_speech.assert_awaited_once_with("Ninety thousand.", "en-IN")
    assert result["audio"] == b"RIFF"


# -- A.2 AgentOrchestrator -----------------------------------------------------------------------


def test_A7_A8_A9_the_constructor() -> None:
    assert parameters(AgentOrchestrator.__init__) == [
        ("stt_module", REQUIRED),
        ("llm_module", REQUIRED),
        ("tts_module", REQUIRED),
        ("max_history", 10),
        ("default_language", "en-IN"),
        ("system_prompt", None),
        ("metrics_collector", None),
        ("enable_circuit_breaker", True),
    ]
    one, metrics = Module(), MetricsCollector()
    assert AgentOrchestrator(one, one, one).metrics is None
    assert AgentOrchestrator(one, one, one, max_history=3).context_manager.max_history == 3
    assert AgentOrchestrator(one, one, one, metrics_collector=metrics).metrics is metrics


def test_A10_the_attributes() -> None:
    one = made()
    assert isinstance(one.task_router, TaskRouter)
    assert isinstance(one.context_manager, ContextManager)
    assert isinstance(one.language_coordinator, LanguageCoordinator)
    assert (one.metrics, one.is_processing, one.processing_state) == (None, False, "idle")


def test_A11_process_turn() -> None:
    assert parameters(AgentOrchestrator.process_turn) == [
        ("audio_data", REQUIRED),
        ("language", None),
        ("system_prompt", None),
    ]
    assert inspect.iscoroutinefunction(AgentOrchestrator.process_turn)


def test_A12_the_order_of_the_steps() -> None:
    one, order = made(), Mock()
    for part, names in (
        ("task_router", ("route_transcription", "route_generation", "route_synthesis")),
        ("language_coordinator", ("set_detected_language", "ensure_consistency")),
        ("context_manager", ("get_context", "add_turn")),
    ):
        for name in names:
            wrapped = getattr(getattr(one, part), name)
            kind = AsyncMock if inspect.iscoroutinefunction(wrapped) else Mock
            spy = kind(wraps=wrapped)
            order.attach_mock(spy, name)
            setattr(getattr(one, part), name, spy)
    run(one.process_turn(b"wav"))
    assert [call[0] for call in order.mock_calls] == [
        "route_transcription",
        "set_detected_language",
        "ensure_consistency",
        "get_context",
        "route_generation",
        "add_turn",
        "route_synthesis",
    ]
    order.route_transcription.assert_called_once_with(b"wav", language="en-IN")
    order.add_turn.assert_called_once_with("what are the fees", "Ninety thousand.", "en-IN")


def test_A13_X33_the_result() -> None:
    result = run(made(Module(language="te-IN"), default_language="te-IN").process_turn(b"wav"))
    times = result.pop("metrics")
    assert result == {
        "text": "what are the fees",
        "response": "Ninety thousand.",
        "audio": b"RIFF",
        "language": "te-IN",
        "error": None,
    }
    assert set(times) == {"stt_time", "llm_time", "tts_time", "total_time"}
    assert all(isinstance(value, float) for value in times.values())


def test_A14_a_voice_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    module = Module()
    module.text_to_speech.side_effect = RuntimeError
    result = run(made(module).process_turn(b"wav"))
    assert (result["audio"], result["response"], result["error"]) == (None, "Ninety thousand.", None)
    (line,) = [each for each in caplog.records if each.message == "TTS failed, but returning text response"]
    assert line.levelname == "WARNING"


@pytest.mark.parametrize("fault", [RuntimeError("x"), asyncio.InvalidStateError(), TimeoutError(), None, 3, ("a",)])
def test_A15_a_failure_is_in_the_result_and_never_raised(fault: Any) -> None:
    for stage in ("speech_to_text", "chat", "text_to_speech"):
        module = Module()
        method = getattr(module, stage)
        if isinstance(fault, Exception):
            method.side_effect = fault
        else:
            method.return_value = fault
        result = run(made(module).process_turn(b"wav"))
        if stage == "text_to_speech":
            assert result.get("audio") is None
        else:
            assert re.match(r"\[(stt|llm)\.\w+\] \w", result["error"])


def test_A16_a_second_turn_is_refused() -> None:
    one = made()
    one.is_processing = True
    assert run(one.process_turn(b"wav"))["error"] == "busy"


def test_A17_X1_the_states() -> None:
    one, seen = made(), []

    def watch(result: Any) -> Any:
        async def method(*arguments: object) -> Any:
            seen.append(one.processing_state)
            return result

        return method

    stt, llm, tts = one.task_router.stt, one.task_router.llm, one.task_router.tts
    stt.speech_to_text, llm.chat, tts.text_to_speech = watch(("x", None)), watch("y"), watch(b"z")  # type: ignore[method-assign]
    run(one.process_turn(b"wav"))
    assert [*seen, one.processing_state] == ["transcribing", "generating", "synthesizing", "idle"]


def test_A18_A37_set_language() -> None:
    one = made()
    one.set_language("hi-IN")
    assert one.language_coordinator.selected_language == "hi-IN"


def test_A19_set_system_prompt() -> None:
    one = made(module := Module())
    assert parameters(one.set_system_prompt) == [("prompt", REQUIRED)]
    one.set_system_prompt("Sell.")
    run(one.process_turn(b"wav"))
    assert module.chat.call_args.args[0][0]["content"].startswith("Sell.\n\n")


def test_A20_A52_the_status() -> None:
    status = made().get_status()
    assert set(status) == {
        "is_processing",
        "processing_state",
        "current_language",
        "language_name",
        "turn_count",
        "history_length",
        "language_switching",
        "circuit_breakers",
    }
    assert set(status["language_switching"]) == {
        "selected_language",
        "detected_language",
        "consecutive_different_count",
        "switch_threshold",
        "can_switch",
        "recent_history",
    }
    assert set(status["circuit_breakers"]) == {"stt", "llm", "tts"}
    assert {"state", "failure_count"} <= set(status["circuit_breakers"]["stt"])
    assert made(enable_circuit_breaker=False).get_status()["circuit_breakers"] == {}
    assert json.loads(json.dumps(status)) == status


def test_A21_A42_a_switch_reaches_every_stage() -> None:
    one = made(module := Module("फीस कितनी है", "hi-IN"))
    one._update_system_prompt_for_language = Mock(wraps=one._update_system_prompt_for_language)  # type: ignore[method-assign]
    run(one.process_turn(b"wav"))
    one._update_system_prompt_for_language.assert_not_called()
    for _ in range(2):
        run(one.process_turn(b"wav"))
    one._update_system_prompt_for_language.assert_called_once_with("hi-IN")
    assert module.speech_to_text.call_args.args[1] == "hi-IN"
    assert "Hindi" in module.chat.call_args.args[0][0]["content"]
    assert module.text_to_speech.call_args.args[1] == "hi-IN"
    assert "Hindi" in one.system_prompt


def test_A22_X30_times_are_told_in_seconds() -> None:
    async def slowly(*arguments: object) -> tuple[str, str]:
        await asyncio.sleep(1.25)
        return "x", "en-IN"

    module = Module()
    module.speech_to_text = slowly
    metrics = Mock(spec=["record_turn"])
    run(made(module, metrics_collector=metrics).process_turn(b"wav"))
    metrics.record_turn.assert_called_once_with(1.25, 0.0, 0.0, "en-IN")
    assert inspect.signature(AgentOrchestrator.__init__).parameters["clock"].default is time.perf_counter


# -- A.3 TaskRouter ------------------------------------------------------------------------------


def router(**methods: Any) -> TaskRouter:
    module = Module()
    for name, effect in methods.items():
        getattr(module, name).side_effect = effect
    return TaskRouter(module, module, module, clock=lambda: asyncio.get_running_loop().time())


def timed(routed: Any) -> tuple[Any, float]:
    async def main() -> tuple[Any, float]:
        return await routed, asyncio.get_running_loop().time()

    return run(main())


def test_A23_the_router() -> None:
    assert parameters(TaskRouter.__init__) == [("stt", REQUIRED), ("llm", REQUIRED), ("tts", REQUIRED)]
    stt, llm, tts = Module(), Module(), Module()
    one = TaskRouter(stt, llm, tts)
    assert (one.stt, one.llm, one.tts) == (stt, llm, tts)


def test_A24_route_transcription() -> None:
    assert parameters(TaskRouter.route_transcription) == [
        ("audio_data", REQUIRED),
        ("language", None),
        ("retry_count", 2),
    ]
    assert timed(router().route_transcription(b"wav")) == (("what are the fees", "en-IN"), 0.0)
    assert timed(router(speech_to_text=[("", "te-IN"), ("  ", None)]).route_transcription(b"wav"))[0] == (None, None)


@pytest.mark.parametrize(
    ("effects", "result", "seconds"),
    [
        ([RuntimeError(), ("x", None)], ("x", None), 0.5),
        ([("", None), ("x", None)], ("x", None), 0.0),
        ([RuntimeError(), RuntimeError()], (None, None), 0.5),
        ([("", None), RuntimeError()], (None, None), 0.0),
    ],
)
def test_A25_two_attempts_with_a_pause_after_exceptions_only(effects: list[Any], result: Any, seconds: float) -> None:
    assert timed(router(speech_to_text=effects).route_transcription(b"wav")) == (result, seconds)


def test_A26_route_generation() -> None:
    one, context = router(), [{"role": "system", "content": "x"}]
    assert run(one.route_generation("fees?", context, "en-IN")) == "Ninety thousand."
    one.llm.chat.assert_awaited_once_with([*context, {"role": "user", "content": "fees?"}])  # type: ignore[attr-defined]
    assert context == [{"role": "system", "content": "x"}]
    assert run(router(chat=[" "]).route_generation("fees?", [], "en-IN")) is None


def test_A27_X19_an_answer_is_tried_once_more() -> None:
    assert timed(router(chat=[OSError(), "x"]).route_generation("fees?", [], "en-IN")) == ("x", 0.5)
    assert timed(router(chat=[OSError(), OSError()]).route_generation("fees?", [], "en-IN")) == (None, 0.5)


@pytest.mark.parametrize(
    ("effects", "result", "seconds"),
    [([OSError(), b"x"], b"x", 0.5), ([None, b"x"], b"x", 0.0), ([OSError(), OSError()], None, 0.5)],
)
def test_A28_route_synthesis(effects: list[Any], result: bytes | None, seconds: float) -> None:
    assert parameters(TaskRouter.route_synthesis) == [("text", REQUIRED), ("language", REQUIRED), ("retry_count", 2)]
    assert timed(router(text_to_speech=effects).route_synthesis("x", "en-IN")) == (result, seconds)


def test_X8_A55_A56_A57_the_outer_limits() -> None:
    async def hangs(*arguments: object) -> None:
        await asyncio.sleep(1000)

    one = router(speech_to_text=hangs, chat=hangs, text_to_speech=hangs)
    assert timed(one.route_transcription(b"wav", retry_count=1))[1] == 15.0
    assert timed(one.route_synthesis("x", "en-IN", retry_count=1))[1] == 20.0
    assert timed(one.route_generation("x", [], "en-IN"))[1] == 30.5
    ([_, took]) = timed(made(one.stt, turn_timeout=7.0).process_turn(b"wav"))
    assert took == 7.0, "or what the turn has left"


def test_X20_the_breaker_is_around_every_single_attempt() -> None:
    one = router(speech_to_text=RuntimeError)
    run(one.route_transcription(b"wav"))
    assert one.get_breaker_status()["stt"]["failure_count"] == 2


# -- A.4 ContextManager --------------------------------------------------------------------------


def test_A29_A30_A35_the_context() -> None:
    assert parameters(ContextManager.__init__) == [("max_history", 10)]
    one = ContextManager()
    assert (one.conversation_history, one.max_history) == ([], 10)
    assert (one.user_metadata, one.session_context, one.current_language) == ({}, {}, None)


def test_A31_add_turn() -> None:
    one = ContextManager()
    assert [name for name, _ in parameters(one.add_turn)] == ["user_input", "assistant_response", "language"]
    one.add_turn("q", "a", "te-IN")
    for message, role, content in zip(one.conversation_history, ("user", "assistant"), "qa", strict=True):
        assert list(message) == ["role", "content", "language", "timestamp"]
        assert (message["role"], message["content"], message["language"]) == (role, content, "te-IN")
        assert datetime.fromisoformat(message["timestamp"])
    assert one.current_language == "te-IN"


def test_A32_X31_the_window() -> None:
    one = ContextManager(max_history=2)
    one.conversation_history.append({"role": "system", "content": "s"})
    for number in range(5):
        one.add_turn(f"q{number}", f"a{number}", "en-IN")
    assert [each["content"] for each in one.conversation_history] == ["s", "q3", "a3", "q4", "a4"]


def test_A33_get_context() -> None:
    one = ContextManager()
    assert parameters(one.get_context) == [("system_prompt", None), ("include_metadata", False)]
    one.add_turn("q", "a", "en-IN")
    one.user_metadata["name"] = "Radha"
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert one.get_context("p") == [{"role": "system", "content": "p"}, *talk]
    assert "Radha" in one.get_context("p", include_metadata=True)[1]["content"]
    one.conversation_history.append({"role": "system", "content": "s"})
    assert one.get_context("p") == [{"role": "system", "content": "s"}, *talk]


def test_A34_clear_and_count() -> None:
    one = ContextManager()
    one.add_turn("q", "a", "en-IN")
    assert one.get_turn_count() == 1
    one.clear_history()
    assert (one.get_turn_count(), one.conversation_history) == (0, [])


# -- A.5 LanguageCoordinator ---------------------------------------------------------------------


def test_A36_the_figures() -> None:
    one = LanguageCoordinator()
    assert (one.selected_language, one.detected_language, one.language_history) == ("en-IN", None, [])
    assert (one.history_size, one.last_different_language, one.consecutive_different_count) == (5, None, 0)
    assert (one.switch_threshold, one.min_turns_before_switch, one.turn_count) == (2, 1, 0)


def test_A38_detections_in_a_row(caplog: pytest.LogCaptureFixture) -> None:
    one = LanguageCoordinator()
    seen = []
    with caplog.at_level(logging.INFO):
        for heard in ("hi-IN", "te-IN", "en-IN", "te-IN", "te-IN", "te-IN"):
            one.set_detected_language(heard)
            seen.append((one.selected_language, one.consecutive_different_count))
    assert seen == [("en-IN", 1), ("en-IN", 1), ("en-IN", 0), ("en-IN", 1), ("te-IN", 0), ("te-IN", 0)]
    assert caplog.messages == ["AUTO-SWITCHED: en-IN -> te-IN"]
    assert one.language_history == ["te-IN", "en-IN", "te-IN", "te-IN", "te-IN"]


def test_A39_A40_what_holds() -> None:
    one = LanguageCoordinator("gu-IN")
    assert one.ensure_consistency() == one.get_processing_language() == "gu-IN"
    assert one.get_language_name() == "Gujarati"
    assert one.get_switch_status() == made(default_language="gu-IN").get_status()["language_switching"]


def test_A41_the_languages() -> None:
    four = {"te-IN": "Telugu", "hi-IN": "Hindi", "en-IN": "English", "gu-IN": "Gujarati"}
    assert LanguageCoordinator().languages == four


def test_X42_an_explicit_choice_is_locked() -> None:
    one = LanguageCoordinator(switch_threshold=1)
    one.set_language("te-IN")
    one.set_detected_language("hi-IN")
    assert one.selected_language == "te-IN"
    one.set_detected_language("hi-IN")
    assert one.selected_language == "hi-IN"


# -- A.6 MetricsCollector ------------------------------------------------------------------------


def test_A43_A44_A45_record_turn() -> None:
    one = MetricsCollector()
    assert [name for name, _ in parameters(one.record_turn)] == ["stt_time", "llm_time", "tts_time", "language"]
    one.record_turn(1.2, 0.8, 1.0, "te-IN")
    (turn,) = one.turn_metrics
    assert isinstance(turn, TurnMetrics)
    assert (turn.stt_latency, turn.llm_latency, turn.tts_latency, turn.language) == (1.2, 0.8, 1.0, "te-IN")
    assert turn.total_latency == pytest.approx(3.0)
    assert abs(TurnMetrics(1, 1, 1, 3, "en-IN").timestamp - time.time()) < 5


def test_A46_averages_of_nothing_are_zeros() -> None:
    assert MetricsCollector().get_average_latencies() == {"stt": 0.0, "llm": 0.0, "tts": 0.0, "total": 0.0}


def test_A47_report_and_reset() -> None:
    one = MetricsCollector()
    one.record_turn(1.2, 0.8, 1.0, "te-IN")
    report = one.generate_report()
    for shown in ("te-IN", "stt", "llm", "tts", "total", "p50", "p95", "1200", "3000", "success rate"):
        assert shown in report
    one.reset()
    assert one.turn_metrics == []


def test_A48_the_success_rate() -> None:
    metrics = MetricsCollector()
    module = Module()
    one = made(module, metrics_collector=metrics)
    run(one.process_turn(b"wav"))
    module.speech_to_text.return_value = ("", None)
    run(one.process_turn(b"wav"))
    assert metrics.get_success_rate() == 0.5
    assert [failure.stage for failure in metrics.failures] == ["stt"]


# -- A.7 CircuitBreaker --------------------------------------------------------------------------


def test_A49_A50_the_breaker() -> None:
    assert parameters(CircuitBreaker.__init__) == [("failure_threshold", 5), ("timeout", 60)]
    one = CircuitBreaker()
    assert (one.failure_count, one.state, one.last_failure_time) == (0, "closed", None)


def test_A51_X3_X4_call() -> None:
    now = [0.0]
    one = CircuitBreaker(2, 60, clock=lambda: now[0])
    fails, works = AsyncMock(side_effect=OSError), AsyncMock(return_value="x")
    for _ in range(2):
        with pytest.raises(OSError, match=r"^$"):
            run(one.call(fails, 1, key=2))
    fails.assert_awaited_with(1, key=2)
    assert one.state == "open"
    with pytest.raises(CircuitBreakerOpen, match="Circuit breaker is open"):
        run(one.call(works))
    now[0] = 60.1
    assert run(one.call(works)) == "x"
    assert (one.state, one.failure_count) == ("closed", 0)


def test_A53_a_success_resets_the_count() -> None:
    one = CircuitBreaker(2, 60)
    for _ in range(5):
        with pytest.raises(OSError, match=r"^$"):
            run(one.call(AsyncMock(side_effect=OSError)))
        run(one.call(AsyncMock()))
    assert (one.state, one.failure_count) == ("closed", 0)


# -- A.8 to A.10 ---------------------------------------------------------------------------------


def test_A54_X43_sarvam_has_the_three_methods() -> None:
    assert [name for name, _ in parameters(antiphon.SarvamAI.speech_to_text)] == ["audio_bytes", "language"]
    assert [name for name, _ in parameters(antiphon.SarvamAI.chat)] == ["messages"]
    assert [name for name, _ in parameters(antiphon.SarvamAI.text_to_speech)] == ["text", "language"]
    sarvam = antiphon.SarvamAI("key")
    assert all(url.startswith("https://") for url in (sarvam.stt_url, sarvam.llm_url, sarvam.tts_url))
    AgentOrchestrator(sarvam, sarvam, sarvam, max_history=10)


def test_A64_A65_A66_audio() -> None:
    assert wav_read(audio_utils.mulaw_to_wav(b"\xff" * 800))[1] == 16_000
    assert len(audio_utils.wav_to_mulaw(audio_utils.mulaw_to_wav(b"\xff" * 800))) == 800
    assert audio_utils.encode_mulaw_base64(b"\xff\xff\xff") == "////"
    assert not audio_utils.mulaw_to_wav(b"")


def test_A76_the_steps_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="antiphon"):
        run(made(Module("x" * 80, "en-IN"), call_id="CA1").process_turn(b"wav"))
    lines = [record for record in caplog.records if record.name.startswith("antiphon")]
    told = {record.getMessage(): record.levelname for record in lines}
    for line in (
        "Step 1: Transcribing audio...",
        f"STT successful: '{'x' * 49}…' (lang: en-IN)",
        "Step 3: Generating response...",
        "Step 4: Synthesizing audio...",
        "TTS successful: 4 bytes",
    ):
        assert told[line] == "INFO"
    assert "DEBUG" in told.values()
    assert {record.__dict__["call"] for record in lines} == {"CA1"}


def test_A79_the_layout_of_the_tests() -> None:
    for name in (
        "__init__.py",
        "conftest.py",
        "unit/test_context_manager.py",
        "unit/test_language_coordinator.py",
        "unit/test_task_router.py",
        "unit/test_agent_orchestrator.py",
        "integration/test_stt_llm_tts_pipeline.py",
        "integration/test_multilingual_switching.py",
        "integration/test_error_handling.py",
    ):
        assert (ROOT / "tests" / name).is_file(), name
    fixtures = {
        node.name
        for node in ast.parse((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert {"mock_stt_module", "mock_llm_module", "mock_tts_module", "orchestrator"} <= fixtures


@pytest.mark.parametrize(
    "entry",
    ["no audio", "stt.blank", "wrong language", "timeout", "is_processing", "breaker.open", "empty answers"],
)
def test_A82_troubleshooting(entry: str) -> None:
    readme = (Path(orchestrator.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert entry in readme.partition("## Troubleshooting")[2].partition("\n## ")[0]


def test_X10_X11_one_engine_under_two_names() -> None:
    assert orchestrator.AgentOrchestrator is antiphon.AgentOrchestrator
    assert orchestrator.CircuitBreaker is import_module("antiphon.runtime.breaker").CircuitBreaker
