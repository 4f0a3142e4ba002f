"""A real browser before the page: headless Chromium with a microphone that plays a file, and what tests ask of it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

WITHIN_MS = 15_000
AT_ONCE = 3
Story = Callable[[Browser], Awaitable[None]]


@asynccontextmanager
async def browsing(microphone: Path | None = None) -> AsyncIterator[Browser]:
    """``microphone``: a WAV that it plays once, from when a page opens it; else it beeps."""
    flags = ["--use-fake-device-for-media-stream"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium refuses to sandbox for root
    if microphone is not None:
        flags.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    program = shutil.which("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield browser
        finally:
            await browser.close()


class PageStories:
    """Stories told in one browser, each with a window of its own, ``AT_ONCE``; a test takes the outcome of each."""

    def __init__(self) -> None:
        self._stories: dict[str, Story] = {}

    def tell(self, story: Story) -> Story:
        self._stories[story.__name__] = story
        return story

    @property
    def names(self) -> list[str]:
        return list(self._stories)

    def together(self, chosen: Iterable[str]) -> dict[str, BaseException | None]:
        async def all_of_them() -> dict[str, BaseException | None]:
            names = list(chosen)
            room = asyncio.Semaphore(AT_ONCE)

            async def told(name: str, browser: Browser) -> None:
                async with room:
                    await self._stories[name](browser)

            async with browsing() as browser:
                ends = await asyncio.gather(*(told(name, browser) for name in names), return_exceptions=True)
            return dict(zip(names, ends, strict=True))

        return asyncio.run(all_of_them())


@asynccontextmanager
async def window(browser: Browser, url: str, **options: Any) -> AsyncIterator[Page]:
    """A window on ``url``, as of a visitor who was never there; what goes wrong in the page fails the test.

    The visitor wants less motion if nothing else is said: without a graphics processor motion costs a core.
    """
    usual = {"viewport": {"width": 1280, "height": 800}, "permissions": ["microphone"], "reduced_motion": "reduce"}
    options = usual | options
    context = await browser.new_context(**options)
    context.set_default_timeout(WITHIN_MS)
    page = await context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text) if told.type == "error" and _is_ours(told.text) else None)
    try:
        await page.goto(url)
        yield page
        assert not wrong, wrong
    except Exception as error:
        error.add_note(f"The page shows:\n{await page.inner_text('body')}\nand said: {wrong}")
        raise
    finally:
        await context.close()


def _is_ours(text: str) -> bool:
    """Chromium writes a line for what is refused or finds nobody, and where a string is to become HTML: the tests do
    all of that on purpose."""
    return not text.startswith(("Failed to load resource", "WebSocket connection to", "This document requires"))


async def shows(page: Page, selector: str, text: str | re.Pattern[str]) -> None:
    """Waits until an element of ``selector`` is to be seen that has ``text`` in it."""
    await page.locator(selector).filter(has_text=text, visible=True).first.wait_for()


async def floor(page: Page, state: str) -> None:
    await shows(page, "#state", state)


async def played(page: Page) -> dict[str, Any]:
    """Samples that went to the loudspeaker, that wait, that were thrown away; and the loudest level."""
    return dict(await page.evaluate("antiphon.played()"))


async def cleared(page: Page) -> dict[str, Any]:
    """The account, once sound was thrown away and none waits any more."""
    for _ in range(200):
        account = await played(page)
        if account["cleared"] > 0 and account["queued"] == 0:
            return account
        await asyncio.sleep(0.05)
    raise AssertionError(f"nothing was thrown away: {account}")


async def fits(page: Page) -> None:
    """Nothing is wider than the window."""
    wide, window_width = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= window_width, f"{wide} pixels wide in a window of {window_width}"


async def start(page: Page, *, by_voice: bool = True) -> None:
    await page.click("#start-voice" if by_voice else "#start-text")
    await is_connected(page)


async def is_connected(page: Page) -> None:
    await page.wait_for_selector("#connection[data-kind=open]")
