"""How long the commands take: ``antiphon serve`` until it is healthy, ``antiphon --help``."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.report import Starts
from bench.server import Server, antiphon, await_ready, environment, free_port, program, started

TIMES = 5
Start = Callable[[Path, int], float]
"""Starts it once, writing into a folder, on a core; seconds."""


def starts(core: int) -> Starts:
    """Medians of five; the first of each also fills the machine's cache of files and makes what is kept on disk
    (bytecode, language model, phrases), and is left out."""
    return Starts(ready_s=_median(_fake, core), ready_embedded_s=_median(_embedded, core), help_s=_median(_help, core))


def _median(start: Start, core: int) -> float:
    with tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder:
        took = [start(Path(folder), core) for _ in range(1 + TIMES)]
    return round(statistics.median(took[1:]), 3)


def _fake(folder: Path, core: int) -> float:
    began = time.monotonic()
    with antiphon(folder, core):
        return time.monotonic() - began


def _embedded(folder: Path, core: int) -> float:
    """As somebody starts it who has set nothing: the offline providers."""
    port = free_port()
    began = time.monotonic()
    with started([program(), "serve", "--port", str(port)], core, folder, environment()) as process:
        await_ready(process, Server(process.pid, "", f"http://127.0.0.1:{port}/health").health)
        return time.monotonic() - began


def _help(folder: Path, core: int) -> float:
    command = [program(), "--help"]
    began = time.monotonic()
    subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    return time.monotonic() - began
