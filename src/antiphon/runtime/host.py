"""The host: all calls of a process. Admission, takeover, drain."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import msgspec

from antiphon.errors import AdmissionRefused, PeerError, StoreError
from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.events import CallerHungUp, Entry, LineAttached, LineDropped
from antiphon.kernel.session import Session
from antiphon.runtime.call import Call
from antiphon.runtime.driver import Observe
from antiphon.runtime.line_sink import LineSink
from antiphon.runtime.places import LocalPlaces, Places
from antiphon.runtime.ports import CALL_ID, CallStart, Line
from antiphon.runtime.recovery import OPEN_TIMEOUT_S
from antiphon.runtime.services import Services

REMEMBERED_ENDS = 1000
WAITING_PER_PLACE = 10
"""Calls that wait for their caller, for each that may have a line; of more, the one that has waited longest is left to
the journal, which takes it up again when its caller comes back."""
_BEHIND_ALL = 2**62
"""No journal has an entry of this number: to ask for those behind it asks whether there is a journal."""

TOLD_EVERY_S = 1.0
_REFUSALS = {
    "session.ending": "this call is just ending, call again",
    "admission.draining": "the server is draining, call again",
    "admission.full": "all lines are busy, try again shortly",
}

log = logging.getLogger("antiphon.host")


class CallView(msgspec.Struct, frozen=True):
    """A call as the outside sees it."""

    call_id: str
    floor: str
    turn: int
    language: str
    transport: str
    phase: str


def view(call: Call) -> CallView:
    state = call.driver.session.state if call.driver is not None else Session().state
    return CallView(call.id, str(state.floor), state.turn, state.language, call.start.transport, str(state.phase))


class Host:
    """Holds the calls of one process. Fits ``Switchboard``.

    ``places`` are shared by the processes that serve together; without, this one has ``max_sessions`` to itself.
    """

    def __init__(self, services: Services, places: Places | None = None) -> None:
        self.services = services
        self._places: Places = LocalPlaces(services.max_sessions) if places is None else places
        self.draining = False
        self.refused: Counter[str] = Counter()
        """Lines that were turned away, by code."""
        self._untold: dict[str, int] = {}
        """Of those of the last moment, how many the log has not been told of."""
        self._calls: dict[str, Call] = {}
        self._waiting: dict[str, None] = {}
        """Calls without a line, the one that has waited longest first."""
        self._moving = ""
        """The call that goes from one line to the next at this moment: between the two it keeps its place."""
        self._ends: dict[str, str] = {}
        self._observers: list[Observe] = []
        self._empty = asyncio.Event()
        self._empty.set()

    # -- lines ------------------------------------------------------------------------------------

    def connect(self, start: CallStart, line: Line) -> LineSink:
        """Takes a line on; see ``Switchboard``. The slot is taken before this returns."""
        if not CALL_ID.fullmatch(start.call_id):
            raise PeerError("a call id is 1 to 255 letters, digits, '_', '.', ':' or '-'", code="session.bad_id")
        known = self._calls.get(start.call_id)
        # No error is kept in a variable: it would hold this frame, and the frame it, until a full collection.
        code = "session.ending" if known is not None and known.is_over else self._no_room(start.call_id)
        if not code and not self._places.take(start.call_id):
            code = "admission.full"
        if code:
            self._turn_away(code, start.call_id)
            raise AdmissionRefused(_REFUSALS[code], code=code)
        if known is not None:
            self._waiting.pop(start.call_id, None)
            self._moving = start.call_id
            try:
                return known.take_over(start, line)
            finally:
                self._moving = ""
        self._empty.clear()
        call = Call(start, line, self.services, released=self._release, observe=self._observe)
        self._calls[start.call_id] = call
        return call.sink

    def has_room(self, call_id: str) -> bool:
        """True if this call would be taken on, or has a line already."""
        return not self._no_room(call_id)

    def _no_room(self, call_id: str) -> str:
        """The one rule of who gets a place (B22): every line needs one, a call's newer line takes that of the older.

        A caller who comes back to a waiting call needs one, too, but no drain keeps them out. Returns the code of
        the refusal, "" if there is room.
        """
        if self.draining and call_id not in self._calls:
            return "admission.draining"
        return "" if self._places.has_room(call_id) else "admission.full"

    def _turn_away(self, code: str, call_id: str) -> None:
        """Counts it, and says so: the first at once, those of the next second together, for they may be thousands."""
        self.refused[code] += 1
        if code in self._untold:
            self._untold[code] += 1
            return
        log.warning("a line is turned away: %s", code, extra={"call": call_id})
        self._untold[code] = 0
        asyncio.get_running_loop().call_later(TOLD_EVERY_S, self._tell_others, code)

    def _tell_others(self, code: str) -> None:
        others = self._untold.pop(code)
        if others:
            log.warning("%d more lines were turned away: %s", others, code, extra={"code": code, "count": others})

    async def ended(self, call_id: str) -> str:
        """Why a call ended on purpose; "" if it did not, or is not known."""
        return self._ends.get(call_id, "")

    async def knows(self, call_id: str) -> bool:
        """True if a line ever opened this call, here or in another process that writes to the same journal.

        A store that does not answer knows nothing: it is no reason to turn a caller away.
        """
        if call_id in self._calls or call_id in self._ends:
            return True
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self.services.journal.read(call_id, _BEHIND_ALL)
        except (StoreError, TimeoutError):  # among them UnknownSession
            return False
        return True

    def call_over(self, call_id: str, status: str) -> None:
        """The carrier says that the call is over: nobody will come back to it (X44)."""
        call = self._calls.get(call_id)
        if call is not None:
            call.post(CallerHungUp(status))

    def lost(self, call_id: str) -> None:
        """Another process has taken this session over: this one's line is closed, the journal is theirs (F19)."""
        call = self._calls.get(call_id)
        if call is not None and not call.is_coming_back:  # else it is finding out by itself
            log.warning("another process holds this call now", extra={"call": call_id})
            call.shut_down("session.taken_over")
            self._release(call)

    def _release(self, call: Call) -> None:
        if self._calls.get(call.id) is call:
            del self._calls[call.id]
            self._waiting.pop(call.id, None)
            self._places.give(call.id)
        self._ends[call.id] = call.end_reason
        while len(self._ends) > REMEMBERED_ENDS:
            del self._ends[next(iter(self._ends))]
        if not self._calls:
            self._empty.set()

    # -- looking on -------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """Calls that have a line. Those that wait for their caller cost memory but take nobody's place."""
        return len(self._calls) - len(self._waiting)

    @property
    def held(self) -> int:
        """Calls with a line, and those that wait for their caller."""
        return len(self._calls)

    @property
    def capacity(self) -> int:
        return self.services.max_sessions

    def calls(self) -> list[CallView]:
        return [view(call) for call in self._calls.values()]

    def get(self, call_id: str) -> Call | None:
        return self._calls.get(call_id)

    def observe(self, observer: Observe) -> None:
        """Adds an onlooker: told of every entry of every call."""
        self._observers.append(observer)

    def _observe(self, session: str, entry: Entry, commands: tuple[AnyCommand, ...]) -> None:
        if isinstance(entry.event, (LineDropped, LineAttached)):
            self._note_line(session)
        for observer in self._observers:
            try:
                observer(session, entry, commands)
            except Exception:
                # An onlooker may never hurt a call.
                log.exception("an observer raised", extra={"call": session})

    def _note_line(self, session: str) -> None:
        """Keeps ``_waiting`` true. A place is given up when the session says so, and taken before it does."""
        call = self._calls.get(session)
        if call is None or not call.is_detached:
            self._waiting.pop(session, None)
            return
        self._waiting[session] = None
        if session != self._moving:
            self._places.wait(session)
        if len(self._waiting) > WAITING_PER_PLACE * self.services.max_sessions:
            asyncio.get_running_loop().call_soon(self._leave_longest)

    def _leave_longest(self) -> None:
        while len(self._waiting) > WAITING_PER_PLACE * self.services.max_sessions:
            call = self._calls[next(iter(self._waiting))]
            log.warning("too many calls wait for their callers: one is left to the journal", extra={"call": call.id})
            call.shut_down()
            self._release(call)

    # -- the end ----------------------------------------------------------------------------------

    def stop_admitting(self) -> None:
        """No new calls from now on; those that are held go on."""
        self.draining = True

    async def drain(self, timeout_s: float) -> int:
        """Takes no new calls, lets the others finish for ``timeout_s``, then closes them; returns how many."""
        self.stop_admitting()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            pass
        left = list(self._calls.values())
        for call in left:
            call.shut_down()
            self._places.give(call.id)
        self._calls.clear()
        self._waiting.clear()
        self._empty.set()
        return len(left)
