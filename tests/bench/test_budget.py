"""The budget of instructions: that it would be seen if it were not kept. `make budget` counts them."""

import sys

import pytest
from bench.budget_work import WORK, main

from bench import budget


def test_every_unit_of_work_can_be_done_without_callgrind(capsys):
    main(None)
    assert len(capsys.readouterr().out.splitlines()) == len(WORK)


def test_more_than_a_tenth_is_too_much():
    lines, within = budget.compare({"a": 1.09, "b": 0.5}, {"a": 1.0, "b": 1.0})
    assert within
    assert "cheaper" in lines[2]
    lines, within = budget.compare({"a": 1.11}, {"a": 1.0})
    assert not within
    assert "COSTS MORE" in lines[1]
    lines, within = budget.compare({"a": 1.0}, {})
    assert not within
    assert "NO BUDGET" in lines[1]
    lines, within = budget.compare({}, {"gone": 1.0})
    assert not within
    assert "NOT COUNTED any more: gone" in lines


def test_counts_are_read_from_callgrinds_files_and_held_against_the_reference():
    dumps = [
        f"version: 1\ndesc: Trigger: Client Request: {name}\nevents: Ir\nsummary: {(1000 + number) * units}\n"
        for number, (name, (_, units)) in enumerate(WORK.items())
    ]
    counted = budget.totals([*dumps, "desc: Trigger: Program termination\nsummary: 5\n"])
    assert counted.keys() == WORK.keys()
    counted["nothing"] = 500 * WORK["nothing"][1]
    ratios = budget.ratios_of(counted)
    assert ratios.keys() == WORK.keys() - {"reference", "nothing"}
    assert ratios["frame_in"] == pytest.approx(502 / 500)
    del counted["gate"]
    with pytest.raises(RuntimeError, match="nothing for gate"):
        budget.ratios_of(counted)


def test_the_budget_of_another_python_is_kept(tmp_path):
    path = tmp_path / "budget.toml"
    path.write_text('[python."3.99"]\nframe_in = 2.0\n')
    with pytest.raises(RuntimeError, match=f"says nothing of Python {sys.version_info.major}.{sys.version_info.minor}"):
        budget.read(path)
    budget.write({"frame_in": 1.5}, path)
    assert budget.read(path) == {"frame_in": 1.5}
    assert "3.99" in path.read_text()


def test_a_tool_that_is_missing_is_told(monkeypatch, capsys):
    monkeypatch.setattr(budget.shutil, "which", lambda _name: None)
    with pytest.raises(RuntimeError, match="apt-get install valgrind"):
        budget.tool("valgrind")
    assert budget.main([]) == 2
    assert "NOT CHECKED: valgrind is not installed" in capsys.readouterr().err
