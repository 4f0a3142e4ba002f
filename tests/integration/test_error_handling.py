"""What a caller's turn comes to when providers fail, hang, recover, and when the turn runs out of time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from antiphon.errors import ProviderRefused
from antiphon.sim.clock import run
from orchestrator import AgentOrchestrator, MetricsCollector


class Provider:
    """Does all three. ``does`` says what happens at a stage's n-th call: nothing, a number of seconds, an error."""

    def __init__(self, does: Callable[[str, int], float | Exception | None] = lambda stage, call: None) -> None:
        self.does = does
        self.calls = {"stt": 0, "llm": 0, "tts": 0}

    async def _work(self, stage: str) -> None:
        self.calls[stage] += 1
        what = self.does(stage, self.calls[stage])
        if isinstance(what, Exception):
            raise what
        await asyncio.sleep(what or 0)

    async def speech_to_text(self, audio_bytes: bytes, language: str | None = None) -> tuple[str, str | None]:
        await self._work("stt")
        return "what are the fees", "en-IN"

    async def chat(self, messages: list[dict[str, str]]) -> str:
        await self._work("llm")
        return "Ninety thousand rupees."

    async def text_to_speech(self, text: str, language: str) -> bytes:
        await self._work("tts")
        return b"RIFF"


def turns(provider: Provider, count: int = 1, pause: float = 0.0, **options: Any) -> tuple[list[dict[str, Any]], float]:
    """The results of so many turns, and the seconds of virtual time they took."""

    async def main() -> tuple[list[dict[str, Any]], float]:
        loop = asyncio.get_running_loop()
        one = AgentOrchestrator(provider, provider, provider, clock=loop.time, **options)
        results = []
        for _ in range(count):
            results.append(await one.process_turn(b"wav"))
            await asyncio.sleep(pause)
        return results, loop.time()

    return run(main())


@pytest.mark.parametrize("stage", ["stt", "llm", "tts"])
def test_one_failure_is_not_noticed(stage: str) -> None:
    provider = Provider(lambda where, call: OSError("reset") if (where, call) == (stage, 1) else None)
    ([result], took) = turns(provider)
    assert (result["error"], result["audio"], took) == (None, b"RIFF", 0.5)
    assert provider.calls == {"stt": 1, "llm": 1, "tts": 1, stage: 2}


@pytest.mark.parametrize(
    ("stage", "limit", "error"), [("stt", 30.5, "[stt.timeout]"), ("llm", 30.5, "[llm.timeout]"), ("tts", 40.5, None)]
)
def test_a_provider_that_hangs_is_given_up(stage: str, limit: float, error: str | None) -> None:
    provider = Provider(lambda where, call: 1000.0 if where == stage else None)
    ([result], took) = turns(provider)
    assert took == limit
    assert result["audio"] is None
    assert (result["error"] or "").startswith(error or "")
    assert (result["error"] is None) == (error is None)


def test_a_turn_has_no_more_time_than_it_has() -> None:
    """14 s each, all within their own limits: the voice gets what is left of 50 s and the answer stays text."""
    provider = Provider(lambda where, call: {"stt": 14.0, "llm": 14.0, "tts": 30.0}[where])
    ([result], took) = turns(provider)
    assert (result["error"], result["audio"]) == (None, None)
    assert took == pytest.approx(14 + 14 + 20 + 0.5 + 1.5)
    ([result], took) = turns(provider, turn_timeout=20.0)
    assert took == pytest.approx(20.0)
    assert result["error"].startswith("[llm.turn_over]")


def test_time_that_others_used_up_is_not_held_against_a_provider() -> None:
    provider = Provider(lambda where, call: {"stt": 14.0, "llm": 10.0, "tts": 0.0}[where])
    results, _ = turns(provider, 6, turn_timeout=20.0)
    assert {result["error"] for result in results} == {results[0]["error"]}
    assert results[0]["error"].startswith("[llm.turn_over]")
    assert provider.calls["llm"] == 6


def test_an_outage_is_over_when_the_breaker_lets_a_turn_through() -> None:
    metrics = MetricsCollector()
    down = True
    provider = Provider(lambda where, call: OSError("down") if down and where == "stt" else None)

    async def main() -> list[str]:
        nonlocal down
        loop = asyncio.get_running_loop()
        one = AgentOrchestrator(provider, provider, provider, metrics_collector=metrics, clock=loop.time)
        codes = []
        for _ in range(5):
            codes.append((await one.process_turn(b"wav"))["error"].partition("]")[0][1:])
        down = False
        codes.append((await one.process_turn(b"wav"))["error"].partition("]")[0][1:])
        await asyncio.sleep(60)
        codes.append((await one.process_turn(b"wav"))["error"] or "")
        assert one.get_status()["circuit_breakers"]["stt"]["state"] == "closed"
        return codes

    assert run(main()) == ["stt.raised"] * 3 + ["breaker.open"] * 3 + [""]
    assert provider.calls["stt"] == 6, "a provider that is down was asked five times and no more"
    assert metrics.get_success_rate() == pytest.approx(1 / 7)


def test_a_wrong_key_is_said_at_once() -> None:
    refusal = ProviderRefused("the endpoint refuses the API key (HTTP 401)", code="llm.unauthorized")
    ([result], took) = turns(Provider(lambda where, call: refusal if where == "llm" else None))
    assert result["error"] == "[llm.unauthorized] the endpoint refuses the API key (HTTP 401)"
    assert took == 0.0


def test_failed_turns_leave_the_history_as_it_was() -> None:
    provider = Provider(lambda where, call: OSError() if where == "llm" and call in {2, 3} else None)

    async def main() -> list[int]:
        one = AgentOrchestrator(provider, provider, provider)
        lengths = []
        for _ in range(3):
            await one.process_turn(b"wav")
            lengths.append(len(one.context_manager.conversation_history))
        return lengths

    assert run(main()) == [2, 2, 4]
