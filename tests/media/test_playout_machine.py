"""A reference far end, which plays in real time and honours ``clear``, judges the playout buffer.

Each sample of a turn carries its own number, so that what was heard says where it came from.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from antiphon.media.playout import Edge, HeardUpTo, Playout

PER_MS = 8
MESSAGE_MS = 20
LEAD_MS = 120
WRAP = 32_000


def numbered(first: int, count: int) -> bytes:
    """Samples that say which of the turn they are; 0 is silence, so they start at 1."""
    return (np.arange(first, first + count) % WRAP + 1).astype("<i2").tobytes()


class FarEnd:
    """Plays what it got, a sample every 1/8 ms; begins ``slow_ms`` late whenever it was dry."""

    def __init__(self, slow_ms: int, return_ms: int) -> None:
        self.slow_ms = slow_ms
        self.return_ms = return_ms
        self.now = 0
        self.starts_at = 0
        self.queue: deque[tuple[int, bytes] | str] = deque()
        self.heard: dict[int, list[int]] = {}
        self.heard_at = -1
        self.returning: deque[tuple[int, str]] = deque()
        self.dry_ms = 0

    @property
    def unheard_ms(self) -> float:
        audio = sum(len(item[1]) for item in self.queue if not isinstance(item, str))
        return audio / 2 / PER_MS + (max(0, self.starts_at - self.now) if audio else 0)

    def send(self, turn: int, item: bytes | str) -> None:
        if isinstance(item, str):
            self.queue.append(item)
        else:
            if not any(not isinstance(queued, str) for queued in self.queue):
                self.starts_at = self.now + self.slow_ms
            self.queue.append((turn, item))
        self._return_marks()

    def _return_marks(self) -> None:
        while self.queue and isinstance(self.queue[0], str):
            self.returning.append((self.now + self.return_ms, self.queue.popleft()))

    def step(self) -> None:
        """One millisecond."""
        self.now += 1
        if self.now <= self.starts_at:
            return
        room = PER_MS * 2
        while room and self.queue:
            turn, audio = self.queue.popleft()
            part, rest = audio[:room], audio[room:]
            room -= len(part)
            self.heard.setdefault(turn, []).extend(np.frombuffer(part, "<i2").tolist())
            if rest:
                self.queue.appendleft((turn, rest))
            self._return_marks()

    def clear(self) -> None:
        """Twilio returns the marks that it throws away."""
        for item in self.queue:
            if isinstance(item, str):
                self.returning.append((self.now + self.return_ms, item))
        self.queue.clear()


class Turn:
    """What the test knows of a turn: which samples belong to which segment."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.samples = 0
        self.bounds: list[tuple[int, int, int]] = []
        self.closed: set[int] = set()
        self.ended = False
        self.sent = 0
        self.cuts = 0
        self.edges: list[Edge] = []


class PlayoutMachine(RuleBasedStateMachine):
    marks = True
    slow_ms = 0
    return_ms = 0
    tolerance = 0

    @initialize(return_ms=st.sampled_from([0, 3, 60, 150]))
    def start(self, return_ms: int) -> None:
        self.playout = Playout(codec="pcm16", lead_ms=LEAD_MS, marks=self.marks)
        self.far = FarEnd(self.slow_ms, return_ms)
        self.turn = Turn(0)
        self.open = False
        self.pulled_late = False

    # -- what the runtime does --

    def pull(self) -> None:
        now = self.far.now
        out, edges = self.playout.pull(now)
        for item in out:
            if isinstance(item, bytes):
                assert len(item) <= MESSAGE_MS * PER_MS * 2
            self.far.send(self.turn.number, item)
        assert self.far.unheard_ms <= LEAD_MS + self.slow_ms
        self.take(edges)

    def take(self, edges: list[Edge]) -> None:
        for edge in edges:
            assert self.open
            assert edge.turn == self.turn.number
            assert edge not in self.turn.edges or edge.kind == "starved"
            self.turn.edges.append(edge)
            if edge.kind == "finished":
                self.check_finished()
            if edge.kind == "starved":
                assert self.far.unheard_ms <= self.slow_ms
            if edge.kind == "played":
                assert self.position() + self.tolerance >= self.end_of(edge.segment)

    def position(self) -> int:
        """How far the far end is in this turn: the number of the sample to come."""
        heard = [sample for sample in self.far.heard.get(self.turn.number, ()) if sample]
        return heard[-1] if heard else 0

    def end_of(self, segment: int) -> int:
        return next(end for number, _, end in self.turn.bounds if number == segment)

    def check_finished(self) -> None:
        self.open = False
        assert self.turn.ended
        assert self.position() + self.tolerance >= self.turn.samples
        spoken = [number for number, _, _ in self.turn.bounds]
        for kind in ("started", "played"):
            assert [edge.segment for edge in self.turn.edges if edge.kind == kind] == spoken

    def check_order(self) -> None:
        """Every sample once and in order; at a cut, no more than the tolerance lost or repeated."""
        for number, heard in self.far.heard.items():
            samples = np.array([sample for sample in heard if sample])
            if len(samples) == 0:
                continue
            steps = np.diff(np.concatenate([[0], samples]))
            odd = steps[steps != 1]
            assert number != self.turn.number or len(odd) <= self.turn.cuts
            assert np.all(np.abs(odd - 1) <= self.tolerance)

    # -- time --

    def run(self, ms: int, late: bool) -> None:
        until = self.far.now + ms
        while self.far.now < until:
            self.far.step()
            while self.far.returning and self.far.returning[0][0] <= self.far.now:
                self.take(self.playout.on_mark(self.far.returning.popleft()[1], self.far.now))
            due = self.playout.due(self.far.now)
            if not late and due is not None and due <= self.far.now:
                self.pull()
                again = self.playout.due(self.far.now)
                assert again is None or again > self.far.now, "pull at the time that was due must make progress"
                self.check_no_gap()

    def check_no_gap(self) -> None:
        if self.open and not self.playout.paused and self.available():
            assert self.far.unheard_ms > 0

    def available(self) -> int:
        queued = sum(
            len(np.flatnonzero(np.frombuffer(item[1], "<i2")))
            for item in self.far.queue
            if not isinstance(item, str) and item[0] == self.turn.number
        )
        return self.turn.samples - self.position() - queued if not self.slow_ms else 0

    @rule(ms=st.integers(1, 400))
    def pass_time(self, ms: int) -> None:
        self.run(ms, late=False)

    @rule(ms=st.integers(1, 200))
    def be_late(self, ms: int) -> None:
        self.run(ms, late=True)
        self.pull()

    # -- orders --

    @rule(skip=st.integers(1, 3), in_flight=st.booleans())
    def begin(self, skip: int, in_flight: bool) -> None:
        if self.open and not in_flight:
            return
        self.turn = Turn(self.turn.number + skip)
        self.open = True
        self.playout.begin(self.turn.number)
        assert self.playout.turn == self.turn.number

    @precondition(lambda self: self.open)
    @rule(samples=st.integers(0, 3000), new=st.booleans())
    def add(self, samples: int, new: bool) -> None:
        turn = self.turn
        current = turn.bounds[-1][0] if turn.bounds else -1
        segment = current + 1 if new or current < 0 else current
        took = self.playout.add(turn.number, segment, numbered(turn.samples, samples))
        fits = not turn.ended if segment != current else segment not in turn.closed
        assert took == (fits or not samples)
        if not took or not samples:
            return
        if segment == current:
            turn.bounds[-1] = (segment, turn.bounds[-1][1], turn.samples + samples)
        else:
            turn.closed.add(current)
            turn.bounds.append((segment, turn.samples, turn.samples + samples))
        turn.samples += samples

    @precondition(lambda self: self.open and self.turn.bounds)
    @rule()
    def end_segment(self) -> None:
        segment = self.turn.bounds[-1][0]
        assert self.playout.end_segment(self.turn.number, segment, f"segment number {segment}")
        self.turn.closed.add(segment)

    @precondition(lambda self: self.open)
    @rule()
    def end(self) -> None:
        if self.turn.bounds:
            self.end_segment()
        self.playout.end(self.turn.number)
        self.turn.ended = True

    @precondition(lambda self: self.open)
    @rule(back=st.integers(0, 3))
    def abandon(self, back: int) -> None:
        turn = self.turn
        first = max(0, len(turn.bounds) - back)
        dropped = self.playout.abandon(turn.number, first)
        turn.ended = False
        assert dropped == list(range(len(turn.bounds) - len(dropped), len(turn.bounds)))
        started = {edge.segment for edge in turn.edges if edge.kind == "started"}
        assert not started & set(dropped)
        assert all(number in started for number, _, _ in turn.bounds[first : len(turn.bounds) - len(dropped)])
        if dropped:
            turn.samples = turn.bounds[-len(dropped)][1]
            del turn.bounds[-len(dropped) :]
            turn.closed -= set(dropped)
        if turn.bounds and turn.bounds[-1][0] >= first:
            turn.closed.add(turn.bounds[-1][0])

    @rule()
    def pause(self) -> None:
        was = self.playout.paused or not self.open
        unheard = self.far.unheard_ms
        clear = self.playout.pause(self.far.now)
        assert not (was and clear)
        if clear:
            self.turn.cuts += 1
            self.far.clear()
        if not was and not self.slow_ms:
            assert clear == (unheard > 0)
        assert not self.playout.pause(self.far.now)

    @rule()
    def resume(self) -> None:
        self.playout.resume(self.far.now)

    @precondition(lambda self: self.open)
    @rule()
    def cancel(self) -> None:
        position = self.position()
        heard, clear = self.playout.cancel(self.turn.number, self.far.now)
        if self.far.unheard_ms > self.slow_ms:
            assert clear
        if clear:
            self.far.clear()
        self.open = False
        assert self.playout.turn == -1
        if not self.slow_ms:
            begun = [number for number, start, _ in self.turn.bounds if start < position]
            assert heard.segment == (begun[-1] if begun else -1)
        assert self.playout.cancel(self.turn.number, self.far.now) == (HeardUpTo(-1, 0), False)

    @invariant()
    def in_order(self) -> None:
        if hasattr(self, "far"):
            self.check_order()

    def teardown(self) -> None:
        """Whatever happened, the turn can be brought to its end and all of it is heard."""
        if not hasattr(self, "far") or not self.open:
            return
        self.end()
        self.playout.resume(self.far.now)
        self.pull()
        for _ in range(200):
            if not self.open:
                break
            self.run(100, late=False)
        assert not self.open
        self.check_order()
        assert self.playout.due(self.far.now) is None


class WithoutMarks(PlayoutMachine):
    marks = False


class SlowFarEnd(PlayoutMachine):
    """A far end that begins up to a message late: what the estimate cannot know, it may lose at a cut."""

    slow_ms = 17
    tolerance = MESSAGE_MS * PER_MS


modest = settings(max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("machine", [PlayoutMachine, WithoutMarks, SlowFarEnd])
def test_a_far_end_hears_every_sample_once_and_in_order(machine: type[PlayoutMachine]) -> None:
    case = machine.TestCase
    case.settings = modest
    case("runTest").runTest()
