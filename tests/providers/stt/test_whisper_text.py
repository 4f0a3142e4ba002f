"""Names of languages, what of an answer is believed, and answers in pieces: without any endpoint."""

import contextlib

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import ProviderError
from antiphon.languages import load_languages
from antiphon.providers.http import Patience, Waits
from antiphon.providers.stt.whisper_http import Answer, Message, Transcription
from antiphon.providers.stt.whisper_settings import Endpoint
from antiphon.providers.stt.whisper_text import CODES, NAMES, Segment, believed, code_of, confidence, tag_of
from antiphon.secret import Secret


@pytest.mark.parametrize(
    ("said", "expected", "tag"),
    [
        ("hindi", (), "hi-IN"),
        ("Hindi", (), "hi-IN"),
        ("hi", (), "hi-IN"),
        ("english", (), "en-IN"),
        ("english", ("hi-IN", "en-GB"), "en-GB"),
        ("en-US", ("en-IN",), "en-IN"),
        ("French", (), "fr"),
        ("Haitian Creole", (), "ht"),
        ("or", (), "or-IN"),
        ("ga-IE", (), "ga"),
        ("multi", (), ""),
        ("Klingon", (), ""),
        ("", ("en-IN",), ""),
    ],
)
def test_languages_by_name_and_by_code(said: str, expected: tuple[str, ...], tag: str) -> None:
    assert tag_of(said, expected) == tag


def test_the_offered_languages_have_a_name_there_and_back() -> None:
    names = {code: name for name, code in NAMES.items()}
    for tag in load_languages():
        assert tag_of(names[code_of(tag)]) == tag
    assert len(CODES) == 100
    assert code_of("or-IN") == code_of("") == ""


segments = st.builds(
    Segment,
    text=st.text(max_size=20),
    avg_logprob=st.none() | st.floats(allow_nan=True),
    no_speech_prob=st.none() | st.floats(0, 1),
    compression_ratio=st.none() | st.floats(0, 100),
)


@given(st.lists(segments, max_size=6), st.floats(0.1, 1))
def test_whatever_is_said_of_segments_they_are_left_out_or_kept_in_order(found: list[Segment], limit: float) -> None:
    kept = believed(found, limit)
    assert [each for each in found if each in kept] == [each for each in kept if each in found]
    assert 0.0 <= confidence(kept) <= 1.0
    assert confidence(()) == 0.0


@given(st.lists(st.text(max_size=10), max_size=8))
def test_a_transcript_is_the_same_in_whatever_pieces_it_comes(pieces: list[str]) -> None:
    answer = Answer()
    for piece in pieces:
        answer.take(Message(type="transcript.text.delta", delta=piece))
    assert answer.text == "".join(pieces)
    assert not answer.ended
    answer.take(Message(type="transcript.text.done", text="All."))
    assert (answer.text, answer.ended) == ("All.", True)


json = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(Message.__struct_fields__)) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=40) | json.map(msgspec.json.encode))
def test_whatever_an_endpoint_sends_is_a_message_or_a_coded_error(payload: bytes) -> None:
    place = Endpoint(base_url="http://127.0.0.1", model="m", key=Secret("k"), headers={}, hint="")
    patience = Patience(Waits(first_s=1, between_s=1, total_s=1), "whisper", "stt")
    session: aiohttp.ClientSession = None  # type: ignore[assignment]  # nothing is sent
    reader = Transcription(session, place, patience, "whisper")
    with contextlib.suppress(ProviderError):
        Answer().take(reader._decode(payload))
