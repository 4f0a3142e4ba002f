"""The session's line: dropped, taken on again, hung up; a process that dies; a step that raises."""

from __future__ import annotations

import msgspec
import pytest
from by_hand import POLICY, Play, greeted, started

from antiphon.errors import ChartError
from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel import floor_actions, reply_actions, session
from antiphon.kernel.chart import Rule
from antiphon.kernel.floor import FLOOR
from antiphon.kernel.session import Session, replay
from antiphon.kernel.state import Phase


def attached(epoch: int = 2) -> ev.LineAttached:
    return ev.LineAttached("test", epoch)


# -- dropped and back -----------------------------------------------------------------------------


def test_a_dropped_line_waits_for_its_caller_and_expires() -> None:
    play = greeted()
    play.rows(
        (100, ev.LineDropped("line.lost"), "IDLE", []),
        (3_599_999, None, "IDLE", []),
        (1, None, "IDLE", ["CloseSession expired"]),
    )
    assert play.state.phase is Phase.ENDED


def test_a_caller_who_comes_back_goes_on_with_the_same_history() -> None:
    play = greeted()
    play.answering("The fee is two lakh rupees.")
    play.tell(ev.ReplyGenerated(2, 1, 1))
    play.rows(
        (100, ev.LineDropped("line.lost"), "IDLE", ["CancelReply 2"]),
        (5, ev.PlayoutStopped(2, 0, 10), "IDLE", []),
        (60_000, attached(), "THINKING", ["Say 3 resumed ...", "Repeat 3 two lakh rupees."]),
    )
    play.heard("We were cut off.", "two lakh rupees.", kind="resumed")
    assert play.floor == "LISTENING"
    assert play.history[-2:] == ["assistant: The fee is", "assistant: We were cut off. two lakh rupees."]
    assert play.state.epoch == 2


def test_an_answer_that_was_still_being_written_goes_on_from_what_was_heard_of_it() -> None:
    play = greeted()
    play.asked("what are the fees")
    play.understood()
    play.tell(ev.SegmentReady(2, 1, 0, "The fee is two lakh."))
    play.tell(ev.SegmentStarted(2, 0))
    play.rows(
        (900, ev.LineDropped("line.lost"), "IDLE", ["CancelReply 2"]),
        (0, ev.PlayoutStopped(2, 0, 10), "IDLE", []),
        (500, attached(), "THINKING", ["Say 3 resumed ...", "StartReply 3 full"]),
    )
    order = play.orders[-1]
    assert isinstance(order, cmd.StartReply)
    assert (order.text, order.said) == ("what are the fees", "The fee is")
    play.tell(ev.StageFailed(3, 1, "llm", "llm.timeout"))
    order = play.orders[-1]
    assert isinstance(order, cmd.StartReply)
    assert (order.attempt, order.said) == (2, "The fee is"), "the next provider goes on from there, too"
    assert order.asked_in == 2, "what it did in the turn of the question keeps that turn's keys"


def test_a_rest_whose_voice_fails_is_answered_by_the_next_tier() -> None:
    play = greeted()
    play.answering("The fee is two lakh rupees.")
    play.tell(ev.ReplyGenerated(2, 1, 1))
    play.tell(ev.LineDropped("line.lost"))
    play.tell(ev.PlayoutStopped(2, 0, 10))
    play.tell(attached())
    failed = ev.StageFailed(3, 1, "tts", "tts.timeout")
    play.rows((300, failed, "THINKING", ["AbandonAttempt 3", "StartReply 3 fallback"]))
    order = play.orders[-1]
    assert isinstance(order, cmd.StartReply)
    assert order.said == "The fee is"


def test_a_rest_that_is_cut_off_again_is_kept_again() -> None:
    play = greeted()
    play.answering("The fee is two lakh rupees.")
    play.tell(ev.ReplyGenerated(2, 1, 1))
    for epoch, chars in ((2, 7), (3, 3)):
        turn = play.state.turn
        play.tell(ev.LineDropped("line.lost"))
        play.tell(ev.PlayoutStopped(turn, 0, chars))
        play.tell(attached(epoch))
        assert play.state.unheard is None
        turn += 1
        rest = play.orders[-1]
        assert isinstance(rest, cmd.Repeat)
        play.tell(ev.SegmentReady(turn, 1, 0, rest.texts[0]))
        play.tell(ev.ReplyGenerated(turn, 1, 1))
        play.tell(ev.SegmentStarted(turn, 0))
    assert rest.texts == ("two lakh rupees.",)
    assert play.state.reply is not None
    assert play.state.reply.said == "The fee is"


def test_what_the_caller_interrupted_is_not_said_again() -> None:
    play = greeted()
    play.answering("The fee is two lakh rupees.")
    play.tell(ev.SpeechStarted())
    play.tell(ev.TranscriptPartial(2, "no stop please"))
    play.tell(ev.PlayoutStopped(2, 0, 10))
    play.rows(
        (100, ev.LineDropped("line.lost"), "IDLE", []),
        (500, attached(), "THINKING", ["Say 3 resumed"]),
    )


def test_where_nothing_is_said_for_its_own_sake_a_caller_who_is_back_gets_what_is_owed_and_no_more() -> None:
    play = Play(msgspec.structs.replace(POLICY, greeting=False, excuse=False))
    play.rows(
        (100, ev.LineDropped("line.lost"), "IDLE", []),
        (500, attached(), "LISTENING", []),
    )
    play.answering("The fee is two lakh rupees.")
    play.tell(ev.ReplyGenerated(1, 1, 1))
    play.rows(
        (100, ev.LineDropped("line.lost"), "IDLE", ["CancelReply 1"]),
        (0, ev.PlayoutStopped(1, 0, 10), "IDLE", []),
        (500, attached(3), "THINKING", ["Repeat 2 two lakh rupees."]),
    )


def test_an_answer_that_was_heard_to_its_end_is_no_debt_although_its_end_was_not_written() -> None:
    play = Play(msgspec.structs.replace(POLICY, greeting=False, excuse=False))
    play.tell(attached())
    play.answering("The fee is two lakh rupees.")
    play.tell(ev.ReplyGenerated(1, 1, 1))
    play.tell(ev.SegmentPlayed(1, 0))
    play.rows((500, attached(3), "LISTENING", ["CancelReply 1"]))


def test_a_question_that_was_never_answered_is_answered_when_they_are_back() -> None:
    play = greeted()
    play.asked("what are the fees")
    play.rows(
        (100, ev.LineDropped("line.lost"), "IDLE", ["CancelReply 2"]),
        (0, ev.PlayoutStopped(2), "IDLE", []),
        (2_000, attached(), "THINKING", ["Classify 3", "Retrieve 3", "Say 3 resumed ..."]),
    )
    assert play.history[-1] == "user: what are the fees"
    assert play.history.count("user: what are the fees") == 1


def test_a_half_said_question_is_not_lost_with_the_line() -> None:
    play = greeted()
    play.spoken("what are the fees and")
    play.wait(700)
    play.rows((0, ev.SpeechStarted(), "LISTENING", []))
    play.final("what are the fees and")
    play.rows(
        (100, ev.LineDropped("line.lost"), "IDLE", []),
        (500, attached(), "THINKING", ["Classify 2", "Retrieve 2", "Say 2 resumed ..."]),
    )
    assert play.history[-1] == "user: what are the fees and"


def test_a_newer_line_takes_the_call_over_at_once() -> None:
    play = greeted()
    play.answering("The fee is two lakh rupees.")
    play.tell(ev.ReplyGenerated(2, 1, 1))
    play.rows(
        # No segment of the answer was heard to its end, so it is said again.
        (300, attached(), "THINKING", ["CancelReply 2", "Say 3 resumed ...", "Repeat 3 The fee is two lakh rupees."]),
        (10, ev.PlayoutStopped(2, 0, 10), "THINKING", []),
    )


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_older_line_takes_nothing_over(epoch: int) -> None:
    play = greeted()
    play.rows((0, attached(epoch), "LISTENING", []))


def test_what_the_old_line_said_is_over_with_it() -> None:
    play = greeted()
    play.tell(ev.SpeechStarted())
    play.tell(ev.DigitPressed("4"))
    play.rows((100, ev.LineDropped("line.lost"), "IDLE", []), (100, attached(), "THINKING", ["Say 2 resumed"]))
    assert (play.state.digits, play.state.partial, str(play.state.caller)) == ("", "", "silent")
    play.rows((0, ev.TranscriptPartial(1, "old words"), "THINKING", []))
    assert play.state.partial == ""


# -- the ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["greeting", "listening", "thinking", "speaking", "interrupt", "detached"])
def test_a_hang_up_ends_the_call_wherever_it_is(at: str) -> None:
    play = Play() if at == "greeting" else greeted()
    if at in ("thinking", "interrupt"):
        play.asked()
    if at == "speaking":
        play.answering()
    if at == "interrupt":
        play.tell(ev.SpeechStarted())
    if at == "detached":
        play.tell(ev.LineDropped("line.lost"))
    orders = play.tell(ev.CallerHungUp())
    assert orders[-1] == "CloseSession caller"
    assert (play.floor, play.state.deadlines, play.session.is_over) == ("IDLE", {}, True)
    for late in (ev.SpeechStarted(), ev.TextTyped("hello"), ev.DigitPressed("1"), ev.CallerHungUp()):
        assert play.tell(late) == []
    play.tell(ev.SessionClosed("caller"))
    assert play.state.phase is Phase.CLOSED


def test_the_reason_of_the_first_end_stays() -> None:
    play = greeted()
    play.tell(ev.CallerHungUp("busy"))
    play.tell(ev.SessionClosed("other"))
    assert play.state.end_reason == "busy"


def test_a_caller_who_comes_back_after_the_end_is_not_met_with_silence() -> None:
    play = greeted()
    play.tell(ev.CallerHungUp())
    play.tell(ev.SessionClosed("caller"))
    play.rows((60_000, attached(), "THINKING", ["Say 2 resumed"]))
    play.tell(ev.CallerHungUp())
    assert play.orders[-1] == cmd.CloseSession("caller")


def test_a_line_that_drops_while_it_is_hung_up_closes_the_session() -> None:
    play = greeted(msgspec.structs.replace(POLICY, silence_prompts=0))
    play.wait(9_000)
    play.heard("Goodbye.", kind="goodbye")
    play.rows((100, ev.LineDropped("line.closed"), "IDLE", ["CloseSession agent"]))


# -- a process that dies --------------------------------------------------------------------------


def test_another_process_goes_on_where_the_journal_ends() -> None:
    """The question was confirmed, nothing of its answer was heard: it is answered now."""
    first = greeted()
    first.asked("what are the fees")
    first.understood()
    again = Play(begin=False)
    again.session = replay([ev.decode_entry(ev.encode_entry(entry)) for entry in first.entries])
    again.now = again.state.at
    assert again.session.snapshot() == first.session.snapshot()
    assert again.session.next_deadline() == first.session.next_deadline()
    again.rows((0, attached(), "THINKING", ["CancelReply 2", "Classify 3", "Retrieve 3", "Say 3 resumed ..."]))
    assert again.history[-1] == "user: what are the fees"


def test_an_answer_heard_in_part_when_the_process_died_counts_as_far_as_it_was_played() -> None:
    first = greeted()
    first.answering("The fee is two lakh.", "The hostel is extra.")
    first.tell(ev.ReplyGenerated(2, 1, 2))
    first.tell(ev.SegmentPlayed(2, 0))
    first.tell(ev.SegmentStarted(2, 1))
    again = Play(begin=False)
    again.session = Session.restore(first.session.snapshot())
    again.now = first.now
    again.rows((0, attached(), "THINKING", ["CancelReply 2", "Say 3 resumed ...", "Repeat 3 The hostel is extra."]))
    assert again.history[-1] == "assistant: The fee is two lakh."


# -- the clock ------------------------------------------------------------------------------------


def test_a_deadline_that_is_early_or_unknown_is_stale() -> None:
    play = greeted()
    assert play.session.next_deadline() == ("silence", play.now + 9_000)
    play.rows(
        (100, ev.DeadlineReached("silence"), "LISTENING", []),
        (0, ev.DeadlineReached("reply"), "LISTENING", []),
        (0, ev.DeadlineReached("no such"), "LISTENING", []),
    )


def test_time_does_not_run_backwards() -> None:
    play = greeted()
    entry, _ = play.session.receive(ev.SpeechStarted(), play.now - 500)
    assert entry.at == play.now


def test_deadlines_due_at_once_are_told_by_name() -> None:
    play = greeted()
    play.state.deadlines = {"silence": 5_000, "final": 5_000, "endpoint": 6_000}
    assert play.session.next_deadline() == ("final", 5_000)
    assert Session().next_deadline() is None


def test_nothing_happens_before_the_session_starts_and_it_starts_once() -> None:
    fresh = Session()
    for event in (ev.SpeechStarted(), attached(), ev.CallerHungUp(), ev.SessionClosed("x")):
        assert fresh.receive(event, 0)[1] == ()
    assert fresh.state.phase is Phase.NEW
    play = greeted()
    play.rows((0, started(), "LISTENING", []))


def test_a_policy_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        Session().receive(ev.SessionStarted("s", "test", "en-IN", b"\xff"), 0)


# -- a step that raises ---------------------------------------------------------------------------


class Broken(RuntimeError):
    pass


def break_once(monkeypatch: pytest.MonkeyPatch, play: Play) -> tuple[ev.Entry, tuple[cmd.AnyCommand, ...]]:
    """The next step raises in the middle of its work, after it has changed the state."""

    def run(step: session.Step) -> None:
        step.state.history.clear()
        step.state.pieces.append("nonsense")
        step.emit(cmd.ResumePlayout(99))
        raise Broken

    with monkeypatch.context() as patch:
        patch.setattr(session, "run", run)
        found = play.session.receive(ev.SpeechStarted(), play.now)
    assert isinstance(play.session.last_failure, Broken)
    play.entries.append(found[0])
    return found


def test_a_step_that_raises_leaves_the_state_and_apologises(monkeypatch: pytest.MonkeyPatch) -> None:
    play = greeted()
    play.answering()
    history = play.history
    _, commands = break_once(monkeypatch, play)
    assert commands == (cmd.CancelReply(2), cmd.Say(3, 1, "apology", "en-IN"))
    assert (play.history, play.state.pieces, play.floor) == (history, [], "THINKING")
    play.rows((10, ev.PlayoutStopped(2, 0, 3), "THINKING", []))
    play.heard("I am sorry.", kind="apology")
    play.rows((0, None, "LISTENING", []))
    assert play.history[-2:] == ["assistant: The", "assistant: I am sorry."]


def test_a_call_whose_steps_keep_raising_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    play = greeted()
    for _ in range(POLICY.max_failures):
        assert break_once(monkeypatch, play)[1][-1] == cmd.Say(play.state.turn, 1, "apology", "en-IN")
    assert break_once(monkeypatch, play)[1][-1] == cmd.HangUp(f"s1:hangup:{play.state.turn}", "failed")
    play.rows((3_000, None, "IDLE", ["CloseSession failed"]))


def test_a_step_that_raises_while_nobody_is_on_the_line_only_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    play = greeted()
    play.tell(ev.LineDropped("line.lost"))
    assert break_once(monkeypatch, play)[1] == ()
    play.rows((3_600_000, None, "IDLE", ["CloseSession expired"]))


def test_a_step_that_raises_at_the_very_end_closes_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    play = greeted(msgspec.structs.replace(POLICY, silence_prompts=0))
    play.wait(9_000)
    play.heard("Goodbye.", kind="goodbye")
    assert break_once(monkeypatch, play)[1] == (cmd.CloseSession("failed"),)
    assert play.session.is_over


def test_a_chart_that_would_fall_silent_is_a_step_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own net under the floor: no state but IDLE without a deadline."""
    play = greeted()
    forgetful: Rule[session.Step] = Rule((lambda step: step.disarm(*list(step.state.deadlines)),))
    monkeypatch.setitem(FLOOR.table, ("LISTENING", "SpeechStarted"), (forgetful,))
    _, commands = play.session.receive(ev.SpeechStarted(), play.now)
    assert isinstance(play.session.last_failure, ChartError)
    assert commands == (cmd.Say(2, 1, "apology", "en-IN"),)


def test_actions_bound_to_the_wrong_event_raise() -> None:
    step = session.Step(greeted().state, POLICY, ev.CallerHungUp(), 0)
    with pytest.raises(TypeError, match="CallerHungUp is no DigitPressed"):
        floor_actions.note_digit(step)
    with pytest.raises(LookupError, match="no reply is live"):
        reply_actions.say_filler(step)
