"""The voice activity gate."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import ConfigError
from antiphon.media.gate import WINDOW_MS, Edge, Gate, GateSettings


def edges(probabilities: list[float], gate_settings: GateSettings | None = None) -> list[tuple[int, Edge]]:
    """Each edge with the number of the window that decided it."""
    gate = Gate(gate_settings)
    found = [(number, gate.step(probability)) for number, probability in enumerate(probabilities)]
    return [(number, edge) for number, edge in found if edge is not None]


def test_speech_opens_and_silence_closes() -> None:
    assert edges([0.1] * 3 + [0.9] * 10 + [0.1] * 8) == [
        (4, Edge("started", 3 * 32)),
        (19, Edge("stopped", 13 * 32, 224)),
    ]


def test_a_pause_is_silence_within_speech() -> None:
    gate = Gate()
    found = []
    for probability in (0.1, 0.9, 0.9, 0.4, 0.1, 0.1, 0.9, *[0.1] * 8):
        gate.step(probability)
        found.append(gate.is_pausing)
    assert found == [False] * 4 + [True] * 2 + [False] + [True] * 6 + [False] * 2


def test_a_click_does_not_open() -> None:
    assert edges([0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.34, 0.9]) == []


def test_hysteresis_keeps_a_fading_voice() -> None:
    """A window between the thresholds does not begin speech, but goes on with it."""
    assert edges([0.4] * 10) == []
    assert edges([0.5, 0.36]) == [(1, Edge("started", 0))]
    assert edges([0.9] * 2 + [0.36] * 20) == [(1, Edge("started", 0))]
    assert edges([0.9] * 2 + ([0.1] * 6 + [0.36]) * 5) == [(1, Edge("started", 0))]


def test_a_pause_shorter_than_the_hangover_is_bridged() -> None:
    assert edges([0.9] * 3 + [0.0] * 6 + [0.9] * 3 + [0.0] * 7)[1:] == [(18, Edge("stopped", 12 * 32, 224))]


def test_times_are_rounded_up_to_windows() -> None:
    quick = GateSettings(min_speech_ms=0, hangover_ms=0)
    assert edges([0.9, 0.1, 0.9], quick) == [
        (0, Edge("started", 0)),
        (1, Edge("stopped", 32, 32)),
        (2, Edge("started", 64)),
    ]
    slow = GateSettings(min_speech_ms=65, hangover_ms=225)
    assert edges([0.9] * 4 + [0.1] * 9, slow) == [(2, Edge("started", 0)), (11, Edge("stopped", 128, 256))]


def test_what_is_no_number_is_silence() -> None:
    assert edges([0.9] * 2 + [math.nan] * 7) == [(1, Edge("started", 0)), (8, Edge("stopped", 64, 224))]


@pytest.mark.parametrize(
    "wrong",
    [
        {"open_threshold": 0},
        {"open_threshold": 1.1},
        {"open_threshold": math.nan},
        {"close_threshold": -0.1},
        {"close_threshold": 0.6},
        {"min_speech_ms": -1},
        {"min_speech_ms": 2001},
        {"hangover_ms": -1},
        {"hangover_ms": 5001},
    ],
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GateSettings(**wrong)  # type: ignore[arg-type]
    if not any(math.isnan(value) for value in wrong.values()):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            msgspec.json.decode(msgspec.json.encode(wrong), type=GateSettings)


@settings(max_examples=150, deadline=None)
@given(
    probabilities=st.lists(st.floats(0, 1), max_size=120),
    open_at=st.floats(0.1, 1),
    share=st.floats(0, 1),
    min_speech_ms=st.integers(0, 200),
    hangover_ms=st.integers(0, 400),
)
def test_edges_alternate_and_lie_where_the_sound_is(
    probabilities: list[float], open_at: float, share: float, min_speech_ms: int, hangover_ms: int
) -> None:
    chosen = GateSettings(
        open_threshold=open_at,
        close_threshold=open_at * share,
        min_speech_ms=min_speech_ms,
        hangover_ms=hangover_ms,
    )
    last = 0
    for turn, (decided, edge) in enumerate(edges(probabilities, chosen)):
        now = (decided + 1) * WINDOW_MS
        at = edge.position_ms // WINDOW_MS
        assert edge.position_ms % WINDOW_MS == 0
        assert last <= edge.position_ms < now
        if turn % 2 == 0:
            assert edge.kind == "started"
            assert edge.hangover_ms == 0
            assert probabilities[at] >= chosen.open_threshold
            assert min(probabilities[at : decided + 1]) >= chosen.close_threshold
            assert now - edge.position_ms >= min_speech_ms
        else:
            assert edge.kind == "stopped"
            assert edge.position_ms + edge.hangover_ms == now
            assert edge.hangover_ms >= hangover_ms
            assert max(probabilities[at : decided + 1]) < chosen.close_threshold
            assert probabilities[at - 1] >= chosen.close_threshold
        last = edge.position_ms
