"""What every ``Classifier`` must do: ``run(classifier.KIT, make)``. Which intents there are is its own affair."""

from __future__ import annotations

import asyncio

from antiphon.conformance.checks import (
    ODD_TEXTS,
    Kit,
    Subject,
    cancelled_soon,
    closes_twice,
    ended_by_close,
    is_utf8,
    require,
    settled,
    started,
)
from antiphon.errors import ProviderError
from antiphon.kernel.history import Message
from antiphon.runtime.ports import Classifier, Intent

MAX_NAME = 100
"""Characters of an intent's name."""


def _history(subject: Subject[Classifier]) -> list[Message]:
    sample = subject.sample
    return [Message("user", sample.question, sample.language, 1), Message("assistant", sample.long, sample.language, 1)]


async def _intent(subject: Subject[Classifier], classifier: Classifier, text: str) -> Intent:
    return await classifier.classify(text, language=subject.sample.language, history=_history(subject))


def _check_intent(intent: Intent) -> None:
    require(isinstance(intent, Intent), f"{intent!r} is no Intent")
    kept = is_utf8(intent.name) and len(intent.name) <= MAX_NAME
    require(kept, f"an intent's name is text of at most {MAX_NAME} characters, not {str(intent.name)[:30]!r}")
    require(0.0 <= intent.confidence <= 1.0, f"a confidence of {intent.confidence!r} is not in 0..1")


async def gives_a_sound_intent(subject: Subject[Classifier]) -> None:
    """The result is an ``Intent`` with a name that can be kept and a confidence in 0..1. It goes into the journal and
    decides what is answered: one that cannot be written costs the turn, one that is not a number wins every comparison
    or none.
    """
    async with started(subject) as classifier:
        for text in (subject.sample.question, subject.sample.short, subject.sample.long):
            _check_intent(await _intent(subject, classifier, text))


async def takes_odd_texts(subject: Subject[Classifier]) -> None:
    """Any text and any language tag gets an intent or ``ProviderError``. Recognisers hear signs and nothing, callers
    type what they like, and the turn waits for the answer.
    """
    async with started(subject) as classifier:
        for text in ODD_TEXTS:
            intent = await settled(_intent(subject, classifier, text), f"classifying {text[:20]!r}")
            if not isinstance(intent, ProviderError):
                _check_intent(intent)
        for tag in ("", "zz-ZZ", "hi-IN"):
            asked = classifier.classify(subject.sample.question, language=tag, history=())
            await settled(asked, f"language {tag!r}")


async def keeps_requests_apart(subject: Subject[Classifier]) -> None:
    """Texts of several callers at once get the intents that they get alone. Mixed ones answer a caller who asked about
    fees with a goodbye.
    """
    texts = (subject.sample.question, subject.sample.short, "Goodbye.", "I want to speak to a person.")
    async with started(subject) as classifier:
        alone = [(await _intent(subject, classifier, text)).name for text in texts]
        together = await asyncio.gather(*(_intent(subject, classifier, text) for text in texts * 4))
        found = [intent.name for intent in together]
        require(found == alone * 4, f"alone the intents are {alone}, together {found}")


async def leaves_the_history_alone(subject: Subject[Classifier]) -> None:
    """``history`` is read, never changed. It is the call's memory of what was heard: what is added to it is taken for
    something that was said.
    """
    async with started(subject) as classifier:
        history = _history(subject)
        await classifier.classify(subject.sample.question, language=subject.sample.language, history=history)
        require(history == _history(subject), f"the history was changed to {history}")


async def cancelling_stops_it(subject: Subject[Classifier]) -> None:
    """A request that is cancelled ends soon, by being cancelled, and the next is answered. An intent that is late is
    left behind so that the turn can go on, and each such turn would leave a task.
    """
    async with started(subject) as classifier:
        for steps in (0, 1, 3):
            work = _intent(subject, classifier, f"{subject.sample.question} {steps}")
            await cancelled_soon(work, steps, "a request for an intent")
        _check_intent(await _intent(subject, classifier, subject.sample.question))


async def close_ends_requests(subject: Subject[Classifier]) -> None:
    """``close`` ends what is under way, with an intent or ``ProviderError``. A request that waits on afterwards keeps
    its call, and the process, from ending.
    """
    async with started(subject) as classifier:
        work = _intent(subject, classifier, subject.sample.question)
        await ended_by_close(classifier, work, 1, "a request for an intent")


async def closing_twice_is_harmless(subject: Subject[Classifier]) -> None:
    """``close`` may be called twice. Shutting down after an error does, and what raises there hides the first fault."""
    async with started(subject) as classifier:
        await closes_twice(classifier)


KIT: Kit[Classifier] = Kit(
    "intent",
    (
        gives_a_sound_intent,
        takes_odd_texts,
        keeps_requests_apart,
        leaves_the_history_alone,
        cancelling_stops_it,
        close_ends_requests,
        closing_twice_is_harmless,
    ),
)
