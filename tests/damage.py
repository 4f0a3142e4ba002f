"""What a disk may do to a file."""

from __future__ import annotations

from pathlib import Path

WAYS = ("cut", "emptied", "flipped", "unreadable")


def damage(path: Path, way: str) -> None:
    data = bytearray(path.read_bytes())
    if way == "unreadable":
        path.unlink()
        path.mkdir()
        return
    if way == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[: len(data) // 2], "emptied": b"", "flipped": data}[way])
