"""Golden journals fold as they were decided: a rule that changed unnoticed is noticed here."""

from __future__ import annotations

import golden
import msgspec
import pytest

from antiphon.errors import ReplayDiverged
from antiphon.kernel import events as ev
from antiphon.kernel.session import Session, replay
from antiphon.sim.invariants import journal_json
from antiphon.sim.runner import simulate

NAMES = sorted(golden.PLANS)
ANEW = "if the change of rules is meant: python tests/journals/golden.py, then read the difference"


def test_every_golden_journal_has_its_plan_and_every_plan_its_journal() -> None:
    assert sorted(file.stem for file in golden.FOLDER.glob("*.jsonl")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_folds_as_it_was_decided(name: str) -> None:
    try:
        session = replay(golden.load(name))
    except ReplayDiverged as error:
        pytest.fail(f"{name}.jsonl: {error}; {ANEW}")
    assert session.is_over
    assert session.state.failures == 0


@pytest.mark.parametrize("name", NAMES)
def test_it_folds_the_same_from_disk_and_from_a_snapshot(name: str) -> None:
    entries = golden.load(name)
    whole = replay(ev.decode_entry(ev.encode_entry(entry)) for entry in entries)
    half = len(entries) // 2
    rest = replay(entries[half:], session=Session.restore(replay(entries[:half]).snapshot()))
    assert rest.snapshot() == whole.snapshot()


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_still_plays_so(name: str) -> None:
    """The runtime, too, does as it did: the same facts at the same times."""
    again = [
        msgspec.json.decode(line, type=ev.Entry) for line in journal_json(simulate(golden.PLANS[name])).splitlines()
    ]
    for now, then in zip(again, golden.load(name), strict=False):
        assert now == then, f"entry {then.seq} differs; {ANEW}"
    assert len(again) == len(golden.load(name)), ANEW


def test_they_show_what_they_are_named_for() -> None:
    """Each interesting fact is in the journal that was made for it."""
    shows = {
        "barge-in": ev.PlayoutStopped,
        "backchannel-and-cough": ev.SpeechStarted,
        "every-rung-of-the-ladder": ev.StageFailed,
        "transcriber-fails": ev.TranscriptionFailed,
        "keys": ev.DigitPressed,
        "dropped-and-back": ev.LineDropped,
        "second-line": ev.LineAttached,
        "process-dies": ev.LineAttached,
        "effects": ev.EffectSucceeded,
        "never-comes-back": ev.LineDropped,
    }
    for name, kind in shows.items():
        assert any(isinstance(entry.event, kind) for entry in golden.load(name)), name
    reasons = {name: replay(golden.load(name)).state.end_reason for name in NAMES}
    assert reasons["never-comes-back"] == "expired"
    assert reasons["silence-to-goodbye"] == reasons["agent-says-goodbye"] == reasons["not-understood"] == "agent"
    assert reasons["barge-in"] == "caller"
    resumed = [entry.event for entry in golden.load("backchannel-and-cough")]
    assert not any(isinstance(event, ev.PlayoutStopped) for event in resumed[:-3]), "neither of them interrupts"


def test_journals_written_before_a_field_was_added_still_read() -> None:
    """The newest fields may be missing: they have defaults."""
    for name in NAMES:
        for line in golden.path(name).read_bytes().splitlines():
            seq, at, event, digest = msgspec.json.decode(line)
            assert msgspec.json.decode(msgspec.json.encode([seq, at, event, digest]), type=ev.Entry).seq == seq
