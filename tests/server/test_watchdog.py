"""The real server, frozen and stopped: a process whose loop stands still ends, one that sleeps on purpose does not."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from antiphon.config import Settings

PROGRAM = """
import signal, sys, time
from antiphon.cli import main
def freezes(*_):
    time.sleep(60)
signal.signal(signal.SIGUSR1, freezes)
sys.exit(main(["serve", "--port", "0", "--config", "settings.toml"]))
"""

SETTINGS = """
[server]
watchdog_s = {watchdog_s}
[journal]
path = "calls.sqlite"
[llm]
provider = "fake"
[stt]
provider = "fake"
[tts]
provider = "espeak"
[intent]
provider = "none"
[retrieval]
provider = "none"
"""
"""The voice has a process of its own, which must not outlive the server."""


@contextmanager
def serving(folder: Path, watchdog_s: float) -> Iterator[tuple[subprocess.Popen[str], int]]:
    (folder / "settings.toml").write_text(SETTINGS.format(watchdog_s=watchdog_s))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")},
    )
    try:
        assert process.stdout is not None
        found = re.search(r"listens on http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert found, process.communicate(timeout=5)[1]
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate(timeout=10)


def read(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.read()


def test_a_frozen_server_ends_with_its_stack_and_everything_that_belongs_to_it(tmp_path: Path) -> None:
    async def is_cut_off(port: int) -> float:
        async with connect(f"ws://127.0.0.1:{port}/media-stream") as client:
            process.send_signal(signal.SIGUSR1)
            frozen = time.monotonic()
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(client.recv(), 10)
            return time.monotonic() - frozen

    with serving(tmp_path, 0.5) as (process, port):
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        assert asyncio.run(is_cut_off(port)) < 2.0
        assert process.wait(5) == 1
        assert "in freezes" in read(process.stderr), "where it stood still"
        assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_server_that_is_stopped_and_continued_goes_on(tmp_path: Path) -> None:
    async def answers(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return answer

    with serving(tmp_path, 0.5) as (process, port):
        itself = psutil.Process(process.pid)
        process.send_signal(signal.SIGTSTP)  # Ctrl-Z
        deadline = time.monotonic() + 5
        while itself.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(1.0)  # twice the time it would be given
        process.send_signal(signal.SIGCONT)
        assert asyncio.run(answers(port)).startswith(b"HTTP/1.1 200 ")
        process.send_signal(signal.SIGUSR1)
        assert process.wait(5) == 1, "it is watched again"


def test_it_is_on_unless_turned_off_and_a_wrong_value_is_named_at_start(tmp_path: Path) -> None:
    assert Settings().server.watchdog_s == 5.0
    with pytest.raises(AssertionError, match=r"server\.watchdog_s must be 0"), serving(tmp_path, 0.1):
        pass
