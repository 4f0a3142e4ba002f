"""Sound as a vendor streams it, bare and in pieces cut anywhere, to PCM at the rate asked for. Pure."""

from __future__ import annotations

from antiphon.media.codec import decode
from antiphon.media.resample import Resampler


class Inflow:
    """``codec``: mulaw, alaw or pcm16, at ``source_rate`` Hz."""

    def __init__(self, codec: str, source_rate: int, target_rate: int) -> None:
        self._codec = codec
        self._resampler = Resampler(source_rate, target_rate)
        self._odd = False

    def feed(self, data: bytes) -> bytes:
        """PCM, possibly none yet: the filter holds some back, and half a sample waits for its other half."""
        if self._codec == "pcm16":
            self._odd ^= bool(len(data) & 1)
        else:
            data = decode(self._codec, data)
        return self._resampler.process(data)

    def end(self) -> bytes:
        """What was held back. Half a sample at the very end is made a whole one: nobody hears it."""
        rest, self._odd = b"\0" if self._odd else b"", False
        return self._resampler.process(rest, last=True)
