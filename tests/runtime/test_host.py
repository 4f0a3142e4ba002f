"""The host: admission to the exact place, whose call it is, onlookers, and the end of a process."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest
from call_parts import House, SlowJournal, Wire, start

from antiphon.errors import AdmissionRefused, PeerError, StoreError
from antiphon.kernel import events as ev
from antiphon.kernel.session import replay
from antiphon.runtime.host import REMEMBERED_ENDS, WAITING_PER_PLACE, Host
from antiphon.sim.clock import run
from antiphon.stores.memory import MemoryJournal


def refused(host: Host, call_id: str) -> str:
    with pytest.raises(AdmissionRefused) as caught:
        host.connect(start(call_id), Wire())
    assert caught.value.retry_after_s >= 1
    return caught.value.code


def test_a_stampede_is_admitted_to_the_exact_place() -> None:
    """2,000 lines in one turn of the loop: a place is taken before ``connect`` returns."""

    async def main() -> None:
        house = House()
        host = await house.open(max_sessions=300)
        outcomes = Counter[str]()
        sinks = []
        for number in range(2_000):
            try:
                sinks.append(host.connect(start(f"call-{number}"), Wire()))
                outcomes["taken"] += 1
            except AdmissionRefused as error:
                outcomes[error.code] += 1
        assert outcomes == {"taken": 300, "admission.full": 1_700}
        assert (host.active, host.capacity) == (300, 300)
        await asyncio.sleep(1)
        assert len(host.calls()) == 300
        for sink in sinks[:10]:
            sink.on_hangup("caller")
        await asyncio.sleep(0.1)
        assert host.active == 290
        for number in range(10):
            host.connect(start(f"again-{number}"), Wire())
        assert refused(host, "one-more") == "admission.full"
        await house.shut()

    run(main())


def test_a_second_line_of_a_call_needs_no_place() -> None:
    async def main() -> None:
        house = House()
        host = await house.open(max_sessions=1)
        host.connect(start("a"), Wire())
        await asyncio.sleep(1)
        assert host.has_room("a")
        assert not host.has_room("b")
        host.connect(start("a"), Wire())
        assert host.active == 1
        assert refused(host, "b") == "admission.full"
        await house.shut()

    run(main())


def test_a_caller_who_waits_takes_no_place_and_needs_one_to_come_back() -> None:
    """B22: a line that comes back to a waiting call is one more line: never one too many."""

    async def main() -> None:
        house = House()
        host = await house.open(max_sessions=2)
        sink = host.connect(start("waits"), Wire())
        await asyncio.sleep(1)
        sink.on_dropped("line.lost")
        assert (host.active, host.held) == (0, 1)
        others = [host.connect(start(name), Wire()) for name in ("a", "b")]
        assert (host.active, host.held) == (2, 3)
        assert not host.has_room("waits")
        assert refused(host, "waits") == "admission.full"
        others[0].on_hangup("caller")
        await asyncio.sleep(0.1)
        sink = host.connect(start("waits"), Wire())
        assert host.active == 2, "its place is taken before this returns"
        assert refused(host, "c") == "admission.full"
        await asyncio.sleep(0.1)
        sink.on_dropped("line.lost")
        sink = host.connect(start("waits"), Wire())
        sink.on_hangup("caller")
        await asyncio.sleep(0.1)
        assert (host.active, host.held) == (1, 1)
        await house.shut()
        assert (host.active, host.held) == (0, 0)

    run(main())


def test_who_is_turned_away_is_counted_and_told_in_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        house = House()
        host = await house.open(max_sessions=1)
        host.connect(start("a"), Wire())
        for number in range(1000):
            refused(host, f"b{number}")
        await asyncio.sleep(2)
        refused(host, "later")
        host.draining = True
        refused(host, "last")
        assert host.refused == {"admission.full": 1001, "admission.draining": 1}
        assert not host.has_room("c")
        assert host.refused.total() == 1002, "who only asks is not refused"
        await asyncio.sleep(2)
        await house.shut()

    with caplog.at_level(logging.WARNING, "antiphon.host"):
        run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "a line is turned away: admission.full",
        "999 more lines were turned away: admission.full",
        "a line is turned away: admission.full",
        "a line is turned away: admission.draining",
    ]


def test_of_too_many_that_wait_the_one_that_has_waited_longest_is_left_to_the_journal() -> None:
    async def main() -> None:
        house = House()
        host = await house.open(max_sessions=1)
        for number in range(WAITING_PER_PLACE + 3):
            sink = host.connect(start(f"call-{number}"), Wire())
            await asyncio.sleep(0.1)
            sink.on_dropped("line.lost")
            await asyncio.sleep(0.1)
        assert (host.active, host.held) == (0, WAITING_PER_PLACE)
        assert host.get("call-2") is None
        assert host.get("call-3") is not None
        host.connect(start("call-0"), Wire())
        await asyncio.sleep(1)
        call = host.get("call-0")
        assert call is not None
        assert call.driver is not None
        assert call.driver.session.state.epoch == 2, "the journal has it still"
        await house.shut()

    run(main())


@pytest.mark.parametrize("call_id", ["", "a b", "a/b", "../x", "x" * 256, "é", "a\n", "{id}"])
def test_an_id_that_is_unsafe_in_a_path_is_refused(call_id: str) -> None:
    """X37."""

    async def main() -> None:
        house = House()
        host = await house.open()
        with pytest.raises(PeerError) as caught:
            host.connect(start(call_id), Wire())
        assert caught.value.code == "session.bad_id"
        assert host.active == 0
        await house.shut()

    run(main())


@pytest.mark.parametrize("call_id", ["a", "CA" + "0" * 32, "a.b:c_d-e", "x" * 255])
def test_an_id_that_is_safe_is_taken(call_id: str) -> None:
    async def main() -> None:
        house = House()
        host = await house.open()
        host.connect(start(call_id), Wire())
        assert host.active == 1
        await house.shut()

    run(main())


def test_why_a_call_ended_is_remembered_for_a_while() -> None:
    async def main() -> None:
        house = House()
        host = await house.open(max_sessions=REMEMBERED_ENDS + 50)
        for number in range(REMEMBERED_ENDS + 20):
            sink = host.connect(start(f"call-{number}"), Wire())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            sink.on_hangup("caller")
        await asyncio.sleep(1)
        assert host.active == 0
        assert await host.ended(f"call-{REMEMBERED_ENDS + 19}") == "caller"
        assert await host.ended("call-0") == "", "bounded"
        assert await host.ended("unknown") == ""
        assert len(host._ends) == REMEMBERED_ENDS
        await house.shut()

    run(main())


def test_an_onlooker_that_raises_hurts_no_call(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        house = House()
        host = await house.open()

        def odd(*told: object) -> None:
            raise RuntimeError("odd")

        seen: list[str] = []
        host.observe(odd)
        host.observe(lambda session, entry, commands: seen.append(type(entry.event).__name__))
        host.connect(start(), Wire())
        await asyncio.sleep(2)
        assert seen == house.facts.names
        assert seen[-1] == "PlayoutFinished"
        await house.shut()

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "an observer raised" in caplog.text


def test_the_view_from_outside() -> None:
    async def main() -> None:
        house = House()
        host = await house.open()
        host.connect(start("a"), Wire())
        assert (host.calls()[0].call_id, host.calls()[0].phase) == ("a", "new")
        await asyncio.sleep(2)
        view = host.calls()[0]
        assert (view.floor, view.turn, view.language, view.phase) == ("LISTENING", 1, "en-IN", "live")
        await house.shut()

    run(main())


# -- somebody else's call -------------------------------------------------------------------------


def test_a_call_that_another_process_took_over_is_closed_here_and_its_journal_is_theirs() -> None:
    async def main() -> None:
        house = House()
        host = await house.open()
        wire = Wire()
        sink = host.connect(start(), wire)
        await asyncio.sleep(2)
        other = House(house.journal)
        other_host = await other.open()
        other_host.connect(start(), Wire())
        await asyncio.sleep(0.1)
        sink.on_digit("1")  # the next thing written here finds out
        await asyncio.sleep(0.5)
        assert host.active == 0
        assert wire.ends == [("close", (4001, "session.taken_over"))]
        stored = await house.journal.read("call-1")
        assert ev.DigitPressed("1") not in [entry.event for entry in stored]
        await asyncio.sleep(2)
        assert [call.floor for call in other_host.calls()] == ["LISTENING"]
        sink.on_hangup("late")
        await asyncio.sleep(1)
        assert other_host.active == 1
        await house.shut()
        await other.shut()

    run(main())


def test_a_line_that_goes_to_another_process_and_comes_back_is_not_lost_once() -> None:
    """A -> B -> A: what A holds of the call is out of date, and its claim was taken."""

    async def main() -> None:
        house = House()
        other = House(house.journal)
        host, there = await house.open(), await other.open()
        first = host.connect(start(), Wire())
        await asyncio.sleep(2)
        first.on_dropped("line.lost")
        await asyncio.sleep(0.1)
        second = there.connect(start(), Wire())
        await asyncio.sleep(2)
        second.on_digit("1")
        await asyncio.sleep(0.1)
        second.on_dropped("line.lost")
        await asyncio.sleep(0.1)

        wire = Wire()
        sink = host.connect(start(), wire)
        sink.on_digit("7")
        await asyncio.sleep(2)
        sink.on_digit("8")
        await asyncio.sleep(0.5)
        assert wire.ends == []
        assert [call.phase for call in host.calls()] == ["live"]
        stored = await house.journal.read("call-1")
        assert [entry.seq for entry in stored] == [*range(1, len(stored) + 1)]
        keys = [entry.event.digit for entry in stored if isinstance(entry.event, ev.DigitPressed)]
        assert keys == ["1", "7", "8"], "B's and then A's again"
        assert sum(isinstance(entry.event, ev.SessionStarted) for entry in stored) == 1
        assert replay(stored).state.phase == "live"

        back = there.connect(start(), Wire())
        await asyncio.sleep(0.5)
        back.on_digit("9")
        await asyncio.sleep(0.5)
        assert [call.phase for call in there.calls()] == ["live"], "and to B again"
        await house.shut()
        await other.shut()

    run(main())


def test_a_call_that_comes_back_is_claimed_anew_also_if_nobody_else_had_it() -> None:
    async def main() -> None:
        house = House()
        host = await house.open()
        first = host.connect(start(), Wire())
        await asyncio.sleep(2)
        (row,) = await house.journal.sessions()
        first.on_dropped("line.lost")
        await asyncio.sleep(0.1)
        call = host.get("call-1")
        host.connect(start(), Wire())
        await asyncio.sleep(1)
        (again,) = await house.journal.sessions()
        assert again.epoch == row.epoch + 1
        assert host.get("call-1") is call, "what is known of it here was not read again"
        assert house.writer.health.ok
        await house.shut()

    run(main())


class Failing(MemoryJournal):
    down = False

    async def append(self, batches: Any) -> list[Exception | None]:
        if self.down:
            raise StoreError("the disk is gone", code="store.gone")
        return await super().append(batches)

    async def claim(self, session: str) -> int:
        if self.down:
            raise StoreError("the disk is gone", code="store.gone")
        return await super().claim(session)


def test_one_that_comes_back_to_another_process_while_the_store_is_down_goes_on_without_a_journal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        journal = Failing()
        house, other = House(journal), House(journal)
        host, there = await house.open(), await other.open()
        host.connect(start(), Wire()).on_dropped("line.lost")
        await asyncio.sleep(2)
        kept = await journal.read("call-1")
        journal.down = True
        wire = Wire()
        sink = there.connect(start(), wire)
        sink.on_digit("7")
        await asyncio.sleep(5)
        journal.down = False
        await asyncio.sleep(10)
        sink.on_digit("8")
        await asyncio.sleep(1)
        assert wire.ends == [], "the line is not cut for it"
        assert [call.phase for call in there.calls()] == ["live"]
        assert await journal.read("call-1") == kept, "what was said before stays as it was"
        assert other.writer.health.ok
        assert other.writer.health.dropped > 0
        assert "[store.history_unread]" in caplog.text
        await house.shut()
        await other.shut()

    run(main())


def test_a_call_that_began_while_the_store_was_down_is_written_when_it_is_back() -> None:
    """Also if its first claim was heard and its answer was not."""

    async def main() -> None:
        journal = Failing()
        house = House(journal)
        host = await house.open()
        journal.down = True
        host.connect(start(), Wire()).on_digit("7")
        await asyncio.sleep(5)
        journal.down = False
        assert await journal.claim("call-1") == 1
        await asyncio.sleep(10)
        assert ev.DigitPressed("7") in [entry.event for entry in await journal.read("call-1")]
        await house.shut()

    run(main())


def test_one_that_comes_back_while_the_store_is_down_goes_on_with_its_history() -> None:
    async def main() -> None:
        journal = Failing()
        house = House(journal)
        host = await house.open()
        sink = host.connect(start(), Wire())
        await asyncio.sleep(2)
        journal.down = True
        sink.on_dropped("line.lost")
        await asyncio.sleep(5)
        wire = Wire()
        sink = host.connect(start(), wire)
        await asyncio.sleep(3)
        sink.on_digit("7")
        await asyncio.sleep(0.5)
        assert [call.phase for call in host.calls()] == ["live"]
        journal.down = False
        await asyncio.sleep(10)
        stored = await journal.read("call-1")
        assert ev.DigitPressed("7") in [entry.event for entry in stored]
        assert sum(isinstance(entry.event, ev.SessionStarted) for entry in stored) == 1
        assert wire.ends == []
        await house.shut()

    run(main())


def test_a_session_nobody_has_may_be_lost_without_harm() -> None:
    async def main() -> None:
        house = House()
        host = await house.open()
        host.lost("unknown")
        host.call_over("unknown", "completed")
        await house.shut()

    run(main())


# -- drain ----------------------------------------------------------------------------------------


def test_drain_takes_no_new_calls_and_lets_the_others_finish() -> None:
    async def main() -> None:
        house = House()
        host = await house.open()
        sinks = [host.connect(start(f"call-{number}"), Wire()) for number in range(3)]
        await asyncio.sleep(1)
        draining = asyncio.ensure_future(host.drain(100))
        await asyncio.sleep(0)
        assert refused(host, "new") == "admission.draining"
        assert not host.has_room("new")
        sinks[0] = host.connect(start("call-0"), Wire())  # the caller of a call that is held may come back
        await asyncio.sleep(5)
        for sink in sinks:
            assert not draining.done()
            sink.on_hangup("caller")
            await asyncio.sleep(1)
        assert await draining == 0
        await house.shut()

    run(main())


def test_drain_closes_what_is_left_when_its_time_is_over() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        house = House()
        host = await house.open()
        wires = [Wire() for _ in range(3)]
        for number, wire in enumerate(wires):
            host.connect(start(f"call-{number}"), wire)
        await asyncio.sleep(1)
        began = loop.time()
        assert await host.drain(7) == 3
        assert loop.time() - began == pytest.approx(7)
        assert [wire.ends for wire in wires] == [[("close", (1012, "server.restart"))]] * 3
        assert host.active == 0
        await house.shut()

    run(main())


def test_drain_in_the_middle_of_opening_leaves_nothing() -> None:
    async def main() -> None:
        house = House(SlowJournal())
        host = await house.open()
        wire = Wire()
        host.connect(start(), wire)
        assert await host.drain(0) == 1
        await asyncio.sleep(1)
        assert house.facts == []
        assert wire.ends == [("close", (1012, "server.restart"))]
        await house.shut()
        me = asyncio.current_task()
        assert [task for task in asyncio.all_tasks() if task is not me] == []

    run(main())


def test_an_empty_host_is_drained_at_once() -> None:
    async def main() -> None:
        house = House()
        host = await house.open()
        assert await host.drain(100) == 0
        assert asyncio.get_running_loop().time() < 1
        await house.shut()

    run(main())


def test_a_call_is_known_once_a_line_opened_it_also_to_the_next_process() -> None:
    async def main() -> None:
        house = House()
        host = await house.open()
        assert not await host.knows("a")
        host.connect(start("a"), Wire())
        assert await host.knows("a")
        await asyncio.sleep(1)
        await house.shut()
        again = House(house.journal)
        host = await again.open()
        assert await host.knows("a")
        assert not await host.knows("b")
        await again.shut()

    run(main())


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_store_that_fails_or_hangs_knows_nobody(seconds: float) -> None:
    class Broken(MemoryJournal):
        async def read(self, session: str, after_seq: int = 0) -> list[ev.Entry]:
            await asyncio.sleep(seconds)
            raise StoreError("the disk is gone")

    async def main() -> None:
        house = House(Broken())
        host = await house.open()
        assert not await host.knows("a")
        await house.shut()

    run(main())
