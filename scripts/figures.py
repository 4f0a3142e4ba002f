"""Measures what the documents quote, and writes it there: ``python scripts/figures.py [--rounds 3]``.

Takes some minutes, and means something only on a machine that does nothing else: its load is written down too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from regions import filled
from shapes import WAV, Answers, quiet

from antiphon.facade.agent_orchestrator import AgentOrchestrator

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "docs" / "AGENT_ORCHESTRATOR_COMPLETE_IMPLEMENTATION.md"
BASELINE = {"stt": 1200, "llm": 800, "tts": 1000, "total": 3000}
"""ms; what the example is held against (A84)."""
TURNS = 1000
LONGEST_S = 900
BUSY = 0.5
"""Tasks waiting for the processor, a minute's mean, above which figures are of a busy machine."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="of the benchmark's modes (default 3)")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    blocks = [conditions(load), sample_call(), stages(options.rounds), example(), overhead(), own_server(), tests()]
    text = filled(PLACE.read_text(encoding="utf-8"), {"figures": "\n\n".join(blocks)})
    PLACE.write_text(text, encoding="utf-8")
    print(f"written: {PLACE.relative_to(ROOT)}")
    return 0


def conditions(load: float) -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    quiet = "quiet" if load < BUSY else "busy with other work, so that these figures are rough"
    return textwrap.fill(
        f"Measured {time.strftime('%Y-%m-%d', time.gmtime())} on {os.cpu_count()} cores of "
        f"{found[1] if found else platform.machine()}, Python {platform.python_version()}. The machine was {quiet} "
        f"(load {load:.1f}).",
        120,
    )


def sample_call() -> str:
    said = run(sys.executable, "-m", "antiphon", "serve", "--sample-call", "--once", "--port", "0")
    table = said[said.index("the sample call") :]
    command = "antiphon serve --sample-call --once --port 0"
    return block("### The sample call, on the phone path", command, table, ", as `make run ARGS=--once` does")


def stages(rounds: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        said = run(
            sys.executable, "-m", "bench", "--stages", "--rounds", str(rounds), "--json", f"{folder}/b.json", at=ROOT
        )
    table = said[said.index("\nstt ") + 1 :].partition("\n\n")[0]
    return block("### What streaming and answering ahead save", f"python -m bench --stages --rounds {rounds}", table)


def example() -> str:
    """The report, and its medians against the baseline."""
    said = run(sys.executable, str(ROOT / "examples" / "orchestrator_integration_example.py"))
    report = said[said.index("language  stage") :]
    medians = {stage: int(p50) for stage, p50 in re.findall(r"(stt|llm|tts|total) +\d+ +(\d+) +\d+", report)}
    rows = "\n".join(f"| {stage} | {BASELINE[stage]} | {medians[stage]} |" for stage in BASELINE)
    shown = block("### `process_turn`, turn by turn", "python examples/orchestrator_integration_example.py", report)
    return f"{shown}\n\n| stage | baseline, ms | here, median, ms |\n|---|---:|---:|\n{rows}"


class Nameless(Answers):
    """It names no language, so the words must tell it: that is ours to do as well."""

    async def speech_to_text(self, audio_bytes: bytes, language: str | None = None) -> tuple[str, str | None]:
        return "what are the fees", None


def overhead() -> str:
    """Turns whose modules answer at once: what is left is ours."""

    async def turns() -> list[float]:
        module = Nameless()
        spent: list[float] = []
        orchestrator = AgentOrchestrator(module, module, module)
        for _ in range(TURNS):
            began = time.perf_counter()
            await orchestrator.process_turn(WAV)
            spent.append((time.perf_counter() - began) * 1000)
        return spent

    with quiet():
        spent = asyncio.run(turns())
    median, p99 = statistics.median(spent), sorted(spent)[int(0.99 * len(spent))]
    text = (
        f"{TURNS} turns whose modules answer at once: median {median:.2f} ms, 99th percentile {p99:.2f} ms;\n"
        f"the first, which reads the word lists of the languages, {spent[0]:.0f} ms"
    )
    return f"### What `process_turn` itself adds\n\n```text\n{text}\n```"


def own_server() -> str:
    said = run(sys.executable, str(ROOT / "examples" / "twilio_server.py"), "--self-test")
    line = next(line for line in said.splitlines() if "answered after" in line)
    return block("### A server of your own, at the caller's ear", "python examples/twilio_server.py --self-test", line)


def tests() -> str:
    said = run(sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", at=ROOT)
    count = sum(int(number) for number in re.findall(r"^tests/\S+: (\d+)$", said, re.MULTILINE))
    return block("### Tests", "python -m pytest --collect-only -q", f"{count} tests")


def block(title: str, command: str, text: str, more: str = "") -> str:
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return f"{title}\n\n`{command}`{more}\n\n```text\n{lines}\n```"


def run(*command: str, at: Path | None = None) -> str:
    """Its standard output; it runs in an empty folder unless told otherwise. Ends the program if it fails."""
    print(f"-- {' '.join(Path(part).name if os.sep in part else part for part in command)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="antiphon-figures-") as folder:
        done = subprocess.run(command, cwd=at or folder, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        sys.exit(f"it ended with status {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
