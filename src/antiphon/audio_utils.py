"""Between a telephone line and speech services: mu-law of 8 kHz to WAV and back (A64 to A66).

For servers of your own. Nothing here raises for bad audio: what cannot be converted is empty, which is false.
"""

from __future__ import annotations

import logging
from binascii import b2a_base64

from antiphon.media.codec import BadAudio, mulaw_decode, mulaw_encode, wav_read, wav_write
from antiphon.media.resample import resampled

LINE_RATE = 8_000
"""Hz, of the telephone line."""
SPEECH_RATE = 16_000
"""Hz, what speech recognisers take."""
CHUNK_BYTES = 160
"""20 ms of mu-law: what goes into one message to Twilio."""

log = logging.getLogger("antiphon.audio")


def mulaw_to_wav(mulaw_bytes: bytes, sample_rate: int = SPEECH_RATE) -> bytes:
    """mu-law of 8000 Hz as a WAV of 16-bit mono at ``sample_rate`` Hz; empty for no audio."""
    mulaw = _as_bytes(mulaw_bytes)
    return wav_write(resampled(mulaw_decode(mulaw), LINE_RATE, sample_rate), sample_rate) if mulaw else b""


def wav_to_mulaw(wav: bytes) -> bytes:
    """A WAV of any rate, mono or not, as mu-law of 8000 Hz mono; empty, with a warning in the log, for what is none."""
    data = _as_bytes(wav)
    if not data:
        return b""
    try:
        pcm, rate = wav_read(data)
    except BadAudio as error:
        log.warning("no mu-law was made: %s", error)
        return b""
    return mulaw_encode(resampled(pcm, rate, LINE_RATE))


def encode_mulaw_base64(chunk: bytes) -> str:
    """Audio as the ``payload`` of a Twilio ``media`` message."""
    return b2a_base64(chunk, newline=False).decode("ascii")


def _as_bytes(audio: object) -> bytes:
    """Nothing, with a warning, for what is no bytes; None is no audio."""
    if isinstance(audio, bytes | bytearray | memoryview):
        return bytes(audio)
    if audio is not None:
        advice = "decode the base64 of a payload first" if isinstance(audio, str) else "give bytes"
        log.warning("no audio was converted: this is %s: %s", type(audio).__name__, advice)
    return b""
