"""What is read of Sarvam's answers, and what texts, languages and sound become."""

import itertools
import struct

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from antiphon.errors import ProviderError
from antiphon.media.codec import alaw_encode, mulaw_decode, mulaw_encode, wav_write
from antiphon.media.resample import resampled
from antiphon.providers.failures import Failure
from antiphon.providers.sarvam_wire import (
    HeardEvent,
    certainty,
    closing,
    fatal_event,
    heard_events,
    heard_language,
    max_text_chars,
    speech_messages,
    split_text,
    spoken_language,
    standard_tag,
    transcripts,
)
from antiphon.providers.tts.fake import tone
from antiphon.providers.tts.sarvam_audio import SoundDecoder
from antiphon.secret import Secret

PCM = tone(8000, 4000)
TEXT = "नमस्ते। Fees are ₹1,250; apply in June, please! और क्या?\nYes."


# -- texts and languages ------------------------------------------------------------------------


@given(st.text(alphabet=st.sampled_from("ab क।.,! \n₹1"), max_size=400), st.integers(1, 60))
@example("word " * 800, 500)
@example("x" * 100, 7)
def test_a_text_is_split_without_loss(text: str, limit: int) -> None:
    pieces = split_text(text, limit)
    assert all(0 < len(piece) <= limit and piece == piece.strip() for piece in pieces)
    assert all(any(char.isalnum() for char in piece) for piece in pieces)
    kept = [char for char in text if char.isalnum()]
    assert [char for piece in pieces for char in piece if char.isalnum()] == kept


def test_a_text_is_split_where_a_reader_would_pause() -> None:
    assert split_text(TEXT, 100) == [TEXT]
    assert split_text(TEXT, 50) == ["नमस्ते। Fees are ₹1,250; apply in June, please!", "और क्या?\nYes."]
    assert split_text(TEXT, 25) == ["नमस्ते। Fees are ₹1,250;", "apply in June, please!", "और क्या?\nYes."]
    assert split_text("one two three four", 9) == ["one two", "three", "four"]
    assert split_text("1.5 is not. a break", 12) == ["1.5 is not.", "a break"]
    assert (max_text_chars("bulbul:v2"), max_text_chars("bulbul:v3"), max_text_chars("new")) == (1500, 2500, 2500)


@pytest.mark.parametrize(
    ("tag", "heard", "spoken"),
    [
        ("hi-IN", "hi-IN", "hi-IN"),
        ("te", "te-IN", "te-IN"),
        ("EN-us", "en-IN", "en-IN"),
        ("or-IN", "od-IN", "od-IN"),
        ("od", "od-IN", "od-IN"),
        ("kok-IN", "kok-IN", ""),
        ("fr-FR", "", ""),
        ("", "", ""),
        ("not a tag \x00", "", ""),
    ],
)
def test_languages_have_the_vendors_codes(tag: str, heard: str, spoken: str) -> None:
    assert (heard_language(tag), spoken_language(tag)) == (heard, spoken)
    assert heard_language("od-IN", odia="or-IN") == "or-IN"


def test_languages_and_probabilities_of_answers_are_made_sound() -> None:
    assert [standard_tag(code) for code in ("hi-IN", "od-IN", "od", "kok-IN", None, "", "\ud800", "no tag!")] == [
        *("hi-IN", "or-IN", "or", "kok-IN"),
        *("", "", "", ""),
    ]
    assert [certainty(value) for value in (0.5, 1.5, -1.0, None, float("nan"), float("inf"))] == [0.5, 1, 0, 0, 0, 0]


# -- answers ------------------------------------------------------------------------------------


def test_answers_may_hold_more_and_numbers_as_text() -> None:
    event = heard_events.decode(
        b'{"event": "transcript.final", "text": "x", "language_confidence": "0.91", "start_s": {}}'
    )
    assert event == HeardEvent("transcript.final", text="x", language_confidence=0.91)
    message = speech_messages.decode(
        b'{"type": "event", "data": {"event_type": "final", "timestamp": 17, "message": "done"}, "more": [1]}'
    )
    assert message.data.event_type == "final"
    audio = speech_messages.decode(b'{"type": "audio", "data": {"content_type": "audio/wav", "audio": "AQI="}}')
    assert audio.data.audio == b"\x01\x02"
    answer = transcripts.decode(b'{"request_id": null, "transcript": "x", "language_probability": "0.5"}')
    assert (answer.language_code, answer.language_probability) == (None, 0.5)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_what_is_no_answer_is_told_as_such(value: object) -> None:
    for decoder in (heard_events, speech_messages, transcripts):
        with pytest.raises(msgspec.DecodeError):
            decoder.decode(msgspec.json.encode(value))


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (1003, "Rate limit exceeded", "stt.rate_limited"),
        (1003, "Quota exhausted", "stt.quota"),
        (1003, "no credits left", "stt.quota"),
        (1003, "invalid subscription key sk_1", "stt.unauthorized"),
        (1008, "inactivity", "stt.cut"),
        (1011, "", "stt.server"),
        (4000, "beta access denied for sk_1", "stt.bad_request"),
        (0, "", "stt.cut"),
    ],
)
def test_close_codes_are_told_apart(code: int, reason: str, expected: str) -> None:
    error = closing(code, reason, Secret("sk_1"), "sarvam", "stt")
    assert error.code == expected
    assert error.retryable == (expected not in {"stt.quota", "stt.unauthorized", "stt.bad_request"})
    assert "sk_1" not in str(error)


def test_error_messages_are_read_like_http_statuses() -> None:
    def code(said: str, status: int | None = None) -> str:
        return fatal_event(Failure("m", said), status, Secret(""), "sarvam", "tts").code

    assert code("", 403) == code("invalid_api_key_error") == code("403") == "tts.unauthorized"
    assert code("400") == code("", 422) == "tts.bad_request"
    assert code("insufficient_quota_error", 429) == "tts.quota"
    assert code("model_unavailable", 503) == code("") == code("what", 99) == "tts.server"


# -- sound --------------------------------------------------------------------------------------


def decoded(data: bytes, cuts: list[int], codec: str = "linear16", source: int = 8000, target: int = 8000) -> bytes:
    decoder = SoundDecoder(codec, source, target)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[begin:end] for begin, end in itertools.pairwise(edges)]
    return b"".join(decoder.feed(piece, "audio/wav") for piece in pieces if piece) + decoder.end()


@given(st.lists(st.integers(0, 10_000), max_size=6))
def test_sound_may_be_cut_anywhere(cuts: list[int]) -> None:
    assert decoded(PCM, cuts) == PCM
    assert decoded(PCM + b"\x01", cuts) == PCM + b"\x01\x00"
    assert decoded(mulaw_encode(PCM), cuts, "mulaw") == mulaw_decode(mulaw_encode(PCM))
    other = decoded(PCM, cuts, target=16_000)
    assert abs(len(other) - 2 * len(PCM)) <= 4
    assert len(other) % 2 == 0


@pytest.mark.parametrize("cut", [[], [44], [45], [100, 1001]])
def test_a_wav_header_is_taken_off_and_believed(cut: list[int]) -> None:
    assert decoded(wav_write(PCM, 8000), cut) == PCM
    fast = tone(24_000, 12_000)
    made = decoded(wav_write(fast, 24_000), cut)
    assert abs(len(made) - len(resampled(fast, 24_000, 8000))) <= 4
    streamed = wav_write(PCM, 8000)
    streamed = streamed[:40] + b"\xff\xff\xff\xff" + streamed[44:]
    assert decoded(streamed, cut) == PCM
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, 6, 1, 8000, 8000, 1, 8)
    assert len(decoded(head + struct.pack("<4sI", b"data", 0) + alaw_encode(PCM), cut)) == len(PCM)


def test_two_files_in_a_row_are_one_sound() -> None:
    decoder = SoundDecoder("linear16", 8000, 8000)
    half = len(PCM) // 2
    first, second = wav_write(PCM[:half], 8000), wav_write(PCM[half:], 8000)
    assert decoder.feed(first) + decoder.feed(second) + decoder.end() == PCM


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (PCM, "audio/mpeg"),
        (PCM, "text/html; charset=utf-8"),
        (b"ID3\x04rest", ""),
        (b"OggSrest", "audio/linear16"),
        (b"RIFF", ""),
        (wav_write(PCM, 8000, 2), ""),
        (wav_write(PCM, 11_025), ""),
        (b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd", ""),
    ],
)
def test_what_cannot_be_played_is_refused(data: bytes, content_type: str) -> None:
    with pytest.raises(ProviderError, match=r"tts\.garbage"):
        SoundDecoder("linear16", 8000, 8000).feed(data, content_type)
