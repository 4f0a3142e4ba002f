"""Recovery: the session of a call as its journal knows it.

The rule lives here: a store that is down, a snapshot that cannot be read and rules that have changed
since are no reasons to refuse a caller. The facts stand; they are folded by the rules of now.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from antiphon.errors import ReplayDiverged, StoreError, UnknownSession
from antiphon.kernel.events import AnyEvent, SessionStarted
from antiphon.kernel.policy import Policy, decode_policy, encode_policy
from antiphon.kernel.session import Session, replay
from antiphon.runtime.ports import Journal

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
    except (ReplayDiverged, msgspec.DecodeError) as error:
        # An older release decided otherwise, or by a policy that this one refuses. The caller is not
        # to be dropped for it.
        log.warning("the session is resumed under changed rules: %s", error, extra={"call": call_id})
    session, _ = _restore(kept, call_id)
    for entry in entries:
        session.receive(_readable(entry.event), entry.at)
    return session, epoch


def _readable(event: AnyEvent) -> AnyEvent:
    """A first entry whose policy cannot be read gets the policy of now."""
    if isinstance(event, SessionStarted):
        try:
            decode_policy(event.policy)
        except msgspec.DecodeError:
            return msgspec.structs.replace(event, policy=encode_policy(Policy()))
    return event


def _restore(kept: tuple[int, bytes] | None, call_id: str) -> tuple[Session, int]:
    """The session of a snapshot and the number of its last entry; a new one where none can be read."""
    if kept is not None:
        try:
            return Session.restore(kept[1]), kept[0]
        except msgspec.DecodeError as error:
            log.warning("the journal is read from its start: %s", error, extra={"call": call_id})
    return Session(), 0
