"""Opus: what goes in comes out again, in time, and nothing a peer sends does harm."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.conformance.voice import made_up_voice
from antiphon.errors import BadFrame, ConfigError, MissingExtra
from antiphon.media.codec import BadAudio
from antiphon.media.resample import resampled
from antiphon.transports.opus import MAX_PACKET_BYTES, PACKET_MS, RATES, OpusDecoder, OpusEncoder


def speech(rate: int) -> bytes:
    return resampled(made_up_voice(), 8_000, rate)


def through(rate: int, pcm: bytes, piece: int) -> tuple[list[bytes], bytes]:
    encoder, decoder = OpusEncoder(rate), OpusDecoder(rate)
    packets = [packet for at in range(0, len(pcm), piece) for packet in encoder.encode(pcm[at : at + piece])]
    packets += encoder.flush()
    return packets, b"".join(decoder.decode(packet) for packet in packets)


def likeness(one: bytes, other: bytes, rate: int) -> tuple[float, int]:
    """The highest correlation of the two, and by how many ms ``other`` is late there."""
    a, b = (np.frombuffer(pcm, "<i2").astype(float) for pcm in (one, other))
    size = 1 << (len(a) + len(b)).bit_length()
    product = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    late = int(np.argmax(product[: rate // 5]))
    length = min(len(a), len(b) - late)
    return float(np.corrcoef(a[:length], b[late : late + length])[0, 1]), late * 1000 // rate


@pytest.mark.parametrize("rate", RATES)
def test_speech_comes_back_as_it_was_and_in_time(rate: int) -> None:
    pcm = speech(rate)
    packets, heard = through(rate, pcm, rate // 50 * 2)
    alike, late_ms = likeness(pcm, heard, rate)
    assert alike > 0.9
    assert late_ms <= 10
    assert len(packets) * PACKET_MS == -(-len(pcm) * 1000 // (2 * rate * PACKET_MS)) * PACKET_MS
    assert 0 <= len(packets) * PACKET_MS - len(heard) * 1000 // (2 * rate) <= 5
    assert sum(map(len, packets)) < len(pcm) / 4


def test_pieces_of_any_length_give_the_same_packets() -> None:
    pcm = speech(16_000)
    assert through(16_000, pcm, 2)[0] == through(16_000, pcm, 16_000)[0]


def test_what_was_cut_off_does_not_begin_what_is_said_next() -> None:
    encoder = OpusEncoder(16_000)
    assert encoder.encode(bytes(638)) == []
    encoder.clear()
    assert encoder.encode(bytes(638)) == []
    assert encoder.flush()
    assert encoder.flush() == []


@pytest.fixture(scope="module")
def decoders() -> Callable[[int], OpusDecoder]:
    made = {rate: OpusDecoder(rate) for rate in RATES}
    return made.__getitem__


@settings(max_examples=150, deadline=None)
@given(packet=st.binary(max_size=2000), rate=st.sampled_from(RATES))
def test_garbage_is_refused_or_decoded_and_never_more(
    decoders: Callable[[int], OpusDecoder], packet: bytes, rate: int
) -> None:
    heard = b""
    with contextlib.suppress(BadFrame):
        heard = decoders(rate).decode(packet)
    assert len(heard) <= 2 * rate * 125 // 1000


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 30), flips=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 255)), min_size=1))
def test_damaged_packets_leave_the_decoder_usable(at: int, flips: list[tuple[int, int]]) -> None:
    packets, clean = through(16_000, speech(16_000), 640)
    decoder = OpusDecoder(16_000)
    damaged = bytearray(packets[at])
    for place, bits in flips:
        damaged[place % len(damaged)] ^= bits
    with contextlib.suppress(BadFrame):
        decoder.decode(bytes(damaged))
    # Damage may sound for a second or so (the codec predicts from what it had), not for ever.
    heard = b"".join(decoder.decode(packet) for packet in packets * 2)
    second = 2 * 16_000
    assert likeness(clean[-second:], heard[-second:], 16_000)[0] > 0.9


def test_bounds() -> None:
    decoder = OpusDecoder(16_000)
    for packet, code in ((b"", "opus.bad_packet"), (bytes(MAX_PACKET_BYTES + 1), "opus.too_large")):
        with pytest.raises(BadFrame) as wrong:
            decoder.decode(packet)
        assert wrong.value.code == code
    encoder = OpusEncoder(16_000)
    for pcm in (b"\0", bytes(2 * 16_000 * 10 + 2)):
        with pytest.raises(BadAudio):
            encoder.encode(pcm)
    for kind in (OpusDecoder, OpusEncoder):
        with pytest.raises(ConfigError, match="8000, 16000, 24000, 48000"):
            kind(44_100)


def test_without_the_library_the_command_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for kind in (OpusDecoder, OpusEncoder):
        with pytest.raises(MissingExtra, match=r"antiphon\[opus\]"):
            kind(16_000)
