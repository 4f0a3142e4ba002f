"""Speculation: when an answer is begun before its question is confirmed, and when that is given up. The rule is here.

While it is only being made sure that the caller is done, their words so far are answered where nobody
hears it: some as soon as they sound complete, others when the voice pauses or brings nothing new, at the latest when
the gate closes. A turn that is confirmed with the same words, in the same language, finds its answer begun; other
words drop it.
"""

from __future__ import annotations

from antiphon.kernel.commands import DropSpeculation, Speculate
from antiphon.kernel.endpointing import is_unfinished
from antiphon.kernel.events import TranscriptPartial
from antiphon.kernel.interruption import same_words
from antiphon.kernel.language_actions import requested
from antiphon.kernel.state import Caller, State
from antiphon.kernel.step import Step


def speculate(step: Step) -> None:
    """Answers what was said so far, if that can be all of it; what is being answered already goes on."""
    state, policy = step.state, step.policy
    text = words_so_far(state)
    if state.speculated and not same_words(text, state.speculated):
        _drop(step)
    if state.speculated or not policy.speculate or not text or state.digits or state.speculations >= _most(step):
        return
    if is_unfinished(text, state.language, policy) or requested(text, policy):
        return
    state.speculations += 1
    state.speculated, state.speculated_in = text, state.language
    step.emit(Speculate(state.turn + 1, text, state.language))


def words_so_far(state: State) -> str:
    """The caller's, in the turn that is not confirmed yet: finals, and what stands for those that are not there."""
    said = [*state.pieces, state.last_partial if state.awaited else "", state.partial]
    return " ".join(piece for piece in said if piece.strip())


def _most(step: Step) -> int:
    """How many may have been begun by now, this one among them.

    Words that stand, as an outside recogniser tells, may use all. Of several, one is left for the silence that closes
    the gate, and words behind which there is no pause yet leave one for that, too: of a long question they are not all.
    """
    state, policy, event = step.state, step.policy, step.event
    if state.caller is Caller.SILENT:
        return policy.speculations
    if not isinstance(event, TranscriptPartial):
        return 0
    if event.settled:
        return policy.speculations
    if event.again:
        return policy.speculations - (policy.speculations > 1)
    is_spoken_now = event.utterance == state.utterance and bool(event.text.strip())
    return min(policy.speculations_in_speech, policy.speculations - 2) if is_spoken_now else 0


def drop_speculation(step: Step) -> None:
    """The turn will not be what was being answered; what comes next is another one."""
    _drop(step)
    step.state.speculations = 0


def _drop(step: Step) -> None:
    state = step.state
    if state.speculated:
        state.speculated = ""
        step.emit(DropSpeculation())


def confirm_speculation(step: Step, question: str) -> None:
    """The turn is confirmed (and counted): is it what was being answered?"""
    state = step.state
    if state.speculated and (not same_words(question, state.speculated) or state.speculated_in != state.language):
        step.emit(DropSpeculation())
    state.speculated = ""
    state.speculations = 0
