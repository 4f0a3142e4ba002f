"""What health says of the stages, of the services behind them and of the carrier's account (A71, X14)."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import loopback_sarvam
import pytest
import virtual_loop

from antiphon import config
from antiphon.assembly import assembled
from antiphon.config import TwilioSettings
from antiphon.errors import ProviderRefused
from antiphon.runtime.stages import Providers, Stages
from antiphon.secret import Secret
from antiphon.server.checks import ANSWER_S, KEEP_S, carrier_check, service_checks, stage_checks
from antiphon.server.health import Checks
from antiphon.sim.providers import SimResponder, SimSynthesizer

SID = "AC" + "1" * 32
TOKEN = "do-not-show-this-token-0123456789"


class Named:
    """Stands for a provider; ``check`` is there if an answer is given."""

    def __init__(self, name: str, answer: Callable[[], Awaitable[str]] | None = None, service: str = "") -> None:
        self.name = name
        self.asked = 0
        self._answer = answer
        if service:
            self.service = service
        if answer is not None:
            self.check = self._check

    async def _check(self) -> str:
        self.asked += 1
        assert self._answer is not None
        return await self._answer()


def stages(*transcribers: Any, responder: Any = None) -> Stages:
    return Stages(
        Providers(
            transcribers=transcribers,
            responders=(responder or SimResponder("answers"),),
            degraded=SimResponder("degraded"),
            synthesizers=(SimSynthesizer("voice"),),
        ),
        final_s=1.2,
    )


# -- stages ----------------------------------------------------------------------------------------


def test_a_stage_is_well_while_somebody_may_be_asked() -> None:
    these = stages(Named("first"), Named("second"))
    checks = Checks(stage_checks(these), keep_s=0)

    async def main() -> None:
        assert await checks.results() == {"stt": True, "llm": True, "tts": True}
        first, second = these.stt.members
        for _ in range(these.stt.policy.failures):
            first.breaker.failed()
        assert (await checks.results())["stt"], "the second is still asked"
        for _ in range(these.stt.policy.failures):
            second.breaker.failed()
        assert await checks.results() == {"stt": False, "llm": True, "tts": True}
        second.breaker.reset()
        assert (await checks.results())["stt"]

    asyncio.run(main())


# -- services --------------------------------------------------------------------------------------


async def _well() -> str:
    return "well"


async def _refused() -> str:
    raise ProviderRefused("no", provider="first", stage="stt", code="stt.unauthorized")


async def _broken() -> str:
    raise RuntimeError(f"a library's own words, with {TOKEN}")


async def _hanging() -> str:
    await asyncio.Event().wait()
    return "never"


def test_each_service_is_asked_once_by_its_own_name() -> None:
    ears, voice = Named("ears", _well, service="sarvam_ai"), Named("answers", _well, service="sarvam_ai")
    checks = service_checks(stages(ears, Named("other", _well), Named("offline"), responder=voice))
    assert list(checks) == ["sarvam_ai", "other"], "what has nothing to ask is not among them"

    async def main() -> None:
        assert await Checks(checks).results() == {"sarvam_ai": True, "other": True}

    asyncio.run(main())
    assert (ears.asked, voice.asked) == (1, 0)


def test_services_that_understand_are_asked_too() -> None:
    async def well() -> str:
        return "well"

    async def main() -> None:
        intent, rag = Named("http", well, "intent-service"), Named("http", well, "rag-service")
        providers = Providers(
            transcribers=(Named("ear"),),  # type: ignore[arg-type]
            responders=(SimResponder("answers"),),
            degraded=SimResponder("degraded"),
            synthesizers=(SimSynthesizer("voice"),),
            classifier=intent,  # type: ignore[arg-type]
            retriever=rag,  # type: ignore[arg-type]
        )
        checks = service_checks(Stages(providers, final_s=1.2))
        assert list(checks) == ["intent-service", "rag-service"]
        assert [await check() for check in checks.values()] == [True, True]
        assert (intent.asked, rag.asked) == (1, 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (_refused, "ears is not well: stt.unauthorized"),
        (_broken, "ears cannot be asked: RuntimeError"),
        (_hanging, f"ears did not answer in {ANSWER_S} s"),
    ],
)
def test_what_is_wrong_is_told_in_time_and_not_asked_again_for_half_a_minute(
    answer: Callable[[], Awaitable[str]], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    ears = Named("ears", answer)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        health = Checks(service_checks(stages(ears), clock=loop.time), timeout_s=2.0, clock=loop.time)
        began = loop.time()
        assert await health.results() == {"ears": False}
        assert loop.time() - began < 2.0
        while loop.time() - began < KEEP_S:
            assert await health.results() == {"ears": False}
            await asyncio.sleep(1.0)
        assert ears.asked == 1
        await asyncio.sleep(3.0)
        assert await health.results() == {"ears": False}
        assert ears.asked == 2

    virtual_loop.run(main())
    assert caplog.messages == [told, told], "once for each time it was asked"
    assert TOKEN not in caplog.text


def test_a_service_that_is_well_is_asked_every_half_minute() -> None:
    asked: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def check() -> str:
            asked.append(loop.time())
            return "well"

        health = Checks(service_checks(stages(Named("it", check)), clock=loop.time), clock=loop.time)
        for _ in range(61):
            assert await health.results() == {"it": True}
            await asyncio.sleep(1.0)

    virtual_loop.run(main())
    assert asked == [0, 30, 60]


# -- the carrier -----------------------------------------------------------------------------------


class Account(BaseHTTPRequestHandler):
    """Twilio's account resource, as its API documents it, and what may stand in its place."""

    status = "active"
    way = ""
    requests: list[str]
    release: threading.Event

    def do_GET(self) -> None:
        self.requests.append(self.path)
        pair = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        body = json.dumps({"sid": SID, "auth_token": TOKEN, "status": self.status}).encode()
        code = 200 if pair == f"{SID}:{TOKEN}" else 401
        if self.way == "hang":
            self.release.wait(10)
        if self.way == "redirect" and not self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.way == "garbage":
            body = b"<html>"
        if self.way == "500":
            code = 500
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def twilio(way: str = "", status: str = "active") -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths that were asked for."""
    seen: list[str] = []
    release = threading.Event()
    handler = type("Here", (Account,), {"way": way, "status": status, "requests": seen, "release": release})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def asked(settings: TwilioSettings, url: str) -> dict[str, bool]:
    return asyncio.run(Checks(carrier_check(settings, url, answer_s=0.3)).results())


ACCOUNT = TwilioSettings(account_sid=SID, auth_token=Secret(TOKEN))


@pytest.mark.parametrize(
    ("way", "status", "expected"),
    [
        ("", "active", True),
        ("", "suspended", False),
        ("hang", "active", False),
        ("500", "active", False),
        ("garbage", "active", False),
        ("redirect", "active", False),
    ],
)
def test_the_account_is_looked_up(way: str, status: str, expected: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), twilio(way, status) as (url, seen):
        assert asked(ACCOUNT, url) == {"twilio": expected}
        assert seen == [f"/2010-04-01/Accounts/{SID}.json"], "once, and a redirect is not followed: it has the token"
    assert TOKEN not in caplog.text


def test_a_token_that_is_not_the_accounts(caplog: pytest.LogCaptureFixture) -> None:
    wrong = TwilioSettings(account_sid=SID, auth_token=Secret("another-secret-token"))
    with caplog.at_level(logging.DEBUG), twilio() as (url, _):
        assert asked(wrong, url) == {"twilio": False}
    assert "twilio is not well" in caplog.messages
    assert "another-secret-token" not in caplog.text


def test_a_carrier_that_is_not_there() -> None:
    with twilio() as (url, _):
        pass
    assert asked(ACCOUNT, url) == {"twilio": False}


@pytest.mark.parametrize("settings", [TwilioSettings(), TwilioSettings(auth_token=Secret(TOKEN))])
def test_without_an_account_nothing_is_asked_and_nothing_is_amiss(settings: TwilioSettings) -> None:
    assert asked(settings, "http://127.0.0.1:1") == {"twilio": True}


# -- all of it -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "well"), [(loopback_sarvam.KEY, True), ("sk_a_key_of_nobody_0123456789", False)])
def test_health_has_the_shape_of_a71(
    kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, key: str, well: bool
) -> None:
    monkeypatch.setenv("SARVAM_API_KEY", key)

    async def main() -> str:
        async with loopback_sarvam.serving() as sarvam:
            environ = {f"ANTIPHON_{kind}_PROVIDER": "fake" for kind in ("LLM", "TTS", "INTENT", "RETRIEVAL")}
            environ |= {"ANTIPHON_STT_PROVIDER": "sarvam", "ANTIPHON_JOURNAL": str(tmp_path / "calls.sqlite")}
            environ |= {"ANTIPHON_STT_BASE_URL": sarvam.base_url, "ANTIPHON_STT_WS_URL": sarvam.ws_url}
            async with (
                assembled(config.load(environ=environ)) as antiphon,
                kit.running(antiphon.routes, antiphon.app) as server,
            ):
                asked = [await asyncio.to_thread(got, server.url("/health")) for _ in range(3)]
            assert len(sarvam.requests["realtime"]) == 1, "being asked for health does not cost a quota"
            return asked[-1]

    def got(url: str) -> str:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - this machine
            assert answer.status == 200
            return str(answer.read().decode())

    text = asyncio.run(main())
    answer = json.loads(text)
    assert answer["status"] == ("healthy" if well else "degraded")
    assert answer["checks"].items() >= {"sarvam_ai": well, "twilio": True}.items()
    assert {"stt", "llm", "tts", "journal", "voice_activity", "event_loop"} <= set(answer["checks"])
    assert answer["service"] == "orchestrator"
    assert answer["stages"]["stt"]["sarvam"]["state"] == "closed"
    assert key not in text
    assert key not in caplog.text
