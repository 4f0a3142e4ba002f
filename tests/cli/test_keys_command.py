"""``antiphon keys`` and ``antiphon token``: what they make, the server takes. And what ``doctor`` says of access."""

import asyncio
import json

import pytest

from antiphon import config
from antiphon.cli import doctor_keys, main
from antiphon.config import JournalSettings, ServerSettings, Settings
from antiphon.secret import Secret
from antiphon.server.access import access_of
from antiphon.server.api_keys import hashed, new_key
from antiphon.server.tokens import new_secret

Output = pytest.CaptureFixture[str]
OUTSIDE = "203.0.113.9"


def test_new_keys_are_taken_by_a_server_that_is_given_the_printed_lines(capsys: Output) -> None:
    assert main(["keys", "new"]) == 0
    said = capsys.readouterr().out
    lines = [line.strip() for line in said.splitlines()]
    (key,) = [line for line in lines if line.startswith("sk_antiphon_")]
    environ = dict(line.split("=", 1) for line in lines if line.startswith("ANTIPHON_SERVER_"))
    assert set(environ) == {"ANTIPHON_SERVER_API_KEYS", "ANTIPHON_SERVER_TOKEN_SECRET"}
    assert key not in environ["ANTIPHON_SERVER_API_KEYS"], "the server need not know it"
    access = access_of(config.load(environ=environ))
    access.for_operator({"x-api-key": key}, OUTSIDE)
    assert "chmod 600" in said


def test_keys_for_a_script_are_new_each_time(capsys: Output) -> None:
    made = []
    for _ in range(2):
        assert main(["keys", "new", "--json"]) == 0
        made.append(json.loads(capsys.readouterr().out))
    assert made[0].keys() == {"api_key", "api_key_hash", "token_secret"}
    assert made[0]["api_key_hash"] == hashed(made[0]["api_key"])
    assert not set(made[0].values()) & set(made[1].values())


def test_a_token_opens_its_session_at_the_server_with_the_same_secret(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, old = new_secret(), new_secret()
    monkeypatch.setenv("ANTIPHON_SERVER_TOKEN_SECRET", f"{secret},{old}")
    assert main(["token", "test_001"]) == 0
    token = capsys.readouterr().out.strip()
    environ = {"ANTIPHON_SERVER_API_KEYS": new_key(), "ANTIPHON_SERVER_TOKEN_SECRET": secret}
    access_of(config.load(environ=environ)).for_session({"authorization": f"Bearer {token}"}, OUTSIDE, "test_001")


@pytest.mark.parametrize(
    ("secret", "session", "said"),
    [("", "one", "ANTIPHON_SERVER_TOKEN_SECRET"), ("short", "one", "32"), ("x" * 40, "a/b", "session id")],
)
def test_what_no_token_can_be_made_of_is_told(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, secret: str, session: str, said: str
) -> None:
    monkeypatch.setenv("ANTIPHON_SERVER_TOKEN_SECRET", secret)
    assert main(["token", session]) == 2
    error = capsys.readouterr()
    assert said in error.err
    assert error.out == ""


EARNEST = {"host": "0.0.0.0", "api_keys": Secret(new_key()), "token_secret": Secret(new_secret())}  # noqa: S104


@pytest.mark.parametrize(
    ("server", "journal", "found"),
    [
        ({}, "", [("ok", "this machine alone")]),
        ({"host": "0.0.0.0", "allow_open": True}, "", [("note", "0.0.0.0 is open")]),  # noqa: S104
        ({"public_url": "https://v.example.org"}, "", [("note", "no API key is set")]),
        ({"api_keys": Secret("short")}, "", [("missing", "server.api_keys")]),
        ({"token_secret": Secret("short")}, "", [("missing", "server.token_secret")]),
        (EARNEST, "", [("ok", "API key or their token"), ("note", "unencrypted")]),
        ({**EARNEST, "public_url": "https://v.example.org"}, "", [("ok", "API key")]),
        (
            {**EARNEST, "host": "127.0.0.1", "token_secret": Secret("")},
            "redis://127.0.0.1:6379/0",
            [("ok", "API key"), ("note", "no token secret")],
        ),
    ],
)
def test_doctor_says_who_may_begin_and_read_sessions(
    server: dict[str, object], journal: str, found: list[tuple[str, str]]
) -> None:
    settings = Settings(server=ServerSettings(**server), journal=JournalSettings(url=Secret(journal)))  # type: ignore[arg-type]
    findings = [each for each in asyncio.run(doctor_keys.keys(settings)) if each.area == "access"]
    assert [each.status for each in findings] == [status for status, _ in found]
    for finding, (_, text) in zip(findings, found, strict=True):
        assert text in finding.text
        assert finding.fix or finding.status == "ok"
