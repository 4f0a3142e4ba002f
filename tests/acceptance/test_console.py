"""The page in a real browser, before a server that says what each story needs: what is shown, heard and said."""

from __future__ import annotations

import asyncio
import math
import re
import struct
import time
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from calling import chosen
from console_browser import PageStories, cleared, fits, floor, is_connected, played, shows, start, window
from console_fake import Fake, connected, until
from playwright.async_api import Browser, Page

pytestmark = pytest.mark.needs("chromium")

stories = PageStories()

EVIL = '<img src=x onerror="window.pwned = 1"><script>window.pwned = 1</script>'
ANSWER = "You need sixty percent in class twelve. You also need a valid score in the entrance test."
HEARD = "You need sixty percent in class twelve. You also"
SOURCES = [
    {"id": "a", "title": "Admission rules", "source": "rules.md", "score": 0.83, "text": "At least sixty percent."},
    {"id": "b", "title": EVIL, "source": EVIL, "score": 0.5, "text": EVIL},
]
NAMES = [{name: value for name, value in source.items() if name != "text"} for source in SOURCES]
"""As the socket tells them."""
PARTS = [
    {"name": "hangover", "ms": 120, "owner": "wait"},
    {"name": "stt", "ms": 50, "owner": "provider"},
    {"name": "first_segment", "ms": 0, "owner": "provider"},
    {"name": "playout", "ms": 12, "owner": "antiphon"},
]
LATENCY = {"total_ms": 182, "added_ms": 12, "first": "reply", "answer_ms": 182, "parts": PARTS}


def tone(seconds: float, hertz: int = 440) -> bytes:
    """16 bit samples at 16 kHz."""
    return b"".join(
        struct.pack("<h", int(8000 * math.sin(math.tau * hertz * at / 16_000))) for at in range(int(16_000 * seconds))
    )


def said(turn: int, text: str, heard: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "spoken", "turn_id": turn, "text": text, "heard": heard, "done": False, "kind": "reply", **more}


def state(name: str) -> dict[str, Any]:
    return {"type": "state", "session_id": "s", "state": name, "turn_id": 1, "at_ms": 0}


def words(utterance: int, text: str, *, final: bool = True) -> dict[str, Any]:
    return {"type": "transcript", "utterance": utterance, "text": text, "final": final, "language": "en-IN"}


# -- how it looks ---------------------------------------------------------------------------------


# The longest story is told first: the others are told beside it.
@stories.tell
async def it_is_readable_in_dark_in_light_and_on_a_phone(browser: Browser) -> None:
    """By the rules of axe (WCAG 2.2 AA): contrast, names, roles; and nothing needs scrolling sideways at 360 pixels."""
    looks: list[tuple[Any, int]] = [("dark", 1280), ("light", 360)]
    await asyncio.gather(*(is_readable(browser, scheme, width) for scheme, width in looks))


async def is_readable(browser: Browser, scheme: Any, width: int) -> None:
    size = {"width": width, "height": 740}
    async with Fake() as fake, window(browser, fake.url, color_scheme=scheme, viewport=size) as page:
        fake.listed = [listed("a-long-name-of-a-session-" * 8, status="live"), listed("made-here")]
        fake.views["made-here"], fake.timelines["made-here"] = VIEW, TIMELINE
        await passes(page)
        await start(page)
        await fake.say(
            words(1, "What are the requirements of admission?" + "long" * 40),
            said(2, ANSWER, HEARD, done=True),
            {"type": "latency", "turn_id": 2, "total_ms": 182, "parts": PARTS},
            {"type": "response", "turn_id": 2, "text": ANSWER, "intent": "admission", "sources": SOURCES},
            {"type": "interruption", "turn_id": 2, "decision": "cancelled"},
            said(3, ANSWER, HEARD),
            words(2, "and what of", final=False),
            state("INTERRUPT"),
        )
        await shows(page, ".partial", "and what of")
        await page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        await passes(page)
        await fake.stop()
        await shows(page, "#line-notice", "cannot be reached")
        await passes(page)
        await fake.start()
        await page.click("#to-sessions")
        await shows(page, ".list", "made-here")
        await passes(page)
        await page.click(".list >> text=made-here")
        await shows(page, ".line.agent", "There is one.")
        await passes(page)


async def passes(page: Page) -> None:
    await fits(page)
    found = await Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
    assert found.violations_count == 0, found.generate_report()


@stories.tell
async def the_colours_are_the_visitors_choice(browser: Browser) -> None:
    async with Fake() as fake, window(browser, fake.url, color_scheme="light") as page:
        light = await page.evaluate(BACKGROUND)
        await page.click("text=Colours: system")
        await shows(page, "#theme", "Colours: dark")
        dark = await page.evaluate(BACKGROUND)
        assert dark != light
        await page.reload()
        assert await page.evaluate(BACKGROUND) == dark, "the choice is remembered"
        await page.click("text=Colours: dark")
        assert await page.evaluate(BACKGROUND) == light
        moving = await page.evaluate("document.getAnimations().length")
        assert moving == 0, "who asked for less motion gets none"


BACKGROUND = "getComputedStyle(document.body).backgroundColor"


# -- what is shown --------------------------------------------------------------------------------


@stories.tell
async def a_conversation_is_shown_as_it_is_held(browser: Browser) -> None:
    async with Fake() as fake, window(browser, fake.url) as page:
        await start(page)
        await fake.say(state("LISTENING"), words(1, "what are", final=False))
        await shows(page, ".caller.partial", "what are")
        await fake.say(words(1, "What are the requirements?"), state("THINKING"))
        await shows(page, ".caller:not(.partial)", "What are the requirements?")
        assert await page.locator(".caller").count() == 1, "the final words stand where the guess stood"
        await floor(page, "Thinking")
        await fake.say(
            {"type": "response", "turn_id": 2, "text": ANSWER, "intent": "admission", "sources": NAMES}
            | {"session_id": "s", "language": "en-IN", "latency_ms": {"total": 182}, "complete": True, "kind": "reply"},
            {"type": "latency", "turn_id": 2, "total_ms": 182, "parts": PARTS},
            state("SPEAKING"),
            said(2, ANSWER, HEARD),
        )
        await shows(page, ".agent .heard", HEARD)
        await shows(page, ".agent .coming", "need a valid score")
        for chip in ("admission", "English (India)"):
            await shows(page, ".agent .chip", chip)
        await the_latency_is_drawn(page)
        await fake.say({"type": "interruption", "turn_id": 2, "decision": "paused"}, state("INTERRUPT"))
        await shows(page, ".marks .chip", "paused")
        await fake.say(
            {"type": "interruption", "turn_id": 2, "decision": "cancelled"}, said(2, ANSWER, HEARD, done=True)
        )
        await shows(page, ".marks .chip", "you took the floor")
        assert await page.locator(".marks .chip").count() == 1, "a pause that is decided is not shown as a pause"
        await shows(page, ".agent s.unheard", "need a valid score in the entrance test.")
        fake.views["made-here"] = VIEW
        await page.click(".sources > summary")
        await page.click(".source > summary >> nth=0")
        await shows(page, ".source p", "At least sixty percent.")


async def the_latency_is_drawn(page: Page) -> None:
    """In the turn and beside it: each part that took time, with its owner; the total; nothing that took none."""
    for place in ("#last-latency", ".agent .latency"):
        rows = page.locator(f"{place} tbody tr")
        assert await rows.count() == 3
        owners = await page.locator(f"{place} .when .bar").evaluate_all("bars => bars.map(bar => bar.dataset.owner)")
        assert owners == ["wait", "provider", "antiphon"]
    await shows(page, "#last-latency", "182 ms")
    await page.click(".agent .latency > summary")
    widths = await page.locator(".agent .when .bar").evaluate_all("bars => bars.map(bar => bar.offsetWidth)")
    assert widths[0] > widths[1] > widths[2] > 0


@stories.tell
async def text_is_never_read_as_html(browser: Browser) -> None:
    async with Fake() as fake, window(browser, fake.url) as page:
        await start(page)
        await fake.say(
            words(1, EVIL, final=False),
            words(1, EVIL),
            said(1, EVIL, EVIL[:20], kind=EVIL),
            {"type": "response", "turn_id": 1, "text": EVIL, "intent": EVIL, "sources": SOURCES, "language": EVIL},
            {"type": "interruption", "turn_id": 1, "decision": EVIL},
            {"type": "latency", "turn_id": 1, "total_ms": 1, "parts": [{"name": EVIL, "ms": 1, "owner": EVIL}]},
            {"type": "error", "code": EVIL, "message": EVIL},
        )
        await shows(page, ".caller .words", EVIL)
        await page.click(".sources > summary")
        await shows(page, ".source", EVIL)
        await shows(page, "#hint", EVIL)
        fake.listed = [listed(EVIL)]
        await page.click("#to-sessions")
        await shows(page, ".list a", EVIL)
        assert await page.locator("main img, main script").count() == 0
        assert await page.evaluate("window.pwned") is None
        with pytest.raises(Exception, match="TrustedHTML"):
            await page.evaluate("document.body.innerHTML = '<b>x</b>'")


# -- what is heard --------------------------------------------------------------------------------


@stories.tell
async def sound_is_played_and_marks_are_answered_when_it_was(browser: Browser) -> None:
    async with Fake() as fake, window(browser, fake.url) as page:
        await start(page)
        began = time.monotonic()
        await fake.sound(tone(0.6))
        await fake.say({"type": "mark", "name": "1.0.0"})
        await until(lambda: fake.got("mark"))
        assert time.monotonic() - began > 0.55, "0.6 s of sound were not heard sooner"
        account = await played(page)
        assert account["played"] == 9600
        assert account["loudest"] > 0.1, "what was played was the tone, not silence"
        await fake.sound(tone(10))
        await fake.say({"type": "mark", "name": "1.1.0"})
        await asyncio.sleep(0.3)
        assert len(fake.got("mark")) == 1, "what it stands behind is not played yet"
        await fake.say({"type": "clear"})
        account = await cleared(page)
        assert account["cleared"] > 4 * 16_000
        assert account["played"] + account["cleared"] == 10.6 * 16_000, "each sample was played or thrown away"
        await until(lambda: len(fake.got("mark")) == 2)  # thrown away is answered, too
        await fake.sound(tone(0.1))
        await fake.say({"type": "mark", "name": "2.0.1"})
        await until(lambda: len(fake.got("mark")) == 3)
        assert [mark["name"] for mark in fake.got("mark")] == ["1.0.0", "1.1.0", "2.0.1"]


@stories.tell
async def the_microphone_is_brought_to_16_khz(browser: Browser) -> None:
    """A tone of 1 kHz at 44.1 and 48 kHz comes out as it was, and one of 12 kHz, which would alias, does not."""
    async with Fake() as fake, window(browser, fake.url) as page:
        for rate in (8_000, 44_100, 48_000):
            loud = await page.evaluate(RESAMPLED, [rate, 1000])
            assert loud["level"] == pytest.approx(0.707, abs=0.02)
            assert loud["count"] == pytest.approx(16_000, rel=0.01)
        alias = await page.evaluate(RESAMPLED, [48_000, 12_000])
        assert alias["level"] < 0.002


RESAMPLED = """async ([rate, hertz]) => {
  const { Resampler } = await import(new URL("console/resample.js", document.baseURI));
  const resampler = new Resampler(rate, 16000);
  const out = [];
  for (let at = 0; at < rate; at += 128) {
    const block = Float32Array.from({ length: 128 }, (_, i) => Math.sin((2 * Math.PI * hertz * (at + i)) / rate));
    resampler.push(block, (sample) => out.push(sample));
  }
  const settled = out.slice(1000, -1000);
  const power = settled.reduce((sum, sample) => sum + sample * sample, 0) / settled.length;
  return { level: Math.sqrt(power), count: out.length };
}"""


# -- what a visitor does --------------------------------------------------------------------------


@stories.tell
async def everything_works_by_keyboard(browser: Browser) -> None:
    async with Fake() as fake, window(browser, fake.url) as page:
        await to(page, "start-voice")
        await page.keyboard.press("Enter")
        await is_connected(page)
        assert await focused(page) == "talk"
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", "the focus is to be seen"
        await page.keyboard.down("Space")
        await shows(page, "#talk-label", "Listening to you")
        await until(lambda: len(fake.heard) > 16_000)
        await page.keyboard.up("Space")
        await shows(page, "#talk-label", "Hold to talk")
        await until(lambda: fake.heard.endswith(bytes(40_000)))  # the silence by which the agent knows
        sent = 0
        while sent != len(fake.heard):  # nothing is sent while nobody talks
            sent = len(fake.heard)
            await asyncio.sleep(0.4)
        await to(page, "text")
        await page.keyboard.type("is there a hostel")  # with spaces: they belong to the field
        await page.keyboard.press("Enter")
        await until(lambda: fake.got("text"))
        assert fake.got("text")[0]["text"] == "is there a hostel"
        await shows(page, ".caller", "is there a hostel")
        await to(page, "open-mic")
        await page.keyboard.press("Space")
        await shows(page, "#talk-label", "Microphone open")
        await until(lambda: len(fake.heard) > sent)
        await to(page, "hang-up")
        await page.keyboard.press("Enter")
        await shows(page, "#line-notice", "You ended the conversation.")
        await to(page, "to-sessions")
        await page.keyboard.press("Enter")
        await shows(page, "#sessions-view h2", "Sessions")


async def focused(page: Page) -> str:
    return str(await page.evaluate("document.activeElement.id"))


async def to(page: Page, id: str) -> None:
    """The tabulator leads there, from wherever."""
    for _ in range(60):
        if await focused(page) == id:
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"the tabulator does not lead to #{id}")


@stories.tell
async def a_microphone_that_is_refused_is_said_plainly(browser: Browser) -> None:
    async with Fake() as fake, window(browser, fake.url, permissions=[]) as page:
        await start(page)
        await shows(page, "#hint", "The microphone was refused.")
        await they_can_type(page, fake)


@stories.tell
async def a_microphone_that_is_not_there_is_said_plainly(browser: Browser) -> None:
    for error, told in (("NotFoundError", "No microphone was found."), ("NotReadableError", "Another program")):
        async with Fake() as fake, window(browser, "about:blank") as page:
            await page.add_init_script(
                f"navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('no', '{error}') }}"
            )
            await page.goto(fake.url)
            await start(page)
            await shows(page, "#hint", told)
            await they_can_type(page, fake)


async def they_can_type(page: Page, fake: Fake) -> None:
    await shows(page, "#hint", "type instead")
    assert await focused(page) == "text"
    await page.keyboard.type("hello")
    await page.keyboard.press("Enter")
    await until(lambda: fake.got("text"))


@stories.tell
async def where_a_browser_may_not_play_the_agent_is_read(browser: Browser) -> None:
    """As over plain http from another machine: browsers have no worklets there, and no microphone."""
    async with Fake() as fake, window(browser, "about:blank") as page:
        await page.add_init_script("delete window.AudioWorkletNode")
        await page.goto(fake.url)
        await start(page)
        await shows(page, "#hint", "over https only")
        assert "audio=none" in fake.asked[-1][0]
        await fake.say(said(1, "Hello.", "Hello."), {"type": "mark", "name": "1.0.0"})
        await shows(page, ".agent .heard", "Hello.")
        await until(lambda: fake.got("mark"))


# -- when the line breaks -------------------------------------------------------------------------


@stories.tell
async def a_server_that_is_gone_is_waited_for(browser: Browser) -> None:
    async with Fake() as fake, window(browser, fake.url) as page:
        await start(page)
        await page.check("#open-mic")
        await fake.say(said(1, "Hello.", "Hello.", done=True), state("LISTENING"))
        await shows(page, ".agent", "Hello.")
        await fake.stop()
        await shows(page, "#line-notice", "The server cannot be reached.")
        await shows(page, "#line-notice", "Trying again in")
        await floor(page, "Idle")
        fake.greeting = [connected("made-here", resumed=True, unheard={"turn_id": 1, "text": "And goodbye."})]
        await fake.start()
        await is_connected(page)
        heard = len(fake.heard)
        await until(lambda: len(fake.heard) > heard)  # a microphone that was open still is
        await shows(page, ".note", "And goodbye.")
        await shows(page, ".agent", "Hello.")
        paths = [path for path, _ in fake.asked if path.startswith("/orchestrate")]
        assert len(paths) == 2
        assert paths[0] == paths[1], "the same conversation"
        assert "session_id=made-here" in paths[0]
        await page.reload()
        fake.views["made-here"] = VIEW
        await page.click("text=Go on and type")
        await shows(page, ".caller", "What are the fees?")
        assert fake.asked[-1][1]["authorization"] == "Bearer a.b.c", "the session's own token opens its view"


@stories.tell
async def every_way_to_lose_the_line_says_what_to_do(browser: Browser) -> None:
    async with Fake() as fake, window(browser, fake.url) as page:
        await start(page, by_voice=False)
        await fake.close(4001, "session.taken_over")
        await shows(page, "#line-notice", "Another window has taken this conversation over.")
        await asyncio.sleep(1.5)
        assert len(fake.sockets) == 1, "it is not taken back without being asked to"
        await page.click("text=Take it back")
        await until(lambda: len(fake.sockets) == 2)
        await is_connected(page)
        await fake.close(1008, "line.idle")
        await shows(page, "#line-notice", "Nothing was said for a while")
        await page.click("text=Go on")
        await until(lambda: len(fake.sockets) == 3)
        await is_connected(page)
        fake.refusal = (503, "admission.full", {"Retry-After": "40"})
        await fake.close(1013, "admission.full")
        await shows(page, "#line-notice", "All lines are busy.")
        await shows(page, "#line-count", re.compile("Trying again in (40|39|38) s."))
        fake.refusal = None
        await page.click("#line-action")
        await is_connected(page)
        await fake.say({"type": "ended", "reason": "goodbye"})
        await fake.close(1000, "goodbye")
        await shows(page, "#line-notice", "The agent said goodbye.")
        await page.click("text=New conversation")
        await is_connected(page)


@stories.tell
async def a_key_is_asked_for_and_kept_nowhere(browser: Browser) -> None:
    async with Fake() as fake, window(browser, fake.url) as page:
        fake.key = "a-key-that-nobody-else-knows"
        await page.click("#start-text")
        for given in ("wrong", fake.key):
            await page.fill("#key", given)
            await page.click("text=Go on >> visible=true")
        await is_connected(page)
        assert await page.locator("#key").input_value() == ""
        path, headers = next(each for each in fake.asked if each[0].startswith("/orchestrate"))
        assert headers["sec-websocket-protocol"] == "antiphon.v1, bearer.a.b.c"
        assert "a.b.c" not in path
        kept = await page.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
        )
        assert fake.key not in kept
        assert "a.b.c" not in kept
        await page.click("#to-sessions")
        await shows(page, "#sessions-view", "No conversation yet")


# -- the second view ------------------------------------------------------------------------------


def listed(id: str, **more: Any) -> dict[str, Any]:
    item = {"session_id": id, "status": "closed", "started_at": "2026-05-01T10:00:00Z", "transport": "orchestrate"}
    return (
        item
        | {"language": "en-IN", "caller": "", "last_turn": 2, "entries": 9, "duration_ms": 6000, "floor": ""}
        | more
    )


def turn(number: int, question: str, answer: str, heard: str, at: int, **more: Any) -> dict[str, Any]:
    segment = {
        "segment": 0,
        "text": answer,
        "kind": "reply",
        "heard": "heard",
        "heard_chars": len(heard),
        "at_ms": at + 400,
    }
    return {
        "turn": number, "at_ms": at, "input": "speech", "outcome": "answered", "language": "en-IN",
        "question": question, "answer": answer, "heard": heard, "intent": "fees", "intent_confidence": 0.9,
        "sources": SOURCES, "latency": LATENCY,
        "interruptions": [], "segments": [segment], "speech": [], "failures": [], "notes": [], "effects": [],
    } | more  # fmt: skip


VIEW: dict[str, Any] = listed("made-here") | {
    "ended": "goodbye",
    "counts": {
        "turns": 2,
        "answered": 2,
        "interruptions": 1,
        "backchannels": 0,
        "false_interruptions": 0,
        "failures": 0,
    },
    "median_ms": 182,
    "p95_ms": 182,
    "diverged_at": 0,
    "turns": [
        turn(1, "What are the fees?", ANSWER, HEARD, 1000, interruptions=[{"at_ms": 3000, "decision": "cancelled"}]),
        turn(2, "And the hostel?", "There is one.", "There is one.", 4000),
    ],
    "line": [{"at_ms": 6000, "kind": "hung_up", "detail": ""}],
    "unanswered": [],
    "next": None,
}


def entry(seq: int, at: int, event: str, floor_after: str, **data: Any) -> dict[str, Any]:
    return {"seq": seq, "at_ms": at, "event": event, "floor": floor_after, "data": data}


TIMELINE = [
    entry(1, 0, "SessionStarted", "LISTENING"),
    entry(2, 300, "SpeechStarted", "LISTENING"),
    entry(3, 1000, "SpeechStopped", "LISTENING", hangover_ms=200),
    entry(4, 1100, "TranscriptFinal", "THINKING", text="What are the fees?"),
    entry(5, 1300, "SegmentReady", "SPEAKING", turn=1, segment=0, text=ANSWER),
    entry(6, 1400, "SegmentStarted", "SPEAKING", turn=1, segment=0),
    entry(7, 3000, "SpeechStarted", "INTERRUPT"),
    entry(8, 3400, "PlayoutStopped", "LISTENING", turn=1, segment=0, heard_chars=10),
    entry(9, 6000, "CallerHungUp", "IDLE"),
]


@stories.tell
async def a_past_session_is_opened_played_and_replayed(browser: Browser) -> None:
    async with Fake() as fake, window(browser, fake.url, reduced_motion="no-preference") as page:
        fake.listed = [listed("live-one", status="live"), listed("made-here")]
        fake.views["made-here"], fake.timelines["made-here"] = VIEW, TIMELINE
        fake.replays["made-here"] = {"identical": True, "entries": 9, "diverged": None, "error": ""}
        await page.click("#to-sessions")
        await shows(page, "#sessions-view", "2 sessions, 1 live.")
        await page.click("text=made-here")
        await shows(page, ".line.agent", "There is one.")
        await shows(page, "s.unheard", "need a valid score")
        drawn = await page.evaluate(
            "Object.fromEntries(['caller', 'agent', 'floor'].map("
            "(lane) => [lane, document.querySelectorAll(`.timeline rect.${lane}`).length]))"
        )
        assert drawn == {"caller": 2, "agent": 1, "floor": 5}
        agent = await page.locator(".timeline rect.agent title").text_content()
        assert agent is not None
        assert agent.startswith("0:01.4 to 0:03.0 "), "it fell silent when the caller spoke"
        await page.locator("input[type=range]").fill("1500")
        await shows(page, ".timeline-now", "Speaking. Agent: You need sixty percent")
        await shows(page, ".line.now", "You need sixty percent")
        await page.select_option("select", "4")
        await page.click("text=Play >> visible=true")
        await shows(page, ".time", "0:06.0 of 0:06.0")
        await shows(page, ".line.now", "The caller hung up.")
        await page.click("text=Replay")
        await shows(page, ".replay", "Every digest agrees: 9 entries.")
        where = {"seq": 5, "at_ms": 1300, "floor": "SPEAKING", "event": "SegmentReady", "then": "a", "now": "b"}
        fake.replays["made-here"] |= {"identical": False, "diverged": where | {"decided_now": ["Say"]}}
        await page.click("text=Replay")
        await shows(page, ".replay", "Entry 5 (SegmentReady) is decided otherwise")
        await page.goto(f"{fake.url}#sessions/nobody")
        await shows(page, "#sessions-view", "There is no such session.")


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, BaseException | None]:
    return stories.together(chosen(request))


@pytest.mark.parametrize("name", stories.names)
def test_the_page(outcomes: dict[str, BaseException | None], name: str) -> None:
    outcome = outcomes[name]
    if outcome is not None:
        raise outcome
