"""What a start does at once, what it leaves out, and what it does not stop for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from antiphon.assembly import _all_started
from antiphon.errors import ConfigError
from antiphon.sim.clock import run

ELSEWHERE = ("aiohttp", "espeakng_loader", "livekit", "onnxruntime", "openai", "piper", "pocketsphinx", "redis", "rich")
"""Of no use to a server with the offline providers: of other providers, of other commands, of worker processes."""


class Part:
    """Takes some seconds to start, and may fail then."""

    def __init__(self, name: str, seconds: float, error: Exception | None = None) -> None:
        self.name, self.seconds, self.error = name, seconds, error
        self.started = False

    async def start(self) -> None:
        await asyncio.sleep(self.seconds)
        self.started = True
        if self.error:
            raise self.error

    async def close(self) -> None:
        """Nothing to close."""


def test_a_start_takes_as_long_as_its_slowest_part() -> None:
    async def main() -> None:
        parts, starting = [Part("quick", 1), Part("slow", 3)], set[str]()
        loop = asyncio.get_running_loop()
        loop.call_at(0.5, lambda: seen.append(set(starting)))
        loop.call_at(2.5, lambda: seen.append(set(starting)))
        await _all_started(parts, {"web": partial(asyncio.sleep, 2)}, starting)
        assert loop.time() == pytest.approx(3)
        assert seen == [{"quick", "slow", "web"}, {"slow"}]
        assert starting == set()

    seen: list[set[str]] = []
    run(main())


def test_a_part_that_fails_is_told_of_when_all_have_come_to_an_end() -> None:
    async def main() -> None:
        broken, slow = Part("broken", 1, ConfigError("no model")), Part("slow", 3)
        with pytest.raises(ConfigError, match="no model"):
            await _all_started([broken, slow], {}, set())
        assert slow.started

    run(main())


@pytest.mark.filterwarnings("error")
def test_a_start_that_is_called_off_before_its_first_step_leaves_nothing_unawaited() -> None:
    async def main() -> None:
        starting = asyncio.ensure_future(_all_started([Part("a", 1)], {"web": partial(asyncio.sleep, 2)}, set()))
        asyncio.get_running_loop().call_soon(starting.cancel)
        with pytest.raises(asyncio.CancelledError):
            await starting

    run(main())


def python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_a_server_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from antiphon import config; from antiphon.assembly import assembled\n"
        "async def main():\n"
        "    async with assembled(config.load(environ={})):\n"
        f"        print([name for name in {ELSEWHERE!r} if name in sys.modules])\n"
        "asyncio.run(main())\n"
    )
    assert python(code, tmp_path).splitlines() == ["[]"]


def test_the_collector_rests_while_the_command_starts_a_server(tmp_path: Path) -> None:
    code = (
        "import gc, antiphon.assembly; from antiphon.cli import main; from antiphon.errors import ConfigError\n"
        "def assembled(*_):\n"
        "    print(gc.isenabled())\n"
        "    raise ConfigError('enough')\n"
        "antiphon.assembly.assembled = assembled\n"
        "print(main(['serve', '--port', '0']), gc.isenabled())\n"
    )
    assert python(code, tmp_path).splitlines() == ["False", "2 True"]
