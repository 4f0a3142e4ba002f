"""The chart engine: what its static check refuses, how it steps, how it is drawn; and the floor's own chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from antiphon.errors import ChartError
from antiphon.kernel import events
from antiphon.kernel.chart import ANY, Chart, Rule, StateSpec, check, describe, mermaid
from antiphon.kernel.floor import FLOOR
from antiphon.kernel.state import Floor

R = Rule[list[str]]


def note(seen: list[str]) -> None:
    seen.append("noted")


def is_empty(seen: list[str]) -> bool:
    return not seen


OPEN = StateSpec(("patience",), doc="Waiting.")
SHUT = StateSpec(rest=True)
TABLE = {
    ("open", "Closed"): (R((note,), "shut"),),
    ("open", "DeadlineReached:patience"): (R((), "shut", is_empty), R((note,))),
    ("shut", "Opened"): (R((), "open"),),
}


def chart(
    states: Mapping[str, StateSpec] | None = None, table: Mapping[tuple[str, str], Sequence[R]] | None = None
) -> Chart[list[str]]:
    return Chart("door", "shut", {"open": OPEN, "shut": SHUT} | dict(states or {}), TABLE | dict(table or {}))


def test_a_sound_chart_has_nothing_wrong() -> None:
    assert check(chart()) == []


@pytest.mark.parametrize(
    ("states", "table", "complaint"),
    [
        ({"attic": OPEN}, {("attic", "DeadlineReached:patience"): (R((), "shut"),)}, "attic is never reached"),
        (
            {"hall": StateSpec()},
            {("shut", "Entered"): (R((), "hall"),), ("hall", "Left"): (R((), "shut"),)},
            "hall has no deadline",
        ),
        (
            {},
            {("open", "DeadlineReached:patience"): (R((), "shut", is_empty),)},
            "open: when deadline patience comes, no rule may hold",
        ),
        ({"open": StateSpec(("patience", "extra"))}, {}, "open: deadline extra has no rule"),
        ({}, {("shut", "DeadlineReached:nap"): (R((), "open"),)}, "shut does not declare this deadline"),
        ({}, {("open", "Kicked"): (R((), "gone"),)}, r"\(open, Kicked\): target gone is not a state"),
        ({}, {("cellar", "Kicked"): (R((), "open"),)}, r"\(cellar, Kicked\): no such state"),
        ({}, {("open", "Kicked"): ()}, r"\(open, Kicked\): no rules"),
        ({}, {("open", "Kicked"): (R((note,)), R((), "shut"))}, "rules after the unguarded one are never tried"),
        (
            {"trap": OPEN},
            {
                ("shut", "Fell"): (R((), "trap"),),
                ("trap", "DeadlineReached:patience"): (R((note,), "trap", is_empty), R((note,))),
            },
            "trap is a dead end",
        ),
    ],
)
def test_what_would_leave_a_caller_in_silence_is_refused(
    states: dict[str, StateSpec], table: dict[tuple[str, str], Sequence[R]], complaint: str
) -> None:
    with pytest.raises(ChartError, match=complaint) as caught:
        chart(states, table)
    assert caught.value.code == "chart"
    assert str(caught.value).count(";") == 0, "one thing is wrong, one thing is said"


def test_an_initial_state_that_is_none_is_refused() -> None:
    with pytest.raises(ChartError, match="initial state nowhere is not a state"):
        Chart("door", "nowhere", {"open": OPEN, "shut": SHUT}, TABLE)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ChartError) as caught:
        chart({"attic": StateSpec()}, {("open", "Kicked"): (R((), "gone"),)})
    text = str(caught.value)
    for complaint in ("target gone", "attic has no deadline", "attic is never reached", "attic is a dead end"):
        assert complaint in text


def test_the_first_rule_whose_guard_holds_counts() -> None:
    door = chart()
    seen: list[str] = []
    assert door.step("open", "DeadlineReached:patience", seen) == "shut"
    assert seen == []
    seen.append("x")
    assert door.step("open", "DeadlineReached:patience", seen) == "open"  # no target: it stays
    assert seen == ["x", "noted"]
    assert door.step("shut", "Closed", seen) is None  # no rule: ignored


def test_the_rules_of_every_state_come_after_the_states_own() -> None:
    door = chart(table={(ANY, "Closed"): (R((), "open"),), (ANY, "Knocked"): (R((note,), "open"),)})
    assert door.step("open", "Closed", []) == "shut"
    assert door.step("shut", "Closed", []) == "open"
    assert door.step("shut", "Knocked", []) == "open"


def test_mermaid() -> None:
    assert mermaid(chart(table={(ANY, "Knocked"): (R((note,), "open"),)})) == (
        "stateDiagram-v2\n"
        "    [*] --> shut\n"
        "    open --> shut: Closed<br/>after patience [is empty]\n"
        "    shut --> open: Opened<br/>Knocked\n"
        "    note right of open: Waiting. (deadlines patience)\n"
    )


def test_the_table_in_words() -> None:
    lines = describe(chart()).splitlines()
    assert lines[0].split() == ["state", "trigger", "guard", "actions", "target"]
    assert [line.split() for line in lines[1:]] == [
        ["open", "Closed", "note", "shut"],
        ["open", "DeadlineReached:patience", "is", "empty", "shut"],
        ["open", "DeadlineReached:patience", "note"],
        ["shut", "Opened", "open"],
    ]
    assert lines[0].index("target") == lines[1].index("shut") == lines[2].index("shut")


# -- the floor ------------------------------------------------------------------------------------


def test_the_floor_is_sound_and_has_exactly_the_five_states() -> None:
    """B5, exact on the wire."""
    assert check(FLOOR) == []
    assert list(FLOOR.states) == ["IDLE", "LISTENING", "THINKING", "SPEAKING", "INTERRUPT"]
    assert [state.value for state in Floor] == list(FLOOR.states)
    assert FLOOR.initial == "IDLE"
    assert [name for name, spec in FLOOR.states.items() if spec.rest] == ["IDLE"]


def test_the_floor_is_drawn_whole() -> None:
    drawing = mermaid(FLOOR)
    for arrow in (
        "IDLE --> LISTENING",
        "LISTENING --> THINKING",
        "THINKING --> SPEAKING",
        "SPEAKING --> INTERRUPT",
        "INTERRUPT --> SPEAKING",
        "INTERRUPT --> LISTENING",
        "SPEAKING --> LISTENING",
        "THINKING --> IDLE",
    ):
        assert f"    {arrow}: " in drawing
    notes = [line for line in drawing.splitlines() if "note right of" in line]
    assert len(notes) == 5
    assert all(line.count(":") == 1 for line in notes), "a second colon would end the note"
    assert "[?]" not in drawing, "every guard has a name to show"


def test_every_trigger_of_the_floor_is_an_event_and_every_deadline_is_declared() -> None:
    declared = {name for spec in FLOOR.states.values() for name in spec.deadlines}
    for _, trigger in FLOOR.table:
        name, _, deadline = trigger.partition(":")
        assert issubclass(getattr(events, name), events.Event)
        assert not deadline or deadline in declared
