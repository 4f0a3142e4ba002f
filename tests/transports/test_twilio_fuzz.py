"""Whatever a peer sends: nothing raises, and nothing ends the call before the documented quota."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from picows import WSMsgType
from twilio_fakes import STREAM, Rig, media

from antiphon.transports.sequence import UNUSABLE_AFTER, SequenceWindow

KINDS = [WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
field_names = st.sampled_from(
    ["event", "media", "payload", "track", "streamSid", "sequenceNumber", "start", "mark", "name", "dtmf", "digit"]
)
near_messages = st.builds(
    lambda event, fields: json.dumps({**fields, "event": event}).encode(),
    st.sampled_from(["connected", "media", "mark", "dtmf", "zzz"]) | json_values,
    st.dictionaries(field_names, json_values | st.dictionaries(field_names, json_values, max_size=3), max_size=5),
)


def broken(message: dict[str, Any], at: int, byte: int, cut: int) -> bytes:
    data = bytearray(json.dumps(message).encode())
    data[at % len(data)] = byte
    return bytes(data[: len(data) - cut % len(data)])


messages = st.sampled_from([media(0), {"event": "mark", "mark": {"name": "a mark"}}])
"""In the strings of each a byte that no UTF-8 has is another code than in its audio."""
no_utf8 = st.just(0xFF) | st.integers(0, 255)
damaged = st.builds(broken, messages, st.integers(0), no_utf8, st.integers(0, 30))
deep = st.integers(0, 5_000).map(lambda levels: b'{"event":"stop","x":' + b"[" * levels)
anything = st.binary(max_size=300) | near_messages | damaged | deep


@settings(max_examples=200, deadline=None)
@given(before=st.lists(anything, max_size=5), after=st.lists(anything, max_size=25))
def test_no_bytes_raise_or_end_the_call_within_the_quota(before: list[bytes], after: list[bytes]):
    rig = Rig().give(*before).begin()
    assert rig.switchboard.calls, "the call began in spite of what came before"
    rig.give(*after, media(0, b"\x07" * 160))
    assert rig.socket.closed is None
    assert rig.call.audio[-1] == b"\x07" * 160
    assert not any(kind in ("dropped", "hangup") for kind, _ in rig.call.log)
    stats = rig.line.stats
    assert stats.messages == len(before) + len(after) + 3
    assert sum(stats.dropped.values()) <= len(before) + len(after)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.booleans(), st.binary(max_size=125)), max_size=200))
def test_no_frames_raise_and_a_closed_line_stays_closed(frames: list[tuple[WSMsgType, bool, bytes]]):
    rig = Rig().begin()
    for kind, fin, payload in frames:
        rig.give(payload, kind=kind, fin=fin)
    rig.sweep.pass_time(5)
    closed = rig.socket.closed
    rig.give(media(0))
    rig.lose()
    if closed:
        assert rig.socket.closed == closed
    assert rig.call.log[-1][0] == "dropped"
    assert sum(kind == "dropped" for kind, _ in rig.call.log) == 1


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 8), st.integers(1, 60))
def test_what_is_shuffled_within_the_window_comes_out_in_order(data: st.DataObject, limit: int, count: int):
    pending = list(range(1, count + 1))
    sent: list[int] = []
    while pending:
        at = data.draw(st.integers(0, min(limit, len(pending) - 1)))
        sent.append(pending.pop(at if limit >= _displaced(pending, sent) else 0))
    window: SequenceWindow[int] = SequenceWindow(limit)
    window.expected = 1
    out: list[int] = []
    for number in sent:
        out += window.offer(number, number) or []
        assert len(window.held) <= limit
    assert out == list(range(1, count + 1))


def _displaced(pending: list[int], sent: list[int]) -> int:
    """How many messages were already sent ahead of the first that is missing, and one more."""
    return 1 + sum(number > pending[0] for number in sent)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(-3, 40), max_size=120), st.integers(1, 8))
def test_any_numbers_are_released_at_most_once_and_in_order_until_found_unusable(numbers: list[int], limit: int):
    window: SequenceWindow[tuple[int, int]] = SequenceWindow(limit)
    out: list[tuple[int, int]] = []
    for at, number in enumerate(numbers):
        if window.unusable:
            break
        ready = window.offer(number, (number, at))
        if not window.unusable:
            out += ready or []
        assert len(window.held) <= limit
    numbered = [number for number, _ in out if number > 0]
    assert numbered == sorted(set(numbered))
    assert window.unusable is False or len(numbers) >= UNUSABLE_AFTER


def test_a_stream_id_with_quotes_stays_one_json_string():
    odd = 'MZ"\\\n' + STREAM
    rig = Rig().give({"event": "start", "start": {"streamSid": odd, "callSid": "c"}})
    rig.line.send(b"abc")
    rig.line.clear()
    assert [message["streamSid"] for message in rig.socket.sent] == [odd, odd]
