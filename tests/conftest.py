"""Which tests keep to the clock: those in which sound has to be in time, over several processes. They run last.

Which tests cannot be run here, said loudly; and what tests of the orchestrator share.
"""

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from hypothesis import settings

# An example that another process took the core from is not a slow one. On top of the profile that is active (CI's own).
settings.register_profile("antiphon", settings(), deadline=None)
settings.load_profile("antiphon")

REAL_TIME = ("acceptance", "bench", "phone")
BUSY = {
    "test_access.py",
    "test_admission.py",
    "test_budget.py",
    "test_console.py",
    "test_contenders.py",
    "test_no_cycles.py",
    "test_report.py",
}
"""Files there that hear nothing in time: they only take the processor from those that do."""
LONGEST = (
    "test_examples.py",
    "test_conversation.py",
    "test_faults.py",
    "test_barge_in.py",
    "test_resilience.py",
    "test_survival.py",
    "test_languages.py",
    "test_replicas.py",
    "test_services.py",
    "test_bad_input.py",
    "test_workers.py",
    "test_console_talk.py",
    "test_orchestrate.py",
    "test_answering_ahead.py",
)
"""They begin, longest first, so that no process is left with one of them when the others are done."""
HERE = Path(__file__).parent


SERVICES = ("redis-server", "chromium", "cc")
"""Programs that `@pytest.mark.needs(...)` may name."""
HOW_TO = {"cc": "apt install gcc python3-dev, then make clean install: it compiles src/antiphon/lane/native.c"}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(HERE).parts[0] in REAL_TIME and item.path.name not in BUSY:
            item.add_marker(pytest.mark.exclusive)
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))
    lacking = set(_lacking())
    impossible = [item for item in items if any(lacking & set(mark.args) for mark in item.iter_markers("needs"))]
    if impossible:
        items[:] = [item for item in items if item not in impossible]
        config.hook.pytest_deselected(items=impossible)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for program in _lacking():
        terminalreporter.section("NOT RUN", red=True, bold=True)
        advice = HOW_TO.get(program, "python scripts/services.py")
        terminalreporter.line(f"the tests that need {program}: it is not installed ({advice})")


def _lacking() -> list[str]:
    return [program for program in SERVICES if shutil.which(program) is None]


# -- providers that are mocks, and an orchestrator over them (A79) ---------------------------------


@pytest.fixture
def mock_stt_module() -> Any:
    """Hears "Hello, how are you?" in English."""
    return Mock(speech_to_text=AsyncMock(return_value=("Hello, how are you?", "en-IN")))


@pytest.fixture
def mock_llm_module() -> Any:
    return Mock(chat=AsyncMock(return_value="I am well, thank you."))


@pytest.fixture
def mock_tts_module() -> Any:
    return Mock(text_to_speech=AsyncMock(return_value=b"RIFF a WAV"))


@pytest.fixture
def orchestrator(mock_stt_module: Any, mock_llm_module: Any, mock_tts_module: Any) -> Any:
    from orchestrator import AgentOrchestrator

    return AgentOrchestrator(mock_stt_module, mock_llm_module, mock_tts_module)
