"""Interrupting, as it is heard: how soon the agent is silent, and that on a speakerphone it does not silence itself.

All calls are placed at once on one server, by telephone and over /orchestrate; the tests look at them afterwards.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from statistics import median

import pytest
from calling import Placed, call, caller_voices
from microphone import Microphone, interrupts, microphone
from served import FAKE, Server, ended

from antiphon.kernel.events import SpeechStarted
from antiphon.observe.latency import percentile
from antiphon.phone import Manners, Say, Speakerphone
from antiphon.phone.voices import Voices

pytestmark = pytest.mark.exclusive

ASKED = "How do I apply?"
OTHERS = ("When do applications open?", "What are the tuition fees?", "Is there a hostel?")
INTERRUPTED = tuple(step for n, text in enumerate(OTHERS) for step in (Say(ASKED), Say(text, barge_in_s=1.0 + 0.4 * n)))
SERVICE = {
    **FAKE,
    "stt": {"provider": "fake", "partial_ms": 250, "text": "nobody can tell in this test what was said"},
    "llm": {
        "provider": "fake",
        "reply": "You apply online on our website. Create an account, and fill in the form.",
    },
    "tts": {"provider": "espeak"},
}
"""Only what is measured is real: the detector and the voices. Eight recognisers at once would need eight cores."""
PHONES = (
    Speakerphone(delay_ms=30, ringing_ms=150, seed=1),
    Speakerphone(delay_ms=160, ringing_ms=250, seed=2),
    Speakerphone(delay_ms=300, ringing_ms=300, seed=3),
)
BOUND_MS = 250
"""The median, from the caller's first voiced sample to the agent's last."""


@dataclass
class Happened:
    held: list[Placed] = field(default_factory=list)
    """Calls with the phone at the ear."""
    loud: list[Placed] = field(default_factory=list)
    """Calls with a speakerphone."""
    browser_ms: list[float] = field(default_factory=list)
    browser: list[Microphone] = field(default_factory=list)
    echoing_ms: list[float] = field(default_factory=list)
    echoing: list[Microphone] = field(default_factory=list)


async def talk(server: Server, voices: Voices, name: str, phone: Speakerphone | None) -> tuple[list[float], Microphone]:
    async with microphone(server, name, phone=phone) as one:
        return [await interrupts(one, voices, ASKED, text, 1.0 + 0.3 * n) for n, text in enumerate(OTHERS)], one


@pytest.fixture(scope="module")
def happened(tmp_path_factory: pytest.TempPathFactory) -> Happened:
    async def place() -> Happened:
        found = Happened()
        with ended(server := Server(tmp_path_factory.mktemp("barge_in"), SERVICE)):
            await server.start()
            async with caller_voices() as voices:
                held = [call(server, *INTERRUPTED, id=f"CAheld{n}", voices=voices, manners=Manners()) for n in range(2)]
                loud = [
                    call(server, *INTERRUPTED, id=f"CAloud{n}", voices=voices, manners=Manners(), speakerphone=phone)
                    for n, phone in enumerate(PHONES)
                ]
                calls, clear, echo = await asyncio.gather(
                    asyncio.gather(*held, *loud),
                    asyncio.gather(*(talk(server, voices, f"clear{n}", None) for n in range(2))),
                    talk(server, voices, "echo", PHONES[1]),
                )
        found.held, found.loud = calls[:2], calls[2:]
        found.browser_ms, found.browser = [ms for times, _ in clear for ms in times], [one for _, one in clear]
        found.echoing_ms, found.echoing = echo[0], [echo[1]]
        return found

    return asyncio.run(place())


def told(name: str, times: list[float]) -> float:
    p50, p90 = median(times), percentile(sorted(times), 0.9)
    print(f"barge-in {name}: median {p50:.0f} ms, p90 {p90:.0f} ms, {[round(ms) for ms in times]}")
    return p50


def test_the_agent_on_the_telephone_is_silent_soon(happened: Happened) -> None:
    times = [ms for each in happened.held for ms in each.report.silenced_ms]
    assert len(times) == 6
    assert told("by telephone", times) < BOUND_MS


def test_the_agent_in_the_browser_is_silent_soon(happened: Happened) -> None:
    assert len(happened.browser_ms) == 6
    assert told("over /orchestrate", happened.browser_ms) < BOUND_MS


def test_on_a_speakerphone_only_the_caller_interrupts(happened: Happened) -> None:
    for each in happened.loud:
        assert each.report.all_answered
        said = [(turn.began_ms, turn.ended_ms) for turn in each.report.turns[1:]]
        # The journal's clock begins a little after the caller's.
        echoes = [at for at in each.times(SpeechStarted) if not any(a - 300 < at < b + 300 for a, b in said)]
        assert not echoes, f"speech at {echoes} when the caller said {said}"
    times = [ms for each in happened.loud for ms in each.report.silenced_ms]
    assert len(times) == 9
    assert told("over a speakerphone's echo", times) < BOUND_MS + 100


def test_in_the_browser_too(happened: Happened) -> None:
    (one,) = happened.echoing
    paused = [message for message in one.of("interruption") if message["decision"] == "paused"]
    assert len(paused) == len(OTHERS), "each time the caller spoke, and at no other"
    assert told("over an echo in the browser", happened.echoing_ms) < BOUND_MS + 100
