"""Sessions over HTTP: begin one (a token for it), list them, look at one, its timeline, fold it again.

Whose request may do what is ``access``'s to say; it is asked before anything else, so that nobody learns whether a
session is there who may not see it. Answers hold what callers said: no cache may keep them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Protocol
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Query, Request, Response

from antiphon.errors import UNUSABLE, FrameTooLarge, PeerError, StoreError, UnknownSession
from antiphon.kernel.events import Entry, SessionClosed
from antiphon.kernel.state import Phase
from antiphon.observe.replaying import ResultT, Steps
from antiphon.runtime.host import CallView
from antiphon.runtime.ports import CALL_ID, Journal
from antiphon.server import session_views as views
from antiphon.server.access import Access, asker
from antiphon.server.openapi import described
from antiphon.server.slices import Slices
from antiphon.transports.orchestrate_settings import PATH, wrong_language

MAX_BODY_BYTES = 4096
MOST_SESSIONS = 500
MOST_TURNS = 1000
MOST_ENTRIES = 5000
READ_S = 5.0
"""For the journal to answer. One is read at a time, so this is also how long one that hangs keeps the others."""
_SEARCHED = 1000
_LARGEST = 2**53


class Calls(Protocol):
    """What is asked of the host."""

    def calls(self) -> list[CallView]:
        """Those it holds."""


Elsewhere = Callable[[], Awaitable[Sequence[CallView]]]
"""The calls that the other workers of this server hold."""


async def nowhere() -> Sequence[CallView]:
    return ()


class Sessions:
    """The answers. ``router`` gives them their routes."""

    def __init__(
        self,
        access: Access,
        host: Calls,
        journal: Journal,
        languages: Sequence[str],
        elsewhere: Elsewhere = nowhere,
    ) -> None:
        self._elsewhere = elsewhere
        self._access = access
        self._languages = languages
        self._host = host
        self._journal = journal
        self._slices = Slices()

    def issue(self, asked: views.NewSession) -> views.IssuedSession:
        """A token for a session, new or not. Raises ``PeerError``."""
        session = asked.session_id or str(uuid.uuid4())
        _check_id(session)
        if asked.language and (wrong := wrong_language(asked.language, self._languages)):
            raise PeerError(wrong, code="session.bad_language")
        query = {"session_id": session} | ({"language": asked.language} if asked.language else {})
        tokens = self._access.tokens
        return views.IssuedSession(session, tokens.issue(session), tokens.ttl_s, f"{PATH}?{urlencode(query, safe=':')}")

    async def list(self, limit: int) -> views.SessionList:
        """The newest. A journal that does not answer leaves those that are held here.

        One that is held here and has no row is too new for one, unless there are more rows than are searched: then it
        is older than they are.
        """
        held = await self._calls()
        try:
            rows = await _in_time(self._journal.sessions(_SEARCHED))
        except StoreError:
            return views.SessionList(views.listing((), held)[:limit], complete=False)
        if len(rows) == _SEARCHED:
            written = {row.session for row in rows}
            held = [call for call in held if call.call_id in written]
        return views.SessionList(views.listing(rows, held)[:limit])

    async def view(self, session: str, after: int, limit: int) -> views.SessionView:
        async def begin() -> Steps[views.SessionView]:
            entries = await self._entries(session)
            call = await self._held(session)
            status = await self._status(session, entries, call)
            floor = call.floor if call else ""
            return views.viewing(session, entries, status, floor, after=after, limit=limit)

        return await self._slices.run(begin)

    async def timeline(self, session: str, after: int, limit: int) -> views.Timeline:
        async def begin() -> Steps[views.Timeline]:
            return views.timing(session, await self._entries(session), after, limit)

        return await self._slices.run(begin)

    async def replay(self, session: str) -> views.Replayed:
        async def begin() -> Steps[views.Replayed]:
            return views.replaying(session, await self._entries(session))

        return await self._slices.run(begin)

    async def _entries(self, session: str) -> Sequence[Entry]:
        _check_id(session)
        try:
            return await _in_time(self._journal.read(session))
        except UnknownSession:
            if await self._held(session) is None:
                raise
            return ()  # its first entry is not written yet

    async def _calls(self) -> Sequence[CallView]:
        """One that waits at one worker and goes on at another is the other's."""
        held = [*await self._elsewhere(), *self._host.calls()]
        held.sort(key=lambda call: call.phase != Phase.DETACHED)
        return tuple({call.call_id: call for call in held}.values())

    async def _held(self, session: str) -> CallView | None:
        here = next((call for call in self._host.calls() if call.call_id == session), None)
        if here is not None and here.phase != Phase.DETACHED:
            return here
        return next((call for call in await self._calls() if call.call_id == session), here)

    async def _status(self, session: str, entries: Sequence[Entry], call: CallView | None) -> str:
        """As the list has it."""
        if entries and isinstance(entries[-1].event, SessionClosed):
            return "closed"
        try:
            return (await _in_time(self._journal.session(session))).status
        except UnknownSession:  # too new for a row, or deleted since its entries were read
            return "live" if call else "interrupted"


After = Annotated[int, Query(ge=0, le=_LARGEST, description="those numbered above this one")]


def router(
    access: Access, host: Calls, journal: Journal, languages: Sequence[str], elsewhere: Elsewhere = nowhere
) -> APIRouter:
    """The routes ``/sessions`` and below. ``languages`` are those offered."""
    routes = APIRouter(tags=["sessions"])
    sessions = Sessions(access, host, journal, languages, elsewhere)

    @routes.post("/sessions", **described(views.IssuedSession, status=201, body=views.NewSession))
    async def begin_session(request: Request) -> Response:
        """Begins a session: gives a token for it. The session itself is made when its socket opens.

        Asked again with the same `session_id` it gives a fresh token for the same session."""
        access.for_operator(*asker(request))
        return _answer(sessions.issue(_new_session(await _body(request))), 201)

    @routes.get("/sessions", **described(views.SessionList))
    async def list_sessions(request: Request, limit: Annotated[int, Query(ge=1, le=MOST_SESSIONS)] = 50) -> Response:
        """Sessions, live and past, newest first."""
        access.for_operator(*asker(request))
        return _answer(await sessions.list(limit))

    @routes.get("/sessions/{session}", **described(views.SessionView, of_one=True))
    async def view_session(
        request: Request, session: str, after: After = 0, limit: Annotated[int, Query(ge=1, le=MOST_TURNS)] = 200
    ) -> Response:
        """One session: its turns with question, answer, what was heard, sources, latency, interruptions."""
        access.for_session(*asker(request), session)
        return _answer(await sessions.view(session, after, limit))

    @routes.get("/sessions/{session}/timeline", **described(views.Timeline, of_one=True))
    async def session_timeline(
        request: Request, session: str, after: After = 0, limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 1000
    ) -> Response:
        """The entries of a session, in time, with who had the floor after each."""
        access.for_session(*asker(request), session)
        return _answer(await sessions.timeline(session, after, limit))

    @routes.post("/sessions/{session}/replay", **described(views.Replayed, of_one=True))
    async def replay_session(request: Request, session: str) -> Response:
        """Folds a session's journal again and says whether every digest agrees. It changes nothing."""
        access.for_session(*asker(request), session)
        return _answer(await sessions.replay(session))

    return routes


async def _in_time(asked: Awaitable[ResultT]) -> ResultT:
    """What the journal says. Raises ``StoreError`` if it does not within ``READ_S``."""
    try:
        async with asyncio.timeout(READ_S):
            return await asked
    except TimeoutError:
        raise StoreError(f"the journal did not answer within {READ_S} s", code="store.timeout") from None


def _check_id(session: str) -> None:
    if not CALL_ID.fullmatch(session):
        raise PeerError("a session id is 1 to 255 letters, digits, '_', '.', ':' or '-'", code="session.bad_id")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise FrameTooLarge(f"the body has at most {MAX_BODY_BYTES} bytes", code="http.too_large")
    return bytes(body)


def _new_session(body: bytes) -> views.NewSession:
    try:
        return msgspec.json.decode(body, type=views.NewSession) if body.strip() else views.NewSession()
    except UNUSABLE as error:
        raise PeerError(
            f'the body is JSON such as {{"session_id": "...", "language": "en-IN"}}: {error}', code="http.bad_body"
        ) from None


def _answer(what: msgspec.Struct, status: int = 200) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(msgspec.json.encode(what), status, headers, media_type="application/json")
