"""Which tests keep to the clock: those in which sound has to be in time, over several processes. They run last.

Which tests cannot be run here, said loudly; and what tests of the orchestrator share.
"""

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

REAL_TIME = ("acceptance", "bench", "phone")
HERE = Path(__file__).parent


SERVICES = ("redis-server",)
"""Programs that `@pytest.mark.needs(...)` may name."""


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(HERE).parts[0] in REAL_TIME:
            item.add_marker(pytest.mark.exclusive)
    lacking = set(_lacking())
    impossible = [item for item in items if any(lacking & set(mark.args) for mark in item.iter_markers("needs"))]
    if impossible:
        items[:] = [item for item in items if item not in impossible]
        config.hook.pytest_deselected(items=impossible)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for program in _lacking():
        terminalreporter.section("NOT RUN", red=True, bold=True)
        terminalreporter.line(f"the tests that need {program}: it is not installed (python scripts/services.py)")


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
