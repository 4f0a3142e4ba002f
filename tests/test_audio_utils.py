"""Telephone audio to WAV and back, for servers of one's own (A64 to A66)."""

from __future__ import annotations

import base64
import wave
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.audio_utils import CHUNK_BYTES, encode_mulaw_base64, mulaw_to_wav, wav_to_mulaw
from antiphon.media.codec import mulaw_decode, mulaw_encode, wav_read, wav_write
from antiphon.media.resample import resampled
from antiphon.providers.tts.fake import tone


def loudest_hz(pcm: bytes, rate: int) -> float:
    wave_form = np.frombuffer(pcm, "<i2").astype(float)
    return float(np.abs(np.fft.rfft(wave_form)).argmax() * rate / len(wave_form))


def test_a_line_becomes_a_wav_of_sixteen_kilohertz() -> None:
    with wave.open(BytesIO(mulaw_to_wav(mulaw_encode(tone(8000, 8000))))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        assert file.getnframes() == 16_000
        assert loudest_hz(file.readframes(16_000), 16_000) == pytest.approx(440, abs=2)
    assert wav_read(mulaw_to_wav(b"\xff" * 80, 8000)) == (bytes(160), 8000)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_of_any_rate_becomes_a_line(rate: int, channels: int) -> None:
    mono = np.frombuffer(tone(rate, rate), "<i2")
    mulaw = wav_to_mulaw(wav_write(np.repeat(mono, channels).tobytes(), rate, channels))
    assert abs(len(mulaw) - 8000) <= 2
    pcm = mulaw_decode(mulaw)
    assert loudest_hz(pcm, 8000) == pytest.approx(440, abs=2)
    assert np.abs(np.frombuffer(pcm, "<i2")).max() == pytest.approx(8230, rel=0.05)


def test_what_is_no_audio_is_false() -> None:
    assert not mulaw_to_wav(b"")
    for wav in (b"", b"no wav", wav_write(bytes(100), 8000)[:-10], wav_write(b"", 8000)):
        assert not wav_to_mulaw(wav)


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(wav_to_mulaw(data), bytes)
    assert bool(mulaw_to_wav(data)) == bool(data)


@given(st.binary(min_size=1, max_size=2000))
def test_there_and_back_through_eight_kilohertz_is_exact(line: bytes) -> None:
    back = wav_to_mulaw(mulaw_to_wav(line, 8000))
    assert mulaw_decode(back) == mulaw_decode(line)


def test_the_payload_of_a_message() -> None:
    chunk = bytes(range(CHUNK_BYTES))
    payload = encode_mulaw_base64(chunk)
    assert isinstance(payload, str)
    assert base64.b64decode(payload) == chunk


@given(st.binary(max_size=400), st.integers(100, 100_000), st.integers(100, 100_000))
def test_a_recording_at_another_rate_lasts_as_long(data: bytes, source: int, target: int) -> None:
    pcm = data[: len(data) // 2 * 2]
    samples = len(pcm) // 2
    assert abs(len(resampled(pcm, source, target)) // 2 - samples * target / source) <= 1 + target / source


@pytest.mark.parametrize("convert", [wav_to_mulaw, mulaw_to_wav])
@pytest.mark.parametrize("given", ["UklGRg==", 5, [1, 300], np.zeros(3)])
def test_what_is_no_bytes_is_no_audio_and_said(convert: Any, given: object, caplog: pytest.LogCaptureFixture) -> None:
    assert convert(given) == b""
    assert f"this is {type(given).__name__}: " in caplog.text


def test_a_payload_that_was_not_decoded_is_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    assert mulaw_to_wav(encode_mulaw_base64(b"\xff" * 160)) == b""  # type: ignore[arg-type]
    assert "decode the base64 of a payload first" in caplog.text


@pytest.mark.parametrize("convert", [wav_to_mulaw, mulaw_to_wav])
def test_nothing_is_no_audio_without_a_word(convert: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert [convert(None), convert(b"")] == [b"", b""]
    assert not caplog.text
