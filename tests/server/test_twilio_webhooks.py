"""Twilio's webhooks over ASGI: what a call is told, and who is refused."""

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.etree import ElementTree

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from antiphon.secret import Secret
from antiphon.server import twiml
from antiphon.server.twilio import router
from antiphon.transports.twilio_exchange import Exchange
from antiphon.transports.twilio_settings import MenuChoice, PhoneSettings

CALL = "CA" + "7" * 32
TOKEN = "0123456789abcdef0123456789abcdef"
PUBLIC = "https://voice.example.org"


class Desk:
    def __init__(self) -> None:
        self.room = True
        self.over: list[tuple[str, str]] = []
        self.known_ended = ""

    def has_room(self, call_id: str) -> bool:
        return self.room

    async def ended(self, call_id: str) -> str:
        return self.known_ended

    def call_over(self, call_id: str, status: str) -> None:
        self.over.append((call_id, status))


class Site:
    """The webhooks of one account; ``post`` signs as Twilio does unless told otherwise."""

    def __init__(self, **settings_: Any) -> None:
        self.settings = PhoneSettings(**{"auth_token": Secret(TOKEN), "public_url": PUBLIC, **settings_})
        self.exchange = Exchange(self.settings)
        self.desk = Desk()
        self.app = FastAPI()
        self.app.include_router(router(self.exchange, self.desk))

    def ask(
        self,
        path: str,
        form: dict[str, str] | None = None,
        *,
        method: str = "POST",
        signature: str | None = None,
        headers: dict[str, str] | None = None,
        client: str = "203.0.113.9",
        body: bytes | None = None,
    ) -> tuple[int, str, dict[str, str]]:
        form = {"CallSid": CALL, "From": "+919812345678"} if form is None else form
        if method == "GET":
            path = f"{path}{'&' if '?' in path else '?'}{urlencode(form)}"
            form = {}
        if signature is None:
            signature = RequestValidator(TOKEN).compute_signature(PUBLIC + path, form)
        sent = {
            "host": "attacker.example",
            "x-twilio-signature": signature,
            "content-type": "application/x-www-form-urlencoded",
            **(headers or {}),
        }
        sent = {name: value for name, value in sent.items() if value}
        return asyncio.run(self._run(path, method, sent, client, urlencode(form).encode() if body is None else body))

    async def _run(
        self, path: str, method: str, headers: dict[str, str], client: str, body: bytes
    ) -> tuple[int, str, dict[str, str]]:
        parts = urlsplit(path)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "root_path": "",
            "query_string": parts.query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": (client, 50_000),
            "server": ("127.0.0.1", 8004),
        }
        inbox = [{"type": "http.request", "body": body, "more_body": False}]
        out: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return inbox.pop(0) if inbox else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            out.append(message)

        await self.app(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in out[0]["headers"]}
        return out[0]["status"], b"".join(m.get("body", b"") for m in out[1:]).decode(), answered


def verbs(answer: tuple[int, str, dict[str, str]]) -> list[ElementTree.Element]:
    status, body, headers = answer
    assert status == 200
    assert headers["content-type"] == "text/xml; charset=utf-8"
    root = ElementTree.fromstring(body)  # noqa: S314 - written by us
    assert root.tag == "Response"
    return list(root)


def names(answer: tuple[int, str, dict[str, str]]) -> list[str]:
    return [verb.tag for verb in verbs(answer)]


def parameters(answer: tuple[int, str, dict[str, str]]) -> dict[str, str]:
    return {p.attrib["name"]: p.attrib["value"] for p in verbs(answer)[0].iter("Parameter")}


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_call_is_connected_to_the_stream(method: str):
    site = Site()
    answer = site.ask("/voice", method=method)
    connect, redirect = verbs(answer)
    stream = connect[0]
    assert (connect.tag, redirect.tag, stream.tag) == ("Connect", "Redirect", "Stream")
    assert stream.attrib["url"] == "wss://voice.example.org/media-stream", "Twilio refuses a query string here"
    assert stream.attrib["statusCallback"] == f"{PUBLIC}/voice/status"
    assert connect.attrib["action"] == f"{PUBLIC}/voice/after"
    assert redirect.text == f"{PUBLIC}/voice?resume=1"
    told = parameters(answer)
    assert told["call_id"] == CALL
    assert told["caller"] == "+919812345678"
    assert site.exchange.tokens is not None
    site.exchange.tokens.redeem(told["token"], CALL)
    assert "attacker.example" not in answer[1], "the Host header is the sender's"


def test_the_language_is_kept_over_a_reconnection():
    site = Site()
    answer = site.ask("/voice?language=hi-IN")
    connect, redirect = verbs(answer)
    assert parameters(answer)["language"] == "hi-IN"
    again = site.ask(connect.attrib["action"].removeprefix(PUBLIC))
    assert parameters(again)["language"] == "hi-IN"
    assert redirect.text is not None
    assert parse_qs(urlsplit(redirect.text).query) == {"resume": ["1"], "language": ["hi-IN"]}


@pytest.mark.parametrize("path", ["/voice/after", "/voice?resume=1"])
def test_a_broken_stream_comes_back_under_the_same_call_id_and_an_ended_call_hangs_up(path: str):
    site = Site()
    answer = site.ask(path)
    assert names(answer) == ["Connect", "Redirect"]
    assert parameters(answer)["call_id"] == CALL
    site.exchange.book.note_ended(CALL, "goodbye")
    assert names(site.ask(path)) == ["Hangup"]


def test_a_call_that_ended_elsewhere_or_is_over_hangs_up():
    site = Site()
    assert names(site.ask("/voice/after", {"CallSid": CALL, "CallStatus": "completed"})) == ["Hangup"]
    site.desk.known_ended = "goodbye"
    assert names(site.ask("/voice/after")) == ["Hangup"]


@pytest.mark.parametrize(("target", "tag"), [("+911234567890", None), ("sip:desk@pbx.example", "Sip")])
def test_a_call_handed_over_is_dialled(target: str, tag: str | None):
    site = Site()
    site.exchange.book.note_ended(CALL, f"transfer:{target}")
    dial, hangup = verbs(site.ask("/voice/after"))
    assert (dial.tag, hangup.tag) == ("Dial", "Hangup")
    inner = dial[0] if tag else dial
    assert (inner.tag, inner.text) == (tag or "Dial", target)


def test_reconnections_are_bounded_and_end_in_an_apology():
    site = Site(reconnects=2, apology="Sorry <&> bye", apology_language="en-IN")
    assert [names(site.ask("/voice/after")) for _ in range(2)] == [["Connect", "Redirect"]] * 2
    said, hangup = verbs(site.ask("/voice/after"))
    assert (said.tag, said.text, said.attrib["language"], hangup.tag) == ("Say", "Sorry <&> bye", "en-IN", "Hangup")


def test_a_repeated_webhook_has_one_effect():
    site = Site(reconnects=1)
    once = {"i-twilio-idempotency-token": "t-1"}
    first = site.ask("/voice/after", headers=once)
    assert names(first) == ["Connect", "Redirect"]
    for _ in range(5):
        assert site.ask("/voice/after", headers=once) == first
    assert names(site.ask("/voice/after", headers={"i-twilio-idempotency-token": "t-2"})) == ["Say", "Hangup"]


def test_no_room_is_the_busy_tone_but_a_held_call_comes_back():
    site = Site()
    site.desk.room = False
    (reject,) = verbs(site.ask("/voice"))
    assert (reject.tag, reject.attrib) == ("Reject", {"reason": "busy"})
    assert names(site.ask("/voice/after")) == ["Connect", "Redirect"]


def test_status_ends_the_call_once_twilio_says_so():
    site = Site()
    assert site.ask("/voice/status", {"CallSid": CALL, "StreamEvent": "stream-started"})[0] == 204
    assert site.exchange.book.ended(CALL) == ""
    assert site.ask("/voice/status", {"CallSid": CALL, "StreamEvent": "stream-error", "StreamError": "31921"})[0] == 204
    assert site.ask("/voice/status", {"CallSid": CALL, "CallStatus": "completed"})[0] == 204
    assert site.exchange.book.ended(CALL) == "status.completed"
    assert site.desk.over == [(CALL, "completed")]


MENU = (MenuChoice("1", "en-IN", "For English press one."), MenuChoice("2", "hi-IN", "हिन्दी के लिए दो दबाएँ।"))


def test_the_language_menu():
    site = Site(menu=MENU)
    gather, fallback = verbs(site.ask("/voice"))
    assert gather.attrib["numDigits"] == "1"
    assert [(said.attrib["language"], said.text) for said in gather] == [(c.language, c.prompt) for c in MENU]
    assert fallback.text == f"{PUBLIC}/voice?language=en-IN"
    (chosen,) = verbs(site.ask("/voice", {"CallSid": CALL, "Digits": "2"}))
    assert chosen.text == f"{PUBLIC}/voice?language=hi-IN"
    (unknown,) = verbs(site.ask("/voice", {"CallSid": CALL, "Digits": "9"}))
    assert unknown.text == f"{PUBLIC}/voice?language=en-IN"
    assert parameters(site.ask("/voice?language=hi-IN"))["language"] == "hi-IN"


# -- who is refused (F20) ---------------------------------------------------------------------------


def refusal(answer: tuple[int, str, dict[str, str]]) -> tuple[int, str]:
    status, body, headers = answer
    assert headers["content-type"] == "application/json"
    error = json.loads(body)["error"]
    assert error["message"]
    return status, error["code"]


@pytest.mark.parametrize("path", ["/voice", "/voice/after", "/voice/status"])
@pytest.mark.parametrize("signature", ["", "AAAA", "x" * 28, "é"])
def test_forged_webhooks_are_refused(path: str, signature: str):
    site = Site()
    assert refusal(site.ask(path, signature=signature)) == (403, "auth.twilio_signature")
    assert site.exchange.book.ended(CALL) == ""
    assert refusal(site.ask(path, signature=signature, client="127.0.0.1")) == (403, "auth.twilio_signature")


def test_a_signature_is_good_for_its_own_request_only():
    site = Site()
    good = RequestValidator(TOKEN).compute_signature(f"{PUBLIC}/voice", {"CallSid": CALL})
    assert site.ask("/voice", {"CallSid": CALL}, signature=good)[0] == 200
    assert site.ask("/voice", {"CallSid": CALL + "8"}, signature=good)[0] == 403
    assert site.ask("/voice", {"CallSid": CALL, "x": ""}, signature=good)[0] == 403
    assert site.ask("/voice/after", {"CallSid": CALL}, signature=good)[0] == 403
    assert site.ask("/voice?resume=1", {"CallSid": CALL}, signature=good)[0] == 403


def test_the_order_of_fields_and_repeated_fields_are_as_twilio_signs_them():
    site = Site()
    form = {"CallSid": CALL, "b": "2", "a": "1", "Ä": "ü", "empty": ""}
    assert site.ask("/voice", form)[0] == 200
    body = f"CallSid={CALL}&tag=one&tag=two&tag=one".encode()

    class Several(dict[str, str]):
        def getlist(self, name: str) -> list[str]:
            return ["one", "two", "one"] if name == "tag" else [self[name]]

    both = RequestValidator(TOKEN).compute_signature(f"{PUBLIC}/voice", Several({"CallSid": CALL, "tag": ""}))
    assert site.ask("/voice", body=body, signature=both)[0] == 200


def test_without_a_token_only_this_machine_and_never_through_a_proxy():
    site = Site(auth_token=Secret(""), public_url="")
    answer = site.ask("/voice", client="127.0.0.1", signature="")
    assert verbs(answer)[0][0].attrib["url"] == "ws://127.0.0.1:8004/media-stream"
    assert "token" not in parameters(answer)
    assert refusal(site.ask("/voice", signature="")) == (403, "auth.not_this_machine")
    proxied = site.ask("/voice", client="127.0.0.1", headers={"x-forwarded-for": "203.0.113.9"})
    assert refusal(proxied) == (403, "auth.not_this_machine")


@pytest.mark.parametrize(
    ("form", "body", "expected"),
    [
        ({}, None, (400, "webhook.call_sid")),
        ({"CallSid": "a b"}, None, (400, "webhook.call_sid")),
        ({"CallSid": "x" * 256}, None, (400, "webhook.call_sid")),
        ({}, b"a=" + b"x" * 70_000, (413, "webhook.too_large")),
        ({}, b"a=1&" * 300, (400, "webhook.too_many_fields")),
    ],
)
def test_webhooks_that_cannot_be_read(form: dict[str, str], body: bytes | None, expected: tuple[int, str]):
    assert refusal(Site().ask("/voice", form, body=body)) == expected


text = st.text(max_size=40)


@settings(max_examples=150, deadline=None)
@given(text, text, st.dictionaries(text, text, max_size=4))
def test_twiml_is_well_formed_whatever_it_carries(one: str, two: str, carried: dict[str, str]):
    document = twiml.response(
        *twiml.connect(stream=one, action=two, resume=one, status=two, parameters=carried), twiml.say(one, two)
    )
    root = ElementTree.fromstring(document)  # noqa: S314 - written by us
    assert [verb.tag for verb in root] == ["Connect", "Redirect", "Say"]
    assert len(list(root.iter("Parameter"))) == sum(1 for value in carried.values() if value)


def test_a_parameter_twilio_would_refuse_is_left_out():
    document = twiml.connect(stream="", action="", resume="", status="", parameters={"a": "x" * 500, "b": "y"})[0]
    assert "xxx" not in document
    assert 'name="b"' in document
