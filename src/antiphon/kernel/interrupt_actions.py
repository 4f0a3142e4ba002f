"""What the floor does while it is undecided: pausing, listening on, resuming, and what confirms a barge-in."""

from __future__ import annotations

from antiphon.kernel.commands import PausePlayout, ResumePlayout
from antiphon.kernel.events import TranscriptFinal, TranscriptPartial
from antiphon.kernel.interruption import Words, confirms, tokens, weigh
from antiphon.kernel.reply_actions import (
    arm_watchdog,
    has_next_tier,
    is_answer,
    is_audible,
    start_reply,
)
from antiphon.kernel.state import Caller
from antiphon.kernel.step import Step


def pause(step: Step) -> None:
    """Silence first, decide later. The time that the present attempt has left stands still meanwhile."""
    state = step.state
    state.interrupted_at = step.now
    state.reply_left = max(0, state.deadlines.get("reply", step.now) - step.now)
    step.emit(PausePlayout(step.reply.turn))
    step.disarm("understand", "filler", "reply", "watchdog")
    step.arm("interrupt", step.policy.interrupt_ms)


def resume(step: Step) -> None:
    """It was no interruption: go on where the caller stopped hearing."""
    reply = step.reply
    step.emit(ResumePlayout(reply.turn))
    step.disarm("interrupt", "final")
    if is_audible(step):
        arm_watchdog(step)
    else:
        step.arm("filler", step.policy.filler_ms)
    if step.state.reply_left:
        step.arm("reply", step.state.reply_left)
    elif not is_audible(step):
        step.arm("reply", step.policy.stall_ms)


def start_reply_if_due(step: Step) -> None:
    """Resuming a turn that had not come to its reply yet."""
    if step.reply.attempt == 0:
        start_reply(step)


def await_words(step: Step) -> None:
    """The sound is over; the transcriber says what it was, or time does."""
    step.arm("interrupt", min(step.policy.interrupt_ms, undecided_left(step)))


def undecided_left(step: Step) -> int:
    """Sounds that come again and again must not keep the agent silent for ever: it is decided by then."""
    return step.state.interrupted_at + 2 * step.policy.interrupt_speech_ms - step.now


def listen_on(step: Step) -> None:
    """The caller talks on without words so far: wait until it is surely speech, and no second cough."""
    surely = step.state.speech_at + step.policy.interrupt_speech_ms - step.now
    step.arm("interrupt", min(surely, undecided_left(step)))


def note_failed(step: Step) -> None:
    """The reply failed while the caller holds the floor: the ladder goes on when they give it back."""
    step.reply.failed = True


def takes_floor(step: Step) -> bool:
    """Words that are more than a backchannel; in a partial only those that are beyond doubt."""
    event, state = step.event, step.state
    if isinstance(event, TranscriptPartial):
        return confirms(event.text, state.partial, state.language, step.policy, own_words(step))
    text = event.text if isinstance(event, TranscriptFinal) else state.last_partial
    return weigh(text, state.language, step.policy, own_words(step)) is Words.SPEECH


def own_words(step: Step) -> tuple[str, ...]:
    """What the agent is saying, or said just before: the last two segments of which something went out."""
    reply = step.state.reply
    begun = [segment for segment in reply.segments if segment.status != "ready"] if reply is not None else []
    return tokens(" ".join(segment.text for segment in begun[-2:]))


def is_caller_speaking(step: Step) -> bool:
    return step.state.caller is Caller.SPEAKING


def is_murmuring(step: Step) -> bool:
    """The caller goes on, but with nothing but backchannels: "okay, okay"."""
    state = step.state
    if not is_caller_speaking(step):
        return False
    if weigh(state.partial, state.language, step.policy, own_words(step)) is not Words.BACKCHANNEL:
        return False
    return undecided_left(step) > 0


def murmur_on(step: Step) -> None:
    step.arm("interrupt", step.policy.interrupt_ms)


def may_be_noise(step: Step) -> bool:
    state = step.state
    if not is_caller_speaking(step) or undecided_left(step) <= 0:
        return False
    return step.now - state.speech_at < step.policy.interrupt_speech_ms


def is_broken_off_answer(step: Step) -> bool:
    return is_audible(step) and is_answer(step)


def is_failed_and_audible_with_next_tier(step: Step) -> bool:
    return is_failed_with_next_tier(step) and is_audible(step)


def is_failed_and_audible_answer(step: Step) -> bool:
    return is_failed_answer(step) and is_audible(step)


def is_failed_with_next_tier(step: Step) -> bool:
    return step.reply.failed and has_next_tier(step)


def is_failed_answer(step: Step) -> bool:
    return step.reply.failed and is_answer(step)
