"""The run: rounds over all contenders, the search for the limit of each, and answers with realistic providers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.contenders import Contender, running
from bench.load import Spec, Step
from bench.procstat import cost_of
from bench.report import EARLY_PART, LOST_SHARE, RISE_MS, Limit, Measured, figure
from bench.server import Delays, Server
from bench.table import row

ROOT = Path(__file__).parent.parent
TURN_S = 8.0
"""About what a caller takes for one question and its answer: calls that begin evenly over it stay spread."""
FEW, LONGER = 10, 2.5
"""A few calls make few turns, and all else is held against their slowest: they get more time."""
SEARCH_TURNS = 60
"""So many turns at least, or a p99 is one turn's bad luck."""
TALKERS = 10
"""Calls at once in the parts ``answer`` and ``cutoff``."""
REALISTIC = Delays(
    stt_ms=300,
    partial_ms=410,
    llm_ms=350,
    llm_token_ms=15,
    tts_ms=150,
    reply="You need a school certificate and a language test. Shall I send you the list?",
)
"""The question is loud for 1,660 to 1,680 ms and the transcript has four words: spread over it, the last is known as
the voice ends, and at the pause of the part ``cutoff``, after some 1,180 ms, two are."""
EARLY = msgspec.structs.replace(REALISTIC, partial_ms=150)
"""All words are known after 600 ms of speech."""
PAUSES_MS = (250, 500, 750)


class Run:
    """One run on two cores; ``measured`` grows. ``seconds`` are measured in a step, ``echo_seconds`` of the floor.

    ``warm_s``: so long lasts a call before each step that is not measured; 0: there is none.
    """

    def __init__(
        self,
        cores: tuple[int, int],
        seconds: float,
        echo_seconds: float,
        ramp_s: float = TURN_S,
        warm_s: float = 1.0,
    ) -> None:
        self.server_core, self.load_core = cores
        self.seconds, self.echo_seconds = seconds, echo_seconds
        self.ramp_s, self.warm_s = ramp_s, warm_s
        self.measured: list[Measured] = []

    def load(self, contenders: Sequence[Contender], rounds: int) -> None:
        """Every contender at every number of calls, by turns, ``rounds`` times."""
        for number in range(1, rounds + 1):
            for place in range(max((len(each.calls) for each in contenders), default=0)):
                for each in contenders:
                    if place < len(each.calls):
                        self.step(each, each.calls[place], "load", number)

    def answers(self, contenders: Sequence[Contender], rounds: int) -> None:
        """First audio with providers that take their time: words as they are spoken, and early."""
        self._talk(contenders, rounds, "answer")

    def cutoffs(self, contenders: Sequence[Contender], rounds: int) -> None:
        """The same, and the callers pause within their sentence."""
        self._talk(contenders, rounds, "cutoff", PAUSES_MS)

    def _talk(self, contenders: Sequence[Contender], rounds: int, part: str, pauses_ms: tuple[int, ...] = ()) -> None:
        for number in range(1, rounds + 1):
            for suffix, delays in (("", REALISTIC), (EARLY_PART, EARLY)):
                for each in contenders:
                    self.step(each, TALKERS, part + suffix, number, delays=delays, pauses_ms=pauses_ms)

    def limit(self, contender: Contender) -> Limit:
        """The highest of ``contender.search`` that is carried, by halves: what breaks at some calls breaks at more."""
        base = self._base(contender)
        grid, broke, why = contender.search, 0, ""
        low, high = 0, len(grid)
        while low < high:
            middle = (low + high) // 2
            calls = grid[middle]
            step = self.step(contender, calls, "search", 1, seconds=max(self.seconds, SEARCH_TURNS * TURN_S / calls))
            fault = broken(step, base)
            if fault:
                high, broke, why = middle, calls, fault
            else:
                low = middle + 1
        return Limit(
            contender=contender.name, calls=grid[low - 1] if low else 0, broke_at=broke, why=why, base_p99=base
        )

    def _base(self, contender: Contender) -> float:
        """First audio's p99 at the fewest calls of the rounds, or of one call now."""
        fewest = min(contender.calls)
        known = [
            m.step for m in self.measured if (m.contender, m.part, m.step.calls) == (contender.name, "load", fewest)
        ]
        steps = known or [self.step(contender, 1, "search", 1)]
        return figure(step.first_audio_p99 for step in steps).median

    def step(
        self,
        contender: Contender,
        calls: int,
        part: str,
        number: int,
        *,
        seconds: float = 0.0,
        delays: Delays | None = None,
        pauses_ms: tuple[int, ...] = (),
    ) -> Step:
        """Starts the contender afresh, measures it, and ends it. Raises ``RuntimeError`` if it does not start."""
        if not seconds:
            few = calls < FEW and part == "load" and not contender.is_echo
            seconds = (self.echo_seconds if contender.is_echo else self.seconds) * (LONGER if few else 1.0)
        with (
            tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder,
            running(contender, Path(folder), self.server_core, delays) as server,
        ):
            spec = Spec(
                url=server.url,
                calls=calls,
                ramp_s=0.5 if contender.is_echo else min(self.ramp_s, 0.5 * calls),
                seconds=seconds,
                endpoint_ms=contender.endpoint_ms,
                echo=contender.is_echo,
                pauses_ms=pauses_ms,
                detector=contender.kind == "antiphon" and part in {"load", "search"},
            )
            step = self.measure(server, spec)
        self.measured.append(Measured(contender=contender.name, part=part, round=number, step=step))
        print(row(contender.name, part, step), flush=True)
        return step

    def measure(self, server: Server, spec: Spec) -> Step:
        """One step, generated by a process of its own."""
        if self.warm_s and not spec.echo:
            # What is loaded late is then loaded, and no part of the memory of a call.
            load(Spec(url=server.url, calls=1, ramp_s=0.0, seconds=self.warm_s, core=self.load_core))
        idle = cost_of(server.pid).rss_kb
        return load(msgspec.structs.replace(spec, server_pid=server.pid, idle_rss_kb=idle, core=self.load_core))


def broken(step: Step, base_p99: float) -> str:
    """Why these calls are too many; empty if they are not."""
    if step.failed_calls:
        return f"{step.failed_calls} calls failed"
    if not step.turns:
        return "no turn was answered"
    if step.lost_turns > LOST_SHARE * step.turns:
        return f"{step.lost_turns} of {step.turns} turns lost"
    rise = step.first_audio_p99 - base_p99
    if rise <= RISE_MS:
        return ""
    late = " (and the load generator was late)" if step.load_unfit else ""
    return f"p99 of first audio {rise:.0f} ms higher{late}"


def load(spec: Spec) -> Step:
    command = [sys.executable, "-m", "bench.load", msgspec.json.encode(spec).decode()]
    finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    if sys.stderr.isatty():
        sys.stderr.write("\r" + 60 * " " + "\r")
    return msgspec.json.decode(finished.stdout, type=Step)
