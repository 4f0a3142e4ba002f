"""Redis servers of a test's own: on free ports of this machine, with folders of their own, ended for sure.

Never the machine's own Redis. A server is a real process, so its faults are real: killed, frozen, out of memory, a
replica, one that wants a password.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROGRAM = "redis-server"
UP_S = 20.0


async def eventually(ready: Callable[[], Any], within_s: float = UP_S) -> None:
    """Waits for ``ready()``, or what it awaits, to be true."""
    async with asyncio.timeout(within_s):
        while True:
            found = ready()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Redis:
    """One ``redis-server``. ``options`` are lines of its configuration, such as ``maxmemory="4mb"``."""

    def __init__(self, folder: Path, **options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.options = {
            "bind": "127.0.0.1",
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "repl-diskless-sync-delay": "0",
            "dir": str(folder),
            "logfile": str(folder / "redis.log"),
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> Redis:
        """Returns when it answers; a password that is wanted is an answer."""
        lines = [f"port {self.port}", *(f"{name} {value}" for name, value in self.options.items())]
        config = self.folder / "redis.conf"
        config.write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen(
            [PROGRAM, str(config)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + UP_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                if self.ask("PING").startswith(("+PONG", "-NOAUTH")):
                    return self
            time.sleep(0.02)
        log = self.folder / "redis.log"
        raise AssertionError(f"redis-server did not come up: {log.read_text() if log.exists() else 'no log'}")

    def ask(self, *words: str) -> str:
        """The first part of the answer to a command, as it comes over the wire."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as wire:
            if "requirepass" in self.options and words != ("PING",):
                wire.sendall(_packed("AUTH", self.options["requirepass"]))
                wire.recv(65_536)
            wire.sendall(_packed(*words))
            return wire.recv(65_536).decode(errors="replace")

    def set(self, name: str, value: str) -> None:
        """Changes its configuration while it runs."""
        assert self.ask("CONFIG", "SET", name, value).startswith("+OK")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """``kill -9``; it can be started again, with what it had kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


def _packed(*words: str) -> bytes:
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return f"*{len(words)}\r\n{''.join(parts)}".encode()


@contextlib.contextmanager
def redis(folder: Path, **options: str) -> Iterator[Redis]:
    """A server that runs."""
    server = Redis(folder, **options)
    try:
        yield server.start()
    finally:
        server.kill()


@contextlib.contextmanager
def cluster(folder: Path, primaries: int = 3, replicas: int = 0) -> Iterator[list[Redis]]:
    """The nodes of a cluster that is up, primaries first; replica ``n`` is that of primary ``n``."""
    nodes = [
        Redis(
            folder / f"node{number}",
            cluster_enabled="yes",
            cluster_node_timeout="1500",
            cluster_config_file="nodes.conf",
            cluster_port=str(free_port()),
        )
        for number in range(primaries + replicas)
    ]
    try:
        for node in nodes:
            node.start()
        _join(nodes, primaries)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def _join(nodes: list[Redis], primaries: int) -> None:
    for number, node in enumerate(nodes[:primaries]):
        first, last = 16384 * number // primaries, 16384 * (number + 1) // primaries - 1
        assert node.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last)).startswith("+OK")
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
    for node in nodes[1:]:
        node.ask("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port), nodes[0].options["cluster-port"])
    _until(lambda: all(f"cluster_known_nodes:{len(nodes)}\r" in node.ask("CLUSTER", "INFO") for node in nodes))
    for number, node in enumerate(nodes[primaries:]):
        primary = nodes[number].ask("CLUSTER", "MYID").split("\r\n")[1]
        assert node.ask("CLUSTER", "REPLICATE", primary).startswith("+OK")
    _until(lambda: all("cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in nodes))
    _until(lambda: all("master_link_status:up" in node.ask("INFO", "replication") for node in nodes[primaries:]))


def _until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + UP_S
    while time.monotonic() < deadline:
        if ready():
            return
        time.sleep(0.05)
    raise AssertionError("the cluster did not come together")
