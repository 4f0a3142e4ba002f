"""Stories of voices that are dead or break off: with another behind them, and alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from alive import QUIET, says_nothing_dead
from answering import Polyglot
from calling import Placed, Stories, call
from hearing import ANSWERS, PHRASES, SAME, likeness, scribe, share, words
from loopback_openai import KEY as MODEL_KEY
from loopback_openai import serving
from served import FAKE, Server, ended
from speaking import KEY, PIECE_S, SPEAKER, Speaker, speaking

from antiphon.kernel.events import SegmentCut, SegmentReady, SegmentSynthesized, SessionClosed, StageRerouted
from antiphon.phone import Say
from antiphon.phone.voices import Voices

stories = Stories()

ASKED = Say("What are the admission requirements?")
SENTENCE = ANSWERS["requirements"].split(". ")[1]
IN_HINDI = "प्रवेश की आखिरी तारीख इकतीस मई है।"
BASE = {**FAKE, **QUIET, "stt": {"provider": "fake", "text": ASKED.text}}
KEYS = {"OPENAI_API_KEY": MODEL_KEY, "ELEVENLABS_API_KEY": KEY}


def spoken_by(speaker: Speaker) -> dict[str, Any]:
    return {"provider": "elevenlabs", "base_url": speaker.base_url, "voice": SPEAKER}


def answered_by(model: Polyglot) -> dict[str, Any]:
    return {"provider": "openai", "base_url": model.base_url, "model": "test"}


def of(placed: Placed, turn: int, kind: type) -> list[Any]:
    return [e.event for e in placed.entries if isinstance(e.event, kind) and e.event.turn == turn]


@stories.tell
async def a_voice_that_stops_in_mid_sentence_or_is_dead_with_another_behind_it(folder: Path, voices: Voices) -> None:
    """It stops in English, once with times of its words and once without, and is dead in Hindi."""
    async with speaking() as speaker, serving(Polyglot({"en-IN": SENTENCE, "hi-IN": IN_HINDI})) as model:
        tts = {**spoken_by(speaker), "fallback": [{"provider": "espeak"}]}
        settings = {**BASE, "llm": answered_by(model), "tts": tts, "languages": {"offered": ["en-IN", "hi-IN"]}}
        with ended(server := Server(folder, settings, **KEYS)):
            await server.start()
            assert {each["voice"] for each in speaker.queries} == {SPEAKER}, "phrases have the voice of the answers"
            speaker.slow_down()
            speaker.script, speaker.untimed, speaker.unable = ["cut", "cut"], [False, True], {"hi"}
            english, hindi = await asyncio.gather(
                call(server, ASKED, ASKED, id="CAcut", voices=voices),
                call(server, ASKED, id="CAdead", voices=voices, language="hi-IN"),
            )
            assert "Traceback" not in server.log()
        begins_ms = speaker.begins_ms(SENTENCE)
    says_nothing_dead(english)
    says_nothing_dead(hindi)
    async with scribe() as pen:
        heard = [await pen.write(turn.audio) for turn in english.report.turns[1:]]
    for number, at_most, told in zip((1, 2), (1, 3), heard, strict=True):
        finishes_the_sentence(english, number)
        (cut,) = of(english, number, SegmentCut)
        # The second voice begins with the word that was cut; without times, with one that surely was not over.
        again = [at for at in begins_of_words(SENTENCE) if at > cut.chars and begins_ms[at] < 2 * PIECE_S * 1000]
        print(f"heard twice {len(again)}: {told!r}")
        assert len(again) <= at_most
        assert share(SENTENCE, told) > 0.85, "every word, in its order"
        assert len(words(told)) <= len(words(SENTENCE)) + at_most, "and nothing else twice"
    assert [(e.provider, e.code, e.to) for e in of(hindi, 1, StageRerouted)] == [("elevenlabs", "tts.server", "espeak")]
    assert [(e.language, e.text) for e in of(hindi, 1, SegmentReady)] == [("hi-IN", IN_HINDI)]
    as_hindi = await likeness(hindi.turn(1).audio, voices, IN_HINDI, "hi-IN")
    as_english = await likeness(hindi.turn(1).audio, voices, IN_HINDI, "en-IN")
    print(f"like Hindi {as_hindi:.2f}, like English {as_english:.2f}")
    assert as_hindi > SAME
    assert as_english < as_hindi - 0.1


def begins_of_words(text: str) -> list[int]:
    return [at for at in range(len(text)) if text[at] != " " and (at == 0 or text[at - 1] == " ")]


def finishes_the_sentence(placed: Placed, number: int) -> None:
    """In the journal: what the first voice was heard to say and what the second one said make the sentence."""
    turn = placed.journal.turns[number - 1]
    assert " ".join(part.text[: part.heard_chars] for part in turn.segments) == SENTENCE
    assert [event.provider for event in of(placed, number, SegmentSynthesized)] == ["elevenlabs", "espeak"]
    rerouted = [(event.provider, event.code, event.to) for event in of(placed, number, StageRerouted)]
    assert rerouted == [("elevenlabs", "tts.cut", "espeak")]
    assert turn.outcome == "answered"


@stories.tell
async def a_dead_voice_with_nobody_behind_it(folder: Path, voices: Voices) -> None:
    """The phrases were spoken when the server started. What could not be said is written down, as not heard."""
    async with speaking() as speaker, serving(Polyglot({"en-IN": SENTENCE})) as model:
        english = {"languages": {"offered": ["en-IN"]}}
        settings = {**BASE, **english, "llm": answered_by(model), "tts": spoken_by(speaker)}
        with ended(server := Server(folder, settings, **KEYS)):
            await server.start()
            speaker.unable = {"en"}
            placed = await call(server, ASKED, ASKED, id="CAspeechless", voices=voices)
            assert "Traceback" not in server.log()
        says_nothing_dead(placed)
        first, second = placed.report.turns[1:]
        assert await likeness(first.audio, speaker.voices, PHRASES["apology"][0]) > SAME
        assert await likeness(second.audio, speaker.voices, PHRASES["apology"][1]) > SAME
        assert await likeness(second.audio, speaker.voices, PHRASES["goodbye"][0]) > SAME
    assert placed.report.ended_by == "agent"
    assert placed.entries[-1].event == SessionClosed("given_up")
    asked, asked_again, goodbye = placed.journal.turns
    for turn in (asked, asked_again):
        assert turn.outcome == "apologised"
        assert {(each.stage, each.code) for each in turn.failures} <= {("tts", "tts.server"), ("tts", "breaker.open")}
        answers = [part for part in turn.segments if part.kind == "reply"]
        assert answers[0].text == SENTENCE
        assert {(part.heard, part.heard_chars) for part in answers} == {("dropped", 0)}
    assert goodbye.phrases == ("goodbye",)
    # What the model is told of the conversation is what was heard of it.
    told = [(message["role"], message["content"]) for message in model.requests[-1]["messages"][1:]]
    assert told == [("user", ASKED.text), ("assistant", PHRASES["apology"][0]), ("user", ASKED.text)]
