"""A transcriber over any LiveKit Agents STT plugin: ``livekit.plugins.deepgram:STT`` and the like.

A plugin that streams gets a stream of its own for each utterance, opened with its first audio, so that it connects
while the caller speaks: its input is ended when the utterance is, which makes it finish what it has. When that is done
differs: some streams end then, some seconds later, some only tell a last transcript. So an utterance is over when the
stream ends, or ``settle_ms`` after the last event if all that was heard is final, or at the latest after ``final_s``.
A plugin that does not stream is asked once the utterance is over.

Error codes: ``stt.plugin``, ``stt.unauthorized``, ``stt.quota``, ``stt.rate_limited``, ``stt.not_found``,
``stt.bad_request``, ``stt.server``, ``stt.unreachable``, ``stt.cut``, ``stt.timeout_first_byte``,
``stt.timeout_total``, ``stt.too_long``, ``stt.busy``, ``stt.closed``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Annotated, Any, Literal

from msgspec import Meta

from antiphon.errors import ProviderError
from antiphon.providers.failures import failed
from antiphon.providers.livekit_plugin import NAME, Plugin, PluginSettings, Seconds, closed
from antiphon.providers.settings import convert
from antiphon.providers.stt.utterances import MAX_OWED, Clip, Owed, Streams, UtteranceStream, Words, check_rate
from antiphon.providers.stt.whisper_text import tag_of
from antiphon.runtime.ports import Heard

log = logging.getLogger(__name__)


MAX_UTTERANCE_S = 300
"""Of audio that a plugin is given for one utterance; it may hold all of it while it connects."""

MAX_TEXT_CHARS = 20_000

SPOKEN_S = 3.0
"""Who spoke for so long said something: nothing heard of it means that the plugin hangs."""


class LivekitTranscriberSettings(PluginSettings, frozen=True, kw_only=True):
    """See ``PluginSettings``.

    ``language``: ``options`` leaves the language to the plugin's options; ``call`` tells it the call's BCP 47 tag with
    each utterance, which not every plugin understands. ``settle_ms`` and ``final_s``: see the module; ``total_s`` is
    for a plugin that does not stream.
    """

    language: Literal["options", "call"] = "options"
    settle_ms: Annotated[int, Meta(ge=0, le=5000)] = 300
    final_s: Seconds = 3.0
    total_s: Seconds = 15.0


class LivekitTranscriber:
    """The ``Transcriber`` port over a plugin, or over one object of LiveKit's (``given``)."""

    name = NAME
    final_ms = 4_000
    """A plugin that streams and does not end by itself takes ``final_s``; one that does not stream, about as much."""

    def __init__(self, settings: LivekitTranscriberSettings, *, given: object | None = None) -> None:
        self.settings = settings
        self.plugin = Plugin("stt", settings, given)
        self._whole = Streams(self.name)
        self._streams: set[LivekitStream] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = False

    async def start(self) -> None:
        """Raises ``MissingExtra`` and ``ConfigError``."""
        await self.plugin.start()
        self._open = True

    def open(
        self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]
    ) -> LivekitStream | UtteranceStream:
        """See ``Transcriber``. Raises ``ProviderError`` before ``start`` and for a rate outside 8 to 48 kHz."""
        if not self._open:
            raise failed("the transcriber is not started", "closed", self.name, "stt")
        check_rate(sample_rate, self.name)
        if not self.plugin.of(language).capabilities.streaming:
            return self._whole.open(
                sample_rate=sample_rate, language=language, on_heard=on_heard, recognise=self._recognise
            )
        stream = LivekitStream(self, sample_rate, language, on_heard, self._streams.discard)
        self._streams.add(stream)
        return stream

    async def close(self) -> None:
        """Closes all streams, and what the plugin has of them. May be called twice."""
        self._open = False
        for stream in tuple(self._streams):
            stream.close()
        await self._whole.close()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        await self.plugin.close()

    def do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs what ``close`` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def told(self, language: str) -> dict[str, str]:
        """The keyword that tells a plugin the language."""
        return {"language": language} if language and self.settings.language == "call" else {}

    async def _recognise(self, clip: Clip, tell: Callable[[str], None]) -> Words:
        frame = import_module("livekit.rtc").AudioFrame(clip.pcm, clip.sample_rate, 1, len(clip.pcm) // 2)
        plugin = self.plugin
        try:
            asked = plugin.of(clip.language).recognize(
                [frame], conn_options=plugin.options(), **self.told(clip.language)
            )
            async with asyncio.timeout(self.settings.total_s):
                event = await plugin.task(asked)
        except Exception as error:
            raise plugin.error(error) from error
        if not event.alternatives:
            return Words("")
        best = event.alternatives[0]
        return Words(str(best.text), tag_of(str(best.language or ""), (clip.language,)), sure(best))


class LivekitStream:
    """The ``TranscriberStream`` port over a plugin that streams. Utterances are numbered from 1."""

    def __init__(
        self,
        owner: LivekitTranscriber,
        sample_rate: int,
        language: str,
        on_heard: Callable[[Heard], None],
        on_closed: Callable[[LivekitStream], None],
    ) -> None:
        self.owner = owner
        self.owed = Owed(on_heard)
        self.unsettled: set[_Utterance] = set()
        """Those of which the plugin has something, the one being spoken included."""
        self._rate = sample_rate
        self._language = language
        self._on_closed = on_closed
        self._half = b""
        self._now: _Utterance | None = None
        """What is being spoken."""
        self._open = True
        self._frame: Any = import_module("livekit.rtc").AudioFrame

    def feed(self, pcm: bytes) -> None:
        if not self._open or not pcm:
            return
        if self._now is None:
            self._now = _Utterance(self, self._language)
        pcm = self._half + pcm
        samples = len(pcm) // 2
        self._half = pcm[2 * samples :]
        if samples:
            self._now.feed(self._frame(pcm[: 2 * samples], self._rate, 1, samples), samples / self._rate)

    def finish(self, utterance: int) -> None:
        if not self._open or utterance < self.owed.next:
            return
        now, self._now = self._now, None
        self._half = b""
        busy = len(self.owed) >= MAX_OWED
        self.owed.owe(utterance)
        if now is None:
            self.owed.end_soon(Heard(utterance, "", final=True))
        elif busy:
            now.drop()
            self.owed.end_soon(Heard(utterance, "", error="stt.busy"))
        else:
            now.finish(utterance)

    def hint(self, language: str) -> None:
        self._language = language

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._now = None
        self.owed.close()
        for utterance in tuple(self.unsettled):
            utterance.drop()
        self._on_closed(self)


class _Utterance:
    """One utterance at the plugin, in a stream of its own. ``number`` is 0 until it is finished."""

    def __init__(self, ear: LivekitStream, language: str) -> None:
        self._ear = ear
        self._owner = ear.owner
        self._plugin = ear.owner.plugin
        self._language = language
        self._number = 0
        self._seconds = 0.0
        self._finals: list[Any] = []
        self._interim: Any = None
        self._answers = False
        """Something came of the plugin, if only that somebody speaks."""
        self._error: ProviderError | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._settled = False
        self._stream: Any = None
        self._reader: asyncio.Task[None] | None = None
        ear.unsettled.add(self)
        try:
            stream = self._plugin.of(language).stream
            options = self._plugin.options()
            self._stream = self._plugin.call(stream, conn_options=options, **self._owner.told(language))
        except ProviderError as error:
            self._error = error
        else:
            self._reader = self._owner.do(self._read())

    def feed(self, frame: Any, seconds: float) -> None:
        if self._error is not None:
            return
        self._seconds += seconds
        if self._seconds > MAX_UTTERANCE_S:
            self._error = failed(f"an utterance is over {MAX_UTTERANCE_S} s", "too_long", NAME, "stt")
            return
        # A closed stream takes nothing more; why it closed is what the reader learns.
        with contextlib.suppress(RuntimeError):
            self._stream.push_frame(frame)

    def finish(self, number: int) -> None:
        self._number = number
        loop = asyncio.get_running_loop()
        if self._error is not None:
            loop.call_soon(self._settle)
            return
        with contextlib.suppress(RuntimeError):
            self._stream.end_input()
        self._until = loop.time() + self._owner.settings.final_s
        self._arm()

    def drop(self) -> None:
        """Nobody wants it any more: nothing is told of it."""
        self._settled = True
        self._let_go()

    async def _read(self) -> None:
        try:
            while (event := await self._plugin.next(self._stream)) is not None:
                self._take(event)
            if not self._number:
                self._error = failed("the plugin's stream ended while the caller spoke", "cut", NAME, "stt")
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it is told as a coded error
            self._error = self._plugin.error(error, "cut" if self._answers else "unreachable")
        if self._number:
            self._settle()

    def _take(self, event: Any) -> None:
        kind = str(event.type.value)
        self._answers = self._answers or kind != "recognition_usage"
        if event.alternatives and kind in {"interim_transcript", "preflight_transcript", "final_transcript"}:
            best = event.alternatives[0]
            if kind == "final_transcript":
                self._finals.append(best)
                self._interim = None
            else:
                self._interim = best
            if not self._settled:
                number = self._number or self._ear.owed.next
                self._ear.owed.partial(Heard(number, self._text(), confidence=sure(best)))
        if self._number:
            self._arm()

    def _arm(self) -> None:
        """Waits for more: not long if all that was heard is final."""
        if self._settled:
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        until = self._until
        if self._finals and self._interim is None:
            until = min(until, loop.time() + self._owner.settings.settle_ms / 1000)
        self._timer = loop.call_at(until, self._settle)

    def _settle(self) -> None:
        """Tells the end."""
        if self._settled:
            return
        self._settled = True
        text = self._text()
        if self._error is None and not text and not self._answers and self._seconds >= SPOKEN_S:
            waited = self._owner.settings.final_s
            self._error = failed(f"nothing came of the plugin within {waited:g} s", "timeout_total", NAME, "stt")
        if self._error is not None:
            log.warning("livekit: %s", self._error)
            heard = Heard(self._number, "", error=self._error.code)
        else:
            told = self._told()
            language = next((str(each.language) for each in told if each.language), "")
            surest = sum(sure(each) * len(each.text) for each in told) / max(1, sum(len(each.text) for each in told))
            tag = tag_of(language, (self._language,)) if language else ""
            heard = Heard(self._number, text, final=True, language=tag, confidence=surest)
        self._let_go()
        self._ear.owed.end(heard)

    def _told(self) -> list[Any]:
        return [*self._finals, *([self._interim] if self._interim is not None else ())]

    def _text(self) -> str:
        return " ".join(text for each in self._told() if (text := str(each.text).strip()))[:MAX_TEXT_CHARS]

    def _let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._ear.unsettled.discard(self)
        if self._reader is not None:
            self._reader.cancel()
            self._owner.do(self._close(self._reader))

    async def _close(self, reader: asyncio.Task[None]) -> None:
        await asyncio.wait({reader})
        await closed(self._stream.aclose())


def sure(data: Any) -> float:
    """A ``SpeechData``'s confidence within 0..1; 0 where the plugin does not tell."""
    value = float(data.confidence or 0.0)
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0


def build(settings: dict[str, object]) -> LivekitTranscriber:
    """``[stt] provider = "livekit"``. Raises ``ConfigError``, also where a named key is not set."""
    return LivekitTranscriber(convert(settings, LivekitTranscriberSettings, f"[stt] {NAME}"))
