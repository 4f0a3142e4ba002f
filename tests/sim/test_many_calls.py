"""Many seeded calls through the real runtime: no rule is broken in any. `make sim` plays ten thousand."""

from __future__ import annotations

from antiphon.sim.runner import Report, run_many

WITH_FAULTS = 400
WITHOUT = 300


def told(report: Report) -> str:
    return "\n".join(f"seed {outcome.seed}: {'; '.join(outcome.violations)}" for outcome in report.failed[:20])


def test_many_calls_break_no_rule() -> None:
    faulty = run_many(WITH_FAULTS, 1, True, workers=2)
    assert faulty.failed == [], f"antiphon sim --calls {WITH_FAULTS} --faults\n{told(faulty)}"
    sound = run_many(WITHOUT, 1, False, workers=2)
    assert sound.failed == [], f"antiphon sim --calls {WITHOUT}\n{told(sound)}"
    # They were calls: several turns each, dozens of entries.
    assert faulty.calls + sound.calls == WITH_FAULTS + WITHOUT
    assert faulty.turns > 1.5 * WITH_FAULTS
    assert sound.turns > 2 * WITHOUT
    assert faulty.entries > 40 * WITH_FAULTS
