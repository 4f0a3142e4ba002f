"""What the floor does with a session: its start, its lines, its ends, and what was heard of a reply cut off."""

from __future__ import annotations

from antiphon.kernel import history
from antiphon.kernel.commands import CancelReply, CloseSession, HangUp, TransferCall
from antiphon.kernel.events import CallerHungUp, LineAttached, LineDropped, PlayoutStopped, SessionStarted
from antiphon.kernel.floor_actions import begin_turn, forget_final
from antiphon.kernel.language import Tongue
from antiphon.kernel.reply_actions import book_interrupted, repeat_rest, say, say_that_it_goes_on
from antiphon.kernel.speculation import drop_speculation
from antiphon.kernel.state import ANSWER, Caller, Phase, Reply
from antiphon.kernel.step import Step


def start_session(step: Step) -> None:
    event = step.happened(SessionStarted)
    state = step.state
    state.session, state.transport = event.session, event.transport
    state.tongue = Tongue(selected=event.language, locked=event.language_by == "chosen")
    state.phase = Phase.LIVE
    state.epoch = 1


def greet(step: Step) -> None:
    say(step, "greeting")


def wants_greeting(step: Step) -> bool:
    return step.policy.greeting


def is_ending(step: Step) -> bool:
    return step.state.phase is Phase.ENDING


def stop_everything(step: Step) -> None:
    """Nobody is on the line: stop speaking, keep what was heard, forget what was not finished."""
    state = step.state
    if state.reply is not None:
        cancel_reply(step)
    forget_final(step)
    drop_speculation(step)
    state.caller = Caller.SILENT
    state.spoken = False
    state.partial = state.digits = ""
    step.disarm(*list(state.deadlines))


def cancel_reply(step: Step) -> None:
    """Stops the live reply; what was heard of it comes back as ``PlayoutStopped``."""
    state = step.state
    if state.closing is not None:
        book_unreported(step)
    state.closing = step.reply
    state.reply = None
    step.emit(CancelReply(state.closing.turn))


def book_unreported(step: Step) -> None:
    """A cancelled reply whose end was never reported counts as heard as far as segments were played."""
    state = step.state
    if state.closing is not None:
        closing, state.closing = state.closing, None
        parts = closing.segments
        answer = history.played_text(history.without_leads(parts))
        rest = [part.text.strip() for part in parts if part.status != "played" and part.kind not in history.LEADS]
        book_interrupted(step, closing, history.played_text(parts), answer, rest)


def book_stopped(step: Step) -> None:
    """History becomes what was heard."""
    event = step.happened(PlayoutStopped)
    state = step.state
    if state.closing is not None:
        closing, state.closing = state.closing, None
        heard, answer = (
            history.heard_text(parts, event.segment, event.heard_chars)
            for parts in (closing.segments, history.without_leads(closing.segments))
        )
        rest = history.unheard_texts(closing.segments, event.segment, event.heard_chars)
        book_interrupted(step, closing, heard, answer, rest)


def detach(step: Step) -> None:
    step.happened(LineDropped)
    break_reply(step)
    stop_everything(step)
    step.state.phase = Phase.DETACHED
    step.arm("ttl", step.policy.ttl_ms)


def break_reply(step: Step) -> None:
    """The live reply ends with its line, and not because anybody wants it to."""
    if step.state.reply is not None:
        step.state.reply.is_broken = True


def attach(step: Step) -> None:
    """The caller is back, on another line or after the death of a process: the same history goes on.

    This holds for a session that had ended, too.
    """
    event = step.happened(LineAttached)
    state = step.state
    break_reply(step)
    if state.reply is not None:
        cancel_reply(step)
    book_unreported(step)
    forget_final(step)
    step.disarm(*list(state.deadlines))
    state.phase, state.transport, state.epoch = Phase.LIVE, event.transport, event.epoch
    state.caller, state.partial, state.digits, state.spoken = Caller.SILENT, "", "", False
    state.end_reason, state.silences, state.blanks, state.apologies = "", 0, 0, 0
    state.utterance += 1


def go_on(step: Step) -> None:
    """A question that was never answered is answered now, the rest of a broken answer is said; else the caller is
    asked to go on: who comes back is not to be met with silence.
    """
    state = step.state
    unheard, state.unheard = state.unheard, None
    if state.pieces:
        begin_turn(step)
        say_that_it_goes_on(step)
    elif unheard is not None:
        repeat_rest(step, unheard)
    else:
        say(step, "resumed")


def is_nothing_open(step: Step) -> bool:
    """Where nothing is said for its own sake, a caller who is owed nothing is listened to."""
    state = step.state
    owed = state.pieces or state.unheard or _is_owed(state.reply) or _is_owed(state.closing)
    return not owed and not step.policy.excuse


def _is_owed(reply: Reply | None) -> bool:
    """An answer of which something is left to hear, or to write."""
    if reply is None or not (reply.purpose == ANSWER or reply.question):
        return False
    return not reply.generated or any(part.status != "played" for part in reply.segments)


def hang_up(step: Step) -> None:
    state = step.state
    state.phase = Phase.ENDING
    state.end_reason = state.end_reason or "agent"
    step.disarm(*list(state.deadlines))
    step.emit(HangUp(f"{state.session}:hangup:{state.turn}", state.end_reason))
    step.arm("closing", step.policy.closing_ms)


def transfer(step: Step) -> None:
    state = step.state
    state.phase = Phase.ENDING
    state.end_reason = "transferred"
    step.disarm(*list(state.deadlines))
    step.emit(TransferCall(f"{state.session}:transfer:{state.turn}", step.policy.transfer_target))
    step.arm("closing", step.policy.closing_ms)


def close(step: Step) -> None:
    """Releases the session; the reason is the first one there was."""
    state = step.state
    if not state.end_reason:
        if isinstance(step.event, CallerHungUp):
            state.end_reason = step.event.reason or "caller"
        else:
            state.end_reason = "expired" if state.phase is Phase.DETACHED else "closed"
    stop_everything(step)
    state.phase = Phase.ENDED
    step.emit(CloseSession(state.end_reason))


def mark_closed(step: Step) -> None:
    book_unreported(step)
    step.state.phase = Phase.CLOSED
    step.disarm(*list(step.state.deadlines))
