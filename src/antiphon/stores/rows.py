"""What a store keeps beside a session's entries, so that calls can be listed without reading them.

The one place that says how entries change a ``SessionRow``; every store folds with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from antiphon.errors import StaleWriter, StoreError
from antiphon.kernel import events as ev
from antiphon.runtime.ports import CALL_ID, Batch, SessionRow

LIVE, DETACHED, CLOSED, INTERRUPTED = "live", "detached", "closed", "interrupted"


class Row(msgspec.Struct):
    """The listing columns of one session. ``line`` is live, detached or closed; who owns it is the store's matter."""

    session: str
    epoch: int = 0
    line: str = LIVE
    started_at: str = ""
    transport: str = ""
    language: str = ""
    caller: str = ""
    turns: int = 0
    last_seq: int = 0
    last_at_ms: int = 0


def fold(row: Row, entries: Iterable[ev.Entry]) -> None:
    """Brings the row up to date with entries that are being appended.

    ``turns`` is the highest turn number seen: turn numbers only grow within a session.
    """
    for entry in entries:
        event = entry.event
        row.last_seq = entry.seq
        row.last_at_ms = entry.at
        turn = getattr(event, "turn", 0)
        row.turns = max(row.turns, turn)
        if isinstance(event, ev.SessionStarted):
            row.started_at = event.started_at or row.started_at
            row.transport, row.language, row.caller = event.transport, event.language, event.caller
        elif isinstance(event, ev.LineAttached):
            row.line, row.transport = LIVE, event.transport
        elif isinstance(event, ev.LineDropped):
            row.line = DETACHED
        elif isinstance(event, ev.SessionClosed):
            row.line = CLOSED


def listed(row: Row, *, owner_alive: bool) -> SessionRow:
    status = row.line if owner_alive or row.line == CLOSED else INTERRUPTED
    return SessionRow(
        session=row.session,
        status=status,
        started_at=row.started_at,
        transport=row.transport,
        language=row.language,
        turns=row.turns,
        entries=row.last_seq,
        last_at_ms=row.last_at_ms,
        epoch=row.epoch,
        caller=row.caller,
    )


def check_session_id(session: str) -> None:
    """Raises ``StoreError`` (``store.bad_session``) unless the id fits ``CALL_ID`` (X37)."""
    if not CALL_ID.fullmatch(session):
        raise StoreError(
            f"a session id is 1 to 255 of A-Z a-z 0-9 _ . : -, not {session[:80]!r}", code="store.bad_session"
        )


def check_order(batch: Batch) -> None:
    """Raises ``StoreError`` (``store.bad_batch``) unless the entries follow ``expected_seq`` without a hole."""
    for seq, entry in enumerate(batch.entries, batch.expected_seq + 1):
        if entry.seq != seq:
            raise StoreError(
                f"entry {entry.seq} of session {batch.session} stands where {seq} belongs: "
                "a batch holds the entries that follow expected_seq, in order",
                code="store.bad_batch",
            )


def check_owner(batch: Batch, row: Row) -> None:
    """Raises ``StaleWriter`` for another epoch than the row's, ``StoreError`` (``store.gap``) for missing entries."""
    if batch.epoch != row.epoch:
        raise StaleWriter(
            f"session {batch.session} belongs to epoch {row.epoch}, not {batch.epoch}: another line or process has it"
        )
    if batch.expected_seq > row.last_seq:
        raise StoreError(
            f"session {batch.session} ends at entry {row.last_seq} in the store but entry {batch.expected_seq} "
            "was expected there: entries in between were lost",
            code="store.gap",
        )


def encode(batch: Batch) -> list[tuple[int, bytes]]:
    """The batch's entries as (sequence number, msgpack). Raises ``StoreError`` (``store.bad_batch``)."""
    try:
        return [(entry.seq, ev.encode_entry(entry)) for entry in batch.entries]
    except (TypeError, ValueError, OverflowError) as error:  # lone surrogates, numbers over 64 bits
        raise StoreError(
            f"an entry of session {batch.session} cannot be encoded: {error}", code="store.bad_batch"
        ) from error


def check_repeat(batch: Batch, encoded: Sequence[tuple[int, bytes]], kept: Sequence[bytes]) -> int:
    """Returns how many of the batch's entries are there already; ``kept`` (encoded) follows ``expected_seq`` there.

    Sending a batch again after its acknowledgement was lost is harmless; other entries under the
    same numbers mean that somebody else has written.
    """
    for (seq, mine), theirs in zip(encoded, kept, strict=False):
        if mine != theirs:
            raise differs(batch, seq)
    if len(kept) > len(encoded):
        raise longer(batch)
    return len(kept)


def differs(batch: Batch, seq: int) -> StaleWriter:
    return StaleWriter(f"entry {seq} of session {batch.session} is already there and says something else")


def longer(batch: Batch) -> StaleWriter:
    return StaleWriter(f"session {batch.session} holds entries after {batch.expected_seq} that this writer never saw")


def unreadable(session: str, seq: int, error: Exception) -> StoreError:
    return StoreError(
        f"entry {seq} of session {session} cannot be read: it is damaged, or written by a newer Antiphon "
        f"(then upgrade): {error}",
        code="store.corrupt",
    )
