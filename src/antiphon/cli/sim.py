"""``antiphon sim``: thousands of seeded calls through the real runtime, on virtual time, checked against the rules."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from antiphon.cli.arguments import whole

QUIET_S = 10.0
"""How often progress is told where nobody watches it grow."""
MAX_CALLS = 10_000_000
MAX_WORKERS = 256

HELP = "simulate calls on virtual time and check that no rule is ever broken"
EXAMPLES = (
    ("antiphon sim", "a thousand calls"),
    ("antiphon sim --calls 20000 --faults", "more, with failing parts"),
    ("antiphon sim --calls 1 --seed 4711", "one call again"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Plays seeded callers (questions, coughs, backchannels, interruptions, silence, hang-ups) against the real "
        "runtime on virtual time and checks the invariants of every call. Exit status 0: no violation; 1: some, each "
        "with its seed and the smallest journal that shows it."
    )
    parser.add_argument(
        "--calls", type=whole(1, MAX_CALLS), default=1000, metavar="N", help="how many calls (default 1000)"
    )
    parser.add_argument(
        "--seed", type=whole(0, 2**62), default=1, metavar="S", help="seed of the first call (default 1)"
    )
    parser.add_argument("--faults", action="store_true", help="providers fail, hang and stutter; lines drop")
    parser.add_argument(
        "--workers", type=whole(0, MAX_WORKERS), default=0, metavar="N", help="processes (default 0: one a core)"
    )
    parser.add_argument("--golden", default=".antiphon/violations", metavar="DIR", help="where shrunk journals go")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    from antiphon.errors import ConfigError
    from antiphon.sim.runner import run_many, save_golden

    golden = Path(args.golden)
    if golden.exists() and not golden.is_dir():
        raise ConfigError(f"--golden {golden} is a file: name a folder")
    began, done = time.monotonic(), 0
    said = began

    def progress(count: int) -> None:
        nonlocal done, said
        done += count
        if sys.stderr.isatty():
            print(f"\r{done} of {args.calls} calls", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - said > QUIET_S:
            said = time.monotonic()
            print(f"{done} of {args.calls} calls", file=sys.stderr, flush=True)

    report = run_many(args.calls, args.seed, args.faults, workers=args.workers or None, progress=progress)
    took = time.monotonic() - began
    if sys.stderr.isatty():
        print(file=sys.stderr)
    shown: list[dict[str, Any]] = []
    for outcome in report.failed[:5]:
        path, plan = save_golden(outcome, args.faults, golden)
        shown.append({"seed": outcome.seed, "what": outcome.violations, "journal": str(path), "plan": repr(plan)})
    if args.json:
        fields = ("calls", "turns", "entries", "hours", "digest")
        found: dict[str, object] = {name: getattr(report, name) for name in fields}
        print(json.dumps({**found, "violations": len(report.failed), "seconds": took, "shown": shown}, indent=2))
    else:
        speed = report.hours * 3600 / took if took else 0.0
        print(f"{report.calls} calls, {report.turns} turns, {report.entries} entries, {report.hours:.1f} call-hours")
        print(f"in {took:.1f} s ({speed:,.0f} times real time); digest {report.digest}")
        print(f"violations: {len(report.failed)}")
        for item in shown:
            again = f"antiphon sim --calls 1 --seed {item['seed']}" + (" --faults" if args.faults else "")
            print("\n  ".join((f"\n{again}", *item["what"], f"shrunk to {item['journal']}", str(item["plan"]))))
    return 1 if report.failed else 0
