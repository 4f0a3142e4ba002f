"""``antiphon calls --prune``: what is over and old is deleted, and said."""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
from pathlib import Path

import pytest

from antiphon.cli import calls
from antiphon.kernel import events as ev
from antiphon.runtime.ports import Batch
from antiphon.stores.sqlite import SqliteJournal


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    calls.add_arguments(parser)
    return calls.run(parser.parse_args(words))


def written(path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(path)
        await journal.start()
        for name in ("old", "new"):
            epoch = await journal.claim(name)
            assert await journal.append([Batch(name, epoch, 0, (ev.Entry(1, 0, ev.SessionClosed("caller")),))]) == [
                None
            ]
        await journal.close()

    asyncio.run(main())
    with sqlite3.connect(path) as db:
        db.execute("UPDATE sessions SET claimed_at = '2020-01-01T00:00:00.000+00:00' WHERE session = 'old'")
    db.close()


def test_it_deletes_and_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal.sqlite"
    written(path)
    assert run("--prune", "30", "--journal", str(path)) == 0
    assert capsys.readouterr().out == "1 conversation deleted\n"
    assert run("--prune", "30", "--journal", str(path)) == 0
    assert capsys.readouterr().out == "0 conversations deleted\n"
    assert run("--json", "--journal", str(path)) == 0
    out = capsys.readouterr().out
    assert '"new"' in out
    assert '"old"' not in out


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.sqlite"
    assert run("--prune", "30", "--journal", str(path)) == 2
    assert "none.sqlite" in capsys.readouterr().err
    assert not path.exists()


def test_a_server_forgets_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--prune", "30", "--journal", "redis://127.0.0.1:1/0") == 2
    assert "SESSION_TTL_SECONDS" in capsys.readouterr().err
