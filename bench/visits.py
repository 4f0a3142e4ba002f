"""The process of the visitors: ``python -m bench.visits '<Spec as JSON>'`` prints ``Visits`` as JSON.

Visitors come to ``/orchestrate`` evenly over ``ramp_s``, or all at once. Their turns are spread by chance, as people's
are. The server is measured from outside (``procstat``) over the same stretch of time in which turns count.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import sys
import time
from collections.abc import Iterable
from itertools import chain
from time import monotonic

import msgspec
import uvloop
from msgspec.structs import astuple
from picows import WSError, ws_connect

from bench.load import BUSY, CONNECT_S, LATE_MS, NICE, percentile
from bench.procstat import Cost, busy_ns, cost_of
from bench.visitor import LOST_S, Manner, Turn, Visitor, waited_s

LOOK_S = 0.05


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One step. It ends after ``seconds``, or with ``turns`` (0: as many as there are) asked in all.

    ``first_s``: the first turns begin within it. ``core`` -1: any.
    """

    url: str
    sessions: int
    manner: Manner
    seconds: float
    turns: int = 0
    ramp_s: float = 0.0
    first_s: float = 0.2
    server_pid: int = 0
    idle_rss_kb: int = 0
    core: int = -1


class Times(msgspec.Struct, frozen=True):
    """ms, nearest rank; -1 of nothing."""

    p50: float = -1.0
    p99: float = -1.0
    most: float = -1.0


class Visits(msgspec.Struct, kw_only=True):
    """What one step measured. ``waits``: from the end of speech to the answer; ``added``: from ``vad_end`` on.

    ``endpointing``: from the words to ``vad_end``. ``parts``: the server's own ledger.
    """

    sessions: int
    refused: int
    failed: int
    seconds: float
    turns: int
    lost_turns: int
    errors: int
    let_in: Times
    waits: Times
    added: Times
    answered: Times
    endpointing: Times
    parts: dict[str, Times]
    every_wait: list[float]
    cpu_ms_per_session_s: float
    core_percent: float
    rss_kb_per_session: float
    load_core_percent: float
    load_late_p99: float
    load_unfit: bool
    others_percent: float


class Moment(msgspec.Struct, frozen=True):
    """Everything that counts up, at one instant."""

    at: float
    own_cpu_s: float
    machine_ns: int
    server: Cost


def times(values_s: Iterable[float]) -> Times:
    """Of seconds."""
    found = [1000 * value for value in values_s]
    return Times(*(round(value, 2) for value in (percentile(found, 50), percentile(found, 99), max(found, default=-1))))


class Crowd:
    """Lets the visitors in, waits until enough was asked, and measures."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.visitors: list[Visitor] = []
        self.refused = 0
        self._random = random.Random(7)

    async def run(self) -> Visits:
        await self._arrive()
        gc.collect()
        gc.freeze()
        for visitor in self.visitors:
            visitor.late.clear()
        before = self._moment()
        await self._ask()
        after = self._moment()
        await self._finish()
        return self._visits(before, after)

    def _moment(self) -> Moment:
        spec = self.spec
        server = cost_of(spec.server_pid) if spec.server_pid else Cost()
        return Moment(monotonic(), time.process_time(), busy_ns(), server)

    async def _arrive(self) -> None:
        spec = self.spec
        step = spec.ramp_s / spec.sessions
        await asyncio.gather(*(self._enter(number, number * step) for number in range(spec.sessions)))

    async def _enter(self, number: int, wait: float) -> None:
        await asyncio.sleep(wait)
        spec, later = self.spec, asyncio.get_running_loop().call_later
        visitor = Visitor(number, spec.manner, self._random.uniform(0, spec.first_s), later)
        try:
            async with asyncio.timeout(CONNECT_S):
                url = f"{spec.url}&session_id=bench-{os.getpid()}-{number}"
                await ws_connect(lambda: visitor, url, websocket_handshake_timeout=CONNECT_S)
                await visitor.settled.wait()
        except (WSError, OSError, TimeoutError) as error:
            sys.stderr.write(f"\nvisitor {number} was refused: {error!r}\n")
        if visitor.let_in_at >= 0:
            self.visitors.append(visitor)
        else:
            self.refused += 1

    async def _ask(self) -> None:
        """Until the time is over, or as many turns were asked as are wanted."""
        for _ in range(round(self.spec.seconds / LOOK_S)):
            if self.spec.turns and sum(len(visitor.turns) for visitor in self.visitors) >= self.spec.turns:
                return
            await asyncio.sleep(LOOK_S)

    async def _finish(self) -> None:
        """Nobody asks anything more, and what was asked has the time to be answered."""
        for visitor in self.visitors:
            visitor.finish()
        for _ in range(round(LOST_S / LOOK_S)):
            if all(visitor.is_answered for visitor in self.visitors):
                break
            await asyncio.sleep(LOOK_S)
        for visitor in self.visitors:
            visitor.leave()

    def _visits(self, before: Moment, after: Moment) -> Visits:
        spec, manner = self.spec, self.spec.manner
        count, seconds = max(1, len(self.visitors)), after.at - before.at
        # What was asked before all were in does not count, unless turns are counted and not seconds.
        since = 0.0 if spec.turns else before.at
        turns = [t for v in self.visitors for t in v.turns if since <= t.words_at < after.at and t.over_at >= 0]
        kept = [turn for turn in turns if waited_s(turn, manner) >= 0]
        used = Cost(*(b - a for a, b in zip(astuple(before.server), astuple(after.server), strict=True)))
        own_s = after.own_cpu_s - before.own_cpu_s
        others = after.machine_ns - before.machine_ns - used.total_ns - own_s * 1e9
        late = list(chain.from_iterable(visitor.late for visitor in self.visitors))
        late_p99 = 1000 * percentile(late, 99) if late else -1.0
        return Visits(
            sessions=spec.sessions,
            refused=self.refused,
            failed=sum(visitor.failed for visitor in self.visitors),
            seconds=round(seconds, 2),
            turns=len(turns),
            lost_turns=len(turns) - len(kept),
            errors=sum(visitor.errors + visitor.bad for visitor in self.visitors),
            let_in=times(visitor.let_in_at - visitor.began for visitor in self.visitors),
            waits=times(waited_s(turn, manner) for turn in kept),
            added=times(_came(turn, manner) - turn.over_at for turn in kept),
            answered=times(turn.answered_at - turn.over_at for turn in kept if turn.answered_at >= 0),
            endpointing=times(turn.over_at - turn.words_at for turn in kept),
            parts=_parts(kept),
            every_wait=[round(1000 * waited_s(turn, manner), 2) for turn in kept],
            cpu_ms_per_session_s=round(used.total_ns / 1e6 / seconds / count, 3),
            core_percent=round(used.total_ns / 1e7 / seconds, 1),
            rss_kb_per_session=round((after.server.rss_kb - spec.idle_rss_kb) / count, 1),
            load_core_percent=round(100 * own_s / seconds, 1),
            load_late_p99=round(late_p99, 2),
            load_unfit=own_s / seconds > BUSY or late_p99 > LATE_MS,
            others_percent=round(max(0.0, others / 1e7 / seconds), 1),
        )


def _came(turn: Turn, manner: Manner) -> float:
    return turn.heard_at if manner.sound else turn.answered_at


def _parts(turns: list[Turn]) -> dict[str, Times]:
    told = [turn.parts for turn in turns if turn.parts]
    names = dict.fromkeys(name for parts in told for name in parts)
    return {name: times(parts.get(name, 0.0) / 1000 for parts in told) for name in names}


def main(argument: str) -> None:
    spec = msgspec.json.decode(argument, type=Spec)
    if spec.core >= 0:
        os.sched_setaffinity(0, {spec.core})
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    gc.disable()
    found = uvloop.run(Crowd(spec).run())
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
