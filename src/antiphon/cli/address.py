"""Where an agent answers the phone: from what was typed, or from the settings of the server beside us."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from urllib.parse import urlsplit

from antiphon.config import ServerSettings
from antiphon.errors import ConfigError

MEDIA_PATH = "/media-stream"
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_OWN = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens everywhere listens here too


def media_url(host: str, port: int, *, secure: bool, path: str = MEDIA_PATH) -> str:
    """Where a phone on this machine calls."""
    own = _OWN.get(host, host)
    return f"{'wss' if secure else 'ws'}://{f'[{own}]' if ':' in own else own}:{port}{path}"


def own_url(server: ServerSettings) -> str:
    """The server of these settings. Raises ``ConfigError`` if its port is not known before it runs."""
    if not server.port:
        raise ConfigError(
            "the settings let the server take any free port: name it with --url (`antiphon serve` prints it)"
        )
    return media_url(server.host, server.port, secure=bool(server.tls_cert))


def completed(url: str) -> str:
    """``127.0.0.1:8004`` and ``http://127.0.0.1:8004/`` are the media stream of that server. Raises ``ConfigError``."""
    scheme, found, rest = url.strip().partition("://")
    if not found:
        scheme, rest = "ws", scheme
    try:
        parts = urlsplit(f"{_SCHEMES[scheme.lower()]}://{rest}")
        port = parts.port
    except (KeyError, ValueError):
        parts, port = urlsplit(""), None
    if not parts.hostname or any(char.isspace() for char in url.strip()) or port == 0:
        raise ConfigError(f"--url takes ws://HOST:PORT{MEDIA_PATH} or wss://HOST{MEDIA_PATH}, not {url!r}")
    return parts._replace(path=MEDIA_PATH).geturl() if parts.path in ("", "/") else parts.geturl()


def is_own(url: str) -> bool:
    """True for an address of this machine by name or loopback number."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_listening(server: ServerSettings) -> None:
    """Before anything is loaded: the address is one of this machine's and free. Raises ``ConfigError`` (server.bind).

    It is bound for a moment and not listened on; whether others may reach it is the server's own question.
    """
    try:
        found = socket.getaddrinfo(server.host or None, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise _no_address(server) from None
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as trial:
        if os.name == "posix":  # as the server does: a connection that has just ended is no reason to refuse
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
        except OSError as error:
            raise _not_bound(server, error) from None


def _no_address(server: ServerSettings) -> ConfigError:
    return ConfigError(
        f"--host {server.host!r} is no address of this machine: 127.0.0.1 lets this machine in, "
        "0.0.0.0 every other too (with authentication)",
        code="server.bind",
    )


def _not_bound(server: ServerSettings, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRNOTAVAIL:
        return _no_address(server)
    where, reason = f"{server.host}:{server.port}", os.strerror(error.errno or 0)
    if error.errno == errno.EACCES:
        fix = "ports below 1024 are the administrator's: choose another with --port"
    else:
        fix = "choose another with --port, 0 takes a free one; `antiphon doctor --quick` says who has this one"
    return ConfigError(f"cannot listen on {where}: {reason}: {fix}", code="server.bind")
