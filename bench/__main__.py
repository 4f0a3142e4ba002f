"""``python -m bench``: Antiphon, its peers and the floor, in one run, as a table, JSON and a picture."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench import document, ledger, service, smoke, stages, text, workers
from bench.compare import REALISTIC, Run
from bench.contenders import BY_NAME, CONTENDERS, Contender, compiled
from bench.peers import environment
from bench.plot import draw
from bench.report import Report, summarise
from bench.starts import starts
from bench.table import HEAD, summary
from bench.verdicts import verdicts

RESULTS = Path(__file__).parent / "results"
PARTS = ("load", "search", "answer", "cutoff", "stages", "start", "workers")
STAGE_S = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a call of Antiphon failed or nothing was measured, or the smoke test found a fault."""
    options = _options(arguments)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.stderr.write("only one core: server and load generator share it, and the figures say little\n")
    pair = (cores[0], cores[-1])
    if options.smoke:
        return smoke.run(pair)
    if options.ledger or options.text:
        return _service(options, pair)
    chosen = [_with_calls(BY_NAME[name], options.calls) for name in options.only]
    for peer in dict.fromkeys(each.peer for each in chosen if each.peer):
        environment.prepare(peer)
    if any(each.name == "floor-c" for each in chosen):
        compiled()
    report = _run(options, chosen, pair)
    print("\n".join([*summary(report), "", *report.verdicts]))
    print(f"written to {_write(report, options.json)}")
    if options.document:
        document.main()
    ours = [m.step for m in report.steps if m.contender == "antiphon" and m.part != "search"]
    return 1 if any(step.failed_calls or not step.turns for step in ours) else 0


def _service(options: argparse.Namespace, pair: tuple[int, int]) -> int:
    found = service.Service(
        at=_now(),
        command=_command(),
        python=platform.python_version(),
        cpu=_cpu_model(),
        real_time=os.sched_getscheduler(0) in {os.SCHED_RR, os.SCHED_FIFO},
        versions=_versions(),
    )
    turns, seconds = (40, 12.0) if options.quick else (ledger.TURNS, text.SECONDS)
    status = service.measure(
        found, pair, with_ledger=options.ledger, with_text=options.text, turns=turns, seconds=seconds
    )
    service.write(found, options.json or RESULTS / f"service-{_stamp(found.at)}.json")
    if options.document:
        document.main()
    return status


def _run(options: argparse.Namespace, chosen: list[Contender], pair: tuple[int, int]) -> Report:
    run = Run(pair, options.seconds, options.echo_seconds)
    report = _report(chosen, pair)
    # In their recommended settings: the variants are there to show what tuning brings in cost.
    answering = [each for each in chosen if not each.is_echo and not each.variant]
    print(HEAD)
    if "load" in options.parts:
        run.load(chosen, options.rounds)
    if "search" in options.parts:
        report.limits = [run.limit(each) for each in chosen if each.search]
    if "answer" in options.parts:
        run.answers(answering, options.talk_rounds)
    if "cutoff" in options.parts:
        run.cutoffs(answering, options.talk_rounds)
    if "stages" in options.parts:
        report.stages = stages.run(options.rounds, STAGE_S, pair[0], run.measure)
        print("\n" + stages.table(report.stages))
    if "start" in options.parts:
        report.starts = starts(pair[0])
    if "workers" in options.parts:
        report.workers = workers.measure(options.rounds, options.seconds, pair)
    report.steps = run.measured
    report.summaries = summarise(run.measured)
    report.verdicts = verdicts(report)
    return report


def _report(chosen: list[Contender], pair: tuple[int, int]) -> Report:
    peers = dict.fromkeys(each.peer for each in chosen if each.peer)
    return Report(
        at=_now(),
        command=_command(),
        antiphon=version("antiphon"),
        python=platform.python_version(),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        server_core=pair[0],
        load_core=pair[1],
        versions={
            "antiphon": {"python": platform.python_version(), **_versions()},
            **{peer: environment.versions(peer) for peer in peers},
        },
        endpoint_ms={each.name: each.endpoint_ms for each in chosen if not each.is_echo},
        realistic=REALISTIC,
        steps=[],
        summaries=[],
    )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _stamp(at: str) -> str:
    return at.replace(":", "").replace("-", "")


def _command() -> str:
    return shlex.join(["python", "-m", "bench", *sys.argv[1:]])


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("antiphon", "picows", "uvloop", "uvicorn", "msgspec", "numpy")}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = ",".join(each.name for each in CONTENDERS)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", help=f"contenders (default {names})")
    parser.add_argument("--parts", help=f"of the run (default {','.join(PARTS)})")
    parser.add_argument("--calls", help="concurrent calls of the rounds, for all contenders (default: each its own)")
    parser.add_argument("--rounds", type=int, help="default 3; figures are their medians")
    parser.add_argument("--talk-rounds", type=int, help="of the parts answer and cutoff (default: as --rounds)")
    parser.add_argument("--seconds", type=float, help="measured seconds a step (default 20)")
    parser.add_argument("--echo-seconds", type=float, default=6.0, help="the same for the floor (default 6)")
    parser.add_argument("--quick", action="store_true", help="one round of 12 s: to see where one stands")
    parser.add_argument("--ledger", action="store_true", help="only where a turn's time goes, over /orchestrate")
    parser.add_argument("--text", action="store_true", help="only a thousand visitors of /orchestrate")
    parser.add_argument("--stages", action="store_true", help="only what streaming and speculation save")
    parser.add_argument("--document", action="store_true", help="write docs/performance.md and its picture")
    parser.add_argument("--json", type=Path, metavar="FILE", help="results (default bench/results/<time>.json)")
    parser.add_argument("--smoke", action="store_true", help="under 60 s: does it work at all?")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.talk_rounds = options.talk_rounds or options.rounds
    options.seconds = options.seconds or (12.0 if options.quick else 20.0)
    if options.stages:
        options.only, options.parts = "antiphon", "stages"
    options.only = _listed(parser, "--only", options.only, tuple(BY_NAME))
    options.parts = _listed(parser, "--parts", options.parts, PARTS)
    try:
        options.calls = tuple(int(n) for n in options.calls.split(",")) if options.calls else ()
    except ValueError:
        parser.error("--calls takes numbers with commas between them, such as 1,50,200")
    if min(options.calls, default=1) < 1:
        parser.error("--calls takes numbers above 0")
    return options


def _listed(parser: argparse.ArgumentParser, option: str, given: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(given.split(",")) if given else known
    for name in names:
        if name not in known:
            parser.error(f"{option} knows {', '.join(known)}; not {name!r}")
    return names


def _with_calls(contender: Contender, calls: tuple[int, ...]) -> Contender:
    return msgspec.structs.replace(contender, calls=calls) if calls else contender


def _write(report: Report, path: Path | None) -> Path:
    target = path or RESULTS / f"{_stamp(report.at)}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    target.with_suffix(".svg").write_text(draw(report), encoding="utf-8")
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
