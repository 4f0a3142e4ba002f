"""``GET /metrics``: who gets it, and what it costs the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from antiphon.errors import NotAllowed
from antiphon.observe.meters import METRICS, SECONDS
from antiphon.observe.prometheus import Metrics
from antiphon.observe.tallies import Tally
from antiphon.server.app import Services, create_app
from antiphon.server.health import Checks
from antiphon.server.metrics import router
from antiphon.server.vitals import Vitals


class Writer:
    class health:  # noqa: N801 - stands for an attribute
        ok, pending, dropped = True, 3, 1


class Stages:
    stt = type("Chain", (), {"members": ()})

    @staticmethod
    def status() -> dict[str, Any]:
        return {"llm": {"openai": {"state": "half_open"}}}


class Host:
    """As much of one as is looked at without any call."""

    services = type(
        "Services",
        (),
        {"writer": Writer, "stages": Stages, "language": "en-IN", "policy": type("Policy", (), {"languages": ()})},
    )
    active, capacity, held, draining = 0, 10, 2, False
    refused: Mapping[str, int] = {}

    @staticmethod
    def get(session: str) -> None:
        return None


def nobody(headers: Mapping[str, str], client: str) -> None:
    raise NotAllowed("not for you", code="auth.missing")


def app_of(metrics: Metrics, allowed: Any, **checks: Any) -> Any:
    routes = router(metrics, Checks(checks), allowed)
    return create_app(Services(host=Host(), vitals=Vitals(), routers=(routes,)))


def test_it_is_for_those_who_are_allowed() -> None:
    seen: list[tuple[str, str]] = []

    def allowed(headers: Mapping[str, str], client: str) -> None:
        seen.append((headers.get("authorization", ""), client))

    async def well() -> bool:
        return True

    metrics = Metrics(Host())  # type: ignore[arg-type]
    client = TestClient(app_of(metrics, allowed, redis=well))
    answer = client.get("/metrics", headers={"Authorization": "Bearer key"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.headers["cache-control"] == "no-store"
    assert seen == [("Bearer key", "testclient")]
    found = {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["antiphon_check", "redis"] == 1
    assert found["antiphon_breaker_state", "openai", "llm"] == 1
    assert found["antiphon_sessions_detached",] == 2
    assert found["antiphon_journal_pending_entries",] == 3

    refused = TestClient(app_of(metrics, nobody)).get("/metrics")
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "auth.missing"
    assert "antiphon_" not in refused.text


def test_a_header_that_is_repeated_is_judged_whole() -> None:
    seen: list[str] = []
    client = TestClient(app_of(Metrics(Host()), lambda headers, _: seen.append(headers["origin"])))  # type: ignore[arg-type]
    client.get("/metrics", headers=[("Origin", "http://testserver"), ("Origin", "https://elsewhere.example")])
    assert seen == ["http://testserver, https://elsewhere.example"]


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_it_is_only_read(method: str) -> None:
    client = TestClient(app_of(Metrics(Host()), nobody))  # type: ignore[arg-type]
    assert getattr(client, method)("/metrics").status_code == 405


def test_a_scrape_of_a_full_server_holds_the_loop_for_a_moment_only() -> None:
    """Every label used: five languages on three lines, six providers in each stage, 40 codes."""
    metrics = Metrics(Host())  # type: ignore[arg-type]
    fill(metrics.tally)

    async def main() -> float:
        best = 1.0
        for _ in range(5):
            began = time.perf_counter()
            metrics.snapshot({"journal": True})
            best = min(best, time.perf_counter() - began)
        return best

    assert len(metrics.snapshot({}).exposition()[0].splitlines()) > 1000
    assert asyncio.run(main()) < 0.01


def fill(tally: Tally) -> None:
    for metric in METRICS:
        if metric.labels == ("transport", "language"):
            for at in range(15):
                tally.add(metric.name, (f"line{at % 3}", "en-IN"), SECONDS[at])
        elif metric.labels == ("stage", "provider"):
            for at in range(48):
                tally.add(metric.name, (f"stage{at % 8}", f"provider{at // 8}"), 0.1)
        elif "code" in metric.labels or "why" in metric.labels:
            for at in range(40):
                tally.add(metric.name, (*["x"] * (len(metric.labels) - 1), f"code.{at}"), 1)
