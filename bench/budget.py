"""``python -m bench.budget``: no hot function may take a tenth more instructions than ``budget.toml`` allows.

Instructions are counted by callgrind, which is exact where time is not: three runs on a busy machine give the same
number to the last digit. Each count is held as a ratio to a reference loop of plain Python counted in the same run, so
that neither the machine nor its compiler's taste decides. Status 0: within the budget; 1: a function costs more; 2: it
could not be counted. ``--write`` makes today's counts the budget: do so when a function got cheaper, or say in the
commit why it may cost more.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.budget_work import WORK

HERE = Path(__file__).parent
BUDGET = HERE / "budget.toml"
TOLERANCE = 0.10
REFERENCE, NOTHING = "reference", "nothing"
COUNT_S = 600
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}

_NAME = re.compile(r"^desc: Trigger: Client Request: (\w+)$", re.MULTILINE)
_TOTAL = re.compile(r"^summary: (\d+)$", re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.budget", description=__doc__)
    parser.add_argument("--write", action="store_true", help="make today's counts the budget")
    options = parser.parse_args(arguments)
    try:
        ratios = count()
        if options.write:
            write(ratios)
        allowed = read()
    except RuntimeError as error:
        sys.stderr.write(f"budget: NOT CHECKED: {error}\n")
        return 2
    lines, within = compare(ratios, allowed)
    print("\n".join(lines))
    return 0 if within else 1


def count() -> dict[str, float]:
    """Instructions of each hot function, in those of the reference loop. Raises ``RuntimeError``."""
    valgrind = tool("valgrind")
    with tempfile.TemporaryDirectory(prefix="antiphon-budget-") as folder:
        marks = Path(folder) / "marks.so"
        _run([tool("cc", "gcc"), "-O2", "-shared", "-fPIC", "-o", str(marks), str(HERE / "marks.c")])
        out = Path(folder) / "counts"
        _run(
            [
                *(valgrind, "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"),
                *(sys.executable, "-m", "bench.budget_work", str(marks)),
            ]
        )
        return ratios_of(totals(each.read_text() for each in Path(folder).glob("counts.*")))


def tool(name: str, package: str = "") -> str:
    """The program, from Debian's package if we may install it. Raises ``RuntimeError`` saying what to do."""
    package = package or name
    found = shutil.which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        sys.stderr.write(f"budget: installing {package}\n")
        subprocess.run(["apt-get", "install", "--yes", "--quiet", package], check=False, stdout=subprocess.DEVNULL)
        found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed: apt-get install {package}")
    return found


def _run(command: list[str]) -> None:
    try:
        subprocess.run(
            command,
            cwd=HERE.parent,
            env={**os.environ, **ONE_THREAD},
            check=True,
            timeout=COUNT_S,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace")[-1000:]
        raise RuntimeError(f"{Path(command[0]).name} ended with status {error.returncode}: {said}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{Path(command[0]).name}: {error}") from error


def totals(dumps: Iterable[str]) -> dict[str, int]:
    """Name of each mark and the instructions counted up to it, from callgrind's files; its last one has no mark."""
    found = {}
    for text in dumps:
        name, total = _NAME.search(text), _TOTAL.search(text)
        if name and total:
            found[name[1]] = int(total[1])
    return found


def ratios_of(counted: Mapping[str, int]) -> dict[str, float]:
    """Per unit of work, in units of the reference, without what counting itself costs. Raises ``RuntimeError``."""
    missing = sorted(WORK.keys() - counted.keys())
    if missing:
        raise RuntimeError(f"callgrind counted nothing for {', '.join(missing)}: is it the one of this system?")

    per_loop = counted[NOTHING] / WORK[NOTHING][1]

    def unit(name: str) -> float:
        return counted[name] / WORK[name][1] - per_loop

    return {name: round(unit(name) / unit(REFERENCE), 6) for name in WORK if name not in {REFERENCE, NOTHING}}


def read(path: Path = BUDGET) -> dict[str, float]:
    """What this version of Python may cost. Raises ``RuntimeError`` if nothing is written for it."""
    tables = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    try:
        return {name: float(ratio) for name, ratio in tables["python"][_python()].items()}
    except KeyError:
        raise RuntimeError(f"{path.name} says nothing of Python {_python()}: python -m bench.budget --write") from None


def write(ratios: Mapping[str, float], path: Path = BUDGET) -> None:
    """Keeps what is written for other versions."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["python"] if path.exists() else {}
    tables[_python()] = dict(ratios)
    lines = [
        "# Instructions of the hot functions (bench/budget_work.py), in those of the reference loop.",
        "# Written by `python -m bench.budget --write`; a tenth more fails.",
    ]
    for version in sorted(tables):
        lines += ["", f'[python."{version}"]', *(f"{name} = {ratio}" for name, ratio in tables[version].items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def compare(ratios: Mapping[str, float], allowed: Mapping[str, float]) -> tuple[list[str], bool]:
    """A line for each function, and whether all are within their budget; one without a budget is not."""
    lines, within = ["function          budget      now   change"], True
    for name, ratio in ratios.items():
        budget = allowed.get(name)
        if budget is None:
            lines.append(f"{name:14s}{'none':>10s}{ratio:9.4f}  NO BUDGET: python -m bench.budget --write")
            within = False
            continue
        change = ratio / budget - 1
        verdict = "  COSTS MORE" if change > TOLERANCE else "  cheaper: --write" if change < -TOLERANCE else ""
        lines.append(f"{name:14s}{budget:10.4f}{ratio:9.4f}{100 * change:+8.1f} %{verdict}")
        within = within and change <= TOLERANCE
    gone = sorted(allowed.keys() - ratios.keys())
    if gone:
        lines.append(f"NOT COUNTED any more: {', '.join(gone)}")
    return lines, within and not gone


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


if __name__ == "__main__":
    sys.exit(main())
