"""What the floor does: the actions and guards that ``floor.py`` puts into its table.

Caller's side first, then the turn's work, then speech, then interruption, then the end. An action
changes the state and emits commands; which state comes next stands in the table alone.
"""

from __future__ import annotations

from antiphon.kernel import endpointing, history
from antiphon.kernel.commands import (
    Classify,
    FinishUtterance,
    Retrieve,
)
from antiphon.kernel.events import (
    MAX_TEXT,
    DigitPressed,
    SpeechStarted,
    SpeechStopped,
    TextTyped,
    TranscriptFinal,
    TranscriptPartial,
)
from antiphon.kernel.history import Message
from antiphon.kernel.interruption import Words, same_words, weigh
from antiphon.kernel.language_actions import choose_language, note_language, requested, settle_language
from antiphon.kernel.reply_actions import HANDOVER, say, say_in_turn
from antiphon.kernel.speculation import confirm_speculation, words_so_far
from antiphon.kernel.state import Caller, Reply
from antiphon.kernel.step import Step

MAX_DIGITS = 32
HOLD = "hold"
"""The purpose of a filler that covers the wait for a final."""

# -- listening ----------------------------------------------------------------------------------


def listen(step: Step) -> None:
    """The floor is the caller's: set the deadline that fits what they are doing."""
    state = step.state
    state.reply = None
    if state.caller is Caller.SPEAKING:
        step.arm_if_idle("utterance", step.policy.utterance_ms)
    elif state.digits:
        step.arm_if_idle("digits", step.policy.digits_ms)
    elif state.pieces or state.spoken:
        arm_endpoint(step)
    else:
        step.arm("silence", state.silence_left or step.policy.silence_ms)
    if state.awaited:
        step.arm_if_idle("final", step.policy.final_ms)
        arm_hold(step)


def arm_endpoint(step: Step) -> None:
    """The silence still missing, measured from where the gate found the speech's end."""
    state = step.state
    wanted = 0 if state.turn_over else endpointing.silence_needed(words_so_far(state), state.language, step.policy)
    step.arm("endpoint", wanted - (step.now - state.quiet_at))


def caller_starts(step: Step) -> None:
    step.happened(SpeechStarted)
    state = step.state
    state.caller = Caller.SPEAKING
    state.speech_at = step.now
    if "silence" in state.deadlines:
        # A line that crackles every few seconds is as silent as one that does not.
        state.silence_left = max(1, state.deadlines["silence"] - step.now)
    state.spoken = True
    step.disarm("silence", "endpoint", "digits", "hold", "ahead")


def caller_stops(step: Step) -> None:
    event = step.happened(SpeechStopped)
    state = step.state
    state.caller = Caller.SILENT
    state.quiet_at = step.now - event.hangover_ms
    state.turn_over = event.turn_over
    step.disarm("utterance")


def note_partial(step: Step) -> None:
    event, state = step.happened(TranscriptPartial), step.state
    if event.utterance == state.awaited:
        state.last_partial = event.text
    else:
        state.partial = event.text
        state.spoken = True
    if event.text.strip():
        state.silence_left = 0


def hear_partial(step: Step) -> None:
    """A partial that came after the speech's end may make it sound complete, or not. Other words than before may be
    late, or be of a caller who goes on and for whom the gate is not open yet: that is waited for."""
    state = step.state
    before = words_so_far(state)
    note_partial(step)
    if "endpoint" in state.deadlines:
        arm_endpoint(step)
        if not same_words(before, words_so_far(state)):
            state.deadlines["endpoint"] = max(state.deadlines["endpoint"], step.now + step.policy.endpoint_words_ms)
        if state.awaited:
            arm_hold(step)


def finish_utterance(step: Step) -> None:
    """Asks the transcriber for its last word; what is heard from now on is another utterance."""
    state = step.state
    if state.awaited and weigh(state.last_partial, state.language, step.policy) is Words.SPEECH:
        state.pieces.append(state.last_partial)  # its final is late: the caller has gone on meanwhile
    step.emit(FinishUtterance(state.utterance))
    state.awaited, state.asked_at = state.utterance, step.now
    state.utterance += 1
    state.last_partial, state.partial = state.partial, ""
    state.spoken = state.caller is Caller.SPEAKING
    step.disarm("ahead")
    step.arm("final", step.policy.final_ms)
    arm_hold(step)


def finish_ahead(step: Step) -> None:
    """The words sound complete and are being answered: their final is asked for so early that it is there when the
    silence has lasted. A caller who goes on says another piece of the same turn. One final is owed at a time."""
    state = step.state
    if not state.speculated or state.caller is Caller.SPEAKING or not state.partial.strip() or state.awaited:
        return
    takes = step.policy.final_expected_ms if state.final_takes < 0 else state.final_takes
    left = state.deadlines.get("endpoint", step.now) - step.now - takes
    if left > 0:
        step.arm("ahead", left)
    else:
        finish_utterance(step)


def arm_hold(step: Step) -> None:
    """A caller who is done hears something in time, however long the transcriber takes."""
    state, policy = step.state, step.policy
    if state.caller is Caller.SILENT:
        endpoint = state.deadlines.get("endpoint", step.now)  # before it nobody is known to be done
        wait = max(policy.filler_ms - (step.now - state.quiet_at), endpoint - step.now + policy.refill_ms)
        step.arm("hold", wait)


def hold(step: Step) -> None:
    """A filler as a turn of its own; the utterance is still awaited, and its time runs on."""
    final = step.state.deadlines.get("final", step.now + step.policy.final_ms)
    say(step, "filler", purpose=HOLD)
    step.arm("final", final - step.now)


def is_waiting_for_final(step: Step) -> bool:
    state = step.state
    return bool(state.awaited) and state.caller is Caller.SILENT and not state.digits


def is_holding(step: Step) -> bool:
    return step.state.reply is not None and step.state.reply.purpose == HOLD


def is_held_with_words(step: Step) -> bool:
    return is_holding(step) and bool(final_text(step) or step.state.pieces)


def is_held_in_vain(step: Step) -> bool:
    return is_holding(step) and was_speech_unclear(step)


def note_final(step: Step) -> None:
    """Keeps what was said; an utterance whose final failed counts as its last partial."""
    note_language(step)
    note_delay(step)
    text = final_text(step)
    room = MAX_TEXT - sum(len(piece) + 1 for piece in step.state.pieces)
    if text and room > 0:
        step.state.pieces.append(text[:room])
    forget_final(step)


def note_delay(step: Step) -> None:
    """One that is out of the ordinary counts half."""
    state = step.state
    if isinstance(step.event, TranscriptFinal):
        took = step.now - state.asked_at
        state.final_takes = took if state.final_takes < 0 else (state.final_takes + took) // 2


def final_text(step: Step) -> str:
    text = step.event.text if isinstance(step.event, TranscriptFinal) else step.state.last_partial
    return text.strip()


def listen_longer(step: Step) -> None:
    """The utterance was taken in pieces; the next piece has its own limit."""
    step.arm("utterance", step.policy.utterance_ms)


def forget_final(step: Step) -> None:
    step.state.awaited = 0
    step.state.last_partial = ""
    step.disarm("final", "hold")


def note_digit(step: Step) -> None:
    state = step.state
    digit = step.happened(DigitPressed).digit
    if digit != "#" and len(state.digits) < MAX_DIGITS:
        state.digits += digit
    step.disarm("silence", "endpoint", "digits", "ahead")


def digits_to_pieces(step: Step) -> None:
    set_aside_speech(step)
    if step.state.digits:
        step.state.pieces = [step.state.digits]
    step.state.digits = ""


def typed_to_pieces(step: Step) -> None:
    set_aside_speech(step)
    note_language(step)
    step.state.pieces.append(step.happened(TextTyped).text.strip())


def set_aside_speech(step: Step) -> None:
    """Keys or text are the answer: words before them must not come back later as a turn of their own."""
    if step.state.spoken:
        finish_utterance(step)
    forget_final(step)


def ask_whether_there(step: Step) -> None:
    step.state.silences += 1
    step.state.silence_left = 0
    if step.state.silences > step.policy.silence_prompts:
        say(step, "goodbye", ends_call=True)
    else:
        say(step, "still_there")


def ask_again(step: Step) -> None:
    """Nothing was understood: ask for it again, then for the keypad, then give them to a person or say goodbye."""
    state = step.state
    state.blanks += 1
    state.silence_left = 0
    if state.blanks <= step.policy.blank_prompts:
        say(step, "please_repeat")
    elif state.blanks <= step.policy.blank_prompts + 2:
        say(step, "use_keypad")
    elif step.policy.transfer_target:
        say(step, HANDOVER)
    else:
        say(step, "goodbye", ends_call=True)


# guards


def is_final_blank(step: Step) -> bool:
    """No text in this final (or in the partial that stands for it) nor in the pieces before it."""
    return not final_text(step) and not step.state.pieces


def is_caller_going_on(step: Step) -> bool:
    """They say more, or may yet: their silence has not lasted."""
    state = step.state
    return state.caller is Caller.SPEAKING or state.spoken or bool(state.digits) or "endpoint" in state.deadlines


def is_noise(step: Step) -> bool:
    """The gate has been open for a whole utterance and nothing in it was a word."""
    return is_gate_stuck(step) and is_final_blank(step)


def is_noise_after_words(step: Step) -> bool:
    """The caller was done; the gate is held open by something that is not them."""
    return is_gate_stuck(step) and not is_final_blank(step) and not final_text(step)


def is_gate_stuck(step: Step) -> bool:
    state = step.state
    return state.caller is Caller.SPEAKING and step.now - state.speech_at >= step.policy.utterance_ms


def was_speech_unclear(step: Step) -> bool:
    """Somebody spoke long enough to have said something, and nothing of it was understood."""
    state = step.state
    if not is_final_blank(step) or is_caller_going_on(step):
        return False
    return state.quiet_at - state.speech_at >= step.policy.blank_speech_ms


def is_all_said(step: Step) -> bool:
    state = step.state
    return bool(state.pieces) and not state.spoken and not state.awaited


def is_final_owed(step: Step) -> bool:
    """All was said, and its final asked for: that decides."""
    return bool(step.state.awaited) and not step.state.spoken


def is_nothing_said(step: Step) -> bool:
    """The final came before the silence had lasted, and there was no word in it."""
    return not step.state.spoken and not step.state.pieces


def is_turn_over(step: Step) -> bool:
    return step.happened(SpeechStopped).turn_over


def is_hash(step: Step) -> bool:
    return step.happened(DigitPressed).digit == "#" and bool(step.state.digits)


def is_text_blank(step: Step) -> bool:
    return not step.happened(TextTyped).text.strip()


# -- a turn -------------------------------------------------------------------------------------


def begin_turn(step: Step) -> None:
    """The caller's turn is confirmed: understand it, intent and retrieval side by side."""
    state, policy = step.state, step.policy
    question = take_question(step)
    wanted = requested(question, policy)
    if wanted:
        choose_language(step, wanted)
        say_in_turn(step, "language_switched")
        return
    confirm_speculation(step, question)
    state.intent = state.passages = None
    state.reply = Reply(turn=state.turn, question=question)
    step.disarm("silence", "endpoint", "digits", "utterance", "final")
    step.emit(Classify(state.turn, question, state.language))
    step.emit(Retrieve(state.turn, question, state.language))
    step.arm("understand", policy.understand_ms)
    step.arm("filler", policy.filler_ms)
    step.arm("reply", policy.reply_ms)


def take_question(step: Step) -> str:
    """What the caller said becomes a turn, in the conversation's history and in its language."""
    state = step.state
    question = " ".join(state.pieces)
    state.pieces, state.partial, state.digits = [], "", ""
    state.turn += 1
    state.silences = state.blanks = state.silence_left = 0
    settle_language(step)
    history.add(state.history, Message("user", question, state.language, state.turn), step.policy.history_turns)
    return question
