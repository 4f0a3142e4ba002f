"""``antiphon replay ID``: folds a journal again and says whether today's code decides the same."""

from __future__ import annotations

import argparse
import json
from typing import Any

import msgspec

from antiphon.cli.journal_source import add_journal_argument, fail, find, with_journal
from antiphon.errors import AntiphonError, ReplayDiverged, StoreError
from antiphon.kernel.events import Entry
from antiphon.kernel.session import Session, replay
from antiphon.observe.render import clean
from antiphon.runtime.ports import Journal

HELP = "fold a journal again and say whether it decides the same"

_ALL = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", help="the call's id, a beginning of it, or `last`")
    parser.add_argument("--all", action="store_true", help="every call in the journal")
    add_journal_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Exit status 0: all identical; 1: at least one diverged; 2: the journal could not be read."""
    if bool(args.id) == args.all:
        return fail(StoreError("give one call's id, or --all", code="cli.usage"))

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
            print(_line(result))
        if args.all:
            print(f"{identical} of {len(results)} calls identical")
    return 0 if identical == len(results) else 1


def examine(session: str, entries: list[Entry]) -> dict[str, Any]:
    """Folds one journal; where it diverged, with the event, the digest of then and what is decided now."""
    result: dict[str, Any] = {"session": session, "identical": True, "entries": len(entries)}
    try:
        replay(entries)
    except ReplayDiverged as error:
        result["identical"] = False
        result["diverged"] = {"seq": error.seq, **_explain(entries, error.seq)}
    except msgspec.DecodeError as error:
        result["identical"] = False
        result["error"] = f"the policy in its first entry cannot be read: {error}"
    return result


def _explain(entries: list[Entry], seq: int) -> dict[str, Any]:
    """Folds up to the entry that diverged, without asking, and decides it once more."""
    session = Session()
    for entry in entries:
        before = str(session.floor)
        again, commands = session.receive(entry.event, entry.at)
        if entry.seq >= seq:
            break
    return {
        "at_ms": entry.at,
        "floor": before,
        "event": str(entry.event),
        "then": entry.digest.hex() or "nothing",
        "now": again.digest.hex() or "nothing",
        "decided_now": [str(command) for command in commands],
    }


def _line(result: dict[str, Any]) -> str:
    head = clean(result["session"])
    if result["identical"]:
        return f"{head}: identical, {result['entries']} entries"
    if "error" in result:
        return f"{head}: cannot be replayed: {clean(result['error'])}"
    where = result["diverged"]
    decided = "\n".join(f"      {clean(command)}" for command in where["decided_now"]) or "      nothing"
    return (
        f"{head}: diverged at entry {where['seq']} of {result['entries']} ({where['at_ms']} ms, {where['floor']})\n"
        f"    event: {clean(where['event'])}\n"
        f"    decided then: digest {where['then']} (only the digest is kept)\n"
        f"    decides now: digest {where['now']}\n{decided}"
    )
