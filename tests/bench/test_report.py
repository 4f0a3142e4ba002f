"""What a run found, as tables, verdicts, picture and page: wrong arithmetic here would be a wrong claim there."""

import xml.etree.ElementTree as ET

import msgspec
import pytest
from bench.compare import REALISTIC, Run, broken
from bench.contenders import BY_NAME
from bench.document import document
from bench.load import Step
from bench.plot import draw
from bench.report import Figure, Limit, Measured, Report, Starts, TwoWorkers, at, cheapest, summarise
from bench.table import HEAD, answer_table, limit_table, row, summary, summary_table
from bench.verdicts import verdicts

from bench import compare, workers


def step(**changes):
    plain = {
        field.name: {int: 0, float: 0.0, bool: False}.get(field.type, []) for field in msgspec.structs.fields(Step)
    }
    return Step(**{**plain, "turns": 50, "own_p50": -1.0, "own_p99": -1.0, **changes})


def measured(contender, part="load", number=1, **changes):
    return Measured(contender=contender, part=part, round=number, step=step(**changes))


def report(steps, **changes):
    steps = list(steps)
    found = Report(
        at="2026-11-21T10:00:00Z",
        command="python -m bench",
        antiphon="0.1.0",
        python="3.11.7",
        cpu="a processor",
        cores=2,
        server_core=0,
        load_core=1,
        versions={"antiphon": {"antiphon": "0.1.0"}, "pipecat": {"pipecat-ai": "1.14.0"}},
        endpoint_ms={"antiphon": 420.0},
        realistic=REALISTIC,
        steps=steps,
        summaries=summarise(steps),
    )
    found = msgspec.structs.replace(found, **changes)
    found.verdicts = verdicts(found)
    return found


GOOD = [
    measured("floor-c", calls=600, cpu_ms_per_call_s=0.5),
    measured("antiphon", calls=1, cpu_ms_per_call_s=8.0, first_audio_p99=450.0, own_p50=1.5, own_p99=9.0),
    measured("antiphon", calls=50, cpu_ms_per_call_s=1.4, first_audio_p99=455.0, rss_kb_per_call=200.0),
    measured("antiphon", calls=400, cpu_ms_per_call_s=1.3, first_audio_p99=460.0, own_p50=2.0, own_p99=20.0),
    measured("antiphon", calls=600, cpu_ms_per_call_s=1.2, first_audio_p99=480.0, agent_frames=100_000, gaps=50),
    measured("livekit", calls=10, cpu_ms_per_call_s=17.0, first_audio_p99=430.0),
    measured("pipecat", calls=10, cpu_ms_per_call_s=40.0, first_audio_p99=450.0),
    measured("antiphon", "answer", calls=10, first_audio_p50=690.0, first_audio_p99=720.0),
    measured("livekit", "answer", calls=10, first_audio_p50=1007.0, first_audio_p99=1100.0),
    measured("antiphon", "cutoff", calls=10, talked_over=1),
    measured("livekit", "cutoff", calls=10, talked_over=2),
]
ALSO = {
    "limits": [
        Limit(contender="antiphon", calls=800, broke_at=0, why="", base_p99=450.0),
        Limit(contender="pipecat", calls=15, broke_at=20, why="p99 of first audio 300 ms higher", base_p99=450.0),
    ],
    "starts": Starts(ready_s=0.9, ready_embedded_s=1.4, help_s=0.12),
}


def test_a_run_that_reaches_everything_says_so():
    found = report(GOOD, **ALSO)
    assert [line for line in found.verdicts if line.startswith("NOT")] == []
    assert len(found.verdicts) == 14
    assert "1/33.3 of pipecat's" in found.verdicts[0]
    assert "at most 2.40 times the C echo floor" in found.verdicts[2]
    assert any("800 calls on one core, where pipecat 15" in line for line in found.verdicts)


@pytest.mark.parametrize(
    ("number", "changes", "words"),
    [
        (6, {"cpu_ms_per_call_s": 20.0}, "of pipecat's"),
        (5, {"cpu_ms_per_call_s": 9.0}, "of livekit's"),
        (0, {"cpu_ms_per_call_s": 0.3}, "C echo floor"),
        (2, {"cpu_ms_per_call_s": 1.1}, "no more than at 50"),
        (4, {"lost_turns": 1}, "600 calls on one core: 1"),
        (4, {"failed_calls": 1}, "600 calls on one core: 1"),
        (4, {"first_audio_p99": 501.0}, "600 calls on one core: 0"),
        (4, {"gaps": 101}, "gaps 0.10 %"),
        (2, {"rss_kb_per_call": 301.0}, "memory per call"),
        (1, {"own_p50": 2.1}, "added latency p50"),
        (3, {"own_p99": 25.1}, "at 400 calls"),
        (7, {"first_audio_p50": 701.0}, "realistic providers"),
        (8, {"first_audio_p50": 600.0}, "realistic providers"),
        (9, {"talked_over": 3}, "spoke into 3 of 50 pauses"),
    ],
)
def test_each_target_that_is_missed_is_named(number, changes, words):
    steps = list(GOOD)
    steps[number] = msgspec.structs.replace(steps[number], step=msgspec.structs.replace(steps[number].step, **changes))
    missed = [line for line in report(steps, **ALSO).verdicts if line.startswith("NOT reached: ")]
    assert any(words in line for line in missed), missed


def test_words_that_are_known_early_are_rows_and_verdicts_of_their_own():
    early = [
        measured("antiphon", "answer early", calls=10, first_audio_p50=600.0),
        measured("livekit", "answer early", calls=10, first_audio_p50=990.0),
        measured("antiphon", "cutoff early", calls=10, talked_over=9),
        measured("livekit", "cutoff early", calls=10, talked_over=0),
    ]
    found = report([*GOOD, *early])
    assert [line.split(" | ")[0] for line in answer_table(found.summaries)[2:]] == [
        "| antiphon",
        "| livekit",
        "| antiphon, words early",
        "| livekit, words early",
    ]
    assert "| antiphon, words early | 600 | 0 | 50, 0 | 9 of 50 turns |" in answer_table(found.summaries)
    about = [line for line in found.verdicts if "words known early" in line]
    assert about[0].startswith("reached: ")
    assert "600 ms" in about[0]
    assert about[1].startswith("NOT reached: spoke into 9 of 50 pauses")


TWO_WORKERS = TwoWorkers(
    calls=100,
    rounds=3,
    one_ms=Figure(1.5, 1.4, 1.6),
    two_ms=Figure(1.6, 1.5, 1.7),
    times=Figure(1.875, 1.85, 1.9),
    one_p99=Figure(450.0, 440.0, 460.0),
    two_p99=Figure(455.0, 440.0, 460.0),
    least_share=0.44,
    turns=900,
    lost=0,
)


@pytest.mark.parametrize(
    ("changes", "reached"),
    [({}, True), ({"times": Figure(1.79, 1.7, 1.8)}, False), ({"lost": 1}, False), ({"least_share": 0.2}, False)],
)
def test_a_second_core_counts_if_every_call_is_carried_and_both_workers_have_their_share(changes, reached):
    (told,) = report([], workers=msgspec.structs.replace(TWO_WORKERS, **changes)).verdicts
    assert told.startswith("reached: " if reached else "NOT reached: ")
    assert "1.5 (1.4-1.6) ms per call-second at 100 calls, 1.6 (1.5-1.7) ms at 200" in told


def test_throughput_of_two_workers_is_the_ratio_of_what_a_call_costs_times_the_cores(monkeypatch):
    asked = []

    def stepped(count, seconds, cores, calls):
        asked.append((count, calls))
        return step(cpu_ms_per_call_s=1.5 if count == 1 else 1.6, first_audio_p99=450.0), 0.4 if count == 2 else 1.0

    monkeypatch.setattr(workers, "_step", stepped)
    found = workers.measure(2, 20.0, (0, 1), calls=100)
    assert asked == [(1, 100), (2, 200)] * 2
    assert found.times == Figure(1.875, 1.875, 1.875)
    assert (found.least_share, found.turns, found.lost) == (0.4, 200, 0)


def test_nothing_is_claimed_of_what_was_not_measured():
    assert report([]).verdicts == []
    assert report([measured("pipecat", calls=10, cpu_ms_per_call_s=40.0)]).verdicts == []


def test_medians_with_their_spread_over_the_rounds():
    steps = [
        measured("livekit", number=number, calls=10, cpu_ms_per_call_s=cpu, agent_frames=1000, gaps=gaps, lost_turns=1)
        for number, (cpu, gaps) in enumerate([(3.0, 0), (1.0, 5), (2.0, 1)], 1)
    ]
    (found,) = summarise([*steps, measured("livekit", "search", calls=80)])
    assert (found.rounds, found.turns, found.lost_turns) == (3, 150, 3)
    assert (found.cpu_ms.median, found.cpu_ms.low, found.cpu_ms.high) == (2.0, 1.0, 3.0)
    assert str(found.cpu_ms) == "2 (1-3)"
    assert found.gaps.median == 10.0
    assert not found.carried, "two turns in a hundred are lost"


def test_the_cheapest_step_is_one_that_was_carried():
    steps = [
        measured("pipecat", calls=5, cpu_ms_per_call_s=50.0),
        measured("pipecat", calls=10, cpu_ms_per_call_s=45.0),
        measured("pipecat", calls=20, cpu_ms_per_call_s=30.0, first_audio_p99=9_000.0),
        measured("pipecat", calls=40, cpu_ms_per_call_s=25.0, lost_turns=30),
    ]
    found = summarise(steps)
    assert cheapest(found, "pipecat").calls == 10
    assert cheapest(found, "livekit") is None
    assert at(found, "pipecat", 40).lost_turns == 30


def test_rows_fit_under_their_head_and_tell_what_is_doubtful():
    plain = row("antiphon", "load", step(calls=300))
    assert len(plain) == len(HEAD.splitlines()[1])
    shown = row(
        "antiphon", "load", step(calls=300, load_unfit=True, failed_calls=2, talked_over=1, others_percent=40.0)
    )
    for words in ("LOAD GENERATOR LATE", "2 CALLS FAILED", "answered early: 1", "others 40 %"):
        assert words in shown
    assert len(row("floor-c", "load", step(calls=300))) == len(plain)


def test_tables_are_markdown_with_as_many_cells_in_each_row():
    found = report(GOOD, **ALSO)
    for lines in (summary_table(found.summaries), limit_table(found.limits), answer_table(found.summaries)):
        assert len({line.count("|") for line in lines}) == 1
    assert "| antiphon | 690 | 720 | 50, 0 | 1 of 50 turns |" in answer_table(found.summaries)
    assert "| antiphon | 800 | nothing up to the highest that was tried |" in limit_table(found.limits)
    assert any("--help takes 120 ms" in line for line in summary(found))


def test_the_picture_is_well_formed_and_shows_every_contender():
    found = report(GOOD, **ALSO)
    root = ET.fromstring(draw(found))  # noqa: S314 - our own
    words = [element.text for element in root.iter() if element.text]
    for name in ("antiphon", "livekit", "pipecat", "floor-c", "800+", "15"):
        assert name in words
    x = [float(element.attrib["cx"]) for element in root.iter() if element.tag.endswith("circle")]
    assert len(x) == 7 + 6 + 4, "a point for each step, without the floor in the second chart, and the legend"
    assert draw(report([])).endswith("</svg>\n")


def test_the_page_says_when_the_machine_was_not_quiet():
    quiet = document(report(GOOD, **ALSO))
    assert "Nothing else ran on the machine" in quiet
    assert "pipecat-ai 1.14.0" in quiet
    assert "- reached:" in quiet
    busy = document(report([measured("antiphon", calls=1, others_percent=80.0)]))
    assert "was not quiet" in busy
    assert "Left out of this run." in busy


def test_what_breaks_a_step():
    assert broken(step(first_audio_p99=600.0), 450.0) == ""
    assert "251 ms higher" in broken(step(first_audio_p99=701.0), 450.0)
    assert "load generator was late" in broken(step(first_audio_p99=701.0, load_unfit=True), 450.0)
    assert "2 of 50 turns lost" in broken(step(lost_turns=2), 450.0)
    assert "calls failed" in broken(step(failed_calls=1), 450.0)
    assert "no turn" in broken(step(turns=0), 450.0)


@pytest.mark.parametrize(("carries", "calls", "broke_at"), [(35, 30, 40), (4, 0, 10), (500, 100, 0)])
def test_the_limit_is_found_by_halves(monkeypatch, carries, calls, broke_at):
    asked = []

    def one_step(self, contender, calls, part, number, **_):
        asked.append(calls)
        return step(calls=calls, first_audio_p99=400.0 if calls <= carries else 700.0)

    monkeypatch.setattr(compare.Run, "step", one_step)
    found = Run((0, 1), 5.0, 1.0).limit(BY_NAME["livekit"])
    assert (found.calls, found.broke_at) == (calls, broke_at)
    assert found.base_p99 == 400.0
    assert len(asked) <= 5, "one for the base, and four of nine"


def test_a_report_survives_being_written_and_read():
    found = report(GOOD, **ALSO)
    again = msgspec.json.decode(msgspec.json.encode(found), type=Report)
    assert again == found
