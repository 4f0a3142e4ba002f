"""``antiphon sim``: what it prints, its exit status, and arguments that cannot be."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from antiphon.cli import sim
from antiphon.errors import ConfigError
from antiphon.kernel import history


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    sim.add_arguments(parser)
    return sim.run(parser.parse_args(["--workers", "1", *arguments]))


def test_a_sound_run_says_how_much_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--calls", "20", "--faults") == 0
    out = capsys.readouterr().out
    assert "20 calls, " in out
    assert "violations: 0" in out
    assert "times real time" in out


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--calls", "20", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["calls"], told["violations"], told["shown"]) == (20, 0, [])
    assert len(told["digest"]) == 32
    assert told["turns"] > 20


def test_a_violation_is_shown_with_its_seed_its_journal_and_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(history, "heard_text", lambda parts, *_: " ".join(part.text for part in parts))
    assert command("--calls", "30", "--golden", str(tmp_path / "found")) == 1
    out = capsys.readouterr().out
    assert "antiphon sim --calls 1 --seed " in out
    assert "history_is_what_was_heard: " in out
    saved = list((tmp_path / "found").glob("history_is_what_was_heard-*.jsonl"))
    assert saved
    assert str(saved[0]) in out
    assert "Plan(seed=" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--calls", "0"), "--calls: '0' is not a whole number from 1 to"),
        (("--calls", "99999999999"), "--calls: '99999999999' is not a whole number from 1 to"),
        (("--seed", "-1"), "--seed: '-1' is not a whole number from 0 to"),
        (("--workers", "-2"), "--workers: '-2' is not a whole number from 0 to"),
        (("--workers", "100000"), "--workers: '100000' is not a whole number from 0 to"),
    ],
)
def test_what_cannot_be_is_refused_with_the_range(
    arguments: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_golden_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ConfigError, match="name a folder"):
        command("--golden", str(file))


def test_progress_is_told_where_nobody_watches_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sim, "QUIET_S", 0.0)
    assert command("--calls", "120") == 0
    captured = capsys.readouterr()
    assert "50 of 120 calls\n" in captured.err
    assert "of 120" not in captured.out
