"""The collector: at rest while a server starts, seldom while it serves, as before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from antiphon.server import garbage


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Begins with a collector that is on: the tests before may have left it off."""
    found = gc.isenabled()
    gc.enable()
    before = gc.get_threshold()
    yield
    assert gc.isenabled()
    assert gc.get_threshold() == before
    if not found:
        gc.disable()


def test_a_start_is_not_interrupted_and_serving_is_seldom() -> None:
    before = gc.get_threshold()[0]
    with garbage.resting():
        assert not gc.isenabled()
        with garbage.seldom():
            assert gc.isenabled()
            assert gc.get_threshold()[0] > before
            assert gc.get_freeze_count() > 10_000
        assert not gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_who_keeps_it_off_finds_it_off() -> None:
    gc.disable()
    try:
        with garbage.resting():
            pass
        assert not gc.isenabled()
        with garbage.seldom():
            assert gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_start_that_fails_leaves_it_on() -> None:
    with pytest.raises(OSError, match="no"), garbage.resting():
        raise OSError("no")
    assert gc.isenabled()
