"""One caller's ear for recognisers that take a whole recording and give its text.

Collects an utterance's audio, has it recognised once it is finished, and keeps the rules of the port:

- each ``finish`` is owed one final or one error, told in the order of the utterances and never from inside it;
- an utterance that is shorter than ``SHORTEST_MS`` or silent is a blank final, and nobody is asked: recognisers of
  this kind make words up out of silence;
- of an utterance over ``MAX_UTTERANCE_S`` the first so many seconds are recognised;
- with ``interim_ms`` the beginning is recognised too while the caller still speaks: one request at a time, which is
  given up when the utterance is finished, and no more of them in an utterance of which one failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import numpy as np

from antiphon.errors import ProviderError
from antiphon.runtime.ports import Heard

log = logging.getLogger(__name__)

SAMPLE_RATES = range(8000, 48_001)
"""Hz: from a telephone's to a sound card's."""

MAX_UTTERANCE_S = 60

PIECE_MS = 100
"""Where no guesses are asked for, nothing is done with an utterance before it is over."""

SHORTEST_MS = 100
"""Below this there is no word; OpenAI's endpoint refuses it ("Minimum audio length is 0.1 seconds")."""

QUIET_PEAK = 100
"""Of 32768 (-50 dB): below the hiss of an open telephone line."""

MAX_OWED = 8
"""Utterances of one caller that are being recognised; one more ends at once with ``stt.busy``."""


class Clip(msgspec.Struct, frozen=True):
    """An utterance, or its beginning: whole samples of PCM. ``language``: what the call expects, or ""."""

    pcm: bytes
    sample_rate: int
    language: str

    @property
    def silent(self) -> bool:
        if len(self.pcm) < self.sample_rate * SHORTEST_MS // 1000 * 2:
            return True
        wave = np.frombuffer(self.pcm, "<i2")
        return max(int(wave.max()), -int(wave.min())) < QUIET_PEAK


class Words(msgspec.Struct, frozen=True):
    """What a clip was understood as; the fields are those of ``Heard``."""

    text: str
    language: str = ""
    confidence: float = 0.0
    language_confidence: float = 0.0


Recognise = Callable[[Clip, Callable[[str], None]], Awaitable[Words]]
"""``await recognise(clip, tell)``: may ``tell`` the text so far. Raises ``ProviderError``; cancelling it stops it."""


def check_rate(sample_rate: int, provider: str) -> None:
    """Raises ``ProviderError`` (``stt.sample_rate``) for one that is none of ``SAMPLE_RATES``."""
    if sample_rate not in SAMPLE_RATES:
        message = f"a sample rate of {sample_rate} Hz is outside 8000 to 48000"
        raise ProviderError(message, provider=provider, stage="stt", code="stt.sample_rate", retryable=False)


async def until(news: asyncio.Event, true: Callable[[], object], seconds: float | None = None) -> bool:
    """Waits for a condition that only ``news`` can change; False if the time is over first."""
    try:
        async with asyncio.timeout(seconds):
            while not true():
                news.clear()
                await news.wait()
    except TimeoutError:
        return False
    return True


def nobody(text: str) -> None:
    """A ``tell`` for those who want the end alone."""


class Owed:
    """The ends that one caller's utterances are owed, told in the order of the utterances, each once.

    Recognisers may finish them in another order. Nothing is told after ``close``.
    """

    def __init__(self, on_heard: Callable[[Heard], None]) -> None:
        self._on_heard = on_heard
        self._ends: dict[int, Heard | None] = {}
        self._told = ""
        self._open = True
        self.next = 1
        """The number of the utterance that is being spoken."""

    def __len__(self) -> int:
        return len(self._ends)

    def numbers(self) -> list[int]:
        """The utterances that are finished and have no end yet."""
        return [number for number, end in self._ends.items() if end is None]

    def owe(self, number: int) -> None:
        """The utterance is finished; ``end`` will follow."""
        self._ends[number] = None
        self.next = number + 1

    def end(self, heard: Heard) -> None:
        """The final or error of an utterance that is owed one, or of the one being spoken, is told in its turn."""
        if self._open:
            self._ends[heard.utterance] = heard
        while self._ends:
            number = next(iter(self._ends))
            first = self._ends[number]
            if first is None:
                return
            del self._ends[number]
            self._told = ""
            self._on_heard(first)

    def end_soon(self, heard: Heard) -> None:
        """Not from inside ``finish``: its caller may not be ready to be called back."""
        asyncio.get_running_loop().call_soon(self.end, heard)

    def partial(self, heard: Heard) -> None:
        """Told if it is news, and nothing before its utterance is still owed."""
        text = heard.text.strip()
        if not self._open or not text or text == self._told:
            return
        if heard.utterance == next(iter(self._ends), self.next):
            self._told = text
            self._on_heard(msgspec.structs.replace(heard, text=text))

    def close(self) -> None:
        self._open = False
        self._ends.clear()


class UtteranceStream:
    """The ``TranscriberStream`` port. Utterances are numbered from 1."""

    def __init__(
        self,
        streams: Streams,
        *,
        sample_rate: int,
        language: str,
        on_heard: Callable[[Heard], None],
        recognise: Recognise,
        interim_ms: int,
    ) -> None:
        self._streams = streams
        self._rate = sample_rate
        self._language = language
        self._owed = Owed(on_heard)
        self._recognise = recognise
        self._step = interim_ms * sample_rate // 1000 * 2
        self._most = MAX_UTTERANCE_S * sample_rate * 2
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = True
        self._audio = bytearray()
        self._expected = language
        """The language of the present utterance: the one expected when it began."""
        self._due = self._step
        """So many bytes of it make the next partial."""
        self._interim: asyncio.Task[None] | None = None

    def feed(self, pcm: bytes) -> None:
        if not self._open or not pcm:
            return
        if not self._audio:
            self._expected = self._language
        room = self._most - len(self._audio)
        if room <= 0:
            return
        self._audio += pcm[:room]
        if self._step and self._interim is None and len(self._audio) >= self._due:
            self._due = len(self._audio) + self._step
            self._guess(self._clip())

    def finish(self, utterance: int) -> None:
        if not self._open or utterance < self._owed.next:
            return
        clip = self._clip()
        if len(self._audio) >= self._most:
            log.warning("%s: an utterance is over %d s: the rest of it is not heard", self._name, MAX_UTTERANCE_S)
        if self._interim is not None:
            self._interim.cancel()
        busy = len(self._owed) >= MAX_OWED
        self._owed.owe(utterance)
        self._begin()
        if clip.silent:
            self._owed.end_soon(Heard(utterance, "", final=True))
        elif busy:
            self._owed.end_soon(Heard(utterance, "", error="stt.busy"))
        else:
            self._do(self._end(utterance, clip))

    def hint(self, language: str) -> None:
        self._language = language

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._audio = bytearray()
        self._owed.close()
        for task in tuple(self._tasks):
            task.cancel()
        self._streams.forget(self)

    @property
    def _name(self) -> str:
        return self._streams.name

    def _begin(self) -> None:
        self._audio = bytearray()
        self._expected = self._language
        self._due = self._step
        self._interim = None

    def _clip(self) -> Clip:
        return Clip(bytes(self._audio[: len(self._audio) & ~1]), self._rate, self._expected)

    def _do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        self._streams.tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._streams.tasks.discard)
        return task

    def _guess(self, clip: Clip) -> None:
        if not clip.silent:
            self._interim = self._do(self._so_far(self._owed.next, clip))

    async def _so_far(self, number: int, clip: Clip) -> None:
        """Recognises the beginning of the present utterance. It is cancelled when that is finished."""
        try:
            words = await self._recognise(clip, nobody)
        except ProviderError as error:
            log.info("%s: a partial failed, the utterance goes on without: %s", self._name, error)
            return  # ``_interim`` stays: no more of them
        self._interim = None
        self._owed.partial(Heard(number, words.text))

    async def _end(self, number: int, clip: Clip) -> None:
        def tell(text: str) -> None:
            self._owed.partial(Heard(number, text))

        try:
            words = await self._recognise(clip, tell)
        except ProviderError as error:
            # Only the code goes on from here; what to do about it stands in the text.
            log.warning("%s: %s", self._name, error)
            heard = Heard(number, "", error=error.code)
        except Exception:
            # Somebody else's recogniser may raise anything, and an utterance without an end leaves the caller waiting.
            log.exception("%s: the recogniser broke", self._name)
            heard = Heard(number, "", error="stt.failed")
        else:
            heard = Heard(
                number,
                words.text.strip(),
                final=True,
                language=words.language,
                confidence=words.confidence,
                language_confidence=words.language_confidence,
            )
        self._owed.end(heard)


class Streams:
    """The open streams of one transcriber called ``name``, and the work that is under way for them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tasks: set[asyncio.Task[None]] = set()
        self._open: set[UtteranceStream] = set()

    def open(
        self,
        *,
        sample_rate: int,
        language: str,
        on_heard: Callable[[Heard], None],
        recognise: Recognise,
        interim_ms: int = 0,
    ) -> UtteranceStream:
        stream = UtteranceStream(
            self,
            sample_rate=sample_rate,
            language=language,
            on_heard=on_heard,
            recognise=recognise,
            interim_ms=interim_ms,
        )
        self._open.add(stream)
        return stream

    def forget(self, stream: UtteranceStream) -> None:
        self._open.discard(stream)

    async def close(self) -> None:
        """Closes all streams and waits until nothing of them is under way."""
        for stream in tuple(self._open):
            stream.close()
        if self.tasks:
            await asyncio.wait(tuple(self.tasks))
