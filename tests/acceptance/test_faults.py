"""What a caller hears when a part fails: never a dead line. Silence is measured at the caller's ear, in media time.

A turn's first sound is due within 0.9 s of deciding that the caller is done (0.42 s after they are), and a reply that
broke off may stay dry for 1.1 s; ``FIRST_SOUND_MS`` and ``SILENCE_MS`` leave room for a machine that is busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling import FIRST, Placed, call, caller_voices, closed
from hearing import ANSWERS, RATE, scribe, share
from loopback_openai import KEY, Loopback, serving
from served import FAKE, Server, ended, until

from antiphon.kernel.events import StageFailed, TranscriptionFailed
from antiphon.phone import Manners, PhoneEvent, PhoneScript, Say, place_call
from antiphon.phone.ear import AUDIBLE
from antiphon.phone.voices import Voices

FIRST_SOUND_MS = 2000
SILENCE_MS = 2200
PATIENT = Manners(greeting_s=0, quiet_s=2.5)
"""A caller who does not take the pause after a filler for the end of the answer."""

QUIET = {"policy": {"greeting": False}}
ASKED = Say("What are the admission requirements?")
ANSWER = ANSWERS["requirements"]


def silences(call: Placed, *, until_ms: int | None = None) -> list[int]:
    """Each silence that the caller hears from the end of their lines on, until the agent is done, in ms."""
    loud = np.abs(call.agent.astype(np.int32)) >= AUDIBLE
    found = []
    turns = call.report.turns[1:]
    for turn, following in zip(turns, [*turns[1:], None], strict=True):
        begin = turn.ended_ms * RATE // 1000
        end = following.began_ms * RATE // 1000 if following else len(loud)
        heard = np.flatnonzero(loud[begin:end])
        assert len(heard), f"nothing was heard after {turn.said!r}"
        gaps = np.diff(np.concatenate([[0], heard]))
        found += [int(gap) * 1000 // RATE for gap in gaps if gap > RATE // 10]
    return found


def first_sounds(call: Placed) -> list[float]:
    latencies = [turn.latency_ms for turn in call.report.turns[1:]]
    assert None not in latencies, f"a turn was not answered: {call.report.as_dict()}"
    return [latency for latency in latencies if latency is not None]


def says_nothing_dead(call: Placed) -> None:
    print(f"{call.report.call_id}: first sounds {first_sounds(call)}, silences {sorted(silences(call))[-4:]}")
    assert max(first_sounds(call)) < FIRST_SOUND_MS
    assert max(silences(call)) < SILENCE_MS


# -- the journal ----------------------------------------------------------------------------------


@contextlib.contextmanager
def unwritable() -> Iterator[Path]:
    """A folder in which nobody can make a file; root needs a file system that has no files of others."""
    if os.geteuid() == 0:
        yield Path("/sys/kernel")
        return
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o555)
        yield Path(name)
        os.chmod(name, 0o755)


def test_without_a_writable_journal_the_call_goes_on_in_memory(tmp_path: Path) -> None:
    async def story() -> None:
        with unwritable() as folder:
            settings = {**FAKE, "journal": {"path": str(folder / "antiphon" / "calls.sqlite")}}
            with ended(server := Server(tmp_path, settings)):
                await server.start()
                health = await server.get("/health")
                assert health["status"] == "degraded"
                assert health["checks"]["journal"] is False
                async with caller_voices() as voices:
                    report = await place_call(server.line, PhoneScript((ASKED, ASKED)), voices=voices, timeout_s=60)
                assert report.all_answered
                assert len(report.latencies) == 2
                assert max(report.latencies) < FIRST_SOUND_MS
                assert "store.read_only" in server.log() or "store.no_file" in server.log()
                assert "Traceback" not in server.log()

    asyncio.run(story())


def test_a_disk_that_fills_up_is_told_and_written_to_again_when_there_is_room(tmp_path: Path) -> None:
    async def story() -> None:
        with ended(server := Server(tmp_path, {**FAKE, **QUIET})):
            await server.start()
            async with caller_voices() as voices:
                first = asyncio.ensure_future(
                    place_call(
                        server.line,
                        PhoneScript((ASKED, ASKED), manners=FIRST),
                        voices=voices,
                        call_id="CAfull",
                        timeout_s=60,
                    )
                )
                await asyncio.sleep(1.0)
                # No file of the process may grow any more: for SQLite that is a full disk.
                _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
                size = max(file.stat().st_size for file in server.journal.parent.iterdir())
                resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, hard))
                report = await first
                assert report.all_answered
                assert max(report.latencies) < FIRST_SOUND_MS
                health = await server.get("/health")
                assert (health["status"], health["checks"]["journal"]) == ("degraded", False)
                assert "store.full" in server.log()

                resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
                entries = await closed(server, "CAfull", within_s=15)
                assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
                await asyncio.sleep(1.1)  # health keeps an answer for a second
                assert (await server.get("/health"))["status"] == "healthy"
            assert "identical" in await server.command("replay", "CAfull")
            assert "Traceback" not in server.log()

    asyncio.run(story())


# -- processes of the embedded providers ----------------------------------------------------------


def test_a_recogniser_and_a_voice_that_die_in_a_call(tmp_path: Path) -> None:
    """The recogniser is killed while the caller speaks, then the voice when it is to answer."""

    async def story() -> None:
        with ended(server := Server(tmp_path, QUIET)):
            await server.start()
            asked = 0

            def watch(event: PhoneEvent) -> None:
                nonlocal asked
                if event.kind == "caller_speaking":
                    asked += 1
                    if asked == 1:
                        loop.call_later(0.9, _kill_recogniser, server)
                    elif asked == 3:
                        _hang_voice(server)
                elif event.kind == "caller_done" and asked == 3:
                    loop.call_later(1.8, _kill_voice, server)

            loop = asyncio.get_running_loop()
            async with caller_voices() as voices, scribe() as pen:
                placed = await _watched(server, voices, watch, ASKED, ASKED, Say("How do I apply?"))
                says_nothing_dead(placed)
                heard = [await pen.write(turn.audio) for turn in placed.report.turns]
            print(heard)
            assert placed.times(TranscriptionFailed), "the recogniser was killed in time"
            assert share(ANSWER, heard[2]) > 0.7, "the next turn works"
            assert "filler" in placed.journal.turns[-1].phrases
            assert share(ANSWERS["how-to-apply"], heard[3]) > 0.6, "the answer comes when the voice is back"
            assert "Traceback" not in server.log()

    asyncio.run(story())


async def _watched(server: Server, voices: Voices, watch: Any, *steps: Say) -> Placed:
    recording = server.folder / "CAwatched.wav"
    report = await place_call(
        server.line,
        PhoneScript(steps, manners=PATIENT),
        voices=voices,
        call_id="CAwatched",
        record=recording,
        on_event=watch,
        timeout_s=90,
    )
    return Placed(report, recording, await closed(server, "CAwatched"))


def _kill_recogniser(server: Server) -> None:
    server.workers("pocketsphinx_worker")[-1].kill()  # the youngest is the one that decodes


def _hang_voice(server: Server) -> None:
    for each in server.workers("espeak_worker"):
        each.send_signal(signal.SIGSTOP)


def _kill_voice(server: Server) -> None:
    for each in server.workers("espeak_worker"):
        each.kill()


# -- the language model ---------------------------------------------------------------------------


MODEL = {
    **FAKE,
    **QUIET,
    "stt": {"provider": "fake", "text": "What are the admission requirements?"},
    "retrieval": {"provider": "lexical"},
}


def test_a_model_that_hangs_cuts_off_or_refuses(tmp_path: Path) -> None:
    """One call each, at once: the caller hears a filler in time and an answer from the passages in the end."""

    async def one(voices: Voices, name: str, *script: str) -> Placed:
        async with serving(Loopback("You need sixty percent in class twelve, and a score in the entrance test.")) as model:
            model.script = list(script)
            model.token_s = 0.05
            llm = {"provider": "openai", "base_url": model.base_url, "model": "test", "first_token_s": 3.0, "retries": 0}
            with ended(server := Server(tmp_path / name, {**MODEL, "llm": llm}, OPENAI_API_KEY=KEY)):
                await server.start()
                placed = await call(server, ASKED, id=f"CA{name}", voices=voices, manners=PATIENT)
                assert "Traceback" not in server.log()
                if name == "cut":
                    assert "You need sixty percent" in json.dumps(model.requests[1]), "the next attempt is told"
            return placed

    async def story() -> None:
        async with caller_voices() as voices:
            hung, cut, refused = await asyncio.gather(
                one(voices, "hung", *["hang"] * 8),
                one(voices, "cut", "cut", *["500"] * 8),
                one(voices, "refused", *["quota"] * 8),
            )
        for placed in (hung, cut, refused):
            says_nothing_dead(placed)
            turn = placed.journal.turns[0]
            print([(part.kind, part.attempt, part.text[: part.heard_chars]) for part in turn.segments])
            assert turn.outcome == "answered"
            assert turn.tiers[-1] == "degraded"
            assert placed.times(StageFailed)
        heard = [" ".join(part.text for part in each.journal.turns[0].segments if part.kind == "reply") for each in (hung, refused)]
        assert heard == [ANSWER, ANSWER]
        assert "filler" in hung.journal.turns[0].phrases

    asyncio.run(story())


# -- faults now and then --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faulty",
    [
        {"stt": {"provider": "fake", "fail_every": 2, "hang_every": 3}},
        {"llm": {"provider": "fake", "fail_every": 2, "hang_every": 3, "fault_after_tokens": 4}},
        {"tts": {"provider": "fake", "fail_every": 5, "hang_every": 7, "char_ms": 40}},
    ],
    ids=lambda faulty: next(iter(faulty)),
)
def test_no_line_is_dead_when_a_provider_fails_or_hangs_now_and_then(tmp_path: Path, faulty: dict[str, Any]) -> None:
    async def story() -> None:
        with ended(server := Server(tmp_path, {**MODEL, **faulty})):
            await server.start()
            async with caller_voices() as voices:
                placed = await asyncio.gather(
                    *(call(server, ASKED, ASKED, id=f"CA{n}", voices=voices, manners=PATIENT) for n in range(4))
                )
            for each in placed:
                says_nothing_dead(each)
                assert each.report.all_answered
            failures = [failure.code for each in placed for turn in each.journal.turns for failure in turn.failures]
            print(failures)
            assert failures, "something failed"
            assert "Traceback" not in server.log()
            await until(lambda: server.is_running, 1, "the server lives")

    asyncio.run(story())
