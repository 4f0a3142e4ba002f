"""What a server that serves alone and a worker of several do alike."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from antiphon.assembly import Antiphon
    from antiphon.config import Settings


def settings_of(args: argparse.Namespace, **given: object) -> Settings:
    """The settings, with what the command line says. Raises ``ConfigError``."""
    from antiphon import config

    said: dict[str, object] = {
        "server.host": args.host,
        "server.port": args.port,
        "server.workers": args.workers,
        "journal.path": args.journal,
        "log.level": args.log_level,
        **given,
    }
    return config.load(args.config, overrides={key: value for key, value in said.items() if value is not None})


def say(*lines: str) -> None:
    """On standard output, in one write: where the log goes to the same file, none of its lines gets in between.

    ``print`` writes a line and its end apart where output is not buffered.
    """
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def begin_logging(settings: Settings, worker: int = 0) -> None:
    from antiphon.observe import logging as observe_logging
    from antiphon.secret import listed

    several = (settings.server.api_keys, settings.server.token_secret)
    secrets = [*observe_logging.secrets_in(settings), *(each for held in several for each in listed(held))]
    observe_logging.configure(settings.log.level, settings.log.format, secrets=secrets, worker=worker)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it exists: a fifth to two fifths less processor time under the stock transports."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def may_be_open(settings: Settings) -> bool:
    """True if the server may listen where other machines reach it (X35)."""
    server = settings.server
    return bool(settings.twilio.auth_token or server.api_keys) or server.allow_open


def options(settings: Settings, antiphon: Antiphon) -> Mapping[str, Any]:
    """For ``server.run.serve``, besides where it listens."""
    from antiphon.server.run import Tls

    server = settings.server
    return {
        "vitals": antiphon.vitals,
        "tls": Tls(cert=server.tls_cert, key=server.tls_key) if server.tls_cert else None,
        "authenticated": bool(settings.twilio.auth_token or server.api_keys),
        "allow_open": server.allow_open,
        "drain_s": server.drain_s,
        "trusted_proxies": ",".join(server.trusted_proxies),
        "on_drain": antiphon.host.stop_admitting,
        "signals": False,
    }
