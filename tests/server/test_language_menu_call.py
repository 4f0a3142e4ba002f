"""A caller chooses Telugu before the conversation: webhooks over HTTP, then the stream, all of it signed (A68)."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection, connect

from antiphon import config
from antiphon.assembly import assembled
from antiphon.kernel.events import Entry, LineAttached, SegmentReady, SessionStarted
from antiphon.stores.sqlite import SqliteJournal

TOKEN = "0123456789abcdef0123456789abcdef"
PUBLIC = "https://voice.example.org"
CALL = "CA" + "7" * 32
STREAM = "MZ" + "5" * 32


class Twilio:
    """The other side: asks the webhooks and opens streams, signed as the vendor's own library signs."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sign = RequestValidator(TOKEN).compute_signature

    async def post(self, there: str, **said: str) -> ElementTree.Element:
        path = there.removeprefix(PUBLIC)
        form = {"CallSid": CALL, "AccountSid": "AC1", "From": "+919812345678", "CallStatus": "in-progress", **said}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            data=urlencode(form).encode(),
            headers={"X-Twilio-Signature": self._sign(PUBLIC + path, form)},
        )

        def ask() -> str:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - this machine
                assert answer.headers["content-type"].startswith("text/xml")
                return str(answer.read().decode())

        return ElementTree.fromstring(await asyncio.to_thread(ask))  # noqa: S314 - our own server wrote it

    @asynccontextmanager
    async def stream(self, connected: ElementTree.Element) -> AsyncIterator[ClientConnection]:
        """Does what ``<Connect><Stream>`` says."""
        told = connected[0][0]
        url = told.attrib["url"]
        assert url == "wss://voice.example.org/media-stream"
        parameters = {each.attrib["name"]: each.attrib["value"] for each in told}
        local = url.replace("wss://voice.example.org", f"ws://127.0.0.1:{self._port}")
        async with connect(local, additional_headers={"X-Twilio-Signature": self._sign(url, {})}) as socket:
            await socket.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
            start = {
                "streamSid": STREAM,
                "accountSid": "AC1",
                "callSid": CALL,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": parameters,
            }
            message = {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": STREAM}
            await socket.send(json.dumps(message))
            yield socket


async def sound(socket: ClientConnection) -> bytes:
    """The next piece of audio that is not silence."""
    async with asyncio.timeout(10):
        async for message in socket:
            got: dict[str, Any] = json.loads(message)
            if got["event"] == "media":
                audio = base64.b64decode(got["media"]["payload"])
                if set(audio) - {0xFF, 0x7F}:
                    return audio
    raise AssertionError("the line was closed without a sound")


async def journalled(folder: Path) -> list[Entry]:
    """What a server that has ended wrote of the call."""
    journal = SqliteJournal(folder / "calls.sqlite", access="read")
    await journal.start()
    try:
        return await journal.read(CALL)
    finally:
        await journal.close()


@asynccontextmanager
async def place(kit: Any, folder: Path, **more: str) -> AsyncIterator[Twilio]:
    """A running server of fakes that offers four languages, as Twilio sees it."""
    environ = {f"ANTIPHON_{kind}_PROVIDER": "fake" for kind in ("STT", "LLM", "TTS", "INTENT", "RETRIEVAL")}
    settings = config.load(
        environ={
            **environ,
            "ANTIPHON_JOURNAL": str(folder / "calls.sqlite"),
            "ANTIPHON_SERVER_PUBLIC_URL": PUBLIC,
            "TWILIO_AUTH_TOKEN": TOKEN,
            **more,
        }
    )
    async with assembled(settings) as antiphon, kit.running(antiphon.routes, antiphon.app) as server:
        yield Twilio(server.port)


def one(kind: type, entries: list[Entry]) -> Any:
    return next(each.event for each in entries if isinstance(each.event, kind))


@pytest.mark.parametrize("said", [{"Digits": "3"}, {"SpeechResult": "Telugu.", "Confidence": "0.93"}])
def test_who_chooses_telugu_is_greeted_in_telugu(kit: Any, tmp_path: Path, said: dict[str, str]) -> None:
    async def call() -> None:
        async with place(kit, tmp_path) as twilio:
            menu = await twilio.post("/voice", CallStatus="ringing")
            assert [verb.tag for verb in menu] == ["Gather", "Redirect"]
            assert [each.attrib["language"] for each in menu[0]] == ["en-IN", "hi-IN", "te-IN", "gu-IN"]
            connected = await twilio.post(menu[0].attrib["action"], **said)
            async with twilio.stream(connected) as socket:
                assert await sound(socket)
            # The stream broke: Twilio asks what is next, and the call goes on as it was.
            again = await twilio.post(connected[0].attrib["action"])
            assert again[0][0].find("Parameter[@name='language']").attrib["value"] == "te-IN"  # type: ignore[union-attr]
            async with twilio.stream(again) as socket:
                assert await sound(socket)
                stop = {"accountSid": "AC1", "callSid": CALL}
                await socket.send(json.dumps({"event": "stop", "stop": stop, "streamSid": STREAM}))
                await socket.wait_closed()
            over = await twilio.post(again[0].attrib["action"])
            assert [verb.tag for verb in over] == ["Hangup"]
        entries = await journalled(tmp_path)
        started = one(SessionStarted, entries)
        assert (started.language, started.language_by) == ("te-IN", "chosen")
        assert "token" not in started.parameters, "what opens a stream is not journalled"
        greeting = one(SegmentReady, entries)
        assert (greeting.kind, greeting.language) == ("greeting", "te-IN")
        assert "నమస్కారం" in greeting.text
        assert one(LineAttached, entries)

    asyncio.run(call())


def test_who_chooses_nothing_is_greeted_in_the_default_language(kit: Any, tmp_path: Path) -> None:
    async def call() -> None:
        async with place(kit, tmp_path) as twilio:
            menu = await twilio.post("/voice", CallStatus="ringing")
            connected = await twilio.post(menu[1].text or "")
            assert connected[0][0].find("Parameter[@name='language']") is None
            async with twilio.stream(connected) as socket:
                assert await sound(socket)
        entries = await journalled(tmp_path)
        started = one(SessionStarted, entries)
        assert (started.language, started.language_by) == ("en-IN", ""), "nothing is locked (X42)"
        assert one(SegmentReady, entries).language == "en-IN"

    asyncio.run(call())


def test_the_menu_can_be_turned_off(kit: Any, tmp_path: Path) -> None:
    async def call() -> None:
        async with place(kit, tmp_path, ANTIPHON_TWILIO_LANGUAGE_MENU="off") as twilio:
            assert [verb.tag for verb in await twilio.post("/voice")] == ["Connect", "Redirect"]

    asyncio.run(call())
