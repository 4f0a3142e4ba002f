"""Answering before the question is confirmed, as the caller hears it: sooner, and never the wrong answer."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alive import says_nothing_dead
from calling import Placed, call, caller_voices
from hearing import RATE, SAME, audible, likeness
from loopback_openai import KEY, Loopback, serving
from served import FAKE, Server, ended

from antiphon.kernel.events import SegmentReady, SpeculationEnded
from antiphon.kernel.policy import Policy
from antiphon.media.codec import mulaw_decode
from antiphon.phone import Play, Say
from antiphon.phone.voices import Voices

GAIN_MS = 100
TURNS, CALLS = 2, 3
ASKED = Say("What are the admission requirements?")
REALISTIC = {
    **FAKE,
    "stt": {"provider": "fake", "text": ASKED.text, "stt_ms": 150, "partial_ms": 150},
    "llm": {"provider": "fake", "llm_ms": 300, "llm_token_ms": 30, "reply": "You need a bachelor's degree."},
    "tts": {"provider": "fake", "tts_ms": 120},
}
"""What services on the network take: 150 ms for a final, 300 ms to a first word, 120 ms to a first sound."""

BEGUN, ENDED = "When do applications close", "for students from abroad?"
PAUSE_MS = 300
"""Longer than the gate waits, shorter than it takes to be done."""
ANSWERS = {
    "when do applications close": "They close on the thirty first of May.",
    "when do applications close for students from abroad": "Foreigners apply before the middle of April.",
}


class Knowing(Loopback):
    """Answers the two questions, slowly."""

    def _pieces(self, body: Any, fault: str) -> Iterator[bytes]:
        self.reply = ANSWERS.get(body["messages"][-1]["content"], "I do not know that.")
        yield from super()._pieces(body, fault)


@dataclass(frozen=True)
class Told:
    ahead: list[Placed]
    behind: list[Placed]
    pausing: Placed
    model: Knowing
    logs: str


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return asyncio.run(placed(tmp_path_factory.mktemp("ahead")))


async def placed(folder: Path) -> Told:
    async with caller_voices() as voices, serving(Knowing()) as model:
        model.token_s = 0.15
        llm = {"provider": "openai", "base_url": model.base_url, "model": "test"}
        stt = {"provider": "pocketsphinx", "phrases": list(ANSWERS)}
        english = {"languages": {"offered": ["en-IN"]}}
        real = {**FAKE, **english, "stt": stt, "llm": llm, "tts": {"provider": "espeak"}}
        servers = [
            Server(folder / "ahead", {**REALISTIC, **policy(speculate=True)}),
            Server(folder / "behind", {**REALISTIC, **policy(speculate=False)}),
            Server(folder / "pausing", {**real, **policy(speculate=True)}, OPENAI_API_KEY=KEY),
        ]
        with ended(*servers):
            await asyncio.gather(*(server.start() for server in servers))
            pause = Play(await with_a_pause(voices), "a question with a pause")
            told = await asyncio.gather(
                *(
                    call(server, *[ASKED] * TURNS, id=f"CA{number}", voices=voices)
                    for server in servers[:2]
                    for number in range(CALLS)
                ),
                call(servers[2], pause, id="CApausing", voices=voices),
            )
            logs = "\n".join(server.log() for server in servers)
    return Told(told[:CALLS], told[CALLS:-1], told[-1], model, logs)


def policy(**rules: bool) -> dict[str, dict[str, bool]]:
    return {"policy": {"greeting": False, **rules}}


async def with_a_pause(voices: Voices) -> bytes:
    parts = []
    for text in (BEGUN, ENDED):
        samples = np.frombuffer(mulaw_decode(await voices.mulaw(text, "en-IN")), "<i2")
        begin, end = audible(samples)
        parts.append(samples[begin:end])
    return np.concatenate([parts[0], np.zeros(PAUSE_MS * RATE // 1000, "<i2"), parts[1]]).tobytes()


def speculations(call: Placed) -> list[SpeculationEnded]:
    return [entry.event for entry in call.entries if isinstance(entry.event, SpeculationEnded)]


def test_nothing_went_wrong(told: Told) -> None:
    assert "Traceback" not in told.logs
    for each in (*told.ahead, *told.behind, told.pausing):
        says_nothing_dead(each)


def test_the_first_sound_comes_sooner(told: Told) -> None:
    ahead, behind = (
        statistics.median(latency for each in calls for latency in each.report.latencies)
        for calls in (told.ahead, told.behind)
    )
    print(f"median of {CALLS * TURNS} turns: {ahead:.0f} ms ahead, {behind:.0f} ms behind, ratio {ahead / behind:.2f}")
    assert ahead <= behind - GAIN_MS
    for each in told.ahead:
        assert [event.outcome for event in speculations(each) if event.outcome == "adopted"] == ["adopted"] * TURNS
    assert not [each for each in told.behind if speculations(each)]


def test_a_caller_who_goes_on_after_a_pause_hears_the_answer_to_the_whole_question_alone(told: Told) -> None:
    placed, model = told.pausing, told.model
    begun, whole = ANSWERS
    outcomes = [event.outcome for event in speculations(placed)]
    assert outcomes == ["dropped"] * (len(outcomes) - 1) + ["adopted"]
    assert 2 <= len(outcomes) <= Policy().speculations
    asked = [request["messages"][-1]["content"] for request in model.requests]
    assert begun in asked[:-1]
    assert asked[-1] == whole
    assert model.cancelled.is_set(), "the requests of the dropped ones were closed"
    assert len(model.requests[-1]["messages"]) == 2, "and nothing of them was kept"
    (turn,) = placed.journal.turns
    assert turn.question == whole
    assert [event.text for event in ready(placed)] == [ANSWERS[whole]]
    heard, unheard = asyncio.run(compared(placed, ANSWERS[whole], ANSWERS[begun]))
    print(f"the whole question's answer {heard:.2f}, the other {unheard:.2f}")
    assert heard > SAME
    assert unheard < SAME - 0.1


def ready(placed: Placed) -> list[SegmentReady]:
    ready = [entry.event for entry in placed.entries if isinstance(entry.event, SegmentReady)]
    return [event for event in ready if event.kind == "reply"]


async def compared(placed: Placed, *texts: str) -> list[float]:
    async with caller_voices() as voices:
        return [await likeness(placed.agent, voices, text) for text in texts]
