import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.providers.tts.spoken import Spoken, prepare, word_start


@pytest.mark.parametrize(
    ("written", "language", "spoken"),
    [
        ("The fee is ₹25,000 a year.", "en-IN", "The fee is 25000 rupees a year."),
        ("Rs. 1,25,000/- in all", "en-IN", "1 lakh 25 thousand rupees in all"),
        ("1,00,00,000 people", "en-IN", "1 crore people"),
        ("1,250,500 people", "en-IN", "1250500 people"),
        ("₹2.5 lakh", "en", "2.5 lakh rupees"),
        ("शुल्क ₹25,000 है।", "hi-IN", "शुल्क 25,000 रुपये है।"),
        ("రుసుము ₹25,000.", "te-IN", "రుసుము 25,000 రూపాయలు."),
        ("ફી ₹25,000 છે.", "gu-IN", "ફી 25,000 રૂપિયા છે."),
        ("Call +91 98765 43210 now", "en", "Call plus 9 1, 9 8 7 6 5, 4 3 2 1 0 now"),
        ("Call 9876543210.", "en", "Call 9 8 7 6 5, 4 3 2 1 0."),
        ("1800-123-4567", "hi-IN", "1 8 0 0, 1 2 3, 4 5 6 7"),
        ("in 2024-2025 or 2026", "en", "in 2024-2025 or 2026"),
        ("on 2025-06-30", "en", "on 2025-06-30"),
        ("it costs 12500000", "en", "it costs 12500000"),
        ("# Fees\n- **Tuition**: `high`\n- see [page 1](https://x.org/a)", "en", "Fees\nTuition: high\nsee page 1"),
        ("snake_case and 2 * 3", "en", "snake_case and 2  3"),
        ("Welcome 🎉👍🏽 home ☎️", "en", "Welcome  home "),
        ("", "en", ""),
    ],
)  # fmt: skip
def test_text_is_prepared_for_speaking(written: str, language: str, spoken: str) -> None:
    assert prepare(written, language).text == spoken


def test_every_character_knows_where_it_came_from() -> None:
    written = "**Fee:** ₹25,000 for [one year](u) only"
    spoken = prepare(written, "hi")
    assert len(spoken.origin) == len(spoken.text)
    for word in ("Fee:", "25,000", "for", "one", "only"):
        at = spoken.origin[spoken.text.index(word)]
        assert written[at:].startswith(word)
    assert written[: spoken.origin[spoken.text.index("रुपये")] + 1].endswith("₹25,000")


@given(st.text(alphabet="ab 1,.₹*_`#-|()[]\n+0987654321हి🎉", max_size=60), st.sampled_from(["en-IN", "hi-IN", "te"]))
@settings(max_examples=150)
def test_origins_never_run_backwards_and_stay_inside(written: str, language: str) -> None:
    spoken = prepare(written, language)
    assert len(spoken.origin) == len(spoken.text)
    assert all(0 <= at < len(written) for at in spoken.origin)
    assert spoken.origin == sorted(spoken.origin)


def test_replace_leaves_text_without_a_match_alone() -> None:
    spoken = Spoken("nothing here")
    spoken.replace(re.compile("x"), lambda match: ["y"])
    assert (spoken.text, spoken.origin) == ("nothing here", list(range(12)))


@pytest.mark.parametrize(("char", "start"), [(0, 0), (2, 0), (5, 6), (6, 6), (9, 6), (99, 6)])
def test_word_start(char: int, start: int) -> None:
    assert word_start("hello world", char) == start
