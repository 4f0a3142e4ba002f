"""What a session used is free when it ends, without the garbage collector: on a full server that runs seldom."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from served import FAKE, toml
from visitors import dial, hang_up, visit

from antiphon import config
from antiphon.assembly import assembled
from antiphon.server.run import Running, serve

PLACES = 12
SETTLED_S = 1.2
"""Longer than a connection lingers."""
SETTINGS = {**FAKE, "policy": {"greeting": False}, "server": {"max_sessions": PLACES}}


async def a_call(port: int, name: str) -> None:
    visitor = await dial(port, name)
    await asyncio.sleep(0.02)
    hang_up(visitor, name)
    await visitor.until_closed()
    await visitor.leave()


async def a_visit(port: int, name: str) -> None:
    visitor = await visit(port, name)
    await asyncio.sleep(0.02)
    visitor.say({"type": "end"})
    await visitor.until_closed()
    await visitor.leave()


async def a_visit_with_an_answer(port: int, name: str) -> None:
    visitor = await visit(port, f"{name}&audio=none")
    visitor.say({"type": "text", "text": "What are the fees?"})
    while (message := await visitor.hear()) is not None and not message.get("complete"):
        pass
    visitor.say({"type": "end"})
    await visitor.until_closed()
    await visitor.leave()


async def a_visit_that_interrupts(port: int, name: str) -> None:
    visitor = await visit(port, name)
    visitor.say({"type": "stt_fragment", "text": "What are the fees?", "is_final": True})
    visitor.say({"type": "vad_end"})
    await visitor.hear()
    await asyncio.sleep(0.3)
    visitor.say({"type": "user_speaking"})
    visitor.say({"type": "stt_fragment", "text": "Stop that please.", "is_final": True})
    await asyncio.sleep(0.3)
    visitor.say({"type": "end"})
    await visitor.until_closed()
    await visitor.leave()


async def a_call_turned_away(port: int, name: str) -> None:
    visitor = await dial(port, name)
    assert await visitor.until_closed() == (1013, "admission.full")
    await visitor.leave()


async def a_visit_turned_away(port: int, name: str) -> None:
    visitor = await visit(port, name)
    assert visitor.status == 503
    await visitor.leave()


Way = Callable[[int, str], Awaitable[None]]
TAKEN = (a_call, a_visit, a_visit_with_an_answer, a_visit_that_interrupts)
TURNED_AWAY = (a_call_turned_away, a_visit_turned_away)


async def left_by(way: Way, port: int) -> Counter[str]:
    """What only the collector finds after ten of them, by type."""
    for number in range(3):  # what is made once
        await way(port, f"{way.__name__}-first-{number}")
    await asyncio.sleep(SETTLED_S)
    gc.collect()
    gc.disable()
    try:
        await asyncio.gather(*(way(port, f"{way.__name__}-then-{number}") for number in range(10)))
        await asyncio.sleep(SETTLED_S)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return Counter(type(each).__name__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_nothing_is_left_for_the_collector(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(toml(SETTINGS), encoding="utf-8")
    settings = config.load(
        tmp_path / "settings.toml", environ={}, overrides={"journal.path": str(tmp_path / "journal.sqlite")}
    )

    async def main() -> dict[str, Counter[str]]:
        async with assembled(settings) as antiphon:
            ready: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
            serving = asyncio.ensure_future(
                serve(
                    *(antiphon.app, antiphon.routes),
                    port=0,
                    vitals=antiphon.vitals,
                    on_ready=ready.set_result,
                    signals=False,
                )
            )
            server = await ready
            found = {way.__name__: await left_by(way, server.port) for way in TAKEN}
            held = [await visit(server.port, f"held{number}") for number in range(PLACES)]
            found |= {way.__name__: await left_by(way, server.port) for way in TURNED_AWAY}
            for visitor in held:
                await visitor.leave()
            server.stop()
            await serving
            return found

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the stock loop's own transports are cycles
        found = runner.run(main())
    for way, types in found.items():
        assert types.total() < 10, f"{way}: less than one object for each; found {types.most_common(12)}"
