"""Silero VAD at 8 kHz as a handful of matrix products over a whole batch of calls.

The model (MIT, Silero Team; weights of the ``silero-vad`` 6.2.3 wheel) looks at 256 samples and the 32
before them and keeps an LSTM state. One call at a time it costs mostly overhead; a batch of calls
shares that, so all calls of a process go through one ``step``. Everything is float32.

The layers: a short-time Fourier transform as a product with the model's own windowed basis (128 taps,
hop 64, four frames), its magnitude, four convolutions over time of width 3 (65 -> 128 -> 64 -> 64 -> 128
channels, strides 1, 2, 2, 1), one LSTM cell of 128, one output. Four frames shrink to two and then to one,
so the taps that would only meet padding are left out: the third convolution keeps two of its three taps
and the last only the middle one. Every product reads the buffer of the layer before it in place, because
BLAS takes a row stride: no window is ever copied out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SAMPLE_RATE = 8000
WINDOW = 256
"""New samples per step: 32 ms."""
CONTEXT = 32
"""Samples of the window before that the model sees again."""
STATE = 128
"""Width of each of the two LSTM state arrays."""

_TAPS, _HOP, _FRAMES, _BINS = 128, 64, 4, 65
_REFLECT = 32  # the model pads its input on the right with this many reflected samples
_IN = CONTEXT + WINDOW


class SileroBatch:
    """The model and its work buffers. Not for two threads at once.

    ``weights`` are the arrays of ``antiphon/data/silero/vad_8k.npz``, under the model's own names. Raises
    ``KeyError`` for a missing one and ``ValueError`` for one of another shape. ``capacity`` is the number
    of calls to reserve buffers for; a larger batch grows them by doubling.
    """

    def __init__(self, weights: Mapping[str, Floats], capacity: int = 16) -> None:
        def take(name: str, *shape: int) -> Floats:
            array = np.asarray(weights[name], dtype=np.float32)
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, not {shape}")
            return array

        def taps(layer: int, outputs: int, inputs: int) -> Floats:
            # [out, in, tap] -> [tap * in, out]: rows in the order in which frames lie in memory.
            kernel = take(f"encoder.{layer}.reparam_conv.weight", outputs, inputs, 3)
            return np.ascontiguousarray(kernel.transpose(2, 1, 0).reshape(3 * inputs, outputs))

        self._basis = np.ascontiguousarray(take("stft.forward_basis_buffer", 2 * _BINS, 1, _TAPS)[:, 0].T)
        self._w0 = taps(0, 128, _BINS)
        self._w1 = taps(1, 64, 128)
        self._w2 = np.ascontiguousarray(taps(2, 64, 64)[64:])
        self._w3 = np.ascontiguousarray(taps(3, 128, 64)[64:128])
        self._b0, self._b1, self._b2, self._b3 = (
            take(f"encoder.{layer}.reparam_conv.bias", width) for layer, width in enumerate((128, 64, 64, 128))
        )
        # Gates arrive as input, forget, cell, output. With the cell gate last and sigmoid(z) written as
        # (tanh(z / 2) + 1) / 2, one tanh over [B, 512] serves all four; the halving goes into the weights.
        order = np.concatenate([np.arange(0, 256), np.arange(384, 512), np.arange(256, 384)])
        both = [take("decoder.rnn.weight_ih", 512, STATE), take("decoder.rnn.weight_hh", 512, STATE)]
        lstm = np.concatenate(both, axis=1)[order]
        bias = (take("decoder.rnn.bias_ih", 512) + take("decoder.rnn.bias_hh", 512))[order]
        lstm[:384] *= 0.5
        bias[:384] *= 0.5
        self._lstm, self._lstm_bias = np.ascontiguousarray(lstm.T), bias
        self._out = take("decoder.decoder.2.weight", 1, STATE, 1).reshape(STATE) * np.float32(0.5)
        self._out_bias = take("decoder.decoder.2.bias", 1) * np.float32(0.5)
        self._reserve(max(1, capacity))

    def _reserve(self, capacity: int) -> None:
        def room(*shape: int) -> Floats:
            return np.zeros((capacity, *shape), dtype=np.float32)

        self.capacity = capacity
        self._audio = room(_IN + _REFLECT)
        self._spectrum = room(_FRAMES, 2 * _BINS)
        self._magnitude = room(_FRAMES * _BINS)
        self._conv0 = room(_FRAMES, 128)
        self._conv1 = room(2, 64)
        self._conv2 = room(64)
        self._joined = room(2 * STATE)  # the LSTM's input beside its hidden state
        self._gates = room(4 * STATE)
        self._cell = room(STATE)
        self._hidden = room(STATE)
        self._scratch = room(STATE)

    def step(self, windows: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
        """One window of every call: ``[B, 32 + 256]`` samples in -1..1, state ``[B, 128]`` twice.

        Returns speech probabilities ``[B]`` in 0..1 and the new ``h`` and ``c``. ``h`` and ``c`` are views of
        work buffers, valid until the next ``step`` (and may be handed straight back to it); the
        probabilities are the caller's own. Rows do not influence each other beyond rounding. Raises
        ``ValueError`` for other shapes.
        """
        size = len(windows)
        if windows.shape != (size, _IN) or h.shape != (size, STATE) or c.shape != (size, STATE) or size == 0:
            raise ValueError(f"expected [B, {_IN}], [B, {STATE}] twice; got {windows.shape}, {h.shape}, {c.shape}")
        joined = self._joined
        if size > self.capacity:
            self._reserve(1 << (size - 1).bit_length())
            joined = self._joined
        joined[:size, STATE:] = h
        self._encode(windows, size)
        return self._decode(c, size)

    def _encode(self, windows: Floats, size: int) -> None:
        """From samples to the LSTM's input, which it leaves in the left half of ``_joined``."""
        audio, spectrum, magnitude = self._audio[:size], self._spectrum[:size], self._magnitude[:size]
        audio[:, :_IN] = windows
        audio[:, _IN:] = windows[:, _IN - 2 : _IN - 2 - _REFLECT : -1]
        for frame in range(_FRAMES):
            start = frame * _HOP
            np.matmul(audio[:, start : start + _TAPS], self._basis, out=spectrum[:, frame])
        np.multiply(spectrum, spectrum, out=spectrum)
        bins = magnitude.reshape(size, _FRAMES, _BINS)
        np.add(spectrum[:, :, :_BINS], spectrum[:, :, _BINS:], out=bins)
        np.sqrt(magnitude, out=magnitude)

        conv0, conv1, conv2 = self._conv0[:size], self._conv1[:size], self._conv2[:size]
        for frame in range(_FRAMES):
            first, last = max(frame - 1, 0), min(frame + 2, _FRAMES)  # frames outside are zero padding
            kernel = self._w0[(first - frame + 1) * _BINS : (last - frame + 1) * _BINS]
            np.matmul(magnitude[:, first * _BINS : last * _BINS], kernel, out=conv0[:, frame])
        conv0 += self._b0
        np.maximum(conv0, 0.0, out=conv0)
        rows = conv0.reshape(size, _FRAMES * 128)
        np.matmul(rows[:, :256], self._w1[128:], out=conv1[:, 0])
        np.matmul(rows[:, 128:], self._w1, out=conv1[:, 1])
        conv1 += self._b1
        np.maximum(conv1, 0.0, out=conv1)
        np.matmul(conv1.reshape(size, 128), self._w2, out=conv2)
        conv2 += self._b2
        np.maximum(conv2, 0.0, out=conv2)
        encoded = self._joined[:size, :STATE]
        np.matmul(conv2, self._w3, out=encoded)
        encoded += self._b3
        np.maximum(encoded, 0.0, out=encoded)

    def _decode(self, c: Floats, size: int) -> tuple[Floats, Floats, Floats]:
        gates, cell, hidden = self._gates[:size], self._cell[:size], self._hidden[:size]
        scratch = self._scratch[:size]
        np.matmul(self._joined[:size], self._lstm, out=gates)
        gates += self._lstm_bias
        np.tanh(gates, out=gates)
        sigmoids = gates[:, : 3 * STATE]
        sigmoids *= 0.5
        sigmoids += 0.5
        np.multiply(gates[:, :STATE], gates[:, 3 * STATE :], out=scratch)
        np.multiply(gates[:, STATE : 2 * STATE], c, out=cell)
        cell += scratch
        np.tanh(cell, out=hidden)
        hidden *= gates[:, 2 * STATE : 3 * STATE]
        np.maximum(hidden, 0.0, out=scratch)
        probability = scratch @ self._out
        probability += self._out_bias
        np.tanh(probability, out=probability)
        probability *= 0.5
        probability += 0.5
        return probability, hidden, cell
