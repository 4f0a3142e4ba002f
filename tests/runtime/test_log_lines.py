"""Every line about a call carries its call id as a field, so that a log of many calls can be read call by call."""

from __future__ import annotations

import ast
import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from call_parts import Answers, House, MouthRoom, Voice, Wire, phrase_book, start

from antiphon import runtime
from antiphon.errors import ProviderError, StoreError
from antiphon.kernel import events as ev
from antiphon.kernel.commands import RunEffect
from antiphon.runtime.effects import EffectRunner
from antiphon.runtime.ports import Act, ReplyPart, ReplyRequest, Sound, TextDelta
from antiphon.sim.clock import run

FOR_ALL_CALLS = {
    "hearing": "a transcriber is not told whose words it hears",
    "phrases": "speaks before there are any",
    "writer": "one journal for all",
}
"""The modules that log, but not of one call."""


def test_every_line_of_a_call_has_the_field() -> None:
    files = [file for file in Path(runtime.__path__[0]).glob("*.py") if file.stem not in FOR_ALL_CALLS]
    without = [f"{file.name}:{line}" for file in files for line in lines_without_field(file)]
    assert without == []


def lines_without_field(file: Path) -> list[int]:
    """Line numbers of the log calls that have no ``extra``."""
    calls = [
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
    ]
    return [node.lineno for node in calls if not any(keyword.arg == "extra" for keyword in node.keywords)]


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.name, record.__dict__.get("call", "")) for record in caplog.records]


def test_the_mouth_names_its_call(caplog: pytest.LogCaptureFixture) -> None:
    async def raises(text: str) -> AsyncGenerator[Sound, None]:
        raise ZeroDivisionError(text)
        yield

    async def fails(text: str) -> AsyncGenerator[Sound, None]:
        raise ProviderError("no voice", stage="tts", code="tts.down")
        yield

    async def main() -> None:
        room = MouthRoom(await phrase_book(), Voice(raises), Voice(fails))
        room.speak(1, "Hello.")
        await asyncio.sleep(1)
        room.mouth.close()

    with caplog.at_level(logging.WARNING):
        run(main())
    assert told(caplog) == [("antiphon.mouth", "c1")] * 4, "it raised, the next goes on, tries again, and failed"


def test_an_effect_names_its_call(caplog: pytest.LogCaptureFixture) -> None:
    async def raises(arguments: str, key: str) -> str:
        raise KeyError("seat")

    async def main() -> None:
        runner = EffectRunner("c1", {"book": raises}, dict, lambda event: None)
        runner.run(RunEffect("k", "book", "write", "{}"), None)
        runner.run(RunEffect("k", "book", "write", "{}"), StoreError("disk full"))
        await runner.settled()

    with caplog.at_level(logging.WARNING):
        run(main())
    assert told(caplog) == [("antiphon.effects", "c1")] * 2


def test_a_call_hands_its_id_to_its_parts(caplog: pytest.LogCaptureFixture) -> None:
    async def raises(request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
        yield TextDelta("One moment. ")
        raise ZeroDivisionError

    async def main() -> None:
        house = House()
        host = await house.open(responder=Answers(raises))
        host.connect(start("call-7"), Wire())
        await asyncio.sleep(5)  # it is greeted
        ear = house.ears[-1]
        ear.post(ev.SpeechStarted())
        ear.post(ev.TranscriptPartial(ear.first, "what are the fees"))
        ear.post(ev.SpeechStopped())
        await asyncio.sleep(1)
        ear.post(ev.TranscriptFinal(ear.first, "what are the fees"))
        await asyncio.sleep(5)
        await house.shut()

    with caplog.at_level(logging.WARNING):
        run(main())
    assert ("antiphon.reply", "call-7") in told(caplog)
    assert {call for _, call in told(caplog)} == {"call-7"}
