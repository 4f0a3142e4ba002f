"""Down to 8 kHz in windows: what passes, what folds back, and that windows join without a seam."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.media.decimate import Decimation

WIDE = (16_000, 24_000, 48_000)


def tone(rate: int, hz: float, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def whole(decimation: Decimation, samples: np.ndarray) -> np.ndarray:
    head = np.zeros(decimation.reach, dtype=np.float32)
    return decimation(np.concatenate([head, samples])[None])[0]


@pytest.mark.parametrize("rate", WIDE)
@pytest.mark.parametrize(
    ("hz", "low", "high"), [(300, -0.1, 0.1), (3_200, -0.1, 0.1), (4_900, -200, -55), (7_000, -200, -55)]
)
def test_speech_passes_and_what_would_fold_back_does_not(rate: int, hz: float, low: float, high: float) -> None:
    out = whole(Decimation(rate), tone(rate, hz))[100:]
    assert low <= 20 * np.log10(np.sqrt(2 * np.mean(out**2)) + 1e-9) <= high


@given(rate=st.sampled_from(WIDE), cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_pieces_give_what_the_whole_gives(rate: int, cuts: list[int], seed: int) -> None:
    decimation = Decimation(rate)
    samples = np.random.default_rng(seed).normal(0, 0.1, sum(cuts) * decimation.factor).astype(np.float32)
    expected = whole(decimation, samples)
    before, found, at = np.zeros(decimation.reach, dtype=np.float32), [], 0
    for count in cuts:
        piece = np.concatenate([before, samples[at : at + count * decimation.factor]])
        found.append(decimation(piece[None])[0])
        before, at = piece[-decimation.reach :], at + count * decimation.factor
    assert np.concatenate(found) == pytest.approx(expected, abs=1e-6)


def test_a_rate_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(KeyError):
        Decimation(44_100)
