"""Recovery: the session of a call as its journal knows it.

The rule lives here: a store that is down, a snapshot that cannot be read and rules that have changed
since are no reasons to refuse a caller. The facts stand; they are folded by the rules of now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from antiphon.errors import UNUSABLE, ReplayDiverged, StaleWriter, StoreError, UnknownSession
from antiphon.kernel.events import AnyEvent, SessionStarted
from antiphon.kernel.policy import Policy, decode_policy, encode_policy
from antiphon.kernel.session import Session, replay
from antiphon.runtime.ports import Journal
from antiphon.runtime.writer import JournalWriter

OPEN_TIMEOUT_S = 2.0

log = logging.getLogger("antiphon.call")


async def recover(journal: Journal, call_id: str) -> tuple[Session, int]:
    """Claims the call and folds what there is of it. Returns (a new session, 0) while the store is down."""
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            epoch = await journal.claim(call_id)
            if epoch == 1:
                return Session(), epoch
            kept = await journal.load_snapshot(call_id)
            session, seq = _restore(kept, call_id)
            entries = await journal.read(call_id, seq)
    except UnknownSession:
        return Session(), 0
    except (StoreError, TimeoutError) as error:
        log.warning("the journal is not there, the call goes on in memory: %s", error, extra={"call": call_id})
        return Session(), 0
    try:
        return replay(entries, session=session), epoch
    except (ReplayDiverged, *UNUSABLE) as error:
        # An older release decided otherwise, or by a policy that this one refuses. The caller is not
        # to be dropped for it.
        log.warning("the session is resumed under changed rules: %s", error, extra={"call": call_id})
    session, _ = _restore(kept, call_id)
    for entry in entries:
        session.receive(_readable(entry.event), entry.at)
    return session, epoch


async def settled(writer: JournalWriter, call_id: str) -> Exception | None:
    """What an earlier line of this call still has to write comes before what the next one reads; else why it is not."""
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await writer.flush(call_id)
    except UnknownSession:
        return None
    except (StoreError, TimeoutError) as error:
        log.warning("an earlier line's end is not on disk yet: %s", error, extra={"call": call_id})
        return error
    return None


async def claim_again(
    journal: Journal, writer: JournalWriter, call_id: str, last_seq: Callable[[], int]
) -> tuple[int, bool]:
    """Claims a call that waited in this process, whose last entry is ``last_seq()``.

    Gives the epoch, and whether somebody else has held the call meanwhile. The epoch is 0 where it cannot be claimed,
    because the store is down or took not all that was said before.
    """
    failure = await settled(writer, call_id)
    if failure is not None:
        return 0, isinstance(failure, StaleWriter)
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            epoch = await journal.claim(call_id)
            theirs = await journal.read(call_id, last_seq())
    except (StoreError, TimeoutError) as error:
        log.warning("the journal is not there, the call goes on in memory: %s", error, extra={"call": call_id})
        return 0, False
    # What happened here between the two was written under the epoch of before, and refused.
    return epoch, bool(theirs) or isinstance(await settled(writer, call_id), StaleWriter)


def _readable(event: AnyEvent) -> AnyEvent:
    """A first entry whose policy cannot be read gets the policy of now."""
    if isinstance(event, SessionStarted):
        try:
            decode_policy(event.policy)
        except UNUSABLE:
            return msgspec.structs.replace(event, policy=encode_policy(Policy()))
    return event


def _restore(kept: tuple[int, bytes] | None, call_id: str) -> tuple[Session, int]:
    """The session of a snapshot and the number of its last entry; a new one where none can be read."""
    if kept is not None:
        try:
            return Session.restore(kept[1]), kept[0]
        except UNUSABLE as error:
            log.warning("the journal is read from its start: %s", error, extra={"call": call_id})
    return Session(), 0
