"""G.711 against what the Recommendation says of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import AntiphonError, ConfigError
from antiphon.media import codec

EVERY_CODE = bytes(range(256))
EVERY_SAMPLE = np.arange(-32768, 32768).astype("<i2").tobytes()


def pcm(*samples: int) -> bytes:
    return np.array(samples, dtype="<i2").tobytes()


def samples(data: bytes) -> list[int]:
    return np.frombuffer(data, "<i2").tolist()


def g191_mulaw(sample: int) -> int:
    """ITU-T G.191 ``ulaw_compress``, by its description: one's complement, bias 33, segment by the highest bit."""
    magnitude = min((~sample if sample < 0 else sample) >> 2, 8158) + 33
    segment = magnitude.bit_length() - 6
    step = (magnitude >> (segment + 1)) & 15
    code = (7 - segment) << 4 | (15 - step)
    return code if sample < 0 else code | 0x80


def g191_alaw(sample: int) -> int:
    """ITU-T G.191 ``alaw_compress``, by its description: 12 bits of magnitude, even bits inverted."""
    magnitude = (~sample if sample < 0 else sample) >> 4
    segment = max(0, magnitude.bit_length() - 4)
    step = magnitude & 15 if segment == 0 else (magnitude >> (segment - 1)) & 15
    code = segment << 4 | step
    return (code if sample < 0 else code | 0x80) ^ 0x55


def test_the_encoders_agree_with_g191_on_every_sample() -> None:
    values = range(-32768, 32768)
    assert codec.mulaw_encode(EVERY_SAMPLE) == bytes(map(g191_mulaw, values))
    assert codec.alaw_encode(EVERY_SAMPLE) == bytes(map(g191_alaw, values))


def test_known_values() -> None:
    """G.711 tables 1a, 1b, 2a, 2b: first, last and zero output values, scaled to 16 bits."""
    assert samples(codec.mulaw_decode(bytes([0x80, 0x00, 0xFF, 0x7F, 0xFE, 0x7E, 0xF0, 0xEF]))) == [
        *(8031 * 4, -8031 * 4, 0, 0, 2 * 4, -2 * 4, 30 * 4, 33 * 4)
    ]
    assert samples(codec.alaw_decode(bytes([0xAA, 0x2A, 0xD5, 0x55, 0xD4]))) == [
        *(4032 * 8, -4032 * 8, 1 * 8, -1 * 8, 3 * 8)
    ]
    assert codec.mulaw_encode(pcm(0, -1, 32767, -32768)) == bytes([0xFF, 0x7F, 0x80, 0x00])
    assert codec.alaw_encode(pcm(0, -1, 32767, -32768)) == bytes([0xD5, 0x55, 0xAA, 0x2A])


@pytest.mark.parametrize(
    ("name", "sequence", "overload_dbm0"),
    [("mulaw", "1e0b0b1e9e8b8b9e", 3.17), ("alaw", "342121 34b4a1a1b4", 3.14)],
)
def test_the_digital_milliwatt(name: str, sequence: str, overload_dbm0: float) -> None:
    """G.711 tables 5 and 6: these eight codes, repeated, are a sine of 1 kHz at 0 dBm0."""
    wave = codec.decode_float(name, bytes.fromhex(sequence)).astype(np.float64)
    assert np.allclose(wave[:4], -wave[4:])
    assert wave[0] == wave[3]
    assert wave[1] == wave[2]
    assert wave[1] / wave[0] == pytest.approx(np.tan(np.radians(67.5)), rel=0.03)
    full_scale = 8159 / 8192 if name == "mulaw" else 1.0
    level = 20 * np.log10(np.sqrt(np.mean(wave**2)) / (full_scale / np.sqrt(2)))
    assert level == pytest.approx(-overload_dbm0, abs=0.1)


@pytest.mark.parametrize("name", ["mulaw", "alaw"])
def test_every_code_round_trips(name: str) -> None:
    again = codec.encode(name, codec.decode(name, EVERY_CODE))
    # mu-law has two zeros; the negative one comes back as the positive.
    changed = {code for code, back in zip(EVERY_CODE, again, strict=True) if code != back}
    assert changed == ({0x7F} if name == "mulaw" else set())


@pytest.mark.parametrize(("name", "steps"), [("mulaw", 255), ("alaw", 256)])
def test_quantization_is_monotonic_symmetrical_and_close(name: str, steps: int) -> None:
    before = np.arange(-32768, 32768)
    after = np.frombuffer(codec.decode(name, codec.encode(name, EVERY_SAMPLE)), "<i2").astype(int)
    assert np.all(np.diff(after) >= 0)
    assert len(set(after.tolist())) == steps
    # One's complement: -1 - x is the mirror of x.
    assert np.array_equal(after[:32768], -after[:32767:-1])
    loud = np.abs(before) > 500
    inside = np.abs(before) <= 32124
    assert np.max(np.abs(after - before)[loud & inside] / np.abs(before[loud & inside])) < 1 / 27
    assert np.max(np.abs(after - before)[~loud]) <= 16


@pytest.mark.parametrize("name", codec.CODECS)
def test_floats_are_the_same_audio(name: str) -> None:
    data = EVERY_SAMPLE if name == "pcm16" else EVERY_CODE
    wave = codec.decode_float(name, data)
    assert wave.dtype == np.float32
    assert np.array_equal(wave * 32768, np.frombuffer(codec.decode(name, data), "<i2"))
    assert wave.min() >= -1
    assert wave.max() < 1


@pytest.mark.parametrize("name", codec.CODECS)
def test_silence_is_silent(name: str) -> None:
    quiet = codec.silence(name, 160)
    assert len(quiet) == 160 * codec.bytes_per_sample(name)
    assert max(map(abs, samples(codec.decode(name, quiet)))) <= 8
    assert codec.encode(name, b"\0" * 320) == quiet
    with pytest.raises(codec.BadAudio):
        codec.silence(name, -1)


@pytest.mark.parametrize("name", codec.CODECS)
def test_half_a_sample_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="even number") as caught:
        codec.encode(name, b"\0\0\0")
    assert isinstance(caught.value, AntiphonError)
    assert caught.value.code == "media.bad_audio"
    with pytest.raises(codec.BadAudio):
        codec.decode_float("pcm16", b"\0")


def test_an_unknown_codec_is_named() -> None:
    for call in (
        lambda: codec.encode("opus", b""),
        lambda: codec.decode("opus", b""),
        lambda: codec.decode_float("opus", b""),
        lambda: codec.silence("opus", 1),
        lambda: codec.bytes_per_sample("opus"),
    ):
        with pytest.raises(ConfigError, match="'opus'") as caught:
            call()
        assert caught.value.code == "config.codec"


@settings(max_examples=80, deadline=None)
@given(data=st.binary(max_size=400), name=st.sampled_from(codec.CODECS))
def test_any_bytes_decode_or_are_refused(data: bytes, name: str) -> None:
    if name == "pcm16" and len(data) % 2:
        with pytest.raises(codec.BadAudio):
            codec.decode(name, data)
        return
    audio = codec.decode(name, data)
    assert len(audio) == 2 * len(data) // codec.bytes_per_sample(name)
    once = codec.decode(name, codec.encode(name, audio))
    assert once == audio
