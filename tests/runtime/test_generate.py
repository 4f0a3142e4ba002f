"""One attempt at an answer: text in pieces to segments, acts with their keys, every way to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from call_parts import Answers, Events, in_pieces

from antiphon.errors import ConfigError, ProviderError
from antiphon.kernel import events as ev
from antiphon.kernel.commands import RunEffect, StartReply
from antiphon.kernel.effects import Effect, EffectKind, EffectStatus, settle
from antiphon.runtime.effects import EffectRunner
from antiphon.runtime.generate import MAX_REPLY_CHARS, Attempt
from antiphon.runtime.ports import Act, ReplyEnd, ReplyPart, ReplyRequest, TextDelta
from antiphon.runtime.voicing import Rehearsal
from antiphon.sim.clock import run


class Lips:
    """The part of a mouth that an attempt uses."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.end: ev.ReplyGenerated | None = None

    def speak(self, turn: int, attempt: int, text: str, language: str, rehearsal: Rehearsal | None) -> None:
        assert (turn, attempt, language, rehearsal) == (3, 2, "en-IN", None)
        self.said.append(text)

    def complete(self, end: ev.ReplyGenerated) -> None:
        assert self.end is None
        self.end = end


class Plain:
    """A source that is nothing but its answers (fits ``Source``)."""

    def __init__(self, answers: Answers) -> None:
        self.answered_by = answers.name
        self.released = 0
        self._answers = answers

    def parts(self, act: Act) -> AsyncGenerator[ReplyPart, None]:
        return self._answers.respond(ReplyRequest("s1", 3, 2, "what are the fees", "en-IN"), act)

    def take_rehearsal(self, text: str) -> None:
        """Nothing was spoken ahead."""

    def release(self) -> None:
        self.released += 1


class Trial:
    """An attempt at turn 3, its second, with everything around it."""

    def __init__(self, answers: Answers) -> None:
        self.lips = Lips()
        self.source = Plain(answers)
        self.facts = Events()
        self.ledger: dict[str, Effect] = {}
        self.effects = EffectRunner("s1", {"book": self.book}, lambda: self.ledger, self.post)
        self.booked: list[str] = []
        self.attempt = Attempt(
            StartReply(3, 2, "what are the fees", "en-IN", said="So far."),
            self.source,
            session="s1",
            mouth=self.lips,  # type: ignore[arg-type]
            effects=self.effects,
            post=self.post,
        )

    async def book(self, arguments: str, key: str) -> str:
        self.booked.append(key)
        return "seat 4"

    def post(self, event: ev.AnyEvent) -> None:
        self.facts.append(event)
        if isinstance(event, ev.EffectRequested) and event.key not in self.ledger:
            self.ledger[event.key] = Effect(event.key, 3, event.name, EffectKind(event.kind), event.arguments)
            self.effects.run(RunEffect(event.key, event.name, event.kind, event.arguments), None)
        elif isinstance(event, ev.EffectSucceeded):
            settle(self.ledger, event.key, EffectStatus.DONE, event.result)


def saying(*texts: str) -> Answers:
    return Answers(lambda request, act: in_pieces(*texts))


def test_text_in_pieces_becomes_segments_as_they_are_complete() -> None:
    async def main() -> None:
        seen: list[list[str]] = []

        async def slowly(request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
            for text in ("The fee is ", "two lakh rupees", " a year. The hos", "tel is extra", "."):
                yield TextDelta(text)
                seen.append(list(trial.lips.said))
            yield ReplyEnd(sources=("fees",), ends_call=True)
            seen.append(["nothing comes after the end"])

        trial = Trial(Answers(slowly))
        await asyncio.sleep(1)
        assert trial.lips.said == ["The fee is two lakh rupees a year.", "The hostel is extra."]
        assert seen[1] == []
        assert seen[2] == ["The fee is two lakh rupees a year."], "it does not wait for the end"
        assert trial.lips.end == ev.ReplyGenerated(3, 2, 2, True, ("fees",))
        assert trial.facts == [ev.ReplyBegun(3, 2, "answers")]

    run(main())


def test_text_that_ends_without_an_end_is_complete() -> None:
    async def main() -> None:
        async def bare(request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
            yield TextDelta("Two lakh")

        trial = Trial(Answers(bare))
        await asyncio.sleep(1)
        assert trial.lips.said == ["Two lakh"]
        assert trial.lips.end == ev.ReplyGenerated(3, 2, 1)

    run(main())


@pytest.mark.parametrize("texts", [(), ("",), ("  ", "\n"), ("**", "---", "🎉")])
def test_nothing_to_say_is_complete_with_no_segment(texts: tuple[str, ...]) -> None:
    async def main() -> None:
        trial = Trial(saying(*texts))
        await asyncio.sleep(1)
        assert trial.lips.said == []
        assert trial.lips.end == ev.ReplyGenerated(3, 2, 0)

    run(main())


def test_markup_is_not_spoken() -> None:
    async def main() -> None:
        trial = Trial(saying("## **Fees**\n\nThe fee is `two lakh`. [Apply](http://x.in)."))
        await asyncio.sleep(1)
        assert " ".join(trial.lips.said) == "Fees The fee is two lakh. Apply."

    run(main())


def test_blank_text_does_not_begin_a_reply() -> None:
    async def main() -> None:
        async def thinking(request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
            yield TextDelta(" \n")
            await asyncio.sleep(1)
            yield TextDelta("Now.")

        trial = Trial(Answers(thinking))
        await asyncio.sleep(0.5)
        assert trial.facts == []
        await asyncio.sleep(1)
        assert trial.facts.names == ["ReplyBegun"]

    run(main())


def test_a_reply_without_end_is_cut() -> None:
    async def main() -> None:
        async def endless(request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
            while True:
                yield TextDelta("And another thing has to be said. ")

        trial = Trial(Answers(endless))
        await asyncio.sleep(1)
        assert trial.lips.end is not None
        assert MAX_REPLY_CHARS - 100 <= sum(len(text) + 1 for text in trial.lips.said) <= MAX_REPLY_CHARS + 40

    run(main())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProviderError("down", code="llm.down"), "llm.down"),
        (ConfigError("no model", code="llm.no_model"), "llm.no_model"),
        (KeyError("choices"), "llm.raised"),
        (RuntimeError(), "llm.raised"),
    ],
)
@pytest.mark.parametrize("after", [0, 1])
def test_whatever_a_responder_raises_is_its_failure(error: Exception, code: str, after: int) -> None:
    async def main() -> None:
        async def breaks(request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
            for _ in range(after):
                yield TextDelta("The fee is two lakh. And ")
            raise error

        trial = Trial(Answers(breaks))
        await asyncio.sleep(1)
        assert trial.facts[-1] == ev.StageFailed(3, 2, "llm", code, "answers")
        assert trial.lips.end is None
        assert trial.lips.said == ["The fee is two lakh."] * after, "what was whole was said already"

    run(main())


def test_cancelling_closes_the_request_at_the_provider() -> None:
    async def main() -> None:
        closed: list[str] = []

        async def open_end(request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
            try:
                yield TextDelta("The fee is two lakh. ")
                await asyncio.sleep(10_000)
            finally:
                closed.append("closed")

        trial = Trial(Answers(open_end))
        await asyncio.sleep(1)
        trial.attempt.cancel()
        await asyncio.sleep(0.1)
        assert closed == ["closed"]
        assert trial.source.released == 1
        assert trial.facts.of(ev.StageFailed) == []
        assert trial.lips.end is None

    run(main())


@pytest.mark.parametrize("after_s", [0.0, 1.0])
def test_what_was_begun_ahead_is_released_however_early_the_attempt_ends(after_s: float) -> None:
    """A task that is cancelled before its first step never runs."""

    async def main() -> None:
        trial = Trial(saying("Fine."))
        if after_s:
            await asyncio.sleep(after_s)
        trial.attempt.cancel()
        await asyncio.sleep(0.1)
        assert trial.source.released == 1

    run(main())


# -- acts -----------------------------------------------------------------------------------------


async def acts(act: Act, *calls: tuple[str, str]) -> list[str]:
    return [await act(name, "write", arguments) for name, arguments in calls]


def test_an_act_has_the_same_key_whenever_the_turn_asks_for_it() -> None:
    async def main() -> None:
        results: list[str] = []

        async def booking(request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
            results.extend(await acts(act, ("book", '{"seat":4}'), ("book", '{"seat":4}'), ("book", '{"seat":5}')))
            yield TextDelta("Booked.")

        trial = Trial(Answers(booking))
        await asyncio.sleep(1)
        assert results == ["seat 4"] * 3
        assert len(trial.booked) == 2, "the same act once, another one once"
        assert all(key.startswith("s1:3:book:") for key in trial.booked)
        first = list(trial.booked)
        again = Trial(Answers(booking))
        await asyncio.sleep(1)
        assert again.booked == first, "a later attempt, another process: the same key"

    run(main())


def test_an_act_that_fails_may_be_talked_about() -> None:
    async def main() -> None:
        async def booking(request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
            try:
                await act("unknown", "write", "{}")
            except ProviderError as error:
                yield TextDelta(f"That failed: {error.code}.")

        trial = Trial(Answers(booking))
        await asyncio.sleep(1)
        assert trial.lips.said == ["That failed: effect.unknown."]

    run(main())


def test_an_act_that_fails_and_is_not_caught_is_the_attempts_failure() -> None:
    async def main() -> None:
        async def booking(request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
            await act("unknown", "write", "{}")
            yield TextDelta("never")

        trial = Trial(Answers(booking))
        await asyncio.sleep(1)
        assert trial.facts[-1] == ev.StageFailed(3, 2, "llm", "effect.unknown", "answers")

    run(main())
