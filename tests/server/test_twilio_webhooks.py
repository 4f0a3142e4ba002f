"""Twilio's webhooks over ASGI: what a call is told, and who is refused."""

import asyncio
import json
import weakref
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.etree import ElementTree

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import VoiceResponse

from antiphon.languages import load_languages
from antiphon.secret import Secret
from antiphon.server import twiml
from antiphon.server.twilio import router
from antiphon.transports.twilio_calls import CallBook
from antiphon.transports.twilio_exchange import Exchange
from antiphon.transports.twilio_menu import menu_of
from antiphon.transports.twilio_settings import SAY_VOICES, PhoneSettings

CALL = "CA" + "7" * 32
TOKEN = "0123456789abcdef0123456789abcdef"
PUBLIC = "https://voice.example.org"


class Desk:
    def __init__(self) -> None:
        self.room = True
        self.over: list[tuple[str, str]] = []
        self.known_ended = ""
        self.known: set[str] = set()

    def has_room(self, call_id: str) -> bool:
        return self.room

    async def ended(self, call_id: str) -> str:
        return self.known_ended

    async def knows(self, call_id: str) -> bool:
        return call_id in self.known

    def call_over(self, call_id: str, status: str) -> None:
        self.over.append((call_id, status))


class Site:
    """The webhooks of one account; ``post`` signs as Twilio does unless told otherwise."""

    def __init__(self, **settings_: Any) -> None:
        self.settings = PhoneSettings(**{"auth_token": Secret(TOKEN), "public_url": PUBLIC, **settings_})
        self.now = 1000.0
        self.exchange = Exchange(self.settings, book=CallBook(clock=lambda: self.now))
        self.desk = Desk()
        self.runner = asyncio.Runner()
        weakref.finalize(self, self.runner.close)
        self.app = FastAPI()
        self.turned_away: list[str] = []
        self.app.include_router(router(self.exchange, self.desk, self.turned_away.append))

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
        return self.runner.run(
            self._run(path, method, sent, client, urlencode(form).encode() if body is None else body)
        )

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


def back(answer: tuple[int, str, dict[str, str]], way: str = "action") -> str:
    """Where Twilio goes when the stream of this answer ended: the action, or else the next verb."""
    connect, redirect = verbs(answer)
    return ((connect.attrib["action"] if way == "action" else redirect.text) or "").removeprefix(PUBLIC)


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
    once = parse_qs(urlsplit(connect.attrib["action"]).query)["once"][0]
    assert len(once) >= 12
    assert connect.attrib["action"] == f"{PUBLIC}/voice/after?once={once}"
    assert redirect.text == f"{PUBLIC}/voice?resume=1&once={once}"
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
    asked = parse_qs(urlsplit(redirect.text).query)
    assert (asked["resume"], asked["language"]) == (["1"], ["hi-IN"])


@pytest.mark.parametrize("way", ["action", "redirect"])
def test_a_broken_stream_comes_back_under_the_same_call_id_and_an_ended_call_hangs_up(way: str):
    site = Site()
    answer = site.ask("/voice")
    site.desk.known.add(CALL)
    for _ in range(3):
        answer = site.ask(back(answer, way))
        assert names(answer) == ["Connect", "Redirect"]
        assert parameters(answer)["call_id"] == CALL
        site.exchange.tokens.redeem(parameters(answer)["token"], CALL)  # type: ignore[union-attr]
    site.exchange.book.note_ended(CALL, "goodbye")
    assert names(site.ask(back(answer, way))) == ["Hangup"]


def test_a_call_that_ended_elsewhere_or_is_over_hangs_up():
    site = Site()
    assert names(site.ask("/voice/after?once=a", {"CallSid": CALL, "CallStatus": "completed"})) == ["Hangup"]
    site.desk.known_ended = "goodbye"
    assert names(site.ask("/voice/after?once=b")) == ["Hangup"]


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
    answer = site.ask("/voice")
    for _ in range(2):
        answer = site.ask(back(answer))
        assert names(answer) == ["Connect", "Redirect"]
    said, hangup = verbs(site.ask(back(answer)))
    assert (said.tag, said.text, said.attrib["language"], hangup.tag) == ("Say", "Sorry <&> bye", "en-IN", "Hangup")


def test_twilios_retry_of_a_webhook_has_the_answer_of_the_first_and_no_other_effect():
    site = Site(reconnects=1)
    first = site.ask("/voice")
    again = site.ask(back(first))
    for retry in range(5):
        header = {"i-twilio-idempotency-token": str(retry)}  # whoever replays may choose it
        assert site.ask("/voice", headers=header) == first
        assert site.ask(back(first), headers=header) == again
    assert names(site.ask(back(again))) == ["Say", "Hangup"], "one reconnection was counted, not six"


def test_no_room_is_the_busy_tone_but_a_held_call_comes_back():
    site = Site()
    site.desk.room = False
    (reject,) = verbs(site.ask("/voice"))
    assert (reject.tag, reject.attrib) == ("Reject", {"reason": "busy"})
    assert site.turned_away == ["admission.full"], "it is counted"
    assert names(site.ask("/voice/after")) == ["Connect", "Redirect"]


def test_status_ends_the_call_once_twilio_says_so():
    site = Site()
    assert site.ask("/voice/status", {"CallSid": CALL, "StreamEvent": "stream-started"})[0] == 204
    assert site.exchange.book.ended(CALL) == ""
    assert site.ask("/voice/status", {"CallSid": CALL, "StreamEvent": "stream-error", "StreamError": "31921"})[0] == 204
    assert site.ask("/voice/status", {"CallSid": CALL, "CallStatus": "completed"})[0] == 204
    assert site.exchange.book.ended(CALL) == "status.completed"
    assert site.desk.over == [(CALL, "completed")]


# -- the language menu (A68) -------------------------------------------------------------------------

MENU = menu_of(("en-IN", "hi-IN", "te-IN", "gu-IN"), "en-IN", load_languages())


def ask_again(site: Site, answer: tuple[int, str, dict[str, str]], **said: str) -> tuple[int, str, dict[str, str]]:
    """What Twilio does with a menu: the caller's answer goes to the action, silence to the next verb."""
    gather, redirect = verbs(answer)
    assert (gather.tag, redirect.tag) == ("Gather", "Redirect")
    there = gather.attrib["action"] if said else redirect.text or ""
    return site.ask(there.removeprefix(PUBLIC), {"CallSid": CALL, "From": "+919812345678", **said})


def test_the_menu_offers_each_language_in_itself_and_takes_a_key_or_a_word():
    gather, redirect = verbs(Site(menu=MENU).ask("/voice"))
    asked = {name: gather.attrib[name] for name in ("input", "numDigits", "timeout", "speechTimeout", "language")}
    assert asked == {
        "input": "dtmf speech",
        "numDigits": "1",
        "timeout": "5",
        "speechTimeout": "auto",
        "language": "en-IN",
    }
    assert {"english", "hindi", "telugu", "gujarati"} <= set(gather.attrib["hints"].split(","))
    spoken = [(said.tag, said.attrib["language"], said.attrib["voice"], said.text) for said in gather]
    assert spoken == [("Say", each.language, SAY_VOICES[each.language], each.prompt) for each in MENU.choices]
    assert parse_qs(urlsplit(redirect.text or "").query)["menu"] == ["silence"]


def test_the_menu_is_what_the_vendors_library_would_write():
    site = Site(menu=MENU, say_voices={"te-IN": "Google.te-IN-Chirp3-HD-Kore"})
    ours = verbs(site.ask("/voice"))
    theirs = VoiceResponse()
    gather = theirs.gather(
        input="dtmf speech",
        num_digits=1,
        timeout=5,
        speech_timeout="auto",
        language="en-IN",
        hints=ours[0].attrib["hints"],
        action=ours[0].attrib["action"],
    )
    for each in MENU.choices:
        voice = "Google.te-IN-Chirp3-HD-Kore" if each.language == "te-IN" else SAY_VOICES[each.language]
        gather.say(each.prompt, language=each.language, voice=voice)
    theirs.redirect(ours[1].text)
    written = ElementTree.fromstring(theirs.to_xml())  # noqa: S314 - written by the library
    assert [ElementTree.canonicalize(ElementTree.tostring(verb)) for verb in ours] == [
        ElementTree.canonicalize(ElementTree.tostring(verb)) for verb in written
    ]


@pytest.mark.parametrize("said", [{"Digits": "3"}, {"SpeechResult": "Telugu.", "Confidence": "0.91"}])
def test_a_chosen_language_goes_to_the_stream_and_is_remembered(said: dict[str, str]):
    site = Site(menu=MENU)
    connected = ask_again(site, site.ask("/voice"), **said)
    assert names(connected) == ["Connect", "Redirect"]
    assert parameters(connected)["language"] == "te-IN"
    assert site.exchange.book.language(CALL) == "te-IN"
    site.desk.known.add(CALL)
    for way in ("action", "redirect"):
        assert parameters(site.ask(back(connected, way)))["language"] == "te-IN", "a stream that broke comes back"
    site.exchange.book.note_ended(CALL, "caller")
    assert site.exchange.book.language(CALL) == "", "A61"


def test_what_was_chosen_is_known_to_another_process_by_the_address():
    site, other = Site(menu=MENU), Site(menu=MENU)
    connected = ask_again(site, site.ask("/voice"), Digits="2")
    assert parameters(other.ask(back(connected)))["language"] == "hi-IN"


def test_silence_chooses_nothing():
    site = Site(menu=MENU)
    connected = ask_again(site, site.ask("/voice"))
    assert names(connected) == ["Connect", "Redirect"]
    assert "language" not in parameters(connected), "the call begins in the default language, and may change"
    assert "language" not in back(connected)
    assert site.exchange.book.language(CALL) == ""


@pytest.mark.parametrize("unusable", [{"Digits": "9"}, {"Digits": "*"}, {"SpeechResult": "What are the fees?"}])
def test_an_unusable_answer_is_asked_for_once_more(unusable: dict[str, str]):
    site = Site(menu=MENU)
    again = ask_again(site, site.ask("/voice"), **unusable)
    assert names(again) == ["Gather", "Redirect"]
    assert parameters(ask_again(site, again, SpeechResult="hindi"))["language"] == "hi-IN"
    site = Site(menu=MENU)
    given_up = ask_again(site, ask_again(site, site.ask("/voice"), **unusable), **unusable)
    assert names(given_up) == ["Connect", "Redirect"]
    assert "language" not in parameters(given_up)


def test_a_number_with_a_language_of_its_own_has_no_menu():
    assert parameters(Site(menu=MENU).ask("/voice?language=hi-IN"))["language"] == "hi-IN"


def test_a_call_that_heard_the_menu_cannot_be_rejected_any_more():
    site = Site(menu=MENU)
    menu = site.ask("/voice")
    site.desk.room = False
    said, hangup = verbs(ask_again(site, menu, Digits="1"))
    assert (said.tag, hangup.tag) == ("Say", "Hangup")


def test_the_answers_to_the_menu_are_signed_and_taken_once():
    site = Site(menu=MENU)
    menu = verbs(site.ask("/voice"))
    there = menu[0].attrib["action"].removeprefix(PUBLIC)
    form = {"CallSid": CALL, "Digits": "3"}
    good = RequestValidator(TOKEN).compute_signature(PUBLIC + there, form)
    assert refusal(site.ask(there, {**form, "Digits": "1"}, signature=good)) == (403, "auth.twilio_signature")
    assert refusal(site.ask(there.replace("menu=1", "menu=2"), form, signature=good)) == (403, "auth.twilio_signature")
    assert refusal(site.ask("/voice", form, signature=good)) == (403, "auth.twilio_signature")
    first = site.ask(there, form, signature=good)
    assert parameters(first)["language"] == "te-IN"
    assert site.ask(there, form, signature=good) == first, "Twilio's own retry"
    site.now += 31
    assert refusal(site.ask(there, form, signature=good)) == (403, "auth.replayed")
    silence = (menu[1].text or "").removeprefix(PUBLIC)
    spoken = {"CallSid": CALL, "SpeechResult": "తెలుగు", "Confidence": "0.8"}
    again = there.replace("menu=1", "menu=2")
    assert parameters(site.ask(again, spoken))["language"] == "te-IN", "signed as Twilio signs other scripts"
    assert site.ask(silence, {"CallSid": CALL})[0] == 200


def test_the_languages_remembered_are_bounded():
    book = CallBook(capacity=100)
    for number in range(1000):
        book.note_language(f"CA{number}", "te-IN")
    assert len(book) == 100
    assert (book.language("CA0"), book.language("CA999")) == ("", "te-IN")


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


@pytest.mark.parametrize("path", ["/voice", "/voice?language=hi-IN", "/voice/after", "/voice/status", "action"])
def test_replayed_webhooks_are_refused_and_logged(path: str, caplog: pytest.LogCaptureFixture):
    site = Site()
    begun = site.ask("/voice?language=en-IN")
    token = parameters(begun)["token"]
    site.exchange.tokens.redeem(token, CALL)  # type: ignore[union-attr]
    path = back(begun) if path == "action" else path
    first = site.ask(path)
    assert first[0] in (200, 204)
    site.now += 31
    for header in ("", "another"):
        answer = site.ask(path, headers={"i-twilio-idempotency-token": header})
        assert refusal(answer) == (403, "auth.replayed")
    refused = f"webhook {path.partition('?')[0]} from 203.0.113.9 refused: auth.replayed"
    assert [message for message in caplog.messages if "refused" in message] == [refused] * 2
    again = site.ask("/voice/status", {"CallSid": CALL, "Timestamp": "another"})
    assert again[0] == 204, "what is new is taken"


def test_a_call_does_not_begin_twice():
    """Not with another request of Twilio's either, and not after a restart: the journal remembers."""
    site = Site()
    site.desk.known.add(CALL)
    assert refusal(site.ask("/voice")) == (403, "auth.replayed")
    site = Site()
    site.exchange.book.note_ended(CALL, "caller")
    assert refusal(site.ask("/voice?language=hi-IN")) == (403, "auth.replayed")


def test_a_replay_with_the_fields_cut_otherwise_is_refused():
    """The signature is over names and values run together: so many fields say the same."""
    site = Site()
    form = {"CallSid": CALL, "CallStatus": "ringing", "Called": "1"}
    good = RequestValidator(TOKEN).compute_signature(f"{PUBLIC}/voice", form)
    assert names(site.ask("/voice", form, signature=good)) == ["Connect", "Redirect"]
    otherwise = {"CallSid": f"{CALL}CallStatusringing", "Called": "1"}
    assert RequestValidator(TOKEN).compute_signature(f"{PUBLIC}/voice", otherwise) == good
    assert refusal(site.ask("/voice", otherwise, signature=good)) == (400, "webhook.call_sid")


def test_twiml_written_elsewhere_may_name_the_same_address_again():
    site = Site(stream_token=False)
    for _ in range(3):
        assert names(site.ask("/voice/after")) == ["Connect", "Redirect"]
        site.now += 600


def test_without_a_token_a_request_may_be_repeated_by_hand():
    site = Site(auth_token=Secret(""), public_url="")
    for _ in range(2):
        assert names(site.ask("/voice", {"CallSid": "CA1"}, client="127.0.0.1", signature="")) == [
            "Connect",
            "Redirect",
        ]
        site.desk.known.add("CA1")
        site.now += 600


def test_forged_webhooks_are_logged(caplog: pytest.LogCaptureFixture):
    Site().ask("/voice/after", signature="x" * 28)
    assert caplog.messages == ["webhook /voice/after from 203.0.113.9 refused: auth.twilio_signature"]


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
        *twiml.connect(stream=one, action=two, resume=one, status=two, parameters=carried),
        twiml.gather(two, [twiml.say(one, two, one)], hears=one, hints=(two, one)),
    )
    root = ElementTree.fromstring(document)  # noqa: S314 - written by us
    assert [verb.tag for verb in root] == ["Connect", "Redirect", "Gather"]
    assert len(list(root.iter("Parameter"))) == sum(1 for value in carried.values() if value)


def test_a_parameter_twilio_would_refuse_is_left_out():
    document = twiml.connect(stream="", action="", resume="", status="", parameters={"a": "x" * 500, "b": "y"})[0]
    assert "xxx" not in document
    assert 'name="b"' in document
