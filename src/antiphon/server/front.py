"""What the outside reaches of a host: the application, the media routes, the vitals.

A module of its own because what it imports takes a fifth of a second, which a start has better uses for.
"""

from __future__ import annotations

import msgspec
from fastapi import FastAPI

from antiphon.config import Settings
from antiphon.runtime.host import Host
from antiphon.runtime.vad import SileroActivity
from antiphon.runtime.writer import JournalWriter
from antiphon.server import run as _run  # noqa: F401 - uvicorn is imported with the rest, not when the port is bound
from antiphon.server.app import Services, create_app
from antiphon.server.sockets import MediaRoute
from antiphon.server.twilio import router
from antiphon.server.twilio_media import media_route
from antiphon.server.vitals import Vitals
from antiphon.transports.twilio_exchange import Exchange
from antiphon.transports.twilio_settings import LineLimits, PhoneSettings


class Front(msgspec.Struct, frozen=True):
    """``routes`` are the media sockets by path."""

    app: FastAPI
    routes: dict[str, MediaRoute]
    vitals: Vitals


def make_front(settings: Settings, host: Host, writer: JournalWriter, activity: SileroActivity) -> Front:
    """The doors of a host that is ready."""
    exchange = Exchange(
        PhoneSettings(
            auth_token=settings.twilio.auth_token,
            public_url=settings.server.public_url,
            limits=LineLimits(idle_timeout_s=settings.line.inactivity_s),
        )
    )
    vitals = Vitals()

    async def journal_writes() -> bool:
        return writer.health.ok

    async def hears() -> bool:
        return activity.health.running

    app = create_app(
        Services(
            host=host,
            vitals=vitals,
            checks={"journal": journal_writes, "voice_activity": hears},
            routers=(router(exchange, host),),
        )
    )
    return Front(app, {exchange.settings.media_path: media_route(host, exchange)}, vitals)
