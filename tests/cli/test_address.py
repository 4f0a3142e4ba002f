"""Where an agent is called, and where a server may listen."""

import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.cli.address import check_listening, completed, is_own, own_url
from antiphon.config import ServerSettings
from antiphon.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ws://127.0.0.1:8004/media-stream", "ws://127.0.0.1:8004/media-stream"),
        ("http://127.0.0.1:8004/", "ws://127.0.0.1:8004/media-stream"),
        ("HTTPS://voice.example.org", "wss://voice.example.org/media-stream"),
        ("127.0.0.1:8004", "ws://127.0.0.1:8004/media-stream"),
        ("localhost", "ws://localhost/media-stream"),
        ("[::1]:8004", "ws://[::1]:8004/media-stream"),
        ("wss://x.org/other?a=b", "wss://x.org/other?a=b"),
    ],
)
def test_an_address_is_completed(typed: str, meant: str):
    assert completed(typed) == meant


@pytest.mark.parametrize("typed", ["", "ftp://x", "ws://", "ws://x:port/", "ws://x:99999", "a b", "ws://[::1/", "://x"])
def test_what_is_no_address_is_refused(typed: str):
    with pytest.raises(ConfigError, match="--url takes ws://"):
        completed(typed)


@given(st.text(max_size=60))
def test_an_address_is_completed_or_refused_and_never_changed_again(typed: str):
    try:
        found = completed(typed)
    except ConfigError:
        return
    assert found.startswith(("ws://", "wss://"))
    assert completed(found) == found
    is_own(found)


@pytest.mark.parametrize(
    ("server", "url"),
    [
        (ServerSettings(), "ws://127.0.0.1:8004/media-stream"),
        (ServerSettings(host="0.0.0.0", port=9), "ws://127.0.0.1:9/media-stream"),  # noqa: S104
        (ServerSettings(host="::", port=9), "ws://[::1]:9/media-stream"),
        (ServerSettings(tls_cert="a", tls_key="b"), "wss://127.0.0.1:8004/media-stream"),
    ],
)
def test_the_settings_say_where_the_server_is(server: ServerSettings, url: str):
    assert own_url(server) == url
    assert is_own(url)
    assert not is_own("wss://voice.example.org/media-stream")


def test_a_free_port_of_this_machine_is_no_complaint():
    check_listening(ServerSettings(port=0))
    check_listening(ServerSettings(host="localhost", port=0))
    check_listening(ServerSettings(host="", port=0))


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*: choose another with --port"):
            check_listening(ServerSettings(port=port))
    check_listening(ServerSettings(port=port))


@pytest.mark.parametrize("host", ["a b", "no-such-host.invalid", "192.0.2.7", "x" * 300, "b\x00d"])
def test_a_host_that_is_none_of_ours_is_told(host: str):
    with pytest.raises(ConfigError, match=r"is no address of this machine: 127\.0\.0\.1 lets this machine in"):
        check_listening(ServerSettings(host=host))


def test_a_port_of_the_administrators_is_told(monkeypatch: pytest.MonkeyPatch):
    def refused(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refused)
    with pytest.raises(ConfigError, match="below 1024"):
        check_listening(ServerSettings(port=80))
