"""What the floor does about the conversation's language: noting what was spoken, changing it between turns."""

from __future__ import annotations

from antiphon.kernel import language
from antiphon.kernel.commands import SetLanguage
from antiphon.kernel.events import TextTyped, TranscriptFinal
from antiphon.kernel.interruption import contains, tokens
from antiphon.kernel.policy import Policy
from antiphon.kernel.step import Step

LONGEST_REQUEST = 10
"""Words. In a longer sentence the name of a language is what it is about ("is it taught in Telugu ...")."""


def note_language(step: Step) -> None:
    """What was just said tells a language, if it is one of ours and beyond doubt."""
    event, policy = step.event, step.policy
    if not isinstance(event, TranscriptFinal | TextTyped) or event.language not in policy.languages:
        return
    if event.language_confidence >= policy.language_confidence:
        step.state.spoken_language = event.language


def settle_language(step: Step) -> None:
    """A turn begins: the language that was spoken in it counts, and may change the conversation's."""
    state, policy = step.state, step.policy
    spoken, state.spoken_language = state.spoken_language, ""
    if not spoken:
        return
    switch = language.detect(
        state.tongue,
        spoken,
        switches=policy.language_switches,
        min_turns=policy.language_min_turns,
        unlock=policy.language_unlock,
    )
    tell_switch(step, switch)


def choose_language(step: Step, wanted: str) -> None:
    """The caller asked for it: from now on."""
    step.state.spoken_language = ""
    tell_switch(step, language.choose(step.state.tongue, wanted))


def tell_switch(step: Step, switch: language.Switch | None) -> None:
    if switch is not None:
        step.emit(SetLanguage(step.state.turn, switch.language, switch.previous, switch.reason))


def requested(text: str, policy: Policy) -> str:
    """The language that a short sentence asks for; "" if it asks for none."""
    words = tokens(text)
    if not words or len(words) > LONGEST_REQUEST:
        return ""
    for tag, phrases in policy.language_requests.items():
        if contains(words, phrases):
            return tag
    return ""
