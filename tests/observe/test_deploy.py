"""The dashboard and the alerts: well formed, and about metrics and labels that a server really has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from antiphon.kernel.state import TIERS
from antiphon.observe.meters import METRICS
from antiphon.observe.prometheus import BREAKER_STATES, GAUGES
from antiphon.observe.tallies import Metric
from antiphon.observe.views import Outcome

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "deploy" / "grafana" / "antiphon.json"
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
TROUBLE = ROOT / "docs" / "TROUBLESHOOTING.md"

BY_PROMETHEUS = {"up", "job", "instance"}
PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
}


def exposed() -> dict[str, Metric]:
    """By the names that series have."""
    found = {}
    for metric in (*METRICS, *GAUGES):
        name = f"antiphon_{metric.name}"
        names = [f"{name}{end}" for end in ("_bucket", "_sum", "_count")] if metric.kind == "histogram" else [name]
        found |= dict.fromkeys(names, metric)
    return found


def board() -> dict[str, Any]:
    return dict(json.loads(BOARD.read_text(encoding="utf-8")))


def panels() -> list[dict[str, Any]]:
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def expressions() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"].replace("$__rate_interval", "5m")
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def note(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        return True

    promql_parser.walk(promql_parser.parse(expression), pre_visit=note)
    return found


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda value: value[:60])
def test_an_expression_parses_and_asks_for_what_there_is(where: str, expression: str) -> None:
    names = exposed()
    asked = selectors(expression)
    assert asked, where
    for selector in asked:
        if selector.name in {*BY_PROMETHEUS, *PROCESS}:
            continue
        assert selector.name in names, f"{where}: {selector.name}"
        labels = {*names[selector.name].labels, "job", "le"}
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, f"{where}: {selector.name} has no label {matcher.name}"
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        known = {"job", "instance", "le"}.union(*(names[each.name].labels for each in asked if each.name in names))
        assert {label.strip() for label in grouped.split(",")} <= known, f"{where}: by ({grouped})"
    for kind in ("rate", "increase"):
        for name in re.findall(rf"\b{kind}\((\w+)", expression):
            assert name.endswith(("_total", "_bucket", "_sum", "_count")), f"{where}: {kind} of {name}, no counter"


def test_words_in_the_matchers_are_words_that_are_counted() -> None:
    known = {
        "outcome": {*Outcome.__args__, "adopted", "dropped"},  # type: ignore[attr-defined]
        "stage": {"stt", "llm", "tts"},
        "tier": set(TIERS),
    }
    for where, expression in expressions():
        for label, words in re.findall(r'(outcome|stage|tier)=~?"([^"$]+)"', expression):
            assert set(words.split("|")) <= known[label], where
    assert set(BREAKER_STATES.values()) == {0, 1, 2}


def test_the_dashboard_fits_grafanas_own_model() -> None:
    """What the model does not know it leaves out: read in and written out again, nothing of ours is missing."""
    told = board()
    again = json.loads(json.dumps(Dashboard.from_json(told), cls=JSONEncoder))
    # Targets and queries belong to the plugin of Prometheus; the model of a board takes them as they are.
    assert missing(told, again) == []


def missing(one: Any, other: Any, where: str = "") -> list[str]:
    """What ``one`` has and ``other`` has not, or otherwise."""
    if isinstance(one, dict):
        if not isinstance(other, dict):
            return [where] if one else []
        lost = [f"{where}.{key}" for key, value in one.items() if key not in other and value not in (None, [], {})]
        return lost + [each for key in one if key in other for each in missing(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, list):
        if not isinstance(other, list) or len(one) != len(other):
            return [where]
        return [
            each for at, (a, b) in enumerate(zip(one, other, strict=True)) for each in missing(a, b, f"{where}[{at}]")
        ]
    return [] if one == other else [f"{where}: {one!r} is {other!r}"]


def test_panels_have_an_identity_a_place_and_words() -> None:
    everything = board()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, f"{panel['title']} lies over another"
        taken |= cells
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, "whatever it is called there"
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
    variables = {each["name"] for each in board()["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", BOARD.read_text(encoding="utf-8"))) - {"__rate_interval", "__all"} <= variables


def test_everything_that_is_counted_is_shown() -> None:
    text = BOARD.read_text(encoding="utf-8")
    assert [metric.name for metric in (*METRICS, *GAUGES) if f"antiphon_{metric.name}" not in text] == []


def anchors() -> set[str]:
    heads = re.findall(r"^#+ +(.*)$", TROUBLE.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Antiphon[A-Za-z]+", rule["alert"])
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    assert rule["labels"]["severity"] in {"warning", "critical"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    assert len(notes["description"]) > 40
    page, _, anchor = notes["runbook"].partition("#")
    assert (ROOT / page) == TROUBLE
    assert anchor in anchors(), notes["runbook"]
    assert f"`{rule['alert']}`" in TROUBLE.read_text(encoding="utf-8"), "the page names it"
    for label in re.findall(r"\$labels\.(\w+)", notes["summary"]):
        labels = set().union(*(metric.labels for metric in (*METRICS, *GAUGES)))
        assert label in labels | BY_PROMETHEUS


def test_the_example_of_a_scrape() -> None:
    told = yaml.safe_load((RULES.parent / "prometheus.yml").read_text(encoding="utf-8"))
    assert [RULES.parent / name for name in told["rule_files"]] == [RULES]
    (job,) = told["scrape_configs"]
    assert job["job_name"] == "antiphon"
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8004"]}]


def test_the_page_lists_every_metric_as_it_is() -> None:
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `antiphon_(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    assert listed == [
        (each.name, each.kind, ", ".join(f"`{label}`" for label in each.labels) or "-", each.help.removesuffix("."))
        for each in (*METRICS, *GAUGES)
    ]
