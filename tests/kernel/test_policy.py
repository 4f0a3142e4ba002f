"""The policy: bounds, what must fit together, and its place in the journal."""

from __future__ import annotations

import msgspec
import pytest

from antiphon.kernel.policy import Policy, decode_policy, encode_policy

NUMBERS = [name for name, value in msgspec.structs.asdict(Policy()).items() if type(value) is int]


def test_a_policy_survives_its_encoding() -> None:
    policy = Policy(endpoint_ms=1, transfer_target="+91", backchannels={"hi-IN": ("हाँ",)}, unfinished={"x": ()})
    assert decode_policy(encode_policy(policy)) == policy
    assert encode_policy(decode_policy(encode_policy(policy))) == encode_policy(policy)


def test_an_older_policy_gets_the_defaults_of_what_is_new() -> None:
    assert decode_policy(msgspec.msgpack.encode({"endpoint_ms": 77, "forgotten_setting": 1})) == Policy(endpoint_ms=77)


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_negative(name: str) -> None:
    with pytest.raises(ValueError, match=f"policy.{name} must not be negative"):
        Policy(**{name: -1})


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"filler_ms": 4_000, "reply_ms": 4_000}, "filler_ms must be less than policy.reply_ms"),
        ({"interrupt_ms": 1_501}, "interrupt_ms must not exceed"),
        ({"chars_per_second": 0}, "chars_per_second must be within 1..40"),
        ({"chars_per_second": 41}, "chars_per_second must be within 1..40"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(settings: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Policy(**settings)  # type: ignore[arg-type]


def test_what_callers_hear_as_silence_is_short_by_default() -> None:
    """About a second: the longest pause that people take for thinking and not for a broken line."""
    policy = Policy()
    for wait in (policy.endpoint_unfinished_ms, policy.filler_ms, policy.interrupt_ms):
        assert wait <= 1_000
    assert policy.ttl_ms == 3_600_000, "B21"
    assert policy.history_turns == 10, "A32"
