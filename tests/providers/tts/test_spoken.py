import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.providers.tts.spoken import prepare, word_start


@pytest.mark.parametrize(
    ("written", "language", "spoken"),
    [
        ("The fee is ₹25,000 a year.", "en-IN", "The fee is twenty five thousand rupees a year."),
        ("Rs. 1,25,000/- in all", "en-IN", "one lakh twenty five thousand rupees in all"),
        ("1,250,500 people", "en", "twelve lakh fifty thousand five hundred people"),
        ("शुल्क ₹25,000 है।", "hi-IN", "शुल्क पच्चीस हज़ार रुपये है।"),
        ("రుసుము ₹25,000.", "te-IN", "రుసుము ఇరవై ఐదు వేల రూపాయలు."),
        ("ફી ₹25,000 છે.", "gu-IN", "ફી પચ્ચીસ હજાર રૂપિયા છે."),
        ("शुल्क ₹25,000 आहे.", "mr-IN", "शुल्क 25,000 रुपये आहे."),
        ("Call **98765 43210** now", "en", "Call nine eight seven six five, four three two one zero now"),
        ("# Fees\n- **Tuition**: `high`\n- see [page 1](https://x.org/a)", "en", "Fees\nTuition: high\nsee page one"),
        ("snake_case and 2 * 3", "en", "snake_case and two  three"),
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
    for word in ("Fee:", "for", "one", "only"):
        at = spoken.origin[spoken.text.index(word)]
        assert written[at:].startswith(word)
    for word in ("पच्चीस", "हज़ार", "रुपये"):
        at = spoken.origin[spoken.text.index(word)]
        assert written[word_start(written, at) :].startswith("₹25,000 for")


@given(st.text(alphabet="ab 1,.₹*_`#-|()[]\n+0987654321हి🎉", max_size=60), st.sampled_from(["en-IN", "hi-IN", "te"]))
@settings(max_examples=150)
def test_origins_never_run_backwards_and_stay_inside(written: str, language: str) -> None:
    spoken = prepare(written, language)
    assert len(spoken.origin) == len(spoken.text)
    assert all(0 <= at < len(written) for at in spoken.origin)
    assert spoken.origin == sorted(spoken.origin)


@pytest.mark.parametrize(("char", "start"), [(0, 0), (2, 0), (5, 6), (6, 6), (9, 6), (99, 6)])
def test_word_start(char: int, start: int) -> None:
    assert word_start("hello world", char) == start
