"""``antiphon service``: what it takes, what it says when it cannot, and that a service does its own work."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from antiphon.cli import main
from antiphon.cli.service import PARTS
from antiphon.cli.service_verdict import verdict
from antiphon.kernel import events as ev
from antiphon.providers.service_wire import PLACES
from antiphon.runtime.ports import Batch
from antiphon.stores.sqlite import SqliteJournal


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("ANTIPHON_") or name.endswith("_SERVICE_URL"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["intent", "--once"], "antiphon service all"),
        (["tts", "--free-ports"], "antiphon service all"),
        (["all", "--port", "1"], "--free-ports"),
        (["rag", "--host", "no such host"], "is no address of this machine"),
        (["rag", "--config", "absent.toml"], "absent.toml"),
    ],
)
def test_what_cannot_be_says_what_can(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_provider_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("antiphon.toml").write_text('[intent]\nprovider = "oracle"\n', encoding="utf-8")
    assert main(["service", "intent", "--port", "0"]) == 2
    assert "choose one of minilm, http" in capsys.readouterr().err


def test_beyond_this_machine_it_wants_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    Path("antiphon.toml").write_text('[intent]\nprovider = "fake"\n', encoding="utf-8")
    assert main(["service", "intent", "--host", "0.0.0.0", "--port", "0"]) == 2  # noqa: S104
    told = capsys.readouterr().err
    assert "server.open_bind" in told
    assert "set ANTIPHON_SERVICE_KEY" in told


def test_its_parts_are_those_of_the_contract() -> None:
    assert tuple(place.part for place in PLACES.values()) == PARTS


@pytest.fixture
def service(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A real one. The address of its own stage is in its environment, as in a container that shares one with others."""
    Path("antiphon.toml").write_text('[intent]\nprovider = "fake"\n', encoding="utf-8")
    environ = {**os.environ, "INTENT_SERVICE_URL": "http://127.0.0.1:1"}
    command = [sys.executable, "-m", "antiphon", "service", "intent", "--port", "0"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("order", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_does_its_own_work_and_ends_when_told(
    service: subprocess.Popen[str], order: signal.Signals
) -> None:
    assert service.stdout is not None
    line = service.stdout.readline()
    found = re.fullmatch(r"intent-service \(fake\) listens on (http://127\.0\.0\.1:\d+)/\n", line)
    assert found, line + (service.stderr.read() if service.stderr else "")
    body = msgspec.json.encode({"text": "hello"})
    with urllib.request.urlopen(f"{found[1]}/classify", body, timeout=10) as answer:  # noqa: S310
        assert set(msgspec.json.decode(answer.read())) == {"intent", "confidence"}
    service.send_signal(order)
    assert service.wait(10) == 0


async def write(place: Path, events: list[ev.AnyEvent]) -> None:
    journal = SqliteJournal(str(place))
    await journal.start()
    epoch = await journal.claim("c")
    entries = tuple(ev.Entry(number, number, event, b"") for number, event in enumerate(events, 1))
    assert await journal.append([Batch("c", epoch, 0, entries)]) == [None]
    await journal.close()


@pytest.mark.parametrize("missing", ["", "stt", "intent", "retrieval", "tts"])
def test_the_verdict_names_the_part_that_had_none(tmp_path: Path, missing: str) -> None:
    import asyncio

    place = tmp_path / "journal.sqlite"
    who = {stage: "spare" if stage == missing else "http" for stage in ("stt", "intent", "retrieval", "tts")}
    events: list[ev.AnyEvent] = [
        ev.TranscriptFinal(1, "hello", provider=who["stt"]),
        ev.IntentReady(1, "fees", 0.5, who["intent"]),
        ev.PassagesReady(1, (), who["retrieval"]),
        ev.SegmentSynthesized(1, 1, 0, who["tts"]),
        ev.StageFailed(1, 0, missing or "llm", "x.down", "http"),
    ]
    asyncio.run(write(place, events))
    told = asyncio.run(verdict(place, "c"))
    titles = {"stt": "stt-vad", "intent": "intent", "retrieval": "rag", "tts": "tts"}
    assert told == ([f"{titles[missing]}-service had no part in it (x.down)"] if missing else [])
