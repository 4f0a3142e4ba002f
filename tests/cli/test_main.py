"""The command's frame: help, unknown commands, exit statuses, errors in one line, and how quickly it answers."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import types
from importlib import import_module
from pathlib import Path

import pytest

from antiphon import cli
from antiphon._version import __version__
from antiphon.errors import ConfigError

HERE = Path(cli.__file__).parent


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Puts a sub-command of that behaviour in the place of ``doctor``."""

    def put(run) -> None:
        module = types.ModuleType("antiphon.cli.doctor")
        module.HELP = "x"
        module.EXAMPLES = (("antiphon doctor", "this"),)
        module.add_arguments = lambda parser: parser.add_argument("--flag")
        module.run = run
        monkeypatch.setitem(sys.modules, "antiphon.cli.doctor", module)

    return put


def teaches(name: str) -> tuple[tuple[str, str], ...]:
    found: tuple[tuple[str, str], ...] = import_module(f"antiphon.cli.{name}").EXAMPLES
    return found


def antiphon(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "antiphon", *arguments], capture_output=True, text=True, timeout=60, check=False, **more
    )


def test_help_lists_every_command_and_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, what in cli.COMMANDS:
        assert f"  {name}" in out
        assert what in out
    assert "examples:" in out
    assert "exit status:" in out
    assert max(map(len, out.splitlines())) <= 120


def test_no_command_is_an_error_and_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: antiphon COMMAND" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"antiphon {__version__}\n"


@pytest.mark.parametrize(("typed", "meant"), [("cals", "calls"), ("doktor", "doctor"), ("xyzzy", "--help")])
def test_an_unknown_command_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str], typed: str, meant: str
) -> None:
    assert cli.main([typed]) == 2
    assert meant in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, _ in cli.COMMANDS])
def test_every_command_is_there_with_the_help_that_is_listed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = import_module(f"antiphon.cli.{name}")
    assert dict(cli.COMMANDS)[name] == module.HELP
    assert cli.main([name, "--help"]) == 0
    assert f"usage: antiphon {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, _ in cli.COMMANDS])
def test_help_of_a_command_teaches_within_the_terminal(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    examples = text.partition("\nexamples:\n")[2].splitlines()
    assert sum(line.startswith(f"  antiphon {name}") for line in examples) >= 2
    assert max(map(len, text.splitlines())) <= 80
    assert "_seconds" not in text


@pytest.mark.parametrize(
    ("name", "example"), [(name, each[0]) for name in dict(cli.COMMANDS) for each in teaches(name)]
)
def test_every_example_can_be_typed(name: str, example: str) -> None:
    words = shlex.split(example.partition(" | ")[0].partition(" > ")[0])
    assert words[:2] == ["antiphon", name]
    parser = argparse.ArgumentParser()
    import_module(f"antiphon.cli.{name}").add_arguments(parser)
    parser.parse_args(words[2:])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("call", "--wait", "soon"), "--wait: 'soon' is not a number of seconds from 0 to 86400, such as 1.5"),
        (("call", "--timeout", "-1"), "--timeout: '-1' is not a number of seconds"),
        (("call", "--quiet", "nan"), "--quiet: 'nan' is not a number of seconds"),
        (("call", "--calls", "0"), "--calls: '0' is not a whole number from 1 to 1000"),
        (("call", "--noise", "500"), "--noise: '500' is not a whole number from 0 to 200"),
        (("calls", "-n", "0"), "-n/--limit: '0' is not a whole number from 1 to 1000000"),
        (("calls", "-n", "-3"), "-n/--limit: '-3' is not a whole number from 1 to 1000000"),
        (("calls", "-n", "many"), "-n/--limit: 'many' is not a whole number from 1 to 1000000"),
        (("serve", "--port", "-1"), "--port: '-1' is not a whole number from 0 to 65535"),
        (("serve", "--port", "70000"), "--port: '70000' is not a whole number from 0 to 65535"),
    ],
)
def test_a_number_that_cannot_be_is_refused_with_its_range(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert f"argument {told}" in capsys.readouterr().err


def test_arguments_and_status_pass_through(command) -> None:
    seen: list[argparse.Namespace] = []
    command(lambda args: seen.append(args) or 7)
    assert cli.main(["doctor", "--flag", "on"]) == 7
    assert seen[0].flag == "on"
    assert cli.main(["doctor", "--flags"]) == 2
    assert cli.main(["help", "doctor"]) == 0


def test_an_error_is_one_line_with_its_code(command, capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ConfigError("port is taken:\n  run antiphon serve --port 9000", code="config.port")

    command(run)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "antiphon: [config.port] port is taken: run antiphon serve --port 9000\n"


def test_an_interruption_is_130_and_quiet(command, capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    command(run)
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr() == ("", "")


def test_our_own_defects_are_not_hidden(command) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    command(run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


def test_a_reader_who_stops_reading_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "antiphon", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_ctrl_c_ends_a_command_cleanly(tmp_path: Path) -> None:
    environ = {**os.environ, "ANTIPHON_TTS_PROVIDER": "fake", "ANTIPHON_TTS_TTS_MS": "60000"}
    process = subprocess.Popen(
        [sys.executable, "-m", "antiphon", "doctor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environ,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "twilio" in line:
            break
    time.sleep(0.3)  # it is now within the trial that hangs
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")


HEAVY = ("numpy", "aiohttp", "fastapi", "msgspec", "rich", "loguru", "asyncio", "openai", "pydantic")


def test_no_help_imports_anything_heavy() -> None:
    # asyncio comes with the standard library's own parts of `serve` and `doctor`.
    code = (
        "import sys; from antiphon.cli import COMMANDS, main\n"
        f"def loaded(*but): return [name for name in {HEAVY!r} if name in sys.modules and name not in but]\n"
        "main(['--help']); assert not loaded(), loaded()\n"
        "for name, _ in COMMANDS: main([name, '--help']); assert not loaded('asyncio', 'msgspec'), (name, loaded())\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)


def test_help_comes_at_once() -> None:
    fastest = min(_seconds("--help") for _ in range(3))
    assert fastest < 0.15 * max(1.0, _slowness())


def _seconds(*arguments: str) -> float:
    began = time.perf_counter()
    antiphon(*arguments)
    return time.perf_counter() - began


def _slowness() -> float:
    """How much slower than 30 ms this machine starts a bare Python just now: other work may share it."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True, timeout=30)
    return (time.perf_counter() - began) / 0.03


def test_wrong_settings_of_a_command_are_named_by_the_process(tmp_path: Path) -> None:
    (tmp_path / "antiphon.toml").write_text("[server]\nprot = 1\n")
    done = antiphon("doctor", "--quick", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert "did you mean 'port'" in found["findings"][0]["text"]
