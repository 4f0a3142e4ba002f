"""The track of one call: its segments in playout on one side, the pacing wheel and the line on the other.

A segment gets its place in playout only with its first sound, so a filler that is needed while a slow
voice has not begun still goes before it. What of a segment the caller heard is known to the sample, and
comes back as events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from antiphon.kernel.events import (
    AnyEvent,
    PlayoutFinished,
    PlayoutStarved,
    PlayoutStopped,
    ReplyGenerated,
    SegmentCut,
    SegmentPlayed,
    SegmentReady,
    SegmentStarted,
)
from antiphon.kernel.history import whole_words
from antiphon.media.played import Played
from antiphon.media.playout import Edge, Playout
from antiphon.runtime.pacing import PacingWheel
from antiphon.runtime.ports import Line


class Track:
    """One turn is on it at a time; what is told of another changes nothing."""

    def __init__(
        self,
        *,
        call_id: str,
        line: Line,
        playout: Playout,
        wheel: PacingWheel,
        post: Callable[[AnyEvent], None],
    ) -> None:
        self.call_id = call_id
        self.line = line
        self.turn = -1
        self.attempt = 0
        """The attempt that was begun last."""
        self.segments = 0
        """Of the turn, so far."""
        self.sounding = -1
        """The segment that has audio and may get more; -1: none."""
        self.is_dry = False
        """The caller hears nothing although more is to come."""
        self.played = Played(line.codec, line.sample_rate)
        """What the line is told, for whoever must know the agent's own voice."""
        self._playout = playout
        self._wheel = wheel
        self._post = post
        self._text = ""
        """What the sounding segment says."""
        self._places: list[int] = []
        """The segment at each place in playout, by order of play."""
        self._first_place = 0
        """The first place of the present attempt."""
        self._started: set[int] = set()
        self._current = -1

    # -- filling ----------------------------------------------------------------------------------

    def begin(self, turn: int) -> None:
        """Opens a turn; one that is open already goes on."""
        if turn == self.turn:
            return
        self.turn, self.segments, self.sounding, self.is_dry = turn, 0, -1, False
        self._places, self._first_place, self._started, self._current = [], 0, set(), -1
        self._playout.begin(turn)

    def begin_attempt(self, turn: int, attempt: int) -> None:
        self.begin(turn)
        self.attempt = attempt
        self._first_place = len(self._places)

    def ahead_ms(self) -> float:
        """How much audio of the turn nobody has heard yet."""
        return self._playout.ahead_ms(self._wheel.now_ms())

    def ready(self, turn: int, attempt: int, text: str, kind: str, language: str) -> int:
        """A segment is decided on. Returns its number."""
        number = self.segments
        self.segments += 1
        self._post(SegmentReady(turn, attempt, number, text, kind, language))
        return number

    def add(self, turn: int, number: int, text: str, audio: bytes, words: Sequence[tuple[int, int]] = ()) -> bool:
        """More of a segment, in the line's codec; ``words`` as in ``media.playout``. False: there is no room for it."""
        if turn != self.turn:
            return False
        self._wheel.look(self)
        if number == self.sounding:
            return self._playout.add(turn, len(self._places) - 1, audio, words)
        place = len(self._places)
        self._playout.describe(turn, place, text)
        if not self._playout.add(turn, place, audio, words):
            return False
        self._places.append(number)
        self.sounding, self._text = number, text
        return True

    def end_segment(self, turn: int) -> None:
        """The sounding segment is complete."""
        if turn == self.turn and self.sounding >= 0:
            self.sounding = -1
            self._playout.end_segment(turn, len(self._places) - 1, self._text)
            self._wheel.look(self)

    def end(self, generated: ReplyGenerated) -> None:
        """Nothing more comes in this attempt."""
        self._playout.end(generated.turn)
        self._post(generated)
        self.play()

    def play(self) -> None:
        """There is something to send."""
        self._wheel.join(self)

    # -- taking back ------------------------------------------------------------------------------

    @property
    def is_heard(self) -> bool:
        """The caller hears the sounding segment, or heard some of it."""
        return self.sounding in self._started

    def cut(self) -> int | None:
        """The sounding segment's voice broke off. What was begun to be heard ends with its last whole word.

        Returns where in its text that is. None: nobody heard any of it, and it is dropped.
        """
        turn, number = self.turn, self.sounding
        if number < 0:
            return None
        self._wheel.look(self)
        left = self._playout.cut_tail(turn) if self.is_heard else None
        self.sounding = -1
        if left is None:
            self._playout.abandon(turn, len(self._places) - 1)
            self._places.pop()
            return None
        said = whole_words(self._text, left.chars)
        chars = self._text.find(said) + len(said)
        self._post(SegmentCut(turn, number, chars))
        self.play()
        return chars

    def abandon(self) -> None:
        """Drops what of the present attempt has not begun to be sent, save the rest of a segment that is heard."""
        self._wheel.look(self)
        first = len(self._places) if self.is_heard else self._first_place
        if not self.is_heard:
            self.sounding = -1
        self._playout.abandon(self.turn, first)

    def cancel(self) -> PlayoutStopped:
        """Silence. Returns what was heard."""
        heard, clear = self._playout.cancel(self.turn, self._wheel.now_ms())
        if clear:
            self._clear()
        segment = self._places[heard.segment] if heard.segment >= 0 else -1
        stopped = PlayoutStopped(self.turn, segment, heard.chars)
        self.turn = self.sounding = -1
        self._wheel.leave(self)
        return stopped

    def pause(self) -> None:
        self._wheel.look(self)
        if self._playout.pause(self._wheel.now_ms()):
            self._clear()

    def _clear(self) -> None:
        self.line.clear()
        self.played.clear(self._wheel.now_ms())

    def resume(self) -> None:
        self._playout.resume(self._wheel.now_ms())
        self.play()

    def close(self) -> None:
        self.sounding = -1
        self._wheel.leave(self)

    # -- what is heard ----------------------------------------------------------------------------

    def pump(self, now_ms: float) -> float | None:
        """Sends what is due (``Paced``)."""
        out, edges = self._playout.pull(now_ms)
        line, sent = self.line, False
        for piece in out:
            if isinstance(piece, str):
                line.mark(piece)
            else:
                line.send(piece)
                self.played.send(piece, now_ms)
                sent = True
        if edges:
            for edge in edges:
                self._report(edge)
        if self.is_dry and sent and self.turn >= 0:
            # The dry spell is over in the middle of a segment: the caller hears the agent again.
            self.is_dry = False
            self._post(SegmentStarted(self.turn, self._current))
        return self._playout.due(now_ms)

    def on_mark(self, name: str) -> None:
        self._wheel.look(self)
        for edge in self._playout.on_mark(name, self._wheel.now_ms()):
            self._report(edge)

    def _report(self, edge: Edge) -> None:
        match edge.kind:
            case "started":
                self._current, self.is_dry = self._places[edge.segment], False
                self._started.add(self._current)
                self._post(SegmentStarted(edge.turn, self._current))
            case "played":
                self._post(SegmentPlayed(edge.turn, self._places[edge.segment]))
            case "starved":
                self.is_dry = True
                self._post(PlayoutStarved(edge.turn))
            case "finished":
                self._post(PlayoutFinished(edge.turn))
