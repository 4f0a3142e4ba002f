"""Markup goes, words stay."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.media.segmenter import speakable


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("**Fees**: the *last* date is __near__.", "Fees: the last date is near."),
        ("# Admissions\n\n- Apply `online`\n* Pay\n• Come", "Admissions Apply online Pay Come"),
        ("See [the form](https://example.edu/f) and ![a map](m.png).", "See the form and a map."),
        ("Go to <https://example.edu/>.<br>Then <b>wait</b>.", "Go to https://example.edu/. Then wait."),
        ("> A quotation\n> of two lines", "A quotation of two lines"),
        ("```python\nprint(1)\n```", "print(1)"),
        ("| Course | Fee |\n|---|---:|\n| MBA | 100 |", "Course, Fee MBA, 100"),
        ("one\n---\ntwo", "one two"),
        ("Well done! 🎉👩‍🎓 ✅ Next", "Well done! Next"),
        ("2 * 3 = 6, a*b and snake_case stay; Flat #12", "2 * 3 = 6, a*b and snake_case stay; Flat #12"),
        (r"5 \* 3 and \#1", "5 * 3 and #1"),
        ("a half **bold piece", "a half bold piece"),
        ("1. Apply, well-known - yes", "1. Apply, well-known - yes"),
        ("क्‍ष और **हिन्दी**।", "क्‍ष और हिन्दी।"),
        ("It costs ₹1,250.50 (50%).", "It costs ₹1,250.50 (50%)."),
        ("**", ""),
        ("---", ""),
        ("🎉 …", ""),
        ("", ""),
    ],
)
def test_speakable(text: str, spoken: str) -> None:
    assert speakable(text) == spoken


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="abcXYZ 09.,?!'अआइ।కగ\n", max_size=120))
def test_plain_text_only_loses_its_line_breaks(text: str) -> None:
    spoken = speakable(text)
    assert spoken == (" ".join(text.split()) if any(char.isalnum() for char in text) else "")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_one_line(text: str) -> None:
    spoken = speakable(text)
    assert spoken == " ".join(spoken.split())
    assert spoken == "" or any(char.isalnum() for char in spoken)


def test_hostile_markup_takes_linear_time() -> None:
    for evil in ("[(" * 20_000, "*_" * 20_000, "<a" * 20_000, "|- " * 20_000, "`~" * 20_000, "> " * 20_000):
        assert len(speakable(evil + "x")) <= len(evil) + 1
