"""``antiphon call``: its arguments, its output and its exit status."""

import argparse
import asyncio
import json
import os
import threading
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from antiphon.cli import call, call_placing
from antiphon.errors import ConfigError
from antiphon.phone import Backchannel, Digits, HangUp, PhoneScript, Play, Say, Wait


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    call.add_arguments(parser)
    return parser.parse_args(words)


def script(*words: str) -> PhoneScript:
    return call_placing.script_from(parsed(*words))


@pytest.fixture
def recording(tmp_path: Path) -> str:
    at = np.arange(22_050 // 2) / 22_050
    with wave.open(str(tmp_path / "line.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(22_050)
        tone = (np.sin(2 * np.pi * 500 * at) * 12_000).astype("<i2")
        file.writeframes(np.repeat(tone, 2).tobytes())
    return str(tmp_path / "line.wav")


def test_the_order_of_the_command_line_is_the_order_of_the_call(recording: str):
    made = script(
        *("--say", "one", "--backchannel", "mm-hm@1.5", "--digits", "12#", "--wait", "2"),
        *("--barge-in", "1.2", "--say", "two", "--wav", recording, "--backchannel", "ok", "--hang-up-after", "3"),
        *("--language", "hi-IN", "--quiet", "0.9", "--noise", "50"),
    )
    one, murmur, digits, wait, two, wav, ok, hang_up = made.steps
    assert one == Say("one")
    assert murmur == Backchannel("mm-hm", 1.5)
    assert digits == Digits("12#")
    assert wait == Wait(2.0)
    assert two == Say("two", barge_in_s=1.2)
    assert isinstance(wav, Play)
    assert wav.label == recording
    assert len(wav.pcm) == pytest.approx(8000, abs=20), "half a second at 8000 Hz"
    assert (ok, hang_up) == (Backchannel("ok"), HangUp(3.0))
    assert (made.language, made.manners.quiet_s, made.manners.noise) == ("hi-IN", 0.9, 50)


def test_without_lines_a_sample_conversation_is_spoken():
    assert [step.text for step in script().steps if isinstance(step, Say)] == list(call.SAMPLE)


@pytest.mark.parametrize(
    "words",
    [
        ("--say", "a", "--barge-in", "1"),
        ("--digits", "12x"),
        ("--digits", ""),
        ("--backchannel", "mm@soon"),
        ("--say", " "),
        ("--backchannel", "@1"),
        ("--backchannel", "mm@-1"),
        ("--backchannel", "mm@inf"),
        ("--wav", "/nowhere/at/all.wav"),
        ("--wav", __file__),
    ],
)
def test_arguments_that_cannot_be_meant(words: tuple[str, ...]):
    with pytest.raises(ConfigError):
        script(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("--param", "novalue"),
        ("--tts", "nobody", "--say", "a"),
        ("--url", "tel:+4912"),
        ("--config", "/nowhere/antiphon.toml"),
    ],
)
def test_faults_are_said_and_exit_with_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    assert call.run(parsed(*words)) == 2
    assert "antiphon: [config" in capsys.readouterr().err


QUICK = ("--quiet", "0.2", "--greeting", "0")


class Agent:
    """Answers the end of each line with 300 ms of noise."""

    def __init__(self) -> None:
        self.url = ""
        self.started: list[dict[str, Any]] = []
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(5)

    def _run(self) -> None:
        async def main() -> None:
            async with serve(self._call, "127.0.0.1", 0) as server:
                self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/media-stream"
                self._over = asyncio.Event()
                self._ready.set()
                await self._over.wait()

        self._loop.run_until_complete(main())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5)

    async def _call(self, socket: ServerConnection) -> None:
        stream, voiced, quiet = "", False, 0
        async for data in socket:
            message = json.loads(data)
            if message["event"] == "start":
                self.started.append(message["start"])
                stream = message["streamSid"]
            elif message["event"] == "media":
                silent = message["media"]["payload"] == "/" * 213 + "w=="
                voiced, quiet = voiced or not silent, quiet + 1 if silent else 0
                if voiced and quiet >= 8:
                    voiced = False
                    payload = "AICQ" * 800
                    await socket.send(
                        json.dumps({"event": "media", "streamSid": stream, "media": {"payload": payload}})
                    )


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    made = Agent()
    yield made
    made.stop()


def test_one_call_prints_the_conversation(
    agent: Agent, recording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    saved = tmp_path / "call.wav"
    words = ("--wav", recording, "--url", agent.url, "--record", str(saved), "--call-id", "CAme")
    assert call.run(parsed(*words, *QUICK, "--param", "a=b=c", "--language", "te-IN")) == 0
    printed = capsys.readouterr().out
    assert "connected to ws://" in printed
    assert "ms after the caller" in printed
    assert "1 of 1 turns replied to; median " in printed
    assert "only the agent's journal tells" in printed
    assert saved.stat().st_size > 8000
    assert agent.started[-1]["callSid"] == "CAme"
    assert agent.started[-1]["customParameters"] == {"language": "te-IN", "a": "b=c"}


def test_one_call_as_json(agent: Agent, recording: str, capsys: pytest.CaptureFixture[str]):
    assert call.run(parsed("--wav", recording, "--url", agent.url, *QUICK, "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["all_answered"] is True
    assert printed["turns"][1]["latency_ms"] > 100


def test_many_calls_print_percentiles(agent: Agent, recording: str, capsys: pytest.CaptureFixture[str]):
    before = len(agent.started)
    words = ("--wav", recording, "--url", agent.url, "--calls", "5", "--call-id", "CAx")
    assert call.run(parsed(*words, *QUICK)) == 0
    printed = capsys.readouterr().out
    assert "end of speech to first sound" in printed
    assert "5 calls, 0 failed; 5 of 5 turns replied to" in printed
    assert {start["callSid"] for start in agent.started[before:]} == {f"CAx-{n}" for n in range(1, 6)}


def test_a_call_that_fails_says_so(recording: str, capsys: pytest.CaptureFixture[str]):
    assert call.run(parsed("--wav", recording, "--url", "ws://127.0.0.1:1/media-stream")) == 2
    assert "The call failed: no agent answers at" in capsys.readouterr().out


def test_a_caller_who_says_nothing_is_no_failure(agent: Agent, capsys: pytest.CaptureFixture[str]):
    assert call.run(parsed("--wait", "0.2", "--url", agent.url, *QUICK)) == 0
    printed = capsys.readouterr().out
    assert "the caller said nothing, so there was nothing to answer; the agent did not speak either" in printed
    assert "0 of 0" not in printed
    assert call.run(parsed("--wait", "0.2", "--url", agent.url, *QUICK, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["all_answered"] is True


@pytest.mark.usefixtures("_elsewhere")
def test_without_a_url_the_server_of_the_settings_is_called(
    agent: Agent, recording: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    port = agent.url.rpartition(":")[2].partition("/")[0]
    before = len(agent.started)
    (tmp_path / "antiphon.toml").write_text(f"[server]\nport = {port}\n")
    assert call.run(parsed("--wav", recording, *QUICK)) == 0
    (tmp_path / "antiphon.toml").write_text("[server]\nport = 1\n")
    (tmp_path / "own.toml").write_text(f"[server]\nport = {port}\n")
    assert call.run(parsed("--wav", recording, *QUICK, "--config", "own.toml")) == 0
    monkeypatch.setenv("ANTIPHON_SERVER_PORT", port)
    assert call.run(parsed("--wav", recording, *QUICK)) == 0
    assert len(agent.started) == before + 3


@pytest.mark.usefixtures("_elsewhere")
def test_settings_that_are_not_needed_are_not_asked_for(agent: Agent, recording: str, tmp_path: Path):
    (tmp_path / "antiphon.toml").write_text("[server]\nprot = 1\n")
    assert call.run(parsed("--wav", recording, *QUICK, "--url", agent.url)) == 0


@pytest.mark.usefixtures("_elsewhere")
def test_a_port_that_nobody_knows_must_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recording: str
):
    monkeypatch.setenv("ANTIPHON_SERVER_PORT", "0")
    assert call.run(parsed("--wav", recording)) == 2
    assert "name it with --url" in capsys.readouterr().err


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings and no journal are here."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ANTIPHON_")]:
        monkeypatch.delenv(name)
