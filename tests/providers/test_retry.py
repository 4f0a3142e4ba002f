"""Asking again, in virtual time."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from virtual_loop import run

from antiphon.errors import ProviderError, ProviderRefused
from antiphon.providers.http import Patience, Waits
from antiphon.providers.retry import tried_again

Outcome = str | Exception


def failed(retryable: bool = True, retry_after_s: float | None = None) -> ProviderError:
    return ProviderError("no", stage="tts", code="tts.server", retryable=retryable, retry_after_s=retry_after_s)


async def tried(
    attempts: Sequence[Sequence[Outcome]], *, retries: int = 2, first_s: float = 10.0
) -> tuple[str, int, float]:
    """What came, how many attempts were made and closed, and after how many seconds."""
    loop = asyncio.get_running_loop()
    began, made, ended = loop.time(), 0, 0

    async def attempt() -> AsyncGenerator[str, None]:
        nonlocal made, ended
        made += 1
        try:
            for each in attempts[made - 1]:
                if isinstance(each, Exception):
                    raise each
                yield each
        finally:
            ended += 1

    patience = Patience(Waits(first_s=first_s, between_s=10.0, total_s=10.0), "p", "tts")
    text = ""
    try:
        async for part in tried_again(attempt, retries=retries, patience=patience, stage="tts"):
            text += part
    except ProviderError as error:
        text += f"!{error.code}"
    assert made == ended
    return text, made, loop.time() - began


@pytest.mark.parametrize(
    ("attempts", "text", "made"),
    [
        ([["a", "b"]], "ab", 1),
        ([[failed()], ["a"]], "a", 2),
        ([[failed()], [], ["never"]], "", 2),
        ([[failed()]] * 3, "!tts.server", 3),
        ([["a", failed()], ["b"]], "a!tts.server", 1),
        ([[failed(retryable=False)], ["b"]], "!tts.server", 1),
        ([[ProviderRefused("no", code="tts.quota")], ["b"]], "!tts.quota", 1),
        ([[failed(retry_after_s=30.0)], ["b"]], "!tts.server", 1),
    ],
)
def test_only_what_gave_nothing_and_may_succeed_is_asked_again(
    attempts: list[list[Outcome]], text: str, made: int
) -> None:
    assert run(tried(attempts))[:2] == (text, made)


def test_pauses_grow_and_a_wait_that_is_asked_for_is_kept_to() -> None:
    _, _, seconds = run(tried([[failed()]] * 3))
    assert 0.75 * 0.3 <= seconds <= 1.25 * 0.3
    assert run(tried([[failed(retry_after_s=2.0)], ["a"]])) == ("a", 2, pytest.approx(2.0))


def test_a_pause_is_taken_from_the_patience() -> None:
    assert run(tried([[failed(retry_after_s=2.0)]] * 3, first_s=3.0)) == ("!tts.server", 2, pytest.approx(2.0))
