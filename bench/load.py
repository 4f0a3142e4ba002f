"""The load generator's process: ``python -m bench.load '<Spec as JSON>'`` prints a ``Step`` as JSON.

Callers are spread over twenty phases of one millisecond, so that frames arrive as evenly as they do from a real
carrier. It measures the server from outside (``procstat``) over the same stretch of time in which it counts turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import sys
import time
from collections.abc import Sequence
from time import monotonic

import msgspec
import uvloop
from msgspec.structs import astuple
from picows import WSError, ws_connect

from bench.caller import DONE, FRAME_S, LOST_S, Caller, Echo, Jitter
from bench.detector import onset_ms, tails_ms
from bench.procstat import Cost, busy_ns, cost_of, waited_ns
from bench.voice import noise_frames, utterances

PHASES = 20
CONNECT_S = 30.0
"""A peer loads its models when its first call comes, and lets nobody in meanwhile."""
NICE = -10
"""The generator asks to run before all else on its core, where it may: what is late here counts as the server's."""
BUSY, LATE_MS = 0.85, 20.0
"""Above this share of its core, or later than this in one frame of a hundred, the generator may itself be the
reason for what it measures."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One step. ``ramp_s``: calls begin evenly over it; then ``seconds`` of measurement. ``core`` -1: any.

    ``pauses_ms``: the questions hold a pause, of each of these lengths by turns. ``detector``: what Antiphon's own
    detector needs to hear an end is found out afterwards (``bench.detector``).
    """

    url: str
    calls: int
    ramp_s: float
    seconds: float
    server_pid: int = 0
    idle_rss_kb: int = 0
    endpoint_ms: float = 0.0
    core: int = -1
    echo: bool = False
    pauses_ms: tuple[int, ...] = ()
    detector: bool = False


class Step(msgspec.Struct, kw_only=True):
    """What one step measured. Milliseconds unless the name says otherwise; -1 where there was nothing to measure."""

    calls: int
    seconds: float
    failed_calls: int
    turns: int
    lost_turns: int
    talked_over: int
    first_audio_p50: float
    first_audio_p99: float
    first_audio_max: float
    added_p50: float
    """First audio minus the configured endpointing delay."""
    added_p99: float
    own_p50: float
    """First audio minus the endpointing delay, what the detector needs, and the voice's own beginning below what is
    audible; only where it was asked for."""
    own_p99: float
    jitter_p99: float
    """By how many ms the server's frames came later than the one before them and its length."""
    agent_frames: int
    gaps: int
    cpu_ms_per_call_s: float
    cpu_loop: float
    cpu_vad: float
    cpu_other: float
    server_core_percent: float
    rss_kb_per_call: float
    bad_messages: int
    clears: int
    load_core_percent: float
    load_late_p99: float
    """How late the generator itself sent its frames."""
    load_waited_percent: float
    """Of the time: it wanted its core and another had it."""
    load_nice: int
    others_percent: float
    """Of one core: what all other programs of the machine used meanwhile."""
    load_unfit: bool
    waits: list[float]


class Moment(msgspec.Struct, frozen=True):
    """Everything that counts up, at one instant."""

    at: float
    own_cpu_s: float
    own_waited_ns: int
    machine_ns: int
    server: Cost
    frames: int
    gaps: int
    round_trips: int


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank; -1 for no values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)] if ordered else -1.0


class Generator:
    """Opens the calls, keeps them in time, and measures."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.phases: list[list[Caller | Echo]] = [[] for _ in range(PHASES)]
        self.callers: list[Caller] = []
        self.echoes: list[Echo] = []
        self.round_trips: list[float] = []
        self.jitter = Jitter()
        self.late: list[float] = []
        self.refused = 0
        self._running = True

    async def run(self) -> Step:
        ticker = asyncio.create_task(self._tick())
        progress = asyncio.create_task(self._progress())
        await self._ramp()
        gc.collect()
        gc.freeze()
        self.late.clear()
        self.jitter.counts[:] = [0] * len(self.jitter.counts)
        before = self._moment()
        await asyncio.sleep(self.spec.seconds)
        after, late, jitter = self._moment(), list(self.late), self.jitter.percentile(99)
        await self._finish()
        self._running = False
        await ticker
        progress.cancel()
        return self._step(before, after, late, jitter)

    def _moment(self) -> Moment:
        return Moment(
            at=monotonic(),
            own_cpu_s=time.process_time(),
            own_waited_ns=waited_ns(os.getpid()),
            machine_ns=busy_ns(),
            server=cost_of(self.spec.server_pid) if self.spec.server_pid else Cost(),
            frames=sum(caller.frames for caller in self.callers),
            gaps=sum(caller.gaps for caller in self.callers),
            round_trips=len(self.round_trips),
        )

    async def _ramp(self) -> None:
        spec, began = self.spec, monotonic()
        lines, noise = utterances(spec.pauses_ms), noise_frames()
        payloads = [payload for line in lines for payload in line.frames]
        for number in range(spec.calls):
            wait = began + number * spec.ramp_s / spec.calls - monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            if spec.echo:
                echo = Echo(number, payloads, self.round_trips)
                if await self._connect(number, echo):
                    self.echoes.append(echo)
            else:
                caller = Caller(number, lines, noise, jitter=self.jitter)
                if await self._connect(number, caller):
                    self.callers.append(caller)
        rest = began + spec.ramp_s - monotonic()
        if rest > 0:
            await asyncio.sleep(rest)

    async def _connect(self, number: int, listener: Caller | Echo) -> bool:
        try:
            await ws_connect(lambda: listener, self.spec.url, websocket_handshake_timeout=CONNECT_S)
        except (WSError, OSError) as error:
            self.refused += 1
            sys.stderr.write(f"\ncall {number} was refused: {error!r}\n")
            return False
        self.phases[number % PHASES].append(listener)
        return True

    async def _tick(self) -> None:
        """Runs one phase every millisecond; a late phase is run late, never left out."""
        due, phase = monotonic(), 0
        while self._running:
            now = monotonic()
            while due <= now:
                if self.phases[phase]:
                    self.late.append(monotonic() - due)
                    for caller in self.phases[phase]:
                        caller.tick(due)
                due += FRAME_S / PHASES
                phase = (phase + 1) % PHASES
            await asyncio.sleep(max(0.0, due - monotonic()))

    async def _finish(self) -> None:
        """Asks nothing more and gives what was asked the time to be answered."""
        for caller in self.callers:
            caller.finish()
        for _ in range(int((LOST_S + 4) / 0.05)):
            if all(caller.is_answered for caller in self.callers):
                break
            await asyncio.sleep(0.05)
        for caller in self.callers:
            if caller.state != DONE:
                caller.hang_up()

    async def _progress(self) -> None:
        """A line that is written over, for a person who watches; not for a log."""
        if not sys.stderr.isatty():
            return
        began = monotonic()
        total = self.spec.ramp_s + self.spec.seconds
        what = "echo" if self.spec.echo else "calls"
        while True:
            open_now = len(self.callers) + len(self.echoes)
            sys.stderr.write(f"\r  {open_now:4d} {what}  {monotonic() - began:4.0f} of about {total:.0f} s ")
            sys.stderr.flush()
            await asyncio.sleep(1)

    def _step(self, before: Moment, after: Moment, late: list[float], jitter: float) -> Step:
        spec, elapsed = self.spec, after.at - before.at
        calls = max(1, len(self.callers) + len(self.echoes))
        turns = [turn for caller in self.callers for turn in caller.turns if before.at <= turn.asked_at < after.at]
        waits = [round(1000 * turn.waited_s, 2) for turn in turns if turn.waited_s >= 0]
        times = [1000 * trip for trip in self.round_trips[before.round_trips : after.round_trips]] or waits
        p50, p99 = round(percentile(times, 50), 2), round(percentile(times, 99), 2)
        behind = self._behind(before, after)
        used = Cost(*(b - a for a, b in zip(astuple(before.server), astuple(after.server), strict=True)))
        own_s, wall_ns = after.own_cpu_s - before.own_cpu_s, elapsed * 1e9
        late_p99 = 1000 * percentile(late, 99) if late else -1.0

        def per_call(nanoseconds: int) -> float:
            return round(nanoseconds / 1e6 / elapsed / calls, 3)

        return Step(
            calls=spec.calls,
            seconds=round(elapsed, 2),
            failed_calls=self.refused + sum(caller.failed for caller in self.callers),
            turns=len(turns),
            lost_turns=sum(turn.waited_s < 0 for turn in turns),
            talked_over=sum(turn.talked_over for turn in turns),
            first_audio_p50=p50,
            first_audio_p99=p99,
            first_audio_max=round(max(times, default=-1.0), 2),
            added_p50=round(p50 - spec.endpoint_ms, 2) if times else -1.0,
            added_p99=round(p99 - spec.endpoint_ms, 2) if times else -1.0,
            own_p50=round(percentile(behind, 50), 2),
            own_p99=round(percentile(behind, 99), 2),
            jitter_p99=jitter,
            agent_frames=after.frames - before.frames,
            gaps=after.gaps - before.gaps,
            cpu_ms_per_call_s=per_call(used.total_ns),
            cpu_loop=per_call(used.loop_ns),
            cpu_vad=per_call(used.vad_ns),
            cpu_other=per_call(used.other_ns + used.children_ns),
            server_core_percent=round(used.total_ns / 1e7 / elapsed, 1),
            rss_kb_per_call=round((after.server.rss_kb - spec.idle_rss_kb) / calls, 1),
            bad_messages=sum(caller.bad for caller in self.callers),
            clears=sum(caller.clears for caller in self.callers),
            load_core_percent=round(100 * own_s / elapsed, 1),
            load_late_p99=round(late_p99, 2),
            load_waited_percent=round(100 * (after.own_waited_ns - before.own_waited_ns) / wall_ns, 1),
            load_nice=os.getpriority(os.PRIO_PROCESS, 0),
            others_percent=round(
                max(0.0, 100 * (after.machine_ns - before.machine_ns - used.total_ns - own_s * 1e9) / wall_ns), 1
            ),
            load_unfit=own_s / elapsed > BUSY or late_p99 > LATE_MS,
            waits=waits,
        )

    def _behind(self, before: Moment, after: Moment) -> list[float]:
        """The server's own part of each wait, ms, as far as the detector's can be told."""
        if not self.spec.detector:
            return []
        others_ms = self.spec.endpoint_ms + onset_ms()
        return [
            1000 * turn.waited_s - tail - others_ms
            for caller, tails in zip(self.callers, tails_ms(self.callers), strict=True)
            for turn, tail in zip(caller.turns, tails, strict=True)
            if before.at <= turn.asked_at < after.at and turn.waited_s >= 0 and tail is not None
        ]


def main(argument: str) -> None:
    spec = msgspec.json.decode(argument, type=Spec)
    if spec.core >= 0:
        os.sched_setaffinity(0, {spec.core})
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    gc.disable()
    step = uvloop.run(Generator(spec).run())
    sys.stdout.write(msgspec.json.encode(step).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
