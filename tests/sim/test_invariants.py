"""Every invariant can fail: one rule of the kernel or the runtime is broken at a time, and it is noticed by name.

A check that cannot fail is none. The last test says that each of them has its culprit here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import pytest

from antiphon.kernel import history, language, session_actions, speculation
from antiphon.kernel import session as kernel
from antiphon.kernel.chart import Chart, Rule
from antiphon.kernel.events import PlayoutStopped
from antiphon.kernel.floor import FLOOR
from antiphon.media.playout import Playout
from antiphon.runtime.call import Call
from antiphon.runtime.chain import Chain
from antiphon.runtime.driver import Driver
from antiphon.runtime.effects import EffectRunner
from antiphon.runtime.generate import Attempt
from antiphon.runtime.resilience import StagePolicy
from antiphon.runtime.speech import Mouth
from antiphon.sim import caller as sim_caller
from antiphon.sim.invariants import CHECKS
from antiphon.sim.runner import run_one

SEEDS = 250

Patch = pytest.MonkeyPatch
Table = Mapping[tuple[str, str], Sequence[Rule[Any]]]


def without_check(table: Table) -> Chart[Any]:
    """A floor that the static check need not like."""
    chart = object.__new__(Chart)
    for name, value in (("name", "floor"), ("initial", "IDLE"), ("states", FLOOR.states), ("table", table)):
        object.__setattr__(chart, name, value)
    return chart


def part(name: str) -> Callable[..., Any]:
    """An action or guard of the floor, by name: wherever it is defined, this is what runs."""
    rules = [rule for several in FLOOR.table.values() for rule in several]
    found = {f for rule in rules for f in (*rule.actions, rule.guard) if f is not None and f.__name__ == name}
    assert len(found) == 1, name
    return found.pop()


def swap(patch: Patch, name: str, new: Callable[..., Any]) -> None:
    """Every rule that has this action or guard gets ``new`` instead."""
    old = part(name)

    def mutated(rule: Rule[Any]) -> Rule[Any]:
        actions = tuple(new if action is old else action for action in rule.actions)
        return Rule(actions, rule.target, new if rule.guard is old else rule.guard)

    table = {key: tuple(mutated(rule) for rule in rules) for key, rules in FLOOR.table.items()}
    assert table != FLOOR.table
    patch.setattr(kernel, "FLOOR", without_check(table))


def put(patch: Patch, state: str, trigger: str, *rules: Rule[Any]) -> None:
    assert (state, trigger) in FLOOR.table
    patch.setattr(kernel, "FLOOR", without_check({**FLOOR.table, (state, trigger): rules}))


def nothing(*_: object, **__: object) -> None:
    return None


# -- one broken rule each -------------------------------------------------------------------------


def reply_started_twice(patch: Patch) -> None:
    start = part("start_reply")

    def twice(step: Any) -> None:
        start(step)
        step.emit(step.commands[-1])

    swap(patch, "start_reply", twice)


def next_reply_begins_before_the_last_one_is_cancelled(patch: Patch) -> None:
    def forget(step: Any) -> None:
        step.state.closing, step.state.reply = None, None

    swap(patch, "cancel_reply", forget)


def words_over_its_speech_make_it_hang_up(patch: Patch) -> None:
    put(patch, "INTERRUPT", "TranscriptPartial", Rule((part("hang_up"),), "IDLE"))


def pause_does_nothing(patch: Patch) -> None:
    patch.setattr(Mouth, "pause", nothing)


def backchannels_count_as_speech(patch: Patch) -> None:
    swap(patch, "takes_floor", lambda step: bool(getattr(step.event, "text", "")))


def coughs_count_as_speech(patch: Patch) -> None:
    barge_in = Rule[Any]((part("cancel_reply"), part("listen")), "LISTENING")
    table = {**FLOOR.table, ("INTERRUPT", "DeadlineReached:interrupt"): (barge_in,)}
    table["INTERRUPT", "TranscriptFinal"] = (Rule((part("forget_final"),)),)
    patch.setattr(kernel, "FLOOR", without_check(table))


def a_question_that_was_not_answered_is_forgotten(patch: Patch) -> None:
    told = session_actions.book_interrupted

    def forgetful(step: Any, reply: Any, heard: str, answer: str, rest: list[str]) -> None:
        if answer:
            told(step, reply, heard, answer, rest)

    patch.setattr(session_actions, "book_interrupted", forgetful)


def no_filler(patch: Patch) -> None:
    put(patch, "THINKING", "DeadlineReached:filler", Rule())


def no_deadline_ever_comes(patch: Patch) -> None:
    patch.setattr(Driver, "_deadline", nothing)


def stages_wait_for_ever(patch: Patch) -> None:
    """Not a broken rule by itself: the ladder has to notice what the stages' own limits would."""
    endless = StagePolicy(first_s=600.0, between_s=600.0, share=1.0)
    patch.setattr(StagePolicy, "first_within", lambda policy, left_s: 600.0)
    patch.setattr(Chain, "policy", property(lambda chain: endless, lambda chain, policy: None), raising=False)


def a_dry_line_is_not_noticed(patch: Patch) -> None:
    def patient(step: Any) -> None:
        step.disarm("watchdog", "filler")
        step.arm("reply", 30_000)

    swap(patch, "await_more", patient)
    stages_wait_for_ever(patch)


def cancel_stops_nothing(patch: Patch) -> None:
    def goes_on(self: Mouth, turn: int) -> None:
        self.resume(turn)
        self._post(PlayoutStopped(turn))

    patch.setattr(Mouth, "cancel", goes_on)


def cancel_does_not_clear_the_line(patch: Patch) -> None:
    cancel = Playout.cancel
    patch.setattr(Playout, "cancel", lambda self, turn, now: (cancel(self, turn, now)[0], False))


def resuming_begins_at_the_last_second_again(patch: Patch) -> None:
    pause = Playout.pause

    def rewinds(self: Playout, now: float) -> bool:
        told = pause(self, now)
        if self.turn >= 0:
            self._sent = max(self._reel.base, self._sent - 16_000)
        return told

    patch.setattr(Playout, "pause", rewinds)


def history_is_not_cut(patch: Patch) -> None:
    patch.setattr(history, "heard_text", lambda parts, *_: " ".join(part.text for part in parts))


def an_effect_is_run_whenever_it_is_asked_for(patch: Patch) -> None:
    swap(patch, "is_effect_new", lambda step: True)


def an_effect_is_carried_out_twice(patch: Patch) -> None:
    run = EffectRunner.run

    def twice(self: EffectRunner, order: Any, error: Any) -> None:
        run(self, order, error)
        run(self, order, error)

    patch.setattr(EffectRunner, "run", twice)


def a_cancelled_attempt_goes_on(patch: Patch) -> None:
    patch.setattr(Attempt, "cancel", nothing)
    stages_wait_for_ever(patch)


def a_dropped_line_keeps_its_ear(patch: Patch) -> None:
    patch.setattr(sim_caller.SimEar, "close", nothing)


def the_end_is_not_written_down(patch: Patch) -> None:
    patch.setattr(Call, "_close", lambda self, driver, reason: self._released(self))


def decisions_depend_on_the_process(patch: Patch) -> None:
    numbers = count()
    digest = kernel.digest
    patch.setattr(kernel, "digest", lambda commands: digest(commands)[:-1] + bytes([next(numbers) % 256]))


def state_depends_on_the_process(patch: Patch) -> None:
    numbers, noted = count(), part("note_generated")

    def numbered(step: Any) -> None:
        noted(step)
        step.state.failures = next(numbers)

    swap(patch, "note_generated", numbered)


def the_first_half_of_a_question_is_forgotten(patch: Patch) -> None:
    swap(patch, "note_final", part("forget_final"))


def stale_work_is_let_through(patch: Patch) -> None:
    patch.setattr(kernel, "_is_stale_work", lambda state, event: False)


def one_sentence_changes_the_language(patch: Patch) -> None:
    detect = language.detect
    patch.setattr(language, "detect", lambda tongue, tag, **limits: detect(tongue, tag, **{**limits, "switches": 1}))


def the_language_changes_within_a_turn(patch: Patch) -> None:
    noted = part("note_segment")

    def lapse(step: Any) -> None:
        noted(step)
        step.state.tongue.selected = "hi-IN"

    swap(patch, "note_segment", lapse)


def other_words_get_the_answer_that_was_begun(patch: Patch) -> None:
    patch.setattr(speculation, "same_words", lambda one, other: True)


CULPRITS: list[tuple[str, Callable[[Patch], None], bool]] = [
    ("one_reply_at_a_time", reply_started_twice, False),
    ("one_reply_at_a_time", next_reply_begins_before_the_last_one_is_cancelled, False),
    ("no_step_raises", stale_work_is_let_through, True),
    ("never_hangs_up_on_a_talker", words_over_its_speech_make_it_hang_up, False),
    ("silence_first", pause_does_nothing, False),
    ("noises_are_no_words", backchannels_count_as_speech, False),
    ("noises_are_no_words", coughs_count_as_speech, False),
    ("no_word_of_the_caller_is_lost", a_question_that_was_not_answered_is_forgotten, False),
    ("no_word_of_the_caller_is_lost", the_first_half_of_a_question_is_forgotten, False),
    ("every_turn_is_heard", no_filler, True),
    ("no_long_silence", a_dry_line_is_not_noticed, True),
    ("nothing_stale_is_spoken", cancel_stops_nothing, False),
    ("nothing_stale_is_spoken", cancel_does_not_clear_the_line, False),
    ("nothing_is_said_twice", resuming_begins_at_the_last_second_again, False),
    ("history_is_what_was_heard", history_is_not_cut, False),
    ("one_language_at_a_time", one_sentence_changes_the_language, False),
    ("one_language_at_a_time", the_language_changes_within_a_turn, True),
    ("unconfirmed_words_leave_no_trace", other_words_get_the_answer_that_was_begun, False),
    ("effects_run_once", an_effect_is_run_whenever_it_is_asked_for, False),
    ("effects_run_once", an_effect_is_carried_out_twice, False),
    ("always_closes", no_deadline_ever_comes, False),
    ("always_closes", a_cancelled_attempt_goes_on, True),
    ("always_closes", a_dropped_line_keeps_its_ear, False),
    ("always_closes", the_end_is_not_written_down, False),
    ("replays_the_same", decisions_depend_on_the_process, False),
    ("replays_the_same", state_depends_on_the_process, False),
]


def seeds() -> Iterator[int]:
    return iter(range(1, SEEDS + 1))


@pytest.mark.parametrize(("name", "culprit", "faults"), CULPRITS, ids=[c.__name__ for _, c, _ in CULPRITS])
def test_a_broken_rule_is_noticed_by_name(
    name: str, culprit: Callable[[Patch], None], faults: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (2, 3):
        assert run_one(seed, faults).violations == ()
    culprit(monkeypatch)
    told: set[str] = set()
    for seed in seeds():
        told |= {what.partition(":")[0] for what in run_one(seed, faults).violations}
        if name in told:
            return
    pytest.fail(f"{culprit.__name__} was not noticed by {name} in {SEEDS} calls, only by {sorted(told)}")


def test_every_invariant_has_a_culprit() -> None:
    assert {name for name, _, _ in CULPRITS} == {check.__name__ for check in CHECKS}
