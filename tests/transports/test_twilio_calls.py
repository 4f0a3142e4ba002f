"""The call book on a shelf that two processes share: one answer, whichever is asked."""

import asyncio

import pytest

from antiphon.errors import NotAllowed
from antiphon.sim.clock import run
from antiphon.transports.twilio_calls import ELSEWHERE_S, CallBook, LocalShelf


def pair() -> tuple[CallBook, CallBook]:
    shelf, clock = LocalShelf(), asyncio.get_running_loop().time
    return CallBook(shelf=shelf, clock=clock), CallBook(shelf=shelf, clock=clock)


def test_what_one_notes_the_other_knows() -> None:
    async def main() -> None:
        one, other = pair()
        one.note_language("a", "te-IN")
        assert other.language("a") == "te-IN"
        other.note_ended("a", "caller")
        assert (one.ended("a"), one.language("a")) == ("caller", "")
        assert (one.count_reconnect("a"), other.count_reconnect("a")) == (1, 2)
        one.note_asked("b")
        assert (other.asked("b"), other.asked("c"), len(one)) == (1, 0, 2)

    run(main())


def test_a_webhook_that_is_repeated_at_another_process_gets_the_answer_of_the_first() -> None:
    async def main() -> None:
        one, other = pair()
        asked = 0

        async def answer() -> str:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0.3)
            return f"answer {asked}"

        first = asyncio.ensure_future(one.answer_once("a", "hook", answer, within_s=30))
        await asyncio.sleep(0.1)
        assert await other.answer_once("a", "hook", answer, within_s=30) == "answer 1"
        assert await first == "answer 1"
        assert await other.answer_once("a", "hook", answer, within_s=30) == "answer 1"
        assert await other.answer_once("a", "another", answer, within_s=30) == "answer 2"
        await asyncio.sleep(31)
        with pytest.raises(NotAllowed, match=r"auth\.replayed"):
            await other.answer_once("a", "hook", answer, within_s=30)

    run(main())


def test_one_whose_process_died_over_the_answer_gets_it_from_the_other() -> None:
    async def main() -> None:
        one, other = pair()

        async def never() -> str:
            await asyncio.Event().wait()
            return ""

        async def answer() -> str:
            return "mine"

        dead = asyncio.ensure_future(one.answer_once("a", "hook", never))
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        assert await other.answer_once("a", "hook", answer) == "mine"
        assert ELSEWHERE_S <= asyncio.get_running_loop().time() - began < ELSEWHERE_S + 0.1
        dead.cancel()

    run(main())


def test_a_refusal_is_no_answer_and_is_judged_anew() -> None:
    async def main() -> None:
        one, other = pair()
        asked = 0

        async def refuse() -> str:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0.1)
            raise NotAllowed("no", code="auth.replayed")

        first = asyncio.ensure_future(one.answer_once("a", "hook", refuse))
        await asyncio.sleep(0.05)
        with pytest.raises(NotAllowed):
            await other.answer_once("a", "hook", refuse)
        with pytest.raises(NotAllowed):
            await first
        assert asked == 2

    run(main())
