"""The parts of an agent as processes of their own: all five at once, and what a caller hears when one is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from alive import QUIET, says_nothing_dead
from calling import FIRST, Placed, Stories, chosen, closed
from served import FAKE, Server, Settings, toml, until

from antiphon.kernel.events import (
    IntentReady,
    PassagesReady,
    ReplyBegun,
    SegmentSynthesized,
    StageFailed,
    StageRerouted,
    TranscriptFinal,
    TranscriptionFailed,
)
from antiphon.phone import Manners, PhoneEvent, PhoneScript, Say, place_call
from antiphon.phone.voices import Voices
from antiphon.providers.service_wire import PLACES

stories = Stories()

ASKED = Say("What are the fees?")
BRIEF = {"llm": {"provider": "fake", "reply": "Ten thousand rupees a year."}}
UNDERSTAND_MS = 300
UNHURRIED = Manners(greeting_s=0, quiet_s=1.5)


class Part(Server):
    """``antiphon service`` for one stage, with a provider of ``settings``."""

    def __init__(self, folder: Path, part: str, settings: Settings) -> None:
        super().__init__(folder / part, settings)
        self.command_line = ("service", part)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Deployment:
    """An orchestrator of fakes, but for the stages that are services."""

    def __init__(self, folder: Path, settings: Settings, **served: dict[str, Any]) -> None:
        """``served``: a provider's settings, by what its service is called (stt, intent, rag, tts)."""
        self._folder = folder
        self._settings = settings
        self._stages = {part: {"rag": "retrieval"}.get(part, part) for part in served}
        self.parts = {part: Part(folder, part, {self._stages[part]: table}) for part, table in served.items()}
        self.server: Server

    async def start(self) -> None:
        await asyncio.gather(*(part.start() for part in self.parts.values()))
        told = {PLACES[self._stages[name]].variable: part.url for name, part in self.parts.items()}  # type: ignore[index]
        self.server = Server(self._folder, {**FAKE, **BRIEF, **QUIET, **self._settings}, **told)
        await self.server.start()
        checks = (await self.server.get("/health"))["checks"]
        assert {PLACES[stage].title for stage in self._stages.values()} <= set(checks)  # type: ignore[index]

    def end(self) -> None:
        for each in (*self.parts.values(), *([self.server] if hasattr(self, "server") else [])):
            each.end()

    async def call(
        self, *steps: Say, voices: Voices, on_event: Callable[[PhoneEvent], None], manners: Manners = FIRST
    ) -> Placed:
        recording = self._folder / "call.wav"
        script = PhoneScript(steps, manners=manners)
        report = await place_call(
            self.server.line, script, voices=voices, call_id="CAcall", record=recording, on_event=on_event
        )
        placed = Placed(report, recording, await closed(self.server, "CAcall"))
        assert "Traceback" not in self.server.log(), self.server.log()
        return placed


def after(kind: str, number: int, do: Callable[[], None], delay_s: float = 0.0) -> Callable[[PhoneEvent], None]:
    """Does it once, ``delay_s`` after the ``number``-th such event of the phone."""
    seen: list[PhoneEvent] = []

    def on_event(event: PhoneEvent) -> None:
        if event.kind == kind:
            seen.append(event)
            if len(seen) == number:
                asyncio.get_running_loop().call_later(delay_s, do)

    return on_event


def of(placed: Placed, kind: type) -> list[Any]:
    return [entry.event for entry in placed.entries if isinstance(entry.event, kind)]


@stories.tell
async def intent_is_killed_and_rag_hangs_between_two_questions(folder: Path, voices: Voices) -> None:
    deployment = Deployment(folder, {}, intent={"provider": "fake"}, rag={"provider": "fake"})
    try:
        await deployment.start()

        def fault() -> None:
            deployment.parts["intent"].signal(signal.SIGKILL)
            deployment.parts["rag"].signal(signal.SIGSTOP)

        on_event = after("agent_quiet", 1, fault)
        placed = await deployment.call(ASKED, ASKED, voices=voices, on_event=on_event)
        deployment.parts["rag"].signal(signal.SIGCONT)
    finally:
        deployment.end()
    assert placed.report.all_answered
    says_nothing_dead(placed)
    assert [event.provider for event in of(placed, IntentReady)] == ["http"], "it had its part in the first answer"
    assert [event.provider for event in of(placed, PassagesReady)] == ["http"]
    codes = {(event.stage, event.code) for event in of(placed, StageFailed)}
    assert codes & {("intent", "intent.unreachable"), ("intent", "intent.cut")}, codes
    final, begun = placed.times(TranscriptFinal)[-1], placed.times(ReplyBegun)[-1]
    print(f"the second answer began {begun - final} ms after the words were final")
    assert begun - final < UNDERSTAND_MS + 200


@stories.tell
async def a_voice_is_killed_while_it_speaks_with_another_behind_it(folder: Path, voices: Voices) -> None:
    reply = "You need a degree. You need a letter. You need a photograph, and a form."
    settings = {"tts": {"fallback": [{"provider": "espeak"}]}, "llm": {"provider": "fake", "reply": reply}}
    deployment = Deployment(folder, settings, tts={"provider": "fake", "tts_realtime_factor": 0.9})
    try:
        await deployment.start()
        kill = after("agent_speaking", 1, lambda: deployment.parts["tts"].signal(signal.SIGKILL), 1.0)
        placed = await deployment.call(ASKED, voices=voices, on_event=kill, manners=UNHURRIED)
    finally:
        deployment.end()
    says_nothing_dead(placed)
    assert {event.provider for event in of(placed, SegmentSynthesized)} == {"http", "espeak"}
    codes = {event.code for event in of(placed, StageRerouted) if event.provider == "http"}
    assert codes
    assert codes <= {"tts.cut", "tts.unreachable", "breaker.open"}
    assert placed.journal.turns[-1].outcome == "answered"


@stories.tell
async def a_voice_is_killed_with_nobody_behind_it(folder: Path, voices: Voices) -> None:
    deployment = Deployment(folder, {}, tts={"provider": "espeak"})
    try:
        await deployment.start()
        kill = after("agent_quiet", 1, lambda: deployment.parts["tts"].signal(signal.SIGKILL))
        placed = await deployment.call(ASKED, ASKED, voices=voices, on_event=kill, manners=UNHURRIED)
    finally:
        deployment.end()
    says_nothing_dead(placed)
    first, second = [turn for turn in placed.journal.turns if turn.question]
    assert first.outcome == "answered"
    assert second.phrases, "the phrases that were spoken when it started are still there"
    assert ("tts", "tts.unreachable") in {(event.stage, event.code) for event in of(placed, StageFailed)}


@stories.tell
async def an_ear_is_killed_with_and_without_another_behind_it(folder: Path, voices: Voices) -> None:
    async def one(name: str, settings: Settings) -> Placed:
        deployment = Deployment(folder / name, settings, stt={"provider": "fake", "text": "from the service"})
        try:
            await deployment.start()
            kill = after("agent_quiet", 1, lambda: deployment.parts["stt"].signal(signal.SIGKILL))
            return await deployment.call(ASKED, ASKED, voices=voices, on_event=kill, manners=UNHURRIED)
        finally:
            deployment.end()

    spare = {"stt": {"fallback": [{"provider": "fake", "text": "from the spare"}]}}
    alone, behind = await asyncio.gather(one("alone", {}), one("behind", spare))
    for placed in (alone, behind):
        says_nothing_dead(placed)
    assert [event.text for event in of(behind, TranscriptFinal)] == ["from the service", "from the spare"]
    assert [event.text for event in of(alone, TranscriptFinal)] == ["from the service"]
    assert {event.code for event in of(alone, TranscriptionFailed)} <= {"stt.cut", "stt.unreachable", "breaker.open"}
    assert alone.journal.turns[-1].phrases, "the caller is told, in a phrase"


# -- all five --------------------------------------------------------------------------------------

QUICK = {**FAKE, "intent": {"provider": "fake"}, "retrieval": {"provider": "fake"}, "log": {"level": "WARNING"}}


def launch(folder: Path, *words: str) -> subprocess.Popen[str]:
    folder.mkdir()
    (folder / "settings.toml").write_text(toml(QUICK), encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("ANTIPHON_", "REDIS_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "antiphon", "service", "all", "--free-ports", "--config", "settings.toml", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environ,
        start_new_session=True,
    )


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@stories.tell
async def all_five_take_a_call_and_are_gone_after_it(folder: Path, voices: Voices) -> None:
    with launch(folder, "--once") as process:
        said, _ = await asyncio.to_thread(process.communicate, timeout=90)
    assert process.returncode == 0, said
    assert "answered, through all five processes" in said
    assert [line.split()[0] for line in said.splitlines() if "  http://" in line] == [
        *(place.title for place in PLACES.values()),
        "orchestrator",
    ]


@stories.tell
async def a_part_that_dies_is_told_and_ctrl_c_ends_the_rest(folder: Path, voices: Voices) -> None:
    with launch(folder) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while "call it:" not in (lines[-1] if lines else ""):
                lines.append(await asyncio.to_thread(process.stdout.readline))
                assert lines[-1], "".join(lines)
            children = family(process)
            (intent,) = [each for each in children if "intent" in each.cmdline()]
            intent.kill()
            assert "intent-service ended with status -9" in await asyncio.to_thread(process.stdout.readline)
            process.send_signal(signal.SIGINT)
            rest = await asyncio.to_thread(process.stdout.read)
            assert await asyncio.to_thread(process.wait, 30) == 0, rest
        finally:
            process.kill()
    assert await until(lambda: not any(each.is_running() for each in children), 10, "all of them are gone")


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return stories.together(tmp_path_factory.mktemp("services"), chosen(request))


@pytest.mark.parametrize("name", stories.names)
def test_an_agent_of_parts(outcomes: dict[str, Any], name: str) -> None:
    if outcomes[name] is not None:
        raise outcomes[name]
