"""WAV files, whole and broken."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.media import codec
from antiphon.media.codec import BadAudio, wav_read, wav_write

RAMP = np.arange(-32768, 32768, 257).astype("<i2")


def wav(body: bytes, *, tag: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, extra: bytes = b"") -> bytes:
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + extra
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def extensible(tag: int, bits: int) -> bytes:
    guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    return struct.pack("<HHI", 22, bits, 4) + guid


def test_the_standard_library_reads_what_is_written() -> None:
    data = wav_write(RAMP.tobytes(), 16000)
    with wave.open(io.BytesIO(data)) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (16000, 1, 2)
        assert reader.readframes(1000) == RAMP.tobytes()
    assert wav_read(data) == (RAMP.tobytes(), 16000)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_width_that_the_standard_library_writes_is_read(width: int) -> None:
    wide = RAMP.astype(np.int64) << 8 * (width - 2) if width > 1 else (RAMP.astype(np.int64) >> 8) + 128
    body = b"".join(int(value).to_bytes(width, "little", signed=width > 1) for value in wide)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(width)
        writer.setframerate(22050)
        writer.writeframes(body)
    expected = (RAMP >> 8 << 8 if width == 1 else RAMP).astype("<i2").tobytes()
    assert wav_read(file.getvalue()) == (expected, 22050)
    assert wav_read(wav(body, tag=0xFFFE, bits=8 * width, extra=extensible(1, 8 * width)))[0] == expected


def test_g711_files_are_read() -> None:
    every = bytes(range(256))
    assert wav_read(wav(every, tag=7, bits=8)) == (codec.mulaw_decode(every), 8000)
    assert wav_read(wav(every, tag=6, bits=8)) == (codec.alaw_decode(every), 8000)
    assert wav_read(wav(every, tag=0xFFFE, bits=8, extra=extensible(7, 8)))[0] == codec.mulaw_decode(every)


@pytest.mark.parametrize("bits", [32, 64])
def test_floating_point_is_read(bits: int) -> None:
    body = (RAMP / 32768).astype(f"<f{bits // 8}").tobytes()
    assert wav_read(wav(body, tag=3, bits=bits)) == (RAMP.tobytes(), 8000)
    assert wav_read(wav(body, tag=0xFFFE, bits=bits, extra=extensible(3, bits)))[0] == RAMP.tobytes()
    odd = np.array([1.0, 2.0, -7.0, np.inf, -np.inf, np.nan, 0.5], f"<f{bits // 8}").tobytes()
    expected = [32767, 32767, -32768, 32767, -32768, 0, 16384]
    assert np.frombuffer(wav_read(wav(odd, tag=3, bits=bits))[0], "<i2").tolist() == expected


def test_channels_are_averaged() -> None:
    stereo = np.column_stack([RAMP, RAMP[::-1]]).astype("<i2")
    mono, _ = wav_read(wav_write(stereo.tobytes(), 8000, channels=2))
    assert np.array_equal(np.frombuffer(mono, "<i2"), (RAMP.astype(int) + RAMP[::-1]) // 2)


def test_other_chunks_are_passed_over() -> None:
    data = wav_write(b"\1\2\3\4", 8000)
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    assert wav_read(data[:12] + odd + data[12:36] + odd + data[36:] + odd) == (b"\1\2\3\4", 8000)


def test_a_file_from_a_pipe_has_no_length() -> None:
    data = bytearray(wav_write(b"\1\2\3\4", 8000))
    data[4:8] = data[40:44] = b"\xff" * 4
    assert wav_read(bytes(data)) == (b"\1\2\3\4", 8000)


GOOD = wav_write(b"\1\2\3\4", 8000)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"OggS" + GOOD[4:],
        GOOD[:8] + b"AVI " + GOOD[12:],
        GOOD[:20],
        GOOD[:36],
        GOOD[:-1],
        GOOD[:12] + GOOD[36:],
        wav(b"\0" * 8, tag=3, bits=16),
        wav(b"\0" * 6, tag=3, bits=32),
        wav(b"\0" * 8, tag=2, bits=4),
        wav(b"\0" * 8, tag=7, bits=16),
        wav(b"\0" * 8, bits=12),
        wav(b"\0" * 8, bits=64),
        wav(b"\0" * 8, channels=0),
        wav(b"\0" * 18, channels=9),
        wav(b"\0" * 8, rate=0),
        wav(b"\0" * 8, rate=1_000_000),
        wav(b"\0" * 7),
        wav(b"\0" * 8, tag=0xFFFE),
        wav(b"\0" * 8, tag=0xFFFE, extra=extensible(3, 16)),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(BadAudio) as caught:
        wav_read(data)
    assert caught.value.code == "media.bad_audio"


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(BadAudio) as caught:
        wav_read(GOOD, max_bytes=len(GOOD) - 1)
    assert caught.value.code == "media.wav_too_large"


@pytest.mark.parametrize(
    ("rate", "channels", "size"), [(0, 1, 4), (400_000, 1, 4), (8000, 0, 4), (8000, 9, 36), (8000, 2, 6)]
)
def test_what_cannot_be_written_is_refused(rate: int, channels: int, size: int) -> None:
    with pytest.raises(BadAudio):
        wav_write(b"\0" * size, rate, channels)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    tag, bits = data.draw(st.sampled_from([(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)]))
    whole = bytearray(wav(bytes(range(48)), tag=tag, bits=bits))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        audio, rate = wav_read(cut)
    except BadAudio:
        return
    assert len(audio) % 2 == 0
    assert 1 <= rate <= 384_000


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=200).map(lambda raw: raw[: len(raw) & ~1]), rate=st.integers(1, 384_000))
def test_round_trip(body: bytes, rate: int) -> None:
    assert wav_read(wav_write(body, rate)) == (body, rate)
