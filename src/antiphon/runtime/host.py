"""The host: all calls of a process. Admission, takeover, drain."""

from __future__ import annotations

import asyncio
import logging
import re

import msgspec

from antiphon.errors import AdmissionRefused, PeerError, StoreError
from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.events import CallerHungUp, Entry
from antiphon.kernel.session import Session
from antiphon.runtime.call import Call
from antiphon.runtime.driver import Observe
from antiphon.runtime.ports import CallSink, CallStart, Line
from antiphon.runtime.recovery import OPEN_TIMEOUT_S
from antiphon.runtime.services import Services

CALL_ID = re.compile(r"[A-Za-z0-9_.:-]{1,255}")
"""X37: an opaque id that is safe in a path, a key and a log line."""
REMEMBERED_ENDS = 1000
_BEHIND_ALL = 2**62
"""No journal has an entry of this number: to ask for those behind it asks whether there is a journal."""

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
    """Holds the calls of one process. Fits ``Switchboard``."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.draining = False
        self._calls: dict[str, Call] = {}
        self._ends: dict[str, str] = {}
        self._observers: list[Observe] = []
        self._empty = asyncio.Event()
        self._empty.set()

    # -- lines ------------------------------------------------------------------------------------

    def connect(self, start: CallStart, line: Line) -> CallSink:
        """Takes a line on; see ``Switchboard``. The slot is taken before this returns."""
        if not CALL_ID.fullmatch(start.call_id):
            raise PeerError("a call id is 1 to 255 letters, digits, '_', '.', ':' or '-'", code="session.bad_id")
        known = self._calls.get(start.call_id)
        if known is not None and known.is_over:
            raise AdmissionRefused("this call is just ending, call again", code="session.ending")
        if known is not None:
            return known.take_over(start, line)
        if not self.has_room(start.call_id):
            raise AdmissionRefused(
                "the server is draining, call again" if self.draining else "all lines are busy, try again shortly",
                code="admission.draining" if self.draining else "admission.full",
            )
        self._empty.clear()
        call = Call(start, line, self.services, released=self._release, observe=self._observe)
        self._calls[start.call_id] = call
        return call.sink

    def has_room(self, call_id: str) -> bool:
        """True if this call would be taken on, or is held already."""
        return call_id in self._calls or (not self.draining and self.active < self.services.max_sessions)

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
        if call is not None:
            log.warning("another process holds this call now", extra={"call": call_id})
            call.shut_down("session.taken_over")
            self._release(call)

    def _release(self, call: Call) -> None:
        if self._calls.get(call.id) is call:
            del self._calls[call.id]
        self._ends[call.id] = call.end_reason
        while len(self._ends) > REMEMBERED_ENDS:
            del self._ends[next(iter(self._ends))]
        if not self._calls:
            self._empty.set()

    # -- looking on -------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """Calls that have a line. Those that wait for their caller cost memory but take nobody's place."""
        return len(self._calls) - sum(call.is_detached for call in self._calls.values())

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
        for observer in self._observers:
            try:
                observer(session, entry, commands)
            except Exception:
                # An onlooker may never hurt a call.
                log.exception("an observer raised", extra={"call": session})

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
        self._calls.clear()
        self._empty.set()
        return len(left)
