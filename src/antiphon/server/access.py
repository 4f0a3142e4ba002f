"""Who may do what over HTTP and WebSockets (X35): the one place that decides it. Phone lines have their own rule.

Two kinds of credential. An **API key** (``server.api_keys``) is an operator's: it begins sessions and reads all of
them. A **session token** opens one session: its line, its view, its timeline, its replay. Either comes as
``Authorization: Bearer ...``; a key as ``X-API-Key`` too; what a browser cannot put into a header of a WebSocket, as
the subprotocol ``bearer.<credential>``. Never in an address, which logs and histories keep.

Without any of it a server is open only while it is being developed: see ``openness``. Who asks an open server must
still be no stranger's web page. The ``Host`` header must name this machine (one that is open to everybody: a number or
a name without dots), for a page whose name was made to lead here (DNS rebinding) has its own name there; and
``Origin``, where there is one, must be the server's own or one of ``server.origins``.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

from starlette.requests import Request

from antiphon.config import ServerSettings, Settings
from antiphon.errors import Forbidden, NotAllowed
from antiphon.secret import Secret, listed
from antiphon.server.api_keys import ApiKeys
from antiphon.server.attempts import Attempts
from antiphon.server.sockets import Upgrade, joined
from antiphon.server.tokens import SessionTokens, new_secret
from antiphon.transports.twilio_auth import came_directly, is_loopback

log = logging.getLogger("antiphon.server.access")

Openness = Literal["nobody", "this_machine", "everybody"]

SUBPROTOCOL = "bearer."
"""``Sec-WebSocket-Protocol: antiphon.v1, bearer.<token>``."""
MOST_CHARACTERS = 4096
MOST_CREDENTIALS = 3


def openness(server: ServerSettings) -> Openness:
    """Who needs no credential.

    With API keys or a public URL nobody: the server is in earnest, and to one behind a proxy the whole world may look
    like this machine. Else this machine, if only it is listened to; and everybody where that is asked for.
    """
    if server.api_keys or server.public_url:
        return "nobody"
    if is_loopback(server.host):
        return "this_machine"
    return "everybody" if server.allow_open else "nobody"


class Access:
    """Judges requests. ``headers`` have lower-case names, repeated ones joined by ", "; ``client`` is the address of
    the caller ("" if it has none), behind proxies that are trusted.

    Every method that judges returns if it may be done, and raises ``NotAllowed`` (401; codes ``auth.missing``,
    ``auth.credential``, ``auth.token_expired``), ``Forbidden`` (403; ``auth.other_session``, ``auth.needs_key``,
    ``auth.host``, ``auth.origin``) or ``TooManyAttempts`` (429). ``answers.refusal_for`` makes the answer.
    """

    def __init__(
        self,
        keys: ApiKeys,
        tokens: SessionTokens,
        *,
        open_to: Openness = "nobody",
        origins: Sequence[str] = (),
        attempts: Attempts | None = None,
    ) -> None:
        self.tokens = tokens
        self._keys = keys
        self._open_to = open_to
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._attempts = Attempts() if attempts is None else attempts

    def for_session(self, headers: Mapping[str, str], client: str, session: str) -> None:
        """To be on this session's line, or to read it: its token, or an API key."""
        self._judge(headers, client, session)

    def for_upgrade(self, upgrade: Upgrade, session: str) -> None:
        """``for_session`` for a socket that is asked for."""
        self.for_session(upgrade.headers, upgrade.client[0] if upgrade.client else "", session)

    def for_operator(self, headers: Mapping[str, str], client: str) -> None:
        """What concerns more than one session: an API key."""
        self._judge(headers, client, None)

    def is_open(self, headers: Mapping[str, str], client: str) -> bool:
        """True for whoever needs no credential."""
        return self._stranger(headers, client) is None

    def _judge(self, headers: Mapping[str, str], client: str, session: str | None) -> None:
        stranger = self._stranger(headers, client)
        if stranger is None:
            return
        given = credentials(headers)
        try:
            if not given:
                raise stranger
            if any(self._keys.know(credential) for credential in given):
                return  # before the attempts are counted: what pages of one address get wrong locks no operator out
            self._attempts.check(client)
            self._prove(given, client, session)
        except Forbidden as refused:
            log.warning("a request from %s is refused: %s", client or "-", refused.code)
            raise

    def _prove(self, given: Sequence[str], client: str, session: str | None) -> None:
        refusals: list[NotAllowed] = []
        for credential in given:
            try:
                if self._is_token_for(credential, session):
                    return
            except NotAllowed as refused:
                refusals.append(refused)
        genuine = [refused for refused in refusals if refused.code != "auth.token"]
        if genuine:
            raise genuine[0]
        if self._attempts.failed(client):
            log.warning("too many wrong credentials come from %s: the next are not looked at", client or "-")
        else:
            log.warning("a request from %s is refused: auth.credential", client or "-")
        raise NotAllowed("the key or token is not one of this server's", code="auth.credential")

    def _is_token_for(self, credential: str, session: str | None) -> bool:
        whose = self.tokens.session_of(credential)
        if session is None:
            raise Forbidden("this needs an API key, not a session's token", code="auth.needs_key")
        if whose != session:
            raise Forbidden("the token is another session's", code="auth.other_session")
        return True

    def _stranger(self, headers: Mapping[str, str], client: str) -> NotAllowed | None:
        """What a request without a credential is told; ``None`` if it needs none."""
        if self._open_to == "nobody" or (self._open_to == "this_machine" and not came_directly(client, headers)):
            return NotAllowed(
                "this needs an API key (server.api_keys), or a session's token, which POST /sessions gives for one",
                code="auth.missing",
            )
        host, origin = headers.get("host", "").lower(), headers.get("origin", "").rstrip("/").lower()
        if not self._is_called(host):
            return Forbidden(
                "address this server by its number or as localhost, name this address in server.origins, or set "
                "server.api_keys",
                code="auth.host",
            )
        own = {f"http://{host}", f"https://{host}"}
        if origin and origin not in own and origin not in self._origins:
            return Forbidden(
                "a web page of another origin asks: add it to server.origins if it is yours", code="auth.origin"
            )
        return None

    def _is_called(self, host: str) -> bool:
        """True for a ``Host`` that nobody else can have made lead here: a domain's owner chooses where it leads."""
        name = _name(f"//{host}")
        if is_loopback(name) or any(urlsplit(origin).netloc == host for origin in self._origins if host):
            return True
        return self._open_to == "everybody" and (_is_number(name) or (bool(name) and "." not in name))


def asker(request: Request) -> tuple[dict[str, str], str]:
    """Headers and address of an HTTP request, as ``Access`` takes them: a repeated header is joined, and so refused."""
    return joined(request.scope["headers"]), request.client.host if request.client else ""


def credentials(headers: Mapping[str, str]) -> list[str]:
    """What a request shows, wherever it shows it; too long ones are left out."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    found = [bearer.strip() if scheme.lower() == "bearer" else "", headers.get("x-api-key", "").strip()]
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(SUBPROTOCOL):
            found.append(protocol.strip().removeprefix(SUBPROTOCOL))
    return [each[: MOST_CHARACTERS + 1] for each in found if each][:MOST_CREDENTIALS]


def _name(address: str) -> str:
    try:
        return "" if "@" in address else urlsplit(address).hostname or ""
    except ValueError:  # brackets without an IPv6 address within
        return ""


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def access_of(settings: Settings, *, made: Secret | None = None, attempts: Attempts | None = None) -> Access:
    """What the settings say. ``made`` signs tokens where they name no secret; None: one of this process alone.

    Raises ``ConfigError`` for keys that cannot be used.
    """
    server = settings.server
    open_to, secrets = openness(server), listed(server.token_secret)
    if not secrets and settings.journal.url and open_to == "nobody":
        log.warning(
            "server.token_secret is not set: other servers on this journal will not take this one's tokens, nor "
            "itself after a restart; `antiphon keys new` makes one for all of them"
        )
    if open_to == "nobody" and not server.api_keys:
        log.info("no API key is set: /orchestrate and sessions are closed to all but signed tokens")
    if open_to == "everybody":
        log.warning("server.allow_open is set and server.api_keys is not: whoever reaches the port may read every call")
    return Access(
        ApiKeys(server.api_keys),
        SessionTokens(secrets or (made or Secret(new_secret()),), ttl_s=server.token_ttl_s),
        open_to=open_to,
        origins=server.origins,
        attempts=attempts,
    )
