"""Audio codecs: G.711 mu-law and A-law to and from PCM, by table.

``pcm`` is signed 16-bit little-endian mono everywhere. G.711 codes are one byte a sample.

Sources: ITU-T G.711 (1988), tables 1a to 2b, for the decision and output values; ITU-T G.191 for
what the tables leave open, which is how a negative number is taken: as its one's complement, so
that -1 is magnitude 0. G.711 works on 14 (mu-law) and 13 bits (A-law); both are scaled to 16 here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from antiphon.errors import AntiphonError, ConfigError

CODECS: Final = ("mulaw", "alaw", "pcm16")
"""The names that ``encode``, ``decode`` and a line's ``codec`` know."""

_Table8 = npt.NDArray[np.uint8]
_Table16 = npt.NDArray[np.int16]
_U8 = np.dtype(np.uint8)
_U16 = np.dtype("<u2")
_I16 = np.dtype("<i2")


class BadAudio(AntiphonError, ValueError):
    """Audio bytes that cannot be what they are said to be, such as half a sample or a broken WAV file."""

    default_code = "media.bad_audio"


def _mulaw_outputs() -> npt.NDArray[np.int64]:
    """The 128 output magnitudes of G.711 table 2a/2b in 16-bit units: 0, 8, ... 32124."""
    segment, step = np.divmod(np.arange(128, dtype=np.int64), 16)
    return np.asarray(4 * (((2 * step + 33) << segment) - 33), dtype=np.int64)


def _mulaw_decisions() -> npt.NDArray[np.int64]:
    """The magnitude at which each of the 128 codes begins: 0, 4, 12, 20, ... (decision values x 4)."""
    segment, step = np.divmod(np.arange(128, dtype=np.int64), 16)
    edges = np.asarray(4 * (((2 * step + 32) << segment) - 33), dtype=np.int64)
    edges[0] = 0
    return edges


def _alaw_outputs() -> npt.NDArray[np.int64]:
    """The 128 output magnitudes of G.711 table 1a/1b in 16-bit units: 8, 24, ... 32256."""
    segment, step = np.divmod(np.arange(128, dtype=np.int64), 16)
    linear = 16 * step + 8
    return np.where(segment == 0, linear, (linear + 256) << np.maximum(segment - 1, 0))


def _alaw_decisions() -> npt.NDArray[np.int64]:
    """The magnitude at which each of the 128 codes begins: 0, 16, 32, ..."""
    segment, step = np.divmod(np.arange(128, dtype=np.int64), 16)
    return np.where(segment == 0, 16 * step, (16 * step + 256) << np.maximum(segment - 1, 0))


def _tables(
    outputs: npt.NDArray[np.int64], decisions: npt.NDArray[np.int64], positive: npt.NDArray[np.int64]
) -> tuple[_Table16, _Table8]:
    """``positive[n]`` is the byte of the n-th positive magnitude; the negative one differs in the top bit."""
    to_pcm = np.zeros(256, dtype=_I16)
    to_pcm[positive] = outputs
    to_pcm[positive ^ 0x80] = -outputs
    samples = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int64)
    magnitude = np.where(samples < 0, ~samples, samples)
    index = np.searchsorted(decisions, magnitude, side="right") - 1
    from_pcm = np.where(samples < 0, positive[index] ^ 0x80, positive[index]).astype(np.uint8)
    return to_pcm, from_pcm


_MULAW_TO_PCM, _PCM_TO_MULAW = _tables(_mulaw_outputs(), _mulaw_decisions(), 0xFF - np.arange(128))
_ALAW_TO_PCM, _PCM_TO_ALAW = _tables(_alaw_outputs(), _alaw_decisions(), np.arange(128) ^ 0xD5)
_MULAW_TO_FLOAT = (_MULAW_TO_PCM / 32768.0).astype(np.float32)
_ALAW_TO_FLOAT = (_ALAW_TO_PCM / 32768.0).astype(np.float32)


def _samples(pcm: bytes) -> npt.NDArray[np.uint16]:
    if len(pcm) & 1:
        raise BadAudio(f"PCM of {len(pcm)} bytes: 16-bit samples need an even number of bytes")
    return np.frombuffer(pcm, _U16)


def mulaw_decode(data: bytes) -> bytes:
    """mu-law to PCM, two bytes for each byte."""
    return _MULAW_TO_PCM.take(np.frombuffer(data, _U8)).tobytes()


def mulaw_encode(pcm: bytes) -> bytes:
    """PCM to mu-law. Raises ``BadAudio`` for an odd number of bytes."""
    return _PCM_TO_MULAW.take(_samples(pcm)).tobytes()


def alaw_decode(data: bytes) -> bytes:
    """A-law to PCM, two bytes for each byte."""
    return _ALAW_TO_PCM.take(np.frombuffer(data, _U8)).tobytes()


def alaw_encode(pcm: bytes) -> bytes:
    """PCM to A-law. Raises ``BadAudio`` for an odd number of bytes."""
    return _PCM_TO_ALAW.take(_samples(pcm)).tobytes()


def _pcm_as_it_is(pcm: bytes) -> bytes:
    if len(pcm) & 1:
        raise BadAudio(f"PCM of {len(pcm)} bytes: 16-bit samples need an even number of bytes")
    return bytes(pcm)


_ENCODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "mulaw": mulaw_encode,
    "alaw": alaw_encode,
    "pcm16": _pcm_as_it_is,
}
_DECODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "mulaw": mulaw_decode,
    "alaw": alaw_decode,
    "pcm16": _pcm_as_it_is,
}
_SILENCE: Final = {"mulaw": b"\xff", "alaw": b"\xd5", "pcm16": b"\x00\x00"}


def _unknown(codec: str) -> ConfigError:
    return ConfigError(f"unknown codec {codec!r}: use one of {', '.join(CODECS)}", code="config.codec")


def encode(codec: str, pcm: bytes) -> bytes:
    """PCM to ``codec``. Raises ``BadAudio`` (half a sample) or ``ConfigError`` (no such codec)."""
    encoder = _ENCODERS.get(codec)
    if encoder is None:
        raise _unknown(codec)
    return encoder(pcm)


def decode(codec: str, data: bytes) -> bytes:
    """``codec`` to PCM. Raises ``BadAudio`` (half a PCM sample) or ``ConfigError`` (no such codec)."""
    decoder = _DECODERS.get(codec)
    if decoder is None:
        raise _unknown(codec)
    return decoder(data)


def decode_float(codec: str, data: bytes) -> npt.NDArray[np.float32]:
    """``codec`` to float32 samples in -1..1, as models take them. Raises like ``decode``."""
    if codec == "mulaw":
        return _MULAW_TO_FLOAT.take(np.frombuffer(data, _U8))
    if codec == "alaw":
        return _ALAW_TO_FLOAT.take(np.frombuffer(data, _U8))
    if codec == "pcm16":
        return _samples(data).view(_I16).astype(np.float32) * np.float32(1 / 32768)
    raise _unknown(codec)


def to_pcm(wave: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """What ``decode_float`` makes, back in 16 bits. What is louder than -1..1 is cut off."""
    return (np.clip(wave, -1.0, 32767 / 32768) * np.float32(32768)).astype(np.int16)


def bytes_per_sample(codec: str) -> int:
    """1 for G.711, 2 for ``pcm16``. Raises ``ConfigError`` for no such codec."""
    quiet = _SILENCE.get(codec)
    if quiet is None:
        raise _unknown(codec)
    return len(quiet)


def silence(codec: str, samples: int) -> bytes:
    """``samples`` of silence. Raises ``ConfigError`` for no such codec, ``BadAudio`` for a negative count."""
    quiet = _SILENCE.get(codec)
    if quiet is None:
        raise _unknown(codec)
    if samples < 0:
        raise BadAudio(f"{samples} samples of silence: the count cannot be negative")
    return quiet * samples


# -- WAV ----------------------------------------------------------------------------------------

MAX_WAV_BYTES: Final = 64 * 1024 * 1024
"""A file above this is refused: half an hour at 16 kHz."""

_FORMATS: Final = {(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64), (6, 8), (7, 8)}
"""(format tag, bits) that can be read: PCM, IEEE float, A-law, mu-law (RFC 2361 registers the tags)."""

_EXTENSIBLE: Final = 0xFFFE
_GUID_TAIL: Final = bytes.fromhex("000000001000800000aa00389b71")
"""An extensible format keeps its tag in the first two bytes of a GUID that ends so."""


def wav_write(pcm: bytes, rate: int, channels: int = 1) -> bytes:
    """A 16-bit PCM WAV file. ``rate`` is Hz; with several channels the samples are interleaved.

    Raises ``BadAudio`` for half a sample frame, a rate outside 1..384000 or channels outside 1..8.
    """
    if not 1 <= rate <= 384_000 or not 1 <= channels <= 8:
        raise BadAudio(f"no WAV file of {rate} Hz and {channels} channels can be written")
    block = 2 * channels
    if len(pcm) % block or len(pcm) > 0xFFFFFFFF - 36:
        raise BadAudio(f"{len(pcm)} bytes are no whole number of {channels}-channel 16-bit samples, or too many")
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(pcm), b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * block, block, 16)
    return head + form + struct.pack("<4sI", b"data", len(pcm)) + pcm


def wav_read(data: bytes, *, max_bytes: int = MAX_WAV_BYTES) -> tuple[bytes, int]:
    """A WAV file to mono PCM and its rate in Hz; several channels are averaged.

    Reads integer PCM of 8, 16, 24 and 32 bits, floating point of 32 and 64 (-1..1; what is beyond is cut off, what is
    no number is silence), mu-law and A-law, plain or extensible. A data length of
    0xFFFFFFFF, which a writer to a pipe leaves behind, means all that follows. Raises ``BadAudio`` for
    anything else, and for a file that is cut short, larger than ``max_bytes``, outside 1..384000 Hz or
    1..8 channels.
    """
    if len(data) > max_bytes:
        raise BadAudio(f"a WAV file of {len(data)} bytes: at most {max_bytes} are read", code="media.wav_too_large")
    form, body = _wav_chunks(data)
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", form)
    if tag == _EXTENSIBLE and len(form) >= 40 and form[26:40] == _GUID_TAIL:
        tag = struct.unpack_from("<H", form, 24)[0]
    if (tag, bits) not in _FORMATS:
        raise BadAudio(
            f"WAV format {tag} with {bits} bits: need PCM of 8 to 32 bits, float (3), A-law (6) or mu-law (7)"
        )
    if not 1 <= rate <= 384_000 or not 1 <= channels <= 8 or block != channels * bits // 8:
        raise BadAudio(f"WAV of {rate} Hz, {channels} channels and {block} bytes a block cannot be read")
    if len(body) % block:
        raise BadAudio(f"WAV data of {len(body)} bytes is no whole number of blocks of {block}")
    pcm = _wav_samples(body, tag, bits)
    if channels == 1:
        return pcm.tobytes(), rate
    mixed = pcm.reshape(-1, channels).astype(np.int32).sum(axis=1) // channels
    return mixed.astype(_I16).tobytes(), rate


def _wav_chunks(data: bytes) -> tuple[bytes, bytes]:
    """The ``fmt`` and ``data`` chunks."""
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise BadAudio("this is no WAV file: it does not begin with RIFF....WAVE")
    form = b""
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        at += 8
        if name == b"data" and form:
            if size == 0xFFFFFFFF:
                size = len(data) - at
            if at + size > len(data):
                raise BadAudio(f"WAV is cut short: {size} bytes of data announced, {len(data) - at} there")
            return form, data[at : at + size]
        if name == b"fmt ":
            form = data[at : at + size]
            if len(form) < 16 or len(form) < size:
                raise BadAudio("WAV is cut short in its format")
        # Chunks begin at even offsets.
        at += size + (size & 1)
    raise BadAudio("WAV has no data after its format" if form else "WAV has no format")


def _wav_samples(body: bytes, tag: int, bits: int) -> npt.NDArray[np.int16]:
    if tag == 6:
        return _ALAW_TO_PCM.take(np.frombuffer(body, _U8))
    if tag == 7:
        return _MULAW_TO_PCM.take(np.frombuffer(body, _U8))
    if tag == 3:
        with np.errstate(invalid="ignore"):  # a signalling NaN is no number like another
            values = np.clip(np.nan_to_num(np.frombuffer(body, f"<f{bits // 8}").astype(np.float64)), -1.0, 1.0)
        return np.minimum(np.rint(values * 32768), 32767).astype(_I16)
    if bits == 8:
        # 8-bit PCM alone is unsigned.
        return ((np.frombuffer(body, _U8).astype(np.int16) - 128) << 8).astype(_I16)
    # Of wider samples the two high bytes are the 16-bit value.
    width = bits // 8
    high = np.frombuffer(body, _U8).reshape(-1, width)[:, width - 2 :]
    return np.ascontiguousarray(high).view(_I16).reshape(-1)
