"""A whole recording through the ports that stream."""

from __future__ import annotations

import asyncio

import pytest

from antiphon.errors import ProviderError
from antiphon.providers.registry import load
from antiphon.runtime.recording import hear, speak
from antiphon.sim.clock import run


def test_hearing() -> None:
    transcriber = load("stt", "fake", {"text": "what are the fees", "partial_ms": 10, "stt_ms": 300})
    heard = run(hear(transcriber, bytes(16_000), 8000, "en-IN"))
    assert (heard.text, heard.final, heard.language) == ("what are the fees", True, "en-IN")


def test_a_failure_has_the_transcribers_code() -> None:
    with pytest.raises(ProviderError, match=r"stt\.failed") as raised:
        run(hear(load("stt", "fake", {"fail_every": 1}), bytes(100), 8000, ""))
    assert (raised.value.stage, raised.value.provider) == ("stt", "fake")


def test_one_that_never_ends_can_be_cancelled() -> None:
    async def main() -> None:
        async with asyncio.timeout(5):
            await hear(load("stt", "fake", {"hang_every": 1}), bytes(100), 8000, "")

    with pytest.raises(TimeoutError):
        run(main())


def test_speaking() -> None:
    voice = load("tts", "fake", {"char_ms": 10})
    text = "# The fees\n\nThey are *ninety thousand* rupees. " + "And so it goes on for a while. " * 20
    pcm = run(speak(voice, text, language="en-IN", sample_rate=8000))
    assert len(pcm) / 2 / 8000 == pytest.approx(len(text) / 100, rel=0.05)
    assert run(speak(voice, "", language="en-IN", sample_rate=8000)) == b""


def test_a_voice_that_fails() -> None:
    with pytest.raises(ProviderError, match=r"tts\.failed"):
        run(speak(load("tts", "fake", {"fail_every": 1}), "Hello.", language="en-IN", sample_rate=8000))
