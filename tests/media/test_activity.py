"""Slots: decoding, context and state around the model."""

import numpy as np
import pytest

from antiphon.media import codec
from antiphon.media.activity import FORGET_AFTER, ActivityBatch
from antiphon.media.forms import WINDOW_BYTES
from antiphon.media.resample import resampled
from antiphon.media.silero import CONTEXT, STATE, WINDOW, SileroBatch
from antiphon.runtime.vad import load_weights

WEIGHTS = load_weights()


def pcm(windows, seed, level=3000):
    rng = np.random.default_rng(seed)
    return rng.normal(0, level, windows * WINDOW).clip(-32768, 32767).astype("<i2").tobytes()


def window(encoded, name, number):
    size = WINDOW_BYTES[name]
    return encoded[number * size : (number + 1) * size]


@pytest.mark.parametrize("name", ["mulaw", "alaw", "pcm16"])
def test_decodes_and_carries_context_and_state(name):
    audio = codec.encode(name, pcm(40, 1))
    floats = np.frombuffer(codec.decode(name, audio), "<i2").astype(np.float32) / 32768
    padded = np.concatenate([np.zeros(CONTEXT, dtype=np.float32), floats])
    batch, model = ActivityBatch(WEIGHTS), SileroBatch(WEIGHTS)
    h = c = np.zeros((1, STATE), dtype=np.float32)
    for number in range(40):
        start = number * WINDOW
        expected, h, c = model.step(padded[None, start : start + CONTEXT + WINDOW], h, c)
        assert batch.step([5], [(name, window(audio, name, number))]) == pytest.approx(expected, abs=1e-6)


def test_codecs_and_changing_company_do_not_mix_up_slots():
    names = ["mulaw"] * 4 + ["alaw"] * 3 + ["pcm16"] * 3
    audio = [codec.encode(name, pcm(30, seed, 200 * (seed + 1))) for seed, name in enumerate(names)]
    alone = []
    for name, data in zip(names, audio, strict=True):
        batch = ActivityBatch(WEIGHTS)
        alone.append([batch.step([0], [(name, window(data, name, n))])[0] for n in range(30)])
    batch, rng, done = ActivityBatch(WEIGHTS, slots=2), np.random.default_rng(3), [0] * len(names)
    while min(done) < 30:
        due = [m for m in range(len(names)) if done[m] < 30 and rng.random() < 0.6]
        if not due:
            continue
        parts = [(n, b"".join(window(audio[m], n, done[m]) for m in due if names[m] == n)) for n in WINDOW_BYTES]
        found = batch.step([3 * m for m in due], [part for part in parts if part[1]])
        for m, probability in zip(due, found, strict=True):
            assert probability == pytest.approx(alone[m][done[m]], abs=2e-6)
            done[m] += 1


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_a_wideband_slot_finds_what_the_same_sound_gives_at_8_khz(rate):
    narrow = pcm(40, 1)
    form, wide = f"pcm16@{rate}", resampled(narrow, 8_000, rate)
    slow, fast = ActivityBatch(WEIGHTS), ActivityBatch(WEIGHTS)
    # Between two other slots, so that each row finds its own past.
    company = ("mulaw", b"\xff" * WINDOW)
    for number in range(40):
        (expected,) = slow.step([0], [("pcm16", window(narrow, "pcm16", number))])
        _, found, _ = fast.step([4, 2, 9], [company, (form, window(wide, form, number)), ("mulaw", b"\xff" * WINDOW)])
        assert found == pytest.approx(expected, abs=0.05)


def test_a_new_owner_finds_nothing_of_the_last_one():
    audio = codec.encode("mulaw", pcm(20, 8))
    fresh, used = ActivityBatch(WEIGHTS), ActivityBatch(WEIGHTS)
    for number in range(20):
        used.step([1], [("mulaw", window(audio, "mulaw", number))])
    used.reset([1])
    quiet = b"\xff" * WINDOW
    assert used.step([1], [("mulaw", quiet)]) == fresh.step([1], [("mulaw", quiet)])
    used.reset([])
    wide = resampled(pcm(1, 4), 8_000, 16_000)
    used.step([1], [("pcm16@16000", wide)])
    used.reset([1])
    assert used.step([1], [("pcm16@16000", bytes(1024))]) == ActivityBatch(WEIGHTS).step([1], [("pcm16", bytes(512))])


def test_two_seconds_of_clear_non_speech_start_afresh():
    audio = codec.encode("mulaw", pcm(FORGET_AFTER + 1, 2, 300))  # too loud a noise to doze in
    batch, kept = ActivityBatch(WEIGHTS), SileroBatch(WEIGHTS)
    for number in range(FORGET_AFTER):
        (probability,) = batch.step([0], [("mulaw", window(audio, "mulaw", number))])
        assert probability < 0.1
    floats = codec.decode_float("mulaw", audio)[-WINDOW - CONTEXT :]
    zero = np.zeros((1, STATE), dtype=np.float32)
    expected, _, _ = kept.step(floats[None], zero, zero)
    found = batch.step([0], [("mulaw", window(audio, "mulaw", FORGET_AFTER))])
    assert found == pytest.approx(expected, abs=1e-6)


def test_refuses_audio_that_does_not_add_up():
    batch = ActivityBatch(WEIGHTS)
    for audio in ([("mulaw", b"\xff" * 255)], [("mulaw", b"\xff" * 512)], [("pcm16", b"\0" * 256)], []):
        with pytest.raises(ValueError, match="windows"):
            batch.step([0], audio)
    with pytest.raises(KeyError):
        batch.step([0], [("opus", b"")])
