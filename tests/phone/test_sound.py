"""WAV in and out, and writing down what was heard."""

import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest
from scripted_agent import mulaw, tone

from antiphon.errors import ConfigError
from antiphon.phone.sound import read_wav, write_stereo
from antiphon.phone.transcribe import transcribe_reply
from antiphon.providers import registry


def saved(path: Path, data: bytes, *, width: int = 2, rate: int = 8000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return path


def samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(int)


def test_every_width_reads_as_the_same_sound(tmp_path: Path):
    wanted = samples(tone(200))
    raw = tone(200)
    wide = np.frombuffer(raw, "<i2").astype(np.int64)
    encoded = {
        1: ((wide >> 8) + 128).astype(np.uint8).tobytes(),
        2: raw,
        3: b"".join(int(s << 8).to_bytes(3, "little", signed=True) for s in wide.tolist()),
        4: (wide << 16).astype("<i4").tobytes(),
    }
    for width, data in encoded.items():
        got = samples(read_wav(saved(tmp_path / f"{width}.wav", data, width=width)))
        assert np.abs(got - wanted).max() <= (256 if width == 1 else 1), width


def test_rates_and_channels_become_8000_hz_mono(tmp_path: Path):
    at = np.arange(48_000 // 2) / 48_000
    one = (np.sin(2 * np.pi * 440 * at) * 8000).astype("<i2")
    both = np.repeat(one[:, None], 2, axis=1).tobytes()
    got = samples(read_wav(saved(tmp_path / "s.wav", both, rate=48_000, channels=2)))
    wanted = samples(tone(500))
    middle = slice(400, 3600)
    assert len(got) == pytest.approx(len(wanted), abs=2)
    assert np.abs(got[middle] - wanted[middle]).max() < 100


@pytest.mark.parametrize("data", [b"", b"RIFF", b"not a wav at all" * 10])
def test_what_is_no_wav_is_refused(tmp_path: Path, data: bytes):
    (tmp_path / "x.wav").write_bytes(data)
    with pytest.raises(ConfigError, match=r"phone\.wav"):
        read_wav(tmp_path / "x.wav")
    with pytest.raises(ConfigError, match=r"phone\.wav"):
        read_wav(saved(tmp_path / "empty.wav", b""))


def test_a_recording_is_stereo_and_as_long_as_the_longer_side(tmp_path: Path):
    write_stereo(tmp_path / "r.wav", mulaw(tone(100)), b"\xff" * 80 + mulaw(tone(100)))
    with wave.open(str(tmp_path / "r.wav")) as file:
        assert (file.getnchannels(), file.getnframes()) == (2, 880)
        both = np.frombuffer(file.readframes(880), "<i2").reshape(-1, 2)
    assert np.array_equal(both[:800, 0], both[80:, 1])
    assert not both[800:, 0].any()


def test_a_reply_is_written_down():
    async def main() -> list[str]:
        fake = registry.load("stt", "fake", {"text": "you need a degree"})
        async with transcribe_reply(fake, "en-IN") as transcribe:
            return [await transcribe(tone(300)), await transcribe(b"")]

    assert asyncio.run(main()) == ["you need a degree", ""]


def test_a_transcriber_that_fails_gives_no_text():
    async def main() -> str:
        fake = registry.load("stt", "fake", {"fail_every": 1})
        async with transcribe_reply(fake, "en-IN") as transcribe:
            return await transcribe(tone(300))

    assert asyncio.run(main()) == ""
