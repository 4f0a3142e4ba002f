"""``[journal] keep_days``: what is over goes when its time is over; what is live never does."""

from __future__ import annotations

import asyncio
import datetime
import sqlite3
from pathlib import Path

import pytest
from store_faults import entries

from antiphon.errors import UnknownSession
from antiphon.kernel import events as ev
from antiphon.runtime.ports import Batch
from antiphon.stores import sqlite
from antiphon.stores.sqlite import SqliteJournal

SECRET = "a word that nobody may find again"


async def held(journal: SqliteJournal, session: str, count: int = 3, *, closed: bool = True) -> None:
    """A conversation of ``count`` entries, over or not."""
    epoch = await journal.claim(session)
    said = [ev.Entry(seq, seq * 10, ev.TextTyped(f"{SECRET} {seq}"), b"") for seq in range(1, count)]
    last = ev.Entry(count, count * 10, ev.SessionClosed("caller") if closed else ev.TextTyped("more"), b"")
    assert await journal.append([Batch(session, epoch, 0, (*said, last))]) == [None]


def age(path: Path, days: float, *sessions: str) -> None:
    """As if they had been begun so long ago."""
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    with sqlite3.connect(path) as db:
        for session in sessions:
            db.execute(
                "UPDATE sessions SET claimed_at = ? WHERE session = ?",
                (then.isoformat(timespec="milliseconds"), session),
            )
    db.close()


async def names(journal: SqliteJournal) -> set[str]:
    return {row.session for row in await journal.sessions(10_000)}


def test_what_is_over_and_old_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    async def main() -> None:
        journal = SqliteJournal(path)
        await journal.start()
        for name in ("old", "older", "young"):
            await held(journal, name)
        await held(journal, "live", closed=False)
        await journal.save_snapshot("old", 1, 3, b"snapshot")
        age(path, 31, "old", "live")
        age(path, 400, "older")
        age(path, 29, "young")
        assert await journal.prune(30) == 2
        assert await names(journal) == {"young", "live"}
        with pytest.raises(UnknownSession):
            await journal.read("old")
        assert len(await journal.read("live")) == 3, "it is long, but not over"
        assert await journal.append([Batch("live", 1, 3, entries(4, 1))]) == [None]
        assert await journal.prune(30) == 0
        await journal.close()
        # Its process is gone now, and nobody will come back to it.
        again = SqliteJournal(path)
        await again.start()
        assert await again.prune(30) == 1
        assert await names(again) == {"young"}
        await again.close()
        with sqlite3.connect(path) as db:
            assert db.execute("SELECT count(*) FROM entries").fetchone() == (3,)
            assert db.execute("SELECT count(*) FROM snapshots").fetchone() == (0,)
        db.close()

    asyncio.run(main())


def test_what_was_said_is_not_left_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    async def main() -> None:
        journal = SqliteJournal(path)
        await journal.start()
        await held(journal, "old", 200)
        age(path, 3, "old")
        assert await journal.prune(1) == 1
        await journal.close()

    asyncio.run(main())
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_it_is_done_a_little_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls write in between: no step deletes more than so many entries, unless one conversation has more."""
    path = tmp_path / "journal.sqlite"
    monkeypatch.setattr(sqlite, "PRUNE_PAUSE_S", 0.0)

    async def main() -> None:
        journal = SqliteJournal(path, "off")
        await journal.start()
        for number in range(250):
            await held(journal, f"s{number}", 50)
        await held(journal, "long", 5000)
        age(path, 3, *(f"s{number}" for number in range(250)), "long")
        steps: list[tuple[int, int, bool]] = []
        some = journal._prune_some

        async def watched(before: str, behind: int) -> tuple[int, int, bool]:
            steps.append(await some(before, behind))
            return steps[-1]

        monkeypatch.setattr(journal, "_prune_some", watched)
        assert await journal.prune(1) == 251
        assert max(count for count, _, _ in steps) == 40, "2,000 entries a step"
        assert [more for _, _, more in steps] == [True] * (len(steps) - 1) + [False]
        assert await names(journal) == set()
        await journal.close()

    asyncio.run(main())


def test_a_caller_who_comes_back_keeps_the_history(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    async def main() -> None:
        journal = SqliteJournal(path)
        await journal.start()
        await held(journal, "back")
        age(path, 31, "back")
        await journal.claim("back")
        assert await journal.prune(30) == 0
        assert len(await journal.read("back")) == 3
        await journal.close()

    asyncio.run(main())


def test_keep_days_does_it_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.sqlite"
    monkeypatch.setattr(sqlite, "PRUNE_EVERY_S", 0.01)

    async def main(keep_days: int) -> set[str]:
        journal = SqliteJournal(path, keep_days=keep_days)
        await journal.start()
        for _ in range(100):
            if not keep_days or await names(journal) == {"new"}:
                break
            await asyncio.sleep(0.01)
        left = await names(journal)
        await journal.close()
        await journal.close()
        return left

    async def fill() -> None:
        journal = SqliteJournal(path)
        await journal.start()
        for name in ("old", "new"):
            await held(journal, name)
        await journal.close()

    asyncio.run(fill())
    age(path, 2, "old")
    assert asyncio.run(main(0)) == {"old", "new"}, "for ever, unless it is asked for"
    assert asyncio.run(main(1)) == {"new"}


def test_a_journal_that_is_only_read_is_never_pruned(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "journal.sqlite")
        await journal.start()
        await journal.close()
        reading = SqliteJournal(tmp_path / "journal.sqlite", access="read", keep_days=1)
        await reading.start()
        assert reading._keeping is None
        await reading.close()

    asyncio.run(main())
