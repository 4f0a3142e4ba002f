"""Lets the tests of this folder use the fakes, loops and servers of the providers' and transports' tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

for folder in ("providers", "transports", "conformance"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Lines that are closed on purpose, by the hundred, stay out of the log."""
    logger.disable("antiphon.transports")
    yield
    logger.enable("antiphon.transports")
