"""Latency, interruption and talking over, from channels laid out by hand."""

import pytest
from scripted_agent import mulaw, tone

from antiphon.phone.ear import Ear, voiced_span
from antiphon.phone.measure import Spoken, measure
from antiphon.phone.report import CallReport, TurnReport, percentiles

MS = 8


def channel(*pieces: tuple[int, int]) -> bytes:
    """Tone from begin to end, ms each."""
    track = bytearray()
    for begin, end in pieces:
        track += b"\xff" * (begin * MS - len(track)) + mulaw(tone(end - begin))
    return bytes(track)


def line(begin: int, end: int, *, barged_in: bool = False) -> Spoken:
    spoken = Spoken("say", "words", begin * MS, end * MS)
    spoken.barged_in = barged_in
    return spoken


def test_latency_is_from_the_last_voiced_to_the_first_audible_sample():
    turn = measure(1, line(0, 1000), None, channel((1450, 2450)))
    assert turn.latency_ms == pytest.approx(450, abs=1)
    assert turn.reply_ms == pytest.approx(1000, abs=2)
    assert turn.reply_began_ms == pytest.approx(1450, abs=1)
    assert (turn.answered, turn.talked_over, turn.interrupted) == (True, False, False)
    assert len(turn.audio) == pytest.approx(16000, abs=50)


def test_no_reply():
    turn = measure(1, line(0, 1000), None, channel((0, 500)) + b"\xff" * 20_000)
    assert (turn.answered, turn.latency_ms, turn.reply_ms, turn.audio) == (False, None, 0, b"")


def test_a_reply_belongs_to_the_line_before_it():
    agent = channel((1500, 2000), (4400, 5000))
    first = measure(1, line(0, 1000), line(3000, 4000), agent)
    second = measure(2, line(3000, 4000), None, agent)
    assert first.reply_ms == pytest.approx(500, abs=2)
    assert second.latency_ms == pytest.approx(400, abs=1)


def test_an_interruption():
    agent = channel((1400, 2850), (4300, 4800))
    first = measure(1, line(0, 1000), line(2600, 3800, barged_in=True), agent)
    second = measure(2, line(2600, 3800, barged_in=True), None, agent)
    assert first.interrupted
    assert second.stopped_ms == pytest.approx(250, abs=2)
    assert second.latency_ms == pytest.approx(500, abs=1)
    assert not second.talked_over


def test_a_barge_in_after_the_agent_was_done_interrupts_nothing():
    agent = channel((1400, 2000), (4300, 4800))
    assert not measure(1, line(0, 1000), line(2600, 3800, barged_in=True), agent).interrupted
    assert measure(2, line(2600, 3800, barged_in=True), None, agent).stopped_ms is None


def test_an_agent_that_does_not_stop_talks_over():
    turn = measure(2, line(2000, 3000, barged_in=True), None, channel((1000, 5000)))
    assert (turn.talked_over, turn.latency_ms, turn.answered) == (True, None, True)


def test_a_tail_that_ends_just_after_the_caller_is_not_the_reply():
    agent = channel((500, 2100), (2900, 3500))
    turn = measure(2, line(1600, 2000, barged_in=True), None, agent)
    assert turn.latency_ms == pytest.approx(900, abs=1)
    assert not turn.talked_over
    alone = measure(2, line(1600, 2000, barged_in=True), None, channel((500, 2100)))
    assert (alone.answered, alone.talked_over) == (False, False)


def test_the_greeting_has_no_latency():
    turn = measure(0, Spoken("greeting"), line(3000, 3500), channel((200, 1200)))
    assert (turn.answered, turn.latency_ms) == (True, None)
    assert turn.reply_ms == pytest.approx(1000, abs=2)


def test_the_longest_gap_of_a_reply():
    turn = measure(1, line(0, 100), None, channel((300, 600), (900, 1200), (1300, 1500)))
    assert turn.longest_gap_ms == pytest.approx(300, abs=2)


def test_what_is_audible():
    assert voiced_span(b"\xff" * 800) is None
    assert voiced_span(mulaw(tone(100, level=300))) is None
    begin, end = voiced_span(b"\xff" * 80 + mulaw(tone(100)) + b"\xff" * 80) or (0, 0)
    assert begin == pytest.approx(80, abs=4)
    assert end == pytest.approx(880, abs=4)


def test_an_ear_listens_anew_only_after_a_pause():
    ear = Ear()
    ear.hear(mulaw(tone(20)), 0)
    ear.listen_anew(160)
    ear.hear(mulaw(tone(20)), 160)
    assert ear.first_audible == -1
    ear.hear(mulaw(tone(20)), 160 + 1800)
    assert ear.first_audible == pytest.approx(1960, abs=4)
    ear.listen_anew(9000)
    ear.hear(mulaw(tone(20)), 9100)
    assert ear.first_audible == pytest.approx(9100, abs=4)


def test_percentiles_are_nearest_rank():
    assert percentiles([]) == {"count": 0}
    assert percentiles([5.0]) == {"count": 1, "p50": 5.0, "p90": 5.0, "p99": 5.0, "max": 5.0}
    assert percentiles(range(1, 101)) == {"count": 100, "p50": 50, "p90": 90, "p99": 99, "max": 100}


def test_a_clear_silences_the_agent_for_the_line_that_barged_in():
    spoken = TurnReport(index=2, began_ms=2600, ended_ms=3800, barged_in=True)
    unheard = TurnReport(index=3, began_ms=9000, ended_ms=9900, barged_in=True)
    waited = TurnReport(index=1, began_ms=500, ended_ms=900)
    report = CallReport(
        call_id="c", url="u", turns=[waited, spoken, unheard], cleared_ms=[700.0, 2735.5, 2900.0, 8999.0]
    )
    assert report.silenced_ms == [135.5]
    assert report.clears == 4
