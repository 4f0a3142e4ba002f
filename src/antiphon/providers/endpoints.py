"""Where a provider on the network is and with which key: checks that all such providers share. No I/O."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from antiphon.errors import ConfigError
from antiphon.secret import FILE_VARIABLE, Secret, lookup


class MissingKey(ConfigError):
    """A service's key is not set. ``variable`` is to hold it, and ``command`` sets that."""

    default_code = "config.missing_key"

    def __init__(self, where: str, variable: str) -> None:
        self.variable = variable
        self.command = f"export {variable}=..."
        super().__init__(
            f"{where}: no API key: set {variable} in the environment or in the file that {FILE_VARIABLE} names"
        )


def check_url(url: str, key: str, where: str, example: str) -> None:
    """Raises ``ConfigError`` unless ``url`` has the scheme of ``example`` (or its twin with TLS) and a host."""
    parts = urlsplit(url)
    schemes = {"ws", "wss"} if example.startswith("ws") else {"http", "https"}
    if parts.scheme not in schemes or not parts.hostname:
        raise ConfigError(f'{where}: {key} must be such as "{example}", not {url!r}')


def api_key(given: Secret, variable: str, where: str, *, needed: bool = True) -> Secret:
    """``given``, else the secret called ``variable`` ("": none). Raises ``MissingKey`` if needed and unset."""
    key = given or (lookup(variable) if variable else None) or Secret("")
    if not key and needed:
        raise MissingKey(where, variable)
    return key


def proxy_for(url: str) -> str | None:
    """The proxy the environment names for this URL (``HTTPS_PROXY`` ...); never one for this machine itself."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    host = parts.hostname or ""
    if host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback):
        return None
    proxies: dict[str, str] = getproxies_environment()
    return None if proxy_bypass_environment(host) else proxies.get(scheme)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
