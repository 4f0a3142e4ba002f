"""Stories of transcribers that fail or hang: with another behind them, and alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import loopback_whisper
import numpy as np
from alive import QUIET, says_nothing_dead
from calling import FIRST, Placed, Stories, call, calls, closed
from hearing import SAME, likeness, locate
from served import FAKE, Server, ended

from antiphon.kernel.events import SessionClosed, TranscriptFinal, TranscriptionFailed
from antiphon.phone import Digits, Manners, PhoneEvent, PhoneScript, Say, place_call
from antiphon.phone.voices import Voices
from antiphon.providers import registry

stories = Stories()

CLOSE = Say("When do applications close?")
OPEN = Say("When do applications open?")
UNHURRIED = Manners(greeting_s=0, quiet_s=1.0)
ENGLISH = {"languages": {"offered": ["en-IN"]}}


@stories.tell
async def the_next_transcriber_hears_the_whole_of_what_the_first_fails_at(folder: Path, voices: Voices) -> None:
    """The first fails, hangs, and is well again: an endpoint on the network. The second is the offline recogniser."""
    async with loopback_whisper.serving(loopback_whisper.Loopback(CLOSE.text)) as ear:
        ear.script = ["500", "hang"]
        stt = {"provider": "whisper", "base_url": ear.base_url, "model": "whisper-1"}
        stt |= {"fallback": [{"provider": "pocketsphinx"}]}
        echo = {"stt": stt, "llm": {"provider": "fake", "reply": "You asked {text}."}, "tts": {"provider": "espeak"}}
        server = Server(folder, {**FAKE, **QUIET, **ENGLISH, **echo}, OPENAI_API_KEY=loopback_whisper.KEY)
        with ended(server):
            await server.start()
            placed = await call(server, CLOSE, OPEN, CLOSE, id="CAsecond", voices=voices, manners=UNHURRIED)
            assert "Traceback" not in server.log()
            assert ear.cancelled.is_set(), "the request that hung was closed"
    says_nothing_dead(placed)
    assert [(each.provider, each.because) for each in finals(placed)] == [
        ("pocketsphinx", "stt.server"),
        ("pocketsphinx", "stt.timeout"),
        ("whisper", ""),
    ]
    for turn, asked in zip(placed.report.turns[1:], (CLOSE, OPEN, CLOSE), strict=True):
        understood = asked.text.lower().strip("?")
        assert await likeness(turn.audio, voices, f"You asked {understood}.") > SAME


@stories.tell
async def a_recogniser_that_dies_while_the_caller_speaks_with_another_behind_it(folder: Path, voices: Voices) -> None:
    """What it had heard already is told again to the next one, which gets the whole utterance."""
    async with loopback_whisper.serving(loopback_whisper.Loopback(CLOSE.text)) as ear:
        behind = {"provider": "whisper", "base_url": ear.base_url, "model": "whisper-1"}
        stt = {"provider": "pocketsphinx", "workers": 1, "fallback": [behind]}
        server = Server(folder, {**FAKE, **QUIET, **ENGLISH, "stt": stt}, OPENAI_API_KEY=loopback_whisper.KEY)
        with ended(server):
            await server.start()
            loop = asyncio.get_running_loop()

            def kill_in_the_middle(event: PhoneEvent) -> None:
                if event.kind == "caller_speaking":
                    loop.call_later(1.0, server.workers("pocketsphinx_worker")[-1].kill)

            recording, script = folder / "CAdies.wav", PhoneScript((CLOSE,), manners=FIRST)
            report = await place_call(
                server.line, script, voices=voices, call_id="CAdies", record=recording, on_event=kill_in_the_middle
            )
            placed = Placed(report, recording, await closed(server, "CAdies"))
            assert "Traceback" not in server.log()
    says_nothing_dead(placed)
    (final,) = finals(placed)
    print(final)
    assert (final.provider, final.because) == ("whisper", "stt.worker_lost")
    (heard,) = ear.requests
    said = placed.caller[placed.turn(1).began_ms * 8 : placed.turn(1).ended_ms * 8]
    at, alike = locate(said, np.frombuffer(heard.pcm, "<i2"))
    print(f"the words begin {at / 8:.0f} ms into what the second was given: {alike:.3f}")
    assert alike > 0.99, "the whole of it"


def finals(placed: Placed) -> list[TranscriptFinal]:
    return [entry.event for entry in placed.entries if isinstance(entry.event, TranscriptFinal)]


@stories.tell
async def a_transcriber_that_only_fails_and_hangs_with_nobody_behind_it(folder: Path, voices: Voices) -> None:
    """Every other utterance fails, the others hang. The agent speaks quickly, for its words are many."""
    quick = {"provider": "espeak", "rate_wpm": 450}
    settings = {
        **FAKE,
        **ENGLISH,
        "stt": {"provider": "fake", "hang_every": 1, "fail_every": 2},
        "tts": quick,
        "policy": {"greeting": False, "blank_prompts": 1},
    }
    with ended(server := Server(folder, settings)):
        await server.start()
        scripts = {"CAvain": (OPEN, OPEN, OPEN, OPEN), "CAkeys": (OPEN, OPEN, Digits("1#"))}
        placed = await calls(server, scripts, voices=voices, manners=UNHURRIED)
        assert "Traceback" not in server.log()
    async with Voices(registry.load("tts", "espeak", {"rate_wpm": 450})) as agent:
        for each, said in (
            (placed["CAvain"], ("please_repeat", "use_keypad", "use_keypad", "goodbye")),
            (placed["CAkeys"], ("please_repeat", "use_keypad")),
        ):
            says_nothing_dead(each)
            assert not finals(each)
            asked = [turn for turn in each.journal.turns if turn.phrases and turn.phrases != ("filler",)]
            assert [turn.phrases for turn in asked] == [(phrase,) for phrase in said]
            for turn in asked:
                assert turn.outcome == "said"
                alike = await likeness(each.agent, agent, turn.segments[0].text)
                print(f"{turn.segments[0].text!r}: {alike:.2f}")
                assert alike > SAME
    events = [entry.event for each in placed.values() for entry in each.entries]
    codes = {event.code for event in events if isinstance(event, TranscriptionFailed)}
    assert {"stt.failed", "stt.timeout"} <= codes <= {"stt.failed", "stt.timeout", "breaker.open"}
    vain, keys = placed["CAvain"], placed["CAkeys"]
    assert (vain.report.ended_by, vain.report.unsaid) == ("agent", 0)
    assert vain.entries[-1].event == SessionClosed("agent")
    assert keys.journal.turns[-1].input == "digits"
    assert keys.journal.turns[-1].outcome == "answered", "keys are understood"
