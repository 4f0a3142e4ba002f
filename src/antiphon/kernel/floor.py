"""The floor: who may speak. One table for every application; this file is the whole of it.

``IDLE -> LISTENING -> THINKING -> SPEAKING -> INTERRUPT`` (B5). IDLE: nobody is on the line. LISTENING:
the floor is the caller's. THINKING: the turn is the agent's and nothing is heard yet, or not any more.
SPEAKING: the caller hears the agent. INTERRUPT: the caller made a sound meanwhile; playback is paused
until it is decided whose floor it is.

The ladder of a turn, each rung audible: filler, next provider, an answer by no model, apology,
transfer or goodbye. It is the ``_LADDER`` rules below; every wait of every state leads into it.
"""

from __future__ import annotations

from antiphon.kernel import floor_actions as caller
from antiphon.kernel import interrupt_actions as undecided
from antiphon.kernel import reply_actions as agent
from antiphon.kernel import session_actions as session
from antiphon.kernel import speculation as ahead
from antiphon.kernel.chart import ANY, Chart, Rule, StateSpec
from antiphon.kernel.state import Floor
from antiphon.kernel.step import Step

R = Rule[Step]
IDLE, LISTENING, THINKING, SPEAKING, INTERRUPT = (str(state) for state in Floor)

STATES = {
    IDLE: StateSpec(("ttl", "closing"), rest=True, doc="Nobody is on the line."),
    LISTENING: StateSpec(
        ("silence", "utterance", "endpoint", "ahead", "final", "hold", "digits"), doc="The floor is the caller's."
    ),
    THINKING: StateSpec(("understand", "filler", "reply", "final"), doc="The agent's turn, nothing is heard."),
    SPEAKING: StateSpec(("watchdog", "reply", "understand", "final"), doc="The caller hears the agent."),
    INTERRUPT: StateSpec(("interrupt",), doc="Paused. Whose floor is it?"),
}

# -- rules that several places share ------------------------------------------------------------

# It was about to be said that the caller is put through: whatever became of the words, that is done.
_HANDED_OVER = R((session.cancel_reply, session.transfer), IDLE, agent.is_handing_over)
_LADDER = (
    R((agent.abandon_attempt, agent.start_reply), None, agent.has_next_tier),
    R((agent.abandon_attempt, agent.apologise), None, agent.is_answer),
    R((session.cancel_reply, agent.note_speechless, session.hang_up), IDLE, agent.is_last_word),
    _HANDED_OVER,
    R((session.cancel_reply, caller.listen), LISTENING),
)
_TURN_ENDS = (
    R((caller.forget_final, caller.ask_again), THINKING, caller.is_noise),
    R((caller.forget_final, caller.begin_turn), THINKING, caller.is_noise_after_words),
    R((caller.note_final, caller.listen, ahead.speculate), None, caller.is_caller_going_on),
    R((caller.forget_final, caller.ask_again), THINKING, caller.was_speech_unclear),
    R((caller.forget_final, caller.listen), None, caller.is_final_blank),
    R((caller.note_final, caller.begin_turn), THINKING),
)
# A filler covers the wait for a final. It is heard to its end; what was understood meanwhile is answered then.
_HELD = (
    R((caller.note_final, ahead.speculate), None, caller.is_held_with_words),
    R((session.cancel_reply, caller.forget_final, caller.ask_again), THINKING, caller.is_held_in_vain),
)
_RESUMES = (
    # First away with what failed, then go on: else some of it would be heard.
    R(
        (agent.abandon_attempt, undecided.resume, agent.start_reply, agent.wait_behind_speech),
        SPEAKING,
        undecided.is_failed_and_audible_with_next_tier,
    ),
    R(
        (agent.abandon_attempt, undecided.resume, agent.apologise, agent.wait_behind_speech),
        SPEAKING,
        undecided.is_failed_and_audible_answer,
    ),
    R((agent.abandon_attempt, undecided.resume, agent.start_reply), THINKING, undecided.is_failed_with_next_tier),
    R((agent.abandon_attempt, undecided.resume, agent.apologise), THINKING, undecided.is_failed_answer),
    R((undecided.resume, undecided.start_reply_if_due), SPEAKING, agent.is_audible),
    R((undecided.resume, undecided.start_reply_if_due), THINKING),
)
_BARGE_IN = R((session.cancel_reply, caller.listen), LISTENING)
_FINISHED = (
    R((agent.finish_reply, session.hang_up), IDLE, agent.ends_call),
    R((agent.finish_reply, session.transfer), IDLE, agent.is_for_person),
    R((agent.finish_reply, agent.say_goodbye), THINKING, agent.is_given_up),
    R((agent.finish_reply, caller.listen), LISTENING),
)
# Words that the transcriber found only after the agent had gone on still take the floor.
_LATE_PARTIAL = (
    R((caller.note_partial, *_BARGE_IN.actions), LISTENING, undecided.takes_floor),
    R((caller.note_partial,)),
)
_LATE_FINAL = (
    *_HELD,
    R((caller.note_final, *_BARGE_IN.actions), LISTENING, undecided.takes_floor),
    R((caller.forget_final,)),
)
_KEY = R((session.cancel_reply, caller.note_digit, caller.listen), LISTENING)
_TYPED = (
    R((), None, caller.is_text_blank),
    R((session.cancel_reply, caller.typed_to_pieces, caller.begin_turn), THINKING),
)
_GENERATED = (
    R((agent.note_generated, agent.abandon_attempt, agent.start_reply), None, agent.is_empty_with_next_tier),
    R((agent.note_generated, agent.abandon_attempt, agent.apologise), None, agent.is_empty_answer),
    R((agent.note_generated,)),
)

_listening: dict[tuple[str, str], tuple[R, ...]] = {
    (LISTENING, "SpeechStarted"): (R((caller.caller_starts, caller.listen)),),
    (LISTENING, "SpeechStopped"): (
        R((caller.caller_stops, caller.finish_utterance), None, caller.is_turn_over),
        R((caller.caller_stops, caller.listen, ahead.speculate, caller.finish_ahead)),
    ),
    (LISTENING, "TranscriptPartial"): (R((caller.hear_partial, ahead.speculate)),),
    (LISTENING, "TranscriptFinal"): _TURN_ENDS,
    (LISTENING, "TranscriptionFailed"): _TURN_ENDS,
    (LISTENING, "DeadlineReached:final"): _TURN_ENDS,
    (LISTENING, "DeadlineReached:hold"): (
        R((caller.hold,), THINKING, caller.is_waiting_for_final),
        R(),
    ),
    (LISTENING, "DeadlineReached:endpoint"): (
        R((caller.begin_turn,), THINKING, caller.is_all_said),
        R((), None, caller.is_final_owed),
        R((caller.ask_again,), THINKING, caller.was_speech_unclear),
        R((caller.listen,), None, caller.is_nothing_said),
        R((caller.finish_utterance,)),
    ),
    (LISTENING, "DeadlineReached:ahead"): (R((caller.finish_ahead,)),),
    (LISTENING, "DeadlineReached:utterance"): (R((caller.finish_utterance, caller.listen_longer)),),
    (LISTENING, "DeadlineReached:silence"): (R((caller.ask_whether_there,), THINKING),),
    (LISTENING, "DigitPressed"): (
        R((caller.note_digit, caller.digits_to_pieces, caller.begin_turn), THINKING, caller.is_hash),
        R((caller.note_digit, caller.listen)),
    ),
    (LISTENING, "DeadlineReached:digits"): (R((caller.digits_to_pieces, caller.begin_turn), THINKING),),
    (LISTENING, "TextTyped"): (
        R((), None, caller.is_text_blank),
        R((caller.typed_to_pieces, caller.begin_turn), THINKING),
    ),
}

_thinking: dict[tuple[str, str], tuple[R, ...]] = {
    (THINKING, "IntentReady"): (
        R((agent.note_intent, agent.start_reply), None, agent.are_passages_known),
        R((agent.note_intent,)),
    ),
    (THINKING, "PassagesReady"): (
        R((agent.note_passages, agent.start_reply), None, agent.is_intent_known),
        R((agent.note_passages,)),
    ),
    (THINKING, "StageFailed"): (
        R((agent.note_unavailable, agent.start_reply), None, agent.is_last_unknown),
        R((agent.note_unavailable,), None, agent.is_understanding),
        *_LADDER,
    ),
    (THINKING, "DeadlineReached:understand"): (R((agent.start_reply,)),),
    (THINKING, "DeadlineReached:filler"): (
        R((agent.say_filler,), None, agent.may_fill),
        R((agent.abandon_attempt, agent.start_reply), None, agent.is_broken_off_with_next_tier),
        R((agent.abandon_attempt, agent.apologise), None, undecided.is_broken_off_answer),
        R(),
    ),
    (THINKING, "DeadlineReached:reply"): _LADDER,
    (THINKING, "SegmentReady"): (R((agent.note_segment,)),),
    (THINKING, "SegmentStarted"): (R((agent.note_started,), SPEAKING),),
    (THINKING, "SegmentPlayed"): (R((agent.note_played,)),),
    (THINKING, "SegmentCut"): (R((agent.note_cut,)),),
    (THINKING, "ReplyGenerated"): _GENERATED,
    (THINKING, "PlayoutFinished"): _FINISHED,
    (THINKING, "SpeechStarted"): (R((caller.caller_starts, undecided.pause), INTERRUPT),),
    (THINKING, "SpeechStopped"): (R((caller.caller_stops, caller.set_aside_speech)),),
    (THINKING, "TranscriptPartial"): _LATE_PARTIAL,
    (THINKING, "TranscriptFinal"): _LATE_FINAL,
    (THINKING, "TranscriptionFailed"): (*_HELD, R((caller.forget_final,))),
    (THINKING, "DeadlineReached:final"): (*_HELD, R((caller.forget_final,))),
    (THINKING, "DigitPressed"): (_KEY,),
    (THINKING, "TextTyped"): _TYPED,
}

_speaking: dict[tuple[str, str], tuple[R, ...]] = {
    # Only a phrase that leads in can be heard before the answer is begun.
    (SPEAKING, "IntentReady"): (
        R((agent.note_intent, agent.start_reply), None, agent.are_passages_known),
        R((agent.note_intent,)),
    ),
    (SPEAKING, "PassagesReady"): (
        R((agent.note_passages, agent.start_reply), None, agent.is_intent_known),
        R((agent.note_passages,)),
    ),
    (SPEAKING, "DeadlineReached:understand"): (R((agent.start_reply,)),),
    (SPEAKING, "SegmentReady"): (R((agent.note_segment,)),),
    (SPEAKING, "SegmentStarted"): (R((agent.note_started,)),),
    (SPEAKING, "SegmentPlayed"): (R((agent.note_played,)),),
    (SPEAKING, "SegmentCut"): (R((agent.note_cut,)),),
    (SPEAKING, "ReplyGenerated"): _GENERATED,
    (SPEAKING, "StageFailed"): (
        R((agent.note_unavailable, agent.start_reply), None, agent.is_last_unknown),
        R((agent.note_unavailable,), None, agent.is_understanding),
        *_LADDER,
    ),
    (SPEAKING, "DeadlineReached:reply"): _LADDER,
    (SPEAKING, "PlayoutStarved"): (R((agent.await_more,), THINKING),),
    (SPEAKING, "PlayoutFinished"): _FINISHED,
    (SPEAKING, "DeadlineReached:watchdog"): (
        _HANDED_OVER,
        R((session.cancel_reply, agent.say_apology), THINKING),
    ),
    (SPEAKING, "SpeechStarted"): (R((caller.caller_starts, undecided.pause), INTERRUPT),),
    (SPEAKING, "SpeechStopped"): (R((caller.caller_stops, caller.set_aside_speech)),),
    (SPEAKING, "TranscriptPartial"): _LATE_PARTIAL,
    (SPEAKING, "TranscriptFinal"): _LATE_FINAL,
    (SPEAKING, "TranscriptionFailed"): (*_HELD, R((caller.forget_final,))),
    (SPEAKING, "DeadlineReached:final"): (*_HELD, R((caller.forget_final,))),
    (SPEAKING, "DigitPressed"): (_KEY,),
    (SPEAKING, "TextTyped"): _TYPED,
}

_interrupt: dict[tuple[str, str], tuple[R, ...]] = {
    (INTERRUPT, "SpeechStarted"): (R((caller.caller_starts,)),),
    (INTERRUPT, "SpeechStopped"): (R((caller.caller_stops, caller.finish_utterance, undecided.await_words)),),
    (INTERRUPT, "TranscriptPartial"): _LATE_PARTIAL,
    (INTERRUPT, "TranscriptFinal"): (
        R((caller.note_final, *_BARGE_IN.actions), LISTENING, undecided.takes_floor),
        R((caller.forget_final,), None, undecided.is_caller_speaking),
        *(R((caller.forget_final, *rule.actions), rule.target, rule.guard) for rule in _RESUMES),
    ),
    (INTERRUPT, "TranscriptionFailed"): (
        R((caller.note_final, *_BARGE_IN.actions), LISTENING, undecided.takes_floor),
        R((caller.forget_final,)),
    ),
    (INTERRUPT, "DeadlineReached:interrupt"): (
        R((undecided.listen_on,), None, undecided.may_be_noise),
        R((undecided.murmur_on,), None, undecided.is_murmuring),
        R(_BARGE_IN.actions, LISTENING, undecided.is_caller_speaking),
        *_RESUMES,
    ),
    (INTERRUPT, "IntentReady"): (R((agent.note_intent,)),),
    (INTERRUPT, "PassagesReady"): (R((agent.note_passages,)),),
    (INTERRUPT, "StageFailed"): (
        R((agent.note_unavailable,), None, agent.is_understanding),
        R((undecided.note_failed,)),
    ),
    (INTERRUPT, "SegmentReady"): (R((agent.note_segment,)),),
    (INTERRUPT, "SegmentStarted"): (R((agent.note_begun,)),),
    (INTERRUPT, "SegmentPlayed"): (R((agent.note_played,)),),
    (INTERRUPT, "SegmentCut"): (R((agent.note_cut,)),),
    (INTERRUPT, "ReplyGenerated"): (
        R((agent.note_generated, agent.abandon_attempt, undecided.note_failed), None, agent.is_empty_answer),
        R((agent.note_generated,)),
    ),
    (INTERRUPT, "PlayoutFinished"): (R((agent.finish_reply, caller.listen), LISTENING),),
    (INTERRUPT, "DigitPressed"): (_KEY,),
    (INTERRUPT, "TextTyped"): _TYPED,
}

_session: dict[tuple[str, str], tuple[R, ...]] = {
    (IDLE, "SessionStarted"): (
        R((session.start_session, session.greet), THINKING, session.wants_greeting),
        R((session.start_session, caller.listen), LISTENING),
    ),
    (IDLE, "DeadlineReached:ttl"): (R((session.close,)),),
    (IDLE, "DeadlineReached:closing"): (R((session.close,)),),
    (ANY, "LineAttached"): (
        R((session.attach, caller.listen), LISTENING, session.is_nothing_open),
        R((session.attach, session.go_on), THINKING),
    ),
    (ANY, "LineDropped"): (
        R((session.close,), IDLE, session.is_ending),
        R((session.detach,), IDLE),
    ),
    (ANY, "CallerHungUp"): (R((session.close,), IDLE),),
    (ANY, "PlayoutStopped"): (R((session.book_stopped,)),),
    (ANY, "SessionClosed"): (R((session.mark_closed,), IDLE),),
    (ANY, "LanguageSwitched"): (R(),),
    (ANY, "StageRerouted"): (R(),),
    (ANY, "SpeculationEnded"): (R(),),
    (ANY, "EffectRequested"): (R((agent.run_effect,), None, agent.is_effect_new),),
    (ANY, "EffectSucceeded"): (R((agent.settle_effect,)),),
    (ANY, "EffectFailed"): (R((agent.settle_effect,)),),
    (ANY, "CommandLost"): (R((agent.settle_effect,)),),
}

FLOOR: Chart[Step] = Chart(
    name="floor",
    initial=IDLE,
    states=STATES,
    table={**_listening, **_thinking, **_speaking, **_interrupt, **_session},
)
