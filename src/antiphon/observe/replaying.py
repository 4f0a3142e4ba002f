"""One journal folded again: identical, or where it diverged and what is decided there now. Pure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from antiphon.errors import UNUSABLE, ReplayDiverged
from antiphon.kernel.events import Entry
from antiphon.kernel.session import Session, replay

ResultT = TypeVar("ResultT")

Steps = Generator[None, None, ResultT]
"""A piece of work that can be left and gone on with after each entry, so that a long journal stops nobody."""


def examine(session: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """Folds one journal; where it diverged, with the event, the digest of then and what is decided now."""
    steps = examining(session, entries)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: dict[str, Any] = end.value
            return result


def examining(session: str, entries: Sequence[Entry]) -> Steps[dict[str, Any]]:
    """``examine``, a step for each entry."""
    result: dict[str, Any] = {"session": session, "identical": True, "entries": len(entries)}
    fold = Session()
    try:
        for entry in entries:
            replay((entry,), session=fold)
            yield
    except ReplayDiverged as error:
        result["identical"] = False
        result["diverged"] = {"seq": error.seq, **(yield from _explaining(entries, error.seq))}
    except UNUSABLE as error:
        result["identical"] = False
        result["error"] = f"the policy in its first entry cannot be read: {error}"
    return result


def _explaining(entries: Sequence[Entry], seq: int) -> Steps[dict[str, Any]]:
    """Folds up to the entry that diverged, without asking, and decides it once more."""
    session = Session()
    for entry in entries:
        before = str(session.floor)
        again, commands = session.receive(entry.event, entry.at)
        if entry.seq >= seq:
            break
        yield
    return {
        "at_ms": entry.at,
        "floor": before,
        "event": str(entry.event),
        "then": entry.digest.hex() or "nothing",
        "now": again.digest.hex() or "nothing",
        "decided_now": [str(command) for command in commands],
    }
