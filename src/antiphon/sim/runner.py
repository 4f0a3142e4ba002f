"""Runs simulated calls, many at a time, and shrinks what goes wrong to the smallest plan that still does."""

from __future__ import annotations

import functools
import gc
import logging
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import msgspec

from antiphon.kernel.events import encode_entry
from antiphon.runtime.phrases import PhraseBook
from antiphon.sim import clock
from antiphon.sim.invariants import journal_json, violations
from antiphon.sim.plan import Plan, draw, smaller
from antiphon.sim.world import Record, World, render_phrases

CHUNK = 50
SHRINK_TRIES = 300


class Outcome(msgspec.Struct, frozen=True):
    """One simulated call. ``digest`` stands for every entry of its journal; ``seconds`` are virtual."""

    seed: int
    violations: tuple[str, ...]
    digest: bytes
    entries: int
    turns: int
    seconds: float


class Report(msgspec.Struct):
    """All calls of a run. ``digest`` stands for all of their journals, in order of seed."""

    calls: int = 0
    entries: int = 0
    turns: int = 0
    hours: float = 0.0
    digest: str = ""
    failed: list[Outcome] = []


def simulate(plan: Plan) -> Record:
    """Plays one plan to its end on virtual time."""

    phrases = _phrases()

    async def main() -> Record:
        return await World(plan, phrases).play()

    return clock.run(main())


@functools.cache
def _phrases() -> PhraseBook:
    return clock.run(render_phrases())


def run_one(seed: int, faults: bool) -> Outcome:
    record = simulate(draw(seed, faults))
    stamp = blake2b(digest_size=16)
    for decision in record.decisions:
        stamp.update(encode_entry(decision.entry))
    last = record.decisions[-1] if record.decisions else None
    return Outcome(
        seed=seed,
        violations=tuple(violations(record)),
        digest=stamp.digest(),
        entries=len(record.decisions),
        turns=sum(type(command).__name__ == "Classify" for d in record.decisions for command in d.commands),
        seconds=last.at if last else 0.0,
    )


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Planned faults are no news; and a call leaves so little garbage that looking for it often only costs time."""
    level, thresholds = logging.root.manager.disable, gc.get_threshold()
    logging.disable(logging.CRITICAL)
    gc.set_threshold(50_000)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        logging.disable(level)


def _run_chunk(job: tuple[int, int, bool]) -> list[Outcome]:
    first, count, faults = job
    with _quiet():
        return [run_one(seed, faults) for seed in range(first, first + count)]


def run_many(
    calls: int, seed: int, faults: bool, *, workers: int | None = None, progress: Callable[[int], None] | None = None
) -> Report:
    """Simulates ``calls`` calls with the seeds from ``seed`` on, in ``workers`` processes (default: one a core)."""
    report, stamp = Report(), blake2b(digest_size=16)
    jobs = [(first, min(CHUNK, seed + calls - first), faults) for first in range(seed, seed + calls, CHUNK)]
    for outcomes in _map(jobs, workers or os.cpu_count() or 1):
        for outcome in outcomes:
            report.calls += 1
            report.entries += outcome.entries
            report.turns += outcome.turns
            report.hours += outcome.seconds / 3600
            stamp.update(outcome.digest)
            if outcome.violations:
                report.failed.append(outcome)
        if progress is not None:
            progress(len(outcomes))
    report.digest = stamp.hexdigest()
    return report


def _map(jobs: list[tuple[int, int, bool]], workers: int) -> Iterator[list[Outcome]]:
    if workers <= 1 or len(jobs) <= 1:
        yield from map(_run_chunk, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
        yield from pool.imap(_run_chunk, jobs)


def shrink(plan: Plan, name: str) -> Plan:
    """The smallest plan found that still violates the invariant ``name``."""
    tries = 0
    while True:
        for candidate in smaller(plan):
            tries += 1
            if tries > SHRINK_TRIES:
                return plan
            if any(what.startswith(f"{name}:") for what in violations(simulate(candidate))):
                plan = candidate
                break
        else:
            return plan


def save_golden(outcome: Outcome, faults: bool, directory: Path) -> tuple[Path, Plan]:
    """Shrinks a failed call and writes its journal, for a test to keep. Returns the file and the plan."""
    name = outcome.violations[0].partition(":")[0]
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{outcome.seed}.jsonl"
    with _quiet():
        plan = shrink(draw(outcome.seed, faults), name)
        path.write_bytes(journal_json(simulate(plan)))
    return path, plan
