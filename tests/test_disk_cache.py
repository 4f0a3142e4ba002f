"""Files that save work: youngest kept, others' folders left alone, never an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from antiphon import disk_cache
from tests.damage import WAYS, damage


def stored(folder: Path, *names: str, kept: int = 2) -> None:
    for age, name in enumerate(reversed(names)):
        path = disk_cache.store(name, name.encode(), kept=kept, folder=folder)
        assert path is not None
        os.utime(path, (1e9 - age, 1e9 - age))


def names(folder: Path) -> set[str]:
    return {path.name.rpartition("-")[0] for path in folder.iterdir()}


def test_the_youngest_of_a_kind_stay(tmp_path: Path) -> None:
    stored(tmp_path, "a-3", "a-2", "b-1", kept=9)
    assert disk_cache.found("a-3", tmp_path)
    path = disk_cache.store("a-4", b"new", kept=2, folder=tmp_path)
    assert names(tmp_path) == {"a-4", "a-3", "b-1"}
    assert path is not None
    assert path.read_bytes() == b"new"
    assert disk_cache.found("a-4", tmp_path) == path
    assert disk_cache.found("a-2", tmp_path) is None


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_file_is_told_once_and_not_found(tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str) -> None:
    path = disk_cache.store("a-1.bin", b"content", kept=2, folder=tmp_path)
    assert path is not None
    assert path.suffix == ".bin"
    damage(path, way)
    assert disk_cache.found("a-1.bin", tmp_path) is None
    [told] = caplog.messages
    assert str(path) in told
    assert "made again" in told
    assert path.exists() == (way == "unreadable")


def test_a_folder_in_a_file_s_place_is_got_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best, spare = tmp_path / "best", tmp_path / "spare"
    monkeypatch.setattr(disk_cache, "folders", lambda: [best, spare])
    path = disk_cache.store("a-1", b"content", kept=2)
    assert path is not None
    damage(path, "unreadable")
    again = disk_cache.store("a-1", b"content", kept=2)
    assert again is not None
    assert again.parent == spare
    assert disk_cache.found("a-1") == again
    for name in ("a-2", "a-3", "a-4"):
        disk_cache.store(name, b"", kept=2)
    assert names(best) == {"a-1", "a-3", "a-4"}


def test_a_folder_of_somebody_else_is_neither_read_nor_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path, "a-1")
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert disk_cache.found("a-1", tmp_path) is None
    assert disk_cache.store("a-2", b"", kept=2, folder=tmp_path) is None
    assert names(tmp_path) == {"a-1"}


def test_only_its_owner_can_look_in(tmp_path: Path) -> None:
    stored(tmp_path / "new", "a-1")
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    [path] = (tmp_path / "new").iterdir()
    assert path.stat().st_mode & 0o077 == 0


def test_a_place_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert disk_cache.store("a-1", b"", kept=2, folder=tmp_path / "file") is None
