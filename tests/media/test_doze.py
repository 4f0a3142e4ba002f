"""Lines that doze: what wakes them, and that no speech is lost by it."""

import asyncio

import numpy as np
import pytest

from antiphon.media.activity import ActivityBatch
from antiphon.media.codec import mulaw_encode
from antiphon.media.doze import DOZES_AFTER, WAKES_FOR, Doze
from antiphon.media.forms import WINDOW_BYTES
from antiphon.media.gate import Gate
from antiphon.media.silero import WINDOW
from antiphon.providers.tts.espeak import build
from antiphon.runtime.vad import load_weights

SLOT = np.array([3])
CLEAR, SPEECH = np.array([True]), np.array([False])
FAINT = 20 / 32768


def noise(windows, level, seed=1):
    return np.random.default_rng(seed).normal(0, level, (windows, 1, WINDOW)).astype(np.float32)


def played(doze, windows, is_clear=CLEAR):
    """Whether the line was awake, window by window."""
    found = []
    for window in windows:
        found.append(bool(doze.awake(SLOT, window)[0]))
        doze.note(SLOT, is_clear)
    return found


def test_it_dozes_after_a_second_of_steady_noise_and_wakes_with_what_is_louder():
    doze = Doze(8)
    found = played(doze, noise(100, FAINT))
    # The first window sets the floor, and chance may make it a low one: the mean is found within a few.
    assert DOZES_AFTER < found.index(False) < 2 * DOZES_AFTER
    assert not any(found[2 * DOZES_AFTER :])
    assert played(doze, noise(1, 1.5 * FAINT, 2)) == [True]
    again = played(doze, noise(40, FAINT, 3))
    assert again == [True] * WAKES_FOR + [False] * (40 - WAKES_FOR)


def test_speech_keeps_it_awake():
    doze = Doze(8)
    assert all(played(doze, noise(200, FAINT), SPEECH))


def test_noise_that_changes_is_followed():
    doze = Doze(8)
    played(doze, noise(100, FAINT))
    risen = played(doze, noise(200, 2 * FAINT, 4))
    assert risen[0]
    assert not any(risen[-50:])


def test_much_noise_is_never_slept_through():
    assert all(played(Doze(8), noise(200, 300 / 32768)))


def test_a_digitally_silent_line_dozes():
    silence = np.zeros((100, 1, WINDOW), dtype=np.float32)
    assert played(Doze(8), silence).count(False) == 99 - DOZES_AFTER


def test_a_new_owner_of_a_slot_is_awake_and_others_are_not_woken():
    doze = Doze(2)
    doze.grow(8)
    both = np.array([3, 5])
    for window in noise(60, FAINT):
        doze.awake(both, np.concatenate([window, window]))
        doze.note(both, np.array([True, True]))
    doze.reset(SLOT)
    (window,) = noise(1, FAINT, 9)
    assert doze.awake(both, np.concatenate([window, window])).tolist() == [True, False]


@pytest.fixture(scope="module")
def spoken():
    async def speak():
        voice = build({})
        await voice.start()
        try:
            sounds = voice.synthesize(
                "What are the admission requirements?", language="en-IN", sample_rate=8000, voice="en-gb"
            )
            return b"".join([sound.pcm async for sound in sounds])
        finally:
            await voice.close()

    return np.frombuffer(asyncio.run(speak()), "<i2").astype(float)


@pytest.mark.parametrize("level", [3000, 600, 200])
def test_speech_after_a_long_silence_is_found_as_soon_as_without_dozing(spoken, level, monkeypatch):
    wave = level * spoken / np.sqrt(np.mean(spoken**2))
    line = np.concatenate([np.zeros(8 * 6000), wave, np.zeros(8 * 4000), wave, np.zeros(8 * 1000)])
    line += np.random.default_rng(5).normal(0, 20, len(line))
    audio = mulaw_encode(line.clip(-32768, 32767).astype("<i2").tobytes())

    def edges():
        batch, gate, spared, found = ActivityBatch(load_weights()), Gate(), 0, []
        size = WINDOW_BYTES["mulaw"]
        for at in range(0, len(audio) - size + 1, size):
            (probability,) = batch.step([0], [("mulaw", audio[at : at + size])])
            spared += probability == 0.0
            edge = gate.step(probability)
            if edge is not None:
                found.append(edge)
        return found, spared

    dozing, spared = edges()
    assert spared > 150
    monkeypatch.setattr("antiphon.media.doze.DOZES_AFTER", 1 << 30)
    wakeful, none = edges()
    assert none == 0
    starts, wanted = ([e.position_ms for e in found if e.kind == "started"] for found in (dozing, wakeful))
    assert len(starts) == len(wanted) >= 2
    assert all(start <= due + 32 for start, due in zip(starts, wanted, strict=True))
