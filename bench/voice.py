"""What the callers say: recorded once, kept in ``data/caller.npz`` as mu-law, so that every run sends the same.

``python -m bench.voice`` records it anew with the embedded synthesizer (needs ``antiphon[local]``).
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from antiphon.media.codec import mulaw_decode, mulaw_encode

FILE = Path(__file__).parent / "data" / "caller.npz"
LINES = ("Please send me the list by email.",)
VOICE, RATE_WPM, PITCH = "en-us+f2", 165, 55
"""Chosen out of some five hundred recordings, so that the waits tell servers apart, not words. Whatever came
before, the detector hears its end 0 to 110 ms after its last loud sample, mostly 75, where others vary by up to 170;
and the turn models of both peers are sure that nothing more will come (Smart Turn v3.2 at least 0.95 where it asks
for 0.5, LiveKit's v1-mini 0.52 where it asks for 0.36), where most synthetic voices make them wait for seconds."""
FRAME = 160
Samples = NDArray[np.float64]
NOISE_RMS = 20.0
"""Line noise under everything, about -64 dBFS: a line that is digitally silent would be too easy."""
SPEECH_RMS = 2500.0


class Utterance(msgspec.Struct, frozen=True):
    """20 ms messages' payloads in base64. ``tail_ms`` of the last frame lie after the last sample of speech."""

    frames: tuple[bytes, ...]
    tail_ms: float


def noise_frames(count: int = 50, seed: int = 1) -> tuple[bytes, ...]:
    """Frames of a silent caller's line, base64."""
    noise = np.random.default_rng(seed).normal(0, NOISE_RMS, count * FRAME)
    return _frames(mulaw_encode(noise.astype("<i2").tobytes()))


def utterances(pauses_ms: Sequence[int] = ()) -> tuple[Utterance, ...]:
    """The recorded questions; with ``pauses_ms`` each once for every length, with such a pause where it is quietest."""
    found = []
    with np.load(FILE) as recorded:
        for number in range(len(LINES)):
            speech = np.frombuffer(mulaw_decode(recorded[f"line{number}"].tobytes()), "<i2").astype(np.float64)
            found += [_utterance(_paused(speech, pause), number) for pause in pauses_ms or (0,)]
    return tuple(found)


def _utterance(speech: Samples, number: int) -> Utterance:
    whole = -(-len(speech) // FRAME) * FRAME
    line = np.random.default_rng(number + 2).normal(0, NOISE_RMS, whole)
    line[: len(speech)] += speech
    encoded = mulaw_encode(np.clip(line, -32768, 32767).astype("<i2").tobytes())
    return Utterance(_frames(encoded), (whole - len(speech)) / 8)


def _paused(speech: Samples, pause_ms: int) -> Samples:
    """With a pause between two words: at the quietest 40 ms of the part from 40 to 75 % of it."""
    if not pause_ms:
        return speech
    window = np.ones(2 * FRAME)
    level = np.convolve(speech**2, window, mode="same")
    first, last = int(0.40 * len(speech)), int(0.75 * len(speech))
    at = first + int(np.argmin(level[first:last]))
    return np.concatenate([speech[:at], np.zeros(8 * pause_ms), speech[at:]])


def _frames(encoded: bytes) -> tuple[bytes, ...]:
    return tuple(b64encode(encoded[n : n + FRAME]) for n in range(0, len(encoded), FRAME))


async def _record() -> None:
    from antiphon.providers.tts.espeak import build  # noqa: PLC0415 - only for recording

    voice = build({"rate_wpm": RATE_WPM, "pitch": PITCH})
    await voice.start()
    lines = {}
    for number, text in enumerate(LINES):
        sounds = [s.pcm async for s in voice.synthesize(text, language="en-IN", sample_rate=8000, voice=VOICE)]
        samples = np.frombuffer(b"".join(sounds), "<i2").astype(np.float64)
        samples *= SPEECH_RMS / np.sqrt(np.mean(samples**2))
        loud = np.flatnonzero(np.abs(samples) > 300)
        speech = np.clip(samples[loud[0] : loud[-1] + 1], -32768, 32767).astype("<i2")
        lines[f"line{number}"] = np.frombuffer(mulaw_encode(speech.tobytes()), np.uint8)
    await voice.close()
    np.savez_compressed(FILE, **lines)  # type: ignore[arg-type]


if __name__ == "__main__":
    asyncio.run(_record())
