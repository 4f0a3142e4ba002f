"""The table of latencies and success, by hand and at random."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from antiphon.observe.report import STAGES, TimedTurn, latency_report

STAGES_OF_ONE = {"endpointing": 300, "stt": 40, "intent/retrieval": 12, "llm": 5, "tts": 60, "total": 417}


def turn(language: str = "en-IN", *, ok: bool = True, **stages: float) -> TimedTurn:
    return TimedTurn(language=language, stages=stages or STAGES_OF_ONE, ok=ok)


def test_nothing_yet() -> None:
    assert latency_report([]).splitlines()[-1] == "no turns yet"


def test_one_language_to_the_letter() -> None:
    rows = [TimedTurn(language="en-IN", stages={"total": 400 + 10 * n, "stt": 7.6}, ok=n != 3) for n in range(20)]
    assert latency_report(rows) == (
        "language  stage  turns  p50 ms  p95 ms\n"
        "--------------------------------------\n"
        "en-IN     stt       20       8       8\n"
        "          total     20     490     580\n"
        "--------------------------------------\n"
        "success rate: 19 of 20 turns answered (95 %)"
    )


def test_stages_stand_in_the_order_in_which_they_happen() -> None:
    shuffled = dict(reversed(STAGES_OF_ONE.items()))
    lines = latency_report([TimedTurn(language="en-IN", stages={**shuffled, "own": 1}, ok=True)]).splitlines()[2:-2]
    named = [line[10:].rsplit(None, 3)[0].strip() for line in lines]
    assert named == [*(stage for stage in STAGES[:-1] if stage in STAGES_OF_ONE), "own", "total"]


def test_languages_are_apart_and_together() -> None:
    text = latency_report([turn(total=100), turn("hi-IN", total=300), turn("hi-IN", ok=False, total=500)])
    assert "en-IN     total      1     100     100" in text
    assert "hi-IN     total      2     300     500" in text
    assert "all       total      3     300     500" in text
    assert text.endswith(
        "success rate:\n"
        "  en-IN  1 of 1 turns answered (100 %)\n"
        "  hi-IN  1 of 2 turns answered (50 %)\n"
        "  all    2 of 3 turns answered (67 %)"
    )


def test_a_turn_that_was_not_measured_counts_all_the_same() -> None:
    text = latency_report([turn(total=100), TimedTurn(language="en-IN", stages={}, ok=False)])
    assert "total      1     100     100" in text
    assert text.endswith("1 of 2 turns answered (50 %)")


def test_a_language_nobody_knows_has_a_line() -> None:
    text = latency_report([TimedTurn(language="", stages={}, ok=False), turn("unknown", total=1)])
    assert [line.split()[0] for line in text.splitlines()[-3:]] == ["unknown", "unknown", "all"]


_ROWS = st.lists(
    st.builds(
        TimedTurn,
        language=st.sampled_from(["", "en-IN", "hi-IN", "te-IN"]),
        stages=st.dictionaries(st.sampled_from([*STAGES, "own"]), st.floats(0, 1e7)),
        ok=st.booleans(),
    ),
    max_size=30,
)


@given(_ROWS)
def test_the_table_is_straight_and_plain(rows: list[TimedTurn]) -> None:
    lines = latency_report(rows).splitlines()
    rules = [place for place, line in enumerate(lines) if set(line) == {"-"}]
    table = lines[: rules[-1] + 1]
    assert len({len(line) for line in table}) == 1
    assert all(line.isascii() and line.isprintable() for line in lines)
    answered = sum(row.ok for row in rows)
    assert not rows or f"{answered} of {len(rows)} turns answered" in lines[-1]
