"""``/health`` of a server whose journal is on another one (B14)."""

import asyncio
from typing import cast

from antiphon.errors import StoreError
from antiphon.runtime.ports import Journal
from antiphon.server.checks import journal_checks
from antiphon.server.health import Checks
from antiphon.stores.memory import MemoryJournal


class Elsewhere(MemoryJournal):
    service = "redis"
    up = True

    async def check(self) -> None:
        if not self.up:
            raise StoreError("no Redis can be reached", code="store.unreachable")


def test_a_journal_on_a_server_is_asked_how_it_is() -> None:
    journal = Elsewhere()

    async def answer() -> dict[str, bool]:
        return await Checks(journal_checks(cast(Journal, journal))).results()

    assert asyncio.run(answer()) == {"redis": True}
    journal.up = False
    assert asyncio.run(answer()) == {"redis": False}
    assert journal_checks(MemoryJournal()) == {}, "a journal without a server is not asked"
