"""``antiphon doctor``: what is there is ok, what is missing is named with what mends it, and keys are never shown."""

import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from antiphon import cli
from antiphon.cli import doctor_keys, doctor_machine

KEY = "sk-do-not-show-me-123456"


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*doctor_keys.KEYS, "TWILIO_AUTH_TOKEN", "ANTIPHON_JOURNAL"):
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


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[policy]\nsilnce_ms = 3", "[policy] has no silnce_ms"),
        ("[policy]\nsilence_ms = -3", "policy.silence_ms must not be negative"),
        ("[policy]\nfiller_ms = 5000", "policy.filler_ms must be less than policy.reply_ms"),
    ],
)
def test_a_policy_that_cannot_be_is_found(doctor, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "antiphon.toml").write_text(text)
    status, found, _ = doctor("--quick")
    assert status == 1
    (finding,) = found["policy"]
    assert finding["status"] == "missing"
    assert says in finding["text"]


def test_a_policy_that_can_be_is_named(doctor, tmp_path: Path) -> None:
    (tmp_path / "antiphon.toml").write_text("[policy]\nsilence_ms = 3000")
    assert doctor("--quick")[1]["policy"] == [
        {"area": "policy", "status": "ok", "text": "changed: silence_ms", "fix": ""}
    ]


@pytest.mark.parametrize(
    ("url", "status", "says"),
    [
        ("https://voice.example.org", "ok", "calls come in at https://voice.example.org/voice"),
        ("https://voice.example.org/", "ok", "calls come in at https://voice.example.org/voice"),
        (
            "https://example.org/agent",
            "note",
            "has the path /agent: the proxy must pass https://example.org/agent/voice on as /voice",
        ),
        ("https://example.org?x=1", "missing", "must look like https://voice.example.org"),
    ],
)
def test_the_public_address_is_looked_at(
    doctor, monkeypatch: pytest.MonkeyPatch, url: str, status: str, says: str
) -> None:
    monkeypatch.setenv("ANTIPHON_SERVER_PUBLIC_URL", url)
    (finding,) = doctor("--quick")[1]["address"]
    assert finding["status"] == status
    assert says in finding["text"]


def test_quick_tries_nothing(doctor) -> None:
    _, found, _ = doctor("--quick")
    assert "voices" not in found
    assert "journal" in found
    assert found["providers"][0]["text"] == "stt fake, llm fake, tts fake, intent fake, retrieval fake"
    assert found["knowledge"][0]["text"].startswith("the demo: ")


def test_a_knowledge_base_is_looked_at_without_a_trial(doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_RETRIEVAL_PROVIDER", "lexical")
    monkeypatch.setenv("ANTIPHON_RETRIEVAL_KNOWLEDGE", str(tmp_path / "none.toml"))
    status, found, _ = doctor("--quick")
    assert status == 1
    [lack] = found["knowledge"]
    assert lack["status"] == "missing"
    assert "none.toml" in lack["text"]
    assert {each["status"] for each in found["providers"]} == {"ok"}, "one file, one complaint"
    (tmp_path / "none.toml").write_text(
        'title = "x"\nlanguage = "en-IN"\n'
        '[[entry]]\nid = "a"\ntopic = "t"\nquestion = "Q?"\nanswer = "A."\nsource = "s"\n'
    )
    status, found, _ = doctor("--quick")
    assert (status, found["knowledge"][0]["text"]) == (0, f"{tmp_path / 'none.toml'}: 1 entry in en-IN")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("ANTIPHON_LLM_PROVIDER", "nonsense", "[llm] [config.unknown_provider]"),
        ("ANTIPHON_TTS_MODLE", "x", "[tts] [config.unknown_key]"),
        ("ANTIPHON_STT_PROVIDER", "livekit", "plugin must be set"),
    ],
)
def test_a_provider_that_cannot_be_built_is_found_without_a_trial(
    doctor, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    status, found, _ = doctor("--quick")
    assert status == 1
    [lack] = [each for each in found["providers"] if each["status"] == "missing"]
    assert told in lack["text"]


def test_a_language_that_nobody_hears_is_noted(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "languages" not in doctor("--quick")[1]
    monkeypatch.setenv("ANTIPHON_STT_PROVIDER", "pocketsphinx")
    monkeypatch.setenv("ANTIPHON_LANGUAGES_OFFERED", "en-IN,hi-IN")
    status, found, _ = doctor("--quick")
    assert (status, found["languages"][0]["status"]) == (0, "note")
    assert "pocketsphinx cannot hear hi-IN" in found["languages"][0]["text"]
    assert '[languages] offered = ["en-IN"]' in found["languages"][0]["fix"]
    monkeypatch.setenv("ANTIPHON_STT_FALLBACK", '[{"provider": "fake"}]')
    assert "languages" not in doctor("--quick")[1], "another one of the chain may hear it"


@pytest.mark.parametrize(
    ("place", "expected"),
    [(".", ("missing", "is a folder")), ("empty", ("ok", "is empty yet")), ("new", ("ok", "will be created"))],
)
def test_where_the_journal_is_to_be(
    doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, expected: tuple[str, str]
) -> None:
    status, told = expected
    (tmp_path / "empty").touch()
    monkeypatch.setenv("ANTIPHON_JOURNAL", str(tmp_path / place))
    [found] = doctor("--quick")[1]["journal"]
    assert found["status"] == status
    assert told in found["text"]
    assert bool(found["fix"]) == (status == "missing")


def test_tls_files_that_cannot_be_read(doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cert.pem").touch()
    monkeypatch.setenv("ANTIPHON_SERVER_TLS_CERT", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("ANTIPHON_SERVER_TLS_KEY", str(tmp_path / "key.pem"))
    status, found, _ = doctor("--quick")
    assert (status, [each["text"] for each in found["tls"]]) == (
        1,
        [f"[server] tls_key: {tmp_path / 'key.pem'} cannot be read"],
    )


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
    assert [each["status"] for each in found["answers"]] == ["note", "ok"]
    assert "set OPENAI_API_KEY" in found["answers"][0]["text"]
    assert [each["fix"] for each in found["keys"] if each["status"] == "missing"] == ["export OPENAI_API_KEY=..."]


@pytest.mark.parametrize(
    ("chosen", "variable", "users"),
    [
        ({"STT": "sarvam"}, "SARVAM_API_KEY", "stt sarvam"),
        ({"STT": "sarvam", "TTS": "sarvam"}, "SARVAM_API_KEY", "stt sarvam and tts sarvam"),
        ({"STT": "whisper"}, "OPENAI_API_KEY", "stt whisper"),
        ({"LLM": "openai", "STT": "whisper"}, "OPENAI_API_KEY", "stt whisper and llm openai"),
        ({"LLM": "gemini"}, "GEMINI_API_KEY", "llm gemini"),
        ({"TTS": "elevenlabs"}, "ELEVENLABS_API_KEY", "tts elevenlabs"),
    ],
)
def test_a_key_that_is_needed_is_named_with_who_needs_it(
    doctor, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], variable: str, users: str
) -> None:
    for kind, name in chosen.items():
        monkeypatch.setenv(f"ANTIPHON_{kind}_PROVIDER", name)
    status, found, _ = doctor("--quick")
    assert status == 1
    [lack] = [each for area in found.values() for each in area if each["status"] == "missing"]
    assert lack == {
        "area": "keys",
        "status": "missing",
        "text": f"{variable} is not set, {users} need{'' if ' and ' in users else 's'} it",
        "fix": f"export {variable}=...",
    }
    assert variable not in found["keys"][-1]["text"], "the others are not needed"
    monkeypatch.setenv(variable, KEY)
    status, found, out = doctor("--quick")
    assert (status, found["keys"][0]["text"]) == (0, f"set: {variable}")
    assert KEY not in out


def test_a_preset_has_a_key_of_its_own(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_STT_PROVIDER", "whisper")
    monkeypatch.setenv("ANTIPHON_STT_PRESET", "groq")
    assert [each["fix"] for each in doctor("--quick")[1]["keys"] if each["fix"]] == ["export GROQ_API_KEY=..."]
    monkeypatch.setenv("ANTIPHON_STT_PRESET", "speaches")
    assert doctor("--quick")[0] == 0, "a server of one's own needs none"


def test_a_livekit_plugin_may_keep_its_key_in_any_variable(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_STT_PROVIDER", "livekit")
    monkeypatch.setenv("ANTIPHON_STT_PLUGIN", "livekit.plugins.deepgram:STT")
    assert doctor("--quick")[0] == 0, "the plugin looks for it by itself"
    monkeypatch.setenv("ANTIPHON_STT_API_KEY_ENV", "OUR_DEEPGRAM_KEY")
    status, found, _ = doctor("--quick")
    assert (status, [each["fix"] for each in found["keys"] if each["fix"]]) == (1, ["export OUR_DEEPGRAM_KEY=..."])


@pytest.mark.parametrize(
    ("kind", "provider", "absent", "fix"),
    [
        ("STT", "faster_whisper", "faster_whisper", 'pip install "antiphon[whisper]"'),
        ("TTS", "piper", "piper", 'pip install "antiphon[piper]"'),
        ("STT", "livekit", "livekit.agents", 'pip install "antiphon[livekit]"'),
        ("LLM", "livekit", "livekit.agents", 'pip install "antiphon[livekit]"'),
        ("TTS", "livekit", "livekit.plugins.cartesia", "pip install livekit-plugins-cartesia"),
    ],
)
def test_a_package_that_is_needed_is_named_with_the_command(
    doctor, monkeypatch: pytest.MonkeyPatch, *, kind: str, provider: str, absent: str, fix: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == absent else True)
    noted = [each["fix"] for each in doctor("--quick")[1]["packages"] if each["status"] == "note"]
    assert (fix in noted) == ("plugins" not in absent)
    monkeypatch.setenv(f"ANTIPHON_{kind}_PROVIDER", provider)
    if provider == "livekit":
        monkeypatch.setenv(f"ANTIPHON_{kind}_PLUGIN", f"livekit.plugins.cartesia:{kind}")
    status, found, _ = doctor("--quick")
    assert status == 1
    [lack] = [each for each in found["packages"] if each["status"] == "missing"]
    assert lack["fix"] == fix
    assert f"{kind.lower()}.{provider} needs it" in lack["text"]


def test_a_package_whose_parent_is_not_there_either(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without_livekit(name: str) -> object:
        if name.startswith("livekit."):
            raise ModuleNotFoundError(name)
        return find(name)

    monkeypatch.setattr("importlib.util.find_spec", without_livekit)
    status, found, _ = doctor("--quick")
    assert status == 0
    assert any("livekit-agents is not installed" in each["text"] for each in found["packages"])


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


def test_lines_read_in_python_are_noted_with_what_to_do(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.cli.doctor_machine.is_compiled", lambda: False)
    _, found, _ = doctor("--quick")
    (note,) = found["phone lines"]
    assert note["status"] == "note"
    assert "without a C compiler" in note["text"]
    assert "apt install gcc" in note["fix"]


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
