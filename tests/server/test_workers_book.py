"""The book that workers share: each rule holds as in one process, and over two of them."""

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from antiphon.errors import TooManyAttempts
from antiphon.server import workers_book
from antiphon.server.attempts import AttemptLimits, Attempts
from antiphon.server.workers_book import SharedBook, SharedDebts, SharedPlaces, SharedTokens
from antiphon.server.workers_pages import SharedShelf
from antiphon.transports.twilio_calls import Answer

Books = tuple[SharedBook, SharedBook]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    workers_book.make(tmp_path / workers_book.BOOK)
    return tmp_path / workers_book.BOOK


@pytest.fixture
def books(path: Path) -> Iterator[Books]:
    both = SharedBook(path, 1), SharedBook(path, 2)
    yield both
    for book in both:
        book.close()


def test_only_its_owner_may_read_the_book(path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0


def test_places_are_counted_over_all_workers_and_by_call(books: Books) -> None:
    one, other = (SharedPlaces(book, 2) for book in books)
    taken: list[tuple[str, int]] = []
    other.on_taken = lambda call, worker: taken.append((call, worker))
    assert one.take("a")
    assert one.take("b")
    assert not other.take("c")
    assert not other.has_room("c")
    assert other.take("a"), "a newer line of a call needs no place"
    assert taken == [("a", 1)]
    assert one.holder("a") == 2
    one.give("a")
    assert other.taken() == 2, "it is not the first one's to give any more"
    other.give("a")
    assert one.has_room("c")
    assert one.holder("a") == 0


def test_a_worker_that_is_gone_holds_no_place(books: Books, path: Path) -> None:
    one, other = (SharedPlaces(book, 2) for book in books)
    assert one.take("a")
    assert other.take("b")
    workers_book.left(path, 1)
    assert other.taken() == 1
    assert other.take("c")
    assert not one.take("d")


def test_a_call_that_waits_keeps_its_row_and_takes_no_place(books: Books) -> None:
    one, other = (SharedPlaces(book, 1) for book in books)
    taken: list[tuple[str, int]] = []
    other.on_taken = lambda call, worker: taken.append((call, worker))
    assert one.take("a")
    one.wait("a")
    assert (one.taken(), other.holder("a")) == (0, 1)
    assert other.take("b")
    assert not other.has_room("a")
    assert not other.take("a"), "to come back it needs one"
    assert taken == []
    other.give("b")
    assert other.take("a")
    assert taken == [("a", 1)]
    one.wait("a")
    one.give("a")
    assert (other.taken(), one.holder("a")) == (1, 2), "it is not the first one's any more"
    other.wait("a")
    other.give("a")
    assert one.holder("a") == 0


class Locked:
    """Somebody holds the book's lock, and will not let go."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._db.execute("ROLLBACK")
        self._db.close()


@pytest.fixture
def impatient(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SharedBook, list[float]]]:
    """Worker 1's book, which waits for nobody, and its clock."""
    monkeypatch.setattr(workers_book, "BUSY_S", 0.0)
    now = [100.0]
    book = SharedBook(path, 1, clock=lambda: now[0])
    yield book, now
    book.close()


def test_a_place_given_up_while_the_book_failed_is_free_as_soon_as_it_answers(
    path: Path, books: Books, impatient: tuple[SharedBook, list[float]]
) -> None:
    book, now = impatient
    one, other = SharedPlaces(book, 2), SharedPlaces(books[1], 2)
    assert one.take("a")
    assert one.take("b")
    with Locked(path):
        one.give("a")
        one.give("b")
    assert other.take("b"), "it goes on there"
    assert not other.has_room("c"), "nobody could say so yet"
    now[0] += workers_book.AWAY_S
    assert one.taken() == 1
    assert other.has_room("c")
    with Locked(path):
        assert one.take("d")
        one.wait("d")
        assert one.take("d"), "back before the book knew that it waited"
    now[0] += workers_book.AWAY_S
    assert one.taken() == 2
    assert not other.has_room("e"), "one that was taken without the book counts as soon as it answers"


def test_a_call_taken_while_the_book_failed_is_told_to_who_waited_for_it_and_stolen_from_nobody(
    path: Path, books: Books, impatient: tuple[SharedBook, list[float]]
) -> None:
    book, now = impatient
    one, other = SharedPlaces(book, 5), SharedPlaces(books[1], 5)
    taken: list[tuple[str, int]] = []
    one.on_taken = lambda call, worker: taken.append((call, worker))
    for call in ("waits", "live"):
        assert other.take(call)
    other.wait("waits")
    with Locked(path):
        assert one.take("waits")
        assert one.take("live")
        assert (one.holder("waits"), one.holder("strange")) == (1, 0)
    now[0] += workers_book.AWAY_S
    assert one.taken() == 2
    assert (other.holder("waits"), other.holder("live")) == (1, 2)
    assert taken == [("waits", 2)]


def test_a_book_that_failed_is_not_asked_for_a_while(
    path: Path, impatient: tuple[SharedBook, list[float]], caplog: pytest.LogCaptureFixture
) -> None:
    book, now = impatient
    asked: list[float] = []

    def question() -> str:
        asked.append(now[0])
        with book.change():
            return "all"

    with Locked(path):
        assert book.ask(question, lambda: "alone") == "alone"
    assert book.ask(question, lambda: "alone") == "alone"
    now[0] += workers_book.AWAY_S
    assert book.ask(question, lambda: "alone") == "all"
    assert asked == [100.0, 100.0 + workers_book.AWAY_S]
    assert caplog.text.count("goes by its own") == 1


def test_what_was_noted_while_the_book_failed_is_in_it_as_soon_as_it_answers(
    path: Path, books: Books, impatient: tuple[SharedBook, list[float]]
) -> None:
    book, now = impatient
    one, other = SharedShelf(book), SharedShelf(books[1])
    with other.change("a", 0.0) as page:
        page.language, page.reconnects, page.answers["first"] = "te-IN", 2, Answer(0.0, "x")
    with Locked(path):
        for call in ("a", "new"):
            with one.change(call, 1.0) as page:
                page.ended, page.asked, page.answers["second"] = "caller", 1, Answer(1.0, "y")
    for _ in range(2):
        for call in ("a", "new"):
            kept = one.read(call)
            assert kept is not None
            assert (kept.ended, kept.asked) == ("caller", 1), "known here at once, and still when all are asked"
        now[0] += workers_book.AWAY_S
    found, new = other.read("a"), other.read("new")
    assert found is not None
    assert new is not None
    assert (found.ended, found.language, found.reconnects, found.opened) == ("caller", "", 2, 0.0)
    assert list(found.answers) == ["first", "second"]
    assert (new.ended, new.opened) == ("caller", 1.0)


STAMPEDE = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from antiphon.server import workers_book
    from antiphon.server.workers_book import SharedBook, SharedPlaces

    workers_book.BUSY_S = 25.0  # on a busy machine as well: a worker that gives up waiting goes by its own count
    worker = int(sys.argv[2])
    places = SharedPlaces(SharedBook(Path(sys.argv[1]), worker), 50)
    print("ready", flush=True)
    sys.stdin.readline()
    print(sum(places.take(f"{worker} {number}") for number in range(300)), flush=True)
    """
)


def test_two_processes_fill_the_house_to_the_last_place_and_no_further(path: Path) -> None:
    rushing = [
        subprocess.Popen(
            [sys.executable, "-c", STAMPEDE, str(path), str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for worker in (1, 2)
    ]
    for each in rushing:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in rushing:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    assert sum(int(each.communicate(timeout=30)[0]) for each in rushing) == 50


def test_a_token_is_good_once_at_whichever_worker(books: Books) -> None:
    now = 100.0
    one, other = (SharedTokens(book, clock=lambda: now) for book in books)
    assert one("t", 30.0)
    assert not other("t", 30.0)
    assert not one("t", 30.0)
    assert other("u", 30.0)
    now += 31.5
    assert other("v", 30.0)
    assert books[0].look("SELECT count(*) FROM tokens") == (1,), "those that are over are forgotten"


def test_a_page_is_one_for_all_workers(books: Books) -> None:
    one, other = (SharedShelf(book, capacity=3, ttl_s=10.0) for book in books)
    with one.change("a", 0.0) as page:
        page.language = "te-IN"
    with other.change("a", 1.0) as page:
        assert page.language == "te-IN"
        page.reconnects += 1
    found = one.read("a")
    assert found is not None
    assert (found.language, found.reconnects, found.opened) == ("te-IN", 1, 0.0)
    assert one.read("b") is None
    for number in range(3):
        with one.change(f"c{number}", 2.0):
            pass
    assert other.read("a") is None, "the oldest beyond the capacity"
    with one.change("d", 12.5):
        pass
    assert len(other) == 1, "the others are older than they may be"


def test_a_change_that_fails_is_none(books: Books) -> None:
    one, other = (SharedShelf(book) for book in books)
    with one.change("a", 0.0) as page:
        page.ended = "caller"

    def fails() -> None:
        with one.change("a", 0.0) as page:
            page.ended = "other"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    found = other.read("a")
    assert found is not None
    assert found.ended == "caller"


def test_wrong_credentials_are_counted_over_all_workers(books: Books) -> None:
    now = 0.0
    limits = AttemptLimits(at_once=2, every_s=10, addresses=2)
    one, other = (Attempts(limits, lambda: now, SharedDebts(book)) for book in books)
    assert not one.failed("192.0.2.1")
    assert other.failed("192.0.2.1")
    for each in (one, other):
        with pytest.raises(TooManyAttempts):
            each.check("192.0.2.1")
        each.check("192.0.2.2")
    now = 10.5
    one.check("192.0.2.1")
    one.failed("192.0.2.2")
    other.failed("192.0.2.1")
    one.failed("192.0.2.3")
    assert len(other) == 2
    assert SharedDebts(books[0]).of("192.0.2.2") == 0.0, "who was wrong longest ago is forgiven"


def test_without_its_book_a_worker_goes_by_its_own(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    book = books[0]
    places, tokens, shelf, debts = SharedPlaces(book, 2), SharedTokens(book), SharedShelf(book), SharedDebts(book)
    assert places.take("before")
    book.close()
    tried: list[tuple[Callable[[], object], object]] = [
        (lambda: places.take("a"), True),
        (lambda: places.take("b"), False),
        (lambda: places.has_room("b"), False),
        (places.taken, 2),
        (lambda: places.holder("a"), 1),
        (lambda: places.holder("b"), 0),
        (lambda: tokens("t", 1.0), True),
        (lambda: tokens("t", 1.0), False),
        (lambda: debts.add("n", 1.0, 2.0, 10), 3.0),
        (lambda: debts.of("n"), 3.0),
        (lambda: len(debts), 1),
    ]
    for ask, answer in tried:
        assert ask() == answer
    places.give("a")
    assert places.taken() == 1
    with shelf.change("a", 0.0) as page:
        page.ended = "caller"
    found = shelf.read("a")
    assert found is not None
    assert found.ended == "caller"
    assert len(shelf) == 1
    assert "goes by its own" in caplog.text
