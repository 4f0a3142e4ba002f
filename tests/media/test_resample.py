"""Streaming resampling: pitch, level and length stay, however the stream is cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import ConfigError
from antiphon.media.codec import BadAudio
from antiphon.media.resample import RATES, Resampler

PAIRS = [pair for pair in itertools.product(RATES, RATES) if pair[0] != pair[1]]


def tone(rate: int, hertz: float, seconds: float = 0.5, level: float = 8000) -> bytes:
    time = np.arange(int(rate * seconds)) / rate
    return (level * np.sin(2 * np.pi * hertz * time)).astype("<i2").tobytes()


def noise(rate: int, seconds: float = 0.25, level: float = 6000) -> bytes:
    return (
        (np.random.default_rng(7).standard_normal(int(rate * seconds)) * level)
        .clip(-32768, 32767)
        .astype("<i2")
        .tobytes()
    )


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_tone_keeps_pitch_level_and_length(source: int, target: int) -> None:
    out = np.frombuffer(Resampler(source, target).process(tone(source, 1000), last=True), "<i2").astype(float)
    assert abs(len(out) - target // 2) <= 1
    middle = out[target // 10 : target * 4 // 10]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    peak = int(np.argmax(spectrum))
    assert peak * target / len(middle) == pytest.approx(1000, abs=5)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(8000 / np.sqrt(2), rel=0.01)
    beside = np.delete(spectrum, range(max(0, peak - 4), peak + 5))
    assert beside.max() < spectrum[peak] / 1000


def test_what_the_target_cannot_carry_is_filtered_out() -> None:
    out = np.frombuffer(Resampler(24_000, 8000).process(tone(24_000, 6000), last=True), "<i2").astype(float)
    assert np.sqrt(np.mean(out[800:-800] ** 2)) < 40


@settings(max_examples=40, deadline=None)
@given(pair=st.sampled_from(PAIRS), pieces=st.lists(st.integers(0, 900), min_size=1, max_size=30))
def test_odd_pieces_equal_the_whole(pair: tuple[int, int], pieces: list[int]) -> None:
    audio = noise(pair[0])
    whole = Resampler(*pair).process(audio, last=True)
    stream = Resampler(*pair)
    # Twice, for after ``last`` the stream is as new.
    for _ in range(2):
        out, at = b"", 0
        for piece in itertools.chain(pieces, [1999]):
            out += stream.process(audio[at : at + piece])
            at += piece
        out += stream.process(audio[at:], last=True)
        assert out == whole


def test_equal_rates_pass_through() -> None:
    stream = Resampler(8000, 8000)
    assert stream.process(b"\1\2\3") == b"\1\2"
    assert stream.process(b"\4") == b"\3\4"
    assert stream.process(b"", last=True) == b""


def test_full_scale_does_not_wrap() -> None:
    square = np.where(np.arange(4000) % 40 < 20, 32767, -32768).astype("<i2")
    out = np.frombuffer(Resampler(8000, 16_000).process(square.tobytes(), last=True), "<i2").astype(int)
    # The filter overshoots beside each edge; a sample that wrapped would be on the wrong side.
    phase = np.arange(len(out)) % 80
    assert out[(phase > 4) & (phase < 36)].min() > 20_000
    assert out[(phase > 44) & (phase < 76)].max() < -20_000
    assert out.max() == 32767


@pytest.mark.parametrize("target", [8000, 16_000])
def test_half_a_sample_at_the_end_is_refused_and_forgotten(target: int) -> None:
    stream = Resampler(8000, target)
    with pytest.raises(BadAudio):
        stream.process(b"\1\2\3", last=True)
    assert stream.process(b"\0\0" * 80, last=True) == b"\0\0" * (target // 100)


@pytest.mark.parametrize("pair", [(8000, 11_025), (0, 8000), (-8000, 8000), (96_000, 8000)])
def test_other_rates_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(ConfigError) as caught:
        Resampler(*pair)
    assert caught.value.code == "config.sample_rate"
