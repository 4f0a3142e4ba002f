"""Commands: orders in the imperative. The kernel decides them, the runtime carries them out.

A command says everything the runtime needs; what comes of it returns as events of the same turn.
``DURABLE`` commands are carried out only after their journal entry is on disk.
"""

from __future__ import annotations

import msgspec

from antiphon.kernel.events import Passage


class Command(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all commands."""


class SetLanguage(Command, frozen=True, tag=True):
    """The conversation changes its language: hint the transcriber at it, and answer with ``LanguageSwitched``."""

    turn: int
    language: str
    previous: str
    reason: str


class FinishUtterance(Command, frozen=True, tag=True):
    """The caller's utterance is over: the transcriber owes a final."""

    utterance: int


class Classify(Command, frozen=True, tag=True):
    turn: int
    text: str
    language: str


class Retrieve(Command, frozen=True, tag=True):
    turn: int
    text: str
    language: str


class Speculate(Command, frozen=True, tag=True):
    """Begin to answer words that are not confirmed yet: nothing of it is spoken, stored or acted upon.

    Work ordered for the same turn later makes use of it, unless ``DropSpeculation`` comes first.
    """

    turn: int
    text: str
    language: str


class DropSpeculation(Command, frozen=True, tag=True):
    """Nobody wants the answer that was begun: the caller goes on, or said something else."""


class StartReply(Command, frozen=True, tag=True):
    """Generate an answer and speak it. ``said`` is what the caller already heard or will hear of this turn.

    ``tier``: ``full``, then ``fallback`` (the next provider), then ``degraded`` (an answer made of the
    passages alone, by no model).
    """

    turn: int
    attempt: int
    text: str
    language: str
    intent: str = ""
    passages: tuple[Passage, ...] = ()
    tier: str = "full"
    said: str = ""
    asked_in: int = 0
    """The turn in which the question was asked, where an answer goes on in another: what it did there is done."""


class Say(Command, frozen=True, tag=True):
    """Speak a prepared phrase: greeting, filler, still_there, please_repeat, use_keypad, apology, resumed,
    language_switched, goodbye.

    ``last``: nothing follows it in this turn; report ``ReplyGenerated`` once it is in playout.
    """

    turn: int
    attempt: int
    phrase: str
    language: str
    last: bool = True


class Repeat(Command, frozen=True, tag=True):
    """Say the rest of an answer that a broken line cut off, word for word.

    ``texts`` are its segments; ``sources`` and ``ends_call`` are those of the answer. Reported as for ``StartReply``.
    """

    turn: int
    attempt: int
    texts: tuple[str, ...]
    language: str
    sources: tuple[str, ...] = ()
    ends_call: bool = False


class CancelReply(Command, frozen=True, tag=True):
    """Stop generating and playing this turn; answer with ``PlayoutStopped``."""

    turn: int


class AbandonAttempt(Command, frozen=True, tag=True):
    """Stop generating this attempt and drop what of it has not begun to play. No answer is owed."""

    turn: int
    attempt: int


class PausePlayout(Command, frozen=True, tag=True):
    """Silence now; what was not heard is kept."""

    turn: int


class ResumePlayout(Command, frozen=True, tag=True):
    turn: int


class RunEffect(Command, frozen=True, tag=True):
    """Act on the world, exactly once per ``key``."""

    key: str
    name: str
    kind: str
    arguments: str


class TransferCall(Command, frozen=True, tag=True):
    """Hand the caller to a person. ``target`` comes from the policy."""

    key: str
    target: str


class HangUp(Command, frozen=True, tag=True):
    """End the call at the line."""

    key: str
    reason: str


class CloseSession(Command, frozen=True, tag=True):
    """Release everything and answer with ``SessionClosed``."""

    reason: str


AnyCommand = (
    SetLanguage
    | FinishUtterance
    | Classify
    | Retrieve
    | Speculate
    | DropSpeculation
    | StartReply
    | Say
    | Repeat
    | CancelReply
    | AbandonAttempt
    | PausePlayout
    | ResumePlayout
    | RunEffect
    | TransferCall
    | HangUp
    | CloseSession
)

DURABLE: tuple[type, ...] = (TransferCall, HangUp)
"""Commands that wait for their entry; ``RunEffect`` joins them unless it only reads (see ``is_durable``)."""


def is_durable(command: AnyCommand) -> bool:
    if isinstance(command, RunEffect):
        return command.kind != "read"
    return isinstance(command, DURABLE)
