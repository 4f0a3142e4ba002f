"""``antiphon show ID``: one conversation, with a latency waterfall per turn."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from antiphon.cli.arguments import add_journal_argument

if TYPE_CHECKING:
    from antiphon.kernel.events import Entry
    from antiphon.runtime.ports import Journal

HELP = "print a conversation with its latencies"
EXAMPLES = (
    ("antiphon show last", "the newest call"),
    ("antiphon show CA6c", "the call whose id begins so"),
    ("antiphon show last --json | jq .summary", "its figures"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints a conversation with its latencies: what was said, heard, interrupted and answered from what; and for "
        "each turn where the time between the caller's last sound and the agent's first went."
    )
    parser.add_argument("id", help="the call's id, a beginning of it, or `last`")
    add_journal_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from antiphon.cli.journal_source import console, fail, find, with_journal
    from antiphon.errors import AntiphonError
    from antiphon.observe.projections import conversation
    from antiphon.observe.render import call_json, print_call

    async def read(journal: Journal) -> tuple[list[Entry], str]:
        session, entries = await find(journal, args.id)
        return entries, (await journal.session(session)).status

    try:
        entries, status = with_journal(args, read)
    except AntiphonError as error:
        return fail(error)
    if not entries:
        print(f"call {args.id} has no entries: its process ended before the first was written")
        return 0
    call = conversation(entries)
    if args.json:
        print(json.dumps(call_json(call, status), ensure_ascii=False, indent=2))
    else:
        print_call(console(), call, status)
    return 0
