"""A call whose line brings words: from the fragment to the sound, and back after the line was lost. On virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from call_parts import POLICY, House, SlowJournal, Wire

from antiphon.kernel import events as ev
from antiphon.language_id import Guess
from antiphon.runtime.host import Host
from antiphon.runtime.line_sink import LineSink
from antiphon.runtime.ports import CallStart
from antiphon.sim.clock import run
from antiphon.stores.memory import MemoryJournal

START = CallStart("s1", "test", words=True, policy={"greeting": False, "excuse": False})


async def opened(house: House, start: CallStart = START) -> tuple[Host, Wire, LineSink]:
    host = await house.open()
    wire = Wire()
    sink = host.connect(start, wire)
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    return host, wire, sink


def state(host: Host) -> Any:
    call = host.get("s1")
    assert call is not None
    assert call.driver is not None
    return call.driver.session.state


def sent_ms(wire: Wire) -> int:
    return sum(int(str(how)) for what, how in wire.told if what == "send") // 16


def test_the_answer_begins_without_another_wait() -> None:
    async def main() -> None:
        house = House()
        host, wire, sink = await opened(house)
        assert str(state(host).floor) == "LISTENING"
        assert not house.facts.of(ev.SegmentReady), "nobody is greeted who does not want it"
        sink.on_fragment("what are the fees", True)
        sink.on_turn_end()
        assert str(state(host).floor) == "THINKING", "in the same step"
        await asyncio.sleep(POLICY.endpoint_ms / 1000 - 0.01)
        assert sent_ms(wire) > 0, "no silence was waited for"
        assert house.ears == [], "an ear for sound would cost a place in the detector"
        await house.shut()

    run(main())


def test_who_wants_to_be_greeted_is_and_sound_gets_its_ear() -> None:
    async def main() -> None:
        house = House()
        host, _, sink = await opened(house, msgspec.structs.replace(START, policy={}))
        assert [event.kind for event in house.facts.of(ev.SegmentReady)] == ["greeting"]  # type: ignore[attr-defined]
        sink.on_audio(b"\x00" * 320)
        sink.on_audio(b"\x01" * 320)
        (ear,) = house.ears
        assert ear.audio == [b"\x00" * 320, b"\x01" * 320]
        sink.on_dropped("line.lost")
        assert ear.closed
        assert str(state(host).floor) == "IDLE"
        await house.shut()

    run(main())


def test_what_was_said_before_the_session_was_open_is_not_lost() -> None:
    async def main() -> None:
        house = House(SlowJournal(0.5))
        host = await house.open()
        sink = host.connect(START, Wire())
        sink.on_speaking()
        sink.on_fragment("what are", False)
        sink.on_fragment("what are the fees", True)
        sink.on_turn_end()
        sink.on_text("and the hostel", "")
        assert house.facts == []
        await asyncio.sleep(0.6)
        asked = [message.content for message in state(host).history if message.role == "user"]
        assert asked[-1].endswith("and the hostel")
        assert "what are the fees" in " ".join(asked)
        await house.shut()

    run(main())


def test_a_voice_pauses_words_decide_and_no_words_give_the_floor_back() -> None:
    async def main() -> None:
        house = House()
        host, wire, sink = await opened(house)
        sink.on_fragment("what are the fees", True)
        sink.on_turn_end()
        await asyncio.sleep(0.6)
        assert str(state(host).floor) == "SPEAKING"
        sink.on_speaking()
        assert str(state(host).floor) == "INTERRUPT"
        before = sent_ms(wire)
        await asyncio.sleep(0.3)
        assert sent_ms(wire) == before, "silence first"
        sink.on_turn_end()
        await asyncio.sleep(POLICY.interrupt_ms / 1000 + 0.05)
        assert str(state(host).floor) == "SPEAKING", "nothing was said"
        await asyncio.sleep(0.5)
        sink.on_fragment("stop", False)
        assert str(state(host).floor) == "INTERRUPT", "one word may be a murmur"
        sink.on_fragment("stop please wait", False)
        assert str(state(host).floor) == "LISTENING", "words take it"
        sink.on_turn_end()
        await asyncio.sleep(0.01)
        assert str(state(host).floor) == "THINKING"
        assert state(host).history[-1].content == "stop please wait"
        await house.shut()

    run(main())


def test_typed_lines_are_in_the_language_that_is_named_or_told() -> None:
    async def main() -> None:
        house = House()
        host, _, sink = await opened(house)
        object.__setattr__(host.services, "identify", lambda text: Guess("hi-IN", 0.7))
        sink.on_text("fees kitni hai", "")
        sink.on_text("the fees", "en-IN")
        sink.on_text("a" * 5000, "en-IN")
        typed = house.facts.of(ev.TextTyped)
        assert typed[:2] == [ev.TextTyped("fees kitni hai", "hi-IN", 0.7), ev.TextTyped("the fees", "en-IN", 1.0)]
        assert len(typed[2].text) == ev.MAX_TEXT  # type: ignore[attr-defined]
        await house.shut()

    run(main())


async def interrupted_by_its_line(house: House, *, taken_over: bool) -> tuple[str, str]:
    """What was heard of an answer by a caller whose line broke, or came twice, and what they heard then."""
    host, _, sink = await opened(house)
    sink.on_fragment("what are the fees", True)
    sink.on_turn_end()
    await asyncio.sleep(1.3)
    if not taken_over:
        sink.on_dropped("line.lost")
        await asyncio.sleep(5)
    wire = Wire()
    again = host.connect(START, wire)
    await asyncio.sleep(0.01)
    sink.on_fragment("of the older line", True)
    await asyncio.sleep(10)
    told = [message.content for message in state(host).history if message.role == "assistant"]
    assert not any("older" in message.content for message in state(host).history)
    again.on_hangup("client")
    await asyncio.sleep(0.01)
    assert wire.ends == [("close", (1000, "client"))]
    await house.shut()
    return told[0], told[1]


def test_the_rest_of_an_answer_is_said_on_the_next_line() -> None:
    dropped, taken = (run(interrupted_by_its_line(House(), taken_over=how)) for how in (False, True))
    assert dropped == taken, "a takeover loses no more than a broken line"
    heard, rest = dropped
    words = f"{heard} {rest}".replace(".", "").split()
    assert words == [f"a1x1w{number}" for number in range(len(words))], (heard, rest)
    assert not heard.endswith("."), "it broke within a sentence"
    assert len(words) > 6


def test_another_process_says_the_rest_as_well() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        one, other = House(journal), House(journal)
        host, _, sink = await opened(one)
        sink.on_fragment("what are the fees", True)
        sink.on_turn_end()
        await asyncio.sleep(1.3)
        await one.writer.flush("s1")
        second = await other.open()  # the first one stands still: it is neither told nor asked
        second.connect(START, Wire())
        await asyncio.sleep(10)
        assert len(other.facts.of(ev.LineAttached)) == 1
        told = [message.content for message in state(second).history if message.role == "assistant"]
        assert "a1x1w" in told[-1], told
        assert state(second).history[0].content == "what are the fees"
        assert [message.role for message in state(second).history].count("user") == 1, "it is not asked again"
        await one.shut()
        await other.shut()
        assert host.get("s1") is None

    run(main())
