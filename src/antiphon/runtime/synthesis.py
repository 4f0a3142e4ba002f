"""Speaking segments one after the other, each by the first voice that can.

What a voice leaves unsaid the next one says: from the beginning if nobody heard any of it yet, else from
the word at which it broke off.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import msgspec

from antiphon.errors import AntiphonError, ProviderError
from antiphon.kernel.events import AnyEvent, ReplyGenerated, SegmentSynthesized, StageFailed, StageRerouted
from antiphon.media.codec import encode
from antiphon.runtime.chain import Chain, Member
from antiphon.runtime.ports import Sound, Synthesizer
from antiphon.runtime.together import Together
from antiphon.runtime.track import Track
from antiphon.runtime.voicing import Rehearsal, voiced

AHEAD_MS = 30_000
"""Synthesis pauses while this much is queued: a long answer that is interrupted should not have been paid for."""
ROOM_POLL_S = 0.5

log = logging.getLogger("antiphon.mouth")


class Item(msgspec.Struct):
    """A segment that waits to be spoken, or the end of an attempt."""

    attempt: int
    text: str
    language: str
    end: ReplyGenerated | None = None
    rehearsal: Rehearsal | None = None


class Synthesis:
    """Fills one call's track.

    One task per run of segments, never per piece of audio. Posting an event may cancel this very task, which
    it only notices when it next waits: hence the checks after each post and the care that nothing of a later
    turn is touched.
    """

    def __init__(
        self,
        track: Track,
        *,
        voices: Chain[Synthesizer],
        voice_of: Callable[[str], str],
        post: Callable[[AnyEvent], None],
    ) -> None:
        self.attempt = 0
        """The attempt whose segment is being spoken."""
        self._track = track
        self._voices = voices
        self._voice_of = voice_of
        self._post = post
        self._items: deque[Item] = deque()
        self._task: asyncio.Task[None] | None = None

    def queue(self, item: Item) -> None:
        self._items.append(item)
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    def drop_queued(self) -> None:
        """What is being spoken is finished."""
        for item in self._items:
            _release(item)
        self._items.clear()

    def stop(self) -> None:
        self.drop_queued()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def break_off(self, code: str, provider: str) -> None:
        """No voice ends the present segment: what there is of it is what will be heard of it.

        That of an older attempt, which was only being finished, takes nothing of the present one with it.
        """
        turn, attempt, present = self._track.turn, self.attempt, self._track.attempt
        later = [item for item in self._items if item.attempt > attempt]
        self._items = deque(item for item in self._items if item.attempt <= attempt)
        self._track.cut()
        self.stop()
        if attempt == present:
            self._post(StageFailed(turn, attempt, "tts", code, provider))
        for item in later:
            if self._track.turn == turn:
                self.queue(item)
            else:
                _release(item)

    # -- one segment after the other --------------------------------------------------------------

    async def _run(self) -> None:
        turn, me = self._track.turn, asyncio.current_task()
        while self._items and self._task is me:
            item = self._items.popleft()
            if item.end is not None:
                self._track.end(item.end)
                continue
            self.attempt = item.attempt
            try:
                await self._speak(turn, item)
            except AntiphonError as error:
                if self._task is me:
                    log.warning("a segment could not be spoken: %s", error, extra={"call": self._track.call_id})
                    self.break_off(error.code, error.provider if isinstance(error, ProviderError) else "")
                return
            finally:
                _release(item)
        if self._task is me:
            self._task = None

    async def _speak(self, turn: int, item: Item) -> None:
        """A segment. Raises the last voice's ``AntiphonError`` if none ends it."""
        track, me = self._track, asyncio.current_task()
        # What was heard is media time: no event tells of it.
        while track.ahead_ms() > AHEAD_MS:  # noqa: ASYNC110
            await asyncio.sleep(ROOM_POLL_S)
        number = self._number(turn, item)
        tried: list[Member[Synthesizer]] = []
        member = self._first_voice(turn, item)
        while self._task is me:
            tried.append(member)
            try:
                await self._speak_with(member, turn, number, item)
                break
            except AntiphonError as error:
                failure = error
            except Exception:
                # A voice may be the application's own code; what it raises is booked as its failure.
                log.exception("%s raised", member.name, extra={"call": track.call_id})
                failure = _failed(member.name, "raised", "tts.raised")
            if self._task is not me:
                return
            # A segment of an older attempt is only finished, not taken up again: the present one goes on from it.
            other = self._next_voice(number, tried, failure) if item.attempt == track.attempt else None
            if other is None:
                raise failure
            log.warning("%s goes on for %s: %s", other.name, member.name, failure, extra={"call": track.call_id})
            self._post(StageRerouted(turn, item.attempt, "tts", member.name, failure.code, other.name))
            item.rehearsal = None
            if other is member:
                await asyncio.sleep(self._voices.policy.pause_s(failure))
            member = other
            if track.sounding == number and self._task is me:
                number = self._go_on(turn, number, item)
                if not item.text:
                    return  # it broke off after its last word
        if self._task is me:
            track.end_segment(turn)
            track.play()

    def _number(self, turn: int, item: Item) -> int:
        return self._track.ready(turn, item.attempt, item.text, "reply", item.language)

    def _next_voice(
        self, number: int, tried: Sequence[Member[Synthesizer]], failure: AntiphonError
    ) -> Member[Synthesizer] | None:
        """Who goes on: another voice, or before the first sound the same once more."""
        other = next(self._voices.admitted(tried), None)
        if other is not None or self._track.sounding == number:
            return other
        return self._voices.again(tried, failure)

    def _first_voice(self, turn: int, item: Item) -> Member[Synthesizer]:
        """Who speaks. Raises ``CircuitBreakerOpen`` if all are left alone."""
        first = self._voices.members[0]
        member = item.rehearsal.member if item.rehearsal is not None else next(self._voices.admitted(), None)
        if member is None:
            raise first.breaker.opened()
        if member is not first:
            self._post(StageRerouted(turn, item.attempt, "tts", first.name, "breaker.open", member.name))
        return member

    def _go_on(self, turn: int, number: int, item: Item) -> int:
        """A voice broke off within its segment: the rest is another one, or, if nobody heard any of it, the same.

        Returns the number of the segment that the next voice speaks.
        """
        said = self._track.cut()
        if said is None:
            return number
        item.text = item.text[said:].strip()
        return self._number(turn, item) if item.text and self._task is asyncio.current_task() else number

    async def _speak_with(self, member: Member[Synthesizer], turn: int, number: int, item: Item) -> None:
        """The first piece is heard at once; of those that follow, what comes without a wait is taken together."""
        track, me = self._track, asyncio.current_task()

        def add(sound: Sound) -> None:
            if self._task is not me:
                return
            first = track.sounding != number
            words = tuple((word.char, word.sample) for word in sound.words)
            if not track.add(turn, number, item.text, encode(track.line.codec, sound.pcm), words):
                raise _failed(member.name, "gave more audio for one segment than a line holds", "tts.too_long")
            if first:
                self._post(SegmentSynthesized(turn, item.attempt, number, member.name))
            if (first or track.is_dry) and self._task is me:
                track.play()

        together = Together(add, track.line.sample_rate)
        async with aclosing(self._sounds(member, item)) as sounds:
            try:
                async for sound in sounds:
                    if self._task is not me:
                        return
                    if sound.pcm:
                        together.take(sound, now=track.sounding != number or track.is_dry)
            finally:
                together.end()

    def _sounds(self, member: Member[Synthesizer], item: Item) -> AsyncGenerator[Sound, None]:
        if item.rehearsal is not None:
            return item.rehearsal.sounds()
        voice, rate = self._voice_of(item.language), self._track.line.sample_rate
        return voiced(self._voices, member, item.text, language=item.language, rate=rate, voice=voice)


def _release(item: Item) -> None:
    if item.rehearsal is not None:
        item.rehearsal.cancel()


def _failed(name: str, what: str, code: str) -> ProviderError:
    return ProviderError(f"{name} {what}", provider=name, stage="tts", code=code)
