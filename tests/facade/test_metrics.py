"""``MetricsCollector``: averages, success rate, report, bounds."""

from __future__ import annotations

import dataclasses
import itertools
import time

import pytest

from antiphon.facade import metrics as module
from orchestrator import MetricsCollector, TurnMetrics


def test_a_turn_is_recorded_with_its_total_and_its_time() -> None:
    collector = MetricsCollector()
    before = time.time()
    collector.record_turn(1.2, 0.8, 1.0, "te-IN")
    (turn,) = collector.turn_metrics
    assert turn.total_latency == pytest.approx(3.0)
    assert before <= turn.timestamp <= time.time()
    assert dataclasses.asdict(turn)["language"] == "te-IN"


def test_turn_metrics_have_a_time_by_themselves() -> None:
    before = time.time()
    first = TurnMetrics(1.0, 2.0, 3.0, 6.0, "en-IN")
    second = TurnMetrics(1.0, 2.0, 3.0, 6.0, "en-IN", timestamp=5.0)
    assert before <= first.timestamp <= time.time()
    assert second.timestamp == 5.0


def test_averages() -> None:
    collector = MetricsCollector()
    assert collector.get_average_latencies() == {"stt": 0.0, "llm": 0.0, "tts": 0.0, "total": 0.0}
    collector.record_turn(1.0, 0.5, 0.2, "en-IN")
    collector.record_turn(2.0, 1.5, 0.4, "hi-IN")
    assert collector.get_average_latencies() == pytest.approx({"stt": 1.5, "llm": 1.0, "tts": 0.3, "total": 2.8})


def test_every_record_is_one_turn() -> None:
    collector = MetricsCollector()
    assert collector.get_success_rate() == 1.0
    collector.record_turn(1, 1, 1, "en-IN")
    collector.record_failure("stt")
    assert collector.get_success_rate() == 0.5
    collector.record_failure("tts", "hi-IN", stt_time=1.0)
    assert collector.get_success_rate() == pytest.approx(1 / 3)
    assert collector.get_average_latencies()["total"] == 3.0, "failed turns are not averaged"
    collector.reset()
    assert (collector.turn_metrics, collector.failures, collector.get_success_rate()) == ([], [], 1.0)


def test_the_report() -> None:
    clock = itertools.count().__next__
    collector = MetricsCollector(clock=clock)
    assert collector.generate_report().endswith("no turns yet")
    collector.record_turn(1.2, 0.8, 1.0, "te-IN")
    collector.record_turn(0.4, 0.3, 0.1, "en-IN")
    collector.record_failure("llm", "te-IN", stt_time=0.9)
    report = collector.generate_report()
    assert report.splitlines() == [
        "language  stage  turns  p50 ms  p95 ms",
        "--------------------------------------",
        "te-IN     stt        2     900    1200",
        "          llm        1     800     800",
        "          tts        1    1000    1000",
        "          total      1    3000    3000",
        "--------------------------------------",
        "en-IN     stt        1     400     400",
        "          llm        1     300     300",
        "          tts        1     100     100",
        "          total      1     800     800",
        "--------------------------------------",
        "all       stt        3     900    1200",
        "          llm        2     300     800",
        "          tts        2     100    1000",
        "          total      2     800    3000",
        "--------------------------------------",
        "success rate:",
        "  te-IN  1 of 2 turns answered (50 %)",
        "  en-IN  1 of 1 turns answered (100 %)",
        "  all    2 of 3 turns answered (67 %)",
    ]


def test_the_oldest_turns_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TURNS", 4)
    collector = MetricsCollector(clock=itertools.count().__next__)
    collector.record_failure("stt")
    for number in range(1, 6):
        collector.record_turn(number, 0, 0, "en-IN")
    assert [turn.stt_latency for turn in collector.turn_metrics] == [2, 3, 4, 5]
    assert collector.failures == []
    for _ in range(5):
        collector.record_failure("stt")
    assert (collector.turn_metrics, len(collector.failures)) == ([], 4)
