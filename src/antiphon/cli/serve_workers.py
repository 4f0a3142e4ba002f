"""``antiphon serve --workers N``: the supervisor of N workers that serve together at one address.

It holds a listening socket for each (SO_REUSEPORT: the kernel deals connections out among them), starts the workers,
says once that the server is there, starts one that dies anew, and passes the orders to end on. It carries no call
itself and loads none of what a worker does. While a worker is down, the connections that the kernel deals to its
socket are accepted here and passed to the others: no caller waits for a process that is starting.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from antiphon.cli import serve_channel as channel
from antiphon.cli.serving import may_be_open, say
from antiphon.errors import AntiphonError, ConfigError
from antiphon.secret import FILE_VARIABLE, read_secrets

if TYPE_CHECKING:
    from antiphon.config import Settings

log = logging.getLogger("antiphon.serve")

MOST: Final = 64
STEADY_S: Final = 10.0
"""A worker that served for so long is started anew at once; one that dies sooner after a pause."""
PAUSES_S: Final = (0.5, 30.0)
"""The first and the longest; each is twice the one before."""
INTERRUPTED: Final = 130
LAST_S: Final = 1.0
"""After the second Ctrl-C: what has not ended by then is killed."""
_SETTINGS: Final = "settings.toml"
_OWNER: Final = "owner"
_OWNER_BYTES: Final = 1024
"""An identity of a process has about a hundred."""
_PREFIX: Final = "antiphon-workers-"


def wanted(settings: Settings, args: argparse.Namespace) -> int:
    """How many workers; 1: no supervisor. Raises ``ConfigError`` where several cannot serve."""
    asked = settings.server.workers
    count = asked or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    count = min(count, MOST)
    if count == 1:
        return 1
    if args.sample_call:
        raise ConfigError("--sample-call shows one process at work: leave it out, or give --workers 1 with it")
    if sys.platform != "linux":
        raise ConfigError(
            "server.workers: only Linux deals connections out among processes (SO_REUSEPORT): set it to 1, and start "
            "more servers behind a load balancer",
            code="server.workers",
        )
    return count


class _Slot:
    """One worker's place: its socket for as long as the server runs, and the process that serves there now."""

    def __init__(self, number: int, listening: socket.socket) -> None:
        self.number = number
        self.listening = listening
        self.process: asyncio.subprocess.Process | None = None
        self.control: socket.socket | None = None
        self.is_ready = False
        self.report: asyncio.Future[channel.Report] | None = None

    def order(self, what: bytes, connection: socket.socket | None = None) -> bool:
        """False if there is nobody to take it."""
        if self.control is None:
            return False
        try:
            socket.send_fds(self.control, [what], [connection.fileno()] if connection else [])
        except OSError:
            return False
        return True


class Supervisor:
    """One run of the command with several workers."""

    def __init__(self, settings: Settings, args: argparse.Namespace, count: int) -> None:
        self._settings = settings
        self._args = args
        self._count = count
        self._slots: list[_Slot] = []
        self._folder = Path()
        self._token_secret = secrets.token_urlsafe(48)
        self._secrets: dict[str, str] = {}
        self._port = 0
        self._ending = b""
        self._signals = 0
        self._wake = asyncio.Event()
        self._next = 0

    async def run(self) -> int:
        """The exit status. Raises what kept the first workers from serving."""
        from antiphon.server.binding import bind

        server = self._settings.server
        place = os.environ.get(FILE_VARIABLE)
        self._secrets = read_secrets(place)[0] if place else {}
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end, channel.DRAIN)
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        with contextlib.ExitStack() as stack:
            self._folder = stack.enter_context(_shared_folder(self._settings.source))
            sockets = await bind(
                server.host, server.port, open_allowed=may_be_open(self._settings), sockets=self._count
            )
            for number, listening in enumerate(sockets, start=1):
                stack.callback(listening.close)
                listening.setblocking(False)
                self._slots.append(_Slot(number, listening))
            self._port = sockets[0].getsockname()[1]
            keeping = [asyncio.ensure_future(self._keep(slot)) for slot in self._slots]
            try:
                reports = await self._all_ready(keeping)
                if self._ending:
                    return INTERRUPTED
                say(*self._banner(reports[0]))
                await asyncio.gather(*keeping)
            finally:
                await self._all_gone(keeping)
        return 0

    # -- together -----------------------------------------------------------------------------------

    async def _all_ready(self, keeping: list[asyncio.Task[None]]) -> list[channel.Report]:
        """The first reports. Raises the error of a worker that cannot serve: the next would not either."""
        while not self._ending:
            for task in keeping:
                if task.done():
                    task.result()
            reports = [slot.report.result() for slot in self._slots if slot.report and slot.report.done()]
            for report in reports:
                if report.code:
                    raise AntiphonError(report.text, code=report.code)
            if len(reports) == self._count:
                return reports
            self._wake.clear()
            await self._wake.wait()
        await asyncio.wait(keeping)
        return []

    async def _all_gone(self, keeping: list[asyncio.Task[None]]) -> None:
        """However this ends, no worker outlives it."""
        if not all(task.done() for task in keeping):
            self._end(channel.STOP)
            await asyncio.wait(keeping, timeout=LAST_S)
        for slot in self._slots:
            if slot.process is not None and slot.process.returncode is None:
                slot.process.kill()
        await asyncio.gather(*keeping, return_exceptions=True)

    def _banner(self, first: channel.Report) -> list[str]:
        server = self._settings.server
        host = f"[{server.host}]" if ":" in server.host else server.host
        url = f"http{'s' if server.tls_cert else ''}://{host}:{self._port}/"
        return [f"Antiphon listens on {url} with {self._count} workers", *first.banner]

    # -- one worker ---------------------------------------------------------------------------------

    async def _keep(self, slot: _Slot) -> None:
        """A worker in this slot until the server ends. Raises if the first one never serves."""
        pause = 0.0
        try:
            while not self._ending:
                began = time.monotonic()
                status = await self._one(slot)
                if self._ending:
                    return
                report = slot.report
                if report is None or not report.done():
                    raise AntiphonError(
                        f"worker {slot.number} ended with status {status} before it served, see the log"
                    )
                if report.result().code:
                    raise AntiphonError(report.result().text, code=report.result().code)
                pause = 0.0 if time.monotonic() - began > STEADY_S else min(max(2 * pause, PAUSES_S[0]), PAUSES_S[1])
                how = signal.Signals(-status).name if status < 0 else f"status {status}"
                level = logging.ERROR if status else logging.INFO  # 0: it was told to end
                log.log(level, "worker %d is gone (%s), another is started in %g s", slot.number, how, pause)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._until_ending()
        finally:
            self._wake.set()

    async def _until_ending(self) -> None:
        while not self._ending:
            self._wake.clear()
            await self._wake.wait()

    async def _one(self, slot: _Slot) -> int:
        """Runs one process from its start to its end; its exit status."""
        loop = asyncio.get_running_loop()
        ours, theirs = channel.pair()
        slot.report = slot.report or loop.create_future()
        # Written before there is anybody to read it: a process that dies at once is no error of this one.
        ours.send(msgspec.json.encode(self._assignment(slot)))
        with theirs:
            try:
                slot.process = await asyncio.create_subprocess_exec(
                    *self._command(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), slot.listening.fileno()),
                )
            except OSError as error:  # no memory or no process left
                ours.close()
                if not slot.report.done():  # it never served: this ends the server
                    raise AntiphonError(f"worker {slot.number} cannot be started: {error}") from None
                log.error("worker %d cannot be started, it is tried again: %s", slot.number, error)
                return 1
        slot.control = ours
        loop.add_reader(ours.fileno(), self._reported, slot)
        if self._ending:  # since this one was begun
            slot.order(self._ending)
        try:
            return await slot.process.wait()
        finally:
            self._reported(slot)
            loop.remove_reader(ours.fileno())
            ours.close()
            slot.control, slot.is_ready = None, False
            self._give_up_places(slot)
            self._cover()

    def _command(self, control: int) -> list[str]:
        """This command again. The settings file is a copy, so that a worker started later has the same settings."""
        args = self._args
        words = ["--config", str(self._folder / _SETTINGS), "--port", str(self._port)]
        for option, value in (("--host", args.host), ("--journal", args.journal), ("--log-level", args.log_level)):
            words += [option, value] if value is not None else []
        return [sys.executable, "-m", "antiphon", "serve", "--worker", str(control), *words]

    def _assignment(self, slot: _Slot) -> channel.Assignment:
        return channel.Assignment(
            number=slot.number,
            count=self._count,
            parent=os.getpid(),
            listening=slot.listening.fileno(),
            folder=str(self._folder),
            token_secret=self._token_secret,
            secrets=self._secrets,
        )

    def _reported(self, slot: _Slot) -> None:
        try:
            told = slot.control.recv(channel.MOST_BYTES) if slot.control is not None else b""
        except OSError:
            return
        if not told:
            if slot.control is not None:
                asyncio.get_running_loop().remove_reader(slot.control.fileno())
            return
        report = msgspec.json.decode(told, type=channel.Report)
        if report.asks_to_leave:
            self._let_go(slot)
            return
        if slot.report is not None and not slot.report.done():
            slot.report.set_result(report)
        if report.code:
            log.error("worker %d cannot serve: [%s] %s", slot.number, report.code, report.text)
        slot.is_ready = not report.code
        self._cover()
        self._wake.set()

    def _let_go(self, slot: _Slot) -> None:
        """One that was told to end, though nobody told this process: others take its connections, if there are any."""
        slot.is_ready = False
        if not self._ending and any(each.is_ready for each in self._slots):
            log.info("worker %d was told to end: it drains, and the others go on", slot.number)
            slot.order(channel.LEAVE)
        else:
            slot.is_ready = True
            slot.order(channel.DRAIN)
        self._cover()

    def _give_up_places(self, slot: _Slot) -> None:
        from antiphon.server import workers_book

        try:
            workers_book.left(self._folder / workers_book.BOOK, slot.number)
        except sqlite3.Error as error:
            log.error("the places of worker %d could not be given up: %s", slot.number, error)

    # -- connections of a worker that is down -------------------------------------------------------

    def _cover(self) -> None:
        """Has the connections of those that are down passed on, as long as anybody is up."""
        loop = asyncio.get_running_loop()
        anybody = any(slot.is_ready for slot in self._slots)
        for slot in self._slots:
            if anybody and not slot.is_ready:
                loop.add_reader(slot.listening.fileno(), self._pass_on, slot)
            else:
                loop.remove_reader(slot.listening.fileno())

    def _pass_on(self, slot: _Slot) -> None:
        try:
            connection, _ = slot.listening.accept()
        except OSError:  # somebody else was quicker, or the peer has gone
            return
        with connection:
            ready = [each for each in self._slots if each.is_ready]
            self._next += 1
            for step in range(len(ready)):
                if ready[(self._next + step) % len(ready)].order(channel.CONNECTION, connection):
                    return

    # -- the ways to end ----------------------------------------------------------------------------

    def _interrupted(self) -> None:
        """Ctrl-C: a clean end at once; the second time nothing is waited for."""
        self._signals += 1
        self._end(channel.STOP if self._signals == 1 else channel.CUT)
        if self._signals == 2:
            asyncio.get_running_loop().call_later(LAST_S, self._kill)

    def _end(self, how: bytes) -> None:
        self._ending = how
        for slot in self._slots:
            slot.order(how)
        self._wake.set()

    def _kill(self) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.process.returncode is None:
                slot.process.kill()


@contextlib.contextmanager
def _shared_folder(source: str) -> Iterator[Path]:
    """What the workers share: their book, their sockets, a copy of the settings file. In memory, where that can be."""
    from antiphon.server import workers_book
    from antiphon.stores.owner import this_process

    base = Path("/dev/shm")  # noqa: S108 - only a folder of our own in it, which nobody else may enter
    if not os.access(base, os.W_OK | os.X_OK):
        base = Path(tempfile.gettempdir())
    _sweep(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    try:
        (folder / _OWNER).write_text(this_process(), encoding="utf-8")
        (folder / _SETTINGS).write_bytes(Path(source).read_bytes() if source else b"")
        workers_book.make(folder / workers_book.BOOK)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(base: Path) -> None:
    """Takes away what a supervisor of this user that was killed has left. Anybody may put things of that name here."""
    from antiphon.stores.owner import is_alive, is_here

    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            owner = _read_owner(folder / _OWNER)
            if is_here(owner) and not is_alive(owner):
                shutil.rmtree(folder, ignore_errors=True)


def _read_owner(place: Path) -> str:
    """Raises ``OSError``, and ``ValueError`` for what is no text; waits for nothing, and follows no link."""
    with open(place, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return ""
        return file.read(_OWNER_BYTES).decode()
