"""Markup goes, words stay."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.media.segmenter import speakable
from antiphon.media.speakable import _STEPS, Spoken


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


def test_replace_leaves_text_without_a_match_alone() -> None:
    spoken = Spoken("nothing here")
    spoken.replace(re.compile("x"), lambda match: ["y"])
    assert (spoken.text, spoken.origin) == ("nothing here", list(range(12)))


def test_replace_keeps_groups_and_knows_where_each_character_came_from() -> None:
    spoken = Spoken("ab [cd](ef) gh")
    spoken.replace(re.compile(r"\[(\w+)\]\((\w+)\)"), lambda match: ["<", 1, "!"])
    assert spoken.text == "ab <cd! gh"
    assert spoken.origin == [0, 1, 2, 3, 4, 5, 5, 11, 12, 13]
    spoken.replace(re.compile(r"[a-z]+"), lambda match: ["x"] if match[0] == "ab" else None)
    assert spoken.text == "x <cd! gh"


MARKS = (
    *"ab1 .,:;!?()'/\\`~[]<>*_|#+-\n\t",
    *"\u2022\u2023\u25e6\u25aa\u2013\u2014\u00a0\u200d\ufe0f\u20e3\U0001f600\u2b50\u093f",
    *("  ", "---", "**", "```", "https://x.y", "<br>", "| ", "- ", "> ", "# ", "1. "),
)


@given(st.lists(st.sampled_from(MARKS), max_size=12).map("".join))
def test_a_text_that_is_spared_the_steps_would_come_out_of_them_as_it_is(text: str) -> None:
    whole = text
    for pattern, instead in _STEPS:
        whole = pattern.sub(instead, whole)
    assert speakable(text) == (whole.strip() if any(char.isalnum() for char in whole) else "")
