"""Lets the tests of this folder use the fakes, loops and servers of the providers' and transports' tests."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for folder in ("providers", "transports", "conformance"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Lines that are closed on purpose, by the hundred, stay out of the log."""
    logging.getLogger("antiphon.transports").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("antiphon.transports").setLevel(logging.NOTSET)
