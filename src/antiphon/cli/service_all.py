"""The five processes of a deployment on one machine, without containers: started, watched, ended together.

The services come first, on their ports or on free ones, and each says where it is; then the orchestrator, which is told
their addresses. A service that ends by itself is reported and left as it is: the orchestrator goes on without it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import secrets
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from antiphon.cli.service_verdict import verdict
from antiphon.errors import AntiphonError, ConfigError
from antiphon.providers.service_wire import KEY_VARIABLE, PLACES

READY_S = 120.0
"""The first start of a recogniser may build its language model."""

END_S = 15.0
MAX_LINE_BYTES = 1 << 20
CALL_S = 90.0
QUESTION = "What are the admission requirements?"
ORCHESTRATOR = "orchestrator"

_LISTENS = re.compile(r"listens on (http://\S+?)/?$")


class NotStarted(AntiphonError):
    """One of the processes did not come up."""

    default_code = "service.not_started"


def run_all(args: argparse.Namespace) -> int:
    """The exit status. Raises ``ConfigError`` for arguments that do not go with it, and ``NotStarted``."""
    if args.port is not None:
        raise ConfigError("--port goes with one service: `all` has 8001 to 8005, or takes free ones with --free-ports")
    with tempfile.TemporaryDirectory(prefix="antiphon-") as folder:
        return asyncio.run(_Fleet(args, Path(folder)).run())


class _Process:
    """One of the five. What it prints is passed on under its name."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self.url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.ensure_future(self._watch())

    @classmethod
    async def start(cls, name: str, words: Sequence[str], environ: Mapping[str, str]) -> _Process:
        # A session of its own: Ctrl-C in the terminal is this process's to pass on, in its order.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "antiphon",
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environ),
            start_new_session=True,
            limit=MAX_LINE_BYTES,
        )
        return cls(name, process)

    async def ready(self) -> str:
        """Where it listens. Raises ``NotStarted``."""
        try:
            async with asyncio.timeout(READY_S):
                news: set[asyncio.Future[str] | asyncio.Task[int]] = {self.url, self.ended}
                await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise NotStarted(f"{self.name} is not ready after {READY_S:g} s") from None
        if not self.url.done():
            raise NotStarted(f"{self.name} ended with status {self.ended.result()}; what it said is above")
        return self.url.result()

    async def end(self) -> None:
        """First asked, then told."""
        for order in (signal.SIGINT, signal.SIGKILL):
            if self.ended.done():
                return
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(order)
            await asyncio.wait({self.ended}, timeout=END_S)

    async def _watch(self) -> int:
        assert self.process.stdout is not None  # noqa: S101 - asked for above
        while line := await self.process.stdout.readline():
            text = line.decode(errors="replace").rstrip()
            found = _LISTENS.search(text)
            if found and not self.url.done():
                self.url.set_result(found[1])
            elif text:
                print(f"[{self.name}] {text}", file=sys.stderr, flush=True)
        return await self.process.wait()


class _Fleet:
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self._args = args
        self._folder = folder
        self._processes: list[_Process] = []
        self._key = os.environ.get(KEY_VARIABLE) or secrets.token_urlsafe(32)

    async def run(self) -> int:
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        assert me is not None  # noqa: S101 - run by a task

        def told_to_end() -> None:
            if not me.cancelling():  # who asks twice gets no orphans: whatever does not end is killed soon
                me.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, told_to_end)
        try:
            urls = await self._started()
            self._show(urls)
            if self._args.once:
                return await self._call(urls[ORCHESTRATOR])
            return await self._watched()
        except asyncio.CancelledError:
            if self._args.once:
                return 130
            return 0
        finally:
            # The orchestrator first: its calls end before what they stand on.
            for process in reversed(self._processes[len(PLACES) :]):
                await process.end()
            await asyncio.gather(*(process.end() for process in self._processes[: len(PLACES)]))
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def _started(self) -> dict[str, str]:
        """Where each of them is, by name. Raises ``NotStarted``."""
        args = self._args
        common = ["--config", args.config] if args.config else []
        common += ["--log-level", args.log_level or "WARNING"]
        environ = {**os.environ, KEY_VARIABLE: self._key}
        for place in PLACES.values():
            port = "0" if args.free_ports else str(place.port)
            words = ["service", place.part, "--host", "127.0.0.1", "--port", port, *common]
            self._processes.append(await _Process.start(place.title, words, environ))
        print("starting four services and the orchestrator ...", file=sys.stderr, flush=True)
        urls = await asyncio.gather(*(process.ready() for process in self._processes))
        told = {place.variable: url for place, url in zip(PLACES.values(), urls, strict=True)}
        words = ["serve", "--host", args.host, *(["--port", "0"] if args.free_ports else []), *common]
        if args.once:
            words += ["--journal", str(self._journal)]
        self._processes.append(await _Process.start(ORCHESTRATOR, words, {**environ, **told}))
        return {process.name: await process.ready() for process in self._processes}

    @property
    def _journal(self) -> Path:
        return self._folder / "journal.sqlite"

    def _show(self, urls: Mapping[str, str]) -> None:
        width = max(map(len, urls))
        for name, url in urls.items():
            print(f"{name:<{width}}  {url}", flush=True)
        if not self._args.once:
            line = urls[ORCHESTRATOR].replace("http", "ws", 1) + "/media-stream"
            print(f"call it: antiphon call --url {line}      Ctrl-C ends all of them", flush=True)

    async def _watched(self) -> int:
        """Until the orchestrator has ended by itself; tells of a service that did."""
        left = {process.ended: process for process in self._processes}
        while left:
            done, _ = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                process = left.pop(each)
                print(f"{process.name} ended with status {each.result()}", file=sys.stderr, flush=True)
                if process.name == ORCHESTRATOR:
                    return 1
        return 1

    async def _call(self, url: str) -> int:
        """One sample conversation; 0 if it was answered and every service did its part."""
        call_id = "services-" + secrets.token_hex(4)
        line = url.replace("http", "ws", 1) + "/media-stream"
        words = ["call", "--url", line, "--journal", str(self._journal), "--call-id", call_id]
        words += ["--timeout", str(CALL_S), "--say", QUESTION, "--hang-up-after", "3"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "antiphon", *words, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        try:
            async with asyncio.timeout(CALL_S + 10):
                status = await process.wait()
        except TimeoutError:
            status = 1
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        faults = await verdict(self._journal, call_id)
        for fault in faults:
            print(f"antiphon: {fault}", file=sys.stderr)
        if status == 0 and not faults:
            print("answered, through all five processes", flush=True)
        return 1 if status or faults else 0
