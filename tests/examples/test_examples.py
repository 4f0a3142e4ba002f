"""The examples, run as their readers run them: each in a process of its own, offline, from an empty folder."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest

from antiphon.media.codec import wav_read
from antiphon.phone import Manners, PhoneScript, Say, place_call
from antiphon.phone.voices import Voices
from antiphon.providers.registry import load
from antiphon.transports.twilio_auth import signature

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.exclusive
SECRETS = {"SARVAM_API_KEY", "TWILIO_AUTH_TOKEN", "PUBLIC_URL", "ANTIPHON_SECRETS_FILE"}


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in SECRETS} | {"PYTHONUTF8": "1"} | more


def example(name: str, *arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=at,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# -- orchestrator_integration_example.py -----------------------------------------------------------


def test_the_integration_example_speaks_asks_and_answers(tmp_path: Path) -> None:
    done = example("orchestrator_integration_example.py", "--save", "answer.wav", at=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "heard:    what are the admission requirements" in done.stdout
    assert re.search(r"answer: .*sixty percent", done.stdout)
    assert "'total_time': " in done.stdout
    assert '"processing_state": "idle"' in done.stdout
    assert "success rate: 3 of 3 turns answered (100 %)" in done.stdout
    pcm, rate = wav_read((tmp_path / "answer.wav").read_bytes())
    assert rate == 8000
    assert len(pcm) > 2 * rate

    # Its own answer is a question like any other WAV.
    again = example("orchestrator_integration_example.py", "answer.wav", "--verbose", at=tmp_path)
    assert "Step 1: Transcribing audio..." in again.stderr
    assert "heard: " in again.stdout


def test_the_integration_example_says_what_is_wrong(tmp_path: Path) -> None:
    assert example("orchestrator_integration_example.py", "missing.wav", at=tmp_path).returncode == 2
    (tmp_path / "broken.wav").write_bytes(b"no wav")
    done = example("orchestrator_integration_example.py", "broken.wav", at=tmp_path)
    assert done.returncode == 1
    assert "[media.bad_audio]" in done.stdout
    other = example("orchestrator_integration_example.py", "--language", "xx", at=tmp_path)
    assert other.returncode == 2
    assert other.stderr.startswith("[language.not_offered] the language 'xx' is not offered")


# -- twilio_server.py ------------------------------------------------------------------------------


def test_the_server_calls_itself(tmp_path: Path) -> None:
    done = example("twilio_server.py", "--self-test", at=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"'What are the admission requirements\?': answered after \d+ ms", done.stdout)
    assert "1 of 1 turns answered" in done.stdout


@contextmanager
def server(at: Path, **more: str) -> Iterator[int]:
    """The port of a running ``python twilio_server.py``; SIGTERM ends it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, str(EXAMPLES / "twilio_server.py"), "--port", str(port)]
    with (at / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=at, env=environment(**more), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while True:
                assert process.poll() is None, (at / "log").read_text()
                assert time.monotonic() < deadline, (at / "log").read_text()
                try:
                    request(port, "/health")
                    break
                except URLError:
                    time.sleep(0.1)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def request(port: int, path: str, form: dict[str, str] | None = None, **headers: str) -> tuple[int, str]:
    data = None if form is None else urlencode(form).encode()
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except HTTPError as error:
        return error.code, ""


def xml(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own server wrote it


def test_a_call_by_way_of_the_menu(tmp_path: Path) -> None:
    with server(tmp_path) as port:
        assert request(port, "/health")[1] == '{"status":"healthy","checks":{"sarvam_ai":false,"twilio":false}}'
        menu = xml(request(port, "/voice", {"CallSid": "CA1"})[1])
        assert [verb.tag for verb in menu] == ["Gather", "Connect", "Hangup"]
        assert [said.get("language") for said in menu[0]] == ["en-IN", "hi-IN", "te-IN", "gu-IN"]
        chosen = xml(request(port, menu[0].attrib["action"], {"CallSid": "CA1", "Digits": "1"})[1])
        stream = chosen[0][0].attrib["url"]
        assert stream == f"ws://127.0.0.1:{port}/media-stream"
        request(port, menu[0].attrib["action"], {"CallSid": "CA2", "Digits": "3"})

        async def calls() -> None:
            say = (
                Say("What are the admission requirements?"),
                Say("When is the application deadline?", barge_in_s=2.0),
            )
            script = PhoneScript(say, manners=Manners(greeting_s=0))
            async with Voices(load("tts", "espeak")) as voices:
                report = await place_call(stream, script, voices=voices, call_id="CA1", timeout_s=60)
                assert report.all_answered, report.as_dict()
                first, second = report.replies
                assert first.interrupted
                assert second.stopped_ms is not None
                assert second.stopped_ms < 1000, "the agent falls silent"
                assert report.clears == 1
                telugu = PhoneScript((Say("What are the fees?"),), manners=Manners(greeting_s=0, reply_s=3.0))
                report = await place_call(stream, telugu, voices=voices, call_id="CA2", timeout_s=60)
                assert report.replies[-1].reply_ms > 500, "who is not heard is told so, in the language of the call"

        asyncio.run(calls())
    log = (tmp_path / "log").read_text()
    assert "Call CA1: English" in log
    assert "Call CA2: Telugu" in log
    assert "STT successful: 'what are the admission requirements'" in log
    assert "[stt.language]" in log, "the offline recogniser hears English only, and says so"


def test_with_a_token_only_twilio_is_let_in(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TWILIO_AUTH_TOKEN=abc123\nPUBLIC_URL=https://voice.example.org\n")
    (tmp_path / ".env").chmod(0o600)
    with server(tmp_path) as port:
        form = {"CallSid": "CA1"}
        assert '"twilio":true' in request(port, "/health")[1]
        assert request(port, "/voice", form)[0] == 403
        signed = signature("abc123", "https://voice.example.org/voice", form.items())
        status, twiml = request(port, "/voice", form, **{"X-Twilio-Signature": signed})
        assert status == 200
        assert 'url="wss://voice.example.org/media-stream"' in twiml

        async def call() -> str:
            script = PhoneScript((), manners=Manners(greeting_s=0))
            return (await place_call(f"ws://127.0.0.1:{port}/media-stream", script, timeout_s=10)).ended_by

        assert asyncio.run(call()) == "failed"


def test_a_setting_that_cannot_work_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TWILIO_AUTH_TOKEN=abc123\n")
    done = example("twilio_server.py", at=tmp_path)
    assert done.returncode == 2
    assert "public_url" in done.stderr
    assert "PUBLIC_URL, in the environment or in .env" in done.stderr


def test_the_settings_that_are_shown_are_those_that_are_read() -> None:
    shown = {line.partition("=")[0] for line in (EXAMPLES / ".env.example").read_text().splitlines() if "=" in line}
    source = (EXAMPLES / "twilio_server.py").read_text()
    assert shown == set(re.findall(r'lookup\("(\w+)"\)', source))
