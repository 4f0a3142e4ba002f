"""Whole calls over a real socket with real speech: what the agent said is written down from its sound.

All calls are placed at once on one server, each with its own caller; the tests look at them afterwards.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from calling import Placed, caller_voices, calls, cough
from hearing import (
    ANSWERS,
    PHRASES,
    RATE,
    audible,
    closest_answer,
    locate,
    scribe,
    share,
    without_pauses,
    words,
)
from served import Server, ended

from antiphon.kernel.events import PlayoutStopped, SegmentReady, SessionStarted
from antiphon.phone import Backchannel, Digits, Manners, Play, Say
from antiphon.providers import registry

ASKED = Say("How do I apply?")
LONG_ANSWER = "how-to-apply"

SCRIPTS = {
    "CAthread": (
        Say("When do applications close?"),
        Say("And for international students?"),
        Say("What is the capital of France?"),
        Say("Bye bye."),
    ),
    "CAplain": (ASKED,),
    "CAbargein": (ASKED, Say("When do applications open?", barge_in_s=5.0)),
    "CAuhhuh": (ASKED, Backchannel("uh-huh", 2.0)),
    "CAokay": (ASKED, Backchannel("okay", 3.0)),
    "CAcough": (ASKED, Play(cough(), "a cough", barge_in_s=2.5)),
}
MURMURS = ("CAuhhuh", "CAokay", "CAcough")
LANGUAGES = {"hi-IN": ("\u0900", "\u097f"), "te-IN": ("\u0c00", "\u0c7f"), "gu-IN": ("\u0a80", "\u0aff")}
"""The first and last letters of their scripts."""


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Placed]:
    async def place() -> dict[str, Placed]:
        with ended(server := Server(tmp_path_factory.mktemp("conversation"))):
            await server.start()
            async with caller_voices() as voices:
                found = await asyncio.gather(
                    calls(server, SCRIPTS, voices=voices, manners=Manners()),
                    calls(server, {"CAhi-IN": (Digits("1#"),)}, language="hi-IN", manners=Manners()),
                    calls(server, {"CAte-IN": ()}, language="te-IN", manners=Manners()),
                    calls(server, {"CAgu-IN": ()}, language="gu-IN", manners=Manners()),
                )
        return {name: each for group in found for name, each in group.items()}

    return asyncio.run(place())


@pytest.fixture(scope="module")
def written(placed: dict[str, Placed]) -> dict[str, list[str]]:
    """What the agent was heard to say, turn by turn; over a murmur, the reply as one."""

    async def write() -> dict[str, list[str]]:
        async with scribe() as pen:
            found = {
                name: [await pen.write(turn.audio) for turn in placed[name].report.turns]
                for name in ("CAthread", "CAbargein")
            }
            for name in MURMURS:
                found[name] = [await pen.write(_reply(placed[name]).tobytes())]
        return found

    return asyncio.run(write())


# -- a conversation -------------------------------------------------------------------------------


def test_questions_are_answered_in_a_thread(placed: dict[str, Placed], written: dict[str, list[str]]) -> None:
    greeting, deadline, follow_up, *_ = written["CAthread"]
    assert share(PHRASES["greeting"][0], greeting) > 0.8, greeting
    assert closest_answer(deadline)[0] == "deadline", deadline
    assert closest_answer(deadline)[1] > 0.65, deadline
    assert closest_answer(follow_up)[0] == "deadline-international", follow_up
    assert closest_answer(follow_up)[1] > 0.65, follow_up
    report = placed["CAthread"].report
    print("latency", report.latencies)
    assert report.all_answered
    assert len(report.latencies) == 4
    assert max(report.latencies) < 2000, "the budget of a phone call's turn"
    view = placed["CAthread"].journal
    assert [turn.outcome for turn in view.turns] == ["said", *["answered"] * 4]
    assert view.turns[1].sources == ("Admissions Calendar, page 1",)


def test_what_is_out_of_its_domain_is_declined(written: dict[str, list[str]]) -> None:
    declined = written["CAthread"][3]
    refusal = "and I can only answer questions about admissions. What would you like to know?"
    assert share(refusal, declined) > 0.7, declined
    assert closest_answer(declined)[1] < 0.5, "it is no answer from the knowledge base"


def test_goodbye_is_answered_and_the_agent_hangs_up(placed: dict[str, Placed], written: dict[str, list[str]]) -> None:
    assert "goodbye" in written["CAthread"][4]
    report = placed["CAthread"].report
    assert (report.ended_by, report.close_code) == ("agent", 1000)
    assert placed["CAthread"].journal.summary.ended == "agent"


# -- interruption ---------------------------------------------------------------------------------


def test_the_interrupted_agent_falls_silent_and_answers_the_new_question(
    placed: dict[str, Placed], written: dict[str, list[str]]
) -> None:
    call = placed["CAbargein"]
    interruption = call.turn(2)
    print("silent after", interruption.stopped_ms, "ms")
    assert call.turn(1).interrupted
    assert interruption.stopped_ms is not None
    assert interruption.stopped_ms < 700
    assert call.report.clears == 1
    assert closest_answer(written["CAbargein"][2]) == ("applications-open", pytest.approx(1.0, abs=0.2))


def test_nothing_of_the_old_reply_is_heard_after_the_interruption(placed: dict[str, Placed]) -> None:
    plain, call = placed["CAplain"], placed["CAbargein"]
    reply = _reply(plain)
    cut_at = call.turn(1).reply_ms * RATE // 1000
    left = [reply[at : at + RATE] for at in range(cut_at + RATE // 2, len(reply) - RATE, RATE)]
    assert len(left) > 3
    began = call.turn(2).began_ms * RATE // 1000
    for piece in left:
        assert locate(piece, reply)[1] > 0.9, "the comparison works"
        assert locate(piece, call.agent[began + RATE :])[1] < 0.75


def test_history_holds_what_was_heard(placed: dict[str, Placed]) -> None:
    call = placed["CAbargein"]
    heard_ms = call.turn(1).reply_ms
    turn = call.question("how do i apply")
    assert turn.outcome == "interrupted"
    history = " ".join(part.text[: part.heard_chars] for part in turn.segments).strip()
    assert ANSWERS[LONG_ANSWER].startswith(history)
    spoken = asyncio.run(_words_begun(call, heard_ms))
    print(f"heard {heard_ms} ms: {history!r}; by the voice's own marks {' '.join(spoken)!r}")
    assert 0 <= len(spoken) - len(words(history)) <= 2, "at most the word that was cut, and the one begun"
    assert call.times(PlayoutStopped)


async def _words_begun(call: Placed, heard_ms: int) -> list[str]:
    """The words of the first reply whose sound begins within ``heard_ms``, by the synthesizer's own marks."""
    texts = [e.event.text for e in call.entries if isinstance(e.event, SegmentReady) and e.event.turn == 2]
    begun: list[str] = []
    voice = registry.load("tts", "espeak")
    await voice.start()
    try:
        left = heard_ms * RATE // 1000
        for text in texts:
            length = 0
            async for sound in voice.synthesize(text, language="en-IN", sample_rate=RATE):
                begun += [words(text[mark.char :])[0] for mark in sound.words if mark.sample < left]
                length += len(sound.pcm) // 2
            left -= length
            if left <= 0:
                return begun
    finally:
        await voice.close()
    raise AssertionError("more was heard than there is")


@pytest.mark.parametrize("murmur", MURMURS)
def test_a_murmur_or_a_cough_does_not_interrupt(
    placed: dict[str, Placed], written: dict[str, list[str]], murmur: str
) -> None:
    call = placed[murmur]
    whole, got = _reply(placed["CAplain"]), _reply(call)
    extra = len(without_pauses(got)) - len(without_pauses(whole))
    print(f"{murmur}: {len(got) - len(whole)} samples of pause, {extra} of speech more than without")
    assert call.question("how do i apply").outcome == "answered"
    assert abs(extra) < RATE * 60 // 1000, "what was cut off is heard again, once"
    _in_order(whole, got)
    assert len(got) - len(whole) < 2 * RATE, "it goes on within two seconds"
    heard = written[murmur][0]
    assert share(ANSWERS[LONG_ANSWER], heard) > 0.75, heard


def _in_order(whole: np.ndarray, got: np.ndarray) -> None:
    """Every half second of ``whole`` is in ``got``, with at most one place where they move apart."""
    step = RATE // 2
    found = [locate(whole[at : at + step], got) for at in range(0, len(whole) - step, step)]
    moved = [at - number * step for number, (at, alike) in enumerate(found) if alike > 0.8]
    assert len(moved) >= len(found) - 1, f"alike {[round(alike, 2) for _, alike in found]}"
    apart = [each for each in np.diff(moved) if abs(each) > RATE // 50]
    assert len(apart) <= 1, moved
    assert all(each > 0 for each in apart)


def _reply(call: Placed) -> np.ndarray:
    """The agent's channel from the answer to the first question to the end, trimmed to what is audible."""
    heard = call.agent[call.turn(1).ended_ms * RATE // 1000 :]
    begin, end = audible(heard)
    return heard[begin:end]


# -- languages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_greeting_is_in_the_callers_language(placed: dict[str, Placed], language: str) -> None:
    call = placed[f"CA{language}"]
    first, last = LANGUAGES[language]
    started = next(e.event for e in call.entries if isinstance(e.event, SessionStarted))
    greeting = call.journal.turns[0]
    text = "".join(part.text for part in greeting.segments)
    letters = [letter for letter in text if letter.isalpha()]
    print(language, text)
    assert started.language == language
    assert greeting.outcome == "said"
    assert sum(first <= letter <= last for letter in letters) > 0.9 * len(letters)
    assert call.turn(0).reply_ms > 2000, "it is heard, not only written"
    assert call.turn(0).reply_ms > 30 * len(text)


def test_a_key_is_answered_in_hindi(placed: dict[str, Placed]) -> None:
    call = placed["CAhi-IN"]
    answer = call.journal.turns[1]
    text = "".join(part.text for part in answer.segments)
    assert answer.input == "digits"
    assert answer.outcome == "answered"
    assert answer.sources == ("Admissions Handbook, section 2.1",)
    assert sum("\u0900" <= letter <= "\u097f" for letter in text) > len(text) // 2
    assert call.turn(1).reply_ms > 5000
