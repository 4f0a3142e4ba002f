"""``antiphon replay ID``: folds a journal again and says whether today's code decides the same."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from antiphon.cli.arguments import add_journal_argument

if TYPE_CHECKING:
    from antiphon.runtime.ports import Journal

HELP = "fold a journal again and say whether it decides the same"
EXAMPLES = (
    ("antiphon replay last", "the newest call"),
    ("antiphon replay --all", "every call, and how many are identical"),
)

_ALL = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Folds a journal again, without any audio or provider, and says whether today's code decides the same as was "
        "decided then; where it does not, what it decides now. Exit status: 0 identical; 1 not; 2 not readable."
    )
    parser.add_argument("id", nargs="?", help="the call's id, a beginning of it, or `last`")
    parser.add_argument("--all", action="store_true", help="every call in the journal")
    add_journal_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Exit status 0: all identical; 1: at least one diverged; 2: the journal could not be read."""
    from antiphon.cli.journal_source import fail, find, with_journal
    from antiphon.cli.replay_fold import line_of
    from antiphon.errors import AntiphonError, StoreError
    from antiphon.observe.replaying import examine

    if bool(args.id) == args.all:
        return fail(StoreError("give one call's id (`antiphon calls` lists them), `last`, or --all", code="cli.usage"))

    async def read(journal: Journal) -> list[dict[str, Any]]:
        if not args.all:
            session, entries = await find(journal, args.id)
            return [examine(session, entries)]
        found = []
        for row in await journal.sessions(_ALL):
            try:
                found.append(examine(row.session, await journal.read(row.session)))
            except StoreError as error:  # one call that cannot be read says nothing about the others
                found.append({"session": row.session, "identical": False, "entries": row.entries, "error": str(error)})
        return found

    try:
        results = with_journal(args, read)
    except AntiphonError as error:
        return fail(error)
    identical = sum(result["identical"] for result in results)
    if args.json:
        print(json.dumps(results if args.all else results[0], ensure_ascii=False, indent=2))
    else:
        for result in results:
            print(line_of(result))
        if args.all:
            print(f"{identical} of {len(results)} calls identical")
    return 0 if identical == len(results) else 1
