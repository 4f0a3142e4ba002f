"""The effect ledger: settled once, unfinished ones found again, bounded."""

from __future__ import annotations

import pytest
from by_hand import greeted

from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.effects import MAX_EFFECTS, Effect, EffectKind, EffectStatus, settle, unfinished


def ledger(*keys: str) -> dict[str, Effect]:
    return {key: Effect(key, 1, "book", EffectKind.WRITE, "{}") for key in keys}


@pytest.mark.parametrize("status", [EffectStatus.DONE, EffectStatus.FAILED, EffectStatus.LOST])
def test_an_effect_is_settled_once(status: EffectStatus) -> None:
    effects = ledger("a")
    assert settle(effects, "a", status, "outcome")
    assert (effects["a"].status, effects["a"].outcome) == (status, "outcome")
    for again in EffectStatus:
        assert not settle(effects, "a", again, "other")
    assert (effects["a"].status, effects["a"].outcome) == (status, "outcome")


def test_an_outcome_of_nothing_that_was_asked_for_changes_nothing() -> None:
    effects = ledger("a")
    assert not settle(effects, "b", EffectStatus.DONE, "x")
    assert list(effects) == ["a"]


def test_what_is_unfinished_is_found_in_the_order_it_was_asked_for() -> None:
    effects = ledger("a", "b", "c")
    settle(effects, "b", EffectStatus.DONE, "")
    assert [effect.key for effect in unfinished(effects)] == ["a", "c"]


def test_only_reads_run_before_their_entry_is_on_disk() -> None:
    for kind in EffectKind:
        assert cmd.is_durable(cmd.RunEffect("k", "n", kind.value, "{}")) is (kind is not EffectKind.READ)
    assert cmd.is_durable(cmd.HangUp("k", "x"))
    assert cmd.is_durable(cmd.TransferCall("k", "x"))
    assert not cmd.is_durable(cmd.CloseSession("x"))


def test_a_session_runs_only_so_many_effects() -> None:
    play = greeted()
    play.asked()
    play.understood()
    for number in range(MAX_EFFECTS):
        assert play.tell(ev.EffectRequested(2, 1, f"k{number}", "look_up")) == [f"RunEffect k{number}"]
    assert play.tell(ev.EffectRequested(2, 1, "one more", "look_up")) == []
    assert "one more" not in play.state.effects
