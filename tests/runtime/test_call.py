"""A call from its first line to its end: opening, early audio, newer lines, recovery, shutting down."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from call_parts import POLICY, House, SlowJournal, Wire, in_pieces, start
from call_parts import Answers as Responder

from antiphon.errors import StoreError
from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.events import Entry
from antiphon.kernel.session import Session, replay
from antiphon.kernel.state import Phase
from antiphon.runtime import driver as driver_module
from antiphon.runtime.call import CLOSE_TAKEN_OVER, MAX_EARLY
from antiphon.runtime.host import Host
from antiphon.runtime.ports import Batch, ReplyRequest
from antiphon.sim.clock import run
from antiphon.stores.memory import MemoryJournal


class DownJournal(MemoryJournal):
    """A journal whose disk is gone until ``up``."""

    up = False

    async def claim(self, session: str) -> int:
        if not self.up:
            raise StoreError("the disk is gone", code="store.gone")
        return await super().claim(session)

    async def append(self, batches: Any) -> list[Exception | None]:
        if not self.up:
            raise StoreError("the disk is gone", code="store.gone")
        return await super().append(batches)


async def opened(house: House, **how: Any) -> tuple[Host, Wire, Any]:
    """A call whose greeting was heard."""
    host = await house.open(**how)
    wire = Wire()
    sink = host.connect(start(), wire)
    await asyncio.sleep(2)
    return host, wire, sink


def floor(host: Host, call_id: str = "call-1") -> str:
    call = host.get(call_id)
    assert call is not None
    assert call.driver is not None
    return str(call.driver.session.floor)


def say(house: House, text: str) -> None:
    """The caller's whole utterance, heard by the newest ear."""
    ear = house.ears[-1]
    number = ear.finished[-1] + 1 if ear.finished else ear.first
    ear.post(ev.SpeechStarted())
    ear.post(ev.TranscriptPartial(number, text))
    ear.post(ev.SpeechStopped())


async def ask(house: House, text: str = "what are the fees") -> None:
    say(house, text)
    await asyncio.sleep(POLICY.endpoint_ms / 1000 + 0.01)
    ear = house.ears[-1]
    ear.post(ev.TranscriptFinal(ear.finished[-1], text))


# -- a whole call ---------------------------------------------------------------------------------


def test_a_call_is_greeted_answered_and_hung_up() -> None:
    async def main() -> None:
        house = House()
        host, wire, sink = await opened(house)
        assert floor(host) == "LISTENING"
        await ask(house)
        await asyncio.sleep(5)
        assert floor(host) == "LISTENING"
        sink.on_hangup("caller")
        await asyncio.sleep(0.1)
        assert host.get("call-1") is None
        assert wire.ends == [("close", (1000, "caller"))]
        assert house.ears[0].closed
        entries = await house.journal.read("call-1")
        assert entries == house.entries
        assert entries[-1].event == ev.SessionClosed("caller")
        told = [message.content.split()[0] for message in replay(entries).state.history]
        assert told == ["greeting0", "what", "a2x1w0"]
        await house.shut()

    run(main())


def test_what_was_said_is_the_responders_history() -> None:
    async def main() -> None:
        asked: list[ReplyRequest] = []

        def answer(request: ReplyRequest, act: Any) -> Any:
            asked.append(request)
            return in_pieces(f"Answer {len(asked)}.")

        house = House()
        await opened(house, responder=Responder(answer))
        for text in ("first question", "second question"):
            await ask(house, text)
            await asyncio.sleep(5)
        assert [message.content for message in asked[1].history] == [
            *("greeting0 greeting1", "first question", "Answer 1.")
        ]
        assert asked[1].text == "second question"
        await house.shut()

    run(main())


# -- opening --------------------------------------------------------------------------------------


def test_what_the_line_brings_before_the_session_is_open_is_kept_in_order() -> None:
    async def main() -> None:
        house = House(SlowJournal())
        host = await house.open()
        sink = host.connect(start(), Wire())
        frames = [bytes([number]) * 320 for number in range(20)]
        for frame in frames[:10]:
            sink.on_audio(frame)
        sink.on_digit("4")
        for frame in frames[10:]:
            sink.on_audio(frame)
        sink.on_digit("2")
        assert house.ears == []
        await asyncio.sleep(0.6)
        sink.on_audio(b"now")
        assert house.ears[0].audio == [*frames, b"now"]
        assert [event.digit for event in house.facts.of(ev.DigitPressed)] == ["4", "2"]  # type: ignore[attr-defined]
        assert isinstance(house.facts[0], ev.SessionStarted)
        await house.shut()

    run(main())


def test_early_audio_is_bounded_and_a_hang_up_behind_it_is_not_lost() -> None:
    async def main() -> None:
        house = House(SlowJournal())
        host = await house.open()
        sink = host.connect(start(), Wire())
        for _ in range(10 * MAX_EARLY):
            sink.on_audio(b"\0\0")
        sink.on_hangup("caller")
        await asyncio.sleep(0.6)
        assert len(house.ears[0].audio) == MAX_EARLY
        assert house.facts.of(ev.CallerHungUp) == [ev.CallerHungUp("caller")]
        assert house.facts.names[-1] == "SessionClosed"
        assert host.active == 0
        await house.shut()

    run(main())


def test_a_line_that_breaks_before_the_session_is_open_leaves_it_waiting() -> None:
    async def main() -> None:
        house = House(SlowJournal())
        host = await house.open()
        sink = host.connect(start(), Wire())
        sink.on_dropped("line.lost")
        await asyncio.sleep(1)
        call = host.get("call-1")
        assert call is not None
        assert call.driver is not None
        assert call.driver.session.state.phase is Phase.DETACHED
        assert [ear.closed for ear in house.ears] == [True], "no ear listens to a line that is gone"
        await house.shut()

    run(main())


def test_what_an_older_line_told_before_the_session_was_open_does_not_end_the_newer_one() -> None:
    """It dropped, or hung up, and the caller is back already: the fact is of a line nobody listens to."""

    async def main() -> None:
        for tell in ("on_dropped", "on_hangup"):
            house = House(SlowJournal())
            host = await house.open()
            first = host.connect(start(), Wire())
            getattr(first, tell)("line.lost")
            wire = Wire()
            host.connect(start(), wire)
            await asyncio.sleep(1)
            assert host.active == 1
            assert floor(host) == "LISTENING"
            assert not house.ears[-1].closed
            assert wire.ends == []
            await house.shut()

    run(main())


def test_the_carrier_may_say_that_it_is_over_before_the_session_is_open() -> None:
    async def main() -> None:
        house = House(SlowJournal())
        host = await house.open()
        host.connect(start(), Wire())
        host.call_over("call-1", "completed")
        host.call_over("unknown", "completed")
        await asyncio.sleep(1)
        assert host.active == 0
        assert await host.ended("call-1") == "completed"
        await house.shut()

    run(main())


@pytest.mark.parametrize("journal", [DownJournal(), SlowJournal(10.0)])
def test_a_store_that_is_down_stops_no_call(journal: MemoryJournal) -> None:
    async def main() -> None:
        house = House(journal)
        host, wire, sink = await opened(house)
        await asyncio.sleep(2)
        assert floor(host) == "LISTENING"
        await ask(house)
        await asyncio.sleep(5)
        assert floor(host) == "LISTENING"
        sink.on_hangup("caller")
        await asyncio.sleep(0.1)
        assert host.active == 0
        assert wire.ends == [("close", (1000, "caller"))]
        await house.shut()

    run(main())


def test_a_call_that_cannot_be_opened_ends_its_line_and_frees_its_place(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        house = House()
        host = await house.open(max_sessions=1)
        object.__setattr__(host.services, "ear", None)  # no ear, no voice activity detector: nothing can be opened
        wire = Wire()
        host.connect(start(), wire)
        await asyncio.sleep(0.1)
        assert wire.ends == [("close", (1011, "session.failed"))], "not on purpose: the carrier brings the caller back"
        assert host.active == 0
        assert house.writer._books == {}, "its journal is not kept open"
        await asyncio.sleep(100)
        await house.shut()

    run(main())
    assert "the call could not be opened" in caplog.text


# -- a newer line ---------------------------------------------------------------------------------


def test_the_newest_line_holds_the_call_and_the_older_one_is_told() -> None:
    async def main() -> None:
        house = House()
        host, old_wire, old = await opened(house)
        wire = Wire()
        sink = host.connect(start(), wire)
        assert sink is not old
        assert old_wire.ends == [("close", (CLOSE_TAKEN_OVER, "session.taken_over"))]
        assert [ear.closed for ear in house.ears] == [True, False]
        assert house.facts.names[-2:] != ["SessionClosed"]
        await asyncio.sleep(2)
        assert any(what == "send" for what, _ in wire.told)
        assert house.facts.of(ev.LineAttached) == [ev.LineAttached("test", 2)]
        await house.shut()

    run(main())


def test_nothing_that_an_older_line_says_is_listened_to() -> None:
    async def main() -> None:
        house = House()
        host, old_wire, old = await opened(house)
        host.connect(start(), Wire())
        await asyncio.sleep(2)
        before = house.facts.names
        old.on_audio(b"late")
        old.on_digit("5")
        old.on_mark("1.0.0")
        old.on_hangup("late")
        old.on_dropped("late")
        await asyncio.sleep(1)
        assert house.facts.names == before
        assert house.ears[-1].audio == []
        assert floor(host) == "LISTENING"
        assert [what for what, _ in old_wire.ends] == ["close"]
        await house.shut()

    run(main())


def test_a_dropped_line_waits_and_the_next_one_goes_on_with_the_same_history() -> None:
    async def main() -> None:
        house = House()
        host, _, sink = await opened(house)
        await ask(house)
        await asyncio.sleep(1.0)
        sink.on_dropped("line.lost")
        assert house.ears[0].closed
        assert floor(host) == "IDLE"
        await asyncio.sleep(30)
        host.connect(start(), Wire())
        await asyncio.sleep(0.01)
        assert house.ears[1].first > 1, "utterances are numbered on"
        await asyncio.sleep(3)
        call = host.get("call-1")
        assert call is not None
        assert call.driver is not None
        told = [message.content for message in call.driver.session.state.history]
        assert told[0] == "greeting0 greeting1"
        # It was heard to its fifth word or so, and goes on behind it.
        assert told[-2] == "a2x1w0 a2x1w1 a2x1w2 a2x1w3. a2x1w4"
        assert told[-1] == "resumed0 resumed1 a2x1w5 a2x1w6 a2x1w7. a2x1w8 a2x1w9 a2x1w10 a2x1w11."
        await ask(house, "and the hostel")
        assert floor(host) == "THINKING"
        await house.shut()

    run(main())


def test_a_dropped_line_that_nobody_comes_back_to_expires() -> None:
    async def main() -> None:
        house = House()
        host, _, sink = await opened(house)
        sink.on_dropped("line.lost")
        await asyncio.sleep(POLICY.ttl_ms / 1000 + 1)
        assert host.active == 0
        assert await host.ended("call-1") == "expired"
        await house.shut()

    run(main())


def test_dropped_and_back_many_times() -> None:
    async def main() -> None:
        house = House()
        host, _, sink = await opened(house)
        for _ in range(20):
            sink.on_dropped("line.lost")
            await asyncio.sleep(0.01)
            sink = host.connect(start(), Wire())
            await asyncio.sleep(0.01)
        await asyncio.sleep(3)
        assert floor(host) == "LISTENING"
        assert [ear.closed for ear in house.ears] == [True] * 20 + [False]
        firsts = [ear.first for ear in house.ears]
        assert firsts == sorted(set(firsts))
        await house.shut()

    run(main())


# -- recovery -------------------------------------------------------------------------------------


async def die(house: House) -> None:
    """The process is gone: nothing says goodbye. What was acknowledged is in the journal."""
    await house.writer.flush()
    await house.shut()


def test_another_process_goes_on_where_the_first_one_died() -> None:
    async def main() -> None:
        house = House()
        await opened(house)
        await ask(house, "what are the fees")
        await die(house)
        again = House(house.journal)
        host = await again.open()
        host.connect(start(), Wire())
        await asyncio.sleep(0.1)
        classify = [fact for fact in again.facts if isinstance(fact, ev.LineAttached)]
        assert classify == [ev.LineAttached("test", 2)]
        await asyncio.sleep(6)
        call = host.get("call-1")
        assert call is not None
        assert call.driver is not None
        told = [message.content for message in call.driver.session.state.history]
        assert told[1] == "what are the fees"
        assert told[2].startswith("resumed0"), "first a word that it goes on"
        assert "w11" in told[2], "then the answer that was owed"
        await die(again)
        replay(await house.journal.read("call-1"))

    run(main())


def test_rules_that_changed_since_are_no_reason_to_drop_a_caller(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        house = House()
        await opened(house)
        await ask(house, "what are the fees")
        await die(house)
        kept = house.journal._sessions["call-1"]  # type: ignore[attr-defined]
        decided = next(index for index, entry in enumerate(kept.entries) if entry.digest)
        kept.entries[decided] = msgspec.structs.replace(kept.entries[decided], digest=b"otherwise")
        again = House(house.journal)
        host = await again.open()
        host.connect(start(), Wire())
        await asyncio.sleep(1)
        call = host.get("call-1")
        assert call is not None
        assert call.driver is not None
        assert "what are the fees" in [message.content for message in call.driver.session.state.history]
        await again.shut()

    run(main())
    assert "resumed under changed rules" in caplog.text


@pytest.mark.parametrize("snapshot", ["sound", "older release", "nonsense", "no UTF-8"])
def test_a_snapshot_shortens_recovery_and_one_that_cannot_be_read_does_no_harm(
    snapshot: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(driver_module, "SNAPSHOT_EVERY", 8)

    async def main() -> None:
        house = House()
        await opened(house)
        await ask(house, "what are the fees")
        await asyncio.sleep(0.1)
        await die(house)
        kept = house.journal._sessions["call-1"]  # type: ignore[attr-defined]
        assert kept.snapshot is not None
        seq, data = kept.snapshot
        if snapshot == "sound":
            kept.entries[0] = msgspec.structs.replace(kept.entries[0], digest=b"not read again")
        else:
            damaged = {
                "nonsense": b"nonsense",
                "older release": data.replace(data[3:11], bytes(8)),
                "no UTF-8": data.replace(b"the fees", b"the f\xffes"),
            }
            kept.snapshot = (seq, damaged[snapshot])
        again = House(house.journal)
        host = await again.open()
        host.connect(start(), Wire())
        await asyncio.sleep(0.1)
        call = host.get("call-1")
        assert call is not None
        assert call.driver is not None
        assert "what are the fees" in [message.content for message in call.driver.session.state.history]
        await again.shut()

    run(main())
    assert ("the journal is read from its start" in caplog.text) == (snapshot != "sound")
    assert "changed rules" not in caplog.text


def test_snapshots_are_kept_after_a_second_line_took_the_call_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "SNAPSHOT_EVERY", 8)

    async def main() -> None:
        house = House()
        host, _, _ = await opened(house)
        host.connect(start(), Wire())
        await asyncio.sleep(2)
        await ask(house)
        await asyncio.sleep(5)
        kept = house.journal._sessions["call-1"]  # type: ignore[attr-defined]
        assert kept.snapshot is not None
        assert kept.snapshot[0] > len(house.entries) - 9
        assert Session.restore(kept.snapshot[1]).state.epoch == 2
        await house.shut()

    run(main())


def test_an_effect_that_may_have_run_is_lost_and_a_read_is_done_again() -> None:
    async def main() -> None:
        house = House()
        await opened(house)
        await ask(house)
        await die(house)
        session = replay(await house.journal.read("call-1"))
        turn, entries = session.state.turn, []
        for kind, key in (("read", "k-read"), ("write", "k-write")):
            facts = [ev.IntentReady(turn, "q"), ev.PassagesReady(turn)] if kind == "read" else []
            for event in (*facts, ev.EffectRequested(turn, 1, key, f"{kind}_it", kind)):
                entries.append(session.receive(event, session.state.at)[0])
        stored = house.journal._sessions["call-1"]  # type: ignore[attr-defined]
        result = await house.journal.append(
            [Batch("call-1", stored.row.epoch, entries[0].seq - 1, tuple[Entry, ...](entries))]
        )
        assert result == [None]
        ran: list[str] = []

        async def effect(arguments: str, key: str) -> str:
            ran.append(key)
            return "done"

        again = House(house.journal)
        host = await again.open()
        object.__setattr__(host.services, "effectors", {"read_it": effect, "write_it": effect})
        host.connect(start(), Wire())
        await asyncio.sleep(0.5)
        assert ran == ["k-read"]
        assert again.facts.of(ev.CommandLost) == [ev.CommandLost("k-write", "write_it")]
        assert again.facts.of(ev.EffectSucceeded) == [ev.EffectSucceeded("k-read", "done")]
        assert again.facts.names.index("CommandLost") < again.facts.names.index("LineAttached")
        await again.shut()

    run(main())


# -- the end --------------------------------------------------------------------------------------


def test_hanging_up_waits_for_the_disk_and_is_done_once() -> None:
    async def main() -> None:
        house = House()
        host, wire, sink = await opened(house, policy=msgspec.structs.replace(POLICY, silence_prompts=0))
        await asyncio.sleep(60)
        assert wire.ends == [("hang_up", "agent"), ("close", (1000, "agent"))]
        assert host.active == 0
        sink.on_hangup("late")
        assert await host.ended("call-1") == "agent"
        await house.shut()

    run(main())


def test_a_transfer_is_told_to_the_line() -> None:
    async def main() -> None:
        house = House()
        host, wire, _ = await opened(house)
        call = host.get("call-1")
        assert call is not None
        call._execute(cmd.TransferCall("k", "+911234"), None)
        assert wire.ends == [("hang_up", "transfer:+911234")]
        assert call.end_reason == "transferred"
        await house.shut()

    run(main())


def test_shut_down_leaves_the_session_open_in_the_journal_and_nothing_running() -> None:
    async def main() -> None:
        house = House()
        host, wire, _ = await opened(house)
        await ask(house)
        await asyncio.sleep(0.3)
        assert await host.drain(0) == 1
        await asyncio.sleep(0.1)
        assert wire.ends == [("close", (1012, "server.restart"))]
        await house.shut()
        assert not replay(await house.journal.read("call-1")).is_over
        me = asyncio.current_task()
        assert [task for task in asyncio.all_tasks() if task is not me] == []

    run(main())
