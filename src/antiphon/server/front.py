"""What the outside reaches of a host: the application, the media routes, the vitals.

A module of its own because what it imports takes a fifth of a second, which a start has better uses for.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from fastapi import FastAPI

from antiphon.config import Settings
from antiphon.languages import Language
from antiphon.observe.prometheus import Condition, Metrics
from antiphon.runtime.host import Host
from antiphon.runtime.vad import SileroActivity
from antiphon.runtime.writer import JournalWriter
from antiphon.server import console, openapi, sessions
from antiphon.server import run as _run  # noqa: F401 - uvicorn is imported with the rest, not when the port is bound
from antiphon.server.access import Access, access_of
from antiphon.server.app import Services, create_app
from antiphon.server.checks import carrier_check, journal_checks, service_checks, stage_checks
from antiphon.server.health import Checks, HealthCheck
from antiphon.server.metrics import alone as metrics_alone
from antiphon.server.metrics import router as metrics_router
from antiphon.server.orchestrate_media import orchestrate_route, tell_lines
from antiphon.server.sockets import MediaRoute
from antiphon.server.twilio import router
from antiphon.server.twilio_media import media_route
from antiphon.server.twilio_way_back import WayBack
from antiphon.server.vitals import Vitals
from antiphon.server.workers import Worker
from antiphon.transports import orchestrate_settings
from antiphon.transports.twilio_exchange import Exchange
from antiphon.transports.twilio_menu import LanguageMenu, menu_of
from antiphon.transports.twilio_rest import TwilioAccount
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
    *,
    worker: Worker | None = None,
) -> Front:
    """The doors of a host that is ready; ``worker``: what it shares with the others it serves with."""
    exchange = Exchange(
        _phone(settings, languages),
        book=worker.call_book if worker else None,
        once=worker.once if worker else None,
    )
    vitals = Vitals(watchdog_s=settings.server.watchdog_s)

    def condition() -> Condition:
        return Condition(vitals.uptime_s, vitals.loop_lag_ms / 1000, vitals.draining, vitals.refused)

    checks = _checks(settings, host, writer, activity)
    access = access_of(settings, made=worker.token_secret, attempts=worker.attempts) if worker else access_of(settings)
    account = TwilioAccount(settings.twilio.account_sid, settings.twilio.auth_token)
    metrics = Metrics(host, condition)
    host.observe(metrics.observe)
    kept = Checks(checks)
    desk = worker.join(host, metrics, kept) if worker else host
    app = create_app(
        Services(
            host=host,
            vitals=vitals,
            checks=checks,
            stages=host.services.stages.status,
            routers=(
                router(exchange, desk, vitals.turned_away, WayBack(account, exchange)),
                metrics_router(metrics, kept, access.for_operator, worker.metrics if worker else metrics_alone),
                sessions.router(
                    access,
                    host,
                    host.services.journal,
                    settings.languages.offered,
                    worker.calls_elsewhere if worker else sessions.nowhere,
                ),
                console.router(),
                openapi.router(access),
            ),
            workers=worker,
        )
    )
    host.observe(tell_lines(host))
    return Front(app, _sockets(settings, host, exchange, access), vitals)


def _sockets(settings: Settings, host: Host, exchange: Exchange, access: Access) -> dict[str, MediaRoute]:
    return {
        exchange.settings.media_path: media_route(host, exchange),
        orchestrate_settings.PATH: orchestrate_route(
            host,
            limits=exchange.settings.limits,
            languages=settings.languages.offered,
            allow=access.for_upgrade,
            sweep=exchange.sweep,
        ),
    }


def _checks(settings: Settings, host: Host, writer: JournalWriter, activity: SileroActivity) -> dict[str, HealthCheck]:
    async def journal_writes() -> bool:
        return writer.health.ok

    async def hears() -> bool:
        return activity.health.running

    return {
        "journal": journal_writes,
        **journal_checks(host.services.journal),
        "voice_activity": hears,
        **stage_checks(host.services.stages),
        **service_checks(host.services.stages),
        **carrier_check(settings.twilio),
    }


def _phone(settings: Settings, languages: Mapping[str, Language]) -> PhoneSettings:
    offers = settings.twilio.language_menu == "on"
    return PhoneSettings(
        auth_token=settings.twilio.auth_token,
        public_url=settings.server.public_url,
        menu=menu_of(settings.languages.offered, settings.languages.default, languages) if offers else LanguageMenu(),
        say_voices=settings.twilio.say_voices,
        limits=LineLimits(idle_timeout_s=settings.line.inactivity_s),
    )
