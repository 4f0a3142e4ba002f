"""Lets the tests of this folder import its fakes by name, and keeps their thousands of closed lines out of the log."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))


@pytest.fixture
def warnings_logged() -> Iterator[list[str]]:
    """The messages of warnings and errors, as they come."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    lines: list[str] = []
    handler = Lines(logging.WARNING)
    logging.getLogger("antiphon.transports").addHandler(handler)
    yield lines
    logging.getLogger("antiphon.transports").removeHandler(handler)
