"""Which tests run alone on the machine: those in which sound has to keep to the clock, over several processes."""

from pathlib import Path

import pytest

ALONE = ("acceptance", "bench", "phone")
HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(HERE).parts[0] in ALONE:
            item.add_marker(pytest.mark.exclusive)
