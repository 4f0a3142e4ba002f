"""Who owns a session, told without heartbeats: the identity of a process and whether it still runs here.

An identity is ``boot/namespace/pid/start``: the kernel's boot id, the PID namespace, the process id and the
process's start time in clock ticks since boot (proc(5): field 22 of ``/proc/<pid>/stat``). The four
together are never given to a second process, so a reused PID is not mistaken for the owner. It holds on
one machine, which is where a SQLite file can be shared. Without ``/proc`` only the PID is compared. A
fifth part, which tells several journals of one process apart, may follow and is not looked at here.
"""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(os.readlink(_PROC / "self/ns/pid"))
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """Start time in ticks; ``""`` if there is no such process or it is only waiting to be reaped."""
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    _, _, rest = _read(_PROC / str(pid) / "stat").rpartition(")")
    fields = rest.split()
    if len(fields) < 20 or fields[0] in "ZXx":
        return ""
    return fields[19]


def this_process() -> str:
    pid = os.getpid()
    return "/".join((_read(_PROC / "sys/kernel/random/boot_id"), _namespace(), str(pid), _start_of(pid)))


def is_here(owner: str) -> bool:
    """True if the owner is, or was, a process that can be looked up from here."""
    parts = owner.split("/")
    return len(parts) >= 4 and parts[0] == _read(_PROC / "sys/kernel/random/boot_id") and parts[1] == _namespace()


def is_alive(owner: str) -> bool:
    """True while the process of that identity runs. ``""`` (released) and unreadable identities are dead.

    A process of another PID namespace cannot be looked up from here and counts as dead: after a
    container is replaced its calls are interrupted, which is the common case.
    """
    parts = owner.split("/")
    if len(parts) < 4 or not parts[2].isdigit():
        return False
    pid, start = int(parts[2]), parts[3]
    if not is_here(owner):
        return False
    if start:
        return _start_of(pid) == start
    if os.name != "posix":
        return pid == os.getpid()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
