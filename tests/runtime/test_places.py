"""Places of one process, and what a host tells of its calls to the places that several share."""

import asyncio
from pathlib import Path

from call_parts import House, Wire, start

from antiphon.kernel import events as ev
from antiphon.runtime.places import LocalPlaces
from antiphon.server import workers_book
from antiphon.sim.clock import run


def test_a_call_takes_one_place_however_often_it_asks() -> None:
    places = LocalPlaces(2)
    assert places.take("a")
    assert places.take("a")
    assert places.taken() == 1
    assert places.take("b")
    assert not places.take("c")
    assert not places.has_room("c")
    assert places.has_room("a"), "it has one"
    places.give("a")
    places.give("a")
    assert places.taken() == 1
    assert places.take("c")


def test_a_call_that_waits_here_and_goes_on_elsewhere_is_held_here_no_more(tmp_path: Path) -> None:
    workers_book.make(tmp_path / workers_book.BOOK)

    async def main() -> None:
        here = House()
        there = House(here.journal)
        books = [workers_book.SharedBook(tmp_path / workers_book.BOOK, number) for number in (1, 2)]
        places = [workers_book.SharedPlaces(book, 2) for book in books]
        host, other_host = [await house.open(places=each) for house, each in zip((here, there), places, strict=True)]
        places[1].on_taken = lambda call, worker: host.lost(call) if worker == 1 else None
        line = host.connect(start(), Wire())
        await asyncio.sleep(2)
        line.on_dropped("line.lost")
        await asyncio.sleep(0.1)
        assert (host.held, host.active, places[1].taken()) == (1, 0, 0), "it waits, and takes nobody's place"
        line = other_host.connect(start(), Wire())
        assert (host.held, other_host.active, places[0].taken()) == (0, 1, 1)
        await asyncio.sleep(2)
        line.on_hangup("caller")
        await asyncio.sleep(7200)  # longer than any call is waited for
        stored = [entry.event for entry in await here.journal.read("call-1")]
        assert sum(isinstance(event, ev.CallerHungUp) for event in stored) == 1
        assert isinstance(here.facts[-1], ev.LineDropped), "the end is not told a second time here"
        assert places[0].holder("call-1") == 0
        await here.shut()
        await there.shut()
        for book in books:
            book.close()

    run(main())
