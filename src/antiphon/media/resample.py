"""Streaming sample rate conversion of 16-bit PCM.

The filter is soxr's "low quality" (16 bits of dynamic range, bandwidth to 68 % of the lower Nyquist
frequency): telephone speech has nothing above it that a finer filter would save, and it costs half.
A call costs some 5 us before any sample is converted, so give pieces of 100 ms where latency allows.
soxr works in float32 here: its integer mode adds dither, and then the same audio in other pieces
would come out other.
"""

from __future__ import annotations

import numpy as np
import soxr

from antiphon.errors import ConfigError
from antiphon.media.codec import BadAudio

RATES = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
"""Hz; what lines, transcribers and voices use."""

_I16 = np.dtype("<i2")


class Resampler:
    """One stream. Raises ``ConfigError`` for a rate that is not in ``RATES``.

    The filter works in blocks and holds audio back: up to 61 ms between 8 and 16 kHz (33 on average),
    40 ms from 24 or 48 to 8 kHz. ``last=True`` gives it all out and readies the stream for another.
    """

    __slots__ = ("_half", "_stream", "source_rate", "target_rate")

    def __init__(self, source_rate: int, target_rate: int) -> None:
        for rate in (source_rate, target_rate):
            if rate not in RATES:
                raise ConfigError(f"sample rate {rate} Hz: use one of {RATES}", code="config.sample_rate")
        self.source_rate = source_rate
        self.target_rate = target_rate
        self._half = b""
        self._stream = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32", quality="LQ")

    def process(self, pcm: bytes, last: bool = False) -> bytes:
        """The next piece, of any length: half a sample at its end waits for the other half.

        Raises ``BadAudio`` if the stream ends with half a sample; the stream is over then, too.
        """
        if self._half:
            pcm = self._half + pcm
            self._half = b""
        if len(pcm) & 1:
            self._half, pcm = pcm[-1:], pcm[:-1]
        half = self._half
        if last:
            self._half = b""
        if self._stream is None:
            out = bytes(pcm)
        else:
            wave = self._stream.resample_chunk(np.frombuffer(pcm, _I16).astype(np.float32), last)
            # The filter overshoots at full scale, and a wrapped sample is a loud click.
            out = np.rint(wave, out=wave).clip(-32768, 32767, out=wave).astype(_I16).tobytes()
            if last:
                self._stream.clear()
        if last and half:
            raise BadAudio("the stream ended with half a sample")
        return out


def resampled(pcm: bytes, source_rate: int, target_rate: int) -> bytes:
    """A whole recording at another rate, any two rates above 0 Hz. Raises ``BadAudio`` for half a sample."""
    if len(pcm) & 1:
        raise BadAudio("the recording ends with half a sample")
    if source_rate == target_rate or not pcm:
        return bytes(pcm)
    wave = soxr.resample(np.frombuffer(pcm, _I16).astype(np.float32), source_rate, target_rate)
    out: bytes = np.rint(wave, out=wave).clip(-32768, 32767, out=wave).astype(_I16).tobytes()
    return out
