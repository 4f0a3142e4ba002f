"""What a call survives: the death of its server, another line for it, a server that is told to end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from calling import FIRST, Stories, call, chosen, closed
from hearing import PHRASES, closest_answer, scribe, share
from served import FAKE, Server, Settings, ended, until

from antiphon.kernel.events import LineAttached
from antiphon.phone import CallReport, Manners, PhoneEvent, PhoneScript, Say, Step, Wait, place_call
from antiphon.phone.voices import Voices

QUIET = {"policy": {"greeting": False}}
ASKED = Say("When do applications close?")
TALKATIVE = {
    **FAKE,
    **QUIET,
    "llm": {
        "provider": "fake",
        "reply": "You can apply until the thirty first of May, and that is a Sunday this year.",
    },
}
"""Answers with a tone of some four seconds, without a model: such a server is up quickly."""


class Caller:
    """A call that is under way: its task, and what was noticed of it so far."""

    def __init__(self, server: Server, voices: Voices, id: str, *steps: Step) -> None:
        self.noticed: list[PhoneEvent] = []
        self.task: asyncio.Task[CallReport] = asyncio.ensure_future(
            place_call(
                server.line,
                PhoneScript(steps, manners=FIRST),
                voices=voices,
                call_id=id,
                on_event=self.noticed.append,
                timeout_s=60,
            )
        )

    async def hears_the_agent(self, times: int = 1) -> None:
        def heard() -> bool:
            return sum(event.kind == "agent_speaking" for event in self.noticed) >= times

        await until(heard, 20, f"the agent speaks; noticed {self.noticed}")


async def all_gone(processes: list[psutil.Process]) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 5)
    assert not alive, "workers outlive their server"


async def status_of(server: Server, id: str) -> str:
    rows: list[dict[str, Any]] = json.loads(await server.command("calls", "--json"))
    return next(row["status"] for row in rows if row["session"] == id)


stories = Stories()


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return stories.together(tmp_path_factory.mktemp("survival"), chosen(request))


@stories.tell
async def killed_in_the_middle_of_a_reply_and_resumed_with_the_same_history(folder: Path, voices: Voices) -> None:
    with ended(server := Server(folder, QUIET)):
        await server.start()
        async with scribe() as pen:
            caller = Caller(server, voices, "CAphoenix", ASKED)
            await caller.hears_the_agent()
            await asyncio.sleep(1.5)
            acknowledged = await server.entries("CAphoenix")
            family = server.children()
            assert len(family) >= 3, "recogniser, voice and embedding have processes of their own"
            server.signal(signal.SIGKILL)
            report = await caller.task
            assert report.ended_by == "agent"
            await all_gone(family)

            kept = await server.entries("CAphoenix")
            assert len(acknowledged) > 12
            assert kept[: len(acknowledged)] == acknowledged
            assert await status_of(server, "CAphoenix") == "interrupted"
            shown = json.loads(await server.command("show", "CAphoenix", "--json"))
            assert shown["status"] == "interrupted"
            assert shown["turns"][0]["sources"] == ["Admissions Calendar, page 1"]

            await server.start()
            assert await status_of(server, "CAphoenix") == "interrupted"
            back = await call(
                server, Say("And for international students?"), id="CAphoenix", voices=voices, manners=Manners()
            )
            assert back.entries[: len(kept)] == kept
            assert isinstance(back.entries[len(kept)].event, LineAttached)
            heard = [await pen.write(turn.audio) for turn in back.report.turns]
            print(heard)
            assert share(PHRASES["resumed"][0], heard[0]) > 0.5, heard
            assert closest_answer(heard[0])[0] == "deadline", "what was not heard to its end is said again"
            assert closest_answer(heard[1])[0] == "deadline-international", heard
            history = [turn.question for turn in back.journal.turns if turn.question]
            assert len(history) == 2, "the answer is said again, the question is not asked again"
            assert await status_of(server, "CAphoenix") == "closed"
        assert "identical" in await server.command("replay", "CAphoenix")


@stories.tell
async def a_second_stream_takes_the_call_over(folder: Path, voices: Voices) -> None:
    with ended(server := Server(folder, TALKATIVE)):
        await server.start()
        older = Caller(server, voices, "CAtwice", ASKED, Wait(20))
        await older.hears_the_agent()
        newer = await call(server, ASKED, id="CAtwice", voices=voices, manners=Manners())
        report = await older.task
        assert (report.ended_by, report.close_code) == ("agent", 4001)
        assert report.close_reason == "session.taken_over"
        assert report.duration_ms < 15_000, "it was closed when the newer came, not at its own end"
        assert newer.report.all_answered
        assert newer.turn(0).answered, "it is told that the call goes on"
        assert [turn.phrases for turn in newer.journal.turns if turn.phrases] == [("resumed",)]
        assert newer.journal.turns[0].outcome in ("interrupted", "cut_off")
        assert (await server.get("/health"))["active_sessions"] == 0
        assert "identical" in await server.command("replay", "CAtwice")


@stories.tell
async def sigterm_lets_a_call_finish_and_takes_no_other(folder: Path, voices: Voices) -> None:
    with ended(server := Server(folder, TALKATIVE)):
        await server.start()
        family = server.children()
        caller = Caller(server, voices, "CAlast", ASKED, ASKED)
        await caller.hears_the_agent()
        server.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        late = await place_call(server.line, PhoneScript((ASKED,)), voices=voices, timeout_s=10)
        assert late.ended_by == "failed", late
        assert server.is_running
        report = await caller.task
        assert report.ended_by == "caller"
        assert report.all_answered
        assert len(report.latencies) == 2, "the second question came after the signal"
        assert await server.ended() == 0
        await all_gone(family)
        await closed(server, "CAlast")
        assert await status_of(server, "CAlast") == "closed"
        assert "Traceback" not in server.log()


async def ctrl_c(folder: Path, voices: Voices, settings: Settings) -> None:
    with ended(server := Server(folder, settings)):
        await server.start()
        family = server.children()
        caller = Caller(server, voices, "CAcut", ASKED, Wait(30))
        await caller.hears_the_agent()
        began = time.monotonic()
        os.killpg(server.process.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
        status = await server.ended(10)
        took = time.monotonic() - began
        report = await caller.task
        print(f"ended {took:.2f} s after Ctrl-C")
        assert status in (0, 130)
        assert took < 5
        assert (report.ended_by, report.close_code) == ("agent", 1001)
        await all_gone(family)
        assert "Traceback" not in server.log()
        assert await status_of(server, "CAcut") in ("detached", "interrupted")
        assert "identical" in await server.command("replay", "CAcut")


@stories.tell
async def ctrl_c_ends_it_at_once_and_leaves_nothing(folder: Path, voices: Voices) -> None:
    await ctrl_c(folder, voices, TALKATIVE)


@stories.tell
async def ctrl_c_leaves_no_process_of_the_embedded_providers(folder: Path, voices: Voices) -> None:
    await ctrl_c(folder, voices, QUIET)


@pytest.mark.parametrize("name", stories.names)
def test_a_call_survives(outcomes: dict[str, Any], name: str) -> None:
    if outcomes[name] is not None:
        raise outcomes[name]
