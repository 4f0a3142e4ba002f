"""Which journal a command reads, and how it is opened: without changing it, also while a server writes."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from rich.console import Console

from antiphon import config
from antiphon.errors import AntiphonError, UnknownSession
from antiphon.kernel.events import Entry
from antiphon.runtime.ports import Journal
from antiphon.stores.choice import open_journal

_SEARCHED = 1000
_PLAIN_WIDTH = 110

ResultT = TypeVar("ResultT")


def journal_place(args: argparse.Namespace, environ: Mapping[str, str] | None = None) -> str:
    """A path, or a URL that may hold a password. Raises ``ConfigError`` if the settings are needed and wrong."""
    if args.journal:
        return str(args.journal)
    return config.load(getattr(args, "config", None), environ=environ).journal.place


def with_journal(args: argparse.Namespace, use: Callable[[Journal], Awaitable[ResultT]]) -> ResultT:
    """Opens the journal for reading, lets ``use`` read, and closes it. Raises ``ConfigError`` and ``StoreError``."""

    async def run() -> ResultT:
        journal = open_journal(journal_place(args), access="read")
        try:
            await journal.start()
            return await use(journal)
        finally:
            await journal.close()

    return asyncio.run(run())


def fail(error: AntiphonError) -> int:
    """Says what went wrong; exit status 2, which is neither success nor a finding."""
    print(f"antiphon: {error}", file=sys.stderr)
    return 2


async def find(journal: Journal, name: str) -> tuple[str, list[Entry]]:
    """A session by its id, by a beginning of it that fits only one, or ``last`` for the newest.

    Only the newest 1000 sessions are searched by beginning. Raises ``UnknownSession``.
    """
    if name == "last":
        newest = await journal.sessions(1)
        if not newest:
            raise UnknownSession("there is no call in this journal yet: place one with `antiphon call`")
        return newest[0].session, await journal.read(newest[0].session)
    try:
        return name, await journal.read(name)
    except UnknownSession:
        fits = [row.session for row in await journal.sessions(_SEARCHED) if row.session.startswith(name)]
        if len(fits) == 1:
            return fits[0], await journal.read(fits[0])
        if fits:
            some = ", ".join(fits[:5])
            raise UnknownSession(f"{len(fits)} calls begin with {name}: {some}: give more of the id") from None
        raise


def console() -> Console:
    """Standard output; without a terminal, plain text of a fixed width."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=_PLAIN_WIDTH, color_system=None, force_terminal=False)
