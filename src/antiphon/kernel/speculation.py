"""Speculation: when an answer is begun before its question is confirmed, and when that is given up. The rule is here.

While the caller is silent and it is only being made sure that they are done, their words so far are
answered where nobody hears it. A turn that is confirmed with the same words, in the same language, finds
its answer begun; other words drop it.
"""

from __future__ import annotations

from antiphon.kernel.commands import DropSpeculation, Speculate
from antiphon.kernel.endpointing import is_unfinished
from antiphon.kernel.interruption import same_words
from antiphon.kernel.language_actions import requested
from antiphon.kernel.state import Caller
from antiphon.kernel.step import Step


def speculate(step: Step) -> None:
    """Answers what was said so far, if that can be all of it; what is being answered already goes on."""
    state, policy = step.state, step.policy
    said = [*state.pieces, state.last_partial if state.awaited else "", state.partial]
    text = " ".join(piece for piece in said if piece.strip())
    if state.speculated and not same_words(text, state.speculated):
        _drop(step)
    if state.caller is Caller.SPEAKING or state.speculated or not policy.speculate:
        return
    if not text or state.digits or state.speculations >= policy.speculations:
        return
    if is_unfinished(text, state.language, policy) or requested(text, policy):
        return
    state.speculations += 1
    state.speculated, state.speculated_in = text, state.language
    step.emit(Speculate(state.turn + 1, text, state.language))


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
