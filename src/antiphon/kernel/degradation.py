"""Degradation: what happens when a step raises. The state is as before the step; the call goes on, audibly.

The rule lives here: give up the live reply, apologise; after ``max_failures`` such steps, end the call.
It uses nothing but plain field writes, so that it cannot raise for the reason the step did.
"""

from __future__ import annotations

from antiphon.kernel.commands import CancelReply, CloseSession, HangUp, Say
from antiphon.kernel.state import Floor, Phase, Reply
from antiphon.kernel.step import Step


def degrade(step: Step) -> None:
    state = step.state
    state.failures += 1
    if state.reply is not None:
        step.emit(CancelReply(state.reply.turn))
        state.closing, state.reply = state.reply, None
    state.deadlines.clear()
    if state.phase not in (Phase.LIVE, Phase.DETACHED):
        state.phase = Phase.ENDED
        state.floor = Floor.IDLE
        step.emit(CloseSession("failed"))
        return
    if state.phase is Phase.DETACHED:
        state.floor = Floor.IDLE
        step.arm("ttl", step.policy.ttl_ms)
        return
    state.turn += 1
    if state.failures > step.policy.max_failures:
        state.phase, state.floor, state.end_reason = Phase.ENDING, Floor.IDLE, "failed"
        step.emit(HangUp(f"{state.session}:hangup:{state.turn}", "failed"))
        step.arm("closing", step.policy.closing_ms)
        return
    state.reply = Reply(turn=state.turn, purpose="apology", attempt=1)
    state.floor = Floor.THINKING
    step.emit(Say(state.turn, 1, "apology", state.language))
    step.arm("reply", step.policy.phrase_ms)
