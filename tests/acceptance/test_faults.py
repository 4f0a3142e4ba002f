"""What a caller hears when a part fails: never a dead line (``alive``)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alive import FIRST_SOUND_MS, PATIENT, QUIET, says_nothing_dead, silences
from calling import FIRST, Placed, Stories, call, chosen, closed
from hearing import ANSWERS, scribe, share
from loopback_openai import KEY, Loopback, serving
from served import FAKE, Server, Settings, ended

from antiphon.kernel.events import StageFailed, StageRerouted, TranscriptFinal
from antiphon.phone import PhoneEvent, PhoneScript, Say, place_call
from antiphon.phone.voices import Voices

ASKED = Say("What are the admission requirements?")
ANSWER = ANSWERS["requirements"]


stories = Stories()


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return stories.together(tmp_path_factory.mktemp("faults"), chosen(request))


# -- the journal ----------------------------------------------------------------------------------


@contextlib.contextmanager
def unwritable() -> Iterator[Path]:
    """A folder in which nobody can make a file; root needs a file system that has no files of others."""
    if os.geteuid() == 0:
        yield Path("/sys/kernel")
        return
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o500)
        yield Path(name)
        Path(name).chmod(0o700)


@stories.tell
async def a_journal_that_can_never_be_written(folder: Path, voices: Voices) -> None:
    with unwritable() as place:
        server = Server(folder, {**FAKE, "journal": {"path": str(place / "antiphon" / "calls.sqlite")}})
        with ended(server):
            await server.start()
            health = await server.get("/health")
            assert health["status"] == "degraded"
            assert health["checks"]["journal"] is False
            report = await place_call(server.line, PhoneScript((ASKED,)), voices=voices, timeout_s=60)
            assert report.all_answered, "the call goes on in memory"
    assert "[store.read_only]" in server.log() or "[store.no_file]" in server.log()
    assert "--journal PATH" in server.log(), "with a way out"


@stories.tell
async def a_disk_without_room_from_the_start(folder: Path, voices: Voices) -> None:
    with ended(server := Server(folder, FAKE)):
        server.file_limit = 16_384
        await server.start()
        health = await server.get("/health")
        assert health["status"] == "degraded"
        assert health["checks"]["journal"] is False
        report = await place_call(server.line, PhoneScript((ASKED,)), voices=voices, timeout_s=60)
        assert report.all_answered
        assert report.turns[0].answered, "it greets"
        assert max(report.latencies) < FIRST_SOUND_MS
        assert "store.full" in server.log()
        assert "Traceback" not in server.log()


@stories.tell
async def a_disk_that_fills_up_in_a_call_and_has_room_again(folder: Path, voices: Voices) -> None:
    with ended(server := Server(folder, {**FAKE, **QUIET})):
        await server.start()
        script = PhoneScript((ASKED, ASKED), manners=FIRST)
        calling = asyncio.ensure_future(place_call(server.line, script, voices=voices, call_id="CAfull", timeout_s=60))
        await asyncio.sleep(1.0)
        # No file of the process may grow any more: for SQLite that is a full disk.
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        size = max(file.stat().st_size for file in server.journal.parent.iterdir())
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, hard))
        report = await calling
        assert report.all_answered
        assert max(report.latencies) < FIRST_SOUND_MS
        health = await server.get("/health")
        assert (health["status"], health["checks"]["journal"]) == ("degraded", False)
        assert "store.full" in server.log()

        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        entries = await closed(server, "CAfull", within_s=15)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1)), "all that was kept in memory"
        await asyncio.sleep(1.1)  # health keeps an answer for a second
        assert (await server.get("/health"))["checks"]["journal"] is True
        assert "identical" in await server.command("replay", "CAfull")
        assert "Traceback" not in server.log()


# -- processes of the embedded providers ----------------------------------------------------------


@stories.tell
async def a_recogniser_and_a_voice_that_die_in_a_call(folder: Path, voices: Voices) -> None:
    """The recogniser is killed while the caller speaks; later the voice hangs when it is to answer, and is killed."""
    with ended(server := Server(folder, QUIET)):
        await server.start()
        loop = asyncio.get_running_loop()
        lines = (
            Say("When do applications open?"),
            Say("When do applications open?"),
            Say("When do applications close?"),
        )
        spoken = 0

        def watch(event: PhoneEvent) -> None:
            nonlocal spoken
            if event.kind == "caller_speaking":
                spoken += 1
                if spoken == 1:
                    loop.call_later(0.9, server.workers("pocketsphinx_worker")[-1].kill)  # the one that decodes
            elif event.kind == "caller_done" and spoken == 3:
                voice = server.workers("espeak_worker")[0]
                voice.suspend()
                loop.call_later(1.5, voice.kill)  # before its silence is noticed, which takes two seconds

        recording = folder / "CAwatched.wav"
        script = PhoneScript(lines, manners=PATIENT)
        report = await place_call(
            server.line, script, voices=voices, call_id="CAwatched", record=recording, on_event=watch, timeout_s=90
        )
        placed = Placed(report, recording, await closed(server, "CAwatched"))
        says_nothing_dead(placed)
        async with scribe() as pen:
            heard = [await pen.write(turn.audio) for turn in placed.report.turns]
        print(heard)
        finals = [entry.event for entry in placed.entries if isinstance(entry.event, TranscriptFinal)]
        assert finals[0].because == "stt.worker_lost", "the recogniser was killed in time; it is asked once more"
        assert share(ANSWERS["applications-open"], heard[2]) > 0.7, "the next turn works"
        assert "filler" in placed.journal.turns[-1].phrases
        assert share(ANSWERS["deadline"], heard[3]) > 0.5, "the answer comes when the voice is back"
        assert "Traceback" not in server.log()


# -- the language model ---------------------------------------------------------------------------


MODEL = {
    **FAKE,
    **QUIET,
    "stt": {"provider": "fake", "text": "What are the admission requirements?"},
    "retrieval": {"provider": "lexical"},
}
FIRST_HALF = (
    "International undergraduates generally require internationally recognised "
    "and officially translated secondary-school certificates."
)
"""Some seven seconds of speech: longer than an attempt's time to be heard."""
SECOND_HALF = "They also need proof of English, and they talk to us online in June."


async def faulty_model(folder: Path, voices: Voices, *script: str) -> tuple[Placed, Loopback]:
    """One call with a model that does what the script says, request by request."""
    async with serving(Loopback(f"{FIRST_HALF} {SECOND_HALF}")) as model:
        model.script = list(script)
        model.token_s = 0.05
        llm = {"provider": "openai", "base_url": model.base_url, "model": "test", "first_token_s": 3.0}
        with ended(server := Server(folder, {**MODEL, "llm": llm}, OPENAI_API_KEY=KEY)):
            await server.start()
            going_on = asyncio.ensure_future(goes_on(model))
            placed = await call(server, ASKED, id=f"CA{script[0]}", voices=voices, manners=PATIENT)
            going_on.cancel()
            assert "Traceback" not in server.log()
    says_nothing_dead(placed)
    turn = placed.journal.turns[0]
    print([(part.kind, part.attempt, part.text[: part.heard_chars]) for part in turn.segments])
    assert turn.outcome == "answered"
    assert placed.times(StageFailed)
    return placed, model


async def goes_on(model: Loopback) -> None:
    """Asked a second time, it goes on from the first half, as models do that are told what was said."""
    await model.asked.wait()
    await asyncio.sleep(0.3)
    model.reply = SECOND_HALF


def reply_of(placed: Placed) -> str:
    segments = placed.journal.turns[0].segments
    return " ".join(part.text[: part.heard_chars] for part in segments if part.kind == "reply" and part.heard_chars)


@stories.tell
async def a_model_that_hangs_before_its_first_word(folder: Path, voices: Voices) -> None:
    placed, _ = await faulty_model(folder, voices, *["hang"] * 8)
    turn = placed.journal.turns[0]
    assert turn.tiers == ("full", "fallback"), "there is no second model: the passages answer at once"
    assert turn.segments[0].kind == "filler"
    assert reply_of(placed) == ANSWER, "from the passages"
    assert placed.turn(1).reply_ms < 20_000 + 60 * len(ANSWER), "the answer itself takes some nine seconds"


@stories.tell
async def a_model_that_refuses(folder: Path, voices: Voices) -> None:
    placed, _ = await faulty_model(folder, voices, *["quota"] * 8)
    assert reply_of(placed) == ANSWER
    assert placed.journal.turns[0].tiers == ("full", "fallback")


@stories.tell
async def a_model_that_breaks_off_in_mid_sentence(folder: Path, voices: Voices) -> None:
    placed, model = await faulty_model(folder, voices, "cut")
    assert FIRST_HALF in json.dumps(model.requests[1]["messages"][-2:]), "the next try is told"
    assert reply_of(placed) == f"{FIRST_HALF} {SECOND_HALF}", "whole, and nothing twice"
    assert placed.journal.turns[0].tiers == ("full", "fallback")
    assert max(silences(placed)[1:], default=0) < 1000, "without a gap: the first half is longer than the repair"


# -- faults now and then --------------------------------------------------------------------------


async def now_and_then(folder: Path, voices: Voices, faulty: Settings) -> None:
    with ended(server := Server(folder, {**MODEL, "languages": {"offered": ["en-IN"]}, **faulty})):
        await server.start()
        placed = await asyncio.gather(
            *(call(server, ASKED, ASKED, id=f"CA{n}", voices=voices, manners=PATIENT) for n in range(4))
        )
        for each in placed:
            says_nothing_dead(each)
            assert each.report.all_answered
        failures = [failure.code for each in placed for turn in each.journal.turns for failure in turn.failures]
        events = [entry.event for each in placed for entry in each.entries]
        mended = [event.because for event in events if isinstance(event, TranscriptFinal) and event.because]
        mended += [event.code for event in events if isinstance(event, StageRerouted)]
        print(failures, mended)
        assert failures + mended, "something failed, whether the caller heard of it or not"
        assert "Traceback" not in server.log()


@stories.tell
async def a_transcriber_that_fails_and_hangs_now_and_then(folder: Path, voices: Voices) -> None:
    await now_and_then(folder, voices, {"stt": {"provider": "fake", "fail_every": 2, "hang_every": 3}})


@stories.tell
async def a_responder_that_fails_and_hangs_now_and_then(folder: Path, voices: Voices) -> None:
    llm = {"provider": "fake", "fail_every": 2, "hang_every": 3, "fault_after_tokens": 4}
    await now_and_then(folder, voices, {"llm": llm})


@stories.tell
async def a_voice_that_fails_and_hangs_now_and_then(folder: Path, voices: Voices) -> None:
    # It is asked for the prepared phrases first, which are fewer than what comes before its first hang.
    tts = {"provider": "fake", "fail_every": 5, "hang_every": 23, "char_ms": 40}
    await now_and_then(folder, voices, {"tts": tts})


@pytest.mark.parametrize("name", stories.names)
def test_never_a_dead_line(outcomes: dict[str, Any], name: str) -> None:
    if outcomes[name] is not None:
        raise outcomes[name]
