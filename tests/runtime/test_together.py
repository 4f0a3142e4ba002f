"""Pieces of sound taken together: nothing is lost, nothing is kept waiting, and what goes wrong is told."""

from __future__ import annotations

import asyncio

import pytest

from antiphon.runtime.ports import Sound, WordMark
from antiphon.runtime.together import Together
from antiphon.sim.clock import run

RATE = 8000


def piece(number: int) -> Sound:
    """A tenth of a second, and a word that begins in it."""
    return Sound(bytes([number]) * (RATE // 5), (WordMark(number, number * RATE // 10),))


def joined(*numbers: int) -> Sound:
    return Sound(b"".join(piece(number).pcm for number in numbers), tuple(piece(number).words[0] for number in numbers))


def test_what_comes_without_a_wait_is_one_piece_the_first_at_once() -> None:
    async def main() -> None:
        given: list[Sound] = []
        together = Together(given.append, RATE)
        together.take(piece(0), now=True)
        assert given == [piece(0)]
        for number in range(1, 5):
            together.take(piece(number), now=False)
        assert given == [piece(0)]
        together.end()
        assert given == [piece(0), joined(1, 2, 3, 4)]
        together.end()
        await asyncio.sleep(1)
        assert len(given) == 2

    run(main())


def test_who_waits_keeps_nobody_waiting() -> None:
    async def main() -> None:
        given: list[Sound] = []
        together = Together(given.append, RATE)
        together.take(piece(1), now=False)
        together.take(piece(2), now=False)
        await asyncio.sleep(0)
        assert given == [joined(1, 2)]
        together.take(piece(3), now=False)
        await asyncio.sleep(0)
        assert given[1:] == [piece(3)]
        together.end()
        assert len(given) == 2

    run(main())


def test_no_more_than_a_second_is_taken_together() -> None:
    async def main() -> None:
        given: list[Sound] = []
        together = Together(given.append, RATE)
        for number in range(25):
            together.take(piece(number), now=False)
        assert given == [joined(*range(10)), joined(*range(10, 20))]
        together.end()
        assert given[2:] == [joined(*range(20, 25))]

    run(main())


def test_what_is_wanted_at_once_takes_along_what_waits() -> None:
    async def main() -> None:
        given: list[Sound] = []
        together = Together(given.append, RATE)
        together.take(piece(1), now=False)
        together.take(piece(2), now=True)
        assert given == [joined(1, 2)]

    run(main())


@pytest.mark.parametrize("then", ["take", "end"])
def test_what_is_refused_meanwhile_is_told_to_whoever_reads(then: str) -> None:
    async def main() -> None:
        def full(sound: Sound) -> None:
            raise ValueError("full")

        together = Together(full, RATE)
        together.take(piece(1), now=False)
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="full"):
            together.end() if then == "end" else together.take(piece(2), now=False)
        together.end()

    run(main())
