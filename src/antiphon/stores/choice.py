"""Which journal a place means: a path is a SQLite file, a URL is that of a server."""

from __future__ import annotations

from typing import Any, Final, Literal

from antiphon.errors import ConfigError
from antiphon.runtime.ports import Journal
from antiphon.secret import Secret
from antiphon.stores.sqlite import SqliteJournal
from antiphon.stores.sqlite_file import Synchronous

Access = Literal["write", "read"]

COMMAND_LINE: Final = "command line"


def is_url(place: str) -> bool:
    """True for ``scheme://...``; a path has no colon before its first slashes."""
    scheme, found, _ = place.partition("://")
    return bool(found) and scheme.replace("+", "").isalpha()


def settle(table: dict[str, Any], origins: dict[tuple[str, str], str]) -> None:
    """Brings ``path`` and ``url`` of the settings to one place; ``origins`` tell those that are not from the file.

    A URL may stand where the path does. A path on the command line wins over any URL, else a URL wins; of two
    in the environment that under Antiphon's own name, not ``REDIS_URL``.

    Raises ``ConfigError`` for a ``url`` that is none: without its scheme it would be the name of a file.
    """
    path, url = ("journal", "path"), ("journal", "url")
    place, origin = str(table.get("path", "")), origins.get(path, "")
    if is_url(place):
        del table["path"]
        origins.pop(path, None)
        if origin or url not in origins:
            table["url"] = place
            origins[url] = origin or "settings file"
    elif origin == COMMAND_LINE:
        table["url"] = ""
        origins.pop(url, None)
    named = table.get("url")
    told = named.reveal() if isinstance(named, Secret) else named
    if isinstance(told, str) and told.strip() and not is_url(told):
        raise ConfigError(
            f"{origins.get(url, 'settings file')}: journal.url is no URL; one looks like redis://host:6379/0 "
            "(a file's name is journal.path, ANTIPHON_JOURNAL)",
            code="config.bad_value",
        )


def open_journal(
    place: str,
    *,
    access: Access = "write",
    synchronous: Synchronous = "full",
    keep_days: int = 0,
    busy_s: float = 1.0,
    ttl_s: float = 3600.0,
) -> Journal:
    """The journal at ``place``, not started. ``synchronous``, ``keep_days`` and ``busy_s`` (how long it waits for
    another writer) are for a file, ``ttl_s`` for a server, which forgets by itself.

    Raises ``ConfigError`` for a URL of no known kind, and ``MissingExtra``.
    """
    if not is_url(place):
        return SqliteJournal(place, synchronous, access=access, busy_s=busy_s, keep_days=keep_days)
    from antiphon.stores.redis import RedisJournal  # noqa: PLC0415 - who has no URL need not wait for it
    from antiphon.stores.redis_address import SCHEMES  # noqa: PLC0415

    scheme = place.partition("://")[0]
    if scheme not in SCHEMES:
        known = ", ".join(sorted(f"{each}://" for each in SCHEMES))
        raise ConfigError(
            f"[journal] there is no journal for {scheme}:// addresses: {known}, or the path of a SQLite file",
            code="config.bad_value",
        )
    return RedisJournal(place, ttl_s=ttl_s, access=access)


def shown(place: str) -> str:
    """The place for a person: a URL without user and password. Raises ``ConfigError``."""
    if not is_url(place):
        return place
    from antiphon.stores.redis_address import parse  # noqa: PLC0415

    scheme = place.partition("://")[0]
    return f"{scheme}://{parse(place).shown}"
