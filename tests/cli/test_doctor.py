"""``antiphon doctor``: what is there is ok, what is missing is named with what mends it, and keys are never shown."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from antiphon import cli
from antiphon.cli import doctor_machine

KEY = "sk-do-not-show-me-123456"


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY", "SARVAM_API_KEY", "TWILIO_AUTH_TOKEN", "ANTIPHON_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    for kind in ("STT", "LLM", "TTS", "INTENT", "RETRIEVAL"):
        monkeypatch.setenv(f"ANTIPHON_{kind}_PROVIDER", "fake")
    monkeypatch.setenv("ANTIPHON_SERVER_PORT", "0")


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]):
    """Runs it and gives the status and the findings by area."""

    def run(*arguments: str) -> tuple[int, dict[str, list[dict[str, Any]]], str]:
        status = cli.main(["doctor", "--json", *arguments])
        out = capsys.readouterr().out
        found: dict[str, list[dict[str, Any]]] = {}
        for each in json.loads(out)["findings"]:
            found.setdefault(each["area"], []).append(each)
        assert json.loads(out)["ok"] == (status == 0)
        return status, found, out

    return run


def test_with_everything_there_all_is_well_and_every_part_was_tried(doctor) -> None:
    status, found, _ = doctor()
    assert status == 0
    assert {each["status"] for area in found.values() for each in area} <= {"ok", "note"}
    assert [each["status"] for each in found["voices"]] == ["ok"] * 4
    assert 'heard "what are admission requirements"' in found["hearing"][0]["text"]
    assert "silence 0." in found["detector"][0]["text"]
    for area in ("settings", "python", "machine", "journal", "port", "retrieval", "intent", "answers"):
        assert found[area][0]["status"] == "ok"


def test_the_offline_parts_really_speak_and_understand(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, name in (("TTS", "espeak"), ("LLM", "extractive"), ("INTENT", "minilm"), ("RETRIEVAL", "minilm")):
        monkeypatch.setenv(f"ANTIPHON_{kind}_PROVIDER", name)
    status, found, _ = doctor()
    assert status == 0
    assert [each["status"] for each in found["voices"]] == ["ok"] * 4
    assert float(found["detector"][0]["text"].rpartition(" ")[2]) > 0.5
    assert "bachelor" in found["answers"][0]["text"]


def test_quick_tries_nothing(doctor) -> None:
    _, found, _ = doctor("--quick")
    assert "voices" not in found
    assert "journal" in found


def test_what_a_configured_provider_needs_is_missing_with_its_command(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "espeakng_loader" else True)
    _, found, _ = doctor("--quick")
    lack = next(each for each in found["packages"] if "espeakng-loader" in each["text"])
    assert lack["status"] == "note"
    monkeypatch.setenv("ANTIPHON_TTS_PROVIDER", "espeak")
    status, found, _ = doctor()
    assert status == 1
    lack = next(each for each in found["packages"] if "espeakng-loader" in each["text"])
    assert (lack["status"], lack["fix"]) == ("missing", 'pip install "antiphon[local]"')
    assert found["voices"][0]["fix"] == 'pip install "antiphon[local]"'
    assert found["hearing"][0]["status"] == "note"  # nothing spoke that could be heard


@pytest.mark.parametrize(
    ("variable", "area"),
    [
        ("ANTIPHON_TTS_FAIL_EVERY", "voices"),
        ("ANTIPHON_STT_FAIL_EVERY", "hearing"),
        ("ANTIPHON_LLM_FAIL_EVERY", "answers"),
    ],
)
def test_a_provider_that_fails_is_found_out(doctor, monkeypatch: pytest.MonkeyPatch, variable: str, area: str) -> None:
    monkeypatch.setenv(variable, "1")
    status, found, _ = doctor()
    assert status == 1
    assert "failed" in found[area][0]["text"]


def test_a_failing_first_provider_does_not_hide_its_fallback(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_LLM_PROVIDER", "openai")
    monkeypatch.setenv("ANTIPHON_LLM_FALLBACK", '[{"provider": "fake"}]')
    status, found, _ = doctor()
    assert status == 1
    assert [each["status"] for each in found["answers"]] == ["missing", "ok"]
    assert "set OPENAI_API_KEY" in found["answers"][0]["text"]


def test_keys_are_named_and_never_shown(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", KEY)
    monkeypatch.setenv("ANTIPHON_LLM_PROVIDER", "openai")
    monkeypatch.setenv("ANTIPHON_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("ANTIPHON_LLM_MODEL", "x")
    status, found, out = doctor()
    assert status == 1
    assert "set: OPENAI_API_KEY" in found["keys"][0]["text"]
    assert "llm.unreachable" in found["answers"][0]["text"]
    assert "public_url" in found["twilio"][1]["text"]
    assert KEY not in out


class _Health(BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Health]]:
    server = HTTPServer(("127.0.0.1", 0), _Health)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("ANTIPHON_SERVER_PORT", str(server.server_port))
    yield _Health
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_port_is_ours_or_anothers_or_free(doctor, served: type[_Health], monkeypatch: pytest.MonkeyPatch) -> None:
    served.body = b'{"service": "orchestrator", "status": "healthy", "active_sessions": 3}'
    status, found, _ = doctor("--quick")
    assert (status, found["port"][0]["status"]) == (0, "ok")
    assert "healthy, 3 calls" in found["port"][0]["text"]
    served.body = b"<html>hello</html>"
    status, found, _ = doctor("--quick")
    assert (status, found["port"][0]["status"]) == (1, "missing")
    assert found["port"][0]["fix"].startswith("antiphon serve --port ")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    monkeypatch.setenv("ANTIPHON_SERVER_PORT", str(number))
    assert "is free" in doctor("--quick")[1]["port"][0]["text"]


def test_a_journal_that_cannot_be_written_is_missing(doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine.os, "access", lambda path, mode: False)
    status, found, _ = doctor("--quick")
    assert status == 1
    assert found["journal"][0]["fix"].startswith("export ANTIPHON_JOURNAL=")
    assert not (tmp_path / ".antiphon").exists()


def test_too_few_open_files_are_noted_with_the_command(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_SESSIONS", "100000")
    monkeypatch.setattr("resource.getrlimit", lambda what: (1024, 4096))
    _, found, _ = doctor("--quick")
    assert found["open files"][0] == {
        "area": "open files",
        "status": "note",
        "text": "1024 allowed: room for about 768 of 100000 calls",
        "fix": "ulimit -n 100256",
    }


def test_the_table_lists_what_mends_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_RETRIEVAL_PROVIDER", "nonsense")
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "!!  retrieval   [config.unknown_provider]" in out
    assert "1 needed part is missing." in out
    monkeypatch.setenv("ANTIPHON_RETRIEVAL_PROVIDER", "fake")
    assert cli.main(["doctor", "--quick"]) == 0
    assert "Everything needed is there" in capsys.readouterr().out
