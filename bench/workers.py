"""What a second core brings: ``antiphon serve --workers 2`` on both cores, against one process on one.

A machine of two cores has none to spare for the load generator, so calls carried at saturation would compare three
programs on two cores with two on two. Compared is what a call costs instead: one process carries ``CALLS`` on the first
core (the generator on the other), two workers carry twice as many on both (the generator wherever it finds room), and
the processor time of all the server's processes is divided by the call-seconds carried. Two cores have twice the time
of one, so

    throughput = 2 x (ms of processor time per call-second of one process) / (the same of two workers)

which is 2 where the workers cost each other nothing. It holds only if every call was carried and each worker had its
share, so both are measured too. The two workers pay for the generator's company on their cores (caches, preemption)
and the single process does not: the figure errs on the low side.
"""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from bench.compare import TURN_S, Run
from bench.load import Spec, Step
from bench.report import TwoWorkers, figure
from bench.server import Server, antiphon

CALLS = 100
"""For each worker: enough that what a process costs by itself is shared by many, and half of what a core carries."""
CORES = 2
ENDPOINT_MS = 420.0


class _Held(msgspec.Struct):
    active_sessions: int = 0


class _Health(_Held):
    workers: dict[str, _Held] = {}


def measure(rounds: int, seconds: float, cores: tuple[int, int], calls: int = CALLS) -> TwoWorkers:
    """By turns, ``rounds`` times. Raises ``RuntimeError`` if a server does not start."""
    alone: list[Step] = []
    together: list[Step] = []
    shares: list[float] = []
    for _ in range(rounds):
        step, _share = _step(1, seconds, cores, calls)
        alone.append(step)
        step, share = _step(CORES, seconds, cores, CORES * calls)
        together.append(step)
        shares.append(share)
    times = [
        CORES * one.cpu_ms_per_call_s / both.cpu_ms_per_call_s
        for one, both in zip(alone, together, strict=True)
        if both.cpu_ms_per_call_s > 0
    ]
    return TwoWorkers(
        calls=calls,
        rounds=rounds,
        one_ms=figure(step.cpu_ms_per_call_s for step in alone),
        two_ms=figure(step.cpu_ms_per_call_s for step in together),
        times=figure(times or [0.0]),
        one_p99=figure(step.first_audio_p99 for step in alone),
        two_p99=figure(step.first_audio_p99 for step in together),
        least_share=round(min(shares), 3),
        turns=sum(step.turns for step in (*alone, *together)),
        lost=sum(step.lost_turns + step.failed_calls for step in (*alone, *together)),
    )


def _step(workers: int, seconds: float, cores: tuple[int, int], calls: int) -> tuple[Step, float]:
    """The step, and the smallest share of all calls that one worker ever held while they were all there."""
    on = {cores[0]} if workers == 1 else set(cores)
    generator = cores[1] if workers == 1 else -1
    with (
        tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder,
        antiphon(Path(folder), on, workers=workers) as server,
    ):
        run = Run((cores[0], generator), seconds, 0.0)
        spec = Spec(url=server.url, calls=calls, ramp_s=TURN_S, seconds=seconds, endpoint_ms=ENDPOINT_MS)
        over = threading.Event()
        with ThreadPoolExecutor(1) as watching:
            held = watching.submit(_watch, server, over)
            try:
                step = run.measure(server, spec)
            finally:
                over.set()
    shares = [min(each) / sum(each) for each in held.result() if sum(each) == calls]
    print(
        f"{workers} worker{'s' * (workers > 1)}, {calls} calls: {step.cpu_ms_per_call_s:.3f} ms per call-second, "
        f"p99 of first audio {step.first_audio_p99:.0f} ms, {step.lost_turns} of {step.turns} turns lost",
        flush=True,
    )
    return step, min(shares, default=0.0)


def _watch(server: Server, over: threading.Event) -> list[list[int]]:
    """Once a second, how many calls each worker holds."""
    found = []
    while not over.wait(1.0):
        health = msgspec.convert(server.health(), _Health)
        found.append([each.active_sessions for each in health.workers.values()] or [health.active_sessions])
    return found
