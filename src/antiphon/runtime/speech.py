"""The mouth of one call: text segments and prepared phrases in, audio on the line out.

Segments are synthesized one after the other, well ahead of being heard, and queued in the playout
buffer; the pacing wheel sends them. What of it the caller heard is known to the sample, and comes
back as events. A segment gets its place in playout only with its first sound, so a filler that is
needed while a slow voice has not begun still goes before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from contextlib import aclosing

import msgspec

from antiphon.errors import AntiphonError, ProviderError
from antiphon.kernel.commands import Say
from antiphon.kernel.events import (
    MAX_TEXT,
    AnyEvent,
    PlayoutFinished,
    PlayoutStarved,
    PlayoutStopped,
    ReplyGenerated,
    SegmentCut,
    SegmentPlayed,
    SegmentReady,
    SegmentStarted,
    SegmentSynthesized,
    StageFailed,
    StageRerouted,
)
from antiphon.kernel.history import whole_words
from antiphon.media.codec import bytes_per_sample, encode
from antiphon.media.playout import Edge, Playout
from antiphon.runtime.chain import Chain, Member
from antiphon.runtime.pacing import PacingWheel
from antiphon.runtime.phrases import PhraseBook
from antiphon.runtime.ports import Line, Synthesizer
from antiphon.runtime.voicing import Rehearsal, voiced

AHEAD_MS = 30_000
"""Synthesis pauses while this much is queued: a long answer that is interrupted should not have been paid for."""
ROOM_POLL_S = 0.5

log = logging.getLogger("antiphon.mouth")


class _Item(msgspec.Struct):
    """A segment that waits to be synthesized, or the end of an attempt."""

    attempt: int
    text: str
    language: str
    end: ReplyGenerated | None = None
    rehearsal: Rehearsal | None = None


class Mouth:
    """Speaks to one caller."""

    def __init__(
        self,
        *,
        call_id: str,
        line: Line,
        playout: Playout,
        wheel: PacingWheel,
        phrases: PhraseBook,
        voices: Chain[Synthesizer],
        voice_of: Callable[[str], str],
        post: Callable[[AnyEvent], None],
    ) -> None:
        self.call_id = call_id
        self.line = line
        self._playout = playout
        self._wheel = wheel
        self._phrases = phrases
        self._voices = voices
        self.voice_of = voice_of
        self._post = post
        self._items: deque[_Item] = deque()
        self._pump_task: asyncio.Task[None] | None = None
        self._turn = -1
        self._next_segment = 0
        self._places: list[int] = []
        """The segment at each place in playout, by order of play."""
        self._sounding = -1
        """The segment that is being synthesized and has audio in playout already; -1: none."""
        self._first_place = 0
        """The first place of the present attempt."""
        self._added_ms = 0.0
        self._current = -1
        self._attempt = 0
        """The attempt whose segment is being synthesized."""
        self._present = 0
        """The attempt that was begun last."""
        self._started: set[int] = set()
        self._dry = False
        self._said = 0

    # -- orders -----------------------------------------------------------------------------------

    def begin(self, turn: int) -> None:
        """Opens a turn's speech; a turn that is open already goes on."""
        if turn == self._turn:
            return
        self._turn, self._next_segment, self._sounding, self._current, self._dry = turn, 0, -1, -1, False
        self._places, self._first_place, self._added_ms = [], 0, 0.0
        self._started = set()
        self._playout.begin(turn)

    def begin_attempt(self, turn: int, attempt: int) -> None:
        self.begin(turn)
        self._present = attempt
        self._first_place = len(self._places)

    def say(self, order: Say) -> None:
        """A prepared phrase, at once. A filler wanted in the middle of a segment tells that its voice has stalled."""
        self.begin(order.turn)
        if self._sounding >= 0 and not order.last:
            old = self._attempt != self._present
            if self._dry:
                self._break_off("tts.stalled", "")
            if not (self._dry and old):
                return  # it is heard, or the next attempt will be
        text, audio = self._phrases.clip(order.phrase, order.language, self._said, self.line.codec)
        self._said += 1
        number = self._take_number()
        self._post(SegmentReady(order.turn, order.attempt, number, text, order.phrase, order.language))
        place = self._take_place(number)
        self._add(order.turn, place, audio)
        self._playout.end_segment(order.turn, place, text)
        if order.last:
            self._playout.end(order.turn)
            self._post(ReplyGenerated(order.turn, order.attempt, self._next_segment))
        self._wheel.join(self)

    def speak(self, turn: int, attempt: int, text: str, language: str, rehearsal: Rehearsal | None = None) -> None:
        """Queues a segment of the present attempt. An older one, which has not noticed its end, is not heard."""
        if turn == self._turn and attempt == self._present:
            self._queue(_Item(attempt, text[:MAX_TEXT], language, rehearsal=rehearsal))

    def complete(self, end: ReplyGenerated) -> None:
        """Nothing more comes in this attempt; reported once all of it is in playout."""
        if end.turn == self._turn and end.attempt == self._present:
            self._queue(_Item(end.attempt, "", "", end))

    def abandon(self, turn: int) -> None:
        """Drops what of the present attempt has not begun to be sent. A segment that is heard already is finished."""
        if turn != self._turn:
            return
        self._drop_items()
        if self._sounding not in self._started:
            self._stop_synthesis()
        elif self._dry:
            self._cut()
            self._stop_synthesis()
        self._playout.abandon(turn, len(self._places) if self._sounding >= 0 else self._first_place)

    def cancel(self, turn: int) -> None:
        """Silence, and a report of what was heard."""
        if turn != self._turn:
            self._post(PlayoutStopped(turn))
            return
        self._stop_synthesis()
        heard, clear = self._playout.cancel(turn, self._wheel.now_ms())
        if clear:
            self.line.clear()
        self._turn = -1
        self._wheel.leave(self)
        segment = self._places[heard.segment] if heard.segment >= 0 else -1
        self._post(PlayoutStopped(turn, segment, heard.chars))

    def pause(self, turn: int) -> None:
        if turn == self._turn and self._playout.pause(self._wheel.now_ms()):
            self.line.clear()

    def resume(self, turn: int) -> None:
        if turn == self._turn:
            self._playout.resume(self._wheel.now_ms())
            self._wheel.join(self)

    def on_mark(self, name: str) -> None:
        for edge in self._playout.on_mark(name, self._wheel.now_ms()):
            self._report(edge)

    def close(self) -> None:
        self._stop_synthesis()
        self._wheel.leave(self)

    # -- the wheel --------------------------------------------------------------------------------

    def pump(self, now_ms: float) -> bool:
        """Sends what is due (``Paced``)."""
        out, edges = self._playout.pull(now_ms)
        line = self.line
        for piece in out:
            if isinstance(piece, str):
                line.mark(piece)
            else:
                line.send(piece)
        if edges:
            for edge in edges:
                self._report(edge)
        if self._dry and out and self._turn >= 0:
            # The dry spell is over in the middle of a segment: the caller hears the agent again.
            self._dry = False
            self._post(SegmentStarted(self._turn, self._current))
        return self._playout.due(now_ms) is not None

    def _report(self, edge: Edge) -> None:
        match edge.kind:
            case "started":
                self._current, self._dry = self._places[edge.segment], False
                self._started.add(self._current)
                self._post(SegmentStarted(edge.turn, self._current))
            case "played":
                self._post(SegmentPlayed(edge.turn, self._places[edge.segment]))
            case "starved":
                self._dry = True
                self._post(PlayoutStarved(edge.turn))
            case "finished":
                self._post(PlayoutFinished(edge.turn))

    # -- synthesis --------------------------------------------------------------------------------

    def _take_number(self) -> int:
        self._next_segment += 1
        return self._next_segment - 1

    def _take_place(self, number: int) -> int:
        self._places.append(number)
        return len(self._places) - 1

    def _add(self, turn: int, place: int, audio: bytes, words: tuple[tuple[int, int], ...] = ()) -> bool:
        line = self.line
        self._added_ms += len(audio) * 1000 / (line.sample_rate * bytes_per_sample(line.codec))
        return self._playout.add(turn, place, audio, words)

    def _queue(self, item: _Item) -> None:
        self._items.append(item)
        if self._pump_task is None:
            self._pump_task = asyncio.ensure_future(self._synthesize_all())

    def _drop_items(self) -> None:
        for item in self._items:
            if item.rehearsal is not None:
                item.rehearsal.cancel()
        self._items.clear()

    def _stop_synthesis(self) -> None:
        self._drop_items()
        self._sounding = -1
        if self._pump_task is not None:
            self._pump_task.cancel()
            self._pump_task = None

    def _break_off(self, code: str, provider: str) -> None:
        """The voice failed: what there is of its segment is what will be heard of it.

        That of an older attempt, which was only being finished, takes nothing of the present one with it.
        """
        turn, attempt = self._turn, self._attempt
        later = [item for item in self._items if item.attempt > attempt]
        self._cut()
        self._stop_synthesis()
        if attempt == self._present:
            self._post(StageFailed(turn, attempt, "tts", code, provider))
        for item in later:
            self._queue(item)

    def _cut(self) -> None:
        if self._sounding in self._started:
            left = self._playout.cut_tail(self._turn)
            if left is not None:
                self._post(SegmentCut(self._turn, self._sounding, left.chars))

    async def _synthesize_all(self) -> None:
        """One task per run of segments, never per piece of audio.

        Posting an event may cancel this very task, which it only notices when it next waits: hence
        the checks after each post and the care that nothing of a later turn is touched.
        """
        turn, me = self._turn, asyncio.current_task()
        while self._items and self._pump_task is me:
            item = self._items.popleft()
            if item.end is not None:
                self._playout.end(turn)
                self._post(item.end)
                self._wheel.join(self)
                continue
            self._attempt = item.attempt
            try:
                await self._synthesize(turn, item)
            except AntiphonError as error:
                if self._pump_task is me:
                    log.warning("a segment could not be spoken: %s", error, extra={"call": self.call_id})
                    self._break_off(error.code, error.provider if isinstance(error, ProviderError) else "")
                return
        if self._pump_task is me:
            self._pump_task = None

    async def _synthesize(self, turn: int, item: _Item) -> None:
        """A segment, by the first voice that speaks it. What a voice leaves unsaid the next one says."""
        me = asyncio.current_task()
        # What was heard is media time: no event tells of it.
        while self._added_ms - self._playout.heard_ms(self._wheel.now_ms()) > AHEAD_MS:  # noqa: ASYNC110
            await asyncio.sleep(ROOM_POLL_S)
        number = self._number(turn, item)
        tried: list[Member[Synthesizer]] = []
        while self._pump_task is me:
            member = self._next_voice(turn, item, tried)
            tried.append(member)
            try:
                await self._synthesize_with(member, turn, number, item)
                break
            except AntiphonError as error:
                failure = error
            except Exception:
                # A voice may be the application's own code; what it raises is booked as its failure.
                log.exception("%s raised", member.name, extra={"call": self.call_id})
                failure = _failed(member.name, "raised", "tts.raised")
            if self._pump_task is not me:
                return
            other = next(self._voices.admitted(tried), None)
            if other is None:
                raise failure
            log.warning("%s goes on for %s: %s", other.name, member.name, failure, extra={"call": self.call_id})
            self._post(StageRerouted(turn, item.attempt, "tts", member.name, failure.code, other.name))
            item.rehearsal = None
            if self._sounding == number and self._pump_task is me:
                number = self._go_on(turn, number, item)
                if not item.text:
                    return  # it broke off after its last word
        if self._pump_task is me:
            self._sounding = -1
            self._playout.end_segment(turn, len(self._places) - 1, item.text)
            self._wheel.join(self)

    def _number(self, turn: int, item: _Item) -> int:
        number = self._take_number()
        self._post(SegmentReady(turn, item.attempt, number, item.text, "reply", item.language))
        return number

    def _next_voice(self, turn: int, item: _Item, tried: Collection[Member[Synthesizer]]) -> Member[Synthesizer]:
        """Who speaks now. Raises ``CircuitBreakerOpen`` if all are left alone."""
        if item.rehearsal is not None:
            return item.rehearsal.member
        members = self._voices.members
        member = next(self._voices.admitted(tried), None)
        if member is None:
            raise members[0].breaker.opened()
        if member is not members[0] and not tried:
            self._post(StageRerouted(turn, item.attempt, "tts", members[0].name, "breaker.open", member.name))
        return member

    def _go_on(self, turn: int, number: int, item: _Item) -> int:
        """A voice broke off within its segment. What was begun to be heard ends with its last whole word.

        The rest is another segment; what nobody heard yet is dropped, and the same one begins anew.
        Returns the number of the segment that the next voice speaks.
        """
        self._sounding = -1
        left = self._playout.cut_tail(turn) if number in self._started else None
        if left is None:
            self._playout.abandon(turn, len(self._places) - 1)
            self._places.pop()
            return number
        said = whole_words(item.text, left.chars)
        self._post(SegmentCut(turn, number, len(said)))
        item.text = item.text[item.text.find(said) + len(said) :].strip()
        return self._number(turn, item) if item.text else number

    async def _synthesize_with(self, member: Member[Synthesizer], turn: int, number: int, item: _Item) -> None:
        line, me = self.line, asyncio.current_task()
        if item.rehearsal is not None:
            sounds = item.rehearsal.sounds()
        else:
            voice = self.voice_of(item.language)
            sounds = voiced(self._voices, member, item.text, language=item.language, rate=line.sample_rate, voice=voice)
        async with aclosing(sounds):
            async for sound in sounds:
                if self._pump_task is not me:
                    return
                if not sound.pcm:
                    continue
                first = self._sounding != number
                place = self._take_place(number) if first else len(self._places) - 1
                if first:
                    self._playout.describe(turn, place, item.text)
                words = tuple((word.char, word.sample) for word in sound.words)
                if not self._add(turn, place, encode(line.codec, sound.pcm), words):
                    raise _failed(member.name, "gave more audio for one segment than a line holds", "tts.too_long")
                if first:
                    self._sounding = number
                    self._post(SegmentSynthesized(turn, item.attempt, number, member.name))
                    if self._pump_task is me:
                        self._wheel.join(self)
        if self._sounding != number and self._pump_task is me:
            member.breaker.failed()
            raise _failed(member.name, "gave no audio", "tts.empty")


def _failed(name: str, what: str, code: str) -> ProviderError:
    return ProviderError(f"{name} {what}", provider=name, stage="tts", code=code)
