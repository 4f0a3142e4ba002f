"""Opus to PCM and back, by libopus as FFmpeg has it (PyAV: ``pip install "antiphon[opus]"``).

One packet is one message. Both directions are mono: a stereo packet is mixed down by the decoder. Sources: RFC 6716
(the codec; section 3.2.1: a frame has at most 1275 bytes, section 3.1: a packet at most 120 ms), FFmpeg's
documentation of ``libopus`` for the options.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

from antiphon.errors import BadFrame, ConfigError, MissingExtra
from antiphon.media import decimate
from antiphon.media.codec import BadAudio

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame

RATES: Final = decimate.RATES
"""Hz that both ends take: Opus's own (RFC 6716, section 2) but for 12 kHz, which the voice activity detector lacks."""
PACKET_MS: Final = 20
MAX_PACKET_BYTES: Final = 6 * 1275 + 7
"""120 ms in six frames, the longest packet that speech comes in."""
BITS_PER_SECOND: Final = {8_000: 16_000, 16_000: 24_000, 24_000: 28_000, 48_000: 32_000}
"""Speech at these is what listening tests call transparent for its band (RFC 6716, section 2.1.1), mono."""
MAX_PENDING_MS: Final = 10_000
"""What one ``encode`` takes."""


def require() -> None:
    """Raises ``MissingExtra`` where PyAV is not installed."""
    try:
        import av  # noqa: F401, PLC0415 - it is heavy, and few servers need it
    except ImportError as error:
        raise MissingExtra("opus", "Opus audio") from error


def _check(rate: int) -> None:
    if rate not in RATES:
        raise ConfigError(f"Opus at {rate} Hz: use one of {', '.join(map(str, RATES))}", code="config.sample_rate")
    require()


class OpusDecoder:
    """One stream's decoder to PCM16 mono at ``rate`` Hz. Raises ``ConfigError`` for a rate not in ``RATES``."""

    def __init__(self, rate: int) -> None:
        _check(rate)
        from av import AudioResampler, CodecContext, FFmpegError, Packet  # noqa: PLC0415 - as in ``require``

        self._packet, self._failure = Packet, FFmpegError
        self._context = CodecContext.create("libopus", "r")
        self._context.sample_rate = 48_000
        self._context.layout = "mono"
        self._context.open()
        # libopus gives 48 kHz here; this filter is late by 16 samples, where soxr holds back 40 ms.
        self._resampler = AudioResampler(format="s16", layout="mono", rate=rate)

    def decode(self, packet: bytes) -> bytes:
        """One packet to the PCM it holds: 2.5 to 120 ms, the first one less by what the filter keeps.

        Raises ``BadFrame`` (``opus.bad_packet``, ``opus.too_large``) and nothing else; the next packet may be good.
        """
        if len(packet) > MAX_PACKET_BYTES:
            raise BadFrame(f"an Opus packet of {len(packet)} bytes: at most {MAX_PACKET_BYTES}", code="opus.too_large")
        if not packet:
            raise BadFrame(
                "an empty Opus packet", code="opus.bad_packet"
            )  # to FFmpeg it would be the end of the stream
        try:
            frames = self._context.decode(self._packet(packet))
            return b"".join(_pcm(out) for frame in frames for out in self._resampled(frame))
        except (self._failure, ValueError) as error:
            raise BadFrame(f"{len(packet)} bytes are no Opus packet", code="opus.bad_packet") from error

    def _resampled(self, frame: AudioFrame) -> list[AudioFrame]:
        frame.pts = None  # samples are counted, not dated
        return self._resampler.resample(frame)


class OpusEncoder:
    """One stream's encoder from PCM16 mono at ``rate`` Hz. Raises ``ConfigError`` for a rate not in ``RATES``."""

    def __init__(self, rate: int) -> None:
        _check(rate)
        from av import AudioFrame, CodecContext  # noqa: PLC0415 - as in ``require``

        self._frame = AudioFrame
        self._context = CodecContext.create("libopus", "w")
        self._context.sample_rate = self._rate = rate
        self._context.time_base = Fraction(1, rate)
        self._context.layout, self._context.format = "mono", "s16"
        self._context.bit_rate = BITS_PER_SECOND[rate]
        self._context.options = {"application": "voip", "frame_duration": str(PACKET_MS)}
        self._context.open()
        self._bytes = rate * PACKET_MS // 1000 * 2
        self._rest = b""
        self._at = 0

    def encode(self, pcm: bytes) -> list[bytes]:
        """The packets, of 20 ms each, that are complete with this PCM; what is left waits for more.

        Raises ``BadAudio`` for half a sample or more than 10 s at once.
        """
        if len(pcm) & 1 or len(pcm) > self._rate * MAX_PENDING_MS // 500:
            raise BadAudio(f"{len(pcm)} bytes of PCM: give whole 16-bit samples, at most {MAX_PENDING_MS} ms at once")
        audio, size = self._rest + pcm, self._bytes
        whole = len(audio) - len(audio) % size
        self._rest = audio[whole:]
        return [packet for at in range(0, whole, size) for packet in self._packets(audio[at : at + size])]

    def flush(self) -> list[bytes]:
        """The rest, filled up with silence."""
        return self.encode(bytes(self._bytes - len(self._rest))) if self._rest else []

    def clear(self) -> None:
        """Forgets the rest: what was cut off must not begin what is said next."""
        self._rest = b""

    def _packets(self, piece: bytes) -> list[bytes]:
        frame = self._frame.from_ndarray(np.frombuffer(piece, "<i2")[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._at
        self._at += frame.samples
        return [bytes(packet) for packet in self._context.encode(frame)]


def _pcm(frame: AudioFrame) -> bytes:
    return bytes(frame.planes[0])[: 2 * frame.samples]
