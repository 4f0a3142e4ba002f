"""What every ``Journal`` must do. Each check takes a function that opens a journal over one fresh, empty store.

``CHECKS`` hold for any journal; ``SHARED_CHECKS`` also for one whose store outlives the object (a file,
a server): there the function is called more than once and must open the same store again.

    async def check(make): ...

A check raises ``AssertionError`` saying what is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from antiphon.errors import StaleWriter, StoreError, UnknownSession
from antiphon.kernel import events as ev
from antiphon.runtime.ports import Batch, Journal

Make = Callable[[], Journal]
Check = Callable[[Make], Awaitable[None]]


def some_entries(first: int, count: int, text: str = "hello") -> tuple[ev.Entry, ...]:
    return tuple(
        ev.Entry(seq, seq * 20, ev.TranscriptPartial(1, f"{text} {seq}"), b"12345678")
        for seq in range(first, first + count)
    )


def require(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def _refused(result: object, kind: type[Exception], what: str) -> None:
    require(isinstance(result, kind), f"{what}: expected {kind.__name__}, got {result!r}")


async def _raises(awaitable: Awaitable[object], kind: type[Exception], what: str) -> None:
    try:
        result = await awaitable
    except kind:
        return
    raise AssertionError(f"{what}: expected {kind.__name__}, got {result!r}")


async def _with(make: Make, use: Callable[[Journal], Awaitable[None]]) -> None:
    journal = make()
    await journal.start()
    try:
        await use(journal)
    finally:
        await journal.close()


async def _put(journal: Journal, batch: Batch) -> Exception | None:
    return (await journal.append([batch]))[0]


# -- entries ------------------------------------------------------------------------------------


async def keeps_entries_in_order(make: Make) -> None:
    async def use(journal: Journal) -> None:
        epoch = await journal.claim("a")
        require(epoch == 1, f"the first claim gives epoch 1, not {epoch}")
        entries = some_entries(1, 5)
        require(await _put(journal, Batch("a", 1, 0, entries[:2])) is None, "a first batch is taken")
        require(await _put(journal, Batch("a", 1, 2, entries[2:])) is None, "a following batch is taken")
        require(await journal.read("a") == list(entries), "read gives what was appended, in order")
        require(await journal.read("a", 3) == list(entries[3:]), "after_seq leaves out what is known")
        require(await journal.read("a", 99) == [], "nothing comes after the end")
        require(await _put(journal, Batch("a", 1, 5, ())) is None, "an empty batch is harmless")
        require(await journal.append([]) == [], "so is an empty group, which asks whether the store is well")

    await _with(make, use)


async def keeps_every_kind_of_text(make: Make) -> None:
    async def use(journal: Journal) -> None:
        await journal.claim("a")
        texts = ("", "నమస్తే", "a\x00b", "👩‍👩‍👧", "x" * ev.MAX_TEXT)
        entries = tuple(ev.Entry(seq, seq, ev.TextTyped(text)) for seq, text in enumerate(texts, 1))
        require(await _put(journal, Batch("a", 1, 0, entries)) is None, "any Unicode text is taken")
        require(await journal.read("a") == list(entries), "text comes back unchanged")

    await _with(make, use)


async def keeps_sessions_apart(make: Make) -> None:
    async def use(journal: Journal) -> None:
        names = [f"s{number}" for number in range(20)]
        for name in names:
            await journal.claim(name)
        results = await journal.append([Batch(name, 1, 0, some_entries(1, 3, name)) for name in names])
        require(results == [None] * 20, "a group commit over many sessions is taken")
        for name in names:
            require(await journal.read(name) == list(some_entries(1, 3, name)), f"{name} holds its own entries only")

    await _with(make, use)


async def takes_two_batches_of_one_session_in_one_call(make: Make) -> None:
    async def use(journal: Journal) -> None:
        await journal.claim("a")
        results = await journal.append([Batch("a", 1, 0, some_entries(1, 2)), Batch("a", 1, 2, some_entries(3, 2))])
        require(results == [None, None], "batches of one call follow each other")
        require(len(await journal.read("a")) == 4, "both are there")

    await _with(make, use)


async def takes_a_repeated_batch(make: Make) -> None:
    async def use(journal: Journal) -> None:
        await journal.claim("a")
        entries = some_entries(1, 5)
        await _put(journal, Batch("a", 1, 0, entries[:3]))
        again = await _put(journal, Batch("a", 1, 0, entries))
        require(again is None, f"a batch whose acknowledgement was lost may be sent again, and longer: {again!r}")
        require(await journal.read("a") == list(entries), "nothing is there twice")
        other = some_entries(1, 5, "other")
        _refused(await _put(journal, Batch("a", 1, 0, other)), StaleWriter, "other entries under the same numbers")
        require(await journal.read("a") == list(entries), "a refused batch changes nothing")

    await _with(make, use)


# -- refusals -----------------------------------------------------------------------------------


async def refuses_an_older_epoch(make: Make) -> None:
    async def use(journal: Journal) -> None:
        await journal.claim("a")
        await _put(journal, Batch("a", 1, 0, some_entries(1, 2)))
        require(await journal.claim("a") == 2, "a second claim gives epoch 2")
        _refused(await _put(journal, Batch("a", 1, 2, some_entries(3, 1))), StaleWriter, "the older claim's append")
        require(await _put(journal, Batch("a", 2, 2, some_entries(3, 1))) is None, "the newer claim may append")
        _refused(await _put(journal, Batch("a", 3, 3, some_entries(4, 1))), StaleWriter, "an epoch nobody was given")
        require(len(await journal.read("a")) == 3, "refused entries are not there")

    await _with(make, use)


async def one_refused_batch_spoils_no_other(make: Make) -> None:
    async def use(journal: Journal) -> None:
        for name in ("a", "b", "c"):
            await journal.claim(name)
        await journal.claim("b")
        results = await journal.append(
            [
                Batch("a", 1, 0, some_entries(1, 2)),
                Batch("b", 1, 0, some_entries(1, 2)),
                Batch("nobody", 1, 0, some_entries(1, 2)),
                Batch("c", 1, 0, some_entries(1, 2)),
            ]
        )
        require(results[0] is None and results[3] is None, f"the sound batches are taken: {results!r}")
        _refused(results[1], StaleWriter, "the stale batch")
        _refused(results[2], UnknownSession, "the batch of a session that was never claimed")
        require(len(await journal.read("c")) == 2, "a batch after a refused one is written")

    await _with(make, use)


async def refuses_holes(make: Make) -> None:
    async def use(journal: Journal) -> None:
        await journal.claim("a")
        _refused(await _put(journal, Batch("a", 1, 4, some_entries(5, 1))), StoreError, "entries after a hole")
        entries = (*some_entries(1, 1), *some_entries(3, 1))
        _refused(await _put(journal, Batch("a", 1, 0, entries)), StoreError, "a hole inside a batch")
        _refused(await _put(journal, Batch("a", 1, 0, some_entries(2, 1))), StoreError, "a batch that starts too late")
        require(await journal.read("a") == [], "nothing of them is there")

    await _with(make, use)


async def refuses_what_cannot_be_encoded(make: Make) -> None:
    async def use(journal: Journal) -> None:
        await journal.claim("a")
        await journal.claim("b")
        broken = ev.Entry(1, 1, ev.TextTyped("\ud800"))
        results = await journal.append([Batch("a", 1, 0, (broken,)), Batch("b", 1, 0, some_entries(1, 1))])
        _refused(results[0], StoreError, "a lone surrogate")
        require(results[1] is None, "its neighbour is taken")

    await _with(make, use)


async def knows_no_stranger(make: Make) -> None:
    async def use(journal: Journal) -> None:
        await _raises(journal.read("nobody"), UnknownSession, "read of an unknown session")
        await _raises(journal.load_snapshot("nobody"), UnknownSession, "its snapshot")
        for name in ("", "a b", "a/b", "é", "x" * 256, "a\n"):
            await _raises(journal.claim(name), StoreError, f"claim of {name[:8]!r}, which is no session id (X37)")
        require(await journal.claim("x" * 255) == 1, "255 characters are a session id")

    await _with(make, use)


# -- snapshots and listing ----------------------------------------------------------------------


async def keeps_the_latest_snapshot(make: Make) -> None:
    async def use(journal: Journal) -> None:
        await journal.claim("a")
        require(await journal.load_snapshot("a") is None, "no snapshot at first")
        await _put(journal, Batch("a", 1, 0, some_entries(1, 5)))
        await journal.save_snapshot("a", 1, 3, b"three")
        await journal.save_snapshot("a", 1, 5, b"five\x00")
        require(await journal.load_snapshot("a") == (5, b"five\x00"), "the latest snapshot comes back")
        await _raises(journal.save_snapshot("a", 1, 6, b"six"), StoreError, "a snapshot beyond the entries")
        await journal.claim("a")
        await _raises(journal.save_snapshot("a", 1, 5, b"old"), StaleWriter, "the older claim's snapshot")
        require(await journal.load_snapshot("a") == (5, b"five\x00"), "refused snapshots change nothing")

    await _with(make, use)


async def lists_sessions(make: Make) -> None:
    async def use(journal: Journal) -> None:
        for name in ("first", "second", "third"):
            await journal.claim(name)
        script: Sequence[ev.AnyEvent] = (
            ev.SessionStarted("first", "twilio", "hi-IN", b"", started_at="2026-01-02T03:04:05Z", caller="+91"),
            ev.IntentReady(1, "fees"),
            ev.SegmentStarted(2, 0),
        )
        entries = tuple(ev.Entry(seq, seq * 100, event) for seq, event in enumerate(script, 1))
        await _put(journal, Batch("first", 1, 0, entries))
        rows = await journal.sessions()
        require([row.session for row in rows] == ["third", "second", "first"], "newest first")
        require([row.session for row in await journal.sessions(1)] == ["third"], "limit is kept")
        row = rows[2]
        told = (row.status, row.started_at, row.transport, row.language, row.turns, row.entries, row.last_at_ms)
        require(told == ("live", "2026-01-02T03:04:05Z", "twilio", "hi-IN", 2, 3, 300), f"a row tells the call: {row}")
        require((row.epoch, row.caller) == (1, "+91"), f"a row tells owner and caller: {row}")
        for row in rows:
            require(await journal.session(row.session) == row, f"asked for alone it is the same row: {row}")
        await _raises(journal.session("nobody"), UnknownSession, "the row of a session that is not there")

    await _with(make, use)


async def tells_the_status(make: Make) -> None:
    async def use(journal: Journal) -> None:
        await journal.claim("a")
        steps: Sequence[tuple[ev.AnyEvent, str]] = (
            (ev.SessionStarted("a", "twilio", "en-IN", b""), "live"),
            (ev.LineDropped("1006"), "detached"),
            (ev.LineAttached("browser", 2), "live"),
            (ev.SessionClosed("caller"), "closed"),
        )
        for seq, (event, status) in enumerate(steps, 1):
            await _put(journal, Batch("a", 1, seq - 1, (ev.Entry(seq, seq, event),)))
            row = (await journal.sessions())[0]
            require(row.status == status, f"{status} after {type(event).__name__}, not {row.status}")
            require(await journal.session("a") == row, f"asked for alone it is {status}, too")
        require((await journal.sessions())[0].transport == "browser", "the line is the latest")

    await _with(make, use)


async def serves_many_at_once(make: Make) -> None:
    async def use(journal: Journal) -> None:
        async def call(name: str) -> None:
            epoch = await journal.claim(name)
            for seq in range(1, 11):
                result = await _put(journal, Batch(name, epoch, seq - 1, some_entries(seq, 1, name)))
                require(result is None, f"an append among many fails: {result!r}")
            require(await journal.read(name) == list(some_entries(1, 10, name)), f"{name} is complete")

        await asyncio.gather(*(call(f"s{number}") for number in range(20)))

    await _with(make, use)


# -- a store that outlives the object -----------------------------------------------------------


async def survives_closing(make: Make) -> None:
    async def write(journal: Journal) -> None:
        await journal.claim("a")
        await _put(journal, Batch("a", 1, 0, some_entries(1, 4)))
        await journal.save_snapshot("a", 1, 4, b"s")

    async def look(journal: Journal) -> None:
        require(await journal.read("a") == list(some_entries(1, 4)), "entries are there after closing")
        require(await journal.load_snapshot("a") == (4, b"s"), "so is the snapshot")
        require((await journal.sessions())[0].status == "interrupted", "nobody owns what was closed in mid-call")
        require((await journal.session("a")).status == "interrupted", "nor does its row say so")
        require(await journal.claim("a") == 2, "the next claim goes on from the last epoch")
        require((await journal.sessions())[0].status == "live", "a claimed session is live again")
        require(await _put(journal, Batch("a", 2, 4, some_entries(5, 1))) is None, "and may be written")

    await _with(make, write)
    await _with(make, look)


async def fences_across_writers(make: Make) -> None:
    old, new = make(), make()
    await old.start()
    await new.start()
    try:
        await old.claim("a")
        await _put(old, Batch("a", 1, 0, some_entries(1, 1)))
        require(await new.claim("a") == 2, "another writer takes the session over")
        require(await new.read("a") == list(some_entries(1, 1)), "and reads what is there")
        require(await _put(new, Batch("a", 2, 1, some_entries(2, 1))) is None, "and writes on")
        _refused(await _put(old, Batch("a", 1, 1, some_entries(2, 1))), StaleWriter, "the former owner's append")
        await _raises(old.save_snapshot("a", 1, 1, b""), StaleWriter, "the former owner's snapshot")
    finally:
        await old.close()
        await new.close()


CHECKS: tuple[Check, ...] = (
    keeps_entries_in_order,
    keeps_every_kind_of_text,
    keeps_sessions_apart,
    takes_two_batches_of_one_session_in_one_call,
    takes_a_repeated_batch,
    refuses_an_older_epoch,
    one_refused_batch_spoils_no_other,
    refuses_holes,
    refuses_what_cannot_be_encoded,
    knows_no_stranger,
    keeps_the_latest_snapshot,
    lists_sessions,
    tells_the_status,
    serves_many_at_once,
)

SHARED_CHECKS: tuple[Check, ...] = (survives_closing, fences_across_writers)
