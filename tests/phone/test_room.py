"""The room: as loud as it is said to be, as late, and the same in frames as in one piece."""

import numpy as np
import pytest

from antiphon.phone.room import Echo, Speakerphone, answer


@pytest.mark.parametrize("ringing", [0, 200, 600])
@pytest.mark.parametrize("level", [-15.0, -6.0])
def test_the_echo_is_as_loud_as_it_is_said_to_be(level: float, ringing: int) -> None:
    room = answer(Speakerphone(level_db=level, ringing_ms=ringing), 8000)
    assert 10 * np.log10(np.sum(room**2)) == pytest.approx(level, abs=0.01)
    late = np.sum(room[8 * 60 :] ** 2) / np.sum(room**2)
    assert (late > 0.005) == (ringing >= 200), "the room rings on"


def test_frames_join_to_what_the_whole_gives() -> None:
    sound = np.random.default_rng(2).normal(0, 0.1, 8000).astype(np.float32)
    echo = Echo(Speakerphone(), 8000)
    padded = np.concatenate([np.zeros(echo.reach, np.float32), sound])
    frames = [echo.of(padded[at : at + echo.reach + 160]) for at in range(0, len(sound), 160)]
    assert np.concatenate(frames) == pytest.approx(
        np.convolve(sound, answer(Speakerphone(), 8000))[: len(sound)], abs=1e-4
    )
    assert echo.delay == 960


def test_another_seed_is_another_room() -> None:
    assert not np.allclose(answer(Speakerphone(seed=1), 8000), answer(Speakerphone(seed=2), 8000))
