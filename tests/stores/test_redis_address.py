"""Redis URLs, the words of a Redis, and which journal a place means; no server is needed, and no password shown."""

import pickle
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import ConfigError, MissingExtra, StoreError
from antiphon.secret import has_password
from antiphon.stores import choice, redis_link
from antiphon.stores.redis import RedisJournal
from antiphon.stores.redis_address import parse
from antiphon.stores.redis_errors import KINDS, coded, explain
from antiphon.stores.redis_link import describe
from antiphon.stores.sqlite import SqliteJournal

PASSWORD = "do-not-show-me"


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("redis://", "server", "localhost:6379"),
        ("redis://localhost", "server", "localhost:6379"),
        ("redis://redis:6379/0", "server", "redis:6379"),
        ("rediss://user:pass@cache.example.org:6390/2", "server", "cache.example.org:6390/2"),
        ("redis://[::1]:7000?db=4", "server", "[::1]:7000/4"),
        ("redis+cluster://a", "cluster", "a:6379"),
        ("rediss+cluster://:p@a:1/0", "cluster", "a:1"),
        ("unix:///run/redis/redis.sock?db=1&password=x", "socket", "/run/redis/redis.sock"),
    ],
)
def test_urls_are_read_x12(url: str, kind: str, shown: str) -> None:
    address = parse(url)
    assert (address.kind, address.shown, address.tls) == (kind, shown, url.startswith("rediss"))
    assert has_password(url) == bool(address.password)


def test_users_passwords_and_options() -> None:
    address = parse("redis://us%40er:p%2Fa%40s%23s@h:1/3?socket_timeout=2.5&max_connections=8&ssl_check_hostname=false")
    assert (address.username, address.password.reveal()) == ("us@er", "p/a@s#s")
    options = address.options
    assert (options.db, options.socket_timeout, options.max_connections) == (3, 2.5, 8)
    assert options.ssl_check_hostname is False
    assert "p/a" not in repr(address)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://h", r"begins with redis\+cluster://, redis://"),
        (f"redis://:{PASSWORD}/x@h", "%2F"),
        (f"redis://:{PASSWORD}#x@h", "%2F"),
        (f"redis://:{PASSWORD}@h#x", "%23"),
        (f"redis://:{PASSWORD}@h:port", "port"),
        (f"redis://:{PASSWORD}@[::1", "host"),
        (f"redis://:{PASSWORD}@h/name", "number"),
        (f"redis://:{PASSWORD}@h?timeout=soon", "timeout"),
        (f"redis://:{PASSWORD}@h?socket_timeout=soon", r"socket_timeout"),
        (f"redis://:{PASSWORD}@h?socket_timeout=0", r"socket_timeout"),
        (f"redis+cluster://:{PASSWORD}@h/1", "database 0 only"),
        (f"unix://?password={PASSWORD}", "socket"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse(url)
    assert caught.value.code == "config.bad_value"
    assert "redis://:password@host:6379/0" in str(caught.value)
    assert PASSWORD not in f"{caught.value}{caught.value.__cause__}"


@given(st.text(max_size=60), st.sampled_from(["redis", "rediss", "redis+cluster", "unix", "", "x"]))
def test_any_text_is_an_address_or_a_config_error(text: str, scheme: str) -> None:
    try:
        shown = parse(f"{scheme}://{text}").shown
    except ConfigError as error:
        shown = str(error)
    assert 0 < len(shown) < 400


@given(st.text(st.characters(codec="ascii", exclude_characters="/?#@%[]", exclude_categories=["C", "Z"]), min_size=6))
def test_a_password_is_never_shown(password: str) -> None:
    url = f"redis://:{password}xyzzy@h"
    assert has_password(url)
    assert "xyzzy" not in f"{parse(url)!r} {choice.shown(url)} {RedisJournal(url)!r} {vars(RedisJournal(url))}"


def test_an_address_is_not_written_anywhere() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(parse(f"redis://:{PASSWORD}@h").password)


# -- what a Redis says ------------------------------------------------------------------------------


class _Said(Exception):
    pass


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "store.full"),
        ("ERR Error running script (call to f_1): @user_script:3: -OOM command not allowed", "store.full"),
        ("READONLY You can't write against a read only replica.", "store.read_only"),
        ("ERR Error running script: @user_script:1: -READONLY You can't write", "store.read_only"),
        ("MISCONF Redis is configured to save RDB snapshots", "store.io"),
        ("NOREPLICAS Not enough good replicas to write.", "store.no_replicas"),
        ("NOAUTH Authentication required.", "store.denied"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "store.denied"),
        ("NOPERM this user has no permissions", "store.denied"),
        ("LOADING Redis is loading the dataset in memory", "store.loading"),
        ("MASTERDOWN Link with MASTER is down", "store.loading"),
        ("BUSY Redis is busy running a script", "store.busy"),
        ("ERR max number of clients reached", "store.busy"),
        ("MOVED 3999 127.0.0.1:6381", "store.is_cluster"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "store.is_cluster"),
        ("ERR This instance has cluster support disabled", "store.not_cluster"),
        ("CLUSTERDOWN Hash slot not served", "store.unreachable"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "store.not_journal"),
        ("ERR unknown command 'EVALSHA'", "store.not_redis"),
        ("ERR something new", "store.failed"),
    ],
)
def test_every_word_of_a_redis_has_a_code_and_says_where(said: str, code: str) -> None:
    error = explain(_Said(said), "redis.example.org:6379")
    assert error.code == code
    assert "redis.example.org:6379" in str(error)
    assert len(str(explain(_Said(said * 100), "h:1"))) < 500, "whatever it says is bounded"


def test_the_errors_of_the_library_are_told_apart_by_their_kind() -> None:
    import redis.exceptions as theirs

    expected = {
        "ReadOnlyError": "store.read_only",
        "OutOfMemoryError": "store.full",
        "AuthenticationError": "store.denied",
        "NoPermissionError": "store.denied",
        "BusyLoadingError": "store.loading",
        "MaxConnectionsError": "store.busy",
        "TimeoutError": "store.timeout",
        "InvalidResponse": "store.not_redis",
        "ConnectionError": "store.unreachable",
        "ClusterDownError": "store.unreachable",
        "RedisClusterException": "store.unreachable",
    }
    for name, code in expected.items():
        assert explain(getattr(theirs, name)("why"), "h:1").code == code, name
    known = {name for kind in KINDS for name in kind.names}
    assert known - set(vars(theirs)) == {"OSError", "UnicodeDecodeError"}, "no class is named that does not exist"
    for each in (TimeoutError(), OSError("unreachable"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no")):
        assert explain(each, "h:1").code != "store.failed"


def test_every_kind_says_what_to_do() -> None:
    for kind in KINDS:
        text = str(coded(kind.code, "h:1"))
        assert isinstance(coded(kind.code, "h:1"), StoreError)
        assert re.search(r"h:1.*[:?] ?\S|by itself", text), text


def test_what_info_says() -> None:
    info = {"redis_version": "7.0.15", "role": "master", "maxmemory_policy": "noeviction", "aof_enabled": 1}
    assert describe(info, "h:1").traits == ()
    assert describe({}, "h:1").traits == ()
    worse = describe({**info, "role": "slave", "maxmemory_policy": "volatile-ttl", "aof_enabled": 0}, "h:1")
    assert worse.is_replica
    assert [trait.kind for trait in worse.traits] == ["evicts", "forgets"]


# -- which journal ----------------------------------------------------------------------------------


def test_a_place_is_a_file_or_a_url() -> None:
    for path in ("a.sqlite", "/x/y", "C:\\journal", "", "x:/y", "a b://c", "./redis://x"):
        assert not choice.is_url(path)
        assert isinstance(choice.open_journal(path or "j"), SqliteJournal)
    for url in ("redis://h", "rediss+cluster://h", "unix:///s"):
        assert choice.is_url(url)
        assert isinstance(choice.open_journal(url), RedisJournal)
    with pytest.raises(ConfigError, match=r"no journal for mysql:// addresses: .*redis://") as caught:
        choice.open_journal(f"mysql://root:{PASSWORD}@h")
    assert PASSWORD not in str(caught.value)
    assert choice.shown("journal.sqlite") == "journal.sqlite"
    assert choice.shown(f"redis://:{PASSWORD}@h:1/2?socket_timeout=2") == "redis://h:1/2"


def test_without_the_package_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=re.escape('pip install "antiphon[redis]"')):
        choice.open_journal("redis://localhost")


def test_nobody_who_keeps_a_file_waits_for_the_package() -> None:
    code = "import sys, antiphon.assembly, antiphon.config; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
