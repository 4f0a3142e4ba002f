"""The pages of the call book, in the book that the workers of one server share (``workers_book``)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from antiphon.server.workers_book import SharedBook
from antiphon.transports.twilio_calls import CAPACITY, EVENTS_PER_CALL, TTL_S, LocalShelf, Page

_SETTLED_AT_ONCE: Final = 50
"""Pages written after a failure in one go, each some 40 us."""


class SharedShelf:
    """Pages of the call book that every worker finds. Fits ``Shelf``.

    What is noted while the book fails stands on a shelf of this worker's own until it can be written into the book.
    """

    def __init__(self, book: SharedBook, capacity: int = CAPACITY, ttl_s: float = TTL_S) -> None:
        self._book = book
        self._capacity = capacity
        self._ttl_s = ttl_s
        self._alone = LocalShelf(capacity, ttl_s)

    def __len__(self) -> int:
        def count() -> int:
            found = self._book.look("SELECT count(*) FROM pages")
            return int(str(found[0])) if found else 0

        return self._book.ask(count, lambda: len(self._alone))

    def read(self, call_id: str) -> Page | None:
        def page() -> Page | None:
            found = self._book.look("SELECT data FROM pages WHERE call = ?", call_id)
            return None if found is None else _page(found[0])

        self._settle()
        found = self._book.ask(page, lambda: None)
        own = self._alone.read(call_id)
        if found is None or own is None:
            return found or own
        _add(found, own)
        return found

    @contextmanager
    def change(self, call_id: str, now: float) -> Iterator[Page]:
        # The body of a ``with`` runs once: so what may fail before it and after it is asked for apart.
        self._settle()
        begun = self._book.ask(lambda: self._begin(call_id, now), lambda: None)
        if begun is None:
            with self._alone.change(call_id, now) as page:
                yield page
            return
        page, db = begun
        try:
            yield page
        except BaseException:
            db.execute("ROLLBACK")
            raise
        try:
            self._write(call_id, page, db)
        except sqlite3.Error as error:
            self._book.failed(error)
            self._keep(call_id, page)

    def _settle(self) -> None:
        """Writes what is on the own shelf, a part each time: the event loop waits meanwhile."""
        if not len(self._alone) or self._book.is_away:
            return
        left = self._alone.take_out(_SETTLED_AT_ONCE)
        try:
            while left:
                call_id, own = left[0]
                page, db = self._begin(call_id, own.opened)
                _add(page, own)
                self._write(call_id, page, db)
                del left[0]
        except sqlite3.Error as error:
            self._book.failed(error)
        for call_id, own in left:
            self._keep(call_id, own)

    def _keep(self, call_id: str, page: Page) -> None:
        with self._alone.change(call_id, page.opened) as own:
            _add(own, page)

    def _write(self, call_id: str, page: Page, db: sqlite3.Connection) -> None:
        """Ends what ``_begin`` began."""
        try:
            db.execute("UPDATE pages SET data = ? WHERE call = ?", (msgspec.msgpack.encode(page), call_id))
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _begin(self, call_id: str, now: float) -> tuple[Page, sqlite3.Connection]:
        db = self._book.begin()
        try:
            found = db.execute("SELECT data FROM pages WHERE call = ?", (call_id,)).fetchone()
            if found is not None:
                return _page(found[0]), db
            db.execute("DELETE FROM pages WHERE opened < ?", (now - self._ttl_s,))
            page = Page(opened=now)
            row = (call_id, now, msgspec.msgpack.encode(page))
            made = db.execute("INSERT INTO pages (call, opened, data) VALUES (?, ?, ?)", row)
            # Numbers only grow and no page gets a second one: so many back stands the oldest that may stay.
            db.execute("DELETE FROM pages WHERE number <= ?", ((made.lastrowid or 0) - self._capacity,))
            return page, db
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def _page(data: object) -> Page:
    if not isinstance(data, bytes):
        raise sqlite3.DataError("a page of the book is no page")
    return msgspec.msgpack.decode(data, type=Page)


def _add(page: Page, later: Page) -> None:
    """What was noted later, and apart from the page, goes into it. Of two counts the higher one is sure."""
    page.ended = page.ended or later.ended
    page.language = "" if page.ended else later.language or page.language
    page.reconnects = max(page.reconnects, later.reconnects)
    page.asked = max(page.asked, later.asked)
    page.answers.update(later.answers)
    while len(page.answers) > EVENTS_PER_CALL:
        del page.answers[next(iter(page.answers))]
