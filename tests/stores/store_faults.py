"""Real faults under a store: another user, a full disk, a process that dies. They work as root and as anybody."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from antiphon.kernel import events as ev
from antiphon.runtime.ports import Batch

NOBODY = 65534


def entries(first: int, count: int, size: int = 40) -> tuple[ev.Entry, ...]:
    return tuple(
        ev.Entry(seq, seq * 20, ev.TranscriptPartial(1, f"{seq} ".ljust(size, "x")))
        for seq in range(first, first + count)
    )


DAMAGED = (b"\x94\x02", ev.encode_entry(entries(2, 1)[0]).replace(b"xx", b"x\xff", 1))
"""Bytes that are no entry: cut short, and with a byte in its text that no UTF-8 has."""


def batch(first: int, count: int, size: int = 40, session: str = "a", epoch: int = 1) -> Batch:
    return Batch(session, epoch, first - 1, entries(first, count, size))


def in_child(check: Callable[[], None], *, as_nobody: bool = False) -> None:
    """Runs ``check`` in a forked process, as root without root's rights over files; its failure fails the test."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        said = ""
        try:
            if as_nobody and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            check()
        except BaseException:  # noqa: BLE001 - everything is told to the parent, which raises it
            said = traceback.format_exc()
        os.write(writing, said.encode()[:60_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with status {status}"
    assert not said, said


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach and write, outside of pytest's own, which only one can."""
    folder = Path(tempfile.mkdtemp(prefix="antiphon-store-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        for place in (folder, *folder.rglob("*")):
            if place.is_dir():
                place.chmod(0o777)
        shutil.rmtree(folder)


class SmallDisk:
    """A place where a journal runs out of room, and how it gets some again."""

    def __init__(self, folder: Path, fill: Callable[[], None], free: Callable[[], None]) -> None:
        self.folder = folder
        self.fill = fill
        self.free = free


@contextlib.contextmanager
def small_disk() -> Iterator[SmallDisk]:
    """A tmpfs of 2 MB where mounting is allowed, else a limit on the size of files. Use it inside ``in_child``."""
    with open_folder() as folder:
        mounted = (
            os.geteuid() == 0
            and not subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
            ).returncode
        )
        try:
            yield _tmpfs(folder) if mounted else _limited(folder)
        finally:
            if mounted:
                subprocess.run(["umount", "-l", str(folder)], check=True)


def _tmpfs(folder: Path) -> SmallDisk:
    filler = folder / "filler"

    def fill() -> None:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    return SmallDisk(folder, fill, filler.unlink)


def _limited(folder: Path) -> SmallDisk:
    """The kernel refuses to let a file grow past the limit (EFBIG); Python ignores the signal that comes with it."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def fill() -> None:
        largest = max(file.stat().st_size for file in folder.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))

    def free() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    return SmallDisk(folder, fill, free)
