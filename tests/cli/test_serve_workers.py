"""``antiphon serve --workers``: when there is a supervisor, and what it clears away."""

import argparse
import asyncio
import os
import socket
from pathlib import Path

import msgspec
import pytest

from antiphon.cli import serve_workers
from antiphon.cli.serve import _workers
from antiphon.cli.serve_channel import Report
from antiphon.cli.serve_workers import wanted
from antiphon.config import ServerSettings, Settings
from antiphon.errors import AntiphonError, ConfigError
from antiphon.server import workers_book
from antiphon.stores.owner import this_process

ALONE = argparse.Namespace(sample_call=False)


def settings(workers: int) -> Settings:
    return Settings(server=ServerSettings(workers=workers))


def test_one_worker_needs_no_supervisor_and_none_is_the_default() -> None:
    assert Settings().server.workers == 1
    assert wanted(Settings(), ALONE) == 1
    assert wanted(Settings(), argparse.Namespace(sample_call=True)) == 1
    assert wanted(settings(3), ALONE) == 3


def test_auto_is_one_for_every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers in ((1, 1), (6, 6), (200, 64)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert wanted(settings(_workers("auto")), ALONE) == workers


@pytest.mark.parametrize("text", ["0", "65", "-1", "many", ""])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        _workers(text)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"workers": 65}, ServerSettings)


def test_several_cannot_show_a_sample_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--sample-call"):
        wanted(settings(2), argparse.Namespace(sample_call=True))
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ConfigError, match=r"server\.workers"):
        wanted(settings(2), ALONE)


def test_what_a_killed_supervisor_left_is_cleared_away_and_a_living_ones_is_not(tmp_path: Path) -> None:
    mine, dead, strange = (tmp_path / f"{serve_workers._PREFIX}{name}" for name in ("mine", "dead", "strange"))
    for folder in (mine, dead, strange):
        folder.mkdir()
    (mine / "owner").write_text(this_process())
    boot, namespace, _pid, start = this_process().split("/")
    (dead / "owner").write_text(f"{boot}/{namespace}/999999999/{start}")
    serve_workers._sweep(tmp_path)
    assert (mine.exists(), dead.exists(), strange.exists()) == (True, False, True)


def test_what_others_put_there_under_that_name_neither_stops_a_start_nor_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot, namespace, _pid, start = this_process().split("/")
    gone = f"{boot}/{namespace}/999999999/{start}"
    base = tmp_path / "base"
    made = {name: base / f"{serve_workers._PREFIX}{name}" for name in ("bytes", "fifo", "zero", "linked", "theirs")}
    for name in ("bytes", "fifo", "zero", "theirs"):
        made[name].mkdir(parents=True)
    (made["bytes"] / "owner").write_bytes(b"\xff\xfe")
    os.mkfifo(made["fifo"] / "owner")
    (made["zero"] / "owner").symlink_to("/dev/zero")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "owner").write_text(gone)
    made["linked"].symlink_to(elsewhere)
    serve_workers._sweep(base)
    (made["theirs"] / "owner").write_text(gone)
    monkeypatch.setattr(os, "getuid", lambda: made["theirs"].stat().st_uid + 1)
    serve_workers._sweep(base)
    assert [each.exists() for each in made.values()] == [True] * 5
    assert (elsewhere / "owner").exists()
    monkeypatch.undo()
    serve_workers._sweep(base)
    assert [each.exists() for each in made.values()] == [True, True, True, True, False]


def test_a_worker_that_cannot_be_started_at_first_ends_the_server_and_later_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def no_memory(*_: object, **__: object) -> None:
        raise OSError(12, "no memory")

    async def main() -> None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", no_memory)
        args = argparse.Namespace(host=None, journal=None, log_level=None)
        supervisor = serve_workers.Supervisor(settings(2), args, 2)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            slot = serve_workers._Slot(1, listening)
            with pytest.raises(AntiphonError, match=r"worker 1 cannot be started: .*no memory"):
                await supervisor._one(slot)
            assert slot.report is not None
            slot.report.set_result(Report())
            assert await supervisor._one(slot) == 1

    asyncio.run(main())
    assert "it is tried again" in caplog.text


def test_the_shared_folder_holds_the_settings_as_they_were_and_is_nobody_elses(tmp_path: Path) -> None:
    source = tmp_path / "antiphon.toml"
    source.write_text("[server]\nworkers = 2\n")
    with serve_workers._shared_folder(str(source)) as folder:
        source.write_text("changed")
        assert (folder / "settings.toml").read_text() == "[server]\nworkers = 2\n"
        assert folder.stat().st_mode & 0o077 == 0
        assert (folder / workers_book.BOOK).exists()
    assert not folder.exists()
