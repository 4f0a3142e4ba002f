"""A confirmed interruption ends what it interrupts at the vendors: their requests are closed, nothing stale is spoken.

The model and the voice are other ends of real sockets, on this machine. The caller's words come as text, so that the
moment of the decision is known: it is when the words arrive that are more than a murmur.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import loopback_elevenlabs
import loopback_openai
import pytest
from orchestrating import Client, client
from served import FAKE, Server, ended, until

pytestmark = pytest.mark.exclusive

OLD = " ".join(f"old{number}" for number in range(400)) + "."
NEW = "New words now."
SOON_S = 0.1
BUSY_S = 0.3
"""What a busy machine may add."""


def settings(model: loopback_openai.Loopback, voice: loopback_elevenlabs.Loopback) -> dict[str, Any]:
    return {
        **FAKE,
        "llm": {"provider": "openai", "base_url": model.base_url, "model": "test"},
        "tts": {
            "provider": "elevenlabs",
            "base_url": voice.base_url,
            "voice": loopback_elevenlabs.VOICE,
            "transport": "http",
        },
        "languages": {"offered": ["en-IN"]},
    }


async def ended_after(event: asyncio.Event, since: float) -> float:
    await asyncio.wait_for(event.wait(), 5)
    return time.monotonic() - since


async def interrupted(one: Client, model: loopback_openai.Loopback, voice: loopback_elevenlabs.Loopback) -> float:
    """Speaks into the answer; when it was sent that this is no murmur."""
    await one.ask("How do I apply?")
    await one.hears_audio(600)
    assert not model.cancelled.is_set()
    assert not voice.cancelled.is_set()
    await one.say(type="user_speaking")
    await one.hears("clear")
    assert not model.cancelled.is_set(), "silence first: it may have been a cough"
    assert not voice.cancelled.is_set()
    await one.say(type="stt_fragment", text="wait stop that please", is_final=False)
    return time.monotonic()


def test_the_requests_are_closed_and_nothing_stale_is_spoken(tmp_path: Path) -> None:
    async def main() -> None:
        model, voice = loopback_openai.Loopback(OLD), loopback_elevenlabs.Loopback()
        keys = {"OPENAI_API_KEY": loopback_openai.KEY, "ELEVENLABS_API_KEY": loopback_elevenlabs.KEY}
        async with loopback_openai.serving(model), loopback_elevenlabs.serving(voice):
            with ended(server := Server(tmp_path, settings(model, voice), **keys)):
                await server.start()
                # From here on slow enough that both are still at it when they are interrupted.
                model.token_s, voice.chunk_s = 0.02, 0.008
                voice.cancelled.clear()
                async with client(server, "stale", "events=all") as one:
                    since = await interrupted(one, model, voice)
                    took = await asyncio.gather(
                        ended_after(model.cancelled, since), ended_after(voice.cancelled, since)
                    )
                    print(f"closed after: model {took[0] * 1000:.0f} ms, voice {took[1] * 1000:.0f} ms")
                    assert max(took) < SOON_S + BUSY_S
                    heard, asked = len(one.audio), len(model.requests)
                    await asyncio.sleep(1.0)
                    assert len(one.audio) == heard, "nothing is spoken that the caller does not want to hear"
                    assert len(model.requests) == asked

                    model.reply = NEW
                    await one.say(type="stt_fragment", text="wait stop that please tell me the fees", is_final=True)
                    await one.say(type="vad_end")
                    await until(lambda: _answers(one)[-1] == NEW, 10, f"the new answer: {_answers(one)}")
                    await one.hears_audio(300)
                    spoken = [message["text"] for message in one.of("spoken") if message["turn_id"] == _last_turn(one)]
                    assert not any("old" in text for text in spoken), spoken
                assert "Traceback" not in server.log()

    asyncio.run(main())


def _answers(one: Client) -> list[str]:
    return [message["text"] for message in one.of("response")]


def _last_turn(one: Client) -> int:
    return max(int(message["turn_id"]) for message in one.of("response"))
