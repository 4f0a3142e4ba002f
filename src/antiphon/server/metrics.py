"""``GET /metrics`` (B15): for whoever operates the server, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fastapi import APIRouter, Request, Response

from antiphon.observe.prometheus import Metrics, Snapshot, exposition
from antiphon.server.access import asker
from antiphon.server.health import Checks

PATH: Final = "/metrics"

Allowed = Callable[[Mapping[str, str], str], None]
"""Takes the request's headers and the caller's address; raises ``NotAllowed``."""


OfAll = Callable[[Snapshot], Awaitable[Mapping[str, Snapshot]]]
"""Takes this worker's metrics; gives those of all, by number."""


async def alone(own: Snapshot) -> Mapping[str, Snapshot]:
    return {"": own}


def router(metrics: Metrics, checks: Checks, allowed: Allowed, of_all: OfAll = alone) -> APIRouter:
    """The route. ``allowed``: figures tell how much is going on and who the vendors are, which is not for everybody."""
    routes = APIRouter()

    @routes.get(PATH, include_in_schema=False)
    async def scrape(request: Request) -> Response:
        allowed(*asker(request))
        snapshots = await of_all(metrics.snapshot(await checks.results()))
        # Written out in a thread: a full server's takes longer than a frame of sound lasts.
        body, content_type = await asyncio.to_thread(exposition, snapshots, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})

    return routes
