"""``antiphon calls``: lists what the journal holds."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from antiphon.cli.arguments import add_journal_argument, whole

if TYPE_CHECKING:
    from antiphon.observe.render import CallRow
    from antiphon.runtime.ports import Journal

HELP = "list the calls in the journal, newest first"
EXAMPLES = (
    ("antiphon calls", "the newest fifty"),
    ("antiphon calls -n 5", "the newest five"),
    ("antiphon calls --journal /var/lib/antiphon/journal.sqlite", "another server's"),
    ("antiphon calls --json | jq -r '.[].session'", "only their ids"),
    ("antiphon calls --prune 30", "delete those that were over 30 days ago, for good"),
)
MOST = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_journal_argument(parser)
    parser.add_argument(
        "-n", "--limit", type=whole(1, MOST), default=50, metavar="N", help="at most so many (default 50)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--prune",
        type=whole(0, 36_500),
        metavar="DAYS",
        help="instead of listing: delete conversations that are over and older than that, for good; "
        "[journal] keep_days does so by itself",
    )


def run(args: argparse.Namespace) -> int:
    from antiphon.cli.journal_source import console, fail, with_journal
    from antiphon.errors import AntiphonError
    from antiphon.observe.render import calls_json, print_calls

    if args.prune is not None:
        return _prune(args)
    try:
        rows = with_journal(args, lambda journal: _rows(journal, args.limit))
    except AntiphonError as error:
        return fail(error)
    if args.json:
        print(json.dumps(calls_json(rows), ensure_ascii=False, indent=2))
    elif rows:
        print_calls(console(), rows)
    else:
        print("no calls yet: place one with `antiphon call`")
    return 0


def _prune(args: argparse.Namespace) -> int:
    import asyncio

    from antiphon.cli.journal_source import fail, journal_place
    from antiphon.errors import AntiphonError, ConfigError
    from antiphon.stores.choice import open_journal
    from antiphon.stores.sqlite import SqliteJournal

    async def pruned() -> int:
        place = journal_place(args)
        journal = open_journal(place, access="read")
        if not isinstance(journal, SqliteJournal):
            raise ConfigError(
                "this journal's server forgets by itself: set SESSION_TTL_SECONDS", code="config.bad_value"
            )
        await journal.start()  # a file that is none is not made
        await journal.close()
        journal = SqliteJournal(place)
        await journal.start()
        try:
            return await journal.prune(args.prune)
        finally:
            await journal.close()

    try:
        gone = asyncio.run(pruned())
    except AntiphonError as error:
        return fail(error)
    print(f"{gone} conversation{'' if gone == 1 else 's'} deleted")
    return 0


async def _rows(journal: Journal, limit: int) -> list[CallRow]:
    """A row's own count of turns holds the greeting and what else the agent said unasked: it is not shown."""
    from antiphon.errors import StoreError
    from antiphon.observe.projections import summary
    from antiphon.observe.render import CallRow

    found = []
    for session in await journal.sessions(limit):
        try:
            turns = summary(await journal.read(session.session)).turns
        except StoreError:  # one call that cannot be read does not hide the others
            turns = None
        found.append(CallRow(session, turns))
    return found
