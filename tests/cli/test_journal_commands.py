"""``calls``, ``show`` and ``replay`` over real journal files, as the command line runs them."""

import argparse
import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from sample_by_hand import WHOLE, journal, report

from antiphon.cli import calls, journal_source, replay, show
from antiphon.cli.call_display import summary_line
from antiphon.cli.call_judge import judge
from antiphon.kernel import events as ev
from antiphon.kernel.policy import Policy, encode_policy
from antiphon.kernel.session import Session
from antiphon.runtime.ports import Batch
from antiphon.stores.sqlite import SqliteJournal


def a_call(session: str, said: str = "what are the fees") -> list[ev.Entry]:
    fold = Session()
    policy = encode_policy(Policy(greeting=False))
    script: list[tuple[int, ev.AnyEvent]] = [
        (0, ev.SessionStarted(session, "twilio", "en-IN", policy, started_at="2026-01-02T03:04:05Z")),
        (1000, ev.TextTyped(said)),
        (1010, ev.IntentReady(1, "fees", 0.8)),
        (1020, ev.PassagesReady(1)),
        (1100, ev.SegmentReady(1, 1, 0, "Ten rupees.")),
        (1130, ev.SegmentSynthesized(1, 1, 0)),
        (1131, ev.SegmentStarted(1, 0)),
        (2000, ev.SegmentPlayed(1, 0)),
        (2001, ev.PlayoutFinished(1)),
        (5000, ev.CallerHungUp("caller")),
        (5010, ev.SessionClosed("caller")),
    ]
    return [fold.receive(event, at)[0] for at, event in script]


def otherwise(entries: list[ev.Entry], seq: int) -> list[ev.Entry]:
    """The same facts with another decision at ``seq``: what changed code leaves behind."""
    return [msgspec.structs.replace(entry, digest=b"\x01" * 8) if entry.seq == seq else entry for entry in entries]


def write(path: Path, journals: dict[str, list[ev.Entry]]) -> Path:
    async def main() -> None:
        journal = SqliteJournal(path)
        await journal.start()
        for session, entries in journals.items():
            epoch = await journal.claim(session)
            assert await journal.append([Batch(session, epoch, 0, tuple(entries))]) == [None]
        await journal.close()

    asyncio.run(main())
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(
        tmp_path / "journal.sqlite",
        {"CA1": a_call("CA1"), "CA2": a_call("CA2", "नमस्ते"), "MZ9": otherwise(a_call("MZ9"), 4), "EMPTY": []},
    )


def run(module: object, *argv: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)  # type: ignore[attr-defined]
    status: int = module.run(parser.parse_args(argv))  # type: ignore[attr-defined]
    return status


Output = pytest.CaptureFixture[str]


# -- calls ------------------------------------------------------------------------------------------


def test_calls_lists_newest_first(path: Path, capsys: Output) -> None:
    assert run(calls, "--journal", str(path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["EMPTY", "interrupted"],
        ["MZ9", "closed"],
        ["CA2", "closed"],
        ["CA1", "closed"],
    ]
    assert run(calls, "--journal", str(path), "--json", "-n", "2") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["session"], row["turns"], row["last_at_ms"]) for row in rows] == [("EMPTY", 0, 0), ("MZ9", 1, 5010)]


def test_an_empty_journal_says_how_to_fill_it(tmp_path: Path, capsys: Output) -> None:
    assert run(calls, "--journal", str(write(tmp_path / "j.sqlite", {}))) == 0
    assert "antiphon call" in capsys.readouterr().out


def test_errors_go_to_standard_error_with_code_and_way_out(tmp_path: Path, capsys: Output) -> None:
    missing = str(tmp_path / "none" / "journal.sqlite")
    for module, extra in ((calls, []), (show, ["last"]), (replay, ["last"])):
        assert run(module, *extra, "--journal", missing) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "[store.not_found]" in said.err
        assert "antiphon serve" in said.err
    assert not (tmp_path / "none").exists(), "reading makes nothing"


def test_a_folder_or_an_empty_file_in_its_place_is_told_with_the_fix(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "calls.sqlite").touch()
    for module, extra in ((calls, []), (show, ["last"]), (replay, ["--all"])):
        assert run(module, *extra, "--journal", str(tmp_path)) == 2
        said = capsys.readouterr().err
        assert "[store.is_folder]" in said
        assert f"name the file, such as --journal {tmp_path / 'calls.sqlite'}" in said
        assert run(module, *extra, "--journal", str(tmp_path / "empty")) == 2
        said = capsys.readouterr().err
        assert "[store.empty]" in said
        assert f"antiphon serve --journal {tmp_path / 'empty'}" in said
    assert (tmp_path / "empty").stat().st_size == 0, "reading makes nothing"


def test_every_count_of_turns_is_the_same_and_the_greeting_is_none(tmp_path: Path, capsys: Output) -> None:
    entries = journal(WHOLE)
    place = str(write(tmp_path / "j.sqlite", {"CA1": entries}))
    assert run(calls, "--journal", place, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["turns"] == 4
    assert run(show, "CA1", "--journal", place) == 0
    assert "\n4 turns, 4 answered, " in capsys.readouterr().out
    of_the_caller = report()
    judge(of_the_caller, entries)
    assert summary_line(of_the_caller).startswith("4 of 4 turns answered")


def test_a_call_that_cannot_be_read_does_not_hide_the_others(path: Path, capsys: Output) -> None:
    with sqlite3.connect(path) as db:
        db.execute(
            "UPDATE entries SET data = x'c1' WHERE seq = 3 AND id = (SELECT id FROM sessions WHERE session = 'CA2')"
        )
    db.close()
    assert run(calls, "--journal", str(path), "--json") == 0
    rows = {row["session"]: row["turns"] for row in json.loads(capsys.readouterr().out)}
    assert rows == {"EMPTY": 0, "MZ9": 1, "CA2": None, "CA1": 1}


# -- which journal ----------------------------------------------------------------------------------


def test_which_journal_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    args = argparse.Namespace(journal=None)
    assert journal_source.journal_place(args, {}) == ".antiphon/journal.sqlite"
    (tmp_path / "antiphon.toml").write_text('[journal]\npath = "from-file"\n')
    assert journal_source.journal_place(args, {}) == "from-file"
    assert journal_source.journal_place(args, {"ANTIPHON_JOURNAL_PATH": "from-setting"}) == "from-setting"
    assert journal_source.journal_place(args, {"ANTIPHON_JOURNAL": "from-variable"}) == "from-variable"
    chosen = argparse.Namespace(journal="from-option")
    assert journal_source.journal_place(chosen, {"ANTIPHON_JOURNAL": "from-variable"}) == "from-option"


# -- show -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CA1", "last", "CA2", "MZ"])
def test_show_finds_a_call(name: str, tmp_path: Path, capsys: Output) -> None:
    path = write(tmp_path / "j.sqlite", {"CA1": a_call("CA1"), "CA2": a_call("CA2"), "MZ9": a_call("MZ9")})
    assert run(show, name, "--journal", str(path)) == 0
    out = capsys.readouterr().out
    assert out.startswith({"CA1": "CA1", "CA2": "CA2"}.get(name, "MZ9") + "  closed (caller)")
    assert "caller what are the fees  (typed, intent fees 0.80)" in out
    assert "agent  Ten rupees." in out
    assert "to first audio 131 ms Antiphon's own: 1 ms" in " ".join(out.split())
    assert "\x1b" not in out, "plain text when it is no terminal"


def test_show_json(path: Path, capsys: Output) -> None:
    assert run(show, "CA2", "--journal", str(path), "--json") == 0
    out = capsys.readouterr().out
    assert "नमस्ते" in out
    call = json.loads(out)
    assert call["turns"][0]["question"] == "नमस्ते"
    assert call["summary"]["median_ms"] == 131


def test_show_says_what_is_ambiguous_unknown_or_empty(path: Path, capsys: Output) -> None:
    assert run(show, "CA", "--journal", str(path)) == 2
    assert "2 calls begin with CA" in capsys.readouterr().err
    assert run(show, "nobody", "--journal", str(path)) == 2
    assert "[store.unknown_session]" in capsys.readouterr().err
    assert run(show, "EMPTY", "--journal", str(path)) == 0
    assert "no entries" in capsys.readouterr().out


# -- replay -----------------------------------------------------------------------------------------


def test_replay_says_identical(path: Path, capsys: Output) -> None:
    assert run(replay, "CA1", "--journal", str(path)) == 0
    assert capsys.readouterr().out == "CA1: identical, 11 entries\n"


def test_replay_says_where_it_diverged_and_what_is_decided_now(path: Path, capsys: Output) -> None:
    assert run(replay, "MZ9", "--journal", str(path)) == 1
    out = capsys.readouterr().out
    assert "MZ9: diverged at entry 4 of 11 (1020 ms, THINKING)" in out
    assert "event: PassagesReady(turn=1" in out
    assert "0101010101010101" in out
    assert "StartReply(turn=1, attempt=1, text='what are the fees'" in out
    assert run(replay, "MZ9", "--journal", str(path), "--json") == 1
    result = json.loads(capsys.readouterr().out)
    assert result["diverged"]["seq"] == 4
    assert result["diverged"]["then"] == "01" * 8


def test_replay_of_all_calls_counts_them(path: Path, capsys: Output) -> None:
    assert run(replay, "--all", "--journal", str(path)) == 1
    out = capsys.readouterr().out
    assert out.endswith("3 of 4 calls identical\n")
    assert run(replay, "--all", "--journal", str(write(path.with_name("good"), {"CA1": a_call("CA1")}))) == 0


def test_replay_of_what_cannot_be_folded_is_a_finding_not_a_crash(tmp_path: Path, capsys: Output) -> None:
    entries = a_call("CA1")
    broken = msgspec.structs.replace(entries[0], event=msgspec.structs.replace(entries[0].event, policy=b"\xc1"))
    path = write(tmp_path / "j.sqlite", {"CA1": [broken, *entries[1:]]})
    assert run(replay, "CA1", "--journal", str(path)) == 1
    assert "policy in its first entry cannot be read" in capsys.readouterr().out


def test_replay_wants_one_call_or_all(path: Path, capsys: Output) -> None:
    assert run(replay, "--journal", str(path)) == 2
    assert run(replay, "CA1", "--all", "--journal", str(path)) == 2
    assert "--all" in capsys.readouterr().err


def test_digests_are_the_same_in_other_processes(path: Path) -> None:
    """No set or dictionary order may reach a decision: replay under other hash seeds."""
    script = (
        "import argparse, sys\n"
        "from antiphon.cli import replay\n"
        "parser = argparse.ArgumentParser()\n"
        "replay.add_arguments(parser)\n"
        "sys.exit(replay.run(parser.parse_args(sys.argv[1:])))\n"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script, "CA2", "--journal", str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "CA2: identical, 11 entries\n"), done.stderr
