"""Files that save work: youngest kept, others' folders left alone, never an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from antiphon import disk_cache


def stored(folder: Path, *names: str, kept: int = 2) -> None:
    for age, name in enumerate(reversed(names)):
        disk_cache.store(name, name.encode(), kept=kept, folder=folder)
        os.utime(folder / name, (1e9 - age, 1e9 - age))


def test_the_youngest_of_a_kind_stay(tmp_path: Path) -> None:
    stored(tmp_path, "a-3", "a-2", "b-1", kept=9)
    disk_cache.used(tmp_path / "a-3")
    disk_cache.store("a-4", b"new", kept=2, folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a-4", "a-3", "b-1"}
    assert [path.read_bytes() for path in disk_cache.found("a-4", tmp_path)] == [b"new"]
    assert not list(disk_cache.found("a-2", tmp_path))


def test_a_folder_of_somebody_else_is_neither_read_nor_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path, "a-1")
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert not list(disk_cache.found("a-1", tmp_path))
    disk_cache.store("a-2", b"", kept=2, folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a-1"}


def test_only_its_owner_can_look_in(tmp_path: Path) -> None:
    stored(tmp_path / "new", "a-1")
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    assert (tmp_path / "new" / "a-1").stat().st_mode & 0o077 == 0


def test_what_cannot_be_told_is_no_error(tmp_path: Path) -> None:
    disk_cache.used(tmp_path / "gone")
    (tmp_path / "file").write_text("")
    disk_cache.store("a-1", b"", kept=2, folder=tmp_path / "file")
