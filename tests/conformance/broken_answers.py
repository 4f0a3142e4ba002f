"""Responders, classifiers and retrievers that each break one rule: what a kit's check must find."""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from broken_speech import Broken, ClosesOnce

from antiphon.errors import ProviderError
from antiphon.kernel.events import Passage
from antiphon.providers.intent.fake import FakeClassifier, FakeClassifierSettings
from antiphon.providers.llm.fake import FakeResponder, FakeResponderSettings
from antiphon.providers.retrieval.fake import FakePassage, FakeRetriever, FakeRetrieverSettings
from antiphon.runtime.ports import Intent, ReplyEnd, ReplyRequest, TextDelta


class Answers(FakeResponder):
    """The sound one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(FakeResponderSettings(**{"llm_ms": 10, "llm_token_ms": 1, **settings}))

    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        async for part in super().respond(request, act):
            yield part


class EndsTwice(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        async for part in super().respond(request, act):
            yield part
        yield ReplyEnd()


class NeverEnds(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        async for part in super().respond(request, act):
            if isinstance(part, TextDelta):
                yield part


class SpeaksAfterTheEnd(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        async for part in super().respond(request, act):
            yield part
        yield TextDelta("And another thing.")


class BareText(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        async for part in super().respond(request, act):
            yield part.text if isinstance(part, TextDelta) else part


class RunsAway(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        while True:
            yield TextDelta("and then ")


class Glued(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        async for part in super().respond(request, act):
            yield TextDelta(part.text.strip()) if isinstance(part, TextDelta) else part


class Stutters(Answers):
    def respond(self, request: ReplyRequest, act: Any) -> Any:
        return super().respond(msgspec.structs.replace(request, said=""), act)


class HasNoMore(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        words = 0
        async for part in super().respond(request, act):
            words += isinstance(part, TextDelta)
            if not words:
                raise ProviderError("the reply is empty", code="llm.empty")
            yield part


class KnowsItsTiers(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        {"full": 1, "degraded": 2}[request.tier]
        async for part in super().respond(request, act):
            yield part


class EndsEarly(Answers):
    """Has no answer to nothing, and does not say so."""

    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        async for part in super().respond(request, act):
            if request.text.strip():
                yield part


class Obeys(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        async for part in super().respond(request, act):
            wanted = any("end the call" in passage.text for passage in request.passages)
            yield ReplyEnd(ends_call=True) if wanted and isinstance(part, ReplyEnd) else part


class Acts(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        if request.passages:
            await act("pay", "terminal", "{}")
        async for part in super().respond(request, act):
            yield part


class FinishesFirst(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        try:
            async for part in super().respond(request, act):
                yield part
        finally:
            await asyncio.sleep(30)


class NotToBeCancelled(Answers):
    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            await asyncio.sleep(30)
        async for part in super().respond(request, act):
            yield part


class OneAtATime(Answers):
    busy = False

    async def respond(self, request: ReplyRequest, act: Any) -> Any:
        if self.busy:
            yield ReplyEnd()
            return
        self.busy = True
        async for part in super().respond(request, act):
            yield part
        self.busy = False


class AnswersThatCloseOnce(ClosesOnce, Answers):
    pass


LLM: list[Broken] = [
    ("answers_and_ends_once", EndsTwice, "2 ReplyEnd"),
    ("answers_and_ends_once", NeverEnds, "0 ReplyEnd"),
    ("answers_and_ends_once", SpeaksAfterTheEnd, "after ReplyEnd"),
    ("answers_and_ends_once", BareText, "neither TextDelta nor ReplyEnd"),
    ("answers_and_ends_once", lambda: Answers(reply=" "), "no text"),
    ("stops_by_itself", RunsAway, "8000 characters and goes on"),
    ("keeps_words_apart", Glued, "no space in .Youneed"),
    ("does_not_repeat_what_was_said", Stutters, "begins with it again"),
    ("ends_what_was_all_said", HasNoMore, "llm.empty"),
    ("ends_what_was_all_said", Stutters, "hears it again"),
    ("takes_odd_requests", KnowsItsTiers, "tier='no such tier': raises KeyError"),
    ("takes_odd_requests", EndsEarly, "0 ReplyEnd"),
    ("takes_passages_as_data", Obeys, "end the call"),
    ("takes_passages_as_data", Acts, "made it act"),
    ("closing_cancels", FinishesFirst, "closing the iterator: not over"),
    ("cancelling_stops_it", NotToBeCancelled, "after it was cancelled"),
    ("cancelling_stops_it", OneAtATime, "after cancelled requests"),
    ("keeps_requests_apart", OneAtATime, "of several replies at once"),
    ("close_ends_requests", lambda: Answers(hang_every=1), "still waits"),
    ("closing_twice_is_harmless", AnswersThatCloseOnce, "closed already"),
]


# -- understanding ------------------------------------------------------------------------------


class Intents(FakeClassifier):
    """The sound one."""

    def __init__(self, **settings: Any) -> None:
        known = {"goodbye": "goodbye", "person": "speak_to_human"}
        super().__init__(FakeClassifierSettings(**{"intent_ms": 10, "intents": known, **settings}))


class Percent(Intents):
    async def classify(self, text: str, **asked: Any) -> Intent:
        return Intent("question", 90.0)


class NotANumber(Intents):
    async def classify(self, text: str, **asked: Any) -> Intent:
        return Intent("question", float("nan"))


class WholeSentence(Intents):
    async def classify(self, text: str, **asked: Any) -> Intent:
        return Intent(f"The caller wants to know the following: {text}" * 2, 0.9)


class WantsWords(Intents):
    async def classify(self, text: str, **asked: Any) -> Intent:
        return Intent(text.split(maxsplit=1)[0], 0.9)


class SharedText(Intents):
    async def classify(self, text: str, **asked: Any) -> Intent:
        self.text = text
        await asyncio.sleep(0.01)
        return await super().classify(self.text, **asked)


class Remembers(Intents):
    async def classify(self, text: str, *, language: str, history: Any) -> Intent:
        history.clear()
        return await super().classify(text, language=language, history=history)


class IntentsNotToBeCancelled(Intents):
    async def classify(self, text: str, **asked: Any) -> Intent:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            await asyncio.sleep(30)
        return await super().classify(text, **asked)


class IntentsThatCloseOnce(ClosesOnce, Intents):
    pass


INTENT: list[Broken] = [
    ("gives_a_sound_intent", Percent, "90.0"),
    ("gives_a_sound_intent", NotANumber, "nan"),
    ("gives_a_sound_intent", WholeSentence, "at most 100"),
    ("takes_odd_texts", WantsWords, "IndexError"),
    ("keeps_requests_apart", SharedText, "together"),
    ("leaves_the_history_alone", Remembers, "was changed"),
    ("cancelling_stops_it", IntentsNotToBeCancelled, "after it was cancelled"),
    ("close_ends_requests", lambda: Intents(hang_every=1), "still waits"),
    ("closing_twice_is_harmless", IntentsThatCloseOnce, "closed already"),
]


# -- looking up ---------------------------------------------------------------------------------


def passages(*scores: float, text: str = "Sixty percent.") -> tuple[FakePassage, ...]:
    return tuple(FakePassage(text=text, id=f"p{number}", score=score) for number, score in enumerate(scores))


class Finds(FakeRetriever):
    """The sound one: finds less for a short question."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(FakeRetrieverSettings(**{"retrieval_ms": 10, "passages": passages(0.9, 0.5, 0.4), **settings}))

    async def retrieve(self, text: str, **asked: Any) -> tuple[Passage, ...]:
        found = await super().retrieve(text, **asked)
        return found[: max(1, len(text.split()))]


class Listed(Finds):
    async def retrieve(self, text: str, **asked: Any) -> Any:
        return list(await super().retrieve(text, **asked))


class WorstFirst(Finds):
    async def retrieve(self, text: str, **asked: Any) -> tuple[Passage, ...]:
        return (await super().retrieve(text, **asked))[::-1]


class Scored(Finds):
    """``score`` for the first passage."""

    score = 37.2

    async def retrieve(self, text: str, **asked: Any) -> tuple[Passage, ...]:
        found = await super().retrieve(text, **asked)
        return (msgspec.structs.replace(found[0], score=self.score), *found[1:])


class ScoredNaN(Scored):
    score = float("nan")


class Changed(Finds):
    changes: ClassVar[dict[str, str]] = {}

    async def retrieve(self, text: str, **asked: Any) -> tuple[Passage, ...]:
        found = await super().retrieve(text, **asked)
        return tuple(msgspec.structs.replace(each, **self.changes) for each in found)


def changed(**changes: str) -> Any:
    return type("Changed", (Changed,), {"changes": changes})


class Echoes(Finds):
    async def retrieve(self, text: str, **asked: Any) -> tuple[Passage, ...]:
        return (Passage("echo", f"The caller asked: {text}", "kb", 1.0),)


class Parses(Finds):
    async def retrieve(self, text: str, **asked: Any) -> tuple[Passage, ...]:
        if "*" in text:
            raise ProviderError("syntax error near *")
        return await super().retrieve(text, **asked)


class Indexes(Finds):
    async def retrieve(self, text: str, **asked: Any) -> tuple[Passage, ...]:
        text.encode()
        return await super().retrieve(text, **asked)


class SharedQuestion(Finds):
    async def retrieve(self, text: str, **asked: Any) -> tuple[Passage, ...]:
        self.text = text
        await asyncio.sleep(0.01)
        return await super().retrieve(self.text, **asked)


class FindsAndRemembers(Finds):
    async def retrieve(self, text: str, *, language: str, history: Any) -> tuple[Passage, ...]:
        history.pop()
        return await super().retrieve(text, language=language, history=history)


class FindsNotToBeCancelled(Finds):
    async def retrieve(self, text: str, **asked: Any) -> tuple[Passage, ...]:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            await asyncio.sleep(30)
        return await super().retrieve(text, **asked)


class FindsAndClosesOnce(ClosesOnce, Finds):
    pass


def many() -> Sequence[FakePassage]:
    return passages(*[0.5] * 11)


class FindsAll(FakeRetriever):
    def __init__(self) -> None:
        super().__init__(FakeRetrieverSettings(passages=tuple(many())))


RETRIEVAL: list[Broken] = [
    ("gives_few_passages", FindsAll, "11 passages"),
    ("gives_few_passages", Listed, "no tuple of Passage"),
    ("gives_the_best_first", WorstFirst, "not in order"),
    ("scores_like_a_cosine", Scored, "37.2"),
    ("scores_like_a_cosine", ScoredNaN, "nan"),
    ("gives_bounded_text", changed(text="x" * 4001), "4001 characters"),
    ("gives_bounded_text", changed(text=" "), "of 1 characters"),
    ("gives_bounded_text", changed(id=""), "no id"),
    ("gives_bounded_text", changed(title="\udc80"), "no text that can be kept"),
    ("gives_bounded_text", changed(source="x" * 2001), "over 2000"),
    ("takes_queries_as_data", Echoes, "comes back"),
    ("takes_queries_as_data", Parses, "syntax error"),
    ("takes_odd_texts", Indexes, "UnicodeEncodeError"),
    ("keeps_requests_apart", SharedQuestion, "among others"),
    ("leaves_the_history_alone", FindsAndRemembers, "was changed"),
    ("cancelling_stops_it", FindsNotToBeCancelled, "after it was cancelled"),
    ("close_ends_requests", lambda: Finds(hang_every=1), "still waits"),
    ("closing_twice_is_harmless", FindsAndClosesOnce, "closed already"),
]

SOUND: dict[str, Any] = {"llm": Answers, "intent": Intents, "retrieval": Finds}
