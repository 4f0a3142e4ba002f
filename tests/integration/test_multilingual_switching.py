"""One language through the whole turn: hint, prompt, answer and voice follow a caller who changes theirs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from antiphon.media.codec import wav_read
from antiphon.providers.registry import load
from antiphon.sim.clock import run
from orchestrator import AgentOrchestrator

SAID = {
    "en-IN": "What are the fees for this course?",
    "hi-IN": "इस पाठ्यक्रम की फीस कितनी है?",
    "te-IN": "ఈ కోర్సుకు ఫీజు ఎంత?",
    "gu-IN": "આ અભ્યાસક્રમની ફી કેટલી છે?",
}
NAMES = {"en-IN": "English", "hi-IN": "Hindi", "te-IN": "Telugu", "gu-IN": "Gujarati"}


class House:
    """A caller's words by turns, and what the modules were asked. ``tells``: the recogniser names the language."""

    def __init__(self, *languages: str, tells: bool = True) -> None:
        self._languages = list(languages)
        self._tells = tells
        self.hints: list[str | None] = []
        self.asked_for: list[str] = []
        self.spoken_in: list[str] = []

    async def speech_to_text(self, audio_bytes: bytes, language: str | None = None) -> tuple[str, str | None]:
        self.hints.append(language)
        spoken = self._languages.pop(0)
        return SAID[spoken], spoken if self._tells else None

    async def chat(self, messages: list[dict[str, str]]) -> str:
        self.asked_for.append(next(tag for tag in SAID if f"({tag})" in messages[0]["content"]))
        return SAID[self.asked_for[-1]]

    async def text_to_speech(self, text: str, language: str) -> bytes:
        self.spoken_in.append(language)
        return b"RIFF"


def conversation(house: Any, turns: int, choose: str = "", **options: Any) -> tuple[AgentOrchestrator, list[str]]:
    orchestrator = AgentOrchestrator(house, house, house, **options)
    if choose:
        orchestrator.set_language(choose)

    async def main() -> list[str]:
        return [(await orchestrator.process_turn(b"wav"))["language"] for _ in range(turns)]

    return orchestrator, run(main())


@pytest.mark.parametrize("tells", [True, False], ids=["recogniser names it", "known by its words"])
@pytest.mark.parametrize("other", ["hi-IN", "te-IN", "gu-IN"])
def test_the_second_sentence_in_another_language_changes_it(
    other: str, tells: bool, caplog: pytest.LogCaptureFixture
) -> None:
    house = House("en-IN", other, other, other, tells=tells)
    with caplog.at_level(logging.INFO):
        orchestrator, languages = conversation(house, 4)
    assert languages == ["en-IN", "en-IN", other, other]
    assert house.asked_for == house.spoken_in == languages
    assert house.hints == ["en-IN", "en-IN", "en-IN", other], "the next turn is listened to in the new language"
    assert f"AUTO-SWITCHED: en-IN -> {other}" in caplog.messages
    assert orchestrator.get_status()["language_name"] == NAMES[other]
    history = orchestrator.context_manager.conversation_history
    assert [message["language"] for message in history[::2]] == languages


def test_a_choice_in_the_menu_holds_from_the_first_turn() -> None:
    house = House("te-IN", "te-IN")
    _, languages = conversation(house, 2, choose="te-IN")
    assert languages == house.hints == house.asked_for == house.spoken_in == ["te-IN", "te-IN"]


def test_a_wrong_choice_is_left_after_two_turns() -> None:
    _, languages = conversation(House("hi-IN", "hi-IN", "hi-IN"), 3, choose="gu-IN")
    assert languages == ["gu-IN", "hi-IN", "hi-IN"]


def test_a_caller_who_mixes_is_answered_in_one_language() -> None:
    _, languages = conversation(House("en-IN", "hi-IN", "en-IN", "hi-IN", "te-IN", "hi-IN", "en-IN"), 7)
    assert languages == ["en-IN"] * 7


def test_there_and_back() -> None:
    _, languages = conversation(House("hi-IN", "hi-IN", "en-IN", "en-IN", "en-IN"), 5)
    assert languages == ["en-IN", "hi-IN", "hi-IN", "en-IN", "en-IN"]


def test_every_language_is_spoken_by_the_offline_voice() -> None:
    class Spoken(House):
        def __init__(self) -> None:
            super().__init__(*SAID)

    async def main() -> list[dict[str, Any]]:
        house = Spoken()
        async with AgentOrchestrator(house, house, load("tts", "espeak")) as orchestrator:
            return [await orchestrator.process_turn(b"wav", language=language) for language in SAID]

    results = asyncio.run(main())
    assert [result["language"] for result in results] == list(SAID)
    sounds = [wav_read(result["audio"]) for result in results]
    assert {rate for _, rate in sounds} == {8000}
    assert all(len(pcm) > 8000 for pcm, _ in sounds)
    assert len({pcm for pcm, _ in sounds}) == len(SAID)
