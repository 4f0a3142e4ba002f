"""One simulated call from beginning to end, through the real host, driver and executor, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from antiphon.errors import AntiphonError, StoreError
from antiphon.kernel.commands import AnyCommand, CancelReply, HangUp
from antiphon.kernel.events import (
    AnyEvent,
    DeadlineReached,
    Entry,
    IntentReady,
    PassagesReady,
    SessionClosed,
    TranscriptFinal,
    TranscriptPartial,
)
from antiphon.kernel.policy import Policy
from antiphon.kernel.session import Session
from antiphon.languages import SPOKEN_BY_TURNS
from antiphon.runtime.host import Host
from antiphon.runtime.pacing import PacingWheel
from antiphon.runtime.phrases import PhraseBook
from antiphon.runtime.ports import Batch, CallStart, Heard, Line, TranscriberStream
from antiphon.runtime.services import Media, Services
from antiphon.runtime.stages import Providers
from antiphon.runtime.writer import JournalWriter
from antiphon.sim.caller import SimEar, Voice
from antiphon.sim.far_end import FarEnd
from antiphon.sim.plan import Act, Plan
from antiphon.sim.providers import Faults, SimClassifier, SimResponder, SimRetriever, SimSynthesizer
from antiphon.stores.memory import MemoryJournal

CALL = "sim-call"
LANGUAGES = ("en-IN", "te-IN", "hi-IN")
POLICY = Policy(
    languages=LANGUAGES,
    backchannels={"en-IN": ("mm-hm",)},
    unfinished={"en-IN": ("and",)},
    history_turns=1000,
    ttl_ms=60_000,
)
PATIENCE_S = 12.0
TURN_GAP_S = 0.7
LONGEST_CALL_S = 1800.0
START_S = 0.4
"""A process needs a moment before it takes calls."""
NOTICED_S = 0.15
"""By then a voice has opened the gate."""
LATEST_WORDS_S = 3.5
"""Words that a slow transcriber finds later than this after they were said were not said."""
STUBBORN_S = 6.0
"""By then a provider that does not notice being cancelled has said all it had to say."""


class Decision(msgspec.Struct, frozen=True):
    """An entry and what was decided on it, at a time of the virtual clock (seconds)."""

    at: float
    entry: Entry
    commands: tuple[AnyCommand, ...]
    floor: str
    """The state afterwards."""


class Record(msgspec.Struct):
    """All that happened, for the invariants."""

    plan: Plan
    decisions: list[Decision]
    lines: list[FarEnd]
    entries: list[Entry] = []
    snapshot: bytes = b""
    effects_run: list[str] = []
    hung_up_on: list[str] = []
    """Hang-ups decided while the caller was saying something, by reason."""
    taken_for_words: list[float] = []
    """When the agent gave up the floor although nobody had said anything for a while."""
    said: list[tuple[float, str]] = []
    """What the caller said, word by word, and when."""
    raised: list[str] = []
    """What steps of the kernel raised."""
    crashed_at: list[float] = []
    open_ears: int = 0
    fold: tuple[Session | None, str] | None = None
    """The journal folded again, or why that diverged; made when it is first asked for."""
    closed: bool = False
    leaked: list[str] = []


async def render_phrases() -> PhraseBook:
    """What no world changes: rendering it anew would be a third of the work of a simulated call."""
    phrases = PhraseBook(lambda language, kind: (f"p{kind}0 p{kind}1 p{kind}2",))
    await phrases.prepare((SimSynthesizer("sim-voice"),), LANGUAGES, SPOKEN_BY_TURNS)
    return phrases


class SimJournal(MemoryJournal):
    """The memory journal with planned trouble."""

    def __init__(self, planned: tuple[str, ...]) -> None:
        super().__init__()
        self._faults = Faults(planned)

    def kept(self, session: str) -> list[Entry]:
        """What would be read after a crash."""
        found = self._sessions.get(session)
        return [] if found is None else list(found.entries)

    async def append(self, batches: Sequence[Batch]) -> list[Exception | None]:
        fault = self._faults.next()
        await asyncio.sleep(0.4 if fault == "slow" else 0.002)
        if fault == "fail":
            return [StoreError("planned", code="store.planned") for _ in batches]
        return await super().append(batches)


class World:
    """Builds one call's surroundings, plays the plan and records what comes of it."""

    def __init__(self, plan: Plan, phrases: PhraseBook) -> None:
        self.plan = plan
        self.phrases = phrases
        self.loop = asyncio.get_running_loop()
        self.record = Record(plan=plan, decisions=[], lines=[])
        self.voice = Voice(self.loop)
        self.ears: list[SimEar] = []
        self.decided_to_hang_up = 0.0
        self.stt = Faults(plan.stt)
        self.languages = Faults(plan.languages)
        self.over = asyncio.Event()
        self.journal = SimJournal(plan.journal)
        self.writer = JournalWriter(self.journal)
        self.wheel = PacingWheel(self.loop, beat_s=0.05)
        self.main = asyncio.current_task()
        self.classifier: SimClassifier
        self.retriever: SimRetriever
        self.host: Host

    async def play(self) -> Record:
        await self._begin_process()
        self._connect()
        script = asyncio.ensure_future(self._script())
        try:
            async with asyncio.timeout(LONGEST_CALL_S):
                await self.over.wait()
        except TimeoutError:
            pass
        self.record.closed = self.host.get(CALL) is None
        script.cancel()
        await asyncio.gather(script, return_exceptions=True)
        await self.host.drain(0)
        await asyncio.sleep(STUBBORN_S)
        await self.writer.close()
        self.wheel.close()
        self.record.entries = await self.journal.read(CALL)
        self.record.said = self.voice.said
        self.record.open_ears = sum(not ear.closed for ear in self.ears)
        self.record.leaked = [str(task.get_coro()) for task in asyncio.all_tasks() if task is not self.main]
        return self.record

    async def _begin_process(self) -> None:
        await self.writer.start()
        self.host = Host(await self._services())
        self.host.observe(self._observe)

    async def _services(self) -> Services:
        plan = self.plan
        self.classifier = SimClassifier("sim-intent", plan.intent)
        self.retriever = SimRetriever("sim-retrieval", plan.retrieval)
        await asyncio.sleep(START_S)
        return Services(
            providers=Providers(
                transcribers=(_NoTranscriber(),),
                responders=(
                    SimResponder("sim-llm", plan.llm),
                    *(SimResponder("sim-spare") for _ in range(plan.spares)),
                ),
                degraded=SimResponder("sim-degraded"),
                synthesizers=(
                    SimSynthesizer("sim-tts", plan.tts),
                    *(SimSynthesizer("sim-spare") for _ in range(plan.spares)),
                ),
                classifier=self.classifier,
                retriever=self.retriever,
            ),
            phrases=self.phrases,
            wheel=self.wheel,
            journal=self.journal,
            writer=self.writer,
            policy=msgspec.structs.replace(POLICY, greeting=plan.greeting),
            media=Media(message_ms=100, lead_ms=200),
            ear=self._ear,
            effectors={"look_up": self._effect, "book": self._effect},
            wall_clock=lambda: "",
        )

    def _ear(self, line: Line, language: str, first: int, post: Callable[[AnyEvent], None]) -> SimEar:
        ear = SimEar(self.loop, first, post, self.stt, self.languages)
        self.voice.new_ear(ear)
        self.ears.append(ear)
        return ear

    async def _effect(self, arguments: str, key: str) -> str:
        self.record.effects_run.append(key)
        await asyncio.sleep(0.1)
        return "done"

    def _connect(self) -> None:
        if self.record.snapshot:
            return  # the call is over: nobody comes back to it
        line = FarEnd(self.loop, self.plan.latency_ms / 1000, self._hung_up)
        try:
            line.sink = self.host.connect(CallStart(CALL, "sim", "en-IN"), line)
        except AntiphonError:
            self.over.set()  # the call was just ending: the carrier is told so, and ends it
            return
        self.record.lines.append(line)

    def _hung_up(self, reason: str) -> None:
        """The agent ends the call: the carrier confirms a moment later."""
        since = self.voice.talking_since
        if since is not None and since < self.decided_to_hang_up - NOTICED_S:
            self.record.hung_up_on.append(reason)
        sink = self.record.lines[-1].sink
        if sink is not None:
            self.loop.call_later(0.1, sink.on_hangup, "agent")

    def _observe(self, session: str, entry: Entry, commands: tuple[AnyCommand, ...]) -> None:
        call = self.host.get(CALL)
        driver = call.driver if call is not None else None
        floor = str(driver.session.floor) if driver is not None else ""
        self.record.decisions.append(Decision(self.loop.time(), entry, commands, floor))
        if driver is not None and driver.session.last_failure is not None:
            self.record.raised.append(f"{type(entry.event).__name__}: {driver.session.last_failure!r}")
        self._judge(entry.event, commands, floor)
        asked = {IntentReady: self.classifier, PassagesReady: self.retriever}.get(type(entry.event))
        if asked is not None and asked.twice and call is not None:
            asked.twice = False
            self.loop.call_later(0.3, call.post, entry.event)
        if isinstance(entry.event, SessionClosed):
            if driver is not None:
                self.record.snapshot = driver.session.snapshot()
            self.loop.call_later(1.0, self.over.set)

    def _judge(self, event: AnyEvent, commands: tuple[AnyCommand, ...], floor: str) -> None:
        """What can only be seen while it happens."""
        now, voice = self.loop.time(), self.voice
        if any(isinstance(command, HangUp) for command in commands):
            self.decided_to_hang_up = now
        by_ear = isinstance(event, (TranscriptPartial, TranscriptFinal)) or event == DeadlineReached("interrupt")
        cancels = floor == "LISTENING" and any(isinstance(command, CancelReply) for command in commands)
        if by_ear and cancels and voice.talking_since is None and now - voice.weighty_until > LATEST_WORDS_S:
            self.record.taken_for_words.append(now)

    # -- what the caller does ---------------------------------------------------------------------

    async def _script(self) -> None:
        for act in self.plan.acts:
            await self._do(act)
            if self.over.is_set():
                return

    async def _do(self, act: Act) -> None:
        after = act.after_ms / 1000
        match act.kind:
            case "ask":
                await self._quiet(TURN_GAP_S)
                await asyncio.sleep(after)
                await self.voice.say(act.words)
            case "split":
                await self._quiet(TURN_GAP_S)
                await self.voice.say(act.words + 1, pause_ms=act.after_ms)
            case "interrupt":
                if await self._agent_speaks():
                    await asyncio.sleep(after)
                    await self.voice.say(act.words)
            case "backchannel":
                if await self._agent_speaks():
                    await asyncio.sleep(after)
                    await self.voice.say(1, backchannel=True)
            case "cough":
                if await self._agent_speaks():
                    await asyncio.sleep(after)
                    await self.voice.cough(0.1 + act.words * 0.08)
            case "digits":
                await self._quiet(0.2)
                await self._digits(act, after)
            case "key":
                if await self._agent_speaks():
                    await asyncio.sleep(after)
                    await self._digits(act, 0.15)
            case "silence":
                await asyncio.sleep(after)
            case "drop" | "second_line":
                await self._change_line(act, after)
            case "crash":
                await self._crash(after)
            case "hang_up":
                await asyncio.sleep(after)
                sink = self.record.lines[-1].sink
                if sink is not None and not self.record.lines[-1].closed:
                    self.record.lines[-1].break_off()
                    sink.on_hangup("caller")

    async def _digits(self, act: Act, between: float) -> None:
        for digit in range(act.words):
            sink = self.record.lines[-1].sink
            if sink is not None:
                sink.on_digit(str(digit))
            await asyncio.sleep(between)

    async def _change_line(self, act: Act, after: float) -> None:
        line = self.record.lines[-1]
        if act.kind == "drop" and line.sink is not None:
            line.break_off()
            line.sink.on_dropped("line.lost")
            if act.after_ms < 0:
                await self.over.wait()
                return
            await asyncio.sleep(after)
        if not self.over.is_set():
            self._connect()

    async def _crash(self, after: float) -> None:
        """The process dies: no goodbye, no flush. What the journal holds is all that the next one knows."""
        if self.record.snapshot:
            return
        self.record.lines[-1].break_off()
        call = self.host.get(CALL)
        if call is not None:
            call.shut_down()
        spared = {asyncio.current_task(), self.main}
        # A set of tasks has another order in every process; their names count up.
        for task in sorted(asyncio.all_tasks() - spared, key=lambda task: (len(task.get_name()), task.get_name())):
            task.cancel()
        self.record.crashed_at.append(self.loop.time())
        await asyncio.sleep(after)
        kept = self.journal.kept(CALL)
        self.record.decisions = self.record.decisions[: len(kept)]
        self.writer = JournalWriter(self.journal)
        await self._begin_process()
        self._connect()

    async def _quiet(self, gap: float) -> None:
        """Waits as a person would for the agent to have finished, not for ever."""
        until = self.loop.time() + PATIENCE_S
        while (left := until - self.loop.time()) > 0:
            quiet = self.record.lines[-1].quiet_for()
            if quiet >= gap:
                return
            await asyncio.sleep(min(left, 0.1 if quiet < 0 else max(gap - quiet, 0.01)))

    async def _agent_speaks(self) -> bool:
        until = self.loop.time() + PATIENCE_S
        while self.loop.time() < until:
            if self.record.lines[-1].quiet_for() < 0:
                return True
            await asyncio.sleep(0.05)
        return False


class _NoTranscriber:
    """Simulated callers are heard by ``SimEar``; nothing may ask for this."""

    name = "none"

    async def start(self) -> None:
        """Nothing to start."""

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> TranscriberStream:
        raise RuntimeError("simulated calls do not transcribe")

    async def close(self) -> None:
        """Nothing to close."""
