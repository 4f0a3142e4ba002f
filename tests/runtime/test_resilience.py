"""What a stage may take (X8) and how late a provider usually is."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.runtime.resilience import HEDGE_FROM, WINDOW, Lateness, StagePolicy


@pytest.mark.parametrize(
    ("left_s", "within_s"),
    [(100.0, 4.0), (8.0, 4.0), (5.0, 2.5), (0.2, 0.1), (0.0, 0.0), (-3.0, 0.0), (math.inf, 4.0)],
)
def test_a_stage_has_its_own_limit_or_its_share_of_what_is_left(left_s: float, within_s: float) -> None:
    assert StagePolicy(first_s=4.0, share=0.5).first_within(left_s) == within_s


@pytest.mark.parametrize(
    "wrong",
    [
        *({"first_s": 0}, {"first_s": 601}, {"between_s": -1}, {"share": 0}, {"share": 1.1}, {"retries": -1}),
        *({"retries": 6}, {"retry_pause_s": -0.1}, {"retry_pause_s": 11}, {"failures": 0}, {"open_s": 0}),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, StagePolicy)


def test_a_p95_is_known_from_twenty_on() -> None:
    lateness = Lateness()
    for number in range(HEDGE_FROM - 1):
        lateness.note(number / 10)
        assert lateness.p95() is None
    lateness.note(5.0)
    assert lateness.p95() == 1.8, "the nineteenth of twenty"


@given(st.lists(st.floats(0, 100), min_size=HEDGE_FROM, max_size=3 * WINDOW))
def test_it_is_the_p95_of_the_recent_ones(seconds: list[float]) -> None:
    lateness = Lateness()
    for each in seconds:
        lateness.note(each)
    recent = sorted(seconds[-WINDOW:])
    p95 = lateness.p95()
    assert p95 is not None
    assert p95 in recent
    assert sum(each <= p95 for each in recent) >= 0.95 * len(recent)
    assert sum(each < p95 for each in recent) < 0.95 * len(recent)
