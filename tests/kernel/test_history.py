"""History is what was heard: cutting a reply, whole words, order, the window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.kernel.history import Message, Segment, add, heard_text, played_text, whole_words


def said(*parts: tuple[str, str]) -> list[Segment]:
    return [Segment(number, text, status=status) for number, (text, status) in enumerate(parts)]


THREE = said(("One two.", "played"), ("Three four five.", "started"), ("Six.", "ready"))


@pytest.mark.parametrize(
    ("stopped_in", "chars", "heard"),
    [
        (-1, 0, ""),
        (0, 3, "One"),
        (0, 100, "One two."),
        (1, 0, "One two."),
        (1, 10, "One two. Three four"),
        (1, 8, "One two. Three"),  # in the middle of "four"
        (1, 16, "One two. Three four five."),
        (2, 0, "One two. Three four five."),
    ],
)
def test_a_reply_is_cut_at_the_last_word_heard(stopped_in: int, chars: int, heard: str) -> None:
    assert heard_text(THREE, stopped_in, chars) == heard


def test_a_filler_stands_where_it_was_played_not_where_it_was_decided() -> None:
    order_of_play = [
        Segment(1, "One moment.", "filler", "played"),
        Segment(0, "The fee is two lakh.", status="started"),
    ]
    assert heard_text(order_of_play, 0, 7) == "One moment. The fee"


def test_what_was_never_begun_is_not_heard_though_it_stands_before() -> None:
    assert heard_text(said(("Lost.", "ready"), ("Heard.", "started")), 1, 6) == "Heard."


@pytest.mark.parametrize(
    ("text", "chars", "head"),
    [
        ("what are the fees", 8, "what are"),
        ("what are the fees", 7, "what"),
        ("what are the fees", 9, "what are"),
        ("what are the fees", 0, ""),
        ("what are the fees", -5, ""),
        ("what are the fees", 99, "what are the fees"),
        ("fees", 2, ""),
        ("one\ntwo", 5, "one"),
        ("", 3, ""),
        ("फीस कितनी है", 5, "फीस"),
    ],
)
def test_a_word_that_was_broken_off_was_not_heard(text: str, chars: int, head: str) -> None:
    assert whole_words(text, chars) == head


@given(st.text(alphabet="ab \n", max_size=30), st.integers(-2, 40))
def test_whole_words_are_words_of_the_text_in_order(text: str, chars: int) -> None:
    head = whole_words(text, chars)
    assert head.split() == text.split()[: len(head.split())]
    assert text.lstrip().startswith(head) or not head
    assert len(head) <= max(chars, 0)


def test_played_is_only_what_was_played_to_the_end() -> None:
    assert played_text(THREE) == "One two."


def test_history_is_kept_in_the_order_of_turns() -> None:
    history: list[Message] = []
    for role, turn in (("assistant", 1), ("user", 2), ("user", 3), ("assistant", 2), ("assistant", 3)):
        add(history, Message(role, f"{role} {turn}", turn=turn), 10)
    assert [m.content for m in history] == ["assistant 1", "user 2", "assistant 2", "user 3", "assistant 3"]


@pytest.mark.parametrize(("turns", "kept"), [(1, [5]), (2, [4, 5]), (10, [1, 2, 3, 4, 5]), (0, [5])])
def test_only_so_many_turns_are_remembered(turns: int, kept: list[int]) -> None:
    history: list[Message] = []
    for turn in range(1, 6):
        for role in ("user", "assistant"):
            add(history, Message(role, "x", turn=turn), turns)
    assert sorted({message.turn for message in history}) == kept


def test_a_late_report_of_a_forgotten_turn_does_not_come_back() -> None:
    history = [Message("user", "new", turn=8), Message("user", "newer", turn=9)]
    add(history, Message("assistant", "old", turn=2), 2)
    assert [message.turn for message in history] == [8, 9]
