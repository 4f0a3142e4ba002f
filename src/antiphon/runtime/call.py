"""One call: a session, its driver, its ear and its mouth, and whoever carries its commands out.

A call outlives its line: when a connection breaks the session waits, and the next line of the same
call id takes it on. It begins with a look into the journal, which takes a moment; what the line
brings meanwhile is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from antiphon.errors import StaleWriter, StoreError, UnknownSession
from antiphon.kernel import commands as cmd
from antiphon.kernel.effects import EffectKind, unfinished
from antiphon.kernel.events import (
    AnyEvent,
    CallerHungUp,
    CommandLost,
    DigitPressed,
    LineAttached,
    LineDropped,
    SessionClosed,
    SessionStarted,
)
from antiphon.kernel.policy import encode_policy
from antiphon.kernel.session import Session
from antiphon.kernel.state import Phase
from antiphon.media.playout import Playout
from antiphon.runtime.driver import Driver, Observe
from antiphon.runtime.effects import EffectRunner
from antiphon.runtime.executor import Executor
from antiphon.runtime.listen import Ear, Listener
from antiphon.runtime.ports import CallStart, Line
from antiphon.runtime.recovery import OPEN_TIMEOUT_S, recover
from antiphon.runtime.services import Services
from antiphon.runtime.speech import Mouth

MAX_EARLY = 250
"""What a line may bring before its session is open: five seconds of 20 ms frames."""
MAX_EARLY_FACTS = MAX_EARLY + 50
"""Facts find room where audio does not: a hang-up must not be lost behind it."""
CLOSE_NORMAL = 1000
CLOSE_FAILED = 1011
"""Our fault: the carrier may bring the caller back."""
CLOSE_TAKEN_OVER = 4001
"""WebSocket close code (private range) that tells a line that a newer one holds its call."""

log = logging.getLogger("antiphon.call")


class LineSink:
    """What one line tells its call. A line that lost its call to a newer one is not listened to any more."""

    __slots__ = ("_call", "ear", "line")

    def __init__(self, call: Call, line: Line) -> None:
        self._call: Call | None = call
        self.line = line
        self.ear: Listener | None = None

    def on_audio(self, audio: bytes) -> None:
        if self.ear is not None:
            self.ear.on_audio(audio)
        elif self._call is not None:
            self._call.early(lambda: self.on_audio(audio))

    def on_mark(self, name: str) -> None:
        if self._call is not None:
            self._call.mark(name)

    def on_digit(self, digit: str) -> None:
        self._tell(DigitPressed(digit))

    def on_hangup(self, reason: str) -> None:
        self._tell(CallerHungUp(reason))

    def on_dropped(self, code: str) -> None:
        self._tell(LineDropped(code))
        if self._call is not None:
            self._call.line_gone()
        self.cut()

    def _tell(self, event: AnyEvent) -> None:
        if self._call is not None:
            self._call.tell(self, event)

    def cut(self) -> None:
        self._call = self.ear = None


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

    def line_gone(self) -> None:
        """The connection broke: the session waits without ear and mouth."""
        if self._early is None:
            self._detach_parts()

    # -- opening ----------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Takes the session on: its past from the journal if it has one, else a new one."""
        try:
            await self._begin()
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
        await self._settled_before()
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
        early, self._early = self._early or [], None
        for later in early:
            later()
        if session.state.phase is Phase.DETACHED:
            self._detach_parts()  # the line was gone before its session was there

    async def _settled_before(self) -> None:
        """What an earlier call of this id still has to write comes before what this one reads."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._services.writer.flush(self.id)
        except UnknownSession:
            return
        except (StoreError, TimeoutError) as error:
            log.warning("an earlier call's end is not on disk yet: %s", error, extra={"call": self.id})

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
            policy=encode_policy(services.policy),
            started_at=services.wall_clock(),
            caller=start.caller,
            parameters=start.parameters,
            language_by="chosen" if start.language else "",
        )

    def _attach_parts(self, session: Session) -> None:
        """An ear and a mouth for the present line."""
        services, line, driver = self._services, self.line, self.driver
        if driver is None:
            raise RuntimeError("parts are attached to a call that is open")
        media = services.media
        language = session.state.language or self.start.language or services.language
        # A resumed session expects the utterance after the one that was cut off.
        first = session.state.utterance + (0 if session.state.phase is Phase.NEW else 1)
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
        ear = self.sink.ear = self._make_ear(language, first, driver)
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

    def _make_ear(self, language: str, first: int, driver: Driver) -> Listener:
        services, line = self._services, self.line
        if services.ear is not None:
            return services.ear(line, language, first, driver.post)
        if services.activity is None:
            raise RuntimeError("an ear needs a voice activity detector")
        return Ear(
            call_id=self.id,
            codec=line.codec,
            sample_rate=line.sample_rate,
            language=language,
            first_utterance=first,
            activity=services.activity,
            transcriber=services.stages.transcriber,
            gate=services.media.gate,
            post=driver.post,
            identify=services.identify,
        )

    # -- a newer line -----------------------------------------------------------------------------

    def take_over(self, start: CallStart, line: Line) -> LineSink:
        """The newest line of a call holds it, at once; the older one is told and closed (F21)."""
        old, self.start = self.sink, start
        if self._early is None:
            self._detach_parts()
        old.cut()
        self.sink = LineSink(self, line)
        old.line.close(CLOSE_TAKEN_OVER, "session.taken_over")
        if self.driver is None or self._early is not None:
            return self.sink  # still opening: the parts will be made for the newest line
        session = self.driver.session
        self._attach_parts(session)
        self._epoch = max(self._epoch, session.state.epoch) + 1
        self.driver.post(LineAttached(start.transport, self._epoch))
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
    def is_detached(self) -> bool:
        """Its line broke; it waits for its caller."""
        return self.driver is not None and self.driver.session.state.phase is Phase.DETACHED
