"""What conversations add to the metrics: over golden journals, random ones, and some written by hand."""

from __future__ import annotations

from collections import Counter

import golden
import pytest
from calls_by_hand import ANSWERED, BACKCHANNEL, BARGE_IN, PLAYED, Script, journal
from hypothesis import given, settings
from hypothesis import strategies as st
from metering import meter, observations, tally
from random_calls import random_call

from antiphon.kernel import events as ev
from antiphon.kernel.session import Session
from antiphon.kernel.state import Floor
from antiphon.observe.meters import METRICS, SECONDS, Meter
from antiphon.observe.projections import conversation
from antiphon.observe.tallies import OTHER, Metric, Tally, Vocabulary
from antiphon.observe.views import caller_turns

CLOSED: Script = [(9000, ev.CallerHungUp("caller")), (9010, ev.SessionClosed("caller"))]


def silence_of(entries: list[ev.Entry]) -> int:
    """Milliseconds in which the floor was THINKING, counted entry by entry."""
    session, total, since, floor = Session(), 0, 0, Floor.IDLE
    for entry in entries:
        if floor is Floor.THINKING:
            total += entry.at - since
        session.receive(entry.event, entry.at)
        since, floor = entry.at, session.state.floor
    return total


def agrees_with_what_is_shown(entries: list[ev.Entry]) -> None:
    told = tally()
    session = meter(entries, told)
    turns = conversation(entries).turns
    asked = caller_turns(turns)
    kinds = Counter(overlap.kind for turn in turns for overlap in turn.overlaps)
    outcomes = Counter(turn.outcome for turn in asked)
    timed = [turn.latency for turn in asked if turn.latency is not None]
    counted = {
        metric.name: {labels: count for labels, count in counts.items() if count} for metric, counts in told.counters()
    }
    assert counted["turns_total"] == {(outcome,): count for outcome, count in outcomes.items()}
    assert told.count("barge_ins_total") == kinds["barge_in"]
    assert told.count("backchannels_total") == kinds["backchannel"]
    assert told.count("false_interruptions_total") == kinds["noise"]
    total = sum(seconds for _, seconds in observations(told, "turn_first_audio_seconds").values())
    assert total == pytest.approx(sum(latency.total_ms for latency in timed) / 1000)
    parts = sum(seconds for _, seconds in observations(told, "stage_seconds").values())
    assert parts == pytest.approx(total), "the parts of all turns add up to their times"
    if session.state.floor is not Floor.THINKING:
        assert told.count("caller_silence_seconds_total") == pytest.approx(silence_of(entries) / 1000)


@pytest.mark.parametrize("name", sorted(golden.PLANS))
def test_golden_journals_are_counted_as_they_are_shown(name: str) -> None:
    agrees_with_what_is_shown(golden.load(name))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_random_journals_are_counted_as_they_are_shown(seed: int) -> None:
    entries, session = random_call(seed)
    at = session.state.at
    for last in (ev.CallerHungUp("caller"), ev.SessionClosed("caller")):
        entries.append(session.receive(last, at + 5)[0])
    agrees_with_what_is_shown(entries)


def test_an_answered_turn() -> None:
    told = tally()
    meter(journal(ANSWERED + PLAYED + CLOSED), told)
    assert told.count("sessions_total", "twilio") == 1
    assert told.count("sessions_ended_total", "caller") == 1
    assert told.count("turns_total", "answered") == 1
    assert told.count("replies_total", "full") == 1
    assert observations(told, "turn_first_audio_seconds") == {("twilio", "en-IN"): (1, 0.563)}
    assert observations(told, "turn_answer_seconds") == {("twilio", "en-IN"): (1, 0.563)}
    assert observations(told, "stage_seconds") == {
        ("hangover", ""): (1, 0.2),
        ("endpointing", ""): (1, 0.22),
        ("stt", "pocketsphinx"): (1, 0.035),
        ("understanding", ""): (1, 0.025),
        ("first_text", "extractive"): (1, 0.01),
        ("first_segment", "extractive"): (1, 0.001),
        ("synthesis", "espeak"): (1, 0.069),
        ("playout", ""): (1, 0.003),
    }
    assert observations(told, "understanding_seconds") == {
        ("intent", "minilm"): (1, 0.01),
        ("retrieval", "minilm"): (1, 0.025),
    }
    # Confirmed at 2655 ms, heard at 2763: the agent's turn, and nobody speaks.
    assert told.count("caller_silence_seconds_total") == pytest.approx(0.108)


def test_interruptions_and_what_are_none() -> None:
    told = tally()
    meter(journal(ANSWERED + BACKCHANNEL + PLAYED + CLOSED), told)
    assert (told.count("backchannels_total"), told.count("barge_ins_total")) == (1, 0)
    told = tally()
    meter(journal(ANSWERED + BARGE_IN), told)
    assert (told.count("backchannels_total"), told.count("barge_ins_total")) == (0, 1)
    assert told.count("turns_total", "interrupted") == 1
    told = tally()
    meter(golden.load("backchannel-and-cough"), told)
    assert told.count("false_interruptions_total") == 1


def test_who_is_asked_instead_and_why() -> None:
    told = tally()
    began = ANSWERED[:6]
    heard = ev.TranscriptFinal(1, "what are the fees", "en-IN", 0.9, "whisper", because="stt.timeout")
    meter(
        journal(
            [
                *began,
                (2655, heard),
                (2660, ev.PassagesReady(1, (), "minilm")),
                (2670, ev.IntentReady(1, "fees", 0.9, "minilm")),
                (2680, ev.StageRerouted(1, 1, "llm", "openai", "llm.timeout", "openai")),
                (2690, ev.StageRerouted(1, 1, "llm", "openai", "llm.timeout", "gemini")),
                (2700, ev.StageFailed(1, 1, "llm", "llm.failed", "gemini")),
            ]
        ),
        told,
    )
    assert told.count("fallbacks_total", "stt", "first", "whisper", "stt.timeout") == 1
    assert told.count("fallbacks_total", "llm", "openai", "gemini", "llm.timeout") == 1
    assert told.count("retries_total", "llm", "openai", "llm.timeout") == 1
    assert told.count("errors_total", "llm", "llm.failed") == 1
    assert told.count("replies_total", "fallback") == 1


def test_what_was_left_behind() -> None:
    told = tally()
    script = [*ANSWERED[:8], (2775, ev.DeadlineReached("understand")), (2900, ev.PassagesReady(1, (), "minilm"))]
    meter(journal(script), told)
    assert told.count("understanding_late_total", "retrieval") == 1
    assert told.count("understanding_late_total", "intent") == 0


def test_answers_begun_ahead() -> None:
    told = tally()
    for outcome, chars in (("adopted", 40), ("dropped", 25)):
        meter(journal([*ANSWERED[:7], (2660, ev.SpeculationEnded(1, outcome, chars))]), told)
    assert told.count("speculations_total", "adopted") == 1
    assert told.count("speculations_total", "dropped") == 1
    assert told.count("speculation_dropped_characters_total") == 25


def test_a_session_that_nobody_comes_back_to_is_counted_as_expired() -> None:
    """SESSION_TTL_SECONDS (B21): its end is seen in the journal and in the metrics."""
    told = tally()
    meter(golden.load("never-comes-back"), told)
    assert told.count("sessions_ended_total", "expired") == 1
    assert told.count("lines_dropped_total", "line.lost") == 1


def test_a_line_that_we_hung_up_was_not_dropped() -> None:
    told = tally()
    meter(golden.load("agent-says-goodbye"), told)
    assert not any(counts for metric, counts in told.counters() if metric.name == "lines_dropped_total")


# -- bounds ---------------------------------------------------------------------------------------


def test_a_long_call_keeps_nothing_of_what_is_over() -> None:
    session, told = Session(), tally()
    metering = Meter(session, told.add)
    entries, _ = random_call(7, steps=4000)
    for entry in entries:
        metering.note(*session.receive(entry.event, entry.at))
        assert len(metering._turns.turns) <= 3
        assert len(metering._asked) + len(metering._providers) <= 40
        assert not metering._turns.line


def test_names_that_nobody_listed_have_room_for_so_many() -> None:
    words = Vocabulary({"en-IN"}, room=3)
    assert [words.word(each) for each in ("en-IN", "a", "b", "a", "c", "d", "a", "e")] == [
        *("en-IN", "a", "b", "a", "c", OTHER, "a", OTHER)
    ]
    assert words.word("") == ""
    odd = Vocabulary(room=100)
    assert odd.word("x" * 65) == OTHER
    assert odd.word("two\nlines") == OTHER


def test_a_metric_has_room_for_so_many_combinations() -> None:
    made = Tally([Metric("made", "counter", "Made.", ("one", "two"))], {})
    for number in range(2000):
        made.add("made", (str(number % 50), str(number // 50)))
    ((_, counts),) = made.counters()
    assert len(counts) == 501
    assert counts[OTHER, OTHER] == 1500
    assert sum(counts.values()) == 2000, "nothing is lost"


def test_a_histogram_counts_each_observation_in_one_bucket() -> None:
    told = tally()
    for seconds in (0.005, 0.0051, 5.0, 6.0, 0.0):
        told.add("stage_seconds", ("stt", "x"), seconds)
    observed = next(each for metric, each in told.histograms() if metric.name == "stage_seconds")["stt", "x"]
    assert (observed.counts[0], observed.counts[1], observed.counts[-2], observed.counts[-1]) == (2, 1, 1, 1)
    assert sum(observed.counts) == 5
    assert (SECONDS[0], SECONDS[-1]) == (0.005, 5.0)


def test_the_catalogue_is_in_order() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert (metric.kind == "histogram") == bool(metric.buckets) == metric.name.endswith("_seconds"), metric.name
        assert metric.buckets == tuple(sorted(metric.buckets))
        assert not {"session", "call", "caller"} & set(metric.labels), "a label never names a call"
        assert metric.help.endswith(".")
