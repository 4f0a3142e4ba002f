"""The services' wire: whatever comes is within bounds or refused, and a stream is the same however it is cut."""

import asyncio
import base64
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from antiphon.errors import PeerError, ProviderError
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.providers import service_wire as wire
from antiphon.providers.http import Patience, Waits
from antiphon.providers.tts.http import build
from antiphon.runtime.ports import Sound
from antiphon.server.services.listen import _asked

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCORES = st.floats()
PASSAGES = st.lists(st.builds(Passage, TEXTS, TEXTS | st.just("x" * 5000), TEXTS, SCORES, TEXTS), max_size=15)
MESSAGES = st.lists(st.builds(Message, st.sampled_from(["user", "assistant", "system"]), TEXTS), max_size=60)


@given(PASSAGES, st.integers(1, 10))
def test_whatever_a_retriever_finds_is_an_answer_that_the_client_takes(found: list[Passage], limit: int) -> None:
    told = msgspec.json.encode(wire.RetrieveAnswer(wire.found_of(found, limit)))
    taken = wire.passages_of(msgspec.json.decode(told, type=wire.RetrieveAnswer).passages)
    assert len(taken) <= limit
    assert all(first.score >= second.score for first, second in pairwise(taken))
    assert all(each.text.strip() and math.isfinite(each.score) for each in taken)


@given(MESSAGES)
def test_whatever_was_said_is_a_history_that_the_service_takes(history: list[Message]) -> None:
    told = msgspec.json.encode(wire.ClassifyRequest("x", "", wire.lines_of(history)))
    taken = wire.messages_of(msgspec.json.decode(told, type=wire.ClassifyRequest).history)
    said = [each for each in history if each.role != "system"][-wire.MAX_HISTORY :]
    assert [(each.role, each.content) for each in taken] == [(each.role, each.content) for each in said]


@given(st.text(max_size=60))
@example("rate=0080001234")
@example("rate=１６０００")
@example("rate=16000&rate=7")
def test_any_query_is_a_rate_that_there_is_or_refused(query: str) -> None:
    try:
        rate, language = _asked(query)
    except PeerError:
        return
    assert rate in wire.RATES
    assert len(language) <= wire.MAX_TAG


@given(st.binary(max_size=200))
def test_any_bytes_are_an_order_or_no_order(data: bytes) -> None:
    try:
        order = msgspec.json.decode(data, type=wire.ToEar)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert isinstance(order, wire.ToEar)


# -- the sound's stream ----------------------------------------------------------------------------


class Cut:
    """An answer's body that comes in these pieces."""

    content_type = wire.LINES

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = iter([piece for piece in pieces if piece])

    def parameter(self, name: str) -> str:
        return ""

    async def piece(self) -> bytes:
        return next(self._pieces, b"")


def sounds_of(body: bytes, cuts: Sequence[int]) -> list[Sound]:
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    exchange: Any = Cut([body[first:second] for first, second in pairwise(edges)])

    async def main() -> list[Sound]:
        voice = build({"url": "http://x"})
        patience = Patience(Waits(first_s=1, between_s=1, total_s=1), "http", "tts")
        asked = wire.SynthesizeRequest("hello there", "", 8000)
        return [sound async for sound in voice._sounds(exchange, asked, patience)]

    return asyncio.run(main())


LINES = st.lists(
    st.tuples(st.binary(min_size=2, max_size=64), st.lists(st.tuples(st.integers(0, 10), st.integers(0, 50)))),
    min_size=1,
    max_size=5,
)


@settings(max_examples=100, deadline=None)
@given(LINES, st.lists(st.integers(0, 5000), max_size=6), st.booleans())
def test_lines_are_the_same_however_they_are_cut(lines: Any, cuts: list[int], ends: bool) -> None:
    encoded = [json.dumps({"audio": base64.b64encode(pcm).decode(), "words": words}).encode() for pcm, words in lines]
    body = b"\n".join(encoded) + (b"\n" if ends else b"")
    sounds = sounds_of(body, cuts)
    pcm = b"".join(each.pcm for each in sounds)
    assert pcm.rstrip(b"\0") == b"".join(pcm for pcm, _ in lines).rstrip(b"\0")
    assert [(each.pcm, each.words) for each in sounds] == [(each.pcm, each.words) for each in sounds_of(body, [])]
    marks = [mark for each in sounds for mark in each.words]
    assert all(a.char < b.char and a.sample <= b.sample for a, b in pairwise(marks))


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes_are_sound_or_a_coded_error(body: bytes, cuts: list[int]) -> None:
    code = ""
    try:
        sounds_of(body, cuts)
    except ProviderError as error:
        code = error.code
    assert code in {"", "tts.garbage", "tts.empty", "tts.server"}


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    with pytest.raises(ProviderError) as caught:
        sounds_of(b"x" * 3 * wire.MAX_LINE_BYTES, range(0, 3 * wire.MAX_LINE_BYTES, 65_536))
    assert caught.value.code == "tts.too_large"
