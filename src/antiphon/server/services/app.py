"""One provider behind the contract of ``providers.service_wire``: the application and the sockets of one service."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI

from antiphon.providers.service_wire import PLACES, Stage
from antiphon.secret import Secret
from antiphon.server.app import Services, create_app
from antiphon.server.checks import kept
from antiphon.server.health import HealthCheck
from antiphon.server.services.door import Door
from antiphon.server.services.listen import listening
from antiphon.server.services.routes import classifying, retrieving
from antiphon.server.services.speak import speaking
from antiphon.server.sockets import MediaRoute
from antiphon.server.vitals import Vitals


class Service(msgspec.Struct, frozen=True):
    """For ``server.run.serve``."""

    app: FastAPI
    routes: dict[str, MediaRoute]
    vitals: Vitals


def make_service(stage: Stage, provider: Any, *, key: Secret, capacity: int) -> Service:
    """``provider`` is started, and fits the port of ``stage``. ``capacity``: requests and sockets at once."""
    door, vitals, place = Door(key, capacity), Vitals(), PLACES[stage]
    routers: tuple[APIRouter, ...] = ()
    routes: dict[str, MediaRoute] = {}
    if stage == "intent":
        routers = (classifying(provider, door),)
    elif stage == "retrieval":
        routers = (retrieving(provider, door),)
    elif stage == "tts":
        routers = (speaking(provider, door),)
    else:
        routes = {place.path: listening(provider, door)}
    app = create_app(
        Services(
            host=door,
            vitals=vitals,
            checks=_checks(provider),
            routers=routers,
            name=place.title,
            more={"provider": provider.name},
        )
    )
    return Service(app, routes, vitals)


def _checks(provider: Any) -> dict[str, HealthCheck]:
    """A provider that stands on something else is asked about it."""
    check = getattr(provider, "check", None)
    if not callable(check):
        return {}

    async def asked() -> bool:
        await check()
        return True

    return {provider.name: kept(provider.name, asked)}
