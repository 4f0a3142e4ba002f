"""What Redis took and lost again is sent once more, for as long as it may have held it back."""

import pytest
from store_faults import batch, entries

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
def test_a_batch_is_made_whole_from_any_entry_on(recent: Recent, last: int) -> None:
    for first, count in ((1, 4), (5, 1), (6, 4)):
        recent.took(batch(first, count))
    whole = recent.whole(batch(10, 2), last)
    assert whole is not None
    assert (whole.session, whole.epoch, whole.expected_seq) == ("a", 1, last)
    assert whole.entries == entries(last + 1, 11 - last)


def test_what_is_too_old_is_not_known(recent: Recent, clock: Clock) -> None:
    recent.took(batch(1, 2))
    clock.now = 2.0
    recent.took(batch(3, 2))
    clock.now = 4.0
    recent.took(batch(5, 1))
    assert recent.whole(batch(6, 1), 1) is None
    assert recent.whole(batch(6, 1), 2) is not None


def test_other_sessions_and_holes_are_none_of_it(recent: Recent) -> None:
    recent.took(batch(1, 2, session="b"))
    assert recent.whole(batch(3, 1), 0) is None
    recent.took(batch(1, 1))
    recent.took(batch(3, 1))
    assert recent.whole(batch(4, 1), 0) is None


def test_a_lost_claim_is_the_newest_one_under_which_is_written(recent: Recent, clock: Clock) -> None:
    recent.claimed("a", 2)
    assert recent.had_claimed(batch(1, 1, epoch=2), 1)
    assert not recent.had_claimed(batch(1, 1, epoch=2), 2), "held by somebody else under the same number"
    assert not recent.had_claimed(batch(1, 1, epoch=2), 0), "more than this claim is gone"
    assert not recent.had_claimed(batch(1, 1, epoch=1), 0), "claimed anew since"
    assert not recent.had_claimed(batch(1, 1, session="b"), 0)
    clock.now = 3.5
    recent.tidy()
    assert not recent.had_claimed(batch(1, 1, epoch=2), 1)


def test_nothing_is_kept_of_sessions_that_fell_silent(recent: Recent, clock: Clock) -> None:
    for number in range(100):
        recent.claimed(f"s{number}", 1)
        recent.took(batch(1, 5, session=f"s{number}"))
    clock.now = 2.0
    recent.took(batch(6, 1, session="s7"))
    clock.now = 4.0
    recent.tidy()
    assert set(recent._batches) == {"s7"}
    assert not recent._claims
