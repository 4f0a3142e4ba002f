"""What was played when, against a tape that is simply long."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.media.codec import bytes_per_sample, silence
from antiphon.media.played import KEPT_MS, RINGS_MS, Played, SpokenClock


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 700), st.sampled_from(["send", "send", "send", "clear", "look"]), st.integers(1, 10)),
        max_size=60,
    ),
    codec=st.sampled_from(["mulaw", "pcm16"]),
)
def test_it_is_a_tape_that_forgets_only_what_is_long_past(steps: list[tuple[int, str, int]], codec: str) -> None:
    sample, quiet = bytes_per_sample(codec), silence(codec, 1)
    played, now, end, value = Played(codec, 8000), 1000, -inf, 0
    tape = bytearray(quiet * (8 * 60_000))
    for wait, what, much in steps:
        now += wait
        if what == "send":
            value = value % 100 + 1
            audio = bytes([value]) * (160 * much * sample)
            end = max(end, now)
            begins = int(end) * 8 * sample
            tape[begins : begins + len(audio)] = audio
            end += 20 * much
            played.send(audio, now)
        elif what == "clear":
            tape[now * 8 * sample :] = quiet * (len(tape) // sample - now * 8)
            end = min(end, now)
            played.clear(now)
        else:
            for late in (0, 40, KEPT_MS // 2):
                found = played.window(now - late, 256 * sample)
                if now - late - RINGS_MS >= end:
                    assert found is None
                    assert not played.is_near
                else:
                    last = (now - late) * 8 * sample
                    assert found == bytes(tape[last - 256 * sample : last])
        assert len(played._audio) <= 2 * (KEPT_MS + 2000) * 8 * sample, "bounded"


def test_the_spoken_clock_takes_the_least_delay_and_a_pause_for_a_pause() -> None:
    clock = SpokenClock()
    for number, late in enumerate((40, 10, 90, 30)):
        clock.note(1000 + 32 * number + late, 32 * number)
    assert clock.origin == pytest.approx(1010, abs=0.2)
    clock.note(1000 + 5000, 200)
    assert clock.origin == 5800
    clock.note(1000 + 5032 - 20, 232)
    assert clock.origin == 5780


def test_clocks_that_drift_apart_are_followed() -> None:
    clock = SpokenClock()
    for number in range(30 * 60):
        clock.note(1000 + number * 32 * 1.0001, number * 32)
    assert clock.origin == pytest.approx(1000 + 30 * 60 * 32 * 0.0001, abs=4)
