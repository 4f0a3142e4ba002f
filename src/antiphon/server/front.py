"""What the outside reaches of a host: the application, the media routes, the vitals.

A module of its own because what it imports takes a fifth of a second, which a start has better uses for.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from fastapi import FastAPI

from antiphon.config import Settings
from antiphon.languages import Language
from antiphon.runtime.host import Host
from antiphon.runtime.vad import SileroActivity
from antiphon.runtime.writer import JournalWriter
from antiphon.server import run as _run  # noqa: F401 - uvicorn is imported with the rest, not when the port is bound
from antiphon.server.app import Services, create_app
from antiphon.server.checks import carrier_check, journal_checks, service_checks, stage_checks
from antiphon.server.sockets import MediaRoute
from antiphon.server.twilio import router
from antiphon.server.twilio_media import media_route
from antiphon.server.vitals import Vitals
from antiphon.transports.twilio_exchange import Exchange
from antiphon.transports.twilio_menu import LanguageMenu, menu_of
from antiphon.transports.twilio_settings import LineLimits, PhoneSettings


class Front(msgspec.Struct, frozen=True):
    """``routes`` are the media sockets by path."""

    app: FastAPI
    routes: dict[str, MediaRoute]
    vitals: Vitals


def make_front(
    settings: Settings,
    languages: Mapping[str, Language],
    host: Host,
    writer: JournalWriter,
    activity: SileroActivity,
) -> Front:
    """The doors of a host that is ready."""
    exchange = Exchange(_phone(settings, languages))
    vitals = Vitals(watchdog_s=settings.server.watchdog_s)

    async def journal_writes() -> bool:
        return writer.health.ok

    async def hears() -> bool:
        return activity.health.running

    app = create_app(
        Services(
            host=host,
            vitals=vitals,
            checks={
                "journal": journal_writes,
                **journal_checks(host.services.journal),
                "voice_activity": hears,
                **stage_checks(host.services.stages),
                **service_checks(host.services.stages),
                **carrier_check(settings.twilio),
            },
            stages=host.services.stages.status,
            routers=(router(exchange, host),),
        )
    )
    return Front(app, {exchange.settings.media_path: media_route(host, exchange)}, vitals)


def _phone(settings: Settings, languages: Mapping[str, Language]) -> PhoneSettings:
    offers = settings.twilio.language_menu == "on"
    return PhoneSettings(
        auth_token=settings.twilio.auth_token,
        public_url=settings.server.public_url,
        menu=menu_of(settings.languages.offered, settings.languages.default, languages) if offers else LanguageMenu(),
        say_voices=settings.twilio.say_voices,
        limits=LineLimits(idle_timeout_s=settings.line.inactivity_s),
    )
