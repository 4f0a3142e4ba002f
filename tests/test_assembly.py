"""What becomes of the settings: the kernel's policy, and what is put together by it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from antiphon import config
from antiphon.assembly import assembled, policy_of
from antiphon.errors import ConfigError
from antiphon.kernel.policy import Policy
from antiphon.languages import load_languages
from antiphon.providers.registry import load

LANGUAGES = load_languages()
DEFAULT = Policy().final_ms

OWN = {
    "whisper": {"preset": "compatible", "base_url": "http://127.0.0.1:9/v1", "model": "x"},
    "faster_whisper": {},
    "sarvam": {"api_key": "sk_0123456789"},
    "livekit": {"plugin": "livekit.plugins.deepgram:STT"},
    "pocketsphinx": {"phrases": ["what are the fees"]},
    "fake": {},
}


class Batch:
    """A transcriber, as far as the policy is concerned."""

    name = "batch"

    def __init__(self, final_ms: int) -> None:
        self.final_ms = final_ms


def test_what_a_final_takes_until_some_have_shown_it_is_the_first_transcribers_word() -> None:
    def expected(*transcribers: Any, **policy: object) -> int:
        return policy_of(config.Settings(policy=policy), LANGUAGES, transcribers).final_expected_ms

    usual = Policy().final_expected_ms
    near = load("stt", "pocketsphinx")
    assert [expected(), expected(load("stt", "fake"), near), expected(near, load("stt", "fake"))] == [usual, usual, 50]
    assert expected(near, final_expected_ms=120) == 120


def final_ms(*transcribers: Any, **policy: object) -> int:
    return policy_of(config.Settings(policy=policy), LANGUAGES, transcribers).final_ms


def test_a_turn_waits_for_the_slowest_transcriber() -> None:
    assert final_ms() == DEFAULT
    assert final_ms(load("stt", "fake"), Batch(4000)) == 4000
    assert final_ms(Batch(4000), Batch(2500)) == 4000
    assert final_ms(Batch(100)) == DEFAULT, "a quick one leaves the others their time"


def test_what_the_settings_say_holds() -> None:
    assert final_ms(Batch(4000), final_ms=1500) == 1500


def test_a_key_that_the_policy_does_not_have() -> None:
    with pytest.raises(ConfigError, match="finals_ms"):
        final_ms(finals_ms=3)


@pytest.mark.parametrize("name", OWN)
def test_who_asks_for_more(name: str) -> None:
    """Those that hear the whole utterance when it is over; never more than the stage's own limit grants."""
    asked = getattr(load("stt", name, OWN[name]), "final_ms", None)
    assert (asked is None) == (name in {"pocketsphinx", "fake"})
    assert asked is None or DEFAULT < asked <= config.Settings().stt.limits.first_s * 1000


@pytest.mark.parametrize(("policy", "expected"), [({}, 4.0), ({"ANTIPHON_POLICY_FINAL_MS": "2000"}, 2.0)])
def test_the_call_path_waits_as_long_as_the_kernel(tmp_path: Path, policy: dict[str, str], expected: float) -> None:
    environ = {f"ANTIPHON_{kind}_PROVIDER": "fake" for kind in ("LLM", "TTS", "INTENT", "RETRIEVAL")}
    environ |= {"ANTIPHON_STT_PROVIDER": "whisper", "ANTIPHON_JOURNAL": str(tmp_path / "calls.sqlite"), **policy}
    environ |= {f"ANTIPHON_STT_{key.upper()}": str(value) for key, value in OWN["whisper"].items()}

    async def main() -> tuple[float, float]:
        async with assembled(config.load(environ=environ)) as antiphon:
            services = antiphon.host.services
            return services.stages.transcriber.final_s, services.policy.final_ms / 1000

    assert asyncio.run(main()) == (expected, expected)
