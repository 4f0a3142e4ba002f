"""What the SQLite journal says and does when its file cannot be used: each fault is a real one (F18)."""

import asyncio
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from store_faults import DAMAGED, SmallDisk, _limited, batch, entries, in_child, open_folder, small_disk

from antiphon.errors import StoreError
from antiphon.stores import sqlite_file
from antiphon.stores.sqlite import SqliteJournal


async def failure(journal: SqliteJournal) -> StoreError:
    """The error that ``start`` gives."""
    try:
        await journal.start()
    except StoreError as error:
        return error
    finally:
        await journal.close()
    raise AssertionError("the journal opened")


def start_fails(path: Path, access: str = "write") -> StoreError:
    return asyncio.run(failure(SqliteJournal(path, access=access)))  # type: ignore[arg-type]


async def filled(path: Path, count: int = 3) -> None:
    journal = SqliteJournal(path)
    await journal.start()
    await journal.claim("a")
    assert await journal.append([batch(1, count)]) == [None]
    await journal.close()


# -- no room --------------------------------------------------------------------------------------


async def runs_out_of_room_and_recovers(disk: SmallDisk) -> None:
    journal = SqliteJournal(disk.folder / "journal.sqlite")
    await journal.start()
    await journal.claim("a")
    assert await journal.append([batch(1, 10)]) == [None]
    disk.fill()
    [result] = await journal.append([batch(11, 2000, 3000)])
    assert isinstance(result, StoreError)
    assert result.code == "store.full", result
    assert "free space" in str(result)
    assert len(await journal.read("a")) == 10, "what was acknowledged stays readable"
    disk.free()
    assert await journal.append([batch(11, 5)]) == [None], "writing goes on once there is room"
    await journal.close()
    again = SqliteJournal(disk.folder / "journal.sqlite")
    await again.start()
    assert await again.read("a") == list(entries(1, 15))
    await again.close()


def test_full_disk_is_told_and_writing_goes_on_when_there_is_room() -> None:
    def check() -> None:
        with small_disk() as disk:
            asyncio.run(runs_out_of_room_and_recovers(disk))

    in_child(check)


def test_file_size_limit_counts_as_a_full_disk() -> None:
    def check() -> None:
        with open_folder() as folder:
            asyncio.run(runs_out_of_room_and_recovers(_limited(folder)))

    in_child(check)


# -- no right to write ----------------------------------------------------------------------------


def test_read_only_folder_is_told_with_the_way_out() -> None:
    with open_folder() as folder:
        folder.chmod(0o555)

        def check() -> None:
            error = start_fails(folder / "journal.sqlite")
            assert error.code == "store.read_only", error
            assert str(folder) in str(error)
            assert "[journal] path" in str(error)
            assert start_fails(folder / "deep" / "journal.sqlite").code == "store.read_only"

        in_child(check, as_nobody=True)


def test_read_only_file_is_told_and_writing_starts_when_it_becomes_writable() -> None:
    with open_folder() as folder:
        path = folder / "journal.sqlite"
        asyncio.run(filled(path))
        path.chmod(0o444)

        async def check() -> None:
            journal = SqliteJournal(path)
            for attempt in (journal.start, lambda: journal.claim("a")):
                with pytest.raises(StoreError) as caught:
                    await attempt()
                assert caught.value.code == "store.read_only"
            os.write(failed, b"x")
            os.read(mended, 1)
            assert await journal.claim("a") == 2
            await journal.close()

        seen, failed = os.pipe()
        mended, mend = os.pipe()

        def relent() -> None:
            os.read(seen, 1)
            for file in folder.iterdir():
                file.chmod(0o666)
            os.write(mend, b"x")

        owner = threading.Thread(target=relent, daemon=True)
        owner.start()
        in_child(lambda: asyncio.run(check()), as_nobody=True)
        owner.join(5)


def test_a_new_journal_is_its_owners_alone(tmp_path: Path) -> None:
    asyncio.run(filled(tmp_path / "new" / "journal.sqlite"))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "journal.sqlite").stat().st_mode) == 0o600


# -- not a journal --------------------------------------------------------------------------------


def test_damaged_file_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    asyncio.run(filled(path, 2000))
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)

    async def use() -> StoreError:
        journal = SqliteJournal(path)
        try:
            await journal.start()
            await journal.read("a")
        except StoreError as error:
            return error
        finally:
            await journal.close()
        raise AssertionError("damage went unnoticed")

    error = asyncio.run(use())
    assert error.code == "store.corrupt"
    assert f"mv {path}" in str(error)
    assert path.read_bytes()[8192:] == bytes(data)[8192:]


def test_other_file_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_text("dear diary, " * 500)
    for access in ("write", "read"):
        error = start_fails(path, access)
        assert error.code == "store.corrupt"
        assert "name another file with --journal PATH" in str(error)
    assert path.read_text() == "dear diary, " * 500


@pytest.mark.parametrize("data", DAMAGED)
def test_entry_that_cannot_be_read_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    asyncio.run(filled(path))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entries SET data = ? WHERE seq = 2", (data,))
    db.close()

    async def read() -> None:
        journal = SqliteJournal(path, access="read")
        await journal.start()
        with pytest.raises(StoreError, match="entry 2 of session a") as caught:
            await journal.read("a")
        assert caught.value.code == "store.corrupt"
        assert len(await journal.read("a", 2)) == 1
        await journal.close()

    asyncio.run(read())


def test_another_programs_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    for access in ("write", "read"):
        assert start_fails(path, access).code == "store.not_journal"
    with sqlite3.connect(path) as db:
        assert [name for (name,) in db.execute("SELECT name FROM sqlite_master")] == ["theirs"]
    db.close()


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    assert start_fails(tmp_path).code == "store.is_folder"
    (tmp_path / "file").touch()
    assert start_fails(tmp_path / "file" / "journal.sqlite").code == "store.no_file"


def test_an_empty_file_is_told_when_read_and_filled_when_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.touch()
    error = start_fails(path, "read")
    assert error.code == "store.empty"
    assert f"antiphon serve --journal {path}" in str(error)
    assert path.stat().st_size == 0
    asyncio.run(filled(path))
    assert path.stat().st_size > 0


# -- schema ---------------------------------------------------------------------------------------


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    asyncio.run(filled(path))
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={len(sqlite_file.MIGRATIONS) + 1}")
    db.close()
    for access in ("write", "read"):
        error = start_fails(path, access)
        assert error.code == "store.newer_schema"
        assert "upgrade" in str(error)


def test_older_schema_is_migrated_in_one_step_and_read_only_says_how(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    asyncio.run(filled(path))
    later = (
        *sqlite_file.MIGRATIONS,
        "ALTER TABLE sessions ADD COLUMN tenant TEXT NOT NULL DEFAULT ''; CREATE TABLE t (x)",
    )
    with pytest.raises(StoreError) as caught:
        sqlite_file.open_for_reading(path, 1.0, later)
    assert caught.value.code == "store.older_schema"
    broken = (*sqlite_file.MIGRATIONS, "CREATE TABLE half (x); CREATE TABLE half (x)")
    with pytest.raises(StoreError):
        sqlite_file.open_for_writing(path, "full", 1.0, broken)
    db = sqlite_file.open_for_writing(path, "full", 1.0, later)
    assert db.execute("PRAGMA user_version").fetchone() == (len(later),)
    assert db.execute("SELECT session, tenant FROM sessions").fetchall() == [("a", "")]
    assert db.execute("SELECT count(*) FROM entries").fetchone() == (3,)
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    assert "half" not in names, "a migration that fails leaves nothing behind"
    db.close()
    sqlite_file.open_for_reading(path, 1.0, later).close()


# -- somebody else is at it -----------------------------------------------------------------------


def test_locked_by_another_process_then_free_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    async def main() -> None:
        journal = SqliteJournal(path, busy_s=0.05)
        await journal.start()
        await journal.claim("a")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        [result] = await journal.append([batch(1, 2)])
        assert isinstance(result, StoreError)
        assert result.code == "store.locked"
        assert "fuser" in str(result)
        assert await journal.read("a") == [], "reading goes on meanwhile"
        other.execute("ROLLBACK")
        assert await journal.append([batch(1, 2)]) == [None]
        other.close()
        await journal.close()

    asyncio.run(main())


def test_reading_while_a_server_writes_and_after_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    async def main() -> None:
        assert (await failure(SqliteJournal(path, access="read"))).code == "store.not_found"
        assert not path.exists(), "a reader makes no file"
        server = SqliteJournal(path)
        await server.start()
        await server.claim("a")
        await server.append([batch(1, 3)])
        reader = SqliteJournal(path, access="read")
        await reader.start()
        assert len(await reader.read("a")) == 3
        await server.append([batch(4, 3)])
        assert len(await reader.read("a")) == 6, "what is committed is seen at once"
        with pytest.raises(StoreError):
            await reader.claim("a")
        assert [row.status for row in await reader.sessions()] == ["live"]
        await reader.close()
        await server.close()
        await reader.start()
        assert [row.status for row in await reader.sessions()] == ["interrupted"]
        await reader.close()

    asyncio.run(main())


def test_reading_from_a_folder_that_cannot_be_written() -> None:
    with open_folder() as folder:
        path = folder / "journal.sqlite"
        asyncio.run(filled(path))
        path.chmod(0o444)
        folder.chmod(0o555)

        async def read() -> None:
            journal = SqliteJournal(path, access="read")
            await journal.start()
            assert len(await journal.read("a")) == 3
            await journal.close()

        in_child(lambda: asyncio.run(read()), as_nobody=True)
        path.chmod(0o000)
        in_child(lambda: _expect(start_fails(path, "read"), "store.unreadable"), as_nobody=True)


def _expect(error: StoreError, code: str) -> None:
    assert error.code == code, error


# -- life of the object ---------------------------------------------------------------------------


def test_not_started_is_told_and_closing_twice_is_harmless(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "j.sqlite")
        with pytest.raises(StoreError) as caught:
            await journal.claim("a")
        assert caught.value.code == "store.not_open"
        await journal.close()
        await journal.start()
        await journal.start()
        await journal.claim("a")
        await journal.close()
        await journal.close()
        await journal.start()
        assert await journal.claim("a") == 2
        await journal.close()

    asyncio.run(main())


def test_what_was_asked_before_closing_is_done(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "j.sqlite")
        await journal.start()
        await journal.claim("a")
        asked = [asyncio.ensure_future(journal.append([batch(seq, 1)])) for seq in range(1, 50)]
        await asyncio.sleep(0)
        await journal.close()
        assert await asyncio.gather(*asked) == [[None]] * 49
        again = SqliteJournal(tmp_path / "j.sqlite", access="read")
        await again.start()
        assert await again.read("a") == list(entries(1, 49))
        await again.close()

    asyncio.run(main())


def test_a_cancelled_request_disturbs_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "j.sqlite")
        await journal.start()
        await journal.claim("a")
        impatient = asyncio.ensure_future(journal.append([batch(1, 5)]))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await journal.append([batch(6, 1)]) == [None], "what was cancelled late is written all the same"
        assert len(await journal.read("a")) == 6
        await journal.close()

    asyncio.run(main())
