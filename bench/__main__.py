"""``python -m bench``: concurrent calls against one server process on one core, as a table and JSON."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench.load import Spec, Step
from bench.procstat import cost_of
from bench.server import Server, antiphon, echo, endpoint_ms
from bench.stages import Mode, run, table
from bench.table import HEAD, Targets, row, verdicts

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
CALLS = (1, 50, 100, 200, 300, 400)
SMOKE_CALLS = (1, 20)
FEW, LONGER = 10, 2.5
TURN_S = 8.0
"""About what a caller takes for one question and its answer: calls that begin evenly over it stay spread."""


class Report(msgspec.Struct, kw_only=True):
    """The JSON file. ``floor`` is the echo server: there, first audio is the round trip of a message."""

    at: str
    antiphon: str
    python: str
    cpu: str
    cores: int
    server_core: int
    load_core: int
    endpoint_ms: float
    versions: dict[str, str]
    steps: list[Step]
    floor: list[Step]
    health: list[dict[str, object]]
    targets: Targets
    verdicts: list[str]
    stages: list[Mode] = []
    """Batch, streaming and speculative, with providers that take their time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a call failed, nothing was measured, or (``--smoke``) a turn was lost."""
    options = _options(arguments)
    cores = sorted(os.sched_getaffinity(0))
    server_core, load_core = cores[0], cores[-1]
    if server_core == load_core:
        sys.stderr.write("only one core: server and load generator share it, and the figures say little\n")
    delay = endpoint_ms()
    steps: list[Step] = []
    floor: list[Step] = []
    health: list[dict[str, object]] = []
    print(HEAD)
    for calls in options.calls:
        if options.echo_seconds > 0:
            with echo(server_core) as server:
                spec = Spec(url=server.url, calls=calls, ramp_s=0.5, seconds=options.echo_seconds, echo=True)
                floor.append(_measure(server, spec, load_core))
            print(row("echo", floor[-1]), flush=True)
        with (
            tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder,
            antiphon(Path(folder), server_core) as server,
        ):
            _warm_up(server, load_core)
            ramp = min(options.ramp, 0.5 * calls)
            # A few calls make few turns, and all else is held against their slowest: they get more time.
            seconds = options.seconds if calls >= FEW or options.smoke else LONGER * options.seconds
            spec = Spec(url=server.url, calls=calls, ramp_s=ramp, seconds=seconds, endpoint_ms=delay)
            steps.append(_measure(server, spec, load_core))
            health.append(server.health())
        print(row("antiphon", steps[-1]), flush=True)
    stages: list[Mode] = []
    if options.rounds:
        stages = run(options.rounds, options.stage_seconds, server_core, lambda s, spec: _measure(s, spec, load_core))
    report = Report(
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        antiphon=version("antiphon"),
        python=platform.python_version(),
        cpu=_cpu_model(),
        cores=len(cores),
        server_core=server_core,
        load_core=load_core,
        endpoint_ms=delay,
        versions={name: version(name) for name in ("picows", "uvloop", "uvicorn", "msgspec", "numpy")},
        steps=steps,
        floor=floor,
        health=health,
        targets=Targets(),
        verdicts=verdicts(steps, Targets()),
        stages=stages,
    )
    if report.stages:
        print("\n" + table(report.stages))
    print("\n".join(["", *report.verdicts]))
    print(f"written to {_write(report, options.json)}")
    failed = any(step.failed_calls or not step.turns for step in steps)
    lost = options.smoke and any(step.lost_turns for step in steps)
    return 1 if failed or lost else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--calls", help=f"concurrent calls, one step each (default {','.join(map(str, CALLS))})")
    parser.add_argument("--seconds", type=float, help="measured seconds a step (default 25)")
    parser.add_argument("--ramp", type=float, default=TURN_S, help="calls begin evenly over this many seconds")
    parser.add_argument("--echo-seconds", type=float, help="measured seconds of the floor; 0 leaves it out (default 6)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the results go (default bench/results/<time>.json)"
    )
    parser.add_argument("--rounds", type=int, help="of batch, streaming and speculative; 0 leaves them out (default 3)")
    parser.add_argument("--stages", action="store_true", help="only these rounds, no load")
    parser.add_argument("--smoke", action="store_true", help="under 40 s: does it work at all?")
    options = parser.parse_args(arguments)
    calls, seconds, floor = (SMOKE_CALLS, 7.0, 2.0) if options.smoke else (CALLS, 25.0, 6.0)
    try:
        options.calls = tuple(int(n) for n in options.calls.split(",")) if options.calls else calls
    except ValueError:
        parser.error("--calls takes numbers with commas between them, such as 1,50,200")
    if min(options.calls, default=1) < 1:
        parser.error("--calls takes numbers above 0")
    options.calls = () if options.stages else options.calls
    options.rounds = (1 if options.smoke else 3) if options.rounds is None else options.rounds
    options.stage_seconds = 8.0 if options.smoke else 20.0
    options.seconds = seconds if options.seconds is None else options.seconds
    options.echo_seconds = floor if options.echo_seconds is None else options.echo_seconds
    if options.smoke:
        options.ramp = min(options.ramp, 2.0)
    return options


def _warm_up(server: Server, core: int) -> None:
    """One call that is not measured: what is loaded late is then loaded, and no part of the memory of a call."""
    _load(Spec(url=server.url, calls=1, ramp_s=0.0, seconds=1.0, core=core))


def _measure(server: Server, spec: Spec, core: int) -> Step:
    """One step, generated by a process of its own."""
    idle = cost_of(server.pid).rss_kb
    return _load(msgspec.structs.replace(spec, server_pid=server.pid, idle_rss_kb=idle, core=core))


def _load(spec: Spec) -> Step:
    command = [sys.executable, "-m", "bench.load", msgspec.json.encode(spec).decode()]
    finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    if sys.stderr.isatty():
        sys.stderr.write("\r" + 60 * " " + "\r")
    return msgspec.json.decode(finished.stdout, type=Step)


def _write(report: Report, path: Path | None) -> Path:
    target = path or RESULTS / f"{report.at.replace(':', '').replace('-', '')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    return target


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
