"""The HTTP side: health, readiness, the routers of the transports, and one JSON shape for every error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from antiphon.errors import AntiphonError
from antiphon.server.answers import Refusal, refusal_for, refuse, status_code_name
from antiphon.server.health import Checks, HealthCheck
from antiphon.server.vitals import Vitals

SERVICE = "orchestrator"


class Sessions(Protocol):
    """What the application asks of the host."""

    @property
    def active(self) -> int:
        """Sessions now."""

    @property
    def capacity(self) -> int:
        """Sessions at most."""


class Together(Protocol):
    """The other workers of this server, for what is answered for all of them."""

    def taken(self) -> int:
        """Sessions with a line now, at any worker."""

    def answers_health(self, own: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        """Tells the others this worker's health when they ask."""

    async def health(self, own: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """The health of all; ``own`` gives this worker's."""


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What the application stands on.

    ``checks``: by name; one called ``redis`` also appears as ``redis_connected`` (B14). ``routers`` are mounted at
    the root, such as the webhooks of a carrier. ``check_timeout_s``: for each check.
    """

    host: Sessions
    vitals: Vitals
    checks: Mapping[str, HealthCheck] = {}
    stages: Callable[[], Mapping[str, Any]] = dict
    """How the providers are, by stage: breakers and latencies."""
    routers: Sequence[APIRouter] = ()
    check_timeout_s: float = 2.0
    name: str = SERVICE
    """What this process is called in its health, and ``more`` that it says there of itself."""
    more: Mapping[str, str] = {}
    workers: Together | None = None
    """None where this process serves alone."""


def create_app(services: Services) -> FastAPI:
    """The application. It serves no interactive documentation: what is not asked for is not exposed."""
    app = FastAPI(
        title="Antiphon",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(_vital_signs(services))
    for router in services.routers:
        app.include_router(router)
    _answer_errors_as_json(app)
    _answer_unknown_sockets(app)
    return app


def _vital_signs(services: Services) -> APIRouter:
    router = APIRouter()
    host, vitals, workers = services.host, services.vitals, services.workers
    checks = Checks(services.checks, timeout_s=services.check_timeout_s)

    async def own_health() -> dict[str, Any]:
        """All fields of A71 and B14 (X14)."""
        results = {**await checks.results(), "event_loop": not vitals.loop_is_late}
        answer: dict[str, Any] = {
            "status": "healthy" if all(results.values()) else "degraded",
            "service": services.name,
            **services.more,
            "active_sessions": host.active,
            "max_sessions": host.capacity,
            "uptime_seconds": round(vitals.uptime_s, 2),
            "loop_lag_ms": round(vitals.loop_lag_ms, 1),
            "draining": vitals.draining,
            "checks": results,
            "stages": services.stages(),
        }
        if "redis" in results:
            answer["redis_connected"] = results["redis"]
        return answer

    if workers is not None:
        workers.answers_health(own_health)

    @router.get(
        "/health", description="How it is. 200 also when degraded, for calls go on; `/ready` is what steers traffic."
    )
    @router.head("/health", include_in_schema=False)
    async def health() -> dict[str, Any]:
        """200 also when degraded: calls still go on; ``/ready`` steers traffic."""
        return await own_health() if workers is None else await workers.health(own_health)

    @router.get("/ready")
    @router.head("/ready", include_in_schema=False)
    async def ready() -> Response:
        """200 while new sessions are taken, else 503."""
        if vitals.draining:
            return _response(refuse(503, "server.draining", "the server is about to stop", {"retry-after": "1"}))
        if (host.active if workers is None else workers.taken()) >= host.capacity:
            return _response(refuse(503, "admission.full", "no room for another session", {"retry-after": "1"}))
        return JSONResponse({"ready": True})

    return router


def _response(refusal: Refusal) -> Response:
    return Response(refusal.body, refusal.status, refusal.headers, media_type="application/json")


def _answer_errors_as_json(app: FastAPI) -> None:
    async def on_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
        refusal = refuse(error.status_code, status_code_name(error.status_code), str(error.detail))
        return _response(msgspec.structs.replace(refusal, headers=dict(error.headers or {})))

    async def on_invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
        # Names and reasons only: the values may be personal or secret.
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        return _response(refuse(422, "http.invalid", "; ".join(faults)))

    async def on_coded(_: Request, error: Exception) -> Response:
        assert isinstance(error, AntiphonError)  # noqa: S101 - registered for this class alone
        return _response(refusal_for(error))

    async def on_any(_: Request, __: Exception) -> Response:
        # Starlette raises it again after this answer, and uvicorn logs it with its traceback.
        return _response(refuse(500, "internal", "something went wrong on our side"))

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(AntiphonError, on_coded)
    app.add_exception_handler(Exception, on_any)


def _answer_unknown_sockets(app: FastAPI) -> None:
    """A WebSocket for a path that has none is told so, where Starlette alone would answer 403 and no word."""
    unknown = app.router.default

    async def on_unknown(scope: Scope, receive: Receive, send: Send) -> None:
        if "websocket.http.response" not in scope.get("extensions", {}):  # a plain request, or another server's socket
            await unknown(scope, receive, send)
            return
        told = "there is no WebSocket at this path; mind a slash at its end"
        await WebSocket(scope, receive, send).send_denial_response(_response(refuse(404, "http.not_found", told)))

    app.router.default = on_unknown
