"""Whatever comes on /orchestrate: the line does not raise, and does not grow."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from orchestrate_fakes import Rig, fragment

from antiphon.transports.orchestrate_messages import ERRORS, KNOWN
from antiphon.transports.twilio_settings import LineLimits

_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    ["type", "session_id", "text", "is_final", "timestamp", "confidence", "digit", "name", "language"]
)
_NEARLY = st.builds(
    lambda kind, rest: {**rest, "type": kind},
    st.sampled_from(KNOWN) | st.text(max_size=5),
    st.dictionaries(_FIELDS, _JSON | st.sampled_from(["s1", "1", True]), max_size=5),
)


def _damaged(message: dict[str, Any], at: int) -> bytes:
    """With a byte that no UTF-8 has, wherever it may fall."""
    data = bytearray(json.dumps(message).encode())
    data[at % len(data)] = 0xFF
    return bytes(data)


_FRAMES = st.lists(
    st.one_of(
        _NEARLY.map(lambda message: ("text", json.dumps(message).encode())),
        st.builds(_damaged, _NEARLY, st.integers(0)).map(lambda data: ("text", data)),
        st.integers(0, 5_000).map(lambda deep: ("text", b'{"type":"end","x":' + b"[" * deep)),
        st.binary(max_size=200).map(lambda data: ("text", data)),
        st.binary(max_size=2000).map(lambda data: ("binary", data)),
        st.floats(0, 400).map(lambda seconds: ("time", seconds)),
        st.sampled_from([("lose", 0), ("choke", 0), ("free", 0), ("send", 0)]),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(_FRAMES, st.sampled_from(["session_id=s1", "session_id=s1&audio=base64&marks=1", "session_id=s1&audio=none"]))
def test_nothing_raises_and_the_end_is_told_once(frames: list[tuple[str, Any]], query: str) -> None:
    rig = Rig(query, limits=LineLimits(bad_messages=5))
    for kind, what in frames:
        match kind:
            case "text":
                rig.raw(what)
            case "binary":
                rig.give(what)
            case "time":
                rig.sweep.pass_time(what)
            case "lose":
                rig.lose()
            case "choke":
                rig.line.pause_writing()
            case "free":
                rig.line.resume_writing()
            case "send":
                rig.line.send(b"\x00\x00")
    told = [entry[0] for entry in rig.log]
    ends = [name for name in told if name in ("hangup", "dropped")]
    assert len(ends) <= 1
    assert not ends or told[-1] in ("hangup", "dropped"), "nothing behind the end"
    assert set(rig.line.stats.dropped) <= {*ERRORS, "line.flood", "media.unsent"}, (
        "codes are a small set, whatever the peer makes up"
    )


def test_a_million_bytes_of_words_leave_nothing_behind() -> None:
    rig = Rig(limits=LineLimits(burst_ms=10_000_000, flood_ms=10_000_000))
    rig.call.log = _Forgetful()
    before = _size(rig)
    for number in range(300):
        rig.give(fragment(f"{number} " * 800, number % 2 == 0))
    assert _size(rig) <= before + 200


class _Forgetful(list[Any]):
    def append(self, _: Any) -> None:
        """Nothing is kept: what the line itself keeps is looked at."""


def _size(rig: Rig) -> int:
    slots = {name: value for name, value in vars(rig.line).items() if not name.startswith(("_switch", "_sweep"))}
    return len(repr(slots))
