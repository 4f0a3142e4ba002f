"""Many calls' echoes: each slot's own, whatever form it comes in, and nothing of a former owner."""

import numpy as np
import pytest

from antiphon.media.codec import decode, encode
from antiphon.media.echo import KEPT, EchoGuard
from antiphon.media.echoes import Echoes
from antiphon.media.forms import FORMS
from antiphon.media.resample import resampled
from antiphon.media.silero import WINDOW

DELAY = 900
WINDOWS = 3 * KEPT
SAMPLES = np.zeros((2, WINDOW), dtype=np.float32)


def voice(seed):
    """Noise that swells, at 8 kHz."""
    rng = np.random.default_rng(seed)
    swelling = np.abs(np.sin(np.arange(WINDOWS * WINDOW) / (700 + 300 * seed)))
    return (rng.normal(0, 2500, WINDOWS * WINDOW) * swelling).clip(-32768, 32767).astype("<i2")


def late(pcm):
    return np.concatenate([np.zeros(DELAY, "<i2"), pcm[:-DELAY] // 4]).astype("<i2")


def windows_of(form, pcm):
    codec, factor, _ = FORMS[form]
    encoded = encode(codec, resampled(pcm.tobytes(), 8000, 8000 * factor) if factor > 1 else pcm.tobytes())
    size = len(encode(codec, bytes(2 * WINDOW * factor)))
    return [encoded[at : at + size] for at in range(0, len(encoded) - size + 1, size)]


@pytest.mark.parametrize("form", ["mulaw", "alaw", "pcm16"])
def test_a_slot_finds_what_a_guard_of_its_own_finds_window_by_window(form):
    far, chance = windows_of(form, voice(1)), np.random.default_rng(7)
    lines = windows_of(form, late(voice(1))), windows_of(form, voice(2))
    echoes, guards = Echoes(), [EchoGuard(), EchoGuard()]

    def pcm(window):
        return np.frombuffer(decode(form, window), "<i2")

    explained = 0
    for at in range(WINDOWS):
        found = chance.choice(np.array([0.05, 0.9], dtype=np.float32), 2)
        rows = echoes.among(found, np.array([40, 3]), [(form, lines[0][at] + lines[1][at])], [far[at]] * 2, SAMPLES)
        expected = []
        for row, guard in enumerate(guards):
            guard.hear(pcm(lines[row][at]), pcm(far[at]), is_speech=found[row] > 0.5)
            if found[row] > 0.5 and guard.explains():
                expected.append(row)
        assert rows == expected
        explained += 0 in rows
    assert explained > WINDOWS / 3, "most of the half that was asked about"


def test_a_wideband_line_is_brought_down_before_it_is_compared():
    form, spoken = "pcm16@16000", voice(1)
    echo, far = late(spoken), windows_of("pcm16@16000", spoken)
    echoes, found = Echoes(), np.array([0.9], dtype=np.float32)
    explained = []
    for at, window in enumerate(far):
        samples = echo[None, at * WINDOW : (at + 1) * WINDOW] / np.float32(32768)
        # What came is at hand as samples already; only what was played is still to be decoded.
        rows = echoes.among(found, np.array([9]), [(form, bytes(len(window)))], [window], samples)
        explained.append(rows == [0])
    assert np.mean(explained[KEPT:]) > 0.9


def test_what_waited_is_heard_once_it_is_asked_for_and_a_new_owner_finds_nothing_of_it():
    far, heard = windows_of("mulaw", voice(1)), windows_of("mulaw", late(voice(1)))
    echoes = Echoes()

    def rows(at, probability, played):
        found = np.array([probability], dtype=np.float32)
        return echoes.among(found, np.array([5]), [("mulaw", heard[at])], [played], SAMPLES[:1])

    for at in range(KEPT + 10):
        assert rows(at, 0.0, far[at]) == []
    assert echoes._guards == {}, "nobody was asked"
    assert rows(KEPT + 10, 0.9, far[KEPT + 10]) == [0]
    assert echoes._guards[5].delay == pytest.approx(DELAY, abs=16), "what was kept is enough to find the path at once"
    echoes.reset([5])
    assert rows(60, 0.9, None) == []
    assert rows(61, 0.9, b"\xff" * WINDOW) == [], "nothing was played to the new one"
