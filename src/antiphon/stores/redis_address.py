"""Where a Redis is, from its URL. The URL may hold a password, so no error and no text here ever repeats it.

Forms: ``redis://``, with TLS ``rediss://``, of a cluster ``redis+cluster://`` and ``rediss+cluster://``; then
``[user][:password@][host][:port][/database][?option=value&...]``; and ``unix:///path/of/the/socket``. The first two and
the last are those of the IANA registration "redis" and of redis-py. Without a host it is ``localhost`` (X12).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec
from msgspec import Meta

from antiphon.errors import ConfigError
from antiphon.secret import Secret

SCHEMES: Final = frozenset({"redis", "rediss", "redis+cluster", "rediss+cluster", "unix"})

_EXAMPLE = "redis://:password@host:6379/0"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a URL may say after its ``?``, under the names that redis-py has for it; times in seconds."""

    db: Annotated[int, Meta(ge=0)] = 0
    socket_timeout: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """For an answer: Redis itself waits so long for a disk that is busy (redis.io, "Persistence", ``everysec``).

    A call's own waits are bounded elsewhere; what was sent is sent again, and taken once.
    """
    socket_connect_timeout: Annotated[float, Meta(gt=0, le=60)] = 1.0
    health_check_interval: Annotated[float, Meta(ge=0)] = 0
    max_connections: Annotated[int, Meta(ge=2, le=1000)] = 16
    ssl_ca_certs: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    ssl_cert_reqs: Literal["required", "optional", "none"] = "required"
    ssl_check_hostname: bool = True


class Address(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["server", "cluster", "socket"] = "server"
    tls: bool = False
    host: str = "localhost"
    port: int = 6379
    path: str = ""
    username: str = ""
    password: Secret = Secret("")
    options: Options = Options()

    @property
    def shown(self) -> str:
        """For a person: without user and password."""
        if self.kind == "socket":
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + (f"/{self.options.db}" if self.options.db else "")


def parse(url: str) -> Address:
    """Raises ``ConfigError`` (``config.bad_value``)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad('its host or port cannot be read; a password\'s "/", "?", "#", "@" are written %2F, ...') from None
    if parts.scheme not in SCHEMES:
        raise _bad(f"it begins with {', '.join(sorted(f'{each}://' for each in SCHEMES))}")
    if parts.fragment:
        raise _bad('what follows "#" means nothing there; in a password it is written %23')
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    password = unquote(parts.password or "") or given.pop("password", "")
    who: dict[str, Any] = {"username": unquote(parts.username or ""), "password": Secret(password)}
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise _bad("it names no socket: unix:///run/redis/redis.sock")
        return Address(kind="socket", path=unquote(parts.path), options=_options(given), **who)
    given |= _database(parts)
    cluster = parts.scheme.endswith("+cluster")
    if cluster and given.get("db", "0") != "0":
        raise _bad("a cluster has database 0 only")
    return Address(
        kind="cluster" if cluster else "server",
        tls=parts.scheme.startswith("rediss"),
        host=unquote(parts.hostname or "localhost"),
        port=port or 6379,
        options=_options(given),
        **who,
    )


def _database(parts: SplitResult) -> dict[str, str]:
    name = unquote(parts.path).strip("/")
    if name and not name.isdecimal():
        raise _bad("the database after the host is a number, such as /0")
    return {"db": name} if name else {}


def _options(given: dict[str, str]) -> Options:
    try:
        return msgspec.convert(given, Options, strict=False)
    except msgspec.ValidationError as error:
        raise _bad(f"option: {error}") from None


def _bad(reason: str) -> ConfigError:
    return ConfigError(f"the Redis URL cannot be used: {reason}; one looks like {_EXAMPLE}", code="config.bad_value")
