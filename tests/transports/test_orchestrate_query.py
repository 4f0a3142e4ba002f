"""What a socket on /orchestrate asks for: the query, its defaults and its refusals."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import PeerError
from antiphon.transports.orchestrate_settings import EVENTS, RATES, Asked, read_query


def test_the_least_and_the_most() -> None:
    assert read_query("session_id=test_001") == Asked(session="test_001")
    assert read_query(
        "session_id=a%3Ab&audio=base64&codec=opus&rate=48000&events=state,floor&greet=1&language=hi-IN&marks=1"
    ) == Asked(
        session="a:b",
        audio="base64",
        codec="opus",
        rate=48_000,
        events=frozenset({"state", "floor"}),
        greet=True,
        language="hi-IN",
        marks=True,
    )
    assert read_query("events=all").events == frozenset(EVENTS)
    assert read_query("events=").events == frozenset()


def test_who_names_no_session_gets_a_new_one() -> None:
    one, other = read_query("").session, read_query("audio=none").session
    assert uuid.UUID(one).version == 4
    assert one != other


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("session_id=", "session_id must be"),
        ("session_id=a/b", "session_id must be"),
        ("session_id=" + "a" * 256, "session_id must be"),
        ("session_id=a&session_id=b", "twice"),
        ("audio=loud", "audio must be one of binary, base64, none"),
        ("codec=mp3", "codec must be one of pcm16, opus"),
        ("rate=44100", "rate must be one of 8000, 16000, 24000, 48000"),
        ("rate=016000", "rate must be"),
        ("events=state,moods", "events must be one of state"),
        ("greet=yes", "greet must be one of 0, 1"),
        ("marks=", "marks must be one of 0, 1"),
        ("language=english", "BCP 47"),
        ("language=te-IN", "language must be one of en-IN, hi-IN"),
        ("volume=11", "no such field; it has session_id, audio"),
        ("&".join(f"a{n}=1" for n in range(30)), "cannot be read"),
        ("session_id=%ff", "cannot be read"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_is_allowed(query: str, told: str) -> None:
    with pytest.raises(PeerError, match=told) as caught:
        read_query(query, ("en-IN", "hi-IN"))
    assert caught.value.code == "orchestrate.bad_query"


@given(st.text(max_size=200) | st.lists(st.text(alphabet="sesion_dau=&%0f8", max_size=30)).map("&".join))
def test_no_query_does_more_than_be_read_or_refused(query: str) -> None:
    try:
        asked = read_query(query)
    except PeerError:
        return
    assert 1 <= len(asked.session) <= 255
    assert asked.rate in RATES
