"""The numpy model against the original ONNX file, which is the oracle."""

import tracemalloc
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from antiphon.media.silero import CONTEXT, STATE, WINDOW, SileroBatch
from antiphon.runtime.vad import load_weights

ONNX = Path(__file__).parents[1] / "data" / "silero" / "silero_vad.onnx"
WEIGHTS = load_weights()


def zeros(rows):
    return np.zeros((rows, STATE), dtype=np.float32)


class Oracle:
    """The vendor's model at 8 kHz through onnxruntime."""

    def __init__(self, rows):
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(ONNX), options, providers=["CPUExecutionProvider"])
        self.state = np.zeros((2, rows, STATE), dtype=np.float32)

    def step(self, windows):
        inputs = {"input": windows, "state": self.state, "sr": np.array(8000, dtype=np.int64)}
        probability, self.state = self.session.run(None, inputs)
        return probability[:, 0]


def voiced(seconds, pitch_hz, seed):
    """Something with the pitch, formants, syllables and pauses of a voice, and a little line noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * 8000)) / 8000
    pitch = pitch_hz * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(pitch) / 8000
    sound = np.zeros_like(t)
    for formant, width in ((600, 130), (1300, 160), (2500, 220)):
        centre = formant * (1 + 0.25 * np.sin(2 * np.pi * 2.3 * t + formant))
        for harmonic in range(1, 24):
            gain = 1 / (1 + ((harmonic * pitch - centre) / width) ** 2)
            sound += np.where(harmonic * pitch < 3800, gain * np.sin(harmonic * phase), 0)
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t), 0, 1) * (np.sin(2 * np.pi * 0.4 * t) > -0.4)
    sound = sound * syllables + rng.normal(0, 0.01, len(t))
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def windows_of(rows):
    """``[rows, samples]`` cut into steps of ``[rows, 32 + 256]``, each with the end of the one before."""
    padded = np.concatenate([np.zeros((len(rows), CONTEXT), dtype=np.float32), rows], axis=1)
    for start in range(0, rows.shape[1] - WINDOW + 1, WINDOW):
        yield np.ascontiguousarray(padded[:, start : start + CONTEXT + WINDOW])


def noise(rows, steps, seed):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, steps * WINDOW)) * rng.uniform(0, 0.6, (rows, 1))).astype(np.float32).clip(-1, 1)


@pytest.mark.parametrize(
    "audio",
    [
        pytest.param(noise(6, 300, 1), id="noise"),
        pytest.param(np.stack([voiced(10, 90 + 25 * n, n) for n in range(6)]), id="voices"),
        pytest.param(np.zeros((6, 100 * WINDOW), dtype=np.float32), id="silence"),
        pytest.param(np.sign(noise(6, 60, 2)), id="full-scale"),
    ],
)
def test_agrees_with_the_original(audio):
    oracle, model = Oracle(len(audio)), SileroBatch(WEIGHTS)
    h, c = zeros(len(audio)), zeros(len(audio))
    spread = 0.0
    for windows in windows_of(audio):
        expected = oracle.step(windows)
        found, h, c = model.step(windows, h, c)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(np.stack([h, c]), oracle.state, atol=2e-4)
        spread = max(spread, float(np.ptp(expected)))
    assert np.isfinite(spread)


def test_the_voices_are_heard_as_voices():
    """Else the agreement above would be an agreement about nothing."""
    audio = np.stack([voiced(6, 110, 1), noise(1, 188, 4)[0][: 6 * 8000]])
    model, h, c = SileroBatch(WEIGHTS), zeros(2), zeros(2)
    found = []
    for windows in windows_of(audio):
        probability, h, c = model.step(windows, h, c)
        found.append(probability)
    voice, hiss = np.max(found, axis=0)
    assert voice > 0.9
    assert hiss < 0.3


def test_a_batch_equals_one_by_one_and_order_does_not_matter():
    audio = np.concatenate([noise(20, 12, 5), np.stack([voiced(12 * WINDOW / 8000, 100 + n, n) for n in range(21)])])
    order = np.random.default_rng(9).permutation(len(audio))
    together, single = SileroBatch(WEIGHTS), SileroBatch(WEIGHTS, capacity=1)
    h, c = zeros(len(audio)), zeros(len(audio))
    alone = [(zeros(1), zeros(1)) for _ in audio]
    for windows in windows_of(audio):
        shuffled, h, c = together.step(windows[order], h, c)
        for place, row in enumerate(order):
            probability, *state = single.step(windows[row : row + 1], *alone[row])
            alone[row] = (state[0].copy(), state[1].copy())
            assert probability[0] == pytest.approx(shuffled[place], abs=2e-6)


def test_grows_to_the_batch_and_then_allocates_no_array_of_its_size():
    rows = 1000
    model = SileroBatch(WEIGHTS, capacity=1)
    windows = next(windows_of(noise(rows, 1, 7)))
    _, h, c = model.step(windows, zeros(rows), zeros(rows))
    assert model.capacity == 1024
    tracemalloc.start()
    try:
        for _ in range(5):
            probability, h, c = model.step(windows, h, c)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert probability.base is None, "the probabilities must outlive the next step"
    # The narrowest layer of this batch is 256 KB; numpy takes up to 3 x 32 KB itself for a strided operation.
    assert peak < 128_000


def test_refuses_what_does_not_fit():
    model = SileroBatch(WEIGHTS)
    with pytest.raises(ValueError, match="expected"):
        model.step(np.zeros((2, WINDOW), dtype=np.float32), zeros(2), zeros(2))
    with pytest.raises(ValueError, match="expected"):
        model.step(np.zeros((2, CONTEXT + WINDOW), dtype=np.float32), zeros(1), zeros(2))
    with pytest.raises(ValueError, match="expected"):
        model.step(np.zeros((0, CONTEXT + WINDOW), dtype=np.float32), zeros(0), zeros(0))
    with pytest.raises(KeyError):
        SileroBatch({})
    with pytest.raises(ValueError, match="shape"):
        SileroBatch({**WEIGHTS, "decoder.rnn.bias_ih": np.zeros(3, dtype=np.float32)})
