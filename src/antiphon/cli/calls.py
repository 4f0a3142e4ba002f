"""``antiphon calls``: lists what the journal holds."""

from __future__ import annotations

import argparse
import json

from antiphon.cli.journal_source import add_journal_argument, console, fail, with_journal
from antiphon.errors import AntiphonError
from antiphon.observe.render import calls_json, calls_table

HELP = "list the calls in the journal, newest first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_journal_argument(parser)
    parser.add_argument("-n", "--limit", type=int, default=50, metavar="N", help="at most so many (default 50)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    try:
        rows = with_journal(args, lambda journal: journal.sessions(args.limit))
    except AntiphonError as error:
        return fail(error)
    if args.json:
        print(json.dumps(calls_json(rows), ensure_ascii=False, indent=2))
    elif rows:
        console().print(calls_table(rows))
    else:
        print("no calls yet: place one with `antiphon call`")
    return 0
