"""Both built-in journals against the kit that any journal has to pass."""

import asyncio
from pathlib import Path

import pytest

from antiphon.conformance.journal import CHECKS, SHARED_CHECKS, Check
from antiphon.errors import ConfigError, UnknownSession
from antiphon.kernel import events as ev
from antiphon.runtime.ports import Batch, Journal
from antiphon.stores import memory, sqlite
from antiphon.stores.memory import MemoryJournal
from antiphon.stores.sqlite import SqliteJournal


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_memory_journal_conforms(check: Check) -> None:
    asyncio.run(check(MemoryJournal))


@pytest.mark.parametrize("synchronous", ["full", "off"])
@pytest.mark.parametrize("check", CHECKS + SHARED_CHECKS, ids=lambda check: check.__name__)
def test_sqlite_journal_conforms(check: Check, synchronous: str, tmp_path: Path) -> None:
    def make() -> Journal:
        return SqliteJournal(tmp_path / "deep" / "journal.sqlite", synchronous)  # type: ignore[arg-type]

    asyncio.run(check(make))


def test_the_kit_finds_a_journal_that_does_not_fence() -> None:
    class Unfenced(MemoryJournal):
        async def append(self, batches):  # type: ignore[no-untyped-def]
            newest = {batch.session: self._sessions[batch.session].row.epoch for batch in batches}
            return await super().append(
                [Batch(b.session, newest[b.session], b.expected_seq, b.entries) for b in batches]
            )

    fencing = next(check for check in CHECKS if check.__name__ == "refuses_an_older_epoch")
    with pytest.raises(AssertionError, match="older claim"):
        asyncio.run(fencing(Unfenced))


def test_memory_journal_keeps_only_the_newest_closed_sessions() -> None:
    async def main() -> None:
        journal = MemoryJournal(keep_closed=2)
        await journal.claim("open")
        for name in ("a", "b", "c"):
            await journal.claim(name)
            await journal.append([Batch(name, 1, 0, (ev.Entry(1, 0, ev.SessionClosed("caller")),))])
        assert [row.session for row in await journal.sessions()] == ["c", "b", "open"]
        with pytest.raises(UnknownSession):
            await journal.read("a")

    asyncio.run(main())


def test_build_takes_settings_and_names_a_wrong_one(tmp_path: Path) -> None:
    journal = sqlite.build({"path": str(tmp_path / "j.sqlite"), "synchronous": "normal", "busy_s": "0.5"})
    asyncio.run(CHECKS[0](lambda: journal))
    with pytest.raises(ConfigError, match="synchronous"):
        sqlite.build({"synchronous": "sometimes"})
    with pytest.raises(ConfigError, match="pth"):
        sqlite.build({"pth": "x"})
    with pytest.raises(ConfigError, match="keep"):
        memory.build({"keep": 3})
    with pytest.raises(ConfigError, match="synchronous"):
        SqliteJournal(tmp_path / "j", "extra; DROP TABLE entries")  # type: ignore[arg-type]
