"""The HTTP side: health, readiness, the routers of the transports, and one JSON shape for every error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

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


def create_app(services: Services) -> FastAPI:
    """The application. It serves no interactive documentation: what is not asked for is not exposed."""
    app = FastAPI(title="Antiphon", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(_vital_signs(services))
    for router in services.routers:
        app.include_router(router)
    _answer_errors_as_json(app)
    return app


def _vital_signs(services: Services) -> APIRouter:
    router = APIRouter()
    host, vitals = services.host, services.vitals
    checks = Checks(services.checks, timeout_s=services.check_timeout_s)

    @router.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> dict[str, Any]:
        """All fields of A71 and B14 (X14). 200 also when degraded: calls still go on; ``/ready`` steers traffic."""
        results = {**await checks.results(), "event_loop": not vitals.loop_is_late}
        answer: dict[str, Any] = {
            "status": "healthy" if all(results.values()) else "degraded",
            "service": SERVICE,
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

    @router.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> Response:
        """200 while new sessions are taken, else 503."""
        if vitals.draining:
            return _response(refuse(503, "server.draining", "the server is about to stop", {"retry-after": "1"}))
        if host.active >= host.capacity:
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
