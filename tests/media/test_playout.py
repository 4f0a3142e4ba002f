"""The playout buffer, case by case. The far end that judges it as a whole is in test_playout_machine."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import AntiphonError, ConfigError
from antiphon.media.codec import BadAudio
from antiphon.media.playout import MARK_GRACE_MS, MAX_SEGMENTS, Edge, HeardUpTo, Playout
from antiphon.media.reel import heard_chars


def ms(count: int, value: int = 0x11) -> bytes:
    return bytes([value]) * (8 * count)


def playing(**options: object) -> Playout:
    playout = Playout(**options)  # type: ignore[arg-type]
    playout.begin(1)
    return playout


def run(
    playout: Playout, start: float, until: float
) -> tuple[list[tuple[float, bytes | str]], list[tuple[float, Edge]]]:
    """Pulls whenever it is due."""
    sent: list[tuple[float, bytes | str]] = []
    edges: list[tuple[float, Edge]] = []
    now = start
    while (due := playout.due(now)) is not None and due <= until:
        now = due
        out, happened = playout.pull(now)
        again = playout.due(now)
        assert again is None or again > now, "pull at the time that was due must make progress"
        sent += [(now, item) for item in out]
        edges += [(now, edge) for edge in happened]
    return sent, edges


def audio_of(sent: list[tuple[float, bytes | str]]) -> list[tuple[float, bytes]]:
    return [(at, item) for at, item in sent if isinstance(item, bytes)]


# -- pacing ---------------------------------------------------------------------------------------


def test_the_lead_is_sent_at_once_then_one_message_every_20_ms_without_drift() -> None:
    """Rows A63 and X29: 160-byte messages, paced by a clock and not by sleeps."""
    playout = playing()
    assert playout.add(1, 0, ms(10_000))
    sent, _ = run(playout, 1000.25, 9000)
    times = [at for at, _ in sent]
    assert times[:6] == [1000.25] * 6
    assert times[6:] == [1000.25 + 20 * n for n in range(1, len(times) - 5)]
    assert {len(item) for _, item in sent} == {160}


def test_after_a_late_call_it_catches_up_but_not_beyond_the_lead() -> None:
    playout = playing()
    playout.add(1, 0, ms(10_000))
    assert len(playout.pull(0)[0]) == 6
    assert len(playout.pull(50)[0]) == 2
    assert playout.pull(50)[0] == []
    assert len(playout.pull(60)[0]) == 1
    assert len(playout.pull(5000)[0]) == 6


def test_other_message_lengths_and_codecs() -> None:
    playout = playing(codec="pcm16", sample_rate=24_000, message_ms=100, lead_ms=200, marks=False)
    playout.add(1, 0, b"\1\2" * 24_000)
    sent, _ = run(playout, 0, 300)
    assert [(at, len(item)) for at, item in sent] == [(0, 4800), (0, 4800), (100, 4800), (200, 4800), (300, 4800)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"message_ms": 0},
        {"sample_rate": 11_025},
        {"sample_rate": 0},
        {"lead_ms": 10},
        {"max_ms": 100},
        {"codec": "opus"},
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Playout(**wrong)  # type: ignore[arg-type]


def test_a_lead_of_one_message_still_moves() -> None:
    playout = playing(lead_ms=20, marks=False)
    playout.add(1, 0, ms(50))
    sent, _ = run(playout, 0, 100)
    assert [(at, len(item)) for at, item in sent] == [(0, 160), (20, 160), (40, 80)]


# -- segments and messages ------------------------------------------------------------------------


def test_messages_run_across_segments_and_each_edge_comes_with_its_sample() -> None:
    playout = playing()
    playout.add(1, 0, ms(30, 0xA0))
    playout.end_segment(1, 0, "one")
    playout.add(1, 1, ms(30, 0xA1))
    playout.end_segment(1, 1, "two")
    playout.end(1)
    out, edges = playout.pull(0)
    assert out == [ms(20, 0xA0), ms(10, 0xA0) + ms(10, 0xA1), "1.0.0", ms(20, 0xA1), "1.1.0"]
    assert edges == [Edge("started", 1, 0), Edge("started", 1, 1)]
    assert playout.on_mark("1.0.0", 45) == [Edge("played", 1, 0)]
    assert playout.on_mark("1.1.0", 65) == [Edge("played", 1, 1), Edge("finished", 1)]
    assert playout.turn == -1
    assert playout.due(65) is None


def test_the_end_of_a_segment_waits_for_the_next_until_the_line_would_run_dry() -> None:
    playout = playing()
    playout.add(1, 0, ms(110, 0xA0))
    playout.end_segment(1, 0, "one")
    sent, _ = run(playout, 0, 79)
    assert [len(item) for _, item in audio_of(sent)] == [160] * 5
    assert playout.due(79) == 80
    out, _ = playout.pull(80)
    assert out == [ms(10, 0xA0) + ms(10, 0xFF), "1.0.0"]


def test_if_more_comes_in_time_nothing_is_padded() -> None:
    playout = playing()
    playout.add(1, 0, ms(110, 0xA0))
    playout.end_segment(1, 0, "one")
    run(playout, 0, 79)
    playout.add(1, 1, ms(30, 0xA1))
    assert playout.pull(79)[0] == [ms(10, 0xA0) + ms(10, 0xA1), "1.0.0", ms(20, 0xA1)]


def test_an_open_segment_is_sent_to_its_last_byte_when_the_line_would_run_dry() -> None:
    playout = playing()
    playout.add(1, 0, ms(25))
    assert playout.pull(0)[0] == [ms(20), ms(5)]
    assert playout.due(0) == 25
    assert playout.pull(25) == ([], [Edge("starved", 1)])
    assert playout.due(25) is None
    # Ended late, its mark is sent alone.
    playout.end_segment(1, 0, "one")
    assert playout.due(30) == 30
    assert playout.pull(30) == (["1.0.0"], [])


def test_what_is_refused() -> None:
    playout = Playout()
    assert not playout.add(-1, 0, ms(20))
    assert not playout.add(1, 0, ms(20))
    playout.begin(1)
    assert not playout.add(2, 0, ms(20))
    assert not playout.add(1, -1, ms(20))
    assert playout.add(1, 5, ms(20))
    assert not playout.add(1, 4, ms(20)), "a later one has begun"
    assert playout.end_segment(1, 5, "five")
    assert playout.end_segment(1, 5, "five")
    assert not playout.add(1, 5, ms(20)), "it is ended"
    assert not playout.end_segment(1, 3, "three"), "never seen, and too late"
    assert not playout.end_segment(2, 5, "five")
    assert playout.add(1, 6, ms(20))
    playout.end(2)
    playout.end(1)
    assert playout.add(1, 6, ms(20)), "the last one may still go on"
    assert not playout.add(1, 7, ms(20)), "the turn is ended"
    assert not playout.end_segment(1, 7, "seven")
    assert playout.abandon(2, 0) == []
    with pytest.raises(BadAudio):
        playing(codec="pcm16").add(1, 0, b"\0")


def test_a_segment_without_audio_is_skipped() -> None:
    playout = playing(marks=False)
    assert playout.end_segment(1, 0, "nothing")
    assert playout.add(1, 1, b"", [(0, 0)])
    assert playout.end_segment(1, 1, "nothing either")
    assert playout.add(1, 2, b"", [(0, 0)])
    assert playout.add(1, 3, ms(20))
    playout.end_segment(1, 3, "three")
    assert playout.end_segment(1, 4, "nothing")
    playout.end(1)
    _, edges = run(playout, 0, 1000)
    assert [edge for _, edge in edges] == [Edge("started", 1, 3), Edge("played", 1, 3), Edge("finished", 1)]


def test_a_turn_with_nothing_to_say_finishes() -> None:
    playout = playing()
    assert playout.due(0) is None
    playout.end(1)
    assert run(playout, 7, 100) == ([], [(7, Edge("finished", 1))])


def test_what_waits_is_bounded() -> None:
    playout = playing(max_ms=1000)
    assert not playout.add(1, 0, ms(1001))
    assert playout.add(1, 0, ms(1000))
    assert not playout.add(1, 0, ms(1))
    playout.pull(0)
    assert playout.add(1, 0, ms(120))
    assert not playout.add(1, 0, ms(1))
    many = playing()
    assert all(many.add(1, segment, ms(1)) for segment in range(MAX_SEGMENTS))
    assert not many.add(1, MAX_SEGMENTS, ms(1))
    for segment in range(MAX_SEGMENTS, 2 * MAX_SEGMENTS):
        many.describe(1, segment, "text")
    with pytest.raises(AntiphonError) as caught:
        many.describe(1, 2 * MAX_SEGMENTS, "text")
    assert caught.value.code == "media.playout_full"


def test_heard_audio_is_let_go_of() -> None:
    """An hour of one segment, fed as it plays, keeps seconds."""
    playout = playing(max_ms=1000)
    most = 0
    for step in range(36_000):
        assert playout.add(1, 0, ms(100))
        for late in range(0, 100, 20):
            playout.pull(step * 100 + late)
        most = max(most, len(playout._reel.audio))
    assert most <= 8 * 6000


# -- edges ----------------------------------------------------------------------------------------


def test_without_marks_the_estimate_tells_what_was_played() -> None:
    playout = playing(marks=False)
    playout.add(1, 0, ms(50))
    playout.end_segment(1, 0, "one")
    playout.add(1, 1, ms(47))
    playout.end_segment(1, 1, "two")
    playout.end(1)
    sent, edges = run(playout, 0, 1000)
    assert all(isinstance(item, bytes) for _, item in sent)
    assert edges == [
        (0, Edge("started", 1, 0)),
        (0, Edge("started", 1, 1)),
        (50, Edge("played", 1, 0)),
        (97, Edge("played", 1, 1)),
        (100, Edge("finished", 1)),
    ]


def test_a_mark_that_never_comes_is_given_up_after_its_grace() -> None:
    playout = playing()
    playout.add(1, 0, ms(40))
    playout.end_segment(1, 0, "one")
    playout.end(1)
    _, edges = run(playout, 0, 10_000)
    assert edges == [
        (0, Edge("started", 1, 0)),
        (40 + MARK_GRACE_MS, Edge("played", 1, 0)),
        (40 + MARK_GRACE_MS, Edge("finished", 1)),
    ]
    assert playout.on_mark("1.0.0", 3000) == []


def test_a_later_mark_vouches_for_earlier_segments() -> None:
    playout = playing()
    for segment in range(3):
        playout.add(1, segment, ms(20))
        playout.end_segment(1, segment, "text")
    playout.pull(0)
    assert playout.on_mark("1.1.0", 50) == [Edge("played", 1, 0), Edge("played", 1, 1)]
    assert playout.on_mark("1.0.0", 51) == []
    assert playout.on_mark("no such mark", 51) == []


def test_starved_once_per_dry_spell_and_not_before_speech_nor_after_the_end() -> None:
    playout = playing()
    assert playout.pull(0) == ([], [])
    playout.add(1, 0, ms(20))
    assert run(playout, 0, 500)[1] == [(0, Edge("started", 1, 0)), (20, Edge("starved", 1))]
    playout.add(1, 0, ms(20))
    assert run(playout, 600, 1000)[1] == [(620, Edge("starved", 1))]
    playout.end_segment(1, 0, "text")
    playout.end(1)
    playout.pull(1000)
    assert playout.on_mark("1.0.0", 1010) == [Edge("played", 1, 0), Edge("finished", 1)]


def test_begin_opens_the_same_turn_again_and_drops_an_older_one() -> None:
    playout = playing(marks=False)
    playout.add(1, 0, ms(20))
    playout.end_segment(1, 0, "one")
    playout.end(1)
    run(playout, 0, 100)
    assert playout.turn == -1
    assert playout.heard_ms(100) == 20
    playout.begin(1)
    assert playout.add(1, 1, ms(500))
    playout.pull(100)
    playout.begin(2)
    assert playout.turn == 2
    assert playout.add(2, 0, ms(500))
    # What the older turn has on the line comes first, and is none of this turn's.
    assert playout.pull(160)[0] == [ms(20)] * 3
    assert playout.heard_ms(200) == 0
    assert playout.heard_ms(230) == 10


# -- interrupting ---------------------------------------------------------------------------------


def test_pause_puts_back_to_the_exact_sample() -> None:
    playout = playing()
    audio = bytes(range(1, 251)) * 20
    playout.add(1, 0, audio)
    first = b"".join(item for _, item in audio_of(run(playout, 0, 99)[0]))
    assert playout.pause(100.125)
    assert playout.paused
    assert not playout.pause(100.125)
    assert playout.heard_ms(100.125) == 100.125
    assert playout.heard_ms(900) == 100.125
    assert playout.due(100.125) is None
    assert playout.pull(300) == ([], [])
    playout.resume(400)
    again = b"".join(item for _, item in audio_of(run(playout, 400, 450)[0]))
    assert first[:801] + again == audio[: 801 + len(again)]


@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 10**8).map(lambda tenths: tenths * 0.1), heard=st.integers(0, 900))
def test_a_clock_with_float_noise_moves_no_cut_and_stops_no_message(start: float, heard: int) -> None:
    playout = playing(marks=False)
    audio = bytes(range(1, 251)) * 16  # 500 ms
    playout.add(1, 0, audio)
    playout.end_segment(1, 0, "text")
    playout.end(1)
    sent, _ = run(playout, start, start + heard / 8)
    assert playout.pause(start + heard / 8)
    playout.resume(start + 500)
    first = b"".join(item for _, item in audio_of(sent))
    rest, edges = run(playout, start + 500, start + 2000)
    assert (first[:heard] + b"".join(item for _, item in audio_of(rest))).rstrip(b"\xff") == audio
    assert [edge for _, edge in edges if edge.kind != "started"] == [Edge("played", 1, 0), Edge("finished", 1)]
    # Time is counted in messages, so noise does not add up.
    paces = [late - early for (early, _), (late, _) in itertools.pairwise(rest[6:])]
    assert all(pace == pytest.approx(20, abs=0.05) for pace in paces)


def test_a_pause_longer_than_any_grace_plays_nothing() -> None:
    playout = playing()
    playout.add(1, 0, ms(60))
    playout.end_segment(1, 0, "one")
    playout.pull(0)
    assert playout.pause(10)
    assert playout.due(10) is None
    assert playout.pull(60_000) == ([], [])


def test_a_pause_in_the_last_moment_ends_with_the_turn() -> None:
    playout = playing(marks=False)
    playout.add(1, 0, ms(60))
    playout.end_segment(1, 0, "one")
    playout.end(1)
    playout.pull(0)
    playout.pause(60)
    assert playout.pull(60)[1] == [Edge("played", 1, 0), Edge("finished", 1)]
    assert not playout.paused


def test_pause_when_all_was_heard_needs_no_clear() -> None:
    playout = playing()
    playout.add(1, 0, ms(40))
    playout.end_segment(1, 0, "one")
    playout.pull(0)
    assert not playout.pause(40)
    assert playout.paused
    # The mark is still good.
    assert playout.on_mark("1.0.0", 90) == [Edge("played", 1, 0)]
    assert not Playout().pause(0)


def test_marks_thrown_back_by_a_clear_are_not_believed() -> None:
    playout = playing()
    playout.add(1, 0, ms(60))
    playout.end_segment(1, 0, "one")
    playout.add(1, 1, ms(60))
    playout.end_segment(1, 1, "two")
    out, _ = playout.pull(0)
    assert [item for item in out if isinstance(item, str)] == ["1.0.0", "1.1.0"]
    # The first was heard, by the estimate; its mark and the second's come back together.
    assert playout.pause(70)
    assert playout.due(70) == 70
    assert playout.pull(70) == ([], [Edge("played", 1, 0)])
    assert playout.on_mark("1.0.0", 80) == []
    assert playout.on_mark("1.1.0", 80) == []
    playout.resume(100)
    out, edges = playout.pull(100)
    assert edges == [], "a segment starts once"
    assert out == [ms(20), ms(20)]
    # 50 ms were left of the second; its last 10 wait for more until the line would run dry.
    assert run(playout, 100, 120)[0] == [(120, ms(10) + ms(10, 0xFF)), (120, "1.1.1")]


def test_cancel_tells_what_was_heard_and_whether_to_clear() -> None:
    playout = playing()
    playout.add(1, 0, ms(100))
    playout.end_segment(1, 0, "First sentence.")
    playout.add(1, 1, ms(100))
    playout.end_segment(1, 1, "one two three four")
    run(playout, 0, 150)
    assert playout.cancel(2, 150) == (HeardUpTo(-1, 0), False)
    assert playout.cancel(1, 150) == (HeardUpTo(1, len("one two")), True)
    assert playout.turn == -1
    assert playout.cancel(1, 150) == (HeardUpTo(-1, 0), False)
    assert playout.on_mark("1.0.0", 160) == []
    assert not playout.add(1, 1, ms(20))


def test_cancel_before_anything_was_heard() -> None:
    playout = playing()
    playout.add(1, 0, ms(100))
    assert playout.cancel(1, 0) == (HeardUpTo(-1, 0), False)
    playout.begin(2)
    playout.add(2, 0, ms(100))
    playout.pull(0)
    assert playout.cancel(2, 0) == (HeardUpTo(-1, 0), True)


def test_cancel_after_all_was_heard() -> None:
    playout = playing(marks=False)
    playout.add(1, 0, ms(100))
    playout.end_segment(1, 0, "All of it.")
    playout.end(1)
    run(playout, 0, 1000)
    assert playout.cancel(1, 1000) == (HeardUpTo(0, len("All of it.")), False)


def test_cancel_clears_while_a_mark_is_out() -> None:
    """The far end may be behind; silence costs nothing."""
    playout = playing()
    playout.add(1, 0, ms(100))
    playout.end_segment(1, 0, "All of it.")
    run(playout, 0, 500)
    assert playout.cancel(1, 500) == (HeardUpTo(0, len("All of it.")), True)


def test_abandon_keeps_what_was_begun() -> None:
    playout = playing()
    for segment in range(4):
        playout.add(1, segment, ms(80, 0xA0 + segment))
        playout.describe(1, segment, f"segment {segment}")
    playout.describe(1, 4, "segment 4")
    playout.describe(1, 9, "segment 9")
    playout.end(1)
    out, _ = playout.pull(0)
    assert out[-1] == ms(20, 0xA1)
    assert playout.abandon(1, 1) == [2, 3, 4, 9]
    assert not playout.add(1, 1, ms(20)), "it is ended with what it has"
    assert playout.add(1, 2, ms(400, 0xB2)), "the numbers may be used again"
    sent, _ = run(playout, 0, 600)
    assert b"".join(item for _, item in audio_of(sent)) == ms(40, 0xA1) + ms(400, 0xB2)
    assert [item for _, item in sent if isinstance(item, str)] == ["1.1.0"]


def test_abandon_ends_the_segment_that_is_being_made() -> None:
    playout = playing()
    playout.add(1, 3, ms(300))
    playout.pull(0)
    assert playout.abandon(1, 3) == []
    assert not playout.add(1, 3, ms(20))
    playout.end(1)
    assert [edge for _, edge in run(playout, 0, 5000)[1]] == [Edge("played", 1, 3), Edge("finished", 1)]


def test_abandon_spares_what_was_put_back() -> None:
    playout = playing()
    for segment in range(3):
        playout.add(1, segment, ms(60))
    playout.pull(0)
    assert playout.pause(10)
    # Segment 1 was sent, though nobody heard it: it has started.
    assert playout.abandon(1, 1) == [2]


# -- a far end that is not where the model has it -------------------------------------------------


def test_a_far_end_that_fell_behind_is_noticed_by_its_marks() -> None:
    playout = playing()
    for segment in range(4):
        playout.add(1, segment, ms(1000))
        playout.end_segment(1, segment, "text")
    run(playout, 0, 1049)
    playout.on_mark("1.0.0", 1050)  # a round trip of 50 ms
    assert playout.heard_ms(1100) == 1100
    run(playout, 1050, 2349)
    playout.on_mark("1.1.0", 2350)  # 300 ms later than that
    assert playout.heard_ms(2350) == 2050
    # It goes on sending at the pace of the clock all the same.
    assert playout.pull(2360)[0]
    run(playout, 2360, 3059)
    playout.on_mark("1.2.0", 3060)  # it has caught up
    assert playout.heard_ms(3060) == 3060


def test_a_mark_that_was_sent_late_is_not_late() -> None:
    playout = playing()
    playout.add(1, 0, ms(100))
    run(playout, 0, 1000)
    playout.end_segment(1, 0, "its end was long in coming")
    assert playout.pull(2000)[0] == ["1.0.0"]
    playout.on_mark("1.0.0", 2010)  # a round trip of 10 ms
    playout.add(1, 1, ms(1000))
    playout.end_segment(1, 1, "text")
    run(playout, 3000, 3950)
    playout.add(1, 2, ms(1000))
    run(playout, 3950, 4099)
    playout.on_mark("1.1.0", 4100)
    assert playout.heard_ms(4100) == 1110


def test_a_far_end_that_is_ahead_is_believed() -> None:
    playout = playing()
    playout.add(1, 0, ms(100))
    playout.end_segment(1, 0, "text")
    playout.add(1, 1, ms(1000))
    playout.pull(0)
    assert playout.on_mark("1.0.0", 90) == [Edge("played", 1, 0)]
    assert playout.heard_ms(90) == 100
    assert playout.heard_ms(95) == 105


def test_lag_is_made_up_when_the_line_runs_dry() -> None:
    playout = playing()
    for segment in range(2):
        playout.add(1, segment, ms(100))
        playout.end_segment(1, segment, "text")
    run(playout, 0, 119)
    playout.on_mark("1.0.0", 100)  # a round trip of nothing
    run(playout, 119, 400)
    playout.on_mark("1.1.0", 300)  # 100 ms behind
    playout.add(1, 2, ms(500))
    playout.pull(600)
    assert playout.heard_ms(650) == 250


# -- characters -----------------------------------------------------------------------------------

TEXT = "You also need a language certificate."


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        (0, ""),
        (29, ""),
        (30, ""),
        (350, "You also"),
        (370, "You also need"),
        (600, "You also need a"),
        (999, "You also need a language"),
    ],
)
def test_without_words_characters_are_proportional(heard: int, said: str) -> None:
    assert TEXT[: heard_chars(TEXT, (), heard, 1000)] == said


@pytest.mark.parametrize(
    ("heard", "said"),
    [(0, ""), (99, ""), (100, "You"), (299, "You also"), (300, "You also need"), (5000, "You also need a")],
)
def test_with_words_a_word_ends_where_the_next_begins(heard: int, said: str) -> None:
    words = [(0, 0), (4, 100), (9, 200), (14, 300), (16, 400)]
    assert TEXT[: heard_chars(TEXT, words, heard, 6000)] == said
    assert TEXT[: heard_chars(TEXT, words[::-1], heard, 6000)] == said


def test_words_of_several_pieces_count_from_the_start_of_the_segment() -> None:
    playout = playing()
    playout.describe(1, 0, "one two three")
    playout.add(1, 0, ms(50), [(0, 0), (4, 200)])
    playout.add(1, 0, ms(50), [(8, 500)])
    playout.pull(0)
    assert playout.cancel(1, 63) == (HeardUpTo(0, len("one two")), True)


def test_of_a_segment_still_being_made_not_more_is_claimed_than_can_have_been_said() -> None:
    playout = playing()
    text = "a rather long sentence of which only the beginning was made so far"
    playout.add(1, 0, ms(100))
    playout.describe(1, 0, text)
    playout.pull(0)
    heard, _ = playout.cancel(1, 100)
    assert heard.segment == 0
    assert heard.chars <= 8


def test_the_pace_of_earlier_segments_measures_a_later_one() -> None:
    def chars(pace: int) -> int:
        playout = playing(marks=False)
        text = "word " * 8
        for segment in range(12):
            playout.add(1, segment, ms(pace * len(text)))
            playout.end_segment(1, segment, text)
        total = 12 * pace * len(text)
        playout.add(1, 12, ms(500))
        playout.describe(1, 12, text)
        run(playout, 0, total + 500)
        return playout.cancel(1, total + 500)[0].chars

    assert chars(30) > chars(70) > chars(150)


def test_the_pace_outlives_the_turn() -> None:
    def chars(pace: int) -> int:
        playout = playing(marks=False)
        for segment in range(12):
            playout.add(1, segment, ms(pace * 40))
            playout.end_segment(1, segment, "word " * 8)
        playout.begin(2)
        playout.add(2, 0, ms(500))
        playout.describe(2, 0, "word " * 8)
        run(playout, 0, 500)
        return playout.cancel(2, 500)[0].chars

    assert chars(30) > chars(150)


def test_a_segment_whose_voice_failed_ends_with_the_words_it_has() -> None:
    text = "one two three four five"
    playout = playing(marks=False)
    assert playout.cut_tail(1) is None
    playout.add(1, 0, ms(300), [(0, 0), (4, 800), (8, 1600)])
    playout.describe(1, 0, text)
    assert playout.cut_tail(1) is None, "nothing of it was sent: it can be dropped"
    playout.pull(0)
    assert playout.cut_tail(2) is None
    assert playout.cut_tail(1) == HeardUpTo(0, len("one two"))
    assert playout.cut_tail(1) is None
    assert not playout.add(1, 0, ms(20))
    playout.end(1)
    _, edges = run(playout, 0, 1000)
    assert [edge.kind for _, edge in edges] == ["played", "finished"]
    assert playout.cancel(1, 1000) == (HeardUpTo(0, len("one two")), False)


def test_a_segment_that_a_pause_put_back_whole_is_cut_all_the_same() -> None:
    playout = playing()
    playout.add(1, 0, ms(300))
    playout.describe(1, 0, "one two three four five")
    playout.pull(0)
    assert playout.pause(0)
    assert playout.cut_tail(1) == HeardUpTo(0, 3)
    playout.end(1)
    playout.resume(100)
    assert [edge.kind for _, edge in run(playout, 100, 5000)[1]] == ["played", "finished"]


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet="ab \n।ి", max_size=40),
    words=st.lists(st.tuples(st.integers(-5, 60), st.integers(-5, 2000)), max_size=8),
    heard=st.integers(0, 2000),
    total=st.integers(0, 2000),
)
def test_heard_characters_are_a_prefix_that_grows(
    text: str, words: list[tuple[int, int]], heard: int, total: int
) -> None:
    words = [(char, sample) for char, sample in sorted(words) if char >= 0]
    chars = heard_chars(text, words, heard, total)
    assert 0 <= chars <= len(text)
    assert text[:chars] == text[:chars].rstrip()
    if not words:
        assert chars <= heard_chars(text, words, heard + 50, total)
        assert chars == 0 or chars == len(text) or text[chars].isspace()
