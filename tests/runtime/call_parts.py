"""What the tests of the runtime share: lines, ears and voices under the test's control, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from antiphon.kernel import events as ev
from antiphon.kernel.policy import Policy
from antiphon.languages import SPOKEN_BY_TURNS
from antiphon.media.playout import Playout
from antiphon.runtime.chain import Chain
from antiphon.runtime.host import Host
from antiphon.runtime.pacing import PacingWheel
from antiphon.runtime.phrases import PhraseBook
from antiphon.runtime.places import Places
from antiphon.runtime.ports import Act as PortAct
from antiphon.runtime.ports import (
    CallStart,
    Heard,
    Journal,
    Line,
    ReplyEnd,
    ReplyPart,
    ReplyRequest,
    Sound,
    Synthesizer,
    TextDelta,
)
from antiphon.runtime.resilience import StagePolicy
from antiphon.runtime.services import Media, Services
from antiphon.runtime.speech import Mouth
from antiphon.runtime.stages import Limits, Providers
from antiphon.runtime.writer import JournalWriter
from antiphon.sim.far_end import FarEnd, read_back
from antiphon.sim.providers import SimResponder, SimSynthesizer
from antiphon.stores.memory import MemoryJournal

WORD_S = 0.2
"""How long a simulated voice takes for a word."""


def now() -> float:
    return round(asyncio.get_running_loop().time(), 3)


SPEECH = Limits().tts


class Wire:
    """A line that writes down what it is told."""

    transport = "test"
    codec = "pcm16"
    sample_rate = 8000
    marks = False

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def send(self, audio: bytes) -> None:
        self.told.append(("send", len(audio)))

    def mark(self, name: str) -> None:
        self.told.append(("mark", name))

    def clear(self) -> None:
        self.told.append(("clear", None))

    def hang_up(self, reason: str) -> None:
        self.told.append(("hang_up", reason))

    def close(self, code: int, reason: str) -> None:
        self.told.append(("close", (code, reason)))

    @property
    def ends(self) -> list[tuple[str, object]]:
        return [(what, how) for what, how in self.told if what in ("hang_up", "close")]


class Events(list[ev.AnyEvent]):
    """Collects facts; ``names`` are their types, without the ones nobody waits for."""

    def of(self, *kinds: type) -> list[ev.AnyEvent]:
        return [event for event in self if isinstance(event, kinds)]

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self]


async def phrase_book(*variants: str) -> PhraseBook:
    book = PhraseBook(lambda language, kind: variants or (f"{kind}0 {kind}1",))
    assert await book.prepare((SimSynthesizer("voice"),), ("en-IN",), SPOKEN_BY_TURNS) == 0
    return book


class MouthRoom:
    """A mouth, the far end that hears it, and the facts it reports; ``on_fact`` is told of each."""

    def __init__(
        self,
        phrases: PhraseBook,
        *voices: object,
        latency_s: float = 0.02,
        policy: StagePolicy = SPEECH,
        message_ms: int = 20,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.facts = Events()
        self.on_fact: Callable[[ev.AnyEvent], None] = lambda event: None
        self.line = FarEnd(loop, latency_s, lambda reason: None)
        self.wheel = PacingWheel(loop)
        self.voices: Chain[Synthesizer] = Chain("tts", voices or (SimSynthesizer("voice"),), policy)  # type: ignore[arg-type]
        self.mouth = Mouth(
            call_id="c1",
            line=self.line,
            playout=Playout(codec="pcm16", sample_rate=8000, message_ms=message_ms, lead_ms=120, marks=True),
            wheel=self.wheel,
            phrases=phrases,
            voices=self.voices,
            voice_of=lambda language: "",
            post=self._post,
        )
        self.line.sink = self  # type: ignore[assignment]

    def _post(self, event: ev.AnyEvent) -> None:
        self.facts.append(event)
        self.on_fact(event)

    def on_mark(self, name: str) -> None:
        self.mouth.on_mark(name)

    def speak(self, turn: int, *texts: str, attempt: int = 1, complete: bool = True) -> None:
        self.mouth.begin_attempt(turn, attempt)
        for text in texts:
            self.mouth.speak(turn, attempt, text, "en-IN")
        if complete:
            self.mouth.complete(ev.ReplyGenerated(turn, attempt, len(texts)))

    @property
    def heard(self) -> list[str]:
        """Every word that was heard, in order; one that was cut off has a dash behind it."""
        audio = b"".join(piece for _, _, piece in self.line.played)
        return [word + ("" if samples >= 8000 * WORD_S - 8 else "-") for word, samples in read_back(audio)]


class Voice:
    """A synthesizer of the test's: ``speak`` is an async generator function of the text."""

    def __init__(self, speak: Callable[[str], AsyncGenerator[Sound, None]], name: str = "voice") -> None:
        self.name = name
        self._speak = speak
        self.asked: list[str] = []

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to close."""

    def synthesize(self, text: str, *, language: str, sample_rate: int, voice: str = "") -> AsyncGenerator[Sound, None]:
        self.asked.append(text)
        return self._speak(text)


class Answers:
    """A responder of the test's: ``answer`` is an async generator function of the request and ``act``."""

    def __init__(self, answer: Callable[[ReplyRequest, PortAct], AsyncGenerator[ReplyPart, None]]) -> None:
        self.name = "answers"
        self._answer = answer

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to close."""

    def respond(self, request: ReplyRequest, act: PortAct) -> AsyncGenerator[ReplyPart, None]:
        return self._answer(request, act)


async def in_pieces(*texts: str) -> AsyncGenerator[ReplyPart, None]:
    for text in texts:
        yield TextDelta(text)
    yield ReplyEnd()


class TestEar:
    """Fits ``Listener``; what it heard is written down, what it is to say is put in by the test."""

    __test__ = False

    def __init__(self, first: int, post: Callable[[ev.AnyEvent], None]) -> None:
        self.first = first
        self.post = post
        self.audio: list[bytes] = []
        self.finished: list[int] = []
        self.closed = False

    def on_audio(self, audio: bytes) -> None:
        self.audio.append(audio)

    def finish(self, utterance: int) -> None:
        self.finished.append(utterance)

    def hint(self, language: str) -> None:
        """One language is enough here."""

    def close(self) -> None:
        self.closed = True


class DeafTranscriber:
    name = "deaf"

    async def start(self) -> None:
        """Nothing to start."""

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> object:
        raise RuntimeError("these tests hear by TestEar")

    async def close(self) -> None:
        """Nothing to close."""


POLICY = Policy(backchannels={"en-IN": ("mm-hm",)}, silence_ms=60_000)


class SlowJournal(MemoryJournal):
    """A journal that takes a while to say what it knows."""

    def __init__(self, seconds: float = 0.5) -> None:
        super().__init__()
        self.seconds = seconds

    async def claim(self, session: str) -> int:
        await asyncio.sleep(self.seconds)
        return await super().claim(session)


class House:
    """A host with everything around it. ``ears`` are those it made, in order; ``facts`` what it observed."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal or MemoryJournal()
        self.ears: list[TestEar] = []
        self.facts = Events()
        self.entries: list[ev.Entry] = []
        self.lost: list[str] = []

    async def open(
        self,
        *,
        max_sessions: int = 10,
        policy: Policy = POLICY,
        places: Places | None = None,
        responder: object = None,
        **providers: object,
    ) -> Host:
        """``providers`` as in ``Providers``; with ``responder`` there is only that one."""
        loop = asyncio.get_running_loop()
        self.writer = JournalWriter(self.journal, on_stale=self._lost)
        await self.writer.start()
        self.wheel = PacingWheel(loop)
        spare: dict[str, object] = {
            "transcribers": (DeafTranscriber(),),
            "responders": (responder or SimResponder("llm"),),
            "degraded": SimResponder("degraded"),
            "synthesizers": (SimSynthesizer("tts"),),
        }
        self.host = Host(
            Services(
                providers=Providers(**(spare | providers)),  # type: ignore[arg-type]
                phrases=await phrase_book(),
                wheel=self.wheel,
                journal=self.journal,
                writer=self.writer,
                policy=policy,
                media=Media(message_ms=20, lead_ms=120),
                ear=self._ear,
                max_sessions=max_sessions,
                wall_clock=lambda: "",
            ),
            places,
        )
        self.host.observe(self._observe)
        return self.host

    def _lost(self, session: str) -> None:
        self.host.lost(session)

    def _ear(self, line: Line, language: str, first: int, post: Callable[[ev.AnyEvent], None]) -> TestEar:
        ear = TestEar(first, post)
        self.ears.append(ear)
        return ear

    def _observe(self, session: str, entry: ev.Entry, commands: Sequence[object]) -> None:
        self.facts.append(entry.event)
        self.entries.append(entry)

    async def shut(self) -> None:
        await self.host.drain(0)
        await self.writer.close()
        self.wheel.close()
        await asyncio.sleep(0)


def start(call_id: str = "call-1") -> CallStart:
    return CallStart(call_id, "test", "en-IN")
