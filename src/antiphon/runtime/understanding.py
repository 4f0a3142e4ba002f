"""Understanding one text: its intent and its passages, side by side, each behind its breaker and in its time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from antiphon.errors import ProviderTimeout
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.runtime.chain import Chain, Named, gave_up, is_cancelled_by_us
from antiphon.runtime.deadline import Deadline
from antiphon.runtime.ports import Classifier, Intent, Retriever

P = TypeVar("P", bound=Named)
T = TypeVar("T")

History = Sequence[Message]


async def find_intent(chain: Chain[Classifier], text: str, language: str, history: History) -> Intent:
    """No intent if nobody classifies. Raises ``ProviderError`` and what the classifier raises."""
    if not chain.members:
        return Intent("", 0.0)
    return await _ask(chain, lambda each: each.classify(text, language=language, history=history))


async def find_passages(chain: Chain[Retriever], text: str, language: str, history: History) -> tuple[Passage, ...]:
    """None if nobody retrieves. Raises ``ProviderError`` and what the retriever raises."""
    if not chain.members:
        return ()
    return await _ask(chain, lambda each: each.retrieve(text, language=language, history=history))


async def _ask(chain: Chain[P], call: Callable[[P], Awaitable[T]]) -> T:
    member, limit = chain.members[0], chain.policy.first_s
    member.enter()
    deadline = Deadline()
    error: BaseException | None = None
    try:
        return await deadline.wait(call(member.provider), asyncio.get_running_loop().time() + limit)
    except TimeoutError:
        code = f"{chain.stage}.timeout"
        error = ProviderTimeout(
            f"{member.name} gave nothing for {limit:g} s", provider=member.name, stage=chain.stage, code=code
        )
        raise error from None
    except asyncio.CancelledError as raised:
        error = raised if is_cancelled_by_us() else gave_up(member.name, chain.stage)
        raise error from None
    except BaseException as raised:
        error = raised
        raise
    finally:
        member.book(error)
        error = None  # it holds this frame, and would be held by it until a full collection
