"""The shared detector: its thread, its bounds, and that one call never hurts another."""

import asyncio
import os
import sys
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from antiphon.media import codec
from antiphon.media.activity import ActivityBatch
from antiphon.media.forms import WINDOW_BYTES
from antiphon.media.gate import Gate
from antiphon.media.played import Played
from antiphon.providers.tts.espeak import build
from antiphon.runtime.vad import NICENESS, SileroActivity, load_weights
from antiphon.runtime.vad_member import BACKLOG_WINDOWS, KEPT_WINDOWS

WEIGHTS = load_weights()
PATIENCE_S = 20


class Listener:
    """Collects a call's probabilities and can be waited for."""

    def __init__(self):
        self.heard = []
        self._due = 0
        self._reached = asyncio.Event()

    def __call__(self, probability):
        self.heard.append(probability)
        if len(self.heard) >= self._due:
            self._reached.set()

    async def until(self, windows):
        if len(self.heard) < windows:
            self._due = windows
            self._reached.clear()
            await asyncio.wait_for(self._reached.wait(), PATIENCE_S)


class Flat:
    """An engine without a model: what ``step`` does is the test's own."""

    def __init__(self, step=None):
        self.nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        self.reset_slots = []
        self._step = step or (lambda slots: [0.25] * len(slots))

    def reset(self, slots):
        self.reset_slots.extend(slots)

    def step(self, slots, audio, played):
        assert len(played) == len(slots)
        assert sum(len(data) // WINDOW_BYTES[name] for name, data in audio) == len(slots)
        return self._step(slots)


def run(scenario, **options):
    """Runs ``scenario(detector)`` between start and close."""

    async def main():
        detector = SileroActivity(**options)
        await detector.start()
        try:
            return await asyncio.wait_for(scenario(detector), 2 * PATIENCE_S)
        finally:
            await detector.close()

    return asyncio.run(main())


def noise(samples, seed, level=2000):
    return np.random.default_rng(seed).normal(0, level, samples).clip(-32768, 32767).astype("<i2").tobytes()


async def spoken(text):
    voice = build({})
    await voice.start()
    try:
        return b"".join([s.pcm async for s in voice.synthesize(text, language="en-IN", sample_rate=8000)])
    finally:
        await voice.close()


async def play(member, listener, encoded, piece):
    """Pushes in pieces as a line does, never further ahead than the detector keeps."""
    windows = 0
    for start in range(0, len(encoded), piece):
        member.push(encoded[start : start + piece])
        complete = (start + piece) // member.window
        if complete - windows >= 20:
            windows = complete
            await listener.until(windows)
    await listener.until(len(encoded) // member.window)


@pytest.mark.parametrize("name", ["mulaw", "alaw", "pcm16"])
def test_hears_speech_where_it_is_and_not_in_noise(name):
    async def scenario(detector):
        speech = await spoken("What are the admission requirements for international students?")
        hiss = noise(8000 * 2, 1, 60)
        louder = (np.frombuffer(speech, "<i2") + np.frombuffer(noise(len(speech) // 2, 2, 60), "<i2")).astype("<i2")
        caller, line = Listener(), Listener()
        first, second = detector.join(name, caller), detector.join(name, line)
        encoded = codec.encode(name, hiss + louder.tobytes() + hiss)
        await asyncio.gather(
            play(first, caller, encoded, 160 * codec.bytes_per_sample(name)),
            play(second, line, codec.encode(name, noise(8000 * 6, 3, 500)), 160 * codec.bytes_per_sample(name)),
        )
        return caller.heard, line.heard, len(speech) // 16

    heard, hissed, speech_ms = run(scenario)
    assert max(hissed) < 0.5
    gate = Gate()
    edges = [edge for edge in map(gate.step, heard) if edge]
    assert [edges[0].kind, edges[-1].kind] == ["started", "stopped"]
    # Speech lies between 2,000 ms and 2,000 ms + its length; the synthesizer pads it with some silence.
    assert 1950 <= edges[0].position_ms <= 2200
    assert 2000 + speech_ms - 450 <= edges[-1].position_ms <= 2000 + speech_ms + 100


@pytest.mark.exclusive
def test_what_was_played_to_a_call_is_no_speech_of_its_own():
    """The line's own clock brings the two together: what is pushed now was played a little before."""

    async def scenario(detector):
        loop = asyncio.get_running_loop()
        speech = codec.encode("mulaw", await spoken("What are the admission requirements for international students?"))
        late = b"\xff" * 640 + speech  # 80 ms
        played, guarded, bare = Played("mulaw", 8000), Listener(), Listener()
        members = detector.join("mulaw", guarded, played=played), detector.join("mulaw", bare)
        began = loop.time()
        for at in range(0, len(late) - 160, 160):
            played.send(speech[at : at + 160], loop.time() * 1000)
            for member in members:
                member.push(late[at : at + 160])
            await asyncio.sleep(max(0.0, began + (at + 160) / 8000 - loop.time()))
        await asyncio.gather(*(listener.until(len(late) // 256 - 4) for listener in (guarded, bare)))
        return guarded.heard, bare.heard

    guarded, bare = run(scenario)
    assert sum(p > 0.5 for p in bare) > len(bare) / 2
    # The first echo of a line passes until its path is known; a stalled loop makes that take longer.
    assert sum(p > 0.5 for p in guarded) < 12


@pytest.mark.parametrize("guarded", [True, False])
def test_it_is_known_when_a_window_was_spoken(guarded):
    """By the stream's own pace: what came late was spoken no later. Known where something is played."""

    async def scenario(detector):
        listener = Listener()
        member = detector.join("mulaw", listener, played=Played("mulaw", 8000) if guarded else None)
        before = member.ago_ms(0)
        now = [1000.0]
        detector.now_ms = lambda: now[0]
        for _ in range(8):  # 20 ms frames: a window of 32 is complete with every other one, or the next
            now[0] += 20.0
            member.push(bytes(160))
            await listener.until(int(now[0] - 1000) // 32)
        exact = member.ago_ms(128)
        now[0] += 57.0
        return before, exact, member.ago_ms(128), member.ago_ms(10_000)

    before, exact, later, never = run(scenario, engine=Flat)
    assert before == 0.0
    assert (exact, later, never) == ((32.0, 89.0, 0.0) if guarded else (0.0, 0.0, 0.0))


def test_three_hundred_calls_get_what_each_would_get_alone():
    calls, windows = 300, 6
    names = [("mulaw", "alaw", "pcm16")[n % 3] for n in range(calls)]
    audio = [codec.encode(name, noise(windows * 256, n, 100 + 20 * n)) for n, name in enumerate(names)]

    async def scenario(detector):
        listeners = [Listener() for _ in range(calls)]
        members = [detector.join(name, listener) for name, listener in zip(names, listeners, strict=True)]
        piece = 160
        for start in range(0, windows * 256, piece):
            for member, data, name in zip(members, audio, names, strict=True):
                width = codec.bytes_per_sample(name)
                member.push(data[start * width : (start + piece) * width])
            await asyncio.sleep(0)
        for listener in listeners:
            await listener.until(windows)
        return [listener.heard for listener in listeners], detector.health

    heard, health = run(scenario)
    assert (health.windows, health.dropped_windows, health.members) == (calls * windows, 0, calls)
    for name, data, found in zip(names, audio, heard, strict=True):
        alone, size = ActivityBatch(WEIGHTS), WINDOW_BYTES[name]
        expected = [alone.step([0], [(name, data[n * size : (n + 1) * size])])[0] for n in range(windows)]
        assert found == pytest.approx(expected, abs=2e-6)


def test_more_calls_than_a_job_holds_are_answered_by_the_next(monkeypatch):
    monkeypatch.setattr("antiphon.runtime.vad.MOST_CALLS", 4)
    sizes = []

    async def scenario(detector):
        listeners = [Listener() for _ in range(11)]
        members = [detector.join("mulaw", listener) for listener in listeners]
        for member in members:
            member.push(b"\xff" * 256)
        for member in members[:4]:  # all of the first job
            member.leave()
        for listener in listeners[4:]:
            await listener.until(1)
        assert [len(listener.heard) for listener in listeners] == 4 * [0] + 7 * [1]

    run(scenario, engine=lambda: Flat(lambda slots: (sizes.append(len(slots)), [0.25] * len(slots))[1]))
    assert sizes == [4, 3]


def test_calls_come_and_go_while_it_runs():
    windows = 12
    audio = codec.encode("mulaw", noise(windows * 256, 5))
    alone = ActivityBatch(WEIGHTS)
    expected = [alone.step([0], [("mulaw", audio[n * 256 : (n + 1) * 256])])[0] for n in range(windows)]

    async def one(detector, stay):
        listener = Listener()
        member = detector.join("mulaw", listener)
        for n in range(stay):
            member.push(audio[n * 256 : (n + 1) * 256])
            await listener.until(n + 1)
        member.push(audio[:300])
        member.leave()
        seen = len(listener.heard)
        member.push(audio * 50)
        member.leave()
        await asyncio.sleep(0.005)
        assert len(listener.heard) == seen == stay
        assert not member.buffer
        assert listener.heard == pytest.approx(expected[:stay], abs=2e-6)

    async def scenario(detector):
        rng = np.random.default_rng(6)
        for _ in range(4):
            await asyncio.gather(*(one(detector, int(stay)) for stay in rng.integers(1, windows, 25)))
        return detector

    detector = run(scenario)
    assert detector.health.members == 0
    assert detector._slots == 25, "slots are recycled"


def test_a_thread_that_falls_behind_costs_old_windows_and_no_memory():
    held, began = threading.Event(), threading.Event()
    pushed = 100

    def step(slots):
        began.set()
        assert held.wait(PATIENCE_S)
        return [0.75] * len(slots)

    async def scenario(detector):
        listener = Listener()
        member = detector.join("pcm16", listener)
        member.push(bytes(512))
        await asyncio.to_thread(began.wait, PATIENCE_S)
        for _ in range(pushed):
            member.push(bytes(512))
            assert len(member.buffer) <= (BACKLOG_WINDOWS + 1 + 2 * KEPT_WINDOWS) * 512
        assert detector.dropped_windows == pushed - BACKLOG_WINDOWS
        member.push(bytes(65536))
        assert len(member.buffer) <= (BACKLOG_WINDOWS + 1 + 2 * KEPT_WINDOWS) * 512
        held.set()
        # The call counts time by windows: those that were dropped are answered too.
        await listener.until(1 + pushed + 128)
        await asyncio.sleep(0.02)
        return len(listener.heard), detector.health

    heard, health = run(scenario, engine=lambda: Flat(step))
    assert heard == 1 + pushed + 128
    assert health.dropped_windows == pushed + 128 - BACKLOG_WINDOWS
    assert health.windows == 1 + BACKLOG_WINDOWS


def test_what_the_thread_has_got_can_be_asked_for_again():
    async def scenario(detector):
        listener = Listener()
        member = detector.join("mulaw", listener)
        sent = bytes(range(256)) * 100  # 3.2 s
        for at in range(0, len(sent), 160):
            member.push(sent[at : at + 160])
            await asyncio.sleep(0)
            so_far = sent[: at + 160]
            assert member.recent(3200) == so_far[-3200:], "400 ms"
        assert member.recent(0) == b""
        await listener.until(100)
        assert member.recent(3200) == sent[-3200:]
        assert len(member.buffer) < 3 * KEPT_WINDOWS * 256

    run(scenario, engine=lambda: Flat(lambda slots: [0.1] * len(slots)))


def test_a_dead_thread_is_reported_and_replaced():
    failures, engines, died = [], [], asyncio.Event()

    def on_failure(error):
        failures.append(error)
        died.set()

    def engine():
        first = not engines

        def step(slots):
            if first:
                raise FloatingPointError("the model broke")
            return [0.9] * len(slots)

        engines.append(Flat(step))
        return engines[-1]

    async def scenario(detector):
        listener = Listener()
        member = detector.join("mulaw", listener)
        member.push(bytes(256))
        await asyncio.wait_for(died.wait(), PATIENCE_S)
        assert not detector.health.running
        member.push(bytes(256 * 3 + 10))
        await listener.until(4)
        return listener.heard, detector.health

    heard, health = run(scenario, engine=engine, on_failure=on_failure)
    assert heard == [0.0, 0.9, 0.9, 0.9], "the lost window counts as the silence before it"
    assert [str(failure) for failure in failures] == ["the model broke"]
    assert (health.running, health.restarts, health.dropped_windows) == (True, 1, 1)
    assert health.last_error == "FloatingPointError: the model broke"


def test_a_thread_that_always_dies_is_not_restarted_in_a_hurry():
    failures = []

    def engine():
        raise MemoryError("no room for the model")

    async def scenario(detector):
        member = detector.join("mulaw", Listener())
        while len(failures) < 3:
            member.push(bytes(256))
            await asyncio.sleep(0.01)
        return detector.health

    began = time.monotonic()
    health = run(scenario, engine=engine, on_failure=failures.append)
    assert time.monotonic() - began >= 0.05 + 0.1
    assert health.restarts == 2
    assert health.last_error == "MemoryError: no room for the model"
    settled = len(failures)
    time.sleep(0.25)
    assert len(failures) == settled, "no restart after close"


def test_one_callback_that_raises_does_not_hurt_the_others():
    def broken(_probability):
        raise ZeroDivisionError("a bug in one call")

    async def scenario(detector):
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
        listeners = [Listener() for _ in range(8)]
        members = [detector.join("mulaw", listener) for listener in listeners]
        members.insert(4, detector.join("mulaw", broken))
        for _ in range(5):
            for member in members:
                member.push(bytes(256))
        for listener in listeners:
            await listener.until(5)
        return reported, detector.health

    reported, health = run(scenario, engine=Flat)
    assert [type(error) for error in reported] == [ZeroDivisionError], "reported once, not 31 times a second"
    assert health.failed_callbacks == 5
    assert health.windows == 45


def test_runs_at_low_priority_with_blas_on_one_thread():
    engines = []

    def engine():
        engines.append(Flat())
        return engines[-1]

    def blas_threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    async def scenario(detector):
        listener = Listener()
        detector.join("mulaw", listener).push(bytes(256))
        await listener.until(1)
        return blas_threads()

    before = blas_threads()
    during = run(scenario, engine=engine)
    if sys.platform == "linux":
        assert engines[0].nice == NICENESS
        assert os.getpriority(os.PRIO_PROCESS, 0) != NICENESS, "only that thread, not the process"
    assert set(during) <= {1}
    assert blas_threads() == before


def test_close_ends_it_for_good():
    async def main():
        detector = SileroActivity()
        await detector.close()
        detector = SileroActivity()
        await detector.start()
        with pytest.raises(RuntimeError, match="once"):
            await detector.start()
        with pytest.raises(ValueError, match="mulaw, alaw, pcm16"):
            detector.join("opus", print)
        with pytest.raises(ValueError, match="8000, 16000, 24000, 48000"):
            detector.join("pcm16", print, sample_rate=44_100)
        listener = Listener()
        member = detector.join("mulaw", listener)
        member.push(bytes(256))
        await detector.close()
        member.push(bytes(2560))
        await asyncio.sleep(0.05)
        await detector.close()
        assert listener.heard == []
        assert not detector.health.running

    asyncio.run(main())
    assert "antiphon-vad" not in [thread.name for thread in threading.enumerate()]


def test_the_loop_may_close_first():
    """A server that dies without ``close`` must not leave a traceback of ours or a thread behind."""
    detector = SileroActivity(engine=Flat)

    async def main():
        await detector.start()
        detector.join("mulaw", print).push(bytes(256))
        detector._collect()

    asyncio.run(main())
    detector._jobs.put(None)
    thread = detector._thread
    assert thread is not None
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert detector._blas is not None
    detector._blas.restore_original_limits()
