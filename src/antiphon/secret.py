"""Secrets: values that can be used but not shown.

A secret comes from the environment or from a secrets file (``ANTIPHON_SECRETS_FILE``, one ``KEY=VALUE``
a line), never from the settings file, which people commit and paste.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from antiphon.errors import ConfigError

FILE_VARIABLE = "ANTIPHON_SECRETS_FILE"
MAX_FILE_BYTES = 64 * 1024

_NAMES = frozenset(
    {"api_key", "api_keys", "key", "token", "auth_token", "access_token", "secret", "api_secret", "password"}
)
_ENDINGS = ("_api_key", "_secret", "_password", "_auth_token", "_access_token")

_held: dict[str, str] = {}

_PASSWORD_IN_URL = re.compile(r"(://[^\s/?#@:]*:)[^\s/?#]+(?=@)|([?&]password=)[^\s&]+")


class Secret:
    """Holds one value. Only ``reveal`` gives it out; text, JSON and pickles of it never do."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


def listed(secret: Secret) -> tuple[Secret, ...]:
    """The values of a secret that may hold several, with commas between."""
    return tuple(Secret(value) for each in secret.reveal().split(",") if (value := each.strip()))


def is_secret_name(key: str) -> bool:
    """True for the setting names whose values are secrets, such as ``api_key``."""
    return key in _NAMES or key.endswith(_ENDINGS)


def has_password(text: str) -> bool:
    """True for an address that holds one, such as ``redis://:password@host``."""
    return _PASSWORD_IN_URL.search(text) is not None


def without_password(text: str) -> str:
    """The text with ``***`` for each password within an address."""
    return _PASSWORD_IN_URL.sub(lambda found: f"{found[1] or found[2]}***", text)


def read_secrets(path: str | Path) -> tuple[dict[str, str], list[str]]:
    """Reads ``KEY=VALUE`` lines: blank lines and ``#`` lines are left out, one pair of quotes is taken off.

    Returns the pairs and warnings (a file that others may read). Raises ``ConfigError`` if the file
    cannot be read, is over 64 KiB, or has a line of another form; the text never quotes a line.
    """
    place = Path(path)
    try:
        size, mode = place.stat().st_size, place.stat().st_mode
        if size > MAX_FILE_BYTES:
            raise ConfigError(f"{place}: the secrets file has {size} bytes, at most {MAX_FILE_BYTES} are read")
        text = place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{place}: the secrets file ({FILE_VARIABLE}) cannot be read: {reason}") from None
    warnings = []
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        warnings.append(f"{place}: others on this machine may read the secrets file: run chmod 600 {place}")
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = stripped.removeprefix("export ").partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key.isidentifier():
            raise ConfigError(f"{place}: line {number} is not KEY=VALUE")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[key] = value
    return found, warnings


def hold(values: Mapping[str, str]) -> None:
    """This process has these instead of a secrets file: whoever started it has read the file.

    They do not go into the environment, for every process that is started from here inherits that.
    """
    _held.clear()
    _held.update(values)


def file_secrets(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """What the secrets file says, or what is held in its place, and warnings. Raises as ``read_secrets``."""
    place = environ.get(FILE_VARIABLE)
    return read_secrets(place) if place else (dict(_held), [])


def lookup(name: str, environ: Mapping[str, str] | None = None) -> Secret | None:
    """The secret of that variable name, from the environment or else the secrets file; None if neither has it."""
    env = os.environ if environ is None else environ
    value = env.get(name) or file_secrets(env)[0].get(name, "")
    return Secret(value) if value else None
