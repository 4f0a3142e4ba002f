"""What Redis took and lost again is sent once more, for as long as it may have held it back."""

import pytest
from store_faults import batch

from antiphon.stores.redis_recent import Recent


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recent(clock: Clock) -> Recent:
    return Recent(3.0, clock)


@pytest.mark.parametrize("last", [0, 1, 4, 5, 7, 9])
def test_a_batch_is_made_whole_down_to_the_oldest_that_is_known(recent: Recent, last: int) -> None:
    """Not only from ``last`` on: the store is to see whether what it has is the same."""
    for first, count in ((1, 4), (5, 1), (6, 4)):
        recent.took(batch(first, count))
    whole = recent.whole(batch(10, 2), last)
    assert whole == batch(1, 11)


def test_what_is_older_than_the_last_acknowledgement_by_much_is_not_known(recent: Recent, clock: Clock) -> None:
    recent.took(batch(1, 2))
    clock.now = 2.0
    recent.took(batch(3, 2))
    clock.now = 4.0
    recent.took(batch(5, 1))
    assert recent.whole(batch(6, 1), 1) is None
    assert recent.whole(batch(6, 1), 2) == batch(3, 4)


def test_nothing_grows_old_while_the_server_is_away(recent: Recent, clock: Clock) -> None:
    recent.claimed("a")
    recent.took(batch(1, 5))
    clock.now = 600.0
    recent.tidy()
    assert recent.is_new(batch(6, 1))
    assert recent.whole(batch(6, 1), 0) == batch(1, 6)


def test_other_sessions_and_holes_are_none_of_it(recent: Recent) -> None:
    recent.took(batch(1, 2, session="b"))
    assert recent.whole(batch(3, 1), 0) is None
    recent.took(batch(1, 1))
    recent.took(batch(3, 1))
    assert recent.whole(batch(4, 1), 0) is None


def test_what_the_store_is_ahead_by_is_not_jumped_over(recent: Recent) -> None:
    """Somebody else has written there: the store compares, and refuses."""
    recent.took(batch(4, 2))
    assert recent.whole(batch(6, 1), 7) == batch(4, 3)


def test_a_session_is_new_while_it_is_its_first_owners_and_not_long_ago(recent: Recent, clock: Clock) -> None:
    assert not recent.is_new(batch(1, 1))
    recent.claimed("a")
    assert recent.is_new(batch(1, 1))
    assert not recent.is_new(batch(1, 1, epoch=2)), "taken over: the claim that is lost may be another's"
    clock.now = 100.0
    recent.took(batch(1, 1, session="b"))
    assert not recent.is_new(batch(1, 1)), "it is on disk, and has expired"


def test_nothing_is_kept_of_sessions_that_fell_silent(recent: Recent, clock: Clock) -> None:
    for number in range(100):
        recent.claimed(f"s{number}")
        recent.took(batch(1, 5, session=f"s{number}"))
    clock.now = 61.0
    recent.took(batch(6, 1, session="s7"))
    recent.tidy()
    assert set(recent._batches) == {"s7"}
    assert not recent._claims
