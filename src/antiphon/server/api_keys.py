"""API keys: what an operator's programs show. They may begin sessions, list them and read all of them.

A key is never kept: what is compared is its SHA-256, in constant time. A plain hash is enough because keys are made
at random (256 bits), so there is no dictionary to try; short ones are refused.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256

from antiphon.errors import ConfigError
from antiphon.secret import Secret, listed

KEY_PREFIX = "sk_antiphon_"
"""Begins like other vendors' secret keys: scanners of repositories find it, and the log's redaction does too."""

HASHED = "sha256:"
LEAST_CHARACTERS = 24


def new_key() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hashed(key: str) -> str:
    """How the setting may hold a key without holding it."""
    return HASHED + sha256(key.encode()).hexdigest()


class ApiKeys:
    """Those of ``server.api_keys``: keys, or ``sha256:<hex>`` of keys. Raises ``ConfigError``."""

    def __init__(self, setting: Secret) -> None:
        self._digests = tuple(_digest(each.reveal()) for each in listed(setting))

    def __bool__(self) -> bool:
        return bool(self._digests)

    def know(self, given: str) -> bool:
        digest = sha256(given.encode("utf-8", "surrogatepass")).digest()
        # All of them, so that the time does not tell which it was.
        matches = [hmac.compare_digest(digest, each) for each in self._digests]
        return any(matches)


def _digest(setting: str) -> bytes:
    if setting.startswith(HASHED):
        try:
            digest = bytes.fromhex(setting.removeprefix(HASHED))
        except ValueError:
            digest = b""
        if len(digest) != sha256().digest_size:
            raise ConfigError(
                f"server.api_keys: {HASHED} is followed by 64 hexadecimal digits: `antiphon keys new` makes one",
                code="config.bad_value",
            )
        return digest
    if len(setting) < LEAST_CHARACTERS or not setting.isascii() or not setting.isprintable():
        raise ConfigError(
            f"server.api_keys: a key is {LEAST_CHARACTERS} characters of ASCII or more: `antiphon keys new` makes one",
            code="config.bad_value",
        )
    return sha256(setting.encode()).digest()
