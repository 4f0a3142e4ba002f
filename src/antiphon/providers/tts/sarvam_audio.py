"""Sound as Sarvam sends it, to PCM at the rate asked for. Pure.

Asked for is bare ``linear16`` or ``mulaw``. Should a WAV header come before it, what the header says counts.
"""

from __future__ import annotations

import struct

from antiphon.errors import ProviderError
from antiphon.media.codec import alaw_decode, mulaw_decode
from antiphon.media.resample import RATES, Resampler
from antiphon.providers.failures import failed

COMPRESSED = ("mpeg", "mp3", "ogg", "opus", "flac", "aac", "html", "json")
"""In a content type: nothing that can be played as samples."""

MAGIC = (b"ID3", b"OggS", b"fLaC", b"<!DO", b"<htm")

_FORMATS = {(1, 16): "linear16", (0xFFFE, 16): "linear16", (6, 8): "alaw", (7, 8): "mulaw"}


class SoundDecoder:
    """One text's sound, in pieces cut anywhere. All methods raise ``ProviderError`` (``tts.garbage``)."""

    def __init__(self, codec: str, source_rate: int, target_rate: int) -> None:
        self._codec = codec
        self._target_rate = target_rate
        self._resampler = Resampler(source_rate, target_rate)
        self._odd = False

    def feed(self, data: bytes, content_type: str = "") -> bytes:
        """PCM, possibly none yet: the filter holds some back, and half a sample waits for its other half."""
        if any(kind in content_type.lower() for kind in COMPRESSED) or data.startswith(MAGIC):
            raise _wrong(f"the endpoint sent {content_type or data[:4]!r} and not bare sound")
        if data.startswith(b"RIFF"):
            data = self._unwrap(data)
        if self._codec == "linear16":
            self._odd ^= bool(len(data) & 1)
        else:
            data = mulaw_decode(data) if self._codec == "mulaw" else alaw_decode(data)
        return self._resampler.process(data)

    def end(self) -> bytes:
        """What was held back."""
        # Half a sample at the very end is made a whole one: refusing it would lose what the filter holds.
        rest, self._odd = b"\0" if self._odd else b"", False
        return self._resampler.process(rest, last=True)

    def _unwrap(self, data: bytes) -> bytes:
        """The samples after a WAV header. A writer to a stream does not know the length it announces."""
        at, form = 12, b""
        while at + 8 <= len(data):
            name, size = struct.unpack_from("<4sI", data, at)
            at += 8
            if name == b"data":
                self._announced(form)
                return data[at : at + size] if size else data[at:]
            if name == b"fmt ":
                form = data[at : at + size]
            at += size + (size & 1)
        raise _wrong("the endpoint sent a WAV file without sound")

    def _announced(self, form: bytes) -> None:
        if len(form) < 16:
            raise _wrong("the endpoint sent a WAV file without a format")
        tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
        codec = _FORMATS.get((tag, bits))
        if codec is None or channels != 1 or rate not in RATES:
            raise _wrong(f"the endpoint sent WAV of format {tag}, {bits} bits, {channels} channels, {rate} Hz")
        self._codec = codec
        if rate != self._resampler.source_rate:
            self._resampler = Resampler(rate, self._target_rate)


def _wrong(text: str) -> ProviderError:
    return failed(text, "garbage", "sarvam", "tts")
