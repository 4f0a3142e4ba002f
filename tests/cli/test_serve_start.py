"""``antiphon serve`` as it starts: stopped before it serves, what it says when it does, and the settings it prints."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from antiphon.cli import main
from antiphon.cli.serving import say
from antiphon.config import Settings
from antiphon.config_toml import render

KEY = "sk-do-not-show-me"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("ANTIPHON_") or name.endswith("_SERVICE_URL"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("delay_s", [0.3, 0.4, 0.5, 0.7])
def test_a_server_that_is_stopped_while_it_starts_complains_of_nothing(workers: int, delay_s: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "antiphon", "serve", "--port", "0", "--workers", str(workers)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread; a background job ignores it
    )
    try:
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "never awaited" not in said
    assert "RuntimeWarning" not in said


class Pieces(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def write(self, text: str) -> int:
        self.seen.append(text)
        return len(text)

    def flush(self) -> None:
        self.seen.append("flushed")


def test_what_is_said_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Pieces()
    monkeypatch.setattr(sys, "stdout", out)
    say("Antiphon listens on http://127.0.0.1:8004/", "  hears no hi-IN")
    assert out.seen == ["Antiphon listens on http://127.0.0.1:8004/\n  hears no hi-IN\n", "flushed"]


def test_print_config_alone_is_a_file_of_the_defaults_to_start_from(capsys: pytest.CaptureFixture[str]) -> None:
    Path("antiphon.toml").write_text("[server]\nport = 9000\n", encoding="utf-8")
    assert main(["serve", "--print-config"]) == 0
    assert capsys.readouterr().out == render(Settings())


def test_print_config_of_a_file_is_what_is_in_force(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own.toml").write_text("[server]\nport = 9000\nmax_sessions = 7\n", encoding="utf-8")
    monkeypatch.setenv("ANTIPHON_SERVER_MAX_SESSIONS", "9")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", KEY)
    assert main(["serve", "--print-config", "--config", "own.toml", "--log-level", "DEBUG"]) == 0
    printed = capsys.readouterr()
    shown = tomllib.loads(printed.out)
    assert (shown["server"]["port"], shown["server"]["max_sessions"], shown["log"]["level"]) == (9000, 9, "DEBUG")
    assert '# auth_token = "***"' in printed.out
    assert KEY not in printed.out + printed.err


@pytest.mark.parametrize("text", ["no toml", "[server]\nprot = 1\n", "[server]\nmax_sessions = 'x'\n", None])
def test_print_config_refuses_a_file_as_the_server_does(text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    if text is not None:
        Path("own.toml").write_text(text, encoding="utf-8")
    assert main(["serve", "--print-config", "--config", "own.toml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert main(["serve", "--config", "own.toml", "--port", "0"]) == 2
    assert capsys.readouterr().err == printed.err
