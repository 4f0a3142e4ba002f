"""``antiphon serve``: the server, and with ``--sample-call`` one call to itself, shown live."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from antiphon.cli.arguments import whole
from antiphon.cli.serving import begin_logging, loop_factory, options, say, settings_of
from antiphon.errors import ConfigError, StoreError
from antiphon.server import garbage

if TYPE_CHECKING:
    from antiphon.assembly import Antiphon
    from antiphon.cli.live_view import LiveView
    from antiphon.cli.serve_workers import Supervisor
    from antiphon.config import Settings
    from antiphon.server.run import Running

log = logging.getLogger("antiphon.serve")

HELP = "start the server"
EXAMPLES = (
    ("antiphon serve", "on 127.0.0.1:8004"),
    ("antiphon serve --sample-call", "with one call to itself, shown live"),
    ("antiphon serve --workers auto", "on every core of the machine"),
    ("antiphon serve --port 9000 --log-level DEBUG", "elsewhere, saying more"),
    ("antiphon serve --print-config > antiphon.toml", "settings to start from"),
)

PATIENCE_S = 0.5
"""A start that takes longer says what it waits for."""

INTERRUPTED = 130
LAST_S = 1.0
"""After the second Ctrl-C: what has not ended by then is left to end by itself, as the workers do."""

WRONG_PLACE = frozenset(
    f"store.{why}" for why in ("not_journal", "newer_schema", "is_folder", "is_cluster", "not_cluster", "not_redis")
)
"""Errors of a journal that no waiting mends."""

_PARTS = {
    "pocketsphinx": "the recogniser",
    "minilm": "the embedding model",
    "sileroactivity": "voice detection",
    "phrases": "the voice",
    "web": "the web server",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serves phone lines (WebSocket /media-stream), Twilio's webhooks (/voice), /health and /ready. Without any "
        "settings it answers from a demo knowledge base, offline.\n\n"
        "SIGTERM drains: calls may finish. Ctrl-C ends at once, cleanly; again: without waiting for anything. "
        "Exit status: 0 ended as asked; 1 the sample call (--once) did not go as expected; 2 it could not start; "
        "130 told to end before it was ready, or during the sample call."
    )
    parser.add_argument("--config", metavar="FILE", help="settings (default: antiphon.toml here, if there is one)")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=whole(0, 65_535), metavar="PORT", help="port (default 8004; 0 takes a free one)")
    parser.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help='processes that share the port, one a core (default 1; "auto": as many as there are cores)',
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # how the supervisor starts one of them
    parser.add_argument("--journal", metavar="PATH", help="SQLite file, or redis:// URL, for the conversations")
    parser.add_argument("--log-level", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="how much to log")
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print a complete settings file, and end: the defaults; with --config FILE, the settings in force",
    )
    parser.add_argument(
        "--sample-call", action="store_true", help="place one call to the server itself and show it live"
    )
    parser.add_argument(
        "--once", action="store_true", help="with --sample-call: end after it; status 0 only if every turn was answered"
    )


def _workers(text: str) -> int:
    return 0 if text == "auto" else whole(1, 64)(text)


def run(args: argparse.Namespace) -> int:
    if args.worker is not None:
        from antiphon.cli import serve_worker

        return serve_worker.run(args)
    if args.print_config:
        return _print_config(args)
    if args.once and not args.sample_call:
        raise ConfigError("--once goes with --sample-call: without a call there is nothing to end after")
    with contextlib.ExitStack() as starting:
        starting.enter_context(garbage.resting())
        return _run(args, starting)


def _print_config(args: argparse.Namespace) -> int:
    """Without ``--config``, the defaults to start a file from; with it, what that file comes to here."""
    from antiphon.config import Settings
    from antiphon.config_toml import render

    settings = settings_of(args) if args.config else Settings()
    _warn(settings)
    print(render(settings), end="")
    return 0


def _warn(settings: Settings) -> None:
    for warning in settings.warnings:
        print(f"antiphon: {warning}", file=sys.stderr)


def _run(args: argparse.Namespace, starting: contextlib.ExitStack) -> int:
    level = args.log_level or ("WARNING" if args.sample_call else None)
    settings = settings_of(args, **{"log.level": level})
    begin_logging(settings)
    _warn(settings)
    from antiphon.cli.address import check_listening
    from antiphon.cli.serve_workers import Supervisor, wanted

    check_listening(settings.server)
    workers = wanted(settings, args)
    several = _after_journal(settings, Supervisor(settings, args, workers)) if workers > 1 else None
    if several:
        starting.close()  # a supervisor never serves itself
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(several or _Serving(settings, args).run())
    except asyncio.CancelledError:
        return INTERRUPTED


async def _after_journal(settings: Settings, supervisor: Supervisor) -> int:
    """The file is made, or brought up to date, before the first of several writers opens it."""
    await _try_journal(settings, needed=False)
    return await supervisor.run()


class _Serving:
    """One run of the command: start, perhaps a sample call, until it is told to end."""

    def __init__(self, settings: Settings, args: argparse.Namespace) -> None:
        self._settings = settings
        self._args = args
        self._banner: list[str] = []
        self._running: Running | None = None
        self._signals = 0
        self._sample: asyncio.Task[None] | None = None
        self._status: int | None = None
        """Of the sample call, once it is over."""

    async def run(self) -> int:
        """The exit status. Raises ``AntiphonError`` if it cannot start; ``CancelledError`` if it may not."""
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        if me is None:
            raise RuntimeError("a server is run by a task")
        loop.add_signal_handler(signal.SIGINT, self._interrupted, me)
        loop.add_signal_handler(signal.SIGTERM, self._told_to_end, me)
        if self._args.sample_call:
            from antiphon.cli.sample_call import check

            check(self._settings)
        await _try_journal(self._settings, needed=self._args.sample_call)
        starting: set[str] = set()
        async with contextlib.AsyncExitStack() as stack:
            impatient = asyncio.ensure_future(_say_what_is_awaited(starting))
            stack.callback(impatient.cancel)
            from antiphon.assembly import assembled

            antiphon = await stack.enter_async_context(assembled(self._settings, starting))
            impatient.cancel()
            self._tell_of_deafness(antiphon)
            view = stack.enter_context(_view(antiphon)) if self._args.sample_call else None
            stack.push_async_callback(self._end_sample)
            await self._serve(antiphon, view)
            await antiphon.host.drain(0)
        if not self._args.sample_call:
            return 0
        if self._status is None:
            return INTERRUPTED
        return self._status if self._args.once else 0

    async def _serve(self, antiphon: Antiphon, view: LiveView | None) -> None:
        from antiphon.server.run import serve

        server = self._settings.server

        def on_ready(running: Running) -> None:
            self._running = running
            banner = [f"Antiphon listens on {running.url()}", *self._banner]
            if view is None:
                say(*banner)
                return
            for line in banner:
                view.print(line)
            self._sample = asyncio.ensure_future(self._sample_call(antiphon, running, view))
            self._sample.add_done_callback(lambda done: _stop_on_error(done, running))

        try:
            await serve(
                antiphon.app,
                antiphon.routes,
                server.host,
                server.port,
                on_ready=on_ready,
                **options(self._settings, antiphon),
            )
        except ConfigError as error:
            if error.code != "server.bind":
                raise
            raise ConfigError(
                f"{error.args[0]}: choose another with --port, 0 takes a free one", code=error.code
            ) from None

    def _tell_of_deafness(self, antiphon: Antiphon) -> None:
        """Whoever offers a language that cannot be heard is told when the server starts, not by a caller."""
        from antiphon.cli.hearing import deafness

        lost = deafness(antiphon.host.services.providers.transcribers, self._settings)
        if lost is not None:
            if not self._args.sample_call:  # which shows the banner in a picture of its own
                log.warning("%s: %s", lost, lost.fix)
            self._banner.append(f"  hears no {', '.join(lost.languages)}: {lost.fix}")

    # -- the sample call ----------------------------------------------------------------------------

    async def _sample_call(self, antiphon: Antiphon, running: Running, view: LiveView) -> None:
        from antiphon.cli.sample_call import line_of, place_sample_call
        from antiphon.stores.choice import shown

        answered = await place_sample_call(antiphon, running, view)
        self._status = 0 if answered else 1
        if self._args.once:
            running.stop()
            return
        for line in _what_now(line_of(antiphon, running), shown(self._settings.journal.place)):
            view.print(line)
        view.waiting("waiting for calls; Ctrl-C ends")

    async def _end_sample(self) -> None:
        """Raises what the sample call failed of."""
        if self._sample is not None:
            self._sample.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sample

    # -- the ways to end ------------------------------------------------------------------------------

    def _interrupted(self, me: asyncio.Task[int]) -> None:
        """Ctrl-C: a clean end at once; the second time nothing is waited for."""
        self._signals += 1
        if self._signals > 1:
            # What is cut off complains; whoever asks twice knows.
            logging.getLogger("uvicorn.error").disabled = True
            asyncio.get_running_loop().call_later(LAST_S, os._exit, INTERRUPTED)
        if self._running is not None:
            self._running.stop()
        else:
            me.cancel()

    def _told_to_end(self, me: asyncio.Task[int]) -> None:
        """SIGTERM: calls may finish."""
        if self._running is not None:
            self._running.drain()
        else:
            me.cancel()


def _stop_on_error(task: asyncio.Task[None], running: Running) -> None:
    if not task.cancelled() and task.exception() is not None:
        running.stop()


def _view(antiphon: Antiphon) -> LiveView:
    from antiphon.cli.journal_source import console
    from antiphon.cli.live_view import LiveView

    view = LiveView(console())
    antiphon.host.observe(view.note)
    return view


async def _try_journal(settings: Settings, *, needed: bool) -> None:
    """A place that can never be written is told now. Calls go on without it; the sample call reads it back.

    What else is wrong with a server is the log's to tell, again and again, for it may be mended meanwhile.
    """
    from antiphon.stores.choice import Access, open_journal

    access: Access = "read" if settings.journal.url else "write"
    journal = open_journal(settings.journal.place, access=access, synchronous=settings.journal.synchronous)
    try:
        await journal.start()
    except StoreError as error:
        if error.code in WRONG_PLACE or (needed and settings.journal.url):
            raise  # going on would lose every call that is expected to be in it
        if error.code in {"store.read_only", "store.no_file"}:
            told = ConfigError(f"{error.args[0]}, or with --journal PATH", code=error.code)
            if needed:
                raise told from None
            print(f"antiphon: {told}; until then calls go on in memory and are not kept", file=sys.stderr, flush=True)
    finally:
        await journal.close()


async def _say_what_is_awaited(starting: set[str]) -> None:
    await asyncio.sleep(PATIENCE_S)
    parts: list[str] = []
    while not parts:  # a slow machine is still reading files
        parts = [name for part, name in _PARTS.items() if part in starting]
        parts += sorted(starting - set(_PARTS) - {"journal", "extractive"})
        await asyncio.sleep(PATIENCE_S / 10)
    print(f"starting {', '.join(parts)} ...", file=sys.stderr, flush=True)


def _what_now(url: str, journal: str) -> list[str]:
    """The end of a sample call is the beginning of one's own."""
    from antiphon.config import JournalSettings

    http = url.replace("ws", "http", 1)
    look_back = "antiphon show last" + ("" if journal == JournalSettings().path else f" --journal {journal}")
    return [
        "",
        f"Antiphon stays up on {http.rpartition('/')[0]}/ and shows the next call here. Ctrl-C ends it.",
        f"  call it           antiphon call --url {url}",
        f'  ask your own      antiphon call --url {url} --say "Do you have a hostel?"',
        "  from a phone      set a Twilio number's voice webhook to https://<your public host>/voice",
        f"  look back         {look_back}",
    ]
