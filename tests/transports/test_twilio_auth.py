"""Signatures against Twilio's own library, stream tokens, and who may connect without an account."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator
from twilio_fakes import CALL, Rig, media

from antiphon.errors import ConfigError, NotAllowed
from antiphon.secret import Secret
from antiphon.transports.twilio_auth import (
    StreamTokens,
    check_stream,
    check_webhook,
    from_this_machine,
    signature,
    signed_by_twilio,
    url_variants,
)
from antiphon.transports.twilio_settings import LineLimits, PhoneSettings

TOKEN = "0123456789abcdef0123456789abcdef"
SIGNED = PhoneSettings(auth_token=Secret(TOKEN), public_url="https://voice.example.org")
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=300, deadline=None)
@given(token=names, path=names, parameters=st.dictionaries(names, names, max_size=6))
def test_signatures_equal_twilios_own(token: str, path: str, parameters: dict[str, str]):
    url = f"https://voice.example.org/{path}"
    assert signature(token, url, parameters.items()) == RequestValidator(token).compute_signature(url, parameters)


def test_the_example_of_twilios_documentation():
    """The request of Twilio's "Webhooks security" page, signed with its example token."""
    parameters = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675310",
        "Digits": "1234",
        "From": "+14158675310",
        "To": "+18005551212",
    }
    given_signature = signature("12345", "https://example.com/myapp.php?foo=1&bar=2", parameters.items())
    assert given_signature == "L/OH5YylLD5NRKLltdqwSvS0BnU="


def test_a_port_does_not_matter_but_all_else_does():
    url = "https://voice.example.org/voice"
    for written in (url, "https://voice.example.org:443/voice"):
        good = signature(TOKEN, written, [("a", "b")])
        assert signed_by_twilio(TOKEN, url_variants(url), [("a", "b")], good)
        assert not signed_by_twilio(TOKEN, url_variants(url), [("a", "c")], good)
        assert not signed_by_twilio(TOKEN + "x", url_variants(url), [("a", "b")], good)
    for written in ("http://voice.example.org/voice", "https://voice.example.org:444/voice", url + "/"):
        assert not signed_by_twilio(TOKEN, url_variants(url), [], signature(TOKEN, written))
    for nothing in ("", "x", "é", "\udcff", "A" * 10_000):
        assert not signed_by_twilio(TOKEN, url_variants(url), [], nothing)


def test_bit_flips_are_refused():
    good = signature(TOKEN, "wss://voice.example.org/media-stream")
    check_stream(SIGNED, "203.0.113.9", {"x-twilio-signature": good})
    for at in range(len(good)):
        bad = good[:at] + chr(ord(good[at]) ^ 1) + good[at + 1 :]
        with pytest.raises(NotAllowed, match=r"auth\.twilio_signature"):
            check_stream(SIGNED, "203.0.113.9", {"x-twilio-signature": bad})


def test_a_stream_may_be_signed_with_a_slash_at_its_end():
    good = signature(TOKEN, "wss://voice.example.org/media-stream/")
    check_stream(SIGNED, "203.0.113.9", {"x-twilio-signature": good})


@pytest.mark.parametrize("headers", [{}, {"host": "voice.example.org"}, {"x-twilio-signature": ""}])
def test_with_a_token_even_this_machine_must_sign(headers: dict[str, str]):
    with pytest.raises(NotAllowed):
        check_stream(SIGNED, "127.0.0.1", headers)
    with pytest.raises(NotAllowed):
        check_webhook(SIGNED, path="/voice", query="", parameters=[], client="127.0.0.1", headers=headers)


def test_the_query_is_signed_too():
    good = signature(TOKEN, "https://voice.example.org/voice?language=hi-IN", [("CallSid", CALL)])
    headers = {"x-twilio-signature": good}

    def check(query: str) -> None:
        check_webhook(SIGNED, path="/voice", query=query, parameters=[("CallSid", CALL)], client="", headers=headers)

    check("language=hi-IN")
    with pytest.raises(NotAllowed):
        check("language=en-IN")


@pytest.mark.parametrize(
    ("client", "headers", "allowed"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("127.8.8.8", {"origin": "http://localhost:8004"}, True),
        ("127.0.0.1", {"origin": "https://evil.example"}, False),
        ("127.0.0.1", {"origin": "null"}, False),
        ("127.0.0.1", {"x-forwarded-for": "203.0.113.9"}, False),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}, False),
        ("203.0.113.9", {}, False),
        ("203.0.113.9", {"host": "127.0.0.1"}, False),
        ("", {}, False),
        ("unix", {}, False),
    ],
)
def test_without_a_token_only_this_machine(client: str, headers: dict[str, str], allowed: bool):
    assert from_this_machine(client, headers) is allowed
    settings_ = PhoneSettings()
    if allowed:
        check_stream(settings_, client, headers)
    else:
        with pytest.raises(NotAllowed, match=r"auth\.not_this_machine"):
            check_stream(settings_, client, headers)
    check_stream(PhoneSettings(allow_unsigned=True), client, headers)


def test_tokens_are_good_once_for_one_call_and_a_while():
    now = 1000.0
    tokens = StreamTokens(SIGNED, clock=lambda: now)
    token = tokens.issue(CALL)
    with pytest.raises(NotAllowed, match=r"\[auth\.stream_token\]"):
        tokens.redeem(token, "CAother")
    tokens.redeem(token, CALL)
    with pytest.raises(NotAllowed, match=r"auth\.stream_token_used"):
        tokens.redeem(token, CALL)
    late = tokens.issue(CALL)
    elsewhere = StreamTokens(SIGNED, clock=lambda: now)
    elsewhere.redeem(tokens.issue(CALL), CALL)
    now += SIGNED.stream_token_ttl_s + 1
    with pytest.raises(NotAllowed, match=r"auth\.stream_token_expired"):
        tokens.redeem(late, CALL)
    stranger = StreamTokens(
        PhoneSettings(auth_token=Secret("another"), public_url="https://a.example"), clock=lambda: now
    )
    with pytest.raises(NotAllowed, match=r"\[auth\.stream_token\]"):
        tokens.redeem(stranger.issue(CALL), CALL)


@given(st.text(max_size=60))
def test_no_text_is_a_token(text: str):
    with pytest.raises(NotAllowed):
        StreamTokens(SIGNED).redeem(text, CALL)


def test_a_line_without_its_token_is_closed_and_one_with_it_keeps_it_out_of_the_journal():
    tokens = StreamTokens(SIGNED)
    rig = Rig(SIGNED, tokens=tokens).begin()
    assert rig.socket.closed == (1008, "auth.stream_token")
    assert rig.switchboard.calls == []
    rig = Rig(SIGNED, tokens=tokens).begin(token=tokens.issue(CALL), campaign="spring").give(media(2))
    assert rig.call.start.parameters == {"campaign": "spring"}
    assert len(rig.call.audio) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"auth_token": Secret(TOKEN)},
        {"public_url": "voice.example.org"},
        {"public_url": "ftp://voice.example.org"},
        {"public_url": "https://voice.example.org?x=1"},
        {"media_path": "media"},
        {"stream_token_ttl_s": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, str]):
    with pytest.raises(ConfigError, match=r"twilio|public_url"):
        PhoneSettings(**wrong)


def test_limits_must_be_above_zero_and_the_token_is_never_shown():
    with pytest.raises(ConfigError, match="bad_messages"):
        LineLimits(bad_messages=0)
    assert TOKEN not in repr(SIGNED)
