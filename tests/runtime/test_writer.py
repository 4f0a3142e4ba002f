"""The write-behind on virtual time, over a journal whose store fails on demand (F18, F19)."""

import asyncio
import logging
import random
import selectors
from collections.abc import Awaitable, Callable, Sequence

import pytest

from antiphon.errors import StaleWriter, StoreError, UnknownSession
from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.runtime.durable import WriterState, may_proceed
from antiphon.runtime.ports import Batch
from antiphon.runtime.writer import JournalWriter
from antiphon.stores.memory import MemoryJournal


class _Skip(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    """Jumps over every wait instead of waiting."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing is left that could happen"
            self.loop.now += timeout
        return list(ready)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 0.0
        selector = _Skip()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run(main: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())  # type: ignore[arg-type]


class Faulty(MemoryJournal):
    """A memory journal that takes ``delay_s`` for each commit and fails while ``error`` is set."""

    def __init__(self, delay_s: float = 0.0) -> None:
        super().__init__()
        self.delay_s = delay_s
        self.error: Exception | None = None
        self.start_error: Exception | None = None
        self.commits: list[int] = []
        self.tries: list[float] = []
        self.lose_answer = False

    async def start(self) -> None:
        if self.start_error:
            raise self.start_error

    async def claim(self, session: str) -> int:
        if self.error:
            raise self.error
        return await super().claim(session)

    async def append(self, batches: Sequence[Batch]) -> list[Exception | None]:
        self.tries.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.delay_s)
        if self.error:
            return [self.error] * len(batches)
        results = await super().append(batches)
        if self.lose_answer:
            self.lose_answer = False
            raise StoreError("the answer was lost")
        self.commits.append(sum(len(batch.entries) for batch in batches))
        return results


FULL = StoreError("no room", code="store.full")


def entry(seq: int, text: str = "x") -> ev.Entry:
    return ev.Entry(seq, seq, ev.TextTyped(text))


class Rig:
    """A started writer, what it said, and what its callers were told."""

    def __init__(self, journal: Faulty | None = None, **options: object) -> None:
        self.journal = journal or Faulty()
        self.states: list[WriterState] = []
        self.stale: list[str] = []
        self.told: list[tuple[str, int, Exception | None]] = []
        self.writer = JournalWriter(
            self.journal,
            on_state=self.states.append,
            on_stale=self.stale.append,
            **options,  # type: ignore[arg-type]
        )

    async def __aenter__(self) -> "Rig":
        await self.writer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.writer.close()

    async def call(self, session: str) -> None:
        self.writer.open(session, await MemoryJournal.claim(self.journal, session), 0)

    def say(self, session: str, first: int, count: int = 1, *, durable: bool = True) -> None:
        for seq in range(first, first + count):
            told = (lambda error, seq=seq: self.told.append((session, seq, error))) if durable else None
            self.writer.append(session, entry(seq, session), told)

    async def kept(self, session: str) -> list[int]:
        return [each.seq for each in await self.journal.read(session)]


def test_entries_are_written_in_group_commits_and_acknowledged_in_order() -> None:
    async def main() -> None:
        async with Rig(Faulty(delay_s=0.01)) as rig:
            for name in ("a", "b", "c"):
                await rig.call(name)
            rig.say("a", 1)
            await asyncio.sleep(0.001)
            for seq in range(2, 6):
                rig.say("a", seq)
                rig.say("b", seq - 1)
            assert rig.told == [], "nothing is told before it is on disk"
            await rig.writer.flush()
            assert rig.journal.commits == [1, 8], "what came during a commit goes together into the next"
            assert [seq for name, seq, _ in rig.told if name == "a"] == [1, 2, 3, 4, 5]
            assert all(error is None for *_, error in rig.told)
            assert await rig.kept("a") == [1, 2, 3, 4, 5]
            assert rig.writer.health == WriterState()

    run(main)


def test_nothing_runs_while_idle() -> None:
    async def main() -> None:
        async with Rig() as rig:
            await rig.call("a")
            rig.say("a", 1)
            await rig.writer.flush()
            loop = asyncio.get_running_loop()
            await asyncio.sleep(0)
            assert not [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
            assert len(asyncio.all_tasks()) == 2, "this test and the one flush task"

    run(main)


def test_backlog_is_written_in_bounded_groups() -> None:
    async def main() -> None:
        async with Rig(durable_s=60) as rig:
            for name in ("a", "b"):
                await rig.call(name)
                rig.say(name, 1, 7000, durable=False)
            await rig.writer.flush()
            assert max(rig.journal.commits) <= 5000
            assert sum(rig.journal.commits) == 14_000
            assert await rig.kept("b") == list(range(1, 7001))

    run(main)


def test_store_down_calls_go_on_and_all_is_written_in_order_when_it_is_back() -> None:
    async def main() -> None:
        async with Rig(retry_s=(0.1, 1.0)) as rig:
            await rig.call("a")
            await rig.call("b")
            rig.journal.error = FULL
            rig.say("a", 1, 3)
            rig.say("b", 1)
            await asyncio.sleep(0.9)
            assert not rig.told, "still within the time they wait"
            assert (rig.writer.health.ok, rig.writer.health.code, rig.writer.health.pending) == (False, "store.full", 4)
            assert "no room" in rig.writer.health.message
            await asyncio.sleep(0.2)
            assert [(name, seq) for name, seq, _ in rig.told] == [("a", 1), ("a", 2), ("a", 3), ("b", 1)]
            assert {error.code for *_, error in rig.told if isinstance(error, StoreError)} == {"store.full"}
            rig.say("a", 4, 10, durable=False)
            await asyncio.sleep(10)
            gaps = [round(b - a, 3) for a, b in zip(rig.journal.tries, rig.journal.tries[1:], strict=False)]
            assert gaps[:5] == [0.1, 0.2, 0.4, 0.8, 1.0], "pauses double up to the longest"
            rig.journal.error = None
            await asyncio.sleep(1.1)
            assert await rig.kept("a") == list(range(1, 14))
            assert len(rig.told) == 4, "nobody is told twice"
            assert [state.ok for state in rig.states] == [False, True], "health is told when it changes"

    run(main)


def test_overflow_gives_up_the_session_that_waits_longest(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Rig(max_pending=10) as rig:
            for name in ("old", "new"):
                await rig.call(name)
            rig.say("old", 1, durable=False)
            await rig.writer.flush()
            rig.journal.error = FULL
            rig.say("old", 2, 4)
            rig.say("new", 1, 6, durable=False)
            assert rig.writer.health.pending == 10
            rig.say("new", 7, durable=False)
            assert (rig.writer.health.pending, rig.writer.health.dropped) == (7, 4)
            rig.say("old", 6)
            assert (rig.writer.health.pending, rig.writer.health.dropped) == (7, 5)
            await asyncio.sleep(0)
            assert {error.code for *_, error in rig.told if isinstance(error, StoreError)} == {"store.overflow"}
            assert len(rig.told) == 5
            rig.journal.error = None
            await asyncio.sleep(10)
            assert await rig.kept("old") == [1], "its journal ends, without a hole"
            assert await rig.kept("new") == list(range(1, 8))

    with caplog.at_level(logging.ERROR):
        run(main)
    dropped = [
        record for record in caplog.records if "4 of this call dropped, its journal ends at entry 1" in record.message
    ]
    assert [record.__dict__["call"] for record in dropped] == ["old"]


def test_a_stale_session_stops_alone() -> None:
    async def main() -> None:
        async with Rig() as rig:
            for name in ("a", "b"):
                await rig.call(name)
            rig.say("a", 1)
            await rig.writer.flush()
            await MemoryJournal.claim(rig.journal, "a")
            rig.say("a", 2, 2)
            rig.say("b", 1, 2)
            await asyncio.sleep(0.1)
            assert rig.stale == ["a"]
            rig.say("a", 4)
            await asyncio.sleep(0.1)
            assert [type(error) for name, seq, error in rig.told if name == "a"] == [type(None), *[StaleWriter] * 3]
            assert await rig.kept("a") == [1]
            assert await rig.kept("b") == [1, 2]
            assert rig.writer.health.ok, "a takeover is no fault of the store"
            assert rig.stale == ["a"], "said once"
            with pytest.raises(StaleWriter):
                await rig.writer.flush("a")
            await rig.writer.flush()

    run(main)


def test_takeover_in_the_same_process_keeps_what_is_pending() -> None:
    async def main() -> None:
        async with Rig(Faulty(delay_s=0.05)) as rig:
            await rig.call("a")
            rig.say("a", 1, 2)
            await asyncio.sleep(0.01)
            rig.say("a", 3, 2)
            epoch = await MemoryJournal.claim(rig.journal, "a")  # while the first commit is under way
            rig.writer.open("a", epoch, 0)
            rig.say("a", 5)
            await rig.writer.flush()
            assert await rig.kept("a") == [1, 2, 3, 4, 5]
            assert rig.stale == []
            assert rig.writer.epoch("a") == 2
            assert [error for *_, error in rig.told] == [None] * 5

    run(main)


def test_opened_again_after_somebody_else_wrote_starts_anew() -> None:
    async def main() -> None:
        async with Rig() as rig:
            await rig.call("a")
            rig.journal.error = FULL
            rig.say("a", 1, 2)
            await asyncio.sleep(0.05)
            rig.journal.error = None
            other = await MemoryJournal.claim(rig.journal, "a")
            theirs = tuple(entry(seq, "theirs") for seq in range(1, 6))
            await MemoryJournal.append(rig.journal, [Batch("a", other, 0, theirs)])
            rig.writer.open("a", await MemoryJournal.claim(rig.journal, "a"), 5)
            rig.say("a", 6)
            await rig.writer.flush()
            assert [each.seq for each in await rig.journal.read("a")] == [1, 2, 3, 4, 5, 6]
            assert [type(error) for *_, error in rig.told] == [StaleWriter, StaleWriter, type(None)]

    run(main)


def test_a_lost_acknowledgement_doubles_nothing() -> None:
    async def main() -> None:
        async with Rig() as rig:
            await rig.call("a")
            rig.journal.lose_answer = True
            rig.say("a", 1, 3)
            await asyncio.sleep(0.05)
            rig.say("a", 4, 2)
            await asyncio.sleep(1)
            assert await rig.kept("a") == [1, 2, 3, 4, 5]
            assert [error for *_, error in rig.told] == [None] * 5

    run(main)


def test_store_down_at_start_is_claimed_when_it_is_back() -> None:
    async def main() -> None:
        journal = Faulty()
        journal.start_error = journal.error = StoreError("read-only", code="store.read_only")
        async with Rig(journal) as rig:
            assert rig.writer.health.code == "store.read_only"
            rig.writer.open("a", 0, 0)
            rig.say("a", 1, 3)
            await asyncio.sleep(3)
            assert [error.code for *_, error in rig.told if isinstance(error, StoreError)] == ["store.read_only"] * 3
            journal.start_error = None
            await asyncio.sleep(6)
            assert not rig.writer.health.ok
            journal.error = None
            await asyncio.sleep(6)
            assert rig.writer.health == WriterState()
            assert rig.writer.epoch("a") == 1
            assert await rig.kept("a") == [1, 2, 3]

    run(main)


def test_store_down_at_start_is_noticed_well_again_without_any_call() -> None:
    async def main() -> None:
        journal = Faulty()
        journal.start_error = FULL
        async with Rig(journal) as rig:
            journal.start_error = None
            await asyncio.sleep(6)
            assert rig.writer.health.ok
            assert [state.ok for state in rig.states] == [False, True]

    run(main)


def test_store_that_is_back_is_noticed_although_nothing_is_left_to_write() -> None:
    async def main() -> None:
        async with Rig(max_pending=2) as rig:
            await rig.call("a")
            rig.journal.error = FULL
            rig.say("a", 1)
            await asyncio.sleep(1)
            rig.say("a", 2, 2)
            assert rig.writer.health.pending == 0
            rig.journal.append, working = _refusing, rig.journal.append  # type: ignore[method-assign]
            await asyncio.sleep(10)
            assert not rig.writer.health.ok, "an empty commit that fails proves nothing"
            rig.journal.append = working  # type: ignore[method-assign]
            rig.journal.error = None
            await asyncio.sleep(6)
            assert rig.writer.health.ok

    async def _refusing(batches: Sequence[Batch]) -> list[Exception | None]:
        raise FULL

    run(main)


def test_slow_store_lets_nobody_wait_for_ever() -> None:
    async def main() -> None:
        async with Rig(Faulty(delay_s=30), durable_s=1.0) as rig:
            await rig.call("a")
            rig.say("a", 1)
            started = asyncio.get_running_loop().time()
            with pytest.raises(StoreError) as caught:
                await rig.writer.flush("a")
            assert caught.value.code == "store.slow"
            assert asyncio.get_running_loop().time() - started == pytest.approx(1.0)
            assert [error.code for *_, error in rig.told if isinstance(error, StoreError)] == ["store.slow"]

    run(main)


def test_a_store_that_raises_anything_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Rig() as rig:
            await rig.call("a")
            rig.journal.append, working = _broken, rig.journal.append  # type: ignore[method-assign]
            rig.say("a", 1)
            await asyncio.sleep(0.05)
            assert rig.writer.health.code == "store.failed"
            rig.journal.append = working  # type: ignore[method-assign]
            await rig.writer.flush()
            assert rig.writer.health.ok

    async def _broken(batches: Sequence[Batch]) -> list[Exception | None]:
        raise KeyError("a bug in a third party's store")

    with caplog.at_level(logging.ERROR):
        run(main)
    assert "a bug in a third party's store" in caplog.text


def test_what_cannot_be_encoded_ends_only_its_own_session() -> None:
    async def main() -> None:
        async with Rig() as rig:
            for name in ("a", "b"):
                await rig.call(name)
            rig.writer.append("a", entry(1, "\ud800"))
            rig.say("a", 2)
            rig.say("b", 1)
            await asyncio.sleep(1)
            assert await rig.kept("b") == [1]
            assert {name: type(error) for name, _, error in rig.told} == {"a": StoreError, "b": type(None)}
            assert rig.writer.health.ok

    run(main)


def test_sessions_are_forgotten_when_closed_and_written() -> None:
    async def main() -> None:
        async with Rig() as rig:
            await rig.call("a")
            rig.say("a", 1, 2)
            rig.writer.close_session("a")
            rig.writer.close_session("a")
            await asyncio.sleep(0.1)
            assert await rig.kept("a") == [1, 2], "what was pending at closing is written"
            with pytest.raises(UnknownSession):
                rig.say("a", 3)
            rig.writer.close_session("a")
            assert not rig.writer._books

    run(main)


def test_closing_writes_what_is_pending_and_ends_in_time_when_it_cannot(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for delay, error, lost in ((0.2, None, 0), (60.0, None, 3), (0.0, FULL, 3)):
            rig = Rig(Faulty(delay_s=delay))
            await rig.writer.start()
            await rig.call("a")
            rig.journal.error = error
            rig.say("a", 1, 3)
            began = loop.time()
            await rig.writer.close()
            await rig.writer.close()
            await asyncio.sleep(0)
            assert loop.time() - began <= 1.0 + 1e-6
            assert len(rig.told) == 3
            assert sum(error is not None for *_, error in rig.told) == lost

    with caplog.at_level(logging.ERROR):
        run(main)
    assert "3 entries are lost" in caplog.text


def test_a_callback_that_raises_harms_nobody() -> None:
    async def main() -> None:
        seen: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context["exception"]))
        async with Rig() as rig:
            await rig.call("a")
            rig.writer.append("a", entry(1), lambda error: 1 / 0)
            rig.say("a", 2)
            await rig.writer.flush()
            await asyncio.sleep(0)
            assert [seq for _, seq, _ in rig.told] == [2]
        assert [type(error) for error in seen] == [ZeroDivisionError]

    run(main)


@pytest.mark.parametrize(
    ("command", "full", "refused"),
    [
        (cmd.HangUp("k", "agent"), True, False),
        (cmd.TransferCall("k", "+1"), True, False),
        (cmd.RunEffect("k", "pay", "terminal", "{}"), False, False),
        (cmd.RunEffect("k", "book", "write", "{}"), False, False),
    ],
)
def test_what_goes_on_without_the_disk(command: cmd.AnyCommand, full: bool, refused: bool) -> None:
    assert may_proceed(command, None)
    assert may_proceed(command, FULL) is full
    assert may_proceed(command, FULL, "refuse") is refused
    assert may_proceed(command, StaleWriter("gone")) is False
    assert JournalWriter(MemoryJournal(), when_down="refuse").may_proceed(command, FULL) is False


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_the_journal_is_a_prefix_and_acknowledged_entries_are_in_it(seed: int) -> None:
    """Random calls, faults, takeovers and delays: no hole, no double, no false acknowledgement, one answer each."""
    rng = random.Random(seed)

    async def main() -> None:
        async with Rig(Faulty(delay_s=rng.choice((0, 0.01, 0.3))), max_pending=60) as rig:
            names = [f"s{number}" for number in range(6)]
            sent = dict.fromkeys(names, 0)
            for name in names:
                if rng.random() < 0.5:
                    await rig.call(name)
                else:
                    rig.writer.open(name, 0, 0)
            for _ in range(200):
                name = rng.choice(names)
                sent[name] += 1
                rig.say(name, sent[name])
                roll = rng.random()
                if roll < 0.05:
                    rig.journal.error = rng.choice((None, FULL, StoreError("locked", code="store.locked")))
                elif roll < 0.07:
                    rig.journal.lose_answer = True
                elif roll < 0.08:
                    await MemoryJournal.claim(rig.journal, name)
                if rng.random() < 0.3:
                    await asyncio.sleep(rng.choice((0, 0.02, 0.4)))
            rig.journal.error = None
            await asyncio.sleep(20)
            told: dict[tuple[str, int], Exception | None] = {}
            for name, seq, error in rig.told:
                assert (name, seq) not in told, "told once"
                told[name, seq] = error
            assert len(told) == 200
            for name in names:
                known = any(row.session == name for row in await rig.journal.sessions())
                kept = await rig.kept(name) if known else []
                assert kept == list(range(1, len(kept) + 1))
                acknowledged = [seq for (who, seq), error in told.items() if who == name and error is None]
                assert not acknowledged or max(acknowledged) <= len(kept)
            assert rig.writer.health.pending == 0
            assert rig.writer.health.ok

    run(main)
