"""What a process has cost so far, from the scheduler's own accounting (Linux, ``proc(5)``)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

VAD_NICE = 10
"""The voice activity thread is the one that runs at this niceness."""


class Cost(msgspec.Struct, frozen=True):
    """Processor time since the process began, in ns; ``rss_kb`` is what it holds now."""

    loop_ns: int = 0
    vad_ns: int = 0
    other_ns: int = 0
    children_ns: int = 0
    rss_kb: int = 0

    @property
    def total_ns(self) -> int:
        return self.loop_ns + self.vad_ns + self.other_ns + self.children_ns


def cost_of(pid: int) -> Cost:
    """All threads of ``pid`` and of its descendants. Raises ``ProcessLookupError`` if it is gone."""
    loop = vad = other = 0
    for task in _tasks(pid):
        used = _cpu_ns(task)
        if int(task.name) == pid:
            loop += used
        elif _nice(task) == VAD_NICE:
            vad += used
        else:
            other += used
    below, rss = 0, _rss_kb(pid)
    for child in _children(pid):
        with contextlib.suppress(ProcessLookupError):  # it ended while we looked
            cost = cost_of(child)
            below += cost.total_ns
            rss += cost.rss_kb
    return Cost(loop, vad, other, below, rss)


def waited_ns(pid: int) -> int:
    """How long the first thread of ``pid`` was ready to run while its core did something else, in all so far."""
    fields = _read(Path(f"/proc/{pid}/schedstat")).split()
    return int(fields[1]) if len(fields) > 1 else 0


def busy_ns() -> int:
    """What all cores have done so far, the kernel's own work included, idle and stolen time left out."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = Path("/proc/stat").read_text().split(maxsplit=9)[1:]
    return sum(map(int, (user, nice, system, irq, softirq))) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} is gone") from None


def _read(path: Path) -> str:
    """Empty if the thread ended while we looked."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _cpu_ns(task: Path) -> int:
    fields = _read(task / "schedstat").split()
    return int(fields[0]) if fields else 0


def _nice(task: Path) -> int:
    # The second field is the name in parentheses and may hold anything; count from its end.
    fields = _read(task / "stat").rpartition(")")[2].split()
    return int(fields[16]) if len(fields) > 16 else 0


def _children(pid: int) -> list[int]:
    return [int(child) for task in _tasks(pid) for child in _read(task / "children").split()]


def _rss_kb(pid: int) -> int:
    for line in _read(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0
