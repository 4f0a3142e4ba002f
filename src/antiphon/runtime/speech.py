"""The mouth of one call: text segments and prepared phrases in, audio on the line out.

Segments are synthesized one after the other (``synthesis``), well ahead of being heard, and queued in
playout (``track``); the pacing wheel sends them. What of it the caller heard comes back as events.
"""

from __future__ import annotations

from collections.abc import Callable

from antiphon.kernel.commands import Say
from antiphon.kernel.events import MAX_TEXT, AnyEvent, PlayoutStopped, ReplyGenerated
from antiphon.media.playout import Playout
from antiphon.runtime.chain import Chain
from antiphon.runtime.pacing import PacingWheel
from antiphon.runtime.phrases import PhraseBook
from antiphon.runtime.ports import Line, Synthesizer
from antiphon.runtime.synthesis import Item, Synthesis
from antiphon.runtime.track import Track
from antiphon.runtime.voicing import Rehearsal


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
        self.line = line
        self.voice_of = voice_of
        self._phrases = phrases
        self._post = post
        self._track = Track(call_id=call_id, line=line, playout=playout, wheel=wheel, post=post)
        self.played = self._track.played
        self._synthesis = Synthesis(self._track, voices=voices, voice_of=voice_of, post=post)
        self._said = 0

    def begin(self, turn: int) -> None:
        """Opens a turn's speech; a turn that is open already goes on."""
        self._track.begin(turn)

    def begin_attempt(self, turn: int, attempt: int) -> None:
        self._track.begin_attempt(turn, attempt)

    def say(self, order: Say) -> None:
        """A prepared phrase, at once.

        A filler wanted in the middle of a segment tells that its voice has stalled. A phrase that is the last
        does not wait for a voice that has not ended its segment yet.
        """
        self.begin(order.turn)
        track, synthesis = self._track, self._synthesis
        if track.sounding >= 0 and order.last:
            track.cut()
            synthesis.stop()
        elif track.sounding >= 0:
            stalled, old = track.is_dry, synthesis.attempt != track.attempt
            if stalled:
                synthesis.break_off("tts.stalled", "")
            if not (stalled and old):
                return  # it is heard, or the next attempt will be
        line = self.line
        text, audio = self._phrases.clip(order.phrase, order.language, self._said, line.codec, line.sample_rate)
        self._said += 1
        number = track.ready(order.turn, order.attempt, text, order.phrase, order.language)
        track.add(order.turn, number, text, audio)
        track.end_segment(order.turn)
        if order.last:
            track.end(ReplyGenerated(order.turn, order.attempt, track.segments))
        else:
            track.play()

    def speak(self, turn: int, attempt: int, text: str, language: str, rehearsal: Rehearsal | None = None) -> None:
        """Queues a segment of the present attempt. An older one, which has not noticed its end, is not heard."""
        if self._is_present(turn, attempt):
            self._synthesis.queue(Item(attempt, text[:MAX_TEXT], language, rehearsal=rehearsal))
        elif rehearsal is not None:
            rehearsal.cancel()

    def complete(self, end: ReplyGenerated) -> None:
        """Nothing more comes in this attempt; reported once all of it is in playout."""
        if self._is_present(end.turn, end.attempt):
            self._synthesis.queue(Item(end.attempt, "", "", end))

    def _is_present(self, turn: int, attempt: int) -> bool:
        return (turn, attempt) == (self._track.turn, self._track.attempt)

    def abandon(self, turn: int) -> None:
        """Drops what of the present attempt has not begun to be sent. A segment that is heard already is finished."""
        track, synthesis = self._track, self._synthesis
        if turn != track.turn:
            return
        synthesis.drop_queued()
        if track.is_heard and track.is_dry:
            track.cut()
        if not track.is_heard:
            synthesis.stop()
        track.abandon()

    def cancel(self, turn: int) -> None:
        """Silence, and a report of what was heard."""
        if turn != self._track.turn:
            self._post(PlayoutStopped(turn))
            return
        self._synthesis.stop()
        self._post(self._track.cancel())

    def pause(self, turn: int) -> None:
        if turn == self._track.turn:
            self._track.pause()

    def resume(self, turn: int) -> None:
        if turn == self._track.turn:
            self._track.resume()

    def on_mark(self, name: str) -> None:
        self._track.on_mark(name)

    def close(self) -> None:
        self._synthesis.stop()
        self._track.close()
