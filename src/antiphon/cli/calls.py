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
)
MOST = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_journal_argument(parser)
    parser.add_argument(
        "-n", "--limit", type=whole(1, MOST), default=50, metavar="N", help="at most so many (default 50)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from antiphon.cli.journal_source import console, fail, with_journal
    from antiphon.errors import AntiphonError
    from antiphon.observe.render import calls_json, print_calls

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
