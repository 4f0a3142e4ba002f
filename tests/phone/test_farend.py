"""The far end: real-time playing, marks and clear, as Twilio documents them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.phone.farend import FarEnd


def test_audio_is_heard_from_when_it_arrives_or_behind_what_waits():
    far = FarEnd()
    far.receive(b"a" * 160, now=1000)
    far.receive(b"b" * 160, now=1040)
    far.receive(b"c" * 160, now=5000)
    assert far.heard(990, 1010) == b"\xff" * 10 + b"a" * 10
    assert far.heard(1150, 1330) == b"a" * 10 + b"b" * 160 + b"\xff" * 10
    assert far.heard(4990, 5010) == b"\xff" * 10 + b"c" * 10
    assert far.waiting(5000) == 160
    assert far.waiting(9000) == 0


def test_marks_come_back_when_the_audio_before_them_was_played():
    far = FarEnd()
    assert far.mark("none waits", 0) == ["none waits"]
    far.receive(b"a" * 160, now=0)
    assert far.mark("one", 0) == []
    far.receive(b"a" * 160, now=0)
    assert far.mark("two", 0) == []
    assert far.passed(159) == []
    assert far.passed(160) == ["one"]
    assert far.passed(160) == []
    assert far.passed(400) == ["two"]
    assert far.mark("nothing waits again", 500) == ["nothing waits again"]


def test_clear_drops_what_was_not_heard_and_returns_the_marks():
    far = FarEnd()
    far.receive(b"a" * 800, now=0)
    far.mark("one", 0)
    far.receive(b"b" * 800, now=0)
    far.mark("two", 0)
    assert far.clear(300) == ["one", "two"]
    assert far.heard(0, 1000) == b"a" * 300 + b"\xff" * 700
    assert far.passed(5000) == []
    far.receive(b"c" * 10, now=400)
    assert far.heard(395, 415) == b"\xff" * 5 + b"c" * 10 + b"\xff" * 5
    assert far.clear(9000) == []


steps = st.lists(
    st.tuples(st.sampled_from(["receive", "mark", "clear", "play"]), st.integers(0, 500), st.integers(1, 400)),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_every_mark_comes_back_once_in_order_and_nothing_unheard_is_kept(plan: list[tuple[str, int, int]]):
    far, now = FarEnd(), 0
    given_names: list[str] = []
    back: list[str] = []
    heard_before: bytes = b""
    for what, wait, size in plan:
        now += wait
        back += far.passed(now)
        assert far.heard(0, len(heard_before)) == heard_before, "what was heard does not change"
        if what == "receive":
            far.receive(b"x" * size, now)
        elif what == "mark":
            given_names.append(str(len(given_names)))
            back += far.mark(given_names[-1], now)
        elif what == "clear":
            back += far.clear(now)
            assert far.waiting(now) == 0
            assert back == given_names
        heard_before = far.heard(0, now)
        assert back == given_names[: len(back)]
    back += far.passed(now + 40 * 400)
    assert back == given_names
    assert far.marks_returned == len(given_names)
