"""Ten thousand seeded calls through the real runtime: no rule is broken in any of them."""

from __future__ import annotations

import pytest

from antiphon.sim.runner import Report, run_many

WITH_FAULTS = 6_000
WITHOUT = 4_000


def told(report: Report) -> str:
    return "\n".join(f"seed {outcome.seed}: {'; '.join(outcome.violations)}" for outcome in report.failed[:20])


@pytest.mark.timeout(600)
def test_ten_thousand_calls_break_no_rule() -> None:
    faulty = run_many(WITH_FAULTS, 1, True, workers=2)
    assert faulty.failed == [], f"antiphon sim --calls {WITH_FAULTS} --faults\n{told(faulty)}"
    sound = run_many(WITHOUT, 1, False, workers=2)
    assert sound.failed == [], f"antiphon sim --calls {WITHOUT}\n{told(sound)}"
    # They were calls: several turns each, dozens of entries.
    assert faulty.calls + sound.calls == 10_000
    assert faulty.turns > 1.5 * WITH_FAULTS
    assert sound.turns > 2 * WITHOUT
    assert faulty.entries > 40 * WITH_FAULTS
