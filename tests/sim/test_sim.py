"""The simulation itself: repeatable anywhere, varied, and its violations shrink to journals."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from antiphon.kernel import events as ev
from antiphon.kernel import history
from antiphon.kernel.session import replay
from antiphon.sim.clock import run
from antiphon.sim.far_end import WORD_MS, FarEnd, read_back, spoken
from antiphon.sim.invariants import journal_json, violations
from antiphon.sim.plan import Act, Plan, draw, smaller
from antiphon.sim.runner import Outcome, run_many, run_one, save_golden, shrink, simulate

COUNT = 150
PROGRAM = f"""
from antiphon.sim.runner import run_many
if __name__ == "__main__":
    for faults in (True, False):
        print(run_many({COUNT} // 2, 1000, faults, workers=1).digest)
"""


def digests(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True, timeout=120
    )
    return done.stdout


def test_a_seed_is_the_same_call_in_every_process() -> None:
    first = digests("1")
    assert len(first.split()) == 2
    assert digests("4242") == first


def test_a_seed_is_the_same_call_again_and_others_are_others() -> None:
    outcomes = [run_one(seed, True) for seed in (5, 6, 5)]
    assert outcomes[0] == outcomes[2]
    assert outcomes[0].digest != outcomes[1].digest
    assert draw(5, True) == draw(5, True)


def test_the_number_of_workers_changes_nothing() -> None:
    alone, together = (run_many(120, 7, True, workers=workers) for workers in (1, 2))
    assert msgspec.json.encode(alone) == msgspec.json.encode(together)
    assert alone.calls == 120


def test_plans_have_everything_in_them() -> None:
    """Whatever is promised to be simulated is drawn often enough to matter."""
    plans = [draw(seed, True) for seed in range(1, 801)]
    acts = Counter(act.kind for plan in plans for act in plan.acts)
    kinds = {"ask", "split", "interrupt", "cough", "backchannel", "digits", "key", "silence"}
    kinds |= {"drop", "second_line", "crash", "hang_up"}
    assert set(acts) == kinds
    assert min(acts.values()) >= 50
    for stage, wanted in {
        "stt": {"slow", "hang", "fail", "blank", "twice", "no_partials"},
        "intent": {"slow", "hang", "fail", "twice"},
        "retrieval": {"slow", "hang", "fail", "twice"},
        "llm": {"slow", "hang", "fail", "cut", "empty", "hang_middle", "raise", "stubborn", "effect", "goodbye"},
        "tts": {"slow", "hang", "fail", "cut", "empty", "hang_middle", "raise", "stubborn"},
        "journal": {"slow", "fail"},
    }.items():
        drawn = Counter(fault for plan in plans for fault in getattr(plan, stage) if fault)
        assert wanted <= set(drawn), stage
        assert min(drawn[fault] for fault in wanted) >= 20, stage
    calm = [draw(seed, False) for seed in range(1, 301)]
    assert not {act.kind for plan in calm for act in plan.acts} & {"drop", "second_line", "crash"}
    assert not any(any(plan.stt) or any(plan.tts) or any(plan.journal) for plan in calm)


def test_what_is_planned_happens() -> None:
    """A plan's acts and faults are seen in the journal."""

    def facts(plan: Plan) -> list[str]:
        record = simulate(plan)
        assert violations(record) == []
        return [type(decision.entry.event).__name__ for decision in record.decisions]

    ask, dropped = Act("ask", 3), ("", "")  # what is begun for the first word, and the second, is dropped
    assert facts(Plan(1, acts=(ask, Act("cough", 2, 300)))).count("SpeechStarted") == 2
    assert "DigitPressed" in facts(Plan(1, acts=(Act("digits", 3, 200),)))
    assert "LineDropped" in facts(Plan(1, acts=(ask, Act("drop", 1, 200))))
    assert facts(Plan(1, acts=(ask, Act("second_line")))).count("LineAttached") == 1
    assert facts(Plan(1, acts=(ask, Act("crash", 1, 500), ask))).count("LineAttached") == 1
    assert "TranscriptionFailed" in facts(Plan(1, acts=(ask,), stt=("fail",)))
    assert facts(Plan(1, acts=(ask,), intent=(*dropped, "twice"))).count("IntentReady") == 2
    assert facts(Plan(1, acts=(ask,), retrieval=(*dropped, "twice"))).count("PassagesReady") == 2
    assert "StageRerouted" in facts(Plan(1, acts=(ask,), llm=(*dropped, "fail")))
    # The draft, its further try, the attempt and its further try.
    assert "StageFailed" in facts(Plan(1, acts=(ask,), llm=(*dropped, *["fail"] * 4)))
    assert "SegmentCut" in facts(Plan(1, acts=(ask,), tts=("cut",)))
    assert facts(Plan(1, acts=(ask,), llm=(*dropped, "effect"))).count("EffectSucceeded") == 2


def test_a_stubborn_provider_speaks_on_after_it_was_cancelled_and_nobody_hears_it() -> None:
    record = simulate(Plan(1, acts=(Act("ask", 3), Act("interrupt", 2, 100)), llm=("stubborn",) * 4))
    assert violations(record) == []
    heard = [word for line in record.lines for word, _ in read_back(b"".join(a for _, _, a in line.played))]
    assert "a2x1w11" not in heard


def test_a_call_whose_process_dies_goes_on_with_what_was_acknowledged() -> None:
    wait = Act("silence", after_ms=2_000)
    record = simulate(Plan(1, acts=(Act("ask", 3), wait, Act("crash", 1, 500), Act("ask", 2), wait)))
    assert violations(record) == []
    assert len(record.crashed_at) == 1
    session = replay(decision.entry for decision in record.decisions)
    questions = [message.content for message in session.state.history if message.role == "user"]
    assert questions == ["q1 q2 q3", "q4 q5"]


# -- shrinking ------------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> str:
    """A rule that is broken on purpose: interrupted replies count as heard to their end. Returns the invariant."""
    monkeypatch.setattr(history, "heard_text", lambda segments, *_: " ".join(part.text for part in segments))
    return "history_is_what_was_heard"


def first_failure(name: str, faults: bool) -> Outcome:
    for seed in range(1, 500):
        outcome = run_one(seed, faults)
        if any(what.startswith(f"{name}:") for what in outcome.violations):
            return outcome
    raise AssertionError(f"{name} was never violated")


def size(plan: Plan) -> int:
    return len(plan.acts) + sum(bool(f) for s in ("stt", "llm", "tts", "journal") for f in getattr(plan, s))


def test_a_violation_shrinks_to_a_smaller_plan_that_still_shows_it(broken: str) -> None:
    outcome = first_failure(broken, True)
    plan = draw(outcome.seed, True)
    small = shrink(plan, broken)
    assert size(small) <= size(plan)
    assert len(small.acts) <= 3, "a question, and an interruption of its answer"
    assert any(what.startswith(f"{broken}:") for what in violations(simulate(small)))
    for smallest in smaller(small):
        assert not any(what.startswith(f"{broken}:") for what in violations(simulate(smallest)))


def test_its_journal_is_kept_and_can_be_read(broken: str, tmp_path: Path) -> None:
    outcome = msgspec.structs.replace(first_failure(broken, False), violations=(f"{broken}: planned",))
    path, plan = save_golden(outcome, False, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / f"{broken}-{outcome.seed}.jsonl"
    entries = [msgspec.json.decode(line, type=ev.Entry) for line in path.read_bytes().splitlines()]
    assert entries == [decision.entry for decision in simulate(plan).decisions]
    assert replay(entries).is_over
    assert path.read_bytes() == journal_json(simulate(plan))


# -- the far end ----------------------------------------------------------------------------------


def test_what_was_heard_is_read_back_to_the_sample() -> None:
    one, two = spoken("one"), spoken("two")
    assert read_back(one + bytes(640) + two[:1000]) == [("one", 8 * WORD_MS), ("two", 500)]
    assert read_back(b"") == read_back(bytes(1000)) == []


def test_the_far_end_plays_in_real_time_and_forgets_what_is_cleared() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        line = FarEnd(loop, 0.05, lambda reason: None)
        line.send(spoken("one") + spoken("two"))
        assert line.quiet_for() >= 0
        await asyncio.sleep(0.15)
        assert line.quiet_for() < 0
        line.clear()  # heard at 0.2 s: 0.15 s of "one" were played by then
        await asyncio.sleep(1)
        assert read_back(b"".join(audio for *_, audio in line.played)) == [("one", 1200)]
        assert round(line.quiet_for(), 3) == 0.95
        line.break_off()
        line.send(spoken("late"))
        assert read_back(b"".join(audio for *_, audio in line.played)) == [("one", 1200)]

    run(main())
