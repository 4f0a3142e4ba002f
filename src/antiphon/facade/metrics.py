"""How long turns took and how many were answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from antiphon.observe.report import TimedTurn, latency_report

MAX_TURNS = 10_000
"""Remembered; the oldest go. Averages, report and success rate are over these."""


@dataclass
class TurnMetrics:
    """One turn that was answered. Latencies in seconds, ``timestamp`` in seconds since 1970."""

    stt_latency: float
    llm_latency: float
    tts_latency: float
    total_latency: float
    language: str
    timestamp: float = field(default_factory=time.time)


@dataclass
class TurnFailure:
    """One turn that was not: ``stage`` is where it ended. Times of the stages before it, seconds; 0: not reached."""

    stage: str
    language: str = ""
    stt_latency: float = 0.0
    llm_latency: float = 0.0
    tts_latency: float = 0.0
    timestamp: float = field(default_factory=time.time)


class MetricsCollector:
    """Every turn is recorded once: by ``record_turn`` if it was answered in speech, else by ``record_failure``.

    One collector may serve any number of orchestrators on one event loop. ``clock`` gives the time of day.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.turn_metrics: list[TurnMetrics] = []
        self.failures: list[TurnFailure] = []
        self._clock = clock

    def record_turn(self, stt_time: float, llm_time: float, tts_time: float, language: str) -> None:
        """A turn that was answered; its total is the sum. Seconds."""
        total = stt_time + llm_time + tts_time
        self.turn_metrics.append(TurnMetrics(stt_time, llm_time, tts_time, total, language, self._clock()))
        self._forget_the_oldest()

    def record_failure(
        self, stage: str, language: str = "", *, stt_time: float = 0.0, llm_time: float = 0.0, tts_time: float = 0.0
    ) -> None:
        """A turn that ended at ``stage`` (stt, llm; tts: answered in text only). Seconds."""
        self.failures.append(TurnFailure(stage, language, stt_time, llm_time, tts_time, self._clock()))
        self._forget_the_oldest()

    def get_average_latencies(self) -> dict[str, float]:
        """``stt``, ``llm``, ``tts`` and ``total`` of the answered turns in seconds; zeros before the first."""
        turns = self.turn_metrics
        count = len(turns) or 1
        return {
            "stt": sum(turn.stt_latency for turn in turns) / count,
            "llm": sum(turn.llm_latency for turn in turns) / count,
            "tts": sum(turn.tts_latency for turn in turns) / count,
            "total": sum(turn.total_latency for turn in turns) / count,
        }

    def get_success_rate(self) -> float:
        """Answered turns of all turns, 0..1; 1 before the first, since nothing has failed."""
        turns = len(self.turn_metrics) + len(self.failures)
        return len(self.turn_metrics) / turns if turns else 1.0

    def generate_report(self) -> str:
        """A table for people: median and 95th percentile per language and stage, and how many turns were answered."""
        answered = [(turn.timestamp, _timed(turn, turn.total_latency)) for turn in self.turn_metrics]
        failed = [(turn.timestamp, _timed(turn)) for turn in self.failures]
        return latency_report([row for _, row in sorted(answered + failed, key=lambda each: each[0])])

    def reset(self) -> None:
        """Forgets every turn."""
        self.turn_metrics.clear()
        self.failures.clear()

    def _forget_the_oldest(self) -> None:
        turns, failures = self.turn_metrics, self.failures
        if len(turns) + len(failures) <= MAX_TURNS:
            return
        if not failures or (turns and turns[0].timestamp <= failures[0].timestamp):
            del turns[0]
        else:
            del failures[0]


def _timed(turn: TurnMetrics | TurnFailure, total: float | None = None) -> TimedTurn:
    """A turn for the report, in milliseconds. Without a ``total`` it was not answered, and a stage of 0 not reached."""
    seconds = {"stt": turn.stt_latency, "llm": turn.llm_latency, "tts": turn.tts_latency}
    stages = {name: value * 1000 for name, value in seconds.items() if value or total is not None}
    if total is not None:
        stages["total"] = total * 1000
    return TimedTurn(language=turn.language, stages=stages, ok=total is not None)
