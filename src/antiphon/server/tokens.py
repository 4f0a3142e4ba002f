"""Session tokens: short-lived, signed, and good for one session alone.

A token is a JWT (RFC 7519) with HS256: ``sub`` is the session's id, ``exp`` its end, ``jti`` makes it the only one of
its kind. It is a bearer token and may be used again until it ends, for a line that breaks is opened again with it. The
library is ``joserfc``; what it leaves to its user is settled here, once: the algorithm is pinned (with the whole
header, byte by byte, so that nothing in it is a choice of the sender's), keys have at least 32 bytes, and every
claim must be there. The payload is parsed only once the signature is seen to be ours.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import OctKey
from joserfc.jwt import JWTClaimsRegistry

from antiphon.errors import ConfigError, NotAllowed
from antiphon.secret import Secret

ALGORITHM = "HS256"
ISSUER = "antiphon"
AUDIENCE = "antiphon.session"
LEAST_KEY_BYTES = 32
"""RFC 7518, section 3.2: a key of HS256 is no shorter than its hash."""
LEEWAY_S = 5
"""How far the clocks of two replicas may be apart."""
MOST_CHARACTERS = 2048


def new_secret() -> str:
    return secrets.token_urlsafe(48)


class SessionTokens:
    """Issues and reads tokens. The first of ``keys`` signs; the others are those of before, still accepted.

    ``clock`` tells Unix time in seconds. Raises ``ConfigError`` for a key under 32 bytes, and for none.
    """

    def __init__(self, keys: Sequence[Secret], *, ttl_s: int, clock: Callable[[], float] = time.time) -> None:
        if not keys:
            raise ConfigError("server.token_secret: tokens need a key: `antiphon keys new` makes one")
        self.ttl_s = ttl_s
        self._clock = clock
        self._keys: dict[str, OctKey] = {}
        self._signing: tuple[dict[str, str], OctKey] | None = None
        for secret in keys:
            header, key = _key(secret)
            self._keys[jwt.encode(dict(header), {}, key, [ALGORITHM]).partition(".")[0]] = key
            self._signing = self._signing or (header, key)
        self._claims = JWTClaimsRegistry(
            now=lambda: int(self._clock()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": ISSUER},
            aud={"essential": True, "value": AUDIENCE},
            sub={"essential": True},
            iat={"essential": True},
            exp={"essential": True},
            jti={"essential": True},
        )

    def issue(self, session: str) -> str:
        """A token of ``ttl_s`` seconds for this session."""
        assert self._signing is not None  # noqa: S101 - there is a first key
        header, key = self._signing
        now = int(self._clock())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": session,
            "iat": now,
            "exp": now + self.ttl_s,
            "jti": secrets.token_urlsafe(12),
        }
        return jwt.encode(dict(header), claims, key, [ALGORITHM])

    def session_of(self, token: str) -> str:
        """The session whose token this is.

        Raises ``NotAllowed``: ``auth.token_expired`` for one of ours that is over, ``auth.token`` for any other text.
        """
        key = self._keys.get(token.partition(".")[0])
        if key is None or len(token) > MOST_CHARACTERS:
            raise _not_ours()
        try:
            claims = jwt.decode(token, key, [ALGORITHM]).claims
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise NotAllowed("the token is over: get a new one", code="auth.token_expired") from None
        except (JoseError, ValueError):
            raise _not_ours() from None
        return str(claims["sub"])


def _not_ours() -> NotAllowed:
    return NotAllowed("the token is not one of this server's", code="auth.token")


def _key(secret: Secret) -> tuple[dict[str, str], OctKey]:
    """The header that names the key, and the key. The name is a hash: it tells nothing of the key."""
    value = secret.reveal().encode()
    if len(value) < LEAST_KEY_BYTES:
        raise ConfigError(
            f"server.token_secret has {len(value)} bytes, at least {LEAST_KEY_BYTES} are needed: "
            "`antiphon keys new` makes one",
            code="config.bad_value",
        )
    kid = hashlib.sha256(b"antiphon token key\0" + value).hexdigest()[:16]
    try:
        return {"alg": ALGORITHM, "kid": kid}, OctKey.import_key(value)
    except ValueError as error:  # such as a public key, which is no secret
        raise ConfigError(f"server.token_secret cannot be used: {error}", code="config.bad_value") from None
