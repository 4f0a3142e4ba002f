"""``antiphon serve --sample-call`` as a person runs it: a whole call, its output, and every way to end it."""

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from antiphon import config
from antiphon.cli import call, call_placing
from antiphon.cli.sample_call import LINES, caller_command, check
from antiphon.errors import ConfigError
from antiphon.knowledge import load_knowledge
from antiphon.phone import Backchannel, Say

READY_S = 30.0
LONGEST_S = 90.0


class Command:
    """``antiphon serve`` in an empty folder. Whatever it starts is known, so that it can be found gone."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.out, self.err = folder / "out", folder / "err"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "antiphon", "serve", "--port", "0", *arguments],
                cwd=folder,
                env={**clean, "XDG_CACHE_HOME": str(folder / "cache")},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.family: set[psutil.Process] = set()

    def said(self) -> str:
        return self.out.read_text(encoding="utf-8")

    def until(self, text: str, within_s: float = READY_S) -> None:
        deadline = time.monotonic() + within_s
        while text not in self.said() + self.err.read_text():
            assert self.process.poll() is None, f"it ended:\n{self.said()}\n{self.err.read_text()}"
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.said()}\n{self.err.read_text()}"
            self.look()
            time.sleep(0.05)

    def until_it_has_children(self) -> None:
        """The providers' processes are starting; nothing listens yet."""
        deadline = time.monotonic() + READY_S
        while not self.family:
            assert time.monotonic() < deadline
            self.look()
            time.sleep(0.01)

    def look(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.family |= set(psutil.Process(self.process.pid).children(recursive=True))

    def interrupt(self) -> None:
        self.look()
        self.process.send_signal(signal.SIGINT)

    def ended(self, within_s: float = 10.0) -> int:
        """The exit status. Nothing it started may be left."""
        status = self.process.wait(within_s)
        _, left = psutil.wait_procs(self.family, timeout=3)
        assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
        return status


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[list[Command]]:
    made: list[Command] = []
    yield made
    for command in made:
        command.look()
        for process in [*command.family, command.process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        command.process.wait(10)


@pytest.fixture
def serve(commands: list[Command], tmp_path: Path):
    def start(*arguments: str) -> Command:
        commands.append(Command(tmp_path, *arguments))
        return commands[-1]

    return start


@pytest.mark.long
def test_the_sample_call_answers_every_turn(serve, tmp_path: Path):
    command = serve("--sample-call", "--once")
    command.until("the agent hangs up", LONGEST_S)
    assert command.ended(20) == 0, command.said()
    text = command.said()
    assert "\x1b" not in text
    assert "\r" not in text
    assert command.err.read_text().count("\n") <= 1, "at most what a slow start waits for"
    assert re.search(r"^Antiphon listens on http://127\.0\.0\.1:\d+/$", text, re.MULTILINE)
    for line in LINES:
        assert re.search(rf"^{re.escape(line.text.split()[0])}.* ok *$", text, re.MULTILINE), line.text
    for entry in (load_knowledge().entry(line.entry) for line in LINES if line.entry):
        assert f"-- answered from {entry.source}" in text
    assert re.search(r'-- backchannel ".*" did not interrupt: the agent goes on', text)
    assert re.search(r'-- interrupted after ".+" by ".+"', text)
    assert f"{len(LINES)} of {len(LINES)} turns answered as expected (100 %)" in text
    assert re.search(r"^en-IN +endpointing +5 +\d+ +\d+$", text, re.MULTILINE), "the report of latencies"
    assert re.search(r"^ +total +5 +\d+ +\d+$", text, re.MULTILINE)
    assert "success rate: 5 of 5 turns answered (100 %)" in text
    assert "  hears no hi-IN, te-IN, gu-IN: configure [stt] provider as one of" in text
    assert "FAILED" not in text
    assert text.count("to first audio") == len(LINES)
    own = re.search(r"waits and providers taken out: (\d+) ms, target < 15 ms: (ok|not ok)", text)
    assert own is not None
    assert (int(own[1]) < 15) == (own[2] == "ok")
    assert re.search(r"median: \d+ ms at the phone, \d+ ms in the journal, target < 700 ms: (ok|not ok)", text)
    assert float(re.search(r"0:(\d+\.\d)  IDLE +-- the agent hangs up", text)[1]) < 50
    shown = subprocess.run(
        [sys.executable, "-m", "antiphon", "show", "last"],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert re.match(r"sample-\w+ +closed \(agent\)", shown.stdout), "the journal has all of it"
    assert f"\n{len(LINES)} turns, {len(LINES)} answered, " in shown.stdout, "the greeting is none"


@pytest.mark.parametrize("when", ["starting", "listens on", "SPEAKING"])
def test_ctrl_c_ends_it_cleanly_at_any_moment(serve, when: str):
    command = serve("--sample-call")
    if when == "starting":
        command.until_it_has_children()
    else:
        command.until(when)
    if when == "SPEAKING":
        time.sleep(1.0)
    command.interrupt()
    assert command.ended() == 130
    assert "Traceback" not in command.err.read_text() + command.said()
    assert "FAILED" not in command.said()


def test_ctrl_c_twice_waits_for_nothing(serve):
    command = serve("--sample-call")
    command.until("SPEAKING")
    began = time.monotonic()
    command.interrupt()
    time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        command.process.send_signal(signal.SIGINT)
    assert command.ended() == 130
    assert time.monotonic() - began < 3
    assert "Traceback" not in command.err.read_text() + command.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_without_a_call_ends_with_status_0(serve, number: signal.Signals):
    command = serve()
    command.until("listens on")
    command.look()
    command.process.send_signal(number)
    assert command.ended() == 0
    assert "Traceback" not in command.err.read_text()


def refused(command: Command) -> str:
    """The one line that it says instead of starting."""
    assert command.ended(READY_S) == 2
    lines = [line for line in command.err.read_text().splitlines() if not line.startswith("starting ")]
    assert len(lines) == 1, lines
    return lines[0]


def test_a_port_that_is_taken(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(serve("--port", str(port)))
    assert f"cannot listen on 127.0.0.1:{port}" in line
    assert "choose another with --port" in line


@pytest.mark.parametrize("host", ["a b", "no-such-host.invalid", "192.0.2.7", "x" * 300])
def test_an_address_that_is_not_this_machines(serve, host: str):
    began = time.monotonic()
    line = refused(serve("--host", host))
    assert repr(host) in line
    assert "127.0.0.1 lets this machine in" in line
    assert time.monotonic() - began < 20, "it is looked at before anything is loaded"


def test_a_language_that_nobody_hears_is_told_at_the_start(serve):
    command = serve("--log-level", "WARNING")
    command.until("hears no")
    command.interrupt()
    assert command.ended() == 0
    told = "pocketsphinx cannot hear hi-IN, te-IN, gu-IN: callers who speak so are asked to repeat"
    assert told in command.err.read_text()
    assert "  hears no hi-IN, te-IN, gu-IN: configure [stt] provider as one of" in command.said()
    assert '[languages] offered = ["en-IN"]' in command.said()


@pytest.mark.parametrize("place", ["/proc/antiphon/calls.sqlite", "file/calls.sqlite"])
def test_a_journal_that_cannot_be_written(serve, tmp_path: Path, place: str):
    (tmp_path / "file").write_text("not a folder")
    line = refused(serve("--sample-call", "--journal", place))
    assert place in line
    assert "--journal PATH" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--once",), "--once goes with --sample-call"),
        (("--sample-call", "--config", "own.toml"), "yours has no requirements"),
        (("--sample-call", "--config", "tls.toml"), "without TLS"),
    ],
)
def test_what_cannot_be_meant(serve, tmp_path: Path, arguments: tuple[str, ...], expected: str):
    (tmp_path / "own.toml").write_text('[retrieval]\nprovider = "lexical"\nknowledge = "kb.toml"\n')
    (tmp_path / "kb.toml").write_text(
        'title = "x"\nlanguage = "en-IN"\n'
        '[[entry]]\nid = "a"\ntopic = "t"\nquestion = "Q?"\nanswer = "A."\nsource = "s"\n'
    )
    (tmp_path / "tls.toml").write_text('[server]\ntls_cert = "a.pem"\ntls_key = "b.pem"\n')
    assert expected in refused(serve(*arguments))


def test_a_signed_line_takes_no_sample_call():
    settings = config.load(environ={"TWILIO_AUTH_TOKEN": "x" * 32})
    with pytest.raises(ConfigError, match="signed by Twilio"):
        check(settings)
    check(config.load(environ={}))


def test_the_callers_command_is_the_sample():
    command = caller_command("ws://127.0.0.1:1/media-stream", "sample-1")
    assert command[:4] == [sys.executable, "-m", "antiphon", "call"]
    parser = argparse.ArgumentParser()
    call.add_arguments(parser)
    steps = call_placing.script_from(parser.parse_args(command[4:])).steps
    assert [step.text for step in steps if isinstance(step, Say)] == [line.text for line in LINES]
    assert [step.barge_in_s for step in steps if isinstance(step, Say)] == [line.barge_in_s for line in LINES]
    murmurs = [step for step in steps if isinstance(step, Backchannel)]
    assert [murmur.text for murmur in murmurs] == [line.murmur for line in LINES if line.murmur]
    place = steps.index(murmurs[0])
    assert steps[place - 1] == Say(LINES[0].text), "it is murmured into the reply to its own line"
