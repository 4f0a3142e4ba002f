"""Was it an answer? By ear every sound after a question is a reply; the agent's journal knows what it was.

The caller's time begins with its stream, the journal's with the session, which the stream's start begins: they differ
by the way between the two, some milliseconds on one machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from antiphon.errors import StoreError, UnknownSession
from antiphon.kernel.events import Entry, LineAttached, SessionClosed, SessionStarted
from antiphon.kernel.history import LEADS
from antiphon.observe.projections import conversation
from antiphon.observe.views import TurnView, caller_turns
from antiphon.phone.report import CallReport
from antiphon.runtime.ports import Journal
from antiphon.stores.choice import open_journal

SLACK_MS = 200
"""A turn may seem to begin so long before its line: the way to the server and its loop's delays."""
PATIENCE_S = 1.5
LOOK_S = 0.05


async def judge_calls(reports: Sequence[CallReport], place: str, *, needed: bool) -> None:
    """Judges the calls that the journal at ``place`` holds, waiting a moment for their last entries.

    Raises ``StoreError`` if the journal cannot be read and is ``needed``; else such calls are judged by ear alone.
    """
    journal = open_journal(place, access="read")
    deadline = time.monotonic() + PATIENCE_S
    try:
        await journal.start()
        for report in reports:
            if not report.error:
                judge(report, await _entries(journal, report.call_id, deadline))
    except StoreError:
        if needed:
            raise
    finally:
        await journal.close()


async def _entries(journal: Journal, call_id: str, deadline: float) -> list[Entry]:
    """Those of the call once it is closed; those that are there by the deadline; none of an unknown call."""
    while True:
        try:
            entries = await journal.read(call_id)
        except UnknownSession:
            return []
        if (entries and isinstance(entries[-1].event, SessionClosed)) or time.monotonic() > deadline:
            return entries
        await asyncio.sleep(LOOK_S)


def judge(report: CallReport, entries: Sequence[Entry]) -> None:
    """Corrects what the report says of its turns. Without entries it is left as it is."""
    began = next((e.at for e in reversed(entries) if isinstance(e.event, SessionStarted | LineAttached)), None)
    if began is None:
        return
    report.judged_by = "journal"
    turns = conversation(entries).turns
    lines = report.replies
    for place, line in enumerate(lines):
        since = began + line.began_ms - SLACK_MS
        until = began + lines[place + 1].began_ms - SLACK_MS if place + 1 < len(lines) else None
        mine = [turn for turn in turns if since <= turn.at_ms and (until is None or turn.at_ms < until)]
        if line.answered and not any(turn.answered for turn in caller_turns(mine)):
            line.answered = False
            line.instead = _heard_instead(mine)


def _heard_instead(turns: Sequence[TurnView]) -> str:
    """The first phrase that was heard, or ``unknown``."""
    parts = (part for turn in turns for part in turn.segments if part.heard_chars)
    return next((part.kind for part in parts if part.kind not in (*LEADS, "reply")), "unknown")
