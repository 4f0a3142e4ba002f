"""One worker of ``antiphon serve --workers N``: a server in a process of its own, told by its supervisor what it is."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from antiphon.cli import serve_channel as channel
from antiphon.cli.serving import begin_logging, loop_factory, options, settings_of
from antiphon.errors import AntiphonError
from antiphon.secret import FILE_VARIABLE, Secret, hold
from antiphon.server import garbage

if TYPE_CHECKING:
    from antiphon.config import Settings
    from antiphon.server.run import Running

log = logging.getLogger("antiphon.serve")

ENDED = 130
"""Told to end before it served."""
_RECOGNISER: Final = "pocketsphinx"


def run(args: argparse.Namespace) -> int:
    from antiphon.providers.worker_pipe import settle

    control = socket.socket(fileno=args.worker)
    mine = msgspec.json.decode(control.recv(channel.MOST_BYTES), type=channel.Assignment)
    settle(mine.parent)  # Ctrl-C is the supervisor's, and its end, however sudden, is ours
    hold(mine.secrets)
    os.environ.pop(FILE_VARIABLE, None)  # it may say something else by now
    try:
        with garbage.resting():
            settings = with_its_cores(settings_of(args), mine.count)
            begin_logging(settings, mine.number)
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                return runner.run(_Working(settings, mine, control).run())
    except asyncio.CancelledError:
        return ENDED
    except AntiphonError as error:
        log.debug("this worker cannot serve", exc_info=error)
        control.setblocking(True)
        control.send(msgspec.json.encode(channel.Report(code=error.code, text=str(error.args[0]))))
        return 2


def with_its_cores(settings: Settings, count: int) -> Settings:
    """One of ``count`` workers has its share of the cores for the recognisers whose number is left to the server.

    The offline recogniser takes as many processes as there are cores: each worker would.
    """
    share = max(1, len(os.sched_getaffinity(0)) // count)

    def shared(options: dict[str, Any]) -> dict[str, Any]:
        return options if str(options.get("workers", 0)) != "0" else {**options, "workers": share}

    stt = settings.stt
    if stt.provider == _RECOGNISER:
        stt = replace(stt, settings=shared(stt.settings))
    fallback = tuple(
        replace(each, settings=shared(each.settings)) if each.provider == _RECOGNISER else each for each in stt.fallback
    )
    return replace(settings, stt=replace(stt, fallback=fallback))


class _Working:
    def __init__(self, settings: Settings, mine: channel.Assignment, control: socket.socket) -> None:
        self._settings = settings
        self._mine = mine
        self._control = control
        self._running: Running | None = None
        self._adopting: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        if me is None:
            raise RuntimeError("a server is run by a task")
        self._control.setblocking(False)
        loop.add_reader(self._control.fileno(), self._ordered, me)
        loop.add_signal_handler(signal.SIGTERM, self._asked_to_end, me)
        try:
            await self._serve()
        finally:
            loop.remove_reader(self._control.fileno())
        return 0

    async def _serve(self) -> None:
        from antiphon.assembly import assembled
        from antiphon.cli.hearing import deafness
        from antiphon.server.workers import Worker

        mine, server = self._mine, self._settings.server
        worker = Worker(
            mine.number,
            mine.count,
            Path(mine.folder),
            max_sessions=server.max_sessions,
            token_secret=Secret(mine.token_secret),
        )
        async with assembled(self._settings, worker=worker) as antiphon:
            lost = deafness(antiphon.host.services.providers.transcribers, self._settings)
            if lost is not None and mine.number == 1:  # said once
                log.warning("%s: %s", lost, lost.fix)
            banner = (f"  hears no {', '.join(lost.languages)}: {lost.fix}",) if lost is not None else ()

            def on_ready(running: Running) -> None:
                self._running = running
                self._control.send(msgspec.json.encode(channel.Report(banner)))

            from antiphon.server.run import serve

            await worker.peers.start()
            await serve(
                antiphon.app,
                antiphon.routes,
                server.host,
                listening=socket.socket(fileno=mine.listening),
                on_ready=on_ready,
                **options(self._settings, antiphon),
            )
            await antiphon.host.drain(0)
        await worker.close()

    def _ordered(self, me: asyncio.Task[None]) -> None:
        try:
            order, passed, _, _ = socket.recv_fds(self._control, channel.MOST_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            order, passed = b"", []
        if order == channel.CONNECTION and passed:
            self._adopt(socket.socket(fileno=passed[0]))
        else:
            self._end(order or channel.CUT, me)

    def _asked_to_end(self, me: asyncio.Task[None]) -> None:
        if self._running is None:
            me.cancel()
        else:
            self._control.send(msgspec.json.encode(channel.Report(asks_to_leave=True)))

    def _end(self, how: bytes, me: asyncio.Task[None]) -> None:
        running = self._running
        if running is None:
            me.cancel()
        elif how == channel.LEAVE:
            running.leave()
        elif how == channel.DRAIN:
            running.drain()
        else:
            running.stop()

    def _adopt(self, connection: socket.socket) -> None:
        if self._running is None:
            connection.close()
            return
        connection.setblocking(False)
        task = asyncio.ensure_future(self._adopted(self._running, connection))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopted(self, running: Running, connection: socket.socket) -> None:
        try:
            await running.adopt(connection)
        except OSError as error:  # it ended, or its TLS is none
            log.debug("a connection that was passed on is gone: %s", error)
            connection.close()
