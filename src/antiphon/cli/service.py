"""``antiphon service``: one part of an agent as a service of its own, or all five processes side by side."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from antiphon.cli.arguments import whole
from antiphon.cli.serving import say

if TYPE_CHECKING:
    from antiphon.config import Settings
    from antiphon.providers.service_wire import Stage
    from antiphon.server.run import Running

HELP = "serve one part of an agent over HTTP, or run all parts side by side"
EXAMPLES = (
    ("antiphon service rag", "passages: POST /retrieve on 127.0.0.1:8003"),
    ("antiphon service intent --port 9002", "intents, elsewhere"),
    ("antiphon service tts --host 0.0.0.0", "for other machines too: set ANTIPHON_SERVICE_KEY"),
    ("antiphon service all", "stt, intent, rag, tts and the orchestrator as five processes"),
    ("antiphon service all --once", "the same, with one call through all of them"),
)

PARTS = ("stt", "intent", "rag", "tts")
"""Those of ``providers.service_wire``, which help need not wait for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serves what the settings name for one stage ([stt], [intent], [retrieval], [tts] provider) to orchestrators "
        "elsewhere:\n\n"
        "  stt     WebSocket /listen      8001   STT_SERVICE_URL\n"
        "  intent  POST /classify         8002   INTENT_SERVICE_URL\n"
        "  rag     POST /retrieve         8003   RAG_SERVICE_URL\n"
        "  tts     POST /synthesize       8005   TTS_SERVICE_URL\n\n"
        "and GET /health. An orchestrator with the variable in its environment asks the service instead of doing the "
        "work itself. Beyond this machine a service needs a key: ANTIPHON_SERVICE_KEY, the same for its clients.\n\n"
        "`all` starts the four and an orchestrator before them, prints where they are, and ends all of them on Ctrl-C. "
        "Exit status: 0 ended as asked; 1 the call (--once) was not answered, or a process ended by itself; "
        "2 it could not start."
    )
    parser.add_argument("part", choices=(*PARTS, "all"), help="what to serve")
    parser.add_argument("--config", metavar="FILE", help="settings (default: antiphon.toml here, if there is one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=whole(0, 65_535), metavar="PORT", help="port (0 takes a free one)")
    parser.add_argument("--log-level", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="how much to log")
    every = parser.add_argument_group("with all")
    every.add_argument("--free-ports", action="store_true", help="any free ports instead of 8001 to 8005")
    every.add_argument("--once", action="store_true", help="place one call, and end; status 0 only if it was answered")


def run(args: argparse.Namespace) -> int:
    if args.part == "all":
        from antiphon.cli.service_all import run_all

        return run_all(args)
    from antiphon.errors import ConfigError

    if args.once or args.free_ports:
        raise ConfigError("--once and --free-ports go with `antiphon service all`")
    from antiphon.cli.address import check_listening
    from antiphon.config import ServerSettings
    from antiphon.providers.service_wire import PLACES

    stage = next(stage for stage, place in PLACES.items() if place.part == args.part)
    settings = _settings(args)
    port = PLACES[stage].port if args.port is None else args.port
    check_listening(ServerSettings(host=args.host, port=port))
    from antiphon.server.run import run as run_loop

    return run_loop(_serve(stage, settings, args.host, port))


def _settings(args: argparse.Namespace) -> Settings:
    """Those of the file and the environment, but for the addresses: a service does the work and asks no other."""
    from antiphon import config
    from antiphon.observe import logging as observe_logging
    from antiphon.providers.service_wire import PLACES

    addresses = {place.variable for place in PLACES.values()}
    environ = {name: value for name, value in os.environ.items() if name not in addresses}
    level = {"log.level": args.log_level} if args.log_level else {}
    settings = config.load(args.config, environ=environ, overrides=level)
    observe_logging.configure(settings.log.level, settings.log.format, secrets=observe_logging.secrets_in(settings))
    for warning in settings.warnings:
        print(f"antiphon: {warning}", file=sys.stderr)
    return settings


async def _serve(stage: Stage, settings: Settings, host: str, port: int) -> int:
    """Until it is told to end. Raises ``AntiphonError``."""
    from antiphon.assembly import provider_of
    from antiphon.errors import ConfigError
    from antiphon.providers.service_wire import KEY_VARIABLE, PLACES
    from antiphon.secret import Secret, lookup
    from antiphon.server.run import serve
    from antiphon.server.services.app import make_service

    key = lookup(KEY_VARIABLE) or Secret("")
    provider: Any = provider_of(stage, settings)
    service = make_service(stage, provider, key=key, capacity=settings.server.max_sessions)

    def ready(running: Running) -> None:
        say(f"{PLACES[stage].title} ({provider.name}) listens on {running.url()}")

    try:
        await provider.start()
        await serve(
            service.app,
            service.routes,
            host,
            port,
            vitals=service.vitals,
            authenticated=bool(key),
            allow_open=settings.server.allow_open,
            drain_s=settings.server.drain_s,
            on_ready=ready,
        )
    except ConfigError as error:
        if error.code != "server.open_bind":
            raise
        raise ConfigError(
            f"{host} can be reached from other machines and this service has no key: set {KEY_VARIABLE} here and for "
            "its clients, or listen on 127.0.0.1",
            code=error.code,
        ) from None
    finally:
        await provider.close()
    return 0
