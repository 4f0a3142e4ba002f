"""A server of its own process for a test: started with a settings file, asked over its sockets, ended for sure."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from antiphon.kernel.events import Entry
from antiphon.observe.projections import conversation
from antiphon.observe.views import Conversation
from antiphon.stores.choice import open_journal

READY_S = 60.0
END_S = 20.0

FAKE = {
    "stt": {"provider": "fake"},
    "llm": {"provider": "fake"},
    "tts": {"provider": "fake"},
    "intent": {"provider": "none"},
    "retrieval": {"provider": "none"},
}
"""Providers without a model or a process: such a server is up in a second."""

Settings = Mapping[str, Mapping[str, Any]]


class Server:
    """``antiphon serve`` with ``settings`` over the defaults, on a free port, with its journal in ``folder``."""

    command_line: tuple[str, ...] = ("serve",)

    def __init__(self, folder: Path, settings: Settings | None = None, **environ: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.journal = Path(
            str((settings or {}).get("journal", {}).get("path", "") or folder / "journal" / "calls.sqlite")
        )
        self.place = environ.get("REDIS_URL") or str(self.journal)
        """Where its journal is, for whoever reads it."""
        tables = {"journal": {"path": str(self.journal)}, "log": {"level": "INFO"}}
        for name, table in (settings or {}).items():
            tables[name] = {**tables.get(name, {}), **table}
        (folder / "settings.toml").write_text(toml(tables), encoding="utf-8")
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANTIPHON_", "REDIS_"))},
            **environ,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._runs = 0
        self.port = 0
        self.wants_port = 0
        """The port to listen on when it is started; 0: any."""
        self.file_limit = 0
        """Bytes that no file of the server may exceed, as on a disk that is full; 0: as usual."""

    # -- life -------------------------------------------------------------------------------------

    async def start(self) -> Server:
        """Returns when the server listens; raises with its log if it ends or takes over ``READY_S``."""
        self._runs += 1
        self._process = self._spawn()
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._process.poll() is None:
            said = (self.folder / f"out.{self._runs}").read_text()
            found = re.search(r"listens on http://127\.0\.0\.1:(\d+)/", said)
            if found:
                self.port = int(found[1])
                return self
            await asyncio.sleep(0.05)
        raise AssertionError(f"the server did not come up (status {self._process.poll()}):\n{self.log()}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "antiphon", *self.command_line]
        words += ["--config", str(self.folder / "settings.toml"), "--port", str(self.wants_port)]
        if self.file_limit:
            words = ["sh", "-c", f'ulimit -f {self.file_limit // 512}; exec "$@"', "sh", *words]
        with (
            (self.folder / f"out.{self._runs}").open("wb") as out,
            (self.folder / f"log.{self._runs}").open("wb") as log,
        ):
            # A session of its own: a signal to its group reaches nobody else.
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=self.folder,
                env=self._environ,
                start_new_session=True,
            )

    def end(self) -> None:
        """Whatever happened: nothing of the server is left."""
        if self._process is None:
            return
        family = self.children()
        self._process.kill()  # does nothing to a process that has ended
        self._process.wait(END_S)
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, within_s: float = END_S) -> int:
        """The exit status, once the server is gone."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, within_s)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    # -- looking at it ----------------------------------------------------------------------------

    @property
    def process(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def children(self) -> list[psutil.Process]:
        try:
            return self.process.children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def workers(self, module: str) -> list[psutil.Process]:
        """The worker processes that run ``module``, youngest last."""
        found = []
        for each in self.children():
            with contextlib.suppress(psutil.Error):
                if any(module in word for word in each.cmdline()):
                    found.append(each)
        return sorted(found, key=lambda each: each.pid)

    @property
    def line(self) -> str:
        return f"ws://127.0.0.1:{self.port}/media-stream"

    async def get(self, path: str) -> dict[str, Any]:
        """The JSON that an HTTP request is answered with, whatever its status."""
        return dict(json.loads(await self.text(path)))

    async def text(self, path: str) -> str:
        """The body that an HTTP request is answered with, whatever its status."""

        def fetch() -> bytes:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", path)
                return connection.getresponse().read()

        return (await asyncio.to_thread(fetch)).decode()

    def log(self) -> str:
        logs = sorted(self.folder.glob("log.*"))
        return "\n".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)

    # -- its journal ------------------------------------------------------------------------------

    async def entries(self, call: str) -> list[Entry]:
        journal = open_journal(self.place, access="read")
        try:
            await journal.start()
            return await journal.read(call)
        finally:
            await journal.close()

    async def conversation(self, call: str) -> Conversation:
        return conversation(await self.entries(call))

    async def command(self, *words: str, status: int = 0) -> str:
        """What ``antiphon`` prints to these words about this server's journal."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "antiphon", *words, "--journal", self.place),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=self._environ,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == status, f"{words}: status {process.returncode}\n{out.decode()}\n{err.decode()}"
        return out.decode()


@contextlib.contextmanager
def ended(*servers: Server) -> Iterator[None]:
    """Ends the servers, whatever happens."""
    try:
        yield
    finally:
        for server in servers:
            server.end()


async def until(ready: Callable[[], Any], within_s: float, what: str) -> Any:
    """Waits for ``ready()`` to be true and returns it."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = ready()
        if found:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {within_s} s: {what}")


def toml(tables: Settings) -> str:
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return json.dumps(value, ensure_ascii=False)
