"""One call: a session, its driver, its ear and its mouth, and whoever carries its commands out.

A call outlives its line: when a connection breaks the session waits, and the next line of the same
call id takes it on. It begins with a look into the journal, which takes a moment; what the line
brings meanwhile is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from antiphon.errors import StaleWriter, StoreError
from antiphon.kernel import commands as cmd
from antiphon.kernel.effects import EffectKind, unfinished
from antiphon.kernel.events import (
    AnyEvent,
    CommandLost,
    LineAttached,
    LineDropped,
    SessionClosed,
    SessionStarted,
)
from antiphon.kernel.policy import Policy, encode_policy
from antiphon.kernel.session import Session
from antiphon.kernel.state import Phase
from antiphon.media.playout import Playout
from antiphon.runtime.driver import Driver, Observe
from antiphon.runtime.ears import make_ear
from antiphon.runtime.effects import EffectRunner
from antiphon.runtime.executor import Executor
from antiphon.runtime.line_sink import MAX_EARLY, MAX_EARLY_FACTS, LineSink
from antiphon.runtime.ports import CallStart, Line
from antiphon.runtime.recovery import claim_again, recover, settled
from antiphon.runtime.services import Services
from antiphon.runtime.speech import Mouth

CLOSE_NORMAL = 1000
CLOSE_FAILED = 1011
"""Our fault: the carrier may bring the caller back."""
CLOSE_TAKEN_OVER = 4001
"""WebSocket close code (private range) that tells a line that a newer one holds its call."""

log = logging.getLogger("antiphon.call")


class Call:
    """Holds one conversation from its first line to its end."""

    def __init__(
        self,
        start: CallStart,
        line: Line,
        services: Services,
        *,
        released: Callable[[Call], None],
        observe: Observe | None = None,
    ) -> None:
        self.id = start.call_id
        self.start = start
        self.sink = LineSink(self, line)
        self.driver: Driver | None = None
        self.end_reason = ""
        self._services = services
        self._released = released
        self._observe = observe
        self._early: list[Callable[[], None]] | None = []
        self._mouth: Mouth | None = None
        self._executor: Executor | None = None
        self._epoch = 0
        self._saving: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None
        self._opening = asyncio.ensure_future(self._open())

    @property
    def line(self) -> Line:
        return self.sink.line

    # -- what the line tells ----------------------------------------------------------------------

    def mark(self, name: str) -> None:
        if self._mouth is not None:
            self._mouth.on_mark(name)

    def tell(self, sink: LineSink, event: AnyEvent) -> None:
        """A fact of a line; it counts if that line has the call when the session is open."""
        if self._early is None:
            self.post(event)
        else:
            self.early(lambda: self.post(event) if self.sink is sink else None, MAX_EARLY_FACTS)

    def post(self, event: AnyEvent) -> None:
        """Takes a fact in; while the session is being opened it is kept."""
        if self.driver is not None and self._early is None:
            self.driver.post(event)
        else:
            self.early(lambda: self.post(event), MAX_EARLY_FACTS)

    def early(self, later: Callable[[], None], room: int = MAX_EARLY) -> None:
        if self._early is not None and len(self._early) < room:
            self._early.append(later)

    def language_of(self, text: str) -> tuple[str, float]:
        """The language that the words are in and how sure that is; ("", 0.0) where nobody tells."""
        identify = self._services.identify
        guess = identify(text) if identify is not None else None
        return (guess.language, guess.confidence) if guess is not None else ("", 0.0)

    def line_gone(self) -> None:
        """The connection broke: the session waits without ear and mouth."""
        if self._early is None:
            self._detach_parts()

    # -- opening ----------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Takes the session on: its past from the journal if it has one, else a new one."""
        try:
            await (self._begin() if self.driver is None else self._come_back(self.driver))
        except Exception:
            # Without a session nobody would ever speak to this caller: end the line, loudly.
            log.exception("the call could not be opened", extra={"call": self.id})
            self.line.close(CLOSE_FAILED, "session.failed")
            self._release_parts()
            if self.driver is not None:
                self.driver.close()
            self._services.writer.close_session(self.id)
            self._released(self)

    async def _begin(self) -> None:
        services = self._services
        await settled(services.writer, self.id)
        session, self._epoch = await recover(services.journal, self.id)
        services.writer.open(self.id, self._epoch, session.state.seq)
        self.driver = Driver(
            session,
            self.id,
            writer=services.writer,
            execute=self._execute,
            observe=self._observe,
            checkpoint=self._checkpoint,
        )
        self._attach_parts(session)
        if session.state.phase is Phase.NEW:
            self.driver.post(self._started())
        else:
            for effect in unfinished(session.state.effects):
                if effect.kind is not EffectKind.READ:
                    self.driver.post(CommandLost(effect.key, effect.name))
                elif self._executor is not None:
                    self._executor.run(cmd.RunEffect(effect.key, effect.name, effect.kind, effect.arguments), None)
            self.driver.post(LineAttached(self.start.transport, max(self._epoch, session.state.epoch + 1)))
        self._take_in_early(session)

    def _take_in_early(self, session: Session) -> None:
        early, self._early = self._early or [], None
        for later in early:
            later()
        if session.state.phase is Phase.DETACHED:
            self._detach_parts()  # the line was gone before its session was there

    async def _come_back(self, driver: Driver) -> None:
        """The caller of a call that waited here is back. Another process may have held it meanwhile, so it is claimed
        anew; if one has, the journal is taken up where that one left it. While the store is down it goes on in memory.
        """
        writer, state = self._services.writer, driver.session.state
        epoch, is_behind = await claim_again(self._services.journal, writer, self.id, lambda: state.seq)
        if is_behind:
            log.info("another process held this call meanwhile", extra={"call": self.id})
            driver.close()
            if self._executor is not None:
                self._executor.effects.close()
            self._executor = self._mouth = None
            await self._begin()
            return
        if epoch:
            writer.open(self.id, epoch, state.seq)
        self._attach_line(driver, epoch)
        self._take_in_early(driver.session)

    def _attach_line(self, driver: Driver, epoch: int = 0) -> None:
        self._attach_parts(driver.session)
        self._epoch = max(epoch, self._epoch + 1, driver.session.state.epoch + 1)
        driver.post(LineAttached(self.start.transport, self._epoch))

    def _checkpoint(self, seq: int, snapshot: bytes) -> None:
        async def save() -> None:
            try:
                epoch = self._services.writer.epoch(self.id)  # not the line's: a second line raises only that
                await self._services.journal.save_snapshot(self.id, epoch, seq, snapshot)
            except StoreError as error:
                # It only makes a recovery longer.
                log.warning("a snapshot could not be kept: %s", error, extra={"call": self.id})

        self._saving = asyncio.ensure_future(save())

    def _started(self) -> SessionStarted:
        start, services = self.start, self._services
        return SessionStarted(
            session=self.id,
            transport=start.transport,
            language=start.language or services.language,
            policy=encode_policy(self._policy()),
            started_at=services.wall_clock(),
            caller=start.caller,
            parameters=start.parameters,
            language_by="chosen" if start.language else "",
        )

    def _policy(self) -> Policy:
        """What a new session begins with."""
        return msgspec.structs.replace(self._services.policy, **self.start.policy)

    def _attach_parts(self, session: Session) -> None:
        """An ear and a mouth for the present line."""
        services, line, driver = self._services, self.line, self.driver
        if driver is None:
            raise RuntimeError("parts are attached to a call that is open")
        media = services.media
        language = session.state.language or self.start.language or services.language
        # A resumed session expects the utterance after the one that was cut off.
        is_new = session.state.phase is Phase.NEW
        first = session.state.utterance + (0 if is_new else 1)
        policy = self._policy() if is_new else session.policy
        self._mouth = Mouth(
            call_id=self.id,
            line=line,
            playout=Playout(
                codec=line.codec,
                sample_rate=line.sample_rate,
                message_ms=media.message_ms,
                lead_ms=media.lead_ms,
                marks=line.marks,
            ),
            wheel=services.wheel,
            phrases=services.phrases,
            voices=services.stages.tts,
            voice_of=media.voice_of,
            post=driver.post,
        )
        ear = self.sink.ear = make_ear(
            services,
            self.start,
            line,
            self._mouth,
            language=language,
            first_utterance=first,
            post=driver.post,
            ahead=policy.speculate,
        )
        effects = (
            self._executor.effects
            if self._executor
            else EffectRunner(self.id, services.effectors, lambda: driver.session.state.effects, driver.post)
        )
        self._executor = Executor(
            self.id,
            stages=services.stages,
            session=lambda: driver.session,
            mouth=self._mouth,
            ear=ear,
            effects=effects,
            end=self._end,
            post=driver.post,
        )

    # -- a newer line -----------------------------------------------------------------------------

    def take_over(self, start: CallStart, line: Line) -> LineSink:
        """The newest line of a call holds it, at once; the older one is told and closed (F21)."""
        old, self.start, waited = self.sink, start, self.is_detached
        if self._early is None:
            if not waited:
                self.post(LineDropped("line.taken_over"))  # its mouth says what was heard, before it is gone
            self._detach_parts()
        old.cut()
        self.sink = LineSink(self, line)
        old.line.close(CLOSE_TAKEN_OVER, "session.taken_over")
        if self.driver is None or self._early is not None:
            return self.sink  # still opening: the parts will be made for the newest line
        if waited:
            self._early = []
            self._opening = asyncio.ensure_future(self._open())
        else:
            self._attach_line(self.driver)
        return self.sink

    # -- commands ---------------------------------------------------------------------------------

    def _execute(self, command: cmd.AnyCommand, error: Exception | None) -> None:
        if isinstance(error, StaleWriter):
            return  # another process holds this session and carries its commands out
        match command:
            case cmd.HangUp(reason=reason):
                self._hang_up(reason, reason)
            case cmd.TransferCall(target=target):
                log.info("the call is handed to %s", target, extra={"call": self.id})
                self._hang_up("transferred", f"transfer:{target}")
            case _ if self._executor is not None:
                self._executor.run(command, error)

    def _hang_up(self, end_reason: str, reason: str) -> None:
        """Ends the line, which tells nothing more after that; so its end is a fact as of now."""
        self.end_reason = end_reason
        self.line.hang_up(reason)
        if self.driver is not None:
            self.driver.post(LineDropped("line.hung_up"))

    def _end(self, reason: str) -> None:
        """Releases everything; the entry that says so is the journal's last."""
        self.end_reason = self.end_reason or reason
        driver = self.driver
        self._release_parts()
        self.line.close(CLOSE_NORMAL, reason)
        if driver is None:
            return
        if self._executor is not None and self._executor.effects.running:
            self._closing = asyncio.ensure_future(self._close_when_settled(driver, reason, self._executor.effects))
        else:
            asyncio.get_running_loop().call_soon(self._close, driver, reason)

    async def _close_when_settled(self, driver: Driver, reason: str, effects: EffectRunner) -> None:
        """What an effect did to the world belongs into the journal, whoever hung up meanwhile."""
        await effects.settled()
        self._close(driver, reason)

    def _close(self, driver: Driver, reason: str) -> None:
        driver.post(SessionClosed(reason))
        driver.close()
        self._services.writer.close_session(self.id)
        self._executor = None  # it knows this call
        self._released(self)

    def _detach_parts(self) -> None:
        if self._executor is not None:
            self._executor.stop_work()
        if self.sink.ear is not None:
            self.sink.ear.close()
            self.sink.ear = None
        if self._mouth is not None:
            self._mouth.close()

    def _release_parts(self) -> None:
        self._detach_parts()
        if self._executor is not None:
            self._executor.effects.close()
        self._mouth = None
        self._early = None
        self.sink.cut()

    def shut_down(self, why: str = "server.restart") -> None:
        """The line is closed here; the session stays open in the journal for whoever is next."""
        if self._opening is not asyncio.current_task():
            self._opening.cancel()
        self._release_parts()
        if self.driver is not None:
            self.driver.close()
            self._services.writer.close_session(self.id)
        self._executor = None
        self.line.close(1012 if why == "server.restart" else CLOSE_TAKEN_OVER, why)

    @property
    def is_over(self) -> bool:
        """Ended, or about to be: nobody can take it on any more."""
        return self.driver is not None and self.driver.session.state.phase in (
            Phase.ENDING,
            Phase.ENDED,
            Phase.CLOSED,
        )

    @property
    def is_coming_back(self) -> bool:
        """Its caller is on the line again, and whose it is by now is being looked up."""
        return self.driver is not None and self._early is not None

    @property
    def is_detached(self) -> bool:
        """Its line broke; it waits for its caller."""
        return self.driver is not None and self.driver.session.state.phase is Phase.DETACHED
