"""The playout buffer of one caller: what is sent when, and what of it was heard.

Pure and synchronous. ``now`` is milliseconds of a monotonic clock, given by whoever calls. Audio is
bytes in the line's codec; positions within a turn are in bytes, so cuts are exact to the sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

import msgspec

from antiphon.errors import ConfigError
from antiphon.media.codec import BadAudio, bytes_per_sample, silence
from antiphon.media.line import MAX_LAG_MS, LineModel
from antiphon.media.reel import MAX_SEGMENTS, HeardUpTo, Reel, Segment

__all__ = ["MARK_GRACE_MS", "MAX_SEGMENTS", "Edge", "HeardUpTo", "Playout"]

MARK_GRACE_MS = 2000.0
"""A mark that is later than this was lost: the estimate decides."""

SLACK_MS = 0.01
"""Less than a sample: float error must not keep a message back at the very moment it is due."""


class Edge(msgspec.Struct, frozen=True):
    """Something the session wants to know. ``kind``: started, played, starved, finished.

    ``segment`` is -1 for starved and finished, which concern the whole turn.
    """

    kind: str
    turn: int
    segment: int = -1


class Playout:
    """One caller's playout. One turn is open at a time; calls for any other turn change nothing.

    ``codec`` and ``sample_rate`` (Hz) are the line's; ``message_ms`` is the length of one message,
    ``lead_ms`` how far ahead of the line to send, ``max_ms`` how much unsent audio may wait; ``marks``
    says whether the line returns marks. Raises ``ConfigError`` if these do not fit together.
    """

    def __init__(
        self,
        *,
        codec: str = "mulaw",
        sample_rate: int = 8000,
        message_ms: int = 20,
        lead_ms: int = 120,
        marks: bool = True,
        max_ms: int = 120_000,
    ) -> None:
        if message_ms <= 0 or sample_rate <= 0 or sample_rate * message_ms % 1000:
            raise ConfigError(f"message_ms {message_ms} is no whole number of samples at {sample_rate} Hz")
        if not message_ms <= lead_ms <= max_ms:
            raise ConfigError(f"need message_ms <= lead_ms <= max_ms, got {message_ms}, {lead_ms}, {max_ms}")
        self._codec = codec
        self._sample = bytes_per_sample(codec)
        self._per_ms = sample_rate * self._sample / 1000
        self._message = sample_rate * message_ms // 1000 * self._sample
        self._message_ms = float(message_ms)
        self._lead_ms = float(lead_ms)
        self._marks = marks
        self._grace_ms = MARK_GRACE_MS if marks else 0.0
        self._max = int(max_ms * self._per_ms)
        # Nothing that may still be put back is let go of: the lead, and as much as marks may correct.
        self._keep = int((lead_ms + MAX_LAG_MS) * self._per_ms) // self._sample * self._sample
        self._line = LineModel(jitter_ms=message_ms)
        self._generation = 0
        self._pending: dict[str, tuple[Segment, int]] = {}
        self.turn = -1
        """The turn that is open, or -1."""
        self.paused = False
        self._reel = Reel(self._per_ms, self._sample)
        self._forget()

    def _forget(self) -> None:
        """Drops a turn's books; the line's stay, for it may still be playing."""
        self.turn = self._books = -1
        self.paused = False
        self._ended = self._begun = self._starved = False
        self._reel = Reel(self._per_ms, self._sample, self._reel.ms_per_char)
        self._sent = 0  # position up to which was sent
        self._pending.clear()
        self._owed: list[Edge] = []

    # -- filling ----------------------------------------------------------------------------------

    def begin(self, turn: int) -> None:
        """Opens a turn; what an older one still had to send is dropped (not what is on the line).

        For the turn that is open already, or finished last, it only takes ``end`` back.
        """
        if turn != self._books:
            self._forget()
        self.turn = self._books = turn
        self._ended = False

    def add(self, turn: int, segment: int, audio: bytes, words: Sequence[tuple[int, int]] = ()) -> bool:
        """Appends audio to a segment; ``words`` are (index into its text, samples from its start).

        False: the turn is not open, a later segment has begun, this one or the turn has ended, or more
        than ``max_ms`` or ``MAX_SEGMENTS`` would wait. Nothing at all is taken and changes nothing.
        Raises ``BadAudio`` for half a sample.
        """
        if turn != self.turn or turn < 0:
            return False
        if len(audio) % self._sample:
            raise BadAudio(f"{len(audio)} bytes of {self._codec} are no whole number of samples")
        if not audio and not words:
            return True
        reel = self._reel
        if reel.end + len(audio) - self._sent > self._max:
            return False
        record = reel.open(segment, may_begin=not self._ended)
        if record is None:
            return False
        reel.append(record, audio, words)
        return True

    def describe(self, turn: int, segment: int, text: str) -> None:
        """Says what a segment says. Raises ``AntiphonError`` if more than ``MAX_SEGMENTS`` wait for audio."""
        if turn == self._books and turn >= 0:
            self._reel.describe(segment, text)

    def end_segment(self, turn: int, segment: int, text: str) -> bool:
        """No more audio for it. One that never had audio is skipped without edges. False: not open, or unknown."""
        if turn != self.turn or turn < 0:
            return False
        found = self._reel.find(segment)
        if found is None:
            return not self._ended and self._reel.skip(segment)
        if text:
            found.text = text
        self._reel.close(found)
        return True

    def end(self, turn: int) -> None:
        """No more segments. The one begun last may still get audio until it is ended, too."""
        if turn == self.turn and turn >= 0:
            self._ended = True

    def abandon(self, turn: int, first_segment: int) -> list[int]:
        """Drops the segments from ``first_segment`` on of which nothing was sent yet, and returns their numbers.

        One that is partly sent stays, with the audio it has, and is ended. ``end`` is taken back, and
        the numbers dropped may be used again.
        """
        if turn != self.turn or turn < 0:
            return []
        self._ended = False
        return self._reel.abandon(first_segment)

    def cut_tail(self, turn: int) -> HeardUpTo | None:
        """Ends the segment begun last with the audio it has; its text ends there, too.

        Returns the segment and what is left of its text, or None if it is not open or nothing of it was sent.
        """
        tail = self._reel.tail
        if turn != self.turn or turn < 0 or tail is None or tail.closed:
            return None
        # What was put back by a pause was sent all the same: its edge is out.
        if self._reel.fresh and self._reel.fresh[-1] is tail:
            return None
        left = self._reel.heard_up_to(tail.end)
        tail.text = tail.text[: left.chars]
        self._reel.close(tail)
        return left

    # -- sending ----------------------------------------------------------------------------------

    def pull(self, now: float) -> tuple[list[bytes | str], list[Edge]]:
        """What to send now, in order (bytes: one message of audio, str: a mark's name), and what happened.

        A message is ``message_ms`` long, save the one that ends what there is: if its segment is ended
        it is filled up with silence, else it is sent as it is. Either waits until the line would run
        dry, as more may come, but not if the turn is ended.
        """
        out: list[bytes | str] = []
        edges = self._owed
        if edges:
            self._owed = []
        else:
            edges = []
        if self.turn >= 0:
            unsent = self._reel.unsent
            if unsent and unsent[0].closed and unsent[0].end <= self._sent:
                self._segment_sent(now, out)
            if not self.paused:
                self._send(now, out, edges)
            self._settle(now, edges)
        return out, edges

    def _send(self, now: float, out: list[bytes | str], edges: list[Edge]) -> None:
        line, reel, size = self._line, self._reel, self._message
        audio, fresh, unsent = reel.audio, reel.fresh, reel.unsent
        limit = now + self._lead_ms - self._message_ms + SLACK_MS
        offset = self._sent - reel.base
        while line.end <= limit:
            stop = offset + size
            if stop > len(audio):
                if offset == len(audio) or not self._tail_is_due(now):
                    break
                stop = len(audio)
            out.append(bytes(audio[offset:stop]))
            line.send(now, (stop - offset) / self._per_ms)
            offset = stop
            sent = self._sent = reel.base + offset
            self._starved = False
            while fresh and fresh[0].start < sent:
                self._begun = True
                edges.append(Edge("started", self.turn, fresh.popleft().number))
            if unsent and unsent[0].closed and unsent[0].end <= sent:
                self._segment_sent(now, out)
        if offset > 2 * self._keep:
            reel.let_go(self._sent - self._keep)

    def _tail_is_due(self, now: float) -> bool:
        """Less than a message is left. True: send it now (filled up, if that is its end)."""
        closed = self._reel.closed
        if not (closed and self._ended) and self._line.end - now > self._message_ms + SLACK_MS:
            return False
        if closed:
            missing = self._message - (self._reel.end - self._sent)
            self._reel.audio += silence(self._codec, missing // self._sample)
        return True

    def _segment_sent(self, now: float, out: list[bytes | str]) -> None:
        """The last sample of a segment, or of several, was sent."""
        unsent = self._reel.unsent
        end = max(self._line.end, now)
        while unsent and unsent[0].closed and unsent[0].end <= self._sent:
            segment = unsent.popleft()
            if self._marks:
                # The mark follows the whole message, of which the segment may be only the first part.
                segment.due = end
                segment.mark = f"{self.turn}.{segment.number}.{self._generation}"
                self._pending[segment.mark] = (segment, self._sent)
                out.append(segment.mark)
            else:
                segment.due = end - (self._sent - segment.end) / self._per_ms

    def due(self, now: float) -> float | None:
        """When to call ``pull`` next; None: not before something else is called."""
        if self._owed:
            return now
        if self.turn < 0:
            return None
        reel, line = self._reel, self._line
        if reel.unsent and reel.unsent[0].closed and reel.unsent[0].end <= self._sent:
            return now
        left = reel.base + len(reel.audio) - self._sent
        if left >= self._message and not self.paused:  # as a rule
            return max(now, min(line.end - self._lead_ms + self._message_ms, reel.live[0].due + self._grace_ms))
        at = inf
        complete = self._ended and reel.closed
        if left and not self.paused:
            ahead = self._lead_ms - self._message_ms
            if left < self._message and not complete:
                ahead = min(ahead, self._message_ms)
            at = line.end - ahead
        if reel.live:
            at = min(at, reel.live[0].due + self._grace_ms)
        if not left:
            runs_dry = self._begun and not self._starved and not self.paused and not complete
            if runs_dry or (complete and not reel.live):
                at = min(at, line.end + line.lag)
        return None if at == inf else max(now, at)

    # -- hearing ----------------------------------------------------------------------------------

    def _unheard(self, now: float) -> int:
        """Bytes on the line that were not heard, an older turn's included."""
        return int(self._line.unheard_ms(now) * self._per_ms / self._sample + 0.5) * self._sample

    def _heard(self, now: float) -> int:
        return max(self._sent - self._unheard(now), self._reel.base)

    def heard_ms(self, now: float) -> float:
        """How much of the turn that is open, or finished last, was heard, in ms of audio."""
        return self._heard(now) / self._per_ms

    def ahead_ms(self, now: float) -> float:
        """How much audio of that turn there is that was not heard."""
        return (self._reel.end - self._heard(now)) / self._per_ms

    def _settle(self, now: float, edges: list[Edge]) -> None:
        """Notices by estimate what was played, that the line is dry, that the turn is over."""
        reel, line = self._reel, self._line
        live = reel.live
        while live and live[0].due + self._grace_ms <= now:
            self._play(edges)
        if self._sent < reel.base + len(reel.audio) or now < line.end + line.lag:
            return
        if self._ended and reel.closed:
            if not live:
                edges.append(Edge("finished", self.turn))
                self.turn = -1
                self.paused = False
                reel.let_go(self._sent)  # a call listens longer than it speaks
        elif self._begun and not self._starved and not self.paused:
            self._starved = True
            edges.append(Edge("starved", self.turn))

    def _play(self, edges: list[Edge]) -> None:
        """The first live segment was heard."""
        segment = self._reel.last = self._reel.live.popleft()
        self._pending.pop(segment.mark, None)
        edges.append(Edge("played", self.turn, segment.number))

    def on_mark(self, name: str, now: float) -> list[Edge]:
        """A mark came back. One that a ``clear`` threw back, or that is not known, changes nothing."""
        entry = self._pending.pop(name, None)
        if entry is None:
            return []
        segment, position = entry
        edges, self._owed = self._owed, []
        self._line.returned(now, segment.due, (self._sent - position) / self._per_ms)
        live = self._reel.live
        while live and live[0].number <= segment.number:
            self._play(edges)
        self._settle(now, edges)
        return edges

    # -- interrupting -----------------------------------------------------------------------------

    def pause(self, now: float) -> bool:
        """Stops sending. True: the line must be told to ``clear``; what it discards is sent again on ``resume``."""
        if self.paused or self.turn < 0:
            return False
        self.paused = True
        if not self._unheard(now):
            return False
        self._sent = self._heard(now)
        self._cleared(now)
        reel = self._reel
        live = reel.live
        while live and live[0].closed and live[0].end <= self._sent:
            # Its mark may be on the way, but cannot be told any more from one that was thrown back.
            self._play(self._owed)
        for segment in live:
            segment.due = inf
        reel.unsent = deque(live)
        return True

    def _cleared(self, now: float) -> None:
        """Marks sent so far are known by their generation when the ``clear`` throws them back."""
        self._line.clear(now)
        self._generation += 1
        self._pending.clear()

    def resume(self, now: float) -> None:
        """Goes on from the first sample that was not heard."""
        self.paused = False

    def cancel(self, turn: int, now: float) -> tuple[HeardUpTo, bool]:
        """Forgets the turn. Returns what of it was heard, and whether the line must be told to ``clear``."""
        if turn != self._books or turn < 0:
            return HeardUpTo(-1, 0), False
        heard = self._reel.heard_up_to(self._heard(now))
        # A mark that is still out may mean that the far end is not as far as the model: better silence it.
        clear = self._unheard(now) > 0 or bool(self._pending)
        if clear:
            self._cleared(now)
        self._forget()
        return heard, clear
