"""Messages in pieces (RFC 6455, section 5.4): whole again, in order, and never more than the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import FrameTooLarge, PeerError
from antiphon.server.fragments import Fragments


def put(fragments: Fragments, payload: bytes, *, first: bool = False, fin: bool = False) -> tuple[bool, bytes] | None:
    return fragments.add(payload, text=first, continues=not first, fin=fin)


@given(st.lists(st.binary(min_size=16, max_size=60), min_size=2, max_size=20))
def test_a_message_is_whole_with_its_last_piece(pieces: list[bytes]) -> None:
    fragments = Fragments(1200)
    for again in range(2):
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            whole = put(fragments, piece, first=number == 0, fin=last)
            assert whole == ((True, b"".join(pieces)) if last else None), again
            assert fragments.begun is not last


def test_its_kind_is_that_of_its_first_piece() -> None:
    fragments = Fragments(100)
    assert fragments.add(b"\x00", text=False, continues=False, fin=False) is None
    assert fragments.add(b"\xff", text=False, continues=True, fin=True) == (False, b"\x00\xff")


@pytest.mark.parametrize(("sizes", "fits"), [((40, 60), True), ((40, 61), False), ((101,), False)])
def test_the_limit_is_of_the_whole(sizes: tuple[int, ...], fits: bool) -> None:
    fragments = Fragments(100)

    def feed() -> None:
        for number, size in enumerate(sizes):
            put(fragments, bytes(size), first=number == 0)

    if fits:
        feed()
    else:
        with pytest.raises(FrameTooLarge) as caught:
            feed()
        assert caught.value.code == "peer.frame_too_large"


def test_pieces_of_nothing_are_bounded_too() -> None:
    fragments = Fragments(65_536)
    put(fragments, b"", first=True)
    for _ in range(4095):
        put(fragments, b"")
    with pytest.raises(FrameTooLarge):
        put(fragments, b"")


def test_a_piece_out_of_place() -> None:
    with pytest.raises(PeerError, match="out of place") as caught:
        put(Fragments(100), b"x")
    assert caught.value.code == "frame.fragmentation"
    fragments = Fragments(100)
    put(fragments, b"x", first=True)
    with pytest.raises(PeerError, match="out of place"):
        put(fragments, b"y", first=True)
