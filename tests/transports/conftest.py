"""Lets the tests of this folder import its fakes by name, and keeps their thousands of closed lines out of the log."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

sys.path.insert(0, str(Path(__file__).parent))

logger.disable("antiphon.transports")


@pytest.fixture
def warnings_logged() -> Iterator[list[str]]:
    lines: list[str] = []
    logger.enable("antiphon.transports")
    sink = logger.add(lines.append, level="WARNING")
    yield lines
    logger.remove(sink)
    logger.disable("antiphon.transports")
