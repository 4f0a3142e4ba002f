"""A call whose stream broke and that Twilio does not ask about: redirected by REST, against a loopback of the API."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree

import pytest

from antiphon.secret import Secret
from antiphon.server.twilio import Webhook, Webhooks
from antiphon.server.twilio_way_back import MOST, TRIES, WayBack
from antiphon.transports.twilio_calls import CallBook, LocalShelf
from antiphon.transports.twilio_exchange import Exchange
from antiphon.transports.twilio_rest import TwilioAccount
from antiphon.transports.twilio_settings import PhoneSettings

SID = "AC" + "1" * 32
TOKEN = "0123456789abcdef0123456789abcdef"
CALL = "CA" + "7" * 32
PUBLIC = "https://voice.example.org"
WAIT_S = 0.05
BROKE = {"CallSid": CALL, "StreamEvent": "stream-error", "StreamError": "connection closed"}


class Api(BaseHTTPRequestHandler):
    """Twilio's call resource, as its API documents it. ``answers``: statuses to give, in order; then 200."""

    seen: list[tuple[str, dict[str, str]]]
    answers: list[int]

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.seen.append((self.path, form))
        pair = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        status = self.answers.pop(0) if self.answers else 200 if pair == f"{SID}:{TOKEN}" else 401
        body = json.dumps({"sid": CALL} if status == 200 else {"code": 21220, "status": status}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def twilio(*answers: int) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    seen: list[tuple[str, dict[str, str]]] = []
    handler = type("Here", (Api,), {"seen": seen, "answers": [*answers]})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Desk:
    def has_room(self, call_id: str) -> bool:
        return True

    async def ended(self, call_id: str) -> str:
        return ""

    async def knows(self, call_id: str) -> bool:
        return True

    def call_over(self, call_id: str, status: str) -> None:
        pass


class Site:
    def __init__(self, api: str, sid: str = SID, book: CallBook | None = None) -> None:
        self.exchange = Exchange(PhoneSettings(auth_token=Secret(TOKEN), public_url=PUBLIC), book=book)
        self.way_back = WayBack(TwilioAccount(sid, Secret(TOKEN), api), self.exchange, wait_s=WAIT_S)
        self.hooks = Webhooks(self.exchange, Desk(), lambda _: None, self.way_back)

    async def ask(self, path: str, form: dict[str, str]) -> str:
        """The webhook at ``path``, whose signature was found good."""
        parts = urlsplit(path)
        asked = {"/voice": self.hooks.voice, "/voice/after": self.hooks.after, "/voice/status": self.hooks.status}
        return await asked[parts.path](Webhook(CALL, dict(parse_qsl(parts.query)) | form, "", "127.0.0.1:8004"))

    async def settled(self) -> None:
        """What was due is done."""
        await asyncio.sleep(2 * WAIT_S)
        while self.way_back._under_way:
            await asyncio.gather(*self.way_back._under_way.values())


def test_a_call_that_nobody_asks_about_is_redirected_and_connected_again() -> None:
    async def main() -> None:
        with twilio() as (url, seen):
            site = Site(url)
            site.exchange.book.note_language(CALL, "te-IN")
            await site.ask("/voice/status", BROKE)
            await site.settled()
            ((path, form),) = seen
            assert path == f"/2010-04-01/Accounts/{SID}/Calls/{CALL}.json"
            assert form["Method"] == "POST"
            address = urlsplit(form["Url"])
            assert form["Url"].startswith(f"{PUBLIC}/voice?")
            query = dict(parse_qsl(address.query))
            assert (query["resume"], query["language"]) == ("1", "te-IN")
            assert query["once"], "no two of them have the same signature"
            # What Twilio does then.
            twiml = await site.ask(f"/voice?{address.query}", {"CallSid": CALL})
            answer = ElementTree.fromstring(twiml)  # noqa: S314 - written by us
            stream = answer.find("Connect/Stream")
            assert stream is not None
            parameters = {each.attrib["name"]: each.attrib["value"] for each in stream}
            assert (parameters["call_id"], parameters["language"]) == (CALL, "te-IN")

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/voice/after?once=x", "/voice?resume=1&once=x"])
def test_a_call_that_twilio_asks_about_is_left_to_it(path: str) -> None:
    async def main() -> None:
        with twilio() as (url, seen):
            site = Site(url)
            await site.ask("/voice/status", BROKE)
            await site.ask(path, {"CallSid": CALL, "CallStatus": "in-progress"})
            await site.settled()
            assert seen == []

    asyncio.run(main())


def test_a_call_that_twilio_asks_another_worker_about_is_left_to_it() -> None:
    async def main() -> None:
        with twilio() as (url, seen):
            shelf = LocalShelf()
            told, asked = (Site(url, book=CallBook(shelf=shelf)) for _ in range(2))
            await told.ask("/voice/status", BROKE)
            await asked.ask("/voice/after?once=x", {"CallSid": CALL, "CallStatus": "in-progress"})
            await told.settled()
            assert seen == []
            await told.ask("/voice/status", BROKE)
            await told.settled()
            assert len(seen) == 1, "an earlier question is none about this break"

    asyncio.run(main())


@pytest.mark.parametrize("told", [{"CallStatus": "completed"}, {"StreamEvent": "stream-stopped"}])
def test_a_call_that_is_over_is_not_called_back(told: dict[str, str]) -> None:
    async def main() -> None:
        with twilio() as (url, seen):
            site = Site(url)
            if "CallStatus" not in told:
                site.exchange.book.note_ended(CALL, "agent")
            await site.ask("/voice/status", BROKE)
            await site.ask("/voice/status", {"CallSid": CALL, **told})
            await site.settled()
            assert seen == []

    asyncio.run(main())


def test_without_the_accounts_sid_it_is_off() -> None:
    async def main() -> None:
        with twilio() as (url, seen):
            site = Site(url, sid="")
            await site.ask("/voice/status", BROKE)
            await site.settled()
            assert seen == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answers", "times", "said"),
    [
        ([500], 2, "was redirected"),
        ([503, 429], 2, "could not be redirected: 21220"),
        ([400], 1, "could not be redirected: 21220"),
        ([401], 1, "could not be redirected"),
    ],
)
def test_a_refusal_is_said_and_only_what_may_pass_is_tried_again(
    answers: list[int], times: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with twilio(*answers) as (url, seen):
            site = Site(url)
            await site.ask("/voice/status", BROKE)
            await site.ask("/voice/status", {**BROKE, "StreamError": "told once more"})
            await site.settled()
            assert len(seen) == times

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    assert said in caplog.text
    assert TOKEN not in caplog.text


def test_an_api_that_is_not_there_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        site = Site("http://127.0.0.1:9")
        site.way_back.broke(CALL)
        await site.settled()
        assert TRIES == 2
        assert "could not be redirected: no answer" in caplog.text

    asyncio.run(main())


def test_no_more_than_a_few_are_waited_for() -> None:
    async def main() -> None:
        with twilio() as (url, seen):
            site = Site(url)
            for number in range(MOST + 50):
                site.way_back.broke(f"CA{number:032x}")
            assert len(site.way_back._due) == MOST
            for number in range(MOST):
                site.way_back.asked(f"CA{number:032x}")
            await site.settled()
            assert (seen, site.way_back._due) == ([], {})

    asyncio.run(main())
