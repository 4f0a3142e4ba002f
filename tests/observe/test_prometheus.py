"""What a scrape gets: parsed by the official parsers, from a host that holds calls."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Mapping

import golden
import msgspec
import pytest
from call_parts import House, Wire, start
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from antiphon import _version
from antiphon.errors import AdmissionRefused, ProviderError
from antiphon.kernel import events as ev
from antiphon.kernel.session import Session
from antiphon.observe.meters import METRICS, SECONDS
from antiphon.observe.prometheus import COMMON, GAUGES, Condition, Metrics, Snapshot, exposition
from antiphon.runtime.host import Host
from antiphon.sim.clock import run

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(families: Iterator[object]) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples  # type: ignore[attr-defined]
    }


def scraped(metrics: Metrics, checks: Mapping[str, bool] | None = None) -> Samples:
    body, _ = metrics.snapshot(checks or {}).exposition()
    return samples(parse_text(body.decode()))


def of(found: Samples, name: str, **labels: str) -> float:
    return found[f"antiphon_{name}", tuple(sorted(labels.items()))]


async def talk(house: House, host: Host, call_id: str) -> None:
    """A call with one question, answered, and its end."""
    sink = host.connect(start(call_id), Wire())
    await asyncio.sleep(3)
    ear = house.ears[-1]
    ear.post(ev.SpeechStarted(0))
    await asyncio.sleep(1)
    ear.post(ev.SpeechStopped(0, 200))
    await asyncio.sleep(0.5)
    ear.post(ev.TranscriptFinal(ear.finished[-1], "what are the fees", "en-IN", 0.9, "deaf"))
    await asyncio.sleep(8)
    sink.on_hangup("caller")
    await asyncio.sleep(1)


def test_a_call_is_scraped() -> None:
    async def main() -> None:
        house = House()
        host = await house.open(max_sessions=1)
        metrics = Metrics(host, lambda: Condition(12.5, 0.004, False, {"auth.missing": 2, "admission.full": 1}))
        host.observe(metrics.observe)
        calling = asyncio.ensure_future(talk(house, host, "a"))
        await asyncio.sleep(0.1)
        with pytest.raises(AdmissionRefused):
            host.connect(start("b"), Wire())
        assert of(scraped(metrics), "sessions_active") == 1
        await calling
        found = scraped(metrics, {"journal": True, "redis": False})
        assert of(found, "sessions_active") == 0
        assert of(found, "sessions_max") == 1
        assert of(found, "sessions_total", transport="test") == 1
        assert of(found, "sessions_ended_total", reason="caller") == 1
        assert of(found, "sessions_refused_total", code="admission.full") == 2, "before it was open, and after"
        assert of(found, "sessions_refused_total", code="auth.missing") == 2
        assert of(found, "turns_total", outcome="answered") == 1
        assert of(found, "turn_first_audio_seconds_count", transport="test", language="en-IN") == 1
        assert of(found, "stage_seconds_count", stage="stt", provider="deaf") == 1
        assert of(found, "breaker_state", stage="llm", provider="llm") == 0
        assert of(found, "check", check="redis") == 0
        assert of(found, "check", check="journal") == 1
        assert of(found, "journal_up") == 1
        assert of(found, "journal_dropped_entries_total") == 0
        assert of(found, "journal_entries_total") == len(house.entries)
        assert of(found, "event_loop_lag_seconds") == 0.004
        assert of(found, "draining") == 0
        assert ("process_cpu_seconds_total", ()) in found
        build = [labels for name, labels in found if name == "antiphon_build_info"]
        assert dict(build[0])["version"] == _version.__version__
        await house.shut()

    run(main())


def test_every_metric_of_the_catalogue_is_exposed_and_no_other() -> None:
    async def main() -> None:
        house = House()
        metrics = Metrics(await house.open())
        body, _ = metrics.snapshot({}).exposition()
        families = {family.name for family in parse_text(body.decode())}
        listed = {f"antiphon_{metric.name}".removesuffix("_total") for metric in (*METRICS, *GAUGES)}
        assert {name for name in families if name.startswith("antiphon_")} == listed
        assert {name for name in families if not name.startswith("antiphon_")} <= {
            *("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds"),
            *("process_cpu_seconds", "process_open_fds", "process_max_fds"),
        }
        assert "_created" not in body.decode(), "half of all lines, and nobody looks at them"
        await house.shut()

    run(main())


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain; version=0.0.4", parse_text),
        (
            "application/openmetrics-text; version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text",
            parse_openmetrics,
        ),
        ("*/*", "text/plain; version=0.0.4", parse_text),
    ],
)
def test_both_formats_are_spoken(accept: str, content_type: str, parse: object) -> None:
    async def main() -> None:
        house = House()
        host = await house.open()
        metrics = Metrics(host)
        host.observe(metrics.observe)
        await talk(house, host, "a")
        body, told = metrics.snapshot({"journal": True}).exposition(accept)
        assert told.startswith(content_type)
        found = samples(parse(body.decode()))  # type: ignore[operator]
        buckets = [
            (labels, value)
            for (name, labels), value in found.items()
            if name == "antiphon_turn_first_audio_seconds_bucket"
        ]
        assert [dict(labels)["le"] for labels, _ in buckets] == [*(str(bound) for bound in SECONDS), "+Inf"]
        assert [value for _, value in buckets] == sorted(value for _, value in buckets), "buckets hold those below"
        await house.shut()

    run(main())


def test_a_breaker_that_opens_is_seen() -> None:
    async def main() -> None:
        house = House()
        host = await house.open()
        metrics = Metrics(host)
        breaker = host.services.stages.tts.members[0].breaker
        for _ in range(breaker.failure_threshold):
            breaker.failed()
        assert of(scraped(metrics), "breaker_state", stage="tts", provider="tts") == 2
        await house.shut()

    run(main())


def test_names_from_outside_do_not_grow_it() -> None:
    """Codes, reasons and providers come from journals and providers: whatever they are, there is an end to them."""

    async def main() -> None:
        house = House()
        host = await house.open()
        metrics = Metrics(host)
        for number in range(5000):
            metrics.tally.add("errors_total", ("llm", f"code.{number}"))
            metrics.tally.add("fallbacks_total", ("llm", f"from{number}", f"to{number}", f"why{number}"))
            metrics.tally.add("stage_seconds", ("stt", f"provider{number}"), 0.1)
            metrics.tally.add("turn_first_audio_seconds", ("test", f"xx-{number}"), 0.1)
            metrics.tally.add("sessions_ended_total", (f"reason {number}",))
        host.refused.update({f"code.{number}": 1 for number in range(1000)})
        body, _ = metrics.snapshot({}).exposition()
        assert len(body.splitlines()) < 2000
        found = scraped(metrics)
        assert of(found, "errors_total", stage="llm", code="other") == 4900
        assert of(found, "turn_first_audio_seconds_count", transport="test", language="other") == 5000
        assert of(found, "sessions_refused_total", code="other") == 900
        await house.shut()

    run(main())


def test_sessions_that_are_gone_leave_no_meter() -> None:
    async def main() -> None:
        house = House()
        host = await house.open(max_sessions=1000)
        metrics = Metrics(host)
        host.observe(metrics.observe)
        for number in range(30):
            sink = host.connect(start(f"ends-{number}"), Wire())
            await asyncio.sleep(0.01)
            sink.on_hangup("caller")
        for number in range(300):
            host.connect(start(f"lost-{number}"), Wire())
            await asyncio.sleep(0.01)
            host.lost(f"lost-{number}")  # another process has it: no last entry is ever seen here
        assert len(metrics._meters) <= 20
        await house.shut()

    run(main())


class Desk:
    """A host with calls that exist for a moment, at no cost."""

    def __init__(self, host: Host) -> None:
        self.services = host.services
        self.sessions: dict[str, Desk] = {}
        self.driver = self
        self.session: Session = Session()

    @property
    def held(self) -> int:
        return len(self.sessions)

    def get(self, session: str) -> Desk | None:
        return self.sessions.get(session)


def test_two_thousand_calls_take_no_more_room_than_a_few() -> None:
    async def main() -> None:
        house = House()
        desk = Desk(await house.open())
        metrics = Metrics(desk)  # type: ignore[arg-type]
        first = golden.load("greeting-question-answer")[0]
        rest = (ev.TextTyped("and the fees"), ev.LineDropped("line.lost"), ev.CallerHungUp(""), ev.SessionClosed(""))

        def call(number: int) -> None:
            name, session = f"call-{number}", Session()
            desk.sessions[name] = each = Desk.__new__(Desk)
            each.driver, each.session = each, session
            for at, event in enumerate((first.event, *rest)):
                metrics.observe(name, *session.receive(event, at * 100))
            del desk.sessions[name]

        def objects() -> int:
            gc.collect()
            return len(gc.get_objects())

        for number in range(100):
            call(number)
        before = objects()
        for number in range(2_000):
            call(100 + number)
        assert objects() - before < 500
        assert metrics.tally.count("sessions_total", "sim") == 2_100
        await house.shut()

    run(main())


def test_the_clients_own_registry_is_left_alone() -> None:
    async def main() -> None:
        house = House()
        Metrics(await house.open())
        assert not [family.name for family in REGISTRY.collect() if family.name.startswith("antiphon")]
        await house.shut()

    run(main())


def test_a_failing_provider_is_counted_from_the_call_itself() -> None:
    async def fails(request: object, act: object) -> object:
        raise ProviderError("told to fail", stage="llm", code="llm.failed", retryable=False)
        yield

    class Failing:
        name = "failing"

        async def start(self) -> None: ...

        async def close(self) -> None: ...

        respond = staticmethod(fails)

    async def main() -> None:
        house = House()
        host = await house.open(responder=Failing())
        metrics = Metrics(host)
        host.observe(metrics.observe)
        await talk(house, host, "a")
        found = scraped(metrics)
        assert of(found, "errors_total", stage="llm", code="llm.failed") >= 1
        assert of(found, "replies_total", tier="fallback") == 1
        assert of(found, "turns_total", outcome="answered") == 1
        await house.shut()

    run(main())


def test_workers_are_told_apart_and_what_is_common_is_said_once() -> None:
    async def main() -> None:
        house = House()
        host = await house.open()
        metrics = Metrics(host)
        host.observe(metrics.observe)
        await talk(house, host, "a")
        own = metrics.snapshot({"journal": True})
        travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(own), type=Snapshot)
        assert travelled == own
        body, _ = exposition({"1": own, "2": travelled})
        lines = [line.rpartition(" ")[0] for line in body.decode().splitlines() if not line.startswith("#")]
        assert len(lines) == len(set(lines)), "no two series are the same"
        families = [line for line in body.decode().splitlines() if line.startswith("# TYPE")]
        assert len(families) == len(set(families))
        found, alone = samples(parse_text(body.decode())), scraped(metrics)
        for (name, labels), value in alone.items():
            if name.startswith("antiphon_") and name.removeprefix("antiphon_") not in COMMON:
                for worker in ("1", "2"):
                    assert found[name, tuple(sorted((*labels, ("worker", worker))))] == pytest.approx(value, abs=1)
        assert of(found, "sessions_max") == host.capacity
        assert found["process_open_fds", (("worker", "1"),)] > 0
        await house.shut()

    run(main())
