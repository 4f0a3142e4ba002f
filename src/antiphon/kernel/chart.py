"""Charts: a state machine as a table, checked statically, drawn as Mermaid.

A chart maps ``(state, trigger)`` to ordered rules; the first rule whose guard holds runs its actions
and, if it names a target, changes the state. A trigger is an event's name or, for time,
``DeadlineReached:<name>``; the state ``*`` stands for every state and comes after the state's own rules.
A trigger without a rule is ignored: that is a decision too, and the drawing shows it by absence.

The static check refuses what would leave a caller in silence: a state that no rule reaches, a state
without a way out, a state without a deadline that is not for resting, a deadline that no rule is sure to answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from antiphon.errors import ChartError

ANY = "*"

C = TypeVar("C")


@dataclass(frozen=True)
class Rule(Generic[C]):
    """If ``guard`` holds (no guard: always), run ``actions`` in order and go to ``target`` (None: stay)."""

    actions: tuple[Callable[[C], object], ...] = ()
    target: str | None = None
    guard: Callable[[C], bool] | None = None


@dataclass(frozen=True)
class StateSpec:
    """A state, the deadlines that may run in it (others end when it is entered), and what it means.

    ``rest`` marks a state in which waiting for ever is right (no caller is on the line).
    """

    deadlines: tuple[str, ...] = ()
    rest: bool = False
    doc: str = ""


@dataclass(frozen=True)
class Chart(Generic[C]):
    """A checked chart. Raises ``ChartError`` listing everything that is wrong."""

    name: str
    initial: str
    states: Mapping[str, StateSpec]
    table: Mapping[tuple[str, str], Sequence[Rule[C]]]
    _checked: None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        problems = check(self)
        if problems:
            raise ChartError(f"chart {self.name}: " + "; ".join(problems))

    def rules(self, state: str, trigger: str) -> list[Rule[C]]:
        """The rules to try, in order."""
        return [*self.table.get((state, trigger), ()), *self.table.get((ANY, trigger), ())]

    def step(self, state: str, trigger: str, context: C) -> str | None:
        """Runs the first rule whose guard holds. Returns its target, the same state, or None for no rule."""
        for rule in self.rules(state, trigger):
            if rule.guard is None or rule.guard(context):
                for action in rule.actions:
                    action(context)
                return rule.target or state
        return None


def check(chart: Chart[C]) -> list[str]:
    """Everything that is wrong with a chart, as sentences; empty if nothing is."""
    problems: list[str] = []
    if chart.initial not in chart.states:
        problems.append(f"initial state {chart.initial} is not a state")
    for (state, trigger), rules in chart.table.items():
        problems += _check_rules(chart, state, trigger, rules)
    for state, spec in chart.states.items():
        if not spec.rest and not spec.deadlines:
            problems.append(f"{state} has no deadline: a caller could wait in it for ever")
        for deadline in spec.deadlines:
            rules = chart.rules(state, f"DeadlineReached:{deadline}")
            if not rules:
                problems.append(f"{state}: deadline {deadline} has no rule")
            elif rules[-1].guard is not None:
                problems.append(f"{state}: when deadline {deadline} comes, no rule may hold")
    problems += _check_reach(chart)
    return problems


def _check_rules(chart: Chart[C], state: str, trigger: str, rules: Sequence[Rule[C]]) -> list[str]:
    problems: list[str] = []
    where = f"({state}, {trigger})"
    if state != ANY and state not in chart.states:
        problems.append(f"{where}: no such state")
    if not rules:
        problems.append(f"{where}: no rules")
    for position, rule in enumerate(rules):
        if rule.target is not None and rule.target not in chart.states:
            problems.append(f"{where}: target {rule.target} is not a state")
        if rule.guard is None and position < len(rules) - 1:
            problems.append(f"{where}: rules after the unguarded one are never tried")
    name, _, deadline = trigger.partition(":")
    if name == "DeadlineReached" and state in chart.states and deadline not in chart.states[state].deadlines:
        problems.append(f"{where}: {state} does not declare this deadline")
    return problems


def _edges(chart: Chart[C]) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {state: set() for state in chart.states}
    for (state, _), rules in chart.table.items():
        for source in chart.states if state == ANY else (state,):
            if source in edges:
                edges[source] |= {rule.target for rule in rules if rule.target in chart.states and rule.target}
    return edges


def _check_reach(chart: Chart[C]) -> list[str]:
    edges = _edges(chart)
    seen, todo = {chart.initial}, [chart.initial]
    while todo:
        for target in edges.get(todo.pop(), ()):
            if target not in seen:
                seen.add(target)
                todo.append(target)
    problems = [f"{state} is never reached" for state in chart.states if state not in seen]
    for state, spec in chart.states.items():
        if not spec.rest and not edges[state] - {state}:
            problems.append(f"{state} is a dead end")
    return problems


def mermaid(chart: Chart[C]) -> str:
    """The chart as a Mermaid ``stateDiagram-v2``; one arrow per pair of states, its triggers listed."""
    lines = ["stateDiagram-v2", f"    [*] --> {chart.initial}"]
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, trigger), rules in chart.table.items():
        label = trigger.replace("DeadlineReached:", "after ")
        for rule in rules:
            if rule.target is None:
                continue
            name = label if rule.guard is None else f"{label} [{_title(rule.guard)}]"
            for source in chart.states if state == ANY else (state,):
                if source != rule.target:
                    arrows.setdefault((source, rule.target), []).append(name)
    for (source, target), names in arrows.items():
        lines.append(f"    {source} --> {target}: " + "<br/>".join(dict.fromkeys(names)))
    for state, spec in chart.states.items():
        # A second colon would end the note: Mermaid's grammar takes one in a line.
        note = spec.doc + (f" (deadlines {', '.join(spec.deadlines)})" if spec.deadlines else "")
        if note:
            lines.append(f"    note right of {state}: {note}")
    return "\n".join(lines) + "\n"


def describe(chart: Chart[C]) -> str:
    """The chart as a plain table: state, trigger, guard, actions, target."""
    rows = [("state", "trigger", "guard", "actions", "target")]
    for (state, trigger), rules in chart.table.items():
        for rule in rules:
            actions = ", ".join(_title(action) for action in rule.actions)
            rows.append((state, trigger, _title(rule.guard) if rule.guard else "", actions, rule.target or ""))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _title(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", "?").strip("_").replace("_", " ")
