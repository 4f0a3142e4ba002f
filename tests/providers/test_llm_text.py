"""The pure parts under the chat responder: events, lead-ins, tool calls, error bodies."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import ProviderRefused
from antiphon.providers.failures import SHOWN_CHARS, Failure, error_for, failure, retry_after
from antiphon.providers.llm.leadin import LeadIn
from antiphon.providers.llm.openai_wire import ToolCallDelta
from antiphon.providers.llm.sse import MAX_EVENT_BYTES, EventStream, EventTooLarge
from antiphon.providers.llm.tool_calls import ToolCalls
from antiphon.secret import Secret

PAYLOADS = st.lists(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1), max_size=5
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@settings(max_examples=200)
@given(PAYLOADS, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 10_000), max_size=8))
def test_events_are_the_same_however_their_bytes_are_cut(payloads: list[str], end: bytes, cuts: list[int]) -> None:
    data = b"".join(b": ping" + end + b"data: " + each.encode() + end + end for each in payloads)
    stream = EventStream()
    found = [payload for piece in pieces(data, cuts) for payload in stream.feed(piece)] + stream.end()
    assert [payload.decode() for payload in found] == payloads


def test_events_of_several_lines_without_a_space_or_an_end() -> None:
    stream = EventStream()
    assert stream.feed(b"event: x\nid: 1\ndata:a\ndata: b\n\ndata") == [b"a\nb"]
    assert stream.feed(b": c") == []
    assert stream.end() == [b"c"]
    assert stream.end() == []


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_any_bytes_at_all_are_taken(data: bytes, cuts: list[int]) -> None:
    stream = EventStream()
    for piece in pieces(data, cuts):
        stream.feed(piece)
    stream.end()


def test_an_event_is_bounded_as_a_line_and_as_many() -> None:
    with pytest.raises(EventTooLarge):
        EventStream().feed(b"data: " + b"x" * MAX_EVENT_BYTES)
    stream = EventStream()
    with pytest.raises(EventTooLarge):  # noqa: PT012 - which of them is too much does not matter
        for _ in range(20):
            stream.feed(b"data: " + b"x" * 65_536 + b"\n")


@settings(max_examples=200)
@given(
    st.sampled_from(["", "<think>so ... </thin> they</think>\n\n", "\n<think></think>"]),
    st.sampled_from(
        [("", "Hello there."), ("You need ", "You need a degree."), ("You need", "a degree"), ("<b", "<t> x")]
    ),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_a_lead_in_is_never_spoken(thought: str, said_and_answer: tuple[str, str], cuts: list[int]) -> None:
    said, answer = said_and_answer
    lead = LeadIn(said)
    text = (thought + answer).encode()
    heard = "".join(lead.feed(piece.decode()) for piece in pieces(text, cuts)) + lead.end()
    expected = answer.removeprefix(said.strip()) if said and answer.startswith(said.strip()) else answer
    assert heard == expected


def test_a_thought_without_an_end_is_not_spoken_and_not_kept() -> None:
    lead = LeadIn()
    assert [lead.feed("<think>") for _ in range(1)] == [""]
    for _ in range(1000):
        assert lead.feed("thinking and thinking ") == ""
    assert lead.thinking
    assert len(lead._held) < 50
    assert lead.end() == ""


def test_tool_calls_are_told_apart_by_index_or_by_id() -> None:
    calls = ToolCalls()
    calls.feed([ToolCallDelta(id="a"), ToolCallDelta(id="b"), ToolCallDelta(id=""), ToolCallDelta(id="b")])
    assert [call.id for call in calls.done()] == ["a", "b"]
    calls = ToolCalls()
    calls.feed([ToolCallDelta(index=1), ToolCallDelta(index=0), ToolCallDelta(index=1, id="x")])
    assert [call.id for call in calls.done()] == ["x", "call_1"]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "-2"}, 0.0),
        ({"retry-after-ms": "250", "Retry-After": "2"}, 0.25),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT"}, 10.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=1_445_412_480.0) == seconds


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "m", "code": "c", "type": "t"}}, "m"),
        ({"error": "m"}, "m"),
        ([{"error": {"message": "m", "code": 400}}], "m"),
        ({"detail": "m"}, "m"),
        ({"detail": {"type": "validation_error", "code": "c", "message": "m"}}, "m"),
        ([], ""),
        ("m", "m"),
    ],
)
def test_error_bodies_in_all_their_shapes(body: object, message: str) -> None:
    assert failure(json.dumps(body).encode()).message == message


@pytest.mark.parametrize("bare", [True, False])
def test_of_a_key_in_a_long_message_not_even_its_beginning_is_shown(bare: bool) -> None:
    key = Secret("sk-" + "K" * 40)
    text = "x" * (SHOWN_CHARS - 20) + key.reveal() + " is not permitted " + "y" * 300
    said = failure(text.encode() if bare else {"error": {"message": text}}).without(key)
    assert said.message.startswith("x" * (SHOWN_CHARS - 20) + "*** is")
    assert len(said.message) == SHOWN_CHARS
    assert "sk-" not in str(error_for(500, said, "p", "llm"))


def test_sarvams_errors_as_documented() -> None:
    assert error_for(403, Failure("x", "invalid_api_key_error"), "p", "llm").code == "llm.unauthorized"
    assert error_for(429, Failure("x", "insufficient_quota_error"), "p", "llm").code == "llm.quota"
    assert error_for(503, Failure("x", "rate_limit_exceeded_error"), "p", "llm", 2.0).retry_after_s == 2.0
    assert isinstance(error_for(422, Failure("x", "unprocessable_entity_error"), "p", "llm"), ProviderRefused)
    assert error_for(0, Failure("x", "429 resource_exhausted"), "p", "llm").code == "llm.rate_limited"


def test_geminis_errors_as_documented() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    wrong = failure({"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT", "details": [info]}})
    assert error_for(400, wrong, "p", "llm").code == "llm.unauthorized"
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "46.5s"}
    busy = failure({"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": [retry, 1]}})
    error = error_for(429, busy.without(Secret("key")), "p", "llm")
    assert (error.code, error.retry_after_s) == ("llm.rate_limited", 46.5)
    assert error_for(429, busy, "p", "llm", 1.0).retry_after_s == 1.0


def test_elevenlabs_errors_as_documented() -> None:
    spent = failure({"detail": {"status": "quota_exceeded", "message": "m"}})
    assert error_for(401, spent, "p", "tts").code == "tts.quota"
    wrong = failure({"detail": {"type": "authentication_error", "code": "invalid_api_key", "message": "m"}})
    assert error_for(401, wrong, "p", "tts").code == "tts.unauthorized"
    many = failure({"detail": {"type": "rate_limit_error", "code": "concurrent_limit_exceeded", "message": "m"}})
    assert error_for(429, many, "p", "tts").code == "tts.rate_limited"
