"""The driver: one event after the other, one timer, durable orders wait, deadlines on the dot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from antiphon.errors import StaleWriter, StoreError
from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.policy import Policy, encode_policy
from antiphon.kernel.session import Session
from antiphon.runtime import driver as module
from antiphon.runtime.driver import Driver
from antiphon.runtime.durable import WhenDown, may_proceed
from antiphon.sim.clock import VirtualTimeLoop, run

QUIET = Policy(greeting=False, silence_ms=9_000, silence_prompts=2)


class Book:
    """A writer whose disk answers when the test says so."""

    def __init__(self) -> None:
        self.entries: list[ev.Entry] = []
        self.waiting: list[Callable[[Exception | None], None]] = []
        self.when_down: WhenDown = "go_on"

    def may_proceed(self, command: cmd.AnyCommand, error: Exception | None) -> bool:
        return may_proceed(command, error, self.when_down)

    def append(self, session: str, entry: ev.Entry, then: Callable[[Exception | None], None] | None = None) -> None:
        self.entries.append(entry)
        if then is not None:
            self.waiting.append(then)

    def answer(self, error: Exception | None = None) -> None:
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then(error)


class Bench:
    """A driver, its book, and what it ordered: (virtual ms, command, error)."""

    def __init__(self, policy: Policy = QUIET, *, session: Session | None = None, **more: Any) -> None:
        self.book = Book()
        self.done: list[tuple[int, cmd.AnyCommand, Exception | None]] = []
        self.then: dict[type, Callable[[], None]] = {}
        self.driver = Driver(
            session or Session(),
            "s1",
            writer=self.book,  # type: ignore[arg-type]
            execute=self.execute,
            **more,
        )
        if session is None:
            self.driver.post(ev.SessionStarted("s1", "test", "en-IN", encode_policy(policy)))

    def execute(self, command: cmd.AnyCommand, error: Exception | None) -> None:
        self.done.append((self.driver.now_ms(), command, error))
        self.then.get(type(command), lambda: None)()

    @property
    def names(self) -> list[str]:
        return [type(command).__name__ for _, command, _ in self.done]

    @property
    def facts(self) -> list[str]:
        return [type(entry.event).__name__ for entry in self.book.entries]


def test_facts_posted_while_it_works_are_folded_afterwards_in_their_order() -> None:
    async def main() -> None:
        bench = Bench()
        bench.then[cmd.Classify] = lambda: [  # type: ignore[assignment,return-value]
            bench.driver.post(ev.IntentReady(1, "question")),
            bench.driver.post(ev.PassagesReady(1)),
        ]
        bench.driver.post(ev.TextTyped("what are the fees"))
        assert bench.facts == ["SessionStarted", "TextTyped", "IntentReady", "PassagesReady"]
        # Both orders of the first fact are carried out before the second is folded.
        assert bench.names == ["Classify", "Retrieve", "StartReply"]
        assert [entry.seq for entry in bench.book.entries] == [1, 2, 3, 4]
        bench.driver.close()

    run(main())


def test_an_order_that_cannot_be_carried_out_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bench = Bench()

        def broken() -> None:
            raise RuntimeError("the classifier is gone")

        bench.then[cmd.Classify] = broken
        bench.driver.post(ev.TextTyped("what are the fees"))
        assert bench.names == ["Classify", "Retrieve"]
        await asyncio.sleep(1.0)
        assert "StartReply" in bench.names, "the deadline came all the same"
        bench.driver.close()

    run(main())
    assert "a command could not be carried out" in caplog.text


def test_a_step_that_raises_is_logged_and_the_call_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        bench = Bench()
        with monkeypatch.context() as patch:
            patch.setattr("antiphon.kernel.session.run", lambda step: 1 / 0)
            bench.driver.post(ev.SpeechStarted())
        assert bench.done[-1][1] == cmd.Say(1, 1, "apology", "en-IN")
        bench.driver.close()

    with caplog.at_level(logging.ERROR, "antiphon.driver"):
        run(main())
    assert "a step raised; the session goes on degraded" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_there_is_never_more_than_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        handles: list[asyncio.TimerHandle] = []
        call_at = loop.call_at

        def counting(when: float, callback: Any, *args: Any, **more: Any) -> asyncio.TimerHandle:
            handles.append(call_at(when, callback, *args, **more))
            return handles[-1]

        monkeypatch.setattr(loop, "call_at", counting)
        bench = Bench()
        for event in (ev.SpeechStarted(), ev.TranscriptPartial(1, "the fees and"), ev.SpeechStopped(0, 200)):
            bench.driver.post(event)
            assert sum(not handle.cancelled() for handle in handles) == 1
        made = len(handles)
        bench.driver.post(ev.TranscriptPartial(9, "stale"))
        assert len(handles) == made, "a deadline that has not changed keeps its timer"
        bench.driver.close()
        assert all(handle.cancelled() for handle in handles)

    run(main())


@pytest.mark.parametrize(
    ("error", "when_down", "done"),
    [
        (None, "go_on", True),
        (None, "refuse", True),
        (StoreError("disk full", code="store.full"), "go_on", True),
        (StoreError("disk full", code="store.full"), "refuse", False),
        (StaleWriter("another has it"), "go_on", False),
    ],
)
def test_a_durable_order_waits_for_its_entry_others_do_not(
    error: Exception | None, when_down: WhenDown, done: bool
) -> None:
    async def main() -> None:
        bench = Bench(Policy(greeting=False, silence_prompts=0, silence_ms=1_000))
        await asyncio.sleep(1.0)
        assert bench.names == ["Say"]
        bench.driver.post(ev.SegmentReady(1, 1, 0, "Goodbye.", "goodbye"))
        bench.driver.post(ev.SegmentStarted(1, 0))
        bench.driver.post(ev.SegmentPlayed(1, 0))
        bench.driver.post(ev.ReplyGenerated(1, 1, 1))
        bench.driver.post(ev.PlayoutFinished(1))
        assert bench.names == ["Say"], "hanging up waits for the disk"
        bench.driver.post(ev.SpeechStarted())  # facts do not wait
        bench.book.when_down = when_down
        bench.book.answer(error)
        assert (bench.done[-1][1:] == (cmd.HangUp("s1:hangup:1", "agent"), error)) is done
        bench.driver.close()

    run(main())


def test_nothing_is_carried_out_for_a_driver_that_was_closed_meanwhile() -> None:
    async def main() -> None:
        bench = Bench(Policy(greeting=False, silence_prompts=0, silence_ms=1_000))
        await asyncio.sleep(1.0)
        for event in (
            *(ev.SegmentReady(1, 1, 0, "Goodbye.", "goodbye"), ev.SegmentStarted(1, 0)),
            *(ev.ReplyGenerated(1, 1, 1), ev.PlayoutFinished(1)),
        ):
            bench.driver.post(event)
        bench.driver.close()
        bench.book.answer()
        bench.driver.post(ev.SpeechStarted())
        assert bench.names == ["Say"]
        before = bench.facts
        await asyncio.sleep(100)
        assert bench.facts == before
        assert "SpeechStarted" not in before

    run(main())


def test_close_in_the_middle_of_a_step_stops_what_was_posted_behind_it() -> None:
    async def main() -> None:
        bench = Bench()

        def close() -> None:
            bench.driver.post(ev.IntentReady(1, "question"))
            bench.driver.close()

        bench.then[cmd.Classify] = close
        bench.driver.post(ev.TextTyped("fees"))
        assert bench.facts == ["SessionStarted", "TextTyped"]
        assert bench.names == ["Classify", "Retrieve"]

    run(main())


def test_a_deadline_comes_on_its_millisecond_whatever_the_clock_says() -> None:
    """Floats: 6.564 s after an origin of 0.1 + 0.2 is not 6,564 ms, and an early deadline would be stale."""

    async def main() -> None:
        random, loop = Random(7), asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        for _ in range(300):
            await asyncio.sleep(random.random() * random.choice((0.001, 1, 1e5)))
            first = Bench(Policy(greeting=False, silence_ms=random.randint(1, 20_000)))
            first.driver.session.state.at = random.randint(0, 10_000_000)  # a session that is resumed
            bench = Bench(session=Session.restore(first.driver.session.snapshot()))
            first.driver.close()
            bench.driver.post(ev.SpeechStarted())
            bench.driver.post(ev.SpeechStopped())
            due = bench.driver.session.next_deadline()
            assert due is not None
            await asyncio.sleep((due[1] - bench.driver.now_ms()) / 1000 + 0.002)
            reached = [entry for entry in bench.book.entries if isinstance(entry.event, ev.DeadlineReached)]
            assert [entry.event for entry in reached] == [ev.DeadlineReached(due[0])], "told once, and not stale"
            assert 0 <= reached[0].at - due[1] <= 1
            bench.driver.close()

    run(main())


def test_a_timer_that_the_loop_fires_early_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops round timers to their clock's resolution, uvloop to whole milliseconds."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call_at = loop.call_at
        monkeypatch.setattr(loop, "call_at", lambda when, *rest, **more: call_at(when - 0.0008, *rest, **more))
        bench = Bench(Policy(greeting=False, silence_ms=1_000))
        await asyncio.sleep(1.01)
        reached = [entry for entry in bench.book.entries if isinstance(entry.event, ev.DeadlineReached)]
        assert [(entry.event, entry.at) for entry in reached] == [(ev.DeadlineReached("silence"), 1_000)]
        assert bench.names == ["Say"]
        bench.driver.close()

    run(main())


def test_a_resumed_session_goes_on_at_its_journals_time() -> None:
    async def main() -> None:
        first = Bench()
        await asyncio.sleep(2.5)
        first.driver.post(ev.SpeechStarted())
        kept = first.driver.session.snapshot()
        first.driver.close()
        await asyncio.sleep(1_000)
        bench = Bench(session=Session.restore(kept))
        assert bench.driver.now_ms() == 2_500
        await asyncio.sleep(0.5)
        bench.driver.post(ev.SpeechStopped())
        assert bench.book.entries[-1].at == 3_000
        bench.driver.close()

    run(main())


def test_a_snapshot_is_kept_now_and_then_once_its_entry_is_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 10)

    async def main() -> None:
        kept: list[tuple[int, bytes]] = []
        bench = Bench(checkpoint=lambda seq, data: kept.append((seq, data)))
        for _ in range(8):
            bench.driver.post(ev.TextTyped(""))
        assert bench.book.waiting == []
        bench.driver.post(ev.TextTyped("fees"))
        then = bench.driver.session.snapshot()
        bench.driver.post(ev.SpeechStarted())
        assert kept == []
        bench.book.answer()
        assert kept == [(10, then)]
        for _ in range(9):
            bench.driver.post(ev.TextTyped(""))
        bench.book.answer(StoreError("disk full"))
        assert len(kept) == 1, "a snapshot ahead of its journal would resume a session that never was"
        bench.driver.close()

    run(main())
