"""A visitor before the whole service: the page in a real browser, a real server, a voice through the microphone."""

from __future__ import annotations

import asyncio
import signal
import wave
from pathlib import Path

import pytest
from console_browser import browsing, floor, is_connected, played, shows, start, window
from playwright.async_api import Browser, Page
from served import FAKE, Server, ended

from antiphon.phone.voices import Voices
from antiphon.providers import registry

pytestmark = pytest.mark.needs("chromium")

RATE = 16_000
GREETING_S = 7.0
KEY = "a-key-for-the-tests-of-the-page"
PATIENT = {"policy": {"understand_ms": 3000}}
"""On a busy machine, too, the answer is what was looked up: this is about the page."""
QUESTION, INTERRUPTION = "What are the admission requirements?", "Wait, what are the fees?"


async def microphone(path: Path) -> Path:
    """What the visitor says: silence during the greeting, a question, and another one into its answer."""
    espeak = registry.load("tts", "espeak")
    async with Voices(espeak):
        pcm = bytes(int(GREETING_S * RATE) * 2)
        for text, pause_s in ((QUESTION, 4.5), (INTERRUPTION, 30.0)):
            async for sound in espeak.synthesize(text, language="en-IN", sample_rate=RATE):
                pcm += sound.pcm
            pcm += bytes(int(pause_s * RATE) * 2)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm)
    return path


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> list[BaseException | None]:
    """Both at the same time, in one browser: they mostly wait."""

    async def both(folder: Path) -> list[BaseException | None]:
        async with browsing(await microphone(folder / "voice.wav")) as browser:
            visits = (a_whole_visit(browser, folder / "one"), a_broken_visit(browser, folder / "two"))
            return await asyncio.gather(*visits, return_exceptions=True)

    return asyncio.run(both(tmp_path_factory.mktemp("visits")))


def test_a_visitor_talks_interrupts_types_and_looks_at_it_afterwards(visits: list[BaseException | None]) -> None:
    if visits[0] is not None:
        raise visits[0]


def test_a_server_that_was_killed_is_found_again_and_knows_the_conversation(visits: list[BaseException | None]) -> None:
    if visits[1] is not None:
        raise visits[1]


async def a_whole_visit(browser: Browser, folder: Path) -> None:
    with ended(server := Server(folder, PATIENT)):
        await server.start()
        async with window(browser, f"http://127.0.0.1:{server.port}/") as page:
            await start(page)
            await page.check("#open-mic")
            await shows(page, ".agent .chip", "greeting")
            await shows(page, ".caller.partial", "admission")
            await shows(page, ".caller:not(.partial)", "admission requirements")
            await floor(page, "Speaking")
            await shows(page, ".agent", "class twelve")
            await page.click(".agent .sources:not([hidden]) > summary")
            await page.click(".agent .source > summary")
            await shows(page, ".agent .source p", "entrance test")
            await shows(page, ".agent .latency", "Latency")
            before = await played(page)
            await shows(page, ".marks", "stopped: you took the floor")
            await shows(page, "s.unheard", "entrance test")
            after = await played(page)
            assert after["played"] > before["played"]
            assert after["loudest"] > 0.05, "the answer was heard"
            assert after["cleared"] > 0, "what was under way when the visitor spoke was thrown away"
            await page.locator(".caller:not(.partial)").nth(1).wait_for()
            await page.locator(".agent .latency:not([hidden])").nth(2).wait_for()  # greeting, answer, answer
            await page.fill("#text", "Is there a hostel?")
            await page.press("#text", "Enter")
            await shows(page, ".agent", "hostels")
            await page.click("#hang-up")
            await shows(page, "#line-notice", "You ended the conversation.")
            await page.click("#to-sessions")
            await shows(page, ".list", "over")
            await page.click(".list a")
            await shows(page, ".line.caller", "admission requirements")
            await shows(page, "s.unheard", "entrance test")
            assert await page.locator(".timeline rect.caller").count() >= 2
            assert await page.locator(".timeline rect.agent").count() >= 3
            await page.click("text=Replay")
            await shows(page, ".replay", "Every digest agrees")


async def a_broken_visit(browser: Browser, folder: Path) -> None:
    with ended(server := Server(folder, FAKE, ANTIPHON_SERVER_API_KEYS=KEY)):
        await server.start()
        server.wants_port = server.port
        async with window(browser, f"http://127.0.0.1:{server.port}/") as page:
            await page.click("#start-text")
            await page.fill("#key", KEY)
            await page.press("#key", "Enter")
            await is_connected(page)
            await page.fill("#text", "What are the fees?")
            await page.press("#text", "Enter")
            await shows(page, ".agent .chip", "English")
            await floor(page, "Listening")
            server.signal(signal.SIGKILL)
            await server.ended()
            await shows(page, "#line-notice", "The server cannot be reached.")
            await server.start()
            await is_connected(page)
            await shows(page, ".note", "Connected again.")
            await page.fill("#text", "And the hostel?")
            await page.press("#text", "Enter")
            await shows(page, ".caller", "And the hostel?")
            answered = page.locator(".agent .latency:not([hidden])")
            await answered.nth(1).wait_for()
            await taken_over_and_back(page)


async def taken_over_and_back(page: Page) -> None:
    """The same conversation in a second window: the newer one holds it, and either is told."""
    other = await page.context.new_page()
    session = await page.evaluate("sessionStorage.getItem('antiphon.session')")
    await other.add_init_script(f"sessionStorage.setItem('antiphon.session', '{session}')")
    await other.goto(page.url)
    await other.click("text=Go on and type")
    await other.fill("#key", KEY)
    await other.press("#key", "Enter")
    await is_connected(other)
    await shows(page, "#line-notice", "Another window has taken this conversation over.")
    await shows(other, ".caller", "What are the fees?")
    await page.click("text=Take it back")
    await is_connected(page)
    await shows(other, "#line-notice", "Another window has taken this conversation over.")
