"""``calls``, ``show``, ``replay`` and ``doctor`` on a journal that is a Redis; its password is never shown."""

import argparse
import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_redis import Redis, free_port, redis
from test_journal_commands import a_call, otherwise

from antiphon import cli
from antiphon.cli import calls, journal_source, replay, serve, show
from antiphon.config import JournalSettings, Settings
from antiphon.errors import StoreError
from antiphon.kernel import events as ev
from antiphon.runtime.ports import Batch
from antiphon.secret import Secret
from antiphon.stores.redis import RedisJournal

pytestmark = pytest.mark.needs("redis-server")

PASSWORD = "do-not-show-me"
Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with redis(tmp_path_factory.mktemp("redis"), requirepass=PASSWORD) as server:
        calls = {"CA1": a_call("CA1"), "CA2": a_call("CA2", "नमस्ते"), "MZ9": otherwise(a_call("MZ9"), 4)}
        asyncio.run(write(url_of(server), calls))
        yield server


def url_of(server: Redis) -> str:
    return f"redis://:{PASSWORD}@127.0.0.1:{server.port}"


async def write(url: str, journals: dict[str, list[ev.Entry]]) -> None:
    journal = RedisJournal(url)
    await journal.start()
    for session, entries in journals.items():
        epoch = await journal.claim(session)
        assert await journal.append([Batch(session, epoch, 0, tuple(entries))]) == [None]
    await journal.close()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "ANTIPHON_JOURNAL"):
        monkeypatch.delenv(name, raising=False)


def run(module: object, *argv: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)  # type: ignore[attr-defined]
    status: int = module.run(parser.parse_args(argv))  # type: ignore[attr-defined]
    return status


def test_calls_show_and_replay_read_a_redis(server: Redis, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(calls, "--journal", url_of(server)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["MZ9", "closed"], ["CA2", "closed"], ["CA1", "closed"]]
    monkeypatch.setenv("REDIS_URL", url_of(server))
    assert run(show, "CA2") == 0
    assert "नमस्ते" in capsys.readouterr().out
    assert run(replay, "CA1") == 0
    assert "identical" in capsys.readouterr().out
    assert run(replay, "--all", "--json") == 1
    assert {each["session"]: each["identical"] for each in json.loads(capsys.readouterr().out)} == {
        "MZ9": False,
        "CA2": True,
        "CA1": True,
    }
    assert run(show, "nobody") == 2
    assert "[store.unknown_session]" in capsys.readouterr().err


def test_a_redis_that_cannot_be_read_is_told_without_the_password(server: Redis, capsys: Output) -> None:
    for url, code in (
        (f"redis://:{PASSWORD}-2@127.0.0.1:{server.port}", "store.denied"),
        (f"redis://:{PASSWORD}@127.0.0.1:{free_port()}", "store.unreachable"),
        (f"redis+cluster://:{PASSWORD}@127.0.0.1:{server.port}", "store.not_cluster"),
        (f"mysql://:{PASSWORD}@127.0.0.1", "config.bad_value"),
    ):
        assert run(calls, "--journal", url) == 2
        said = capsys.readouterr()
        assert f"[{code}]" in said.err, said.err
        assert PASSWORD not in said.out + said.err


def test_the_place_may_be_a_url(server: Redis, tmp_path: Path) -> None:
    args = argparse.Namespace(journal=None)
    assert journal_source.journal_place(args, {"REDIS_URL": "redis://a"}) == "redis://a"
    named = argparse.Namespace(journal="b.sqlite")
    assert journal_source.journal_place(named, {"REDIS_URL": "redis://a"}) == "b.sqlite"


def findings(capsys: Output, area: str) -> tuple[int, list[dict[str, str]]]:
    status = cli.main(["doctor", "--quick", "--json"])
    out = capsys.readouterr().out
    assert PASSWORD not in out
    return status, [each for each in json.loads(out)["findings"] if each["area"] == area]


def test_doctor_looks_at_the_redis(server: Redis, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("STT", "LLM", "TTS", "INTENT", "RETRIEVAL"):
        monkeypatch.setenv(f"ANTIPHON_{kind}_PROVIDER", "fake")
    monkeypatch.setenv("ANTIPHON_SERVER_PORT", "0")
    monkeypatch.setenv("REDIS_URL", url_of(server))
    status, [found] = findings(capsys, "journal")
    assert (status, found["status"]) == (0, "ok")
    assert re.fullmatch(rf"Redis \S+ at 127\.0\.0\.1:{server.port}, last call MZ9", found["text"])
    server.set("maxmemory-policy", "volatile-lru")
    status, [_, note] = findings(capsys, "journal")
    assert (status, note["status"]) == (0, "note")
    assert "CONFIG SET maxmemory-policy noeviction" in note["fix"]
    server.set("maxmemory-policy", "noeviction")
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{server.port}")
    status, [lack] = findings(capsys, "journal")
    assert (status, lack["status"]) == (1, "missing")
    assert "store.denied" in lack["text"]


def test_serve_ends_at_once_where_no_waiting_helps(server: Redis, capsys: Output) -> None:
    def trial(url: str, *, needed: bool) -> None:
        settings = Settings(journal=JournalSettings(url=Secret(url)))
        asyncio.run(serve._try_journal(settings, needed=needed))

    down = f"redis://127.0.0.1:{free_port()}"
    trial(down, needed=False)  # calls go on in memory, and the log says why
    trial(url_of(server), needed=True)
    for url, needed, code in (
        (down, True, "store.unreachable"),
        (url_of(server).replace("redis:", "redis+cluster:"), False, "store.not_cluster"),
    ):
        with pytest.raises(StoreError) as caught:
            trial(url, needed=needed)
        assert caught.value.code == code
    assert capsys.readouterr().err == ""


def test_what_to_do_next_names_the_journal_without_its_password(server: Redis) -> None:
    from antiphon.stores.choice import shown

    lines = "\n".join(serve._what_now("ws://127.0.0.1:8004/media-stream", shown(url_of(server))))
    assert f"antiphon show last --journal redis://127.0.0.1:{server.port}" in lines
    assert PASSWORD not in lines
