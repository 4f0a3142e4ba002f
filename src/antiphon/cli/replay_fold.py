"""One journal folded again: identical, or where it diverged and what is decided there now."""

from __future__ import annotations

from typing import Any

import msgspec

from antiphon.errors import ReplayDiverged
from antiphon.kernel.events import Entry
from antiphon.kernel.session import Session, replay
from antiphon.observe.render import clean


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


def line_of(result: dict[str, Any]) -> str:
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
