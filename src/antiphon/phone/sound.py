"""WAV files of calls: a caller's lines in, a stereo recording out."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import soxr

from antiphon.errors import ConfigError
from antiphon.media.codec import mulaw_decode
from antiphon.phone.farend import RATE, SILENCE

MAX_WAV_S = 600


def read_wav(path: str | Path) -> bytes:
    """A PCM WAV of 8, 16, 24 or 32 bits, any rate and channels, as PCM at 8000 Hz. Raises ``ConfigError``."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            if file.getnframes() > MAX_WAV_S * rate:
                raise ConfigError(f"{path} is longer than {MAX_WAV_S} s", code="phone.wav")
            data = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise ConfigError(f"{path} cannot be read as a WAV file: {error}", code="phone.wav") from error
    if not data or not channels or not rate:
        raise ConfigError(f"{path} holds no sound", code="phone.wav")
    mono = _samples(data[: len(data) - len(data) % (width * channels)], width).reshape(-1, channels).mean(axis=1)
    if rate != RATE:
        mono = soxr.resample(mono, rate, RATE)
    pcm: bytes = np.clip(np.rint(mono * 32768), -32768, 32767).astype("<i2").tobytes()
    return pcm


def _samples(data: bytes, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    if width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return wide.view("<i4").ravel().astype(np.float64) / 2**31
    return np.frombuffer(data, f"<i{width}").astype(np.float64) / float(2 ** (8 * width - 1))


def write_stereo(path: str | Path, caller: bytes, agent: bytes) -> None:
    """Both mu-law channels as a 16-bit stereo WAV at 8000 Hz: caller left, agent right, in step."""
    length = max(len(caller), len(agent))
    both = np.empty((length, 2), "<i2")
    for column, mulaw in enumerate((caller, agent)):
        both[:, column] = np.frombuffer(mulaw_decode(mulaw + bytes([SILENCE]) * (length - len(mulaw))), "<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(both.tobytes())
