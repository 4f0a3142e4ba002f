"""Silero VAD at 8 kHz as a handful of matrix products over a whole batch of calls.

The model (MIT, Silero Team; weights of the ``silero-vad`` 6.2.3 wheel) looks at 256 samples and the 32
before them and keeps an LSTM state. One call at a time it costs mostly overhead; a batch of calls
shares that, so all calls of a process go through one ``step``. Everything is float32.

The layers: a short-time Fourier transform as products with the model's own windowed basis (128 taps,
hop 64, four frames), its magnitude, four convolutions over time of width 3 (65 -> 128 -> 64 -> 64 -> 128
channels, strides 1, 2, 2, 1), one LSTM cell of 128, one output. Four frames shrink to two and then to one,
so the taps that would only meet padding are left out: the third convolution keeps two of its three taps
and the last only the middle one. Every product reads the buffer of the layer before it in place, because
BLAS takes a row stride.

What the products leave to be done element by element is a quarter of it all. Two rules keep both down. The basis is
even in its real half and odd in its imaginary one (and its first tap is zero), so a frame that is folded about its
middle, once with plus and once with minus, needs products of half the size. And ``maximum`` is given an array: numpy's
with a number takes four times as long. (Not done: ``max(x + b, 0)`` as ``max(x, -b)`` with the rest moved into the
next layer saves a pass over each, but the last digits with it.)
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

        basis = take("stft.forward_basis_buffer", 2 * _BINS, 1, _TAPS)[:, 0].T
        self._even, self._odd = (np.ascontiguousarray(half[1 : _HOP + 1]) for half in np.hsplit(basis, 2))
        self._even[-1] *= 0.5  # folded, the middle of a frame meets itself
        self._w0 = taps(0, 128, _BINS)
        self._w1 = taps(1, 64, 128)
        self._w2 = np.ascontiguousarray(taps(2, 64, 64)[64:])
        self._w3 = np.ascontiguousarray(taps(3, 128, 64)[64:128])
        b0, b1, b2, b3 = (
            take(f"encoder.{layer}.reparam_conv.bias", width) for layer, width in enumerate((128, 64, 64, 128))
        )
        self._b0 = np.tile(b0, _FRAMES)
        self._b1 = np.tile(b1, 2)
        self._b2, self._b3 = b2, b3
        self._zeros = np.zeros(4 * STATE, dtype=np.float32)
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
        self._folded = room(_FRAMES, _HOP)
        self._real = room(_FRAMES * _BINS)
        self._imaginary = room(_FRAMES * _BINS)
        self._conv0 = room(_FRAMES * 128)
        self._conv1 = room(2 * 64)
        self._conv2 = room(64)
        self._joined = room(2 * STATE)  # the LSTM's input beside its hidden state
        self._gates = self._conv0  # which nobody needs by then: what is cold in the cache costs more than it looks
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
        magnitude = self._spectrum(windows, size)
        conv0, conv1, conv2 = self._conv0[:size], self._conv1[:size], self._conv2[:size]
        for frame in range(_FRAMES):
            first, last = max(frame - 1, 0), min(frame + 2, _FRAMES)  # frames outside are zero padding
            kernel = self._w0[(first - frame + 1) * _BINS : (last - frame + 1) * _BINS]
            np.matmul(magnitude[:, first * _BINS : last * _BINS], kernel, out=conv0[:, frame * 128 : (frame + 1) * 128])
        conv0 += self._b0
        np.maximum(conv0, self._zeros, out=conv0)
        np.matmul(conv0[:, :256], self._w1[128:], out=conv1[:, :64])
        np.matmul(conv0[:, 128:], self._w1, out=conv1[:, 64:])
        conv1 += self._b1
        np.maximum(conv1, self._zeros[:STATE], out=conv1)
        np.matmul(conv1, self._w2, out=conv2)
        conv2 += self._b2
        np.maximum(conv2, self._zeros[:64], out=conv2)
        encoded = self._joined[:size, :STATE]
        np.matmul(conv2, self._w3, out=encoded)
        encoded += self._b3
        np.maximum(encoded, self._zeros[:STATE], out=encoded)

    def _spectrum(self, windows: Floats, size: int) -> Floats:
        """Magnitudes: 65 bins of each of the four frames."""
        audio, folded = self._audio[:size], self._folded[:size]
        audio[:, :_IN] = windows
        audio[:, _IN:] = windows[:, _IN - 2 : _IN - 2 - _REFLECT : -1]
        real, imaginary = self._real[:size], self._imaginary[:size]
        # Sample n of a frame meets sample 128 - n: the audio backwards has it at the same place, frame by frame.
        backwards = imaginary[:, : _FRAMES * _HOP]
        backwards[...] = audio[:, : _HOP - 1 : -1]
        ahead = audio[:, 1 : 1 + _FRAMES * _HOP].reshape(size, _FRAMES, _HOP)
        mirrored = backwards.reshape(size, _FRAMES, _HOP)[:, ::-1]
        np.add(ahead, mirrored, out=folded)
        rows = size * _FRAMES
        np.matmul(folded.reshape(rows, _HOP), self._even, out=real.reshape(rows, _BINS))
        np.subtract(ahead, mirrored, out=folded)
        np.matmul(folded.reshape(rows, _HOP), self._odd, out=imaginary.reshape(rows, _BINS))
        np.multiply(real, real, out=real)
        np.multiply(imaginary, imaginary, out=imaginary)
        np.add(real, imaginary, out=real)
        return np.sqrt(real, out=real)

    def _decode(self, c: Floats, size: int) -> tuple[Floats, Floats, Floats]:
        gates, cell, hidden = self._gates[:size], self._cell[:size], self._hidden[:size]
        scratch = self._scratch[:size]
        np.matmul(self._joined[:size], self._lstm, out=gates)
        gates += self._lstm_bias
        np.tanh(gates, out=gates)
        sigmoids = gates[:, : 3 * STATE]
        sigmoids += 1.0  # twice the sigmoids: halving what comes of them is less work
        np.multiply(gates[:, :STATE], gates[:, 3 * STATE :], out=scratch)
        np.multiply(gates[:, STATE : 2 * STATE], c, out=cell)
        cell += scratch
        cell *= 0.5
        np.tanh(cell, out=hidden)
        hidden *= gates[:, 2 * STATE : 3 * STATE]
        hidden *= 0.5
        np.maximum(hidden, self._zeros[:STATE], out=scratch)
        probability = scratch @ self._out
        probability += self._out_bias
        np.tanh(probability, out=probability)
        probability *= 0.5
        probability += 0.5
        return probability, hidden, cell
