"""``antiphon show ID``: one conversation, with a latency waterfall per turn."""

from __future__ import annotations

import argparse
import json

from antiphon.cli.journal_source import add_journal_argument, console, fail, find, row_of, with_journal
from antiphon.errors import AntiphonError
from antiphon.kernel.events import Entry
from antiphon.observe.projections import conversation
from antiphon.observe.render import call_json, print_call
from antiphon.runtime.ports import Journal

HELP = "print a conversation with its latencies"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="the call's id, a beginning of it, or `last`")
    add_journal_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    async def read(journal: Journal) -> tuple[list[Entry], str]:
        session, entries = await find(journal, args.id)
        row = await row_of(journal, session)
        return entries, row.status if row else ""

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
