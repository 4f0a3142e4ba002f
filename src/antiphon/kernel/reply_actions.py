"""What the floor does with a reply: starting it, the ladder when it fails, and what was heard of it."""

from __future__ import annotations

from antiphon.kernel import history
from antiphon.kernel.commands import AbandonAttempt, Repeat, RunEffect, Say, StartReply
from antiphon.kernel.effects import MAX_EFFECTS, Effect, EffectKind, EffectStatus, settle
from antiphon.kernel.events import (
    CommandLost,
    EffectFailed,
    EffectRequested,
    EffectSucceeded,
    IntentReady,
    PassagesReady,
    ReplyGenerated,
    SegmentCut,
    SegmentPlayed,
    SegmentReady,
    SegmentStarted,
    StageFailed,
)
from antiphon.kernel.history import LEADS, Message, Segment
from antiphon.kernel.speculation import drop_speculation
from antiphon.kernel.state import ANSWER, TIERS, Caller, Floor, Phase, Reply, Unheard
from antiphon.kernel.step import Step

LAST_WORDS = ("apology", "goodbye")
"""Phrases after whose failure nothing audible is left to try."""
HANDOVER = "transfer"
"""The phrase that tells the caller that a person is next."""

# -- speaking a phrase --------------------------------------------------------------------------


def say(step: Step, phrase: str, *, purpose: str = "", ends_call: bool = False) -> None:
    """A prepared phrase as a turn of its own."""
    step.state.turn += 1
    say_in_turn(step, phrase, purpose=purpose, ends_call=ends_call)


def say_in_turn(step: Step, phrase: str, *, purpose: str = "", ends_call: bool = False) -> None:
    """A prepared phrase as all that the present turn answers; its purpose is its name, unless another is given."""
    state = step.state
    drop_speculation(step)
    state.reply = Reply(turn=state.turn, purpose=purpose or phrase, attempt=1, ends_call=ends_call)
    step.disarm(*list(state.deadlines))
    step.emit(Say(state.turn, 1, phrase, state.language))
    step.arm("reply", step.policy.phrase_ms)


def say_lead(step: Step, phrase: str) -> None:
    """A prepared phrase before the answer of the live turn."""
    reply = step.reply
    step.emit(Say(reply.turn, reply.attempt, phrase, step.state.language, last=False))


def say_that_it_goes_on(step: Step) -> None:
    """To a caller who is back, before what they are owed."""
    if step.policy.excuse:
        say_lead(step, "resumed")


def say_filler(step: Step) -> None:
    step.reply.fillers += 1
    say_lead(step, "filler")


def may_fill(step: Step) -> bool:
    return step.reply.purpose == ANSWER and step.reply.fillers < step.policy.fillers


# -- understanding ------------------------------------------------------------------------------


def note_intent(step: Step) -> None:
    step.state.intent = step.event.intent if isinstance(step.event, IntentReady) else ""


def note_passages(step: Step) -> None:
    step.state.passages = step.event.passages if isinstance(step.event, PassagesReady) else ()


def note_unavailable(step: Step) -> None:
    """An optional stage failed: the answer goes on without it."""
    if step.happened(StageFailed).stage == "intent":
        note_intent(step)
    else:
        note_passages(step)


def are_passages_known(step: Step) -> bool:
    return step.state.passages is not None


def is_intent_known(step: Step) -> bool:
    return step.state.intent is not None


def is_last_unknown(step: Step) -> bool:
    """The stage that failed was the only one still awaited."""
    if not is_understanding(step):
        return False
    return are_passages_known(step) if step.happened(StageFailed).stage == "intent" else is_intent_known(step)


def is_understanding(step: Step) -> bool:
    return isinstance(step.event, StageFailed) and step.event.stage in ("intent", "retrieval")


# -- the reply and its ladder -------------------------------------------------------------------


def start_reply(step: Step) -> None:
    """The next attempt, on the next tier, going on from what will be heard of the one before."""
    state, reply = step.state, step.reply
    reply.attempt += 1
    reply.generated = reply.failed = False
    reply.fillers = 0
    parts = [reply.said, *(part.text.strip() for part in reply.segments if part.kind not in LEADS)]
    said = " ".join(part for part in parts if part)
    step.emit(
        StartReply(
            turn=reply.turn,
            attempt=reply.attempt,
            text=reply.question,
            language=state.language,
            intent=state.intent or "",
            passages=state.passages or (),
            tier=tier(step),
            said=said,
            asked_in=reply.asked_in,
        )
    )
    step.disarm("understand")
    arm_reply(step, step.policy.reply_ms)
    if reply.attempt > 1:
        step.arm_if_idle("filler", step.policy.refill_ms)


def abandon_attempt(step: Step) -> None:
    """Drops what the present attempt has not begun to play."""
    reply = step.reply
    step.emit(AbandonAttempt(reply.turn, reply.attempt))
    reply.segments = [part for part in reply.segments if part.status != "ready" or part.kind in LEADS]


def apologise(step: Step) -> None:
    """No tier is left: say so in the caller's language, in the same turn."""
    reply = step.reply
    reply.attempt += 1
    reply.purpose = "apology"
    reply.generated = reply.failed = False
    step.state.apologies += 1
    step.emit(Say(reply.turn, reply.attempt, "apology", step.state.language))
    step.disarm("filler", "understand")
    arm_reply(step, step.policy.phrase_ms)


def arm_reply(step: Step, ms: int) -> None:
    """The time to be heard. Behind what is just being heard it has to wait: then it runs from when the line is dry."""
    if step.state.floor is Floor.SPEAKING:
        step.disarm("reply")
    else:
        step.arm("reply", ms)


def wait_behind_speech(step: Step) -> None:
    """The caller hears the rest of what was begun: the next attempt's time begins when the line is dry."""
    step.disarm("reply", "filler")


def has_next_tier(step: Step) -> bool:
    return step.reply.purpose == ANSWER and step.reply.attempt < step.policy.fallbacks + 2


def tier(step: Step) -> str:
    """Of the present attempt."""
    full, fallback, degraded = TIERS
    if step.reply.attempt == 1:
        return full
    return degraded if step.reply.attempt >= step.policy.fallbacks + 2 else fallback


def is_answer(step: Step) -> bool:
    return step.reply.purpose == ANSWER


def is_last_word(step: Step) -> bool:
    return step.reply.purpose in LAST_WORDS


def note_speechless(step: Step) -> None:
    step.state.end_reason = "speechless"


def note_segment(step: Step) -> None:
    event = step.happened(SegmentReady)
    segment = Segment(event.segment, event.text, event.kind, attempt=event.attempt, language=event.language)
    step.reply.segments.append(segment)


def note_started(step: Step) -> None:
    """The caller hears something: the waits for it are over, the watch over its end begins."""
    segment = note_begun(step)
    step.disarm("filler")
    if segment.kind not in LEADS:
        step.disarm("reply")
    arm_watchdog(step)


def note_begun(step: Step) -> Segment:
    segment = step.segment(step.happened(SegmentStarted).segment)
    if segment is None:
        raise LookupError("a segment that is not known was let through as fresh")
    if segment.status == "ready":
        in_order_of_play(step.reply.segments, segment)
        segment.status = "started"
    step.reply.heard = True
    return segment


def in_order_of_play(segments: list[Segment], segment: Segment) -> None:
    """A filler is decided on later than the segment it covers for, and played before it."""
    segments.remove(segment)
    begun = sum(part.status != "ready" for part in segments)
    segments.insert(begun, segment)


def arm_watchdog(step: Step) -> None:
    """The longest that what is queued can take to be heard, plus a margin for the line."""
    chars = sum(len(part.text) for part in step.reply.segments if part.status != "played")
    step.arm("watchdog", 5_000 + chars * 1000 // step.policy.chars_per_second)


def note_cut(step: Step) -> None:
    event = step.happened(SegmentCut)
    segment = step.segment(event.segment)
    if segment is not None:
        segment.text = history.whole_words(segment.text, event.chars)


def note_played(step: Step) -> None:
    segment = step.segment(step.happened(SegmentPlayed).segment)
    if segment is not None:
        segment.status = "played"


def note_generated(step: Step) -> None:
    event = step.happened(ReplyGenerated)
    reply = step.reply
    reply.generated = True
    reply.sources = event.sources
    reply.ends_call = reply.ends_call or event.ends_call


def is_empty_answer(step: Step) -> bool:
    """The attempt is complete and holds no words: as good as failed."""
    return is_answer(step) and not any(part.kind not in LEADS for part in step.reply.segments)


def is_empty_with_next_tier(step: Step) -> bool:
    return is_empty_answer(step) and has_next_tier(step)


def await_more(step: Step) -> None:
    """The line is dry in the middle of a reply: cover the gap, then try the next tier."""
    step.disarm("watchdog")
    step.arm("filler", step.policy.stall_ms)
    step.arm_if_idle("reply", step.policy.reply_ms)


def finish_reply(step: Step) -> None:
    """All of it was heard."""
    state, reply = step.state, step.reply
    text = " ".join(part.text.strip() for part in reply.segments)
    if text:
        history.add(state.history, Message("assistant", text, state.language, reply.turn), step.policy.history_turns)
    if reply.purpose == ANSWER:
        state.apologies = 0
    state.reply = None
    step.disarm("watchdog", "filler", "reply", "understand")


def ends_call(step: Step) -> bool:
    """A goodbye was heard, and the caller is not saying anything against it."""
    return step.reply.ends_call and (step.state.caller is Caller.SILENT or step.reply.purpose == "goodbye")


def is_given_up(step: Step) -> bool:
    return step.reply.purpose == "apology" and step.state.apologies >= step.policy.failed_turns


def is_for_person(step: Step) -> bool:
    return is_handing_over(step) or (is_given_up(step) and bool(step.policy.transfer_target))


def is_handing_over(step: Step) -> bool:
    return step.reply.purpose == HANDOVER


def say_apology(step: Step) -> None:
    step.state.apologies += 1
    say(step, "apology")


def say_goodbye(step: Step) -> None:
    step.state.end_reason = "given_up"
    say(step, "goodbye", ends_call=True)


def repeat_rest(step: Step, unheard: Unheard) -> None:
    """The caller is back: the rest of the answer that their line cut off, as a turn of its own."""
    state = step.state
    drop_speculation(step)
    state.turn += 1
    reply = state.reply = Reply(
        turn=state.turn, question=unheard.question, said=unheard.said, asked_in=unheard.asked_in
    )
    say_that_it_goes_on(step)
    if unheard.is_whole:
        reply.attempt = 1
        texts, sources = tuple(unheard.texts), unheard.sources
        step.emit(Repeat(reply.turn, 1, texts, state.language, sources, unheard.ends_call))
    else:
        start_reply(step)
    step.arm("filler", step.policy.filler_ms)
    step.arm("reply", step.policy.reply_ms)


def book_interrupted(step: Step, reply: Reply, heard: str, answer: str, rest: list[str]) -> None:
    """Books what was heard of a reply that was cut off; ``answer`` is that without fillers, ``rest`` what is missing.

    If nothing was heard, the caller was not answered: their question goes back in front of what they say next. The
    rest of an answer whose line broke is kept, and said when they are back.
    """
    state = step.state
    if heard:
        message = Message("assistant", heard, state.language, reply.turn)
        history.add(state.history, message, step.policy.history_turns)
    is_kept = reply.is_broken and reply.purpose == ANSWER and state.phase in (Phase.LIVE, Phase.DETACHED)
    if is_kept and (rest if reply.generated else answer):
        said = " ".join(part for part in (reply.said, answer) if part)
        asked_in = reply.asked_in or reply.turn
        state.unheard = Unheard(reply.question, said, rest, reply.generated, reply.sources, reply.ends_call, asked_in)
    elif not answer and reply.question and state.reply is None and state.phase in (Phase.LIVE, Phase.DETACHED):
        state.history = [entry for entry in state.history if (entry.role, entry.turn) != ("user", reply.turn)]
        state.pieces.insert(0, reply.question)


def is_audible(step: Step) -> bool:
    """Resuming will be heard at once: a segment was begun and not finished."""
    return any(part.status == "started" for part in step.reply.segments)


def is_broken_off_with_next_tier(step: Step) -> bool:
    """The voice went silent in the middle of a segment."""
    return is_audible(step) and has_next_tier(step)


# -- effects ------------------------------------------------------------------------------------


def run_effect(step: Step) -> None:
    event = step.happened(EffectRequested)
    kind = EffectKind(event.kind)
    step.state.effects[event.key] = Effect(event.key, event.turn, event.name, kind, event.arguments)
    step.emit(RunEffect(event.key, event.name, event.kind, event.arguments))


def is_effect_new(step: Step) -> bool:
    event = step.happened(EffectRequested)
    return event.key not in step.state.effects and len(step.state.effects) < MAX_EFFECTS


def settle_effect(step: Step) -> None:
    event, ledger = step.event, step.state.effects
    if isinstance(event, EffectSucceeded):
        settle(ledger, event.key, EffectStatus.DONE, event.result)
    elif isinstance(event, EffectFailed):
        settle(ledger, event.key, EffectStatus.FAILED, event.code)
    else:
        settle(ledger, step.happened(CommandLost).key, EffectStatus.LOST, "command.lost")
