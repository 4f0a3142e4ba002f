"""Stories of language models that fail, hang, are left alone and taken up again, or are late."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alive import QUIET, says_nothing_dead
from calling import FIRST, Placed, Stories, call, calls
from hearing import ANSWERS, PHRASES, SAME, likeness
from loopback_openai import KEY, Loopback, serving
from served import FAKE, Server, ended

from antiphon.kernel.events import ReplyBegun, StageFailed, StageRerouted, TranscriptFinal
from antiphon.kernel.policy import Policy
from antiphon.phone import Digits, Manners, Say
from antiphon.phone.report import TurnReport
from antiphon.phone.voices import Voices
from antiphon.runtime.resilience import HEDGE_FROM, StagePolicy

stories = Stories()

ASKED = Say("What are the admission requirements?")
KEY_PRESS = Digits("1#")
"""A turn that takes little time."""
BASE = {
    **FAKE,
    **QUIET,
    "stt": {"provider": "fake", "text": ASKED.text},
    "tts": {"provider": "espeak"},
    "languages": {"offered": ["en-IN"]},
}
FROM_FIRST, FROM_SECOND = "The first model says yes.", "The second one says no."
UNHURRIED = Manners(greeting_s=0, quiet_s=1.5)
SLACK_MS = 700
"""What a busy machine may add to a limit."""


@asynccontextmanager
async def two_models() -> AsyncIterator[tuple[Loopback, Loopback]]:
    async with serving(Loopback(FROM_FIRST)) as first, serving(Loopback(FROM_SECOND)) as second:
        yield first, second


def asked_in_turn(first: Loopback, second: Loopback | None = None, **limits: object) -> dict[str, Any]:
    """The stage's table."""

    def one(model: Loopback, name: str) -> dict[str, Any]:
        return {"provider": "openai", "base_url": model.base_url, "model": name, "temperature": 0.2}

    fallback = {} if second is None else {"fallback": [one(second, "second")]}
    return {**one(first, "first"), **fallback, "limits": limits}


def of(placed: Placed, turn: int, kind: type) -> list[Any]:
    return [e.event for e in placed.entries if isinstance(e.event, kind) and e.event.turn == turn]


def until_begun(placed: Placed, turn: int) -> int:
    """ms from the caller's words to the first useful text of the answer."""
    (begun,) = placed.times(ReplyBegun, turn=turn)
    return begun - max(at for at in placed.times(TranscriptFinal) if at <= begun)


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.?!])\s+", text)


async def is_heard(turn: TurnReport, voices: Voices, text: str) -> bool:
    alike = await likeness(turn.audio, voices, text)
    print(f"{text!r}: {alike:.2f}")
    return alike > SAME


@stories.tell
async def a_model_that_fails_then_hangs_then_is_back_with_another_behind_it(folder: Path, voices: Voices) -> None:
    """It hangs for 30 s; the default policy gives it its share of the turn, then the other one has the rest."""
    async with two_models() as (first, second):
        first.script = ["500", "500", "hang"]
        with ended(server := Server(folder, {**BASE, "llm": asked_in_turn(first, second)}, OPENAI_API_KEY=KEY)):
            await server.start()
            placed = await call(server, ASKED, ASKED, ASKED, id="CAsecond", voices=voices, manners=UNHURRIED)
            assert "Traceback" not in server.log()
            assert first.cancelled.is_set(), "the request that hung was closed"
    says_nothing_dead(placed)
    for turn, text in zip(placed.report.turns[1:], (FROM_SECOND, FROM_SECOND, FROM_FIRST), strict=True):
        assert await is_heard(turn, voices, text)
    begun = [event.provider for turn in (1, 2, 3) for event in of(placed, turn, ReplyBegun)]
    assert begun == ["openai#2", "openai#2", "openai"]
    assert [(e.provider, e.code, e.to) for e in of(placed, 1, StageRerouted)] == [("openai", "llm.server", "openai")]
    assert [each.code for each in of(placed, 2, StageFailed)] == ["llm.timeout_first_token"]
    assert "filler" in placed.journal.turns[1].phrases

    policy = StagePolicy()
    share_ms = policy.first_within(4.0) * 1000
    waited = until_begun(placed, 2)
    print(f"answered {waited} ms after the question, the hanging model's share is {share_ms} ms")
    assert share_ms - 100 < waited < share_ms + SLACK_MS
    # What was said before, and how: the second model is asked as the first was.
    as_first = [{**request, "model": "first"} for request in second.requests]
    assert as_first == [first.requests[1], first.requests[2]]
    assert {request["temperature"] for request in as_first} == {0.2}
    assert [message["role"] for message in as_first[1]["messages"]] == ["system", "user", "assistant", "user"]


@stories.tell
async def a_dead_model_with_nobody_behind_it(folder: Path, voices: Voices) -> None:
    """The passages answer; where none fits, the caller is told what can be answered."""
    dead = {"provider": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "none"}
    stt = {"provider": "fake", "transcripts": [ASKED.text, "What is the capital of France?"]}
    settings = {**BASE, "llm": dead, "stt": stt, "retrieval": {"provider": "lexical"}}
    with ended(server := Server(folder, settings, OPENAI_API_KEY=KEY)):
        await server.start()
        placed = await call(server, ASKED, ASKED, id="CAalone", voices=voices, manners=FIRST)
        assert "Traceback" not in server.log()
    says_nothing_dead(placed)
    for text in sentences(ANSWERS["requirements"]):
        assert await is_heard(placed.turn(1), voices, text)
    assert await is_heard(placed.turn(2), voices, sentences(PHRASES["chitchat_reply"][0])[-1])
    for turn in placed.journal.turns:
        assert turn.tiers == ("full", "fallback")
        assert [(each.stage, each.code) for each in turn.failures] == [("llm", "llm.unreachable")]


@stories.tell
async def a_model_is_left_alone_after_failures_and_probed_by_one_call(folder: Path, voices: Voices) -> None:
    open_s, limits = 7.0, {"failures": 3, "retries": 0}
    async with two_models() as (first, second):
        first.script = ["500"] * 3
        settings = {**BASE, "llm": asked_in_turn(first, second, open_s=open_s, **limits)}
        with ended(server := Server(folder, settings, OPENAI_API_KEY=KEY)):
            await server.start()
            failing = await calls(server, {f"CAf{n}": (KEY_PRESS,) for n in range(3)}, voices=voices)
            opened = asyncio.get_running_loop().time()
            assert (await states(server)) == {"openai": "open", "openai#2": "closed"}
            spared = await call(server, ASKED, id="CAspared", voices=voices)
            assert len(first.requests) == 3, "it is left alone"

            await asyncio.sleep(max(0.0, opened + open_s - asyncio.get_running_loop().time()))
            first.token_s = 0.2  # a probe that takes its time
            probing = await asyncio.gather(*(one_after(n * 0.2, server, f"CAp{n}", voices) for n in range(3)))
            assert len(first.requests) == 4, "one of the three calls is its probe"
            assert (await states(server)) == {"openai": "closed", "openai#2": "closed"}
            first.token_s = 0.0
            back = await call(server, ASKED, id="CAback", voices=voices)
            assert "Traceback" not in server.log()
    for each in (spared, back):
        says_nothing_dead(each)
        print(f"{each.report.call_id}: answered {until_begun(each, 1)} ms after the question")
        assert until_begun(each, 1) < 300, "nothing is lost with a model that is known to fail"
    assert all(answered_by(each) == ["openai#2"] for each in failing.values())
    assert all(len(of(each, 1, StageFailed)) == 1 for each in failing.values())
    assert [answered_by(each) for each in probing] == [["openai"], ["openai#2"], ["openai#2"]]
    for each in (spared, *probing[1:]):
        rerouted = [(event.provider, event.code, event.to) for event in of(each, 1, StageRerouted)]
        assert rerouted == [("openai", "breaker.open", "openai#2")]
        assert not of(each, 1, StageFailed)
    assert answered_by(back) == ["openai"]
    assert await is_heard(spared.turn(1), voices, FROM_SECOND)
    assert await is_heard(back.turn(1), voices, FROM_FIRST)


async def one_after(seconds: float, server: Server, id: str, voices: Voices) -> Placed:
    await asyncio.sleep(seconds)
    return await call(server, KEY_PRESS, id=id, voices=voices)


async def states(server: Server) -> dict[str, str]:
    """Of the models' breakers, as ``/health`` tells."""
    stages = (await server.get("/health"))["stages"]
    return {name: told["state"] for name, told in stages["llm"].items()}


def answered_by(placed: Placed) -> list[str]:
    return [event.provider for event in of(placed, 1, ReplyBegun)]


@stories.tell
async def a_model_later_than_it_usually_is_races_the_next_one(folder: Path, voices: Voices) -> None:
    async with two_models() as (first, second):
        first.script = [""] * HEDGE_FROM + ["hang"]
        settings = {**BASE, "llm": asked_in_turn(first, second, hedge=True)}
        with ended(server := Server(folder, settings, OPENAI_API_KEY=KEY)):
            await server.start()
            # How late it usually is is known after so many first tokens.
            await calls(server, {f"CAw{n}": (KEY_PRESS,) * 4 for n in range(HEDGE_FROM // 4)}, voices=voices)
            p95_ms = (await server.get("/health"))["stages"]["llm"]["openai"]["p95_ms"]
            placed = await call(server, ASKED, id="CAhedged", voices=voices)
            assert "Traceback" not in server.log()
            assert first.cancelled.is_set(), "the loser's request was closed"
    says_nothing_dead(placed)
    print(f"answered {until_begun(placed, 1)} ms after the question, its p95 is {p95_ms} ms")
    assert p95_ms <= until_begun(placed, 1) < p95_ms + SLACK_MS
    assert answered_by(placed) == ["openai#2"]
    rerouted = [(event.provider, event.code, event.to) for event in of(placed, 1, StageRerouted)]
    assert rerouted == [("openai", "hedge", "openai#2")]
    assert await is_heard(placed.turn(1), voices, FROM_SECOND)
    assert not of(placed, 1, StageFailed)
    assert first.requests[-1]["messages"] == second.requests[0]["messages"]


@stories.tell
async def an_intent_that_fails_and_passages_that_never_come_are_left_behind(folder: Path, voices: Voices) -> None:
    model = {"provider": "fake", "reply": FROM_FIRST}
    optional = {"intent": {"provider": "fake", "fail_every": 1}, "retrieval": {"provider": "fake", "hang_every": 1}}
    with ended(server := Server(folder, {**BASE, **optional, "llm": model})):
        await server.start()
        placed = await call(server, ASKED, id="CAoptional", voices=voices)
        assert "Traceback" not in server.log()
    says_nothing_dead(placed)
    assert await is_heard(placed.turn(1), voices, FROM_FIRST)
    codes = [event.code for event in of(placed, 1, StageFailed)]
    assert codes in (["intent.failed"], ["intent.failed", "retrieval.timeout"]), "facts, and no more"
    waited = Policy().understand_ms
    assert waited <= until_begun(placed, 1) < waited + SLACK_MS
