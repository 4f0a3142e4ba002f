"""Who may do what: openness, credentials, tokens and keys, and how often one may be wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from starlette.requests import Request

from antiphon import config
from antiphon.config import JournalSettings, ServerSettings, Settings
from antiphon.errors import ConfigError, Forbidden, NotAllowed, TooManyAttempts
from antiphon.secret import Secret
from antiphon.server.access import Access, access_of, asker, credentials, openness
from antiphon.server.answers import refusal_for
from antiphon.server.api_keys import KEY_PREFIX, ApiKeys, hashed, new_key
from antiphon.server.attempts import AttemptLimits, Attempts
from antiphon.server.tokens import AUDIENCE, ISSUER, LEEWAY_S, SessionTokens, new_secret

KEY = new_key()
SECRET = new_secret()
OUTSIDE = "203.0.113.9"
HERE = {"host": "127.0.0.1:8004"}


class Clock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tokens(*secrets: str, clock: Any = None, ttl_s: int = 300) -> SessionTokens:
    return SessionTokens([Secret(each) for each in secrets or (SECRET,)], ttl_s=ttl_s, clock=clock or Clock())


def access(**options: Any) -> Access:
    made = {"keys": ApiKeys(Secret(KEY)), "tokens": tokens()} | options
    return Access(made.pop("keys"), made.pop("tokens"), **made)


def bearer(credential: str) -> dict[str, str]:
    return {"host": "voice.example.org", "authorization": f"Bearer {credential}"}


def refused(judge: Access, headers: dict[str, str], client: str = OUTSIDE, session: str | None = "one") -> NotAllowed:
    asked = (headers, client) if session is None else (headers, client, session)
    with pytest.raises(NotAllowed) as error:
        (judge.for_operator if session is None else judge.for_session)(*asked)
    return error.value


# -- who needs no credential ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "who"),
    [
        ({}, "this_machine"),
        ({"host": "localhost"}, "this_machine"),
        ({"host": "::1"}, "this_machine"),
        ({"public_url": "https://voice.example.org"}, "nobody"),
        ({"api_keys": Secret(KEY)}, "nobody"),
        ({"host": "0.0.0.0"}, "nobody"),  # noqa: S104 - what it is about
        ({"host": ""}, "nobody"),
        ({"host": "0.0.0.0", "allow_open": True}, "everybody"),  # noqa: S104
        ({"host": "0.0.0.0", "allow_open": True, "api_keys": Secret(KEY)}, "nobody"),  # noqa: S104
        ({"host": "0.0.0.0", "allow_open": True, "public_url": "https://v.example.org"}, "nobody"),  # noqa: S104
    ],
)
def test_a_server_in_earnest_is_open_to_nobody(settings: dict[str, Any], who: str) -> None:
    assert openness(ServerSettings(**settings)) == who


@pytest.mark.parametrize("host", ["127.0.0.1:8004", "localhost", "LOCALHOST:8004", "[::1]:8004", "127.9.9.9:1"])
def test_this_machine_is_let_in_by_each_of_its_names(host: str) -> None:
    judge = access(open_to="this_machine")
    judge.for_session({"host": host}, "127.0.0.1", "one")
    judge.for_operator({"host": host}, "::1")
    assert judge.is_open({"host": host}, "127.0.0.1")


@pytest.mark.parametrize(
    ("headers", "client", "code"),
    [
        ({"host": "rebound.example.org"}, "127.0.0.1", "auth.host"),
        ({"host": "127.0.0.1.example.org"}, "127.0.0.1", "auth.host"),
        ({"host": "evil@127.0.0.1"}, "127.0.0.1", "auth.host"),
        ({"host": "[::1"}, "127.0.0.1", "auth.host"),
        ({"host": "127.0.0.1, evil.example.org"}, "127.0.0.1", "auth.host"),
        ({}, "127.0.0.1", "auth.host"),
        ({**HERE, "origin": "https://evil.example.org"}, "127.0.0.1", "auth.origin"),
        ({**HERE, "origin": "http://127.0.0.1:9999"}, "127.0.0.1", "auth.origin"),
        ({**HERE, "origin": "null"}, "127.0.0.1", "auth.origin"),
        ({**HERE, "x-forwarded-for": "1.2.3.4"}, "127.0.0.1", "auth.missing"),
        ({**HERE, "forwarded": "for=1.2.3.4"}, "127.0.0.1", "auth.missing"),
        (HERE, OUTSIDE, "auth.missing"),
        (HERE, "", "auth.missing"),
    ],
)
def test_who_only_looks_like_this_machine_is_not(headers: dict[str, str], client: str, code: str) -> None:
    judge = access(open_to="this_machine")
    for session in ("one", None):
        assert refused(judge, headers, client, session).code == code
    assert not judge.is_open(headers, client)
    judge.for_operator({**headers, "x-api-key": KEY}, client)


def test_own_pages_and_those_that_are_named_may_ask() -> None:
    judge = access(open_to="this_machine", origins=("http://localhost:5173/", "null"))
    for origin in ("http://127.0.0.1:8004", "http://localhost:5173", "HTTP://LOCALHOST:5173", "null"):
        judge.for_operator({**HERE, "origin": origin}, "127.0.0.1")
    assert refused(judge, {**HERE, "origin": "http://localhost:5174"}, "127.0.0.1").code == "auth.origin"


def test_what_is_open_to_everybody_is_still_not_open_to_foreign_pages() -> None:
    judge = access(open_to="everybody", origins=("http://kiosk.local:8004",))
    for host in ("192.0.2.7:8004", "[2001:db8::7]:8004", "orchestrator:8004", "localhost", "kiosk.local:8004"):
        judge.for_operator({"host": host}, OUTSIDE)
        judge.for_operator({"host": host, "origin": f"http://{host}"}, OUTSIDE)
        assert refused(judge, {"host": host, "origin": "http://evil.example.org"}).code == "auth.origin"
    for host in ("evil.example.org:8004", "kiosk.local", "192.0.2.7.example.org", "", "evil@192.0.2.7"):
        assert refused(judge, {"host": host, "origin": f"http://{host}"}).code == "auth.host"
        assert refused(judge, {"host": host}).code == "auth.host"


def test_a_wrong_credential_shuts_nobody_out_of_an_open_server() -> None:
    judge = access(open_to="this_machine")
    for _ in range(100):
        judge.for_session({**HERE, "authorization": "Bearer stale"}, "127.0.0.1", "one")


# -- credentials ----------------------------------------------------------------------------------


def test_a_key_opens_everything_and_a_token_its_session() -> None:
    judge = access()
    token = judge.tokens.issue("one")
    for shown in ({"x-api-key": KEY}, bearer(KEY), {"authorization": f"bearer  {KEY}"}):
        judge.for_operator(shown, OUTSIDE)
        judge.for_session(shown, OUTSIDE, "one")
    sub = {"sec-websocket-protocol": f"antiphon.v1, bearer.{token}"}
    for shown in (bearer(token), sub, {**sub, "authorization": "Bearer wrong"}):
        judge.for_session(shown, OUTSIDE, "one")
        assert isinstance(refused(judge, shown, session="two"), Forbidden)
        assert refused(judge, shown, session="two").code == "auth.other_session"
        assert refused(judge, shown, session=None).code == "auth.needs_key"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"sec-websocket-protocol": "antiphon.v1"},
        {"cookie": f"key={KEY}"},
    ],
)
def test_what_is_no_credential_is_told_what_is_missing(headers: dict[str, str]) -> None:
    error = refused(access(), headers)
    assert error.code == "auth.missing"
    assert "POST /sessions" in str(error)
    refusal = refusal_for(error)
    assert (refusal.status, refusal.headers) == (401, {"www-authenticate": "Bearer"})


def test_a_header_that_comes_twice_proves_nothing() -> None:
    assert refused(access(), {"authorization": f"Bearer {KEY}, Bearer {KEY}"}).code == "auth.credential"
    assert refused(access(), {"x-api-key": f"{KEY}, {KEY}"}).code == "auth.credential"


def test_of_a_request_all_headers_count_not_the_first_of_them() -> None:
    twice = [(b"x-api-key", KEY.encode()), (b"x-api-key", b"another"), (b"host", b"one"), (b"host", b"two")]
    headers, client = asker(Request({"type": "http", "headers": twice, "client": None}))
    assert (headers, client) == ({"x-api-key": f"{KEY}, another", "host": "one, two"}, "")
    assert refused(access(), headers).code == "auth.credential"


@given(st.dictionaries(st.sampled_from(["authorization", "x-api-key", "sec-websocket-protocol"]), st.text()))
@settings(deadline=None)
def test_whatever_the_headers_hold_is_refused_with_a_code(headers: dict[str, str]) -> None:
    assert refused(access(attempts=Attempts(AttemptLimits(at_once=10_000))), headers).code.startswith("auth.")
    assert len(credentials(headers)) <= 3


def test_answers_have_the_status_of_their_kind() -> None:
    assert refusal_for(Forbidden("x")).status == 403
    limited = refusal_for(TooManyAttempts("x", retry_after_s=7))
    assert (limited.status, limited.headers["retry-after"]) == (429, "7")


# -- tokens ---------------------------------------------------------------------------------------


def test_a_token_is_a_jwt_that_says_whose_it_is_and_until_when() -> None:
    clock = Clock()
    these = tokens(clock=clock)
    first, second = these.issue("one"), these.issue("one")
    assert first != second
    assert these.session_of(first) == these.session_of(second) == "one"
    header, claims = (json.loads(decoded(part)) for part in first.split(".")[:2])
    assert header["alg"] == "HS256"
    assert len(header["kid"]) == 16
    assert claims == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "one",
        "iat": int(clock.now),
        "exp": int(clock.now) + 300,
        "jti": claims["jti"],
    }


def test_a_token_ends_when_it_says_and_no_sooner() -> None:
    clock = Clock()
    these = tokens(clock=clock)
    token = these.issue("one")
    clock.now += 300 + LEEWAY_S - 1
    assert these.session_of(token) == "one"
    clock.now += 1
    with pytest.raises(NotAllowed) as over:
        these.session_of(token)
    assert over.value.code == "auth.token_expired"


def test_a_token_of_a_clock_that_is_ahead_is_not_yet_good() -> None:
    clock = Clock()
    token = tokens(clock=clock).issue("one")
    with pytest.raises(NotAllowed):
        tokens(clock=Clock(clock.now - LEEWAY_S - 1)).session_of(token)
    assert tokens(clock=Clock(clock.now - LEEWAY_S)).session_of(token) == "one"


def test_keys_are_changed_without_a_gap() -> None:
    old, new = new_secret(), new_secret()
    before, during, after = tokens(old), tokens(new, old), tokens(new)
    early = before.issue("one")
    assert during.session_of(early) == "one"
    late = during.issue("one")
    assert after.session_of(late) == "one"
    with pytest.raises(NotAllowed):
        after.session_of(early)
    with pytest.raises(NotAllowed):
        before.session_of(late)


@pytest.mark.parametrize("secret", ["", "short", "x" * 31, "-----BEGIN PUBLIC KEY-----"])
def test_a_weak_secret_is_refused(secret: str) -> None:
    with pytest.raises(ConfigError, match="antiphon keys new"):
        SessionTokens([Secret(secret)], ttl_s=300)
    with pytest.raises(ConfigError):
        SessionTokens([], ttl_s=300)


def test_a_public_key_is_no_secret() -> None:
    public = RSAKey.generate_key(2048).as_pem(private=False).decode()
    with pytest.raises(ConfigError) as error:
        SessionTokens([Secret(public)], ttl_s=300)
    assert error.value.code == "config.bad_value"


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def made(header: dict[str, Any], claims: dict[str, Any], secret: str, digest: str = "sha256") -> str:
    """A token by hand, so that it can be wrong in any way."""
    text = ".".join(coded(json.dumps(each, separators=(",", ":")).encode()) for each in (header, claims))
    return f"{text}.{coded(hmac.digest(secret.encode(), text.encode(), digest))}"


def claims_of(clock: Clock, **others: Any) -> dict[str, Any]:
    now = int(clock.now)
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "one", "iat": now, "exp": now + 300, "jti": "x"} | others
    return {name: value for name, value in whole.items() if value is not None}


def header_of(these: SessionTokens) -> dict[str, str]:
    header: dict[str, str] = json.loads(decoded(these.issue("one").partition(".")[0]))
    return header


def test_the_hand_that_forges_can_make_a_true_one() -> None:
    """Else the refusals below would say nothing."""
    clock = Clock()
    these = tokens(clock=clock)
    assert these.session_of(made(header_of(these), claims_of(clock), SECRET)) == "one"


@pytest.mark.parametrize(
    "claims",
    [
        *({name: None} for name in ("iss", "aud", "sub", "iat", "exp", "jti")),
        {"aud": "somebody.else"},
        {"aud": []},
        {"aud": ["somebody.else"]},
        {"iss": "somebody"},
        {"sub": ""},
        {"sub": 7},
        {"sub": ["one"]},
        {"exp": 0},
        {"exp": "tomorrow"},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": True},
        {"nbf": 9_999_999_999},
        {"jti": 1},
    ],
)
def test_a_signed_token_with_a_wrong_claim_is_refused(claims: dict[str, Any]) -> None:
    clock = Clock()
    these = tokens(clock=clock)
    with pytest.raises(NotAllowed):
        these.session_of(made(header_of(these), claims_of(clock, **claims), SECRET))


def test_no_header_but_ours_is_read() -> None:
    clock = Clock()
    these = tokens(clock=clock)
    header, claims = header_of(these), claims_of(clock)
    for other in (
        {**header, "alg": "none"},
        {**header, "alg": "HS512"},
        {**header, "alg": "RS256"},
        {**header, "jku": "https://evil.example.org/keys"},
        {**header, "jwk": {"kty": "oct", "k": coded(SECRET.encode())}},
        {**header, "crit": ["exp"]},
        {**header, "kid": "0" * 16},
        {"alg": "HS256"},
    ):
        for digest in ("sha256", "sha512"):
            with pytest.raises(NotAllowed):
                these.session_of(made(other, claims, SECRET, digest))
    unsigned = f"{coded(json.dumps({**header, 'alg': 'none'}).encode())}.{coded(json.dumps(claims).encode())}."
    with pytest.raises(NotAllowed):
        these.session_of(unsigned)


def forgeries(rng: random.Random, these: SessionTokens, clock: Clock, count: int) -> Any:
    """Texts that are not tokens for session ``one``, most of them nearly."""
    header = header_of(these)
    true = these.issue("one")
    parts = true.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    strangers = [
        jwt.encode(dict(header), claims_of(clock), OctKey.import_key(new_secret()), ["HS256"]) for _ in range(200)
    ]
    wrong = ({"aud": "other"}, {"sub": "two"}, {"iss": "other"}, {"exp": 1})
    signed = [
        made(header, claims_of(clock, **each, jti=f"{number}"), SECRET) for number in range(100) for each in wrong
    ]
    for number in range(count):
        kind = number % 8
        if kind == 0:  # one bit
            raw = bytearray(true.encode())
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(7)
            yield raw.decode("latin-1")
        elif kind == 1:  # one character of the alphabet; the last ones carry bits that mean nothing
            at = rng.choice([len(true) - 1, rng.randrange(len(true))])
            yield true[:at] + rng.choice(alphabet.replace(true[at], "") or "A") + true[at + 1 :]
        elif kind == 2:  # signed by somebody else
            yield rng.choice(strangers)
        elif kind == 3:  # another's claims under this signature
            claims = claims_of(clock, sub=f"s{rng.randrange(10**6)}", exp=int(clock.now) + rng.randrange(10**6))
            yield f"{parts[0]}.{coded(json.dumps(claims).encode())}.{parts[2]}"
        elif kind == 4:  # no or another algorithm
            alg = rng.choice(["none", "None", "NONE", "HS384", "HS512", "RS256", "ES256", ""])
            head = coded(json.dumps({**header, "alg": alg}).encode())
            yield f"{head}.{parts[1]}.{rng.choice(['', parts[2]])}"
        elif kind == 5:  # a piece of one, or more than one
            longer = true + rng.choice([*alphabet, "=", ".", "\n", " ", "." + true])
            yield rng.choice([true[: rng.randrange(len(true))], longer])
        elif kind == 6:  # of this server, but over, or for another audience or session
            yield rng.choice(signed)
        else:  # anything
            yield "".join(rng.choices(alphabet + "..", k=rng.randrange(1, 300)))


def test_of_a_hundred_thousand_forgeries_none_is_accepted() -> None:
    clock = Clock()
    these = tokens(clock=clock)
    rng = random.Random(20261121)
    true = these.issue("one")
    accepted, tried = [], 0
    for text in forgeries(rng, these, clock, 100_000):
        tried += 1
        try:
            whose = these.session_of(text)
        except NotAllowed:
            continue
        # A true token of another session opens that one alone.
        if whose == "one":
            accepted.append(text)
    assert these.session_of(true) == "one"
    assert tried == 100_000
    assert accepted == []


@given(st.text())
@settings(deadline=None)
def test_any_text_is_no_token(text: str) -> None:
    with pytest.raises(NotAllowed):
        tokens().session_of(text)


def test_a_token_that_decodes_the_same_but_is_not_the_same_is_refused() -> None:
    """The last character of the signature carries two bits that mean nothing: a lenient reader takes four texts."""
    these = tokens()
    token = these.issue("one")
    twins = [token[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]
    same = [twin for twin in twins if decoded(twin.split(".")[2]) == decoded(token.split(".")[2])]
    assert len(same) == 4
    for twin in same:
        if twin != token:
            with pytest.raises(NotAllowed):
                these.session_of(twin)


# -- keys -----------------------------------------------------------------------------------------


def test_keys_may_be_given_as_they_are_or_hashed() -> None:
    first, second, third = new_key(), new_key(), "a passphrase of their own choice"
    keys = ApiKeys(Secret(f"{first}, {hashed(second)} ,{third},"))
    assert all(keys.know(key) for key in (first, second, third))
    for wrong in (new_key(), "", first[:-1], hashed(second), f"{first},{second}", first.upper(), "\ud800"):
        assert not keys.know(wrong)
    assert not ApiKeys(Secret(""))
    assert not ApiKeys(Secret("")).know("")
    assert first.startswith(KEY_PREFIX)
    assert hashed(first) == "sha256:" + hashlib.sha256(first.encode()).hexdigest()


@pytest.mark.parametrize("setting", ["short", "sha256:abc", "sha256:" + "g" * 64, "sha256:" + "0" * 62, "ключ" * 10])
def test_keys_that_protect_nothing_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="antiphon keys new") as error:
        ApiKeys(Secret(setting))
    assert setting not in str(error.value)


# -- being wrong too often ------------------------------------------------------------------------


def test_an_address_that_is_wrong_too_often_waits_and_others_do_not() -> None:
    clock = Clock(0.0)
    judge = access(attempts=Attempts(AttemptLimits(at_once=3, every_s=10), clock))
    for _ in range(3):
        assert refused(judge, bearer("wrong")).code == "auth.credential"
    limited = refused(judge, bearer("wrong"))
    assert isinstance(limited, TooManyAttempts)
    assert limited.retry_after_s == 10
    token = bearer(judge.tokens.issue("one"))
    assert isinstance(refused(judge, token), TooManyAttempts), "not even the right one is looked at"
    judge.for_session(token, "198.51.100.1", "one")
    judge.for_operator(bearer(KEY), OUTSIDE)  # nobody is locked out with it
    assert refused(judge, {}).code == "auth.missing", "who shows nothing has tried nothing"
    clock.now += 9.9
    assert isinstance(refused(judge, token), TooManyAttempts)
    clock.now += 0.1
    judge.for_session(token, OUTSIDE, "one")
    assert refused(judge, bearer("wrong")).code == "auth.credential"
    assert isinstance(refused(judge, bearer("wrong")), TooManyAttempts)
    clock.now += 1000
    for _ in range(3):
        assert refused(judge, bearer("wrong")).code == "auth.credential"


def test_what_an_honest_client_can_do_wrong_is_not_counted() -> None:
    clock = Clock()
    judge = access(tokens=tokens(clock=clock), attempts=Attempts(AttemptLimits(at_once=1)))
    token = judge.tokens.issue("one")
    for _ in range(50):
        assert refused(judge, bearer(token), session="two").code == "auth.other_session"
    clock.now += 1000
    for _ in range(50):
        assert refused(judge, bearer(token)).code == "auth.token_expired"
    judge.for_operator(bearer(KEY), OUTSIDE)


def test_the_table_of_addresses_is_bounded_and_forgives_the_oldest() -> None:
    attempts = Attempts(AttemptLimits(at_once=1, every_s=60, addresses=100), Clock())
    for number in range(1000):
        attempts.failed(f"10.0.{number // 250}.{number % 250}")
    assert len(attempts) == 100
    attempts.check("10.0.0.0")
    with pytest.raises(TooManyAttempts):
        attempts.check("10.0.3.249")
    attempts.failed("x" * 10_000)
    assert max(map(len, attempts._debts._paid_until)) <= 64


def test_of_an_ipv6_address_the_network_counts() -> None:
    attempts = Attempts(AttemptLimits(at_once=1), Clock())
    attempts.failed("2001:db8::1")
    with pytest.raises(TooManyAttempts):
        attempts.check("2001:db8::ffff")
    attempts.check("2001:db8:0:1::1")
    attempts.failed("::ffff:192.0.2.1")
    attempts.check("::ffff:192.0.2.2")


# -- as the settings say --------------------------------------------------------------------------


def test_the_settings_are_read_from_the_environment() -> None:
    settings = config.load(
        environ={
            "ANTIPHON_SERVER_API_KEYS": f"{KEY},{hashed(new_key())}",
            "ANTIPHON_SERVER_TOKEN_SECRET": SECRET,
            "ANTIPHON_SERVER_TOKEN_TTL_S": "60",
            "ANTIPHON_SERVER_ORIGINS": "http://a.example.org, http://b.example.org",
        }
    )
    assert settings.server.origins == ("http://a.example.org", "http://b.example.org")
    judge = access_of(settings)
    judge.for_operator({**HERE, "x-api-key": KEY}, "127.0.0.1")
    assert refused(judge, HERE, "127.0.0.1").code == "auth.missing", "who has set keys wants them to be asked for"
    assert tokens(SECRET, clock=judge.tokens._clock).session_of(judge.tokens.issue("one")) == "one"
    assert judge.tokens.ttl_s == 60
    assert KEY not in repr(settings)
    assert KEY not in json.dumps(settings.as_dict())


@pytest.mark.parametrize("key", ["api_keys", "token_secret"])
def test_keys_do_not_belong_in_the_settings_file(tmp_path: Any, key: str) -> None:
    (tmp_path / "antiphon.toml").write_text(f'[server]\n{key} = "{new_key()}"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=f"ANTIPHON_SERVER_{key.upper()}") as error:
        config.load(tmp_path / "antiphon.toml", environ={})
    assert error.value.code == "config.secret_in_file"


def test_without_a_secret_tokens_are_this_process_s_own(caplog: pytest.LogCaptureFixture) -> None:
    alone = Settings(server=ServerSettings(api_keys=Secret(KEY)))
    first, second = access_of(alone), access_of(alone)
    with pytest.raises(NotAllowed):
        second.tokens.session_of(first.tokens.issue("one"))
    assert caplog.text == ""
    shared = JournalSettings(url=Secret("redis://127.0.0.1:6379/0"))
    access_of(Settings(server=ServerSettings(api_keys=Secret(KEY)), journal=shared))
    assert "server.token_secret is not set" in caplog.text
    caplog.clear()
    access_of(Settings(journal=shared))
    assert caplog.text == "", "on an open server nobody needs a token"


def test_an_open_server_says_so_when_it_starts(caplog: pytest.LogCaptureFixture) -> None:
    access_of(Settings(server=ServerSettings(host="0.0.0.0", allow_open=True)))  # noqa: S104
    assert "whoever reaches the port may read every call" in caplog.text


def test_no_credential_is_ever_logged_or_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    judge = access(tokens=tokens(clock=clock), attempts=Attempts(AttemptLimits(at_once=2)))
    canary = "sk_antiphon_CANARY" + "x" * 40
    shown = [canary, judge.tokens.issue("one"), made(header_of(judge.tokens), claims_of(clock), canary), KEY]
    said = []
    for credential in shown:
        for headers in (
            {"x-api-key": credential},
            bearer(credential),
            {"sec-websocket-protocol": f"bearer.{credential}"},
        ):
            for session in ("two", None):
                try:
                    judge.for_session(headers, OUTSIDE, session) if session else judge.for_operator(headers, OUTSIDE)
                except NotAllowed as error:
                    said.append(str(error) + refusal_for(error).body)
    assert len(said) > 10
    assert "refused" in caplog.text
    assert "are not looked at" in caplog.text
    for credential in shown:
        for piece in (credential, credential.split(".")[-1]):
            assert piece not in caplog.text
            assert piece not in "".join(said)
