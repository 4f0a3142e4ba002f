"""Who may open a phone line: Twilio's signature, one-time stream tokens, or this machine itself.

Signature (Twilio, "Webhooks security"): base64 of HMAC-SHA1, keyed by the account's auth token, over the full URL as
Twilio requested it followed by every POST parameter's name and value, sorted by name, without separators.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from antiphon.errors import NotAllowed
from antiphon.transports.twilio_settings import PhoneSettings

SIGNATURE_HEADER = "x-twilio-signature"
_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip")
_TOKENS_REMEMBERED = 20_000


def signature(auth_token: str, url: str, parameters: Iterable[tuple[str, str]] = ()) -> str:
    """A parameter sent twice with the same value counts once, as in Twilio's own libraries."""
    text = url + "".join(name + value for name, value in sorted(set(parameters)))
    digest = hmac.digest(auth_token.encode(), text.encode("utf-8", "surrogatepass"), hashlib.sha1)
    return b64encode(digest).decode()


def signed_by_twilio(auth_token: str, urls: Iterable[str], parameters: Iterable[tuple[str, str]], given: str) -> bool:
    """True if ``given`` is the signature of one of ``urls``. Constant time in the signature's content."""
    pairs = tuple(parameters)
    claimed = given.encode("utf-8", "surrogatepass")
    matches = [hmac.compare_digest(signature(auth_token, url, pairs).encode(), claimed) for url in urls]
    return any(matches)


def url_variants(url: str, *, slash: bool = False) -> list[str]:
    """The same address as senders may write it: with and without its default port; ``slash``: also ended by ``/``.

    Twilio is not consistent about the port, and appends a slash to the URL of some stream upgrades.
    """
    parts = urlsplit(url)
    default = {"https": 443, "wss": 443, "http": 80, "ws": 80}.get(parts.scheme, 0)
    variants = [url]
    if parts.port is None:
        variants.append(parts._replace(netloc=f"{parts.netloc}:{default}").geturl())
    elif parts.port == default:
        variants.append(parts._replace(netloc=parts.netloc.rpartition(":")[0]).geturl())
    if slash:
        variants += [variant + "/" for variant in variants if not variant.endswith("/")]
    return variants


def from_this_machine(client: str, headers: Mapping[str, str]) -> bool:
    """True for a direct loopback connection that no proxy passed on and no foreign web page opened.

    A tunnel such as ngrok makes the whole world look like loopback: its forwarding headers give it away. A browser
    names the page that opens a socket in ``Origin``.
    """
    origin = headers.get("origin", "")
    if origin and not is_loopback(urlsplit(origin).hostname or ""):
        return False
    return came_directly(client, headers)


def came_directly(client: str, headers: Mapping[str, str]) -> bool:
    """True for a connection from this machine that no proxy or tunnel says it passed on."""
    return is_loopback(client) and not any(name in headers for name in _FORWARDED)


def is_loopback(host: str) -> bool:
    """True for an address or a name that only this machine itself reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_stream(settings: PhoneSettings, client: str, headers: Mapping[str, str]) -> None:
    """Judges the upgrade request of a media stream before it is accepted. ``headers`` have lower-case names.

    Raises ``NotAllowed``.
    """
    if settings.auth_token:
        urls = url_variants(settings.stream_url(), slash=True)
        if not signed_by_twilio(settings.auth_token.reveal(), urls, (), headers.get(SIGNATURE_HEADER, "")):
            raise NotAllowed("the stream carries no valid Twilio signature", code="auth.twilio_signature")
    elif not settings.allow_unsigned and not from_this_machine(client, headers):
        raise NotAllowed(
            "streams from other machines need twilio.auth_token and server.public_url", code="auth.not_this_machine"
        )


def check_webhook(
    settings: PhoneSettings,
    *,
    path: str,
    query: str,
    parameters: Iterable[tuple[str, str]],
    client: str,
    headers: Mapping[str, str],
) -> None:
    """Judges a webhook request. ``query`` is the raw query string, ``parameters`` the form's. Raises ``NotAllowed``."""
    if settings.auth_token:
        url = settings.http_url(path) + (f"?{query}" if query else "")
        if not signed_by_twilio(
            settings.auth_token.reveal(), url_variants(url), parameters, headers.get(SIGNATURE_HEADER, "")
        ):
            raise NotAllowed("the request carries no valid Twilio signature", code="auth.twilio_signature")
    elif not settings.allow_unsigned and not from_this_machine(client, headers):
        raise NotAllowed(
            "webhooks from other machines need twilio.auth_token and server.public_url", code="auth.not_this_machine"
        )


Once = Callable[[str, float], bool]
"""Takes a token and for how many seconds it must be remembered; True for the first who shows it."""


class UsedTokens:
    """Remembers the last ``_TOKENS_REMEMBERED`` tokens of one process. Fits ``Once``."""

    def __init__(self) -> None:
        self._used: dict[str, None] = {}

    def __call__(self, token: str, _seconds: float) -> bool:
        if token in self._used:
            return False
        if len(self._used) >= _TOKENS_REMEMBERED:
            del self._used[next(iter(self._used))]
        self._used[token] = None
        return True


class StreamTokens:
    """Tokens that our TwiML puts into a stream's parameters, so that only a call we answered can open one.

    A token is signed, not stored: any process that shares the auth token accepts it, so the webhook and the stream may
    reach different ones. It is good for one call id and ``ttl_s``, and only once: in the process it reaches, or in all
    that share ``once``.
    """

    def __init__(
        self, settings: PhoneSettings, clock: Callable[[], float] = time.time, *, once: Once | None = None
    ) -> None:
        self._key = hashlib.sha256(b"antiphon stream token\0" + settings.auth_token.reveal().encode()).digest()
        self._ttl_s = settings.stream_token_ttl_s
        self._clock = clock
        self._once = UsedTokens() if once is None else once

    def issue(self, call_id: str) -> str:
        body = f"{int(self._clock()) + self._ttl_s:x}.{secrets.token_urlsafe(12)}"
        return f"{body}.{self._mac(body, call_id)}"

    def redeem(self, token: str, call_id: str) -> None:
        """Raises ``NotAllowed`` for a token that is forged, for another call, over or used."""
        body, _, mac = token.rpartition(".")
        if not hmac.compare_digest(self._mac(body, call_id).encode(), mac.encode("utf-8", "surrogatepass")):
            raise NotAllowed("the stream's token is not ours", code="auth.stream_token")
        # The mac covers the date, so what stands here is what we wrote.
        left = int(body.partition(".")[0], 16) - self._clock()
        if left < 0:
            raise NotAllowed("the stream's token is over", code="auth.stream_token_expired")
        if not self._once(token, left):
            raise NotAllowed("the stream's token was used before", code="auth.stream_token_used")

    def _mac(self, body: str, call_id: str) -> str:
        text = f"{body}\0{call_id}".encode("utf-8", "surrogatepass")
        return urlsafe_b64encode(hmac.digest(self._key, text, hashlib.sha256)[:18]).decode()
