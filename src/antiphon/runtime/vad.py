"""Voice activity for all calls of a process: one batched Silero model in one thread of low priority.

On the loop's thread a call's audio is appended to a bytearray and nothing else happens until a window of
32 ms is complete. Windows that become complete soon after each other (``GATHER_S``), whichever calls they
belong to, go to the thread as one job, and their probabilities come back as one callback. Audio at more than
8 kHz is brought down to it in the thread.

The thread does not save processor time, it removes stalls: at nice +10 the kernel lets the loop run first,
so that a batch of hundreds of windows never delays a frame. At most one job is under way. What completes
meanwhile waits in the calls' own buffers, which are bounded, so that a thread that falls behind costs old
windows (counted) and never memory.

BLAS must not spread these small products over threads of its own: that nearly doubles the processor time
(measured 16.8 instead of 9.8 us a window at a batch of 32) and takes cores that other processes are pinned
to. It is held to one thread, process-wide, from ``start`` to ``close``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import TypeVar

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from antiphon.media.activity import ActivityBatch
from antiphon.media.forms import form_of
from antiphon.media.played import Played
from antiphon.media.silero import Floats
from antiphon.runtime.bell import Bell
from antiphon.runtime.vad_member import Member, Taken

NICENESS = 10
GATHER_S = 0.032
GATHER_PER_CALL_S = 0.0006
"""How long the first complete window waits for others. A batch is what makes the model cheap, but with few
calls it is cheap anyway and the wait would only delay the answer; so the wait grows with the calls, to 32 ms. The end
of a turn is not delayed by it, as that is counted from when the caller fell silent; a barge-in is noticed by as much
later."""
AT_ONCE_S = 0.002
"""A shorter wait is none: timers come by the millisecond, and each is a wake-up of its own."""
MOST_CALLS = 256
"""In one job: a larger batch is hardly cheaper for each of them, and putting it together holds up the answers."""
RESTART_S, RESTART_MAX_S = 0.05, 5.0

# slots, their windows by form, and what was played to each meanwhile
_Round = tuple[list[int], list[tuple[str, bytes]], list[bytearray | None]]
_Job = tuple[list[int], list[_Round]]  # slots with a new owner, then one round after the other

_T = TypeVar("_T")
Engine = Callable[[], ActivityBatch]


class VadHealth(msgspec.Struct, frozen=True):
    """How the detector is. ``last_error`` is that of the thread, "" if it never failed."""

    running: bool
    members: int
    windows: int
    dropped_windows: int
    restarts: int
    failed_callbacks: int
    last_error: str


def load_weights() -> dict[str, Floats]:
    """Reads the vendored model: 850 KB, about 10 ms."""
    source = resources.files("antiphon.data") / "silero" / "vad_8k.npz"
    with source.open("rb") as file, np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


class SileroActivity:
    """The ``VoiceActivity`` port over Silero VAD at 8 kHz.

    ``engine`` makes what runs in the thread, in that thread's name, once per (re)start: the vendored model
    unless a test says otherwise. ``on_failure`` is told, on the loop's thread, each time the thread dies; it is
    started again with fresh state after 50 ms, doubling to 5 s while it goes on failing.
    """

    def __init__(
        self, *, engine: Engine | None = None, on_failure: Callable[[BaseException], None] | None = None
    ) -> None:
        self._engine = engine
        self._weights: Mapping[str, Floats] = {}
        self._on_failure = on_failure
        self._members: set[Member] = set()
        self._free: list[int] = []
        self._slots = 0
        self._fresh: set[int] = set()
        self._waiting: list[Member] = []
        self._waiting_since = 0.0
        self._under_way: list[list[Member]] | None = None
        self._timer: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._bell: Bell | None = None
        self._blas: threadpool_limits | None = None
        self._backoff_s = RESTART_S
        self._last_error = ""
        self.windows = 0
        """Windows answered so far."""
        self.dropped_windows = 0
        self.restarts = 0
        self.failed_callbacks = 0

    # -- the port -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Loads the model and starts the thread. Once only."""
        if self._loop is not None:
            raise RuntimeError("a voice activity detector is started once")
        self._loop = asyncio.get_running_loop()
        self._bell = Bell(self._loop)
        if self._engine is None:
            self._weights = await asyncio.to_thread(load_weights)
        self._blas = threadpool_limits(1, user_api="blas")
        self._start_thread()

    def join(
        self,
        codec: str,
        on_window: Callable[[float], None],
        *,
        sample_rate: int = 8000,
        played: Played | None = None,
    ) -> Member:
        """See the port."""
        form = form_of(codec, sample_rate)
        if self._free:
            slot = self._free.pop()
        else:
            slot, self._slots = self._slots, self._slots + 1
        self._fresh.add(slot)
        member = Member(self, slot, form, on_window, played)
        self._members.add(member)
        return member

    async def close(self) -> None:
        """Stops the thread and waits for it. No window is reported afterwards. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for member in list(self._members):
            member.leave()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)
        if self._bell is not None:
            self._bell.close()
        if self._blas is not None:
            self._blas.restore_original_limits()
            self._blas = None

    @property
    def health(self) -> VadHealth:
        """How it is now."""
        return VadHealth(
            running=self._thread is not None and self._thread.is_alive(),
            members=len(self._members),
            windows=self.windows,
            dropped_windows=self.dropped_windows,
            restarts=self.restarts,
            failed_callbacks=self.failed_callbacks,
            last_error=self._last_error,
        )

    # -- on the loop's thread -------------------------------------------------------------------

    def now_ms(self) -> float:
        return self._loop.time() * 1000 if self._loop is not None else 0.0

    def complete(self, member: Member) -> None:
        waiting = self._waiting
        if not waiting and self._loop is not None:
            self._waiting_since = self._loop.time()
            if self._under_way is None:
                self._gather()
        waiting.append(member)

    def _gather(self) -> None:
        """Collects once the first that waits has waited long enough for the others."""
        if self._timer is None and self._loop is not None and self._thread is not None:
            wait = min(GATHER_S, GATHER_PER_CALL_S * len(self._members))
            if wait < AT_ONCE_S:
                self._timer = self._loop.call_soon(self._collect)  # what came in this round of the loop goes together
            else:
                self._timer = self._loop.call_at(self._waiting_since + wait, self._collect)

    def left(self, member: Member) -> None:
        self._members.discard(member)
        # A job under way may still write to this slot; the next owner's job comes after it and resets first.
        self._free.append(member.slot)

    def _collect(self) -> None:
        self._timer = None
        if self._thread is None or self._under_way is not None:
            return
        waiting, self._waiting = self._waiting[:MOST_CALLS], self._waiting[MOST_CALLS:]
        rounds: list[_Round] = []
        under_way: list[list[Member]] = []
        while waiting:  # once as a rule: a round has the oldest window of each call, and no call twice
            by: dict[str, Taken] = {}
            waiting = self._take(waiting, by)
            members: list[Member] = []
            played: list[bytearray | None] = []
            for taken in by.values():
                members += taken.members
                played += taken.played
            if members:
                audio = [(form, b"".join(taken.windows)) for form, taken in by.items()]
                rounds.append(([member.slot for member in members], audio, played))
                under_way.append(members)
        if rounds:
            self._under_way = under_way
            fresh, self._fresh = list(self._fresh), set()
            self._jobs.put((fresh, rounds))
        elif self._waiting:
            self._gather()

    def _take(self, waiting: list[Member], by: dict[str, Taken]) -> list[Member]:
        """A window of each of them, by form. Returns those that have another one."""
        more = []
        form, taken = "", Taken()
        for member in waiting:
            if member.lost:
                self._make_up(member)
            if member.gone:
                continue
            if member.form != form:
                form = member.form
                taken = by.setdefault(form, Taken())
            if member.take(taken):
                more.append(member)
        return more

    def _answer(self, probabilities: list[list[float]]) -> None:
        rounds, self._under_way = self._under_way or [], None
        self._backoff_s = RESTART_S
        for members, found in zip(rounds, probabilities, strict=True):
            self.windows += len(found)
            self._tell(members, found)
        if self._waiting:
            self._gather()

    def _make_up(self, member: Member) -> None:
        """Windows that were dropped are answered as the one before them: the call counts time by windows."""
        lost, member.lost = member.lost, 0
        self._tell(lost * [member], lost * [member.last])

    def _tell(self, members: Sequence[Member], probabilities: Sequence[float]) -> None:
        for member, probability in zip(members, probabilities, strict=True):
            member.last = probability
            try:
                member.on_window(probability)  # nobody's, if it has left
            except Exception as error:  # noqa: BLE001 - counted and reported; the other calls go on
                self._callback_failed(member, error)

    def _callback_failed(self, member: Member, error: Exception) -> None:
        self.failed_callbacks += 1
        if not member.failed and self._loop is not None:  # once a call: it may fail 31 times a second
            member.failed = True
            self._loop.call_exception_handler(
                {"message": "a call's voice activity callback raised", "exception": error}
            )

    def _died(self, error: BaseException) -> None:
        """The thread ended by ``error``: what it had is lost, what waits goes to the next one."""
        lost, self._under_way = self._under_way or [], None
        for members in lost:
            self.dropped_windows += len(members)
            for member in members:
                member.lost += 1
        self._last_error = f"{type(error).__name__}: {error}"
        if self._thread is None or self._loop is None:
            return
        self._thread = None
        if self._timer is not None:  # a collection is due, but there is nobody to collect for
            self._timer.cancel()
        delay, self._backoff_s = self._backoff_s, min(2 * self._backoff_s, RESTART_MAX_S)
        self._timer = self._loop.call_later(delay, self._restart)
        if self._on_failure is not None:
            self._on_failure(error)

    def _restart(self) -> None:
        self._timer = None
        self.restarts += 1
        self._start_thread()
        self._collect()

    def _start_thread(self) -> None:
        self._jobs = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(self._jobs,), name="antiphon-vad", daemon=True)
        self._thread.start()

    # -- in the thread --------------------------------------------------------------------------

    def _run(self, jobs: queue.SimpleQueue[_Job | None]) -> None:
        try:
            lower_priority()
            batch = self._engine() if self._engine is not None else ActivityBatch(self._weights)
            while (job := jobs.get()) is not None:
                fresh, rounds = job
                batch.reset(fresh)
                answer = [batch.step(slots, audio, played) for slots, audio, played in rounds]
                if not self._post(self._answer, answer):
                    return
        except BaseException as error:  # noqa: BLE001 - reported through health and on_failure
            self._post(self._died, error)

    def _post(self, callback: Callable[[_T], None], value: _T) -> bool:
        return self._bell is not None and self._bell.ring(callback, value)


def lower_priority() -> None:
    """Puts the calling thread at nice +10, where one thread can be (Linux) and we may."""
    if sys.platform == "linux":
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
