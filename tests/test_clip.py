"""Texts are clipped in one way everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.clip import clipped


@pytest.mark.parametrize(
    ("text", "shown"),
    [("", ""), ("x" * 50, "x" * 50), ("x" * 51, "x" * 49 + "…"), ("నమస్కారం " * 9, ("నమస్కారం " * 9)[:49] + "…")],
)
def test_fifty_characters_are_shown(text: str, shown: str) -> None:
    assert clipped(text) == shown


@given(st.text(), st.integers(1, 80))
def test_never_more_than_the_limit_and_whole_if_it_fits(text: str, limit: int) -> None:
    shown = clipped(text, limit)
    assert len(shown) <= limit
    if len(text) <= limit:
        assert shown == text
    else:
        assert shown.endswith("…")
        assert text.startswith(shown[:-1])
