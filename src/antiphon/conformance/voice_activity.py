"""What every ``VoiceActivity`` must do: ``run(voice_activity.KIT, make)``. ``Sample.speech`` is the voice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from antiphon.conformance.checks import (
    GRACE_S,
    LIMIT_S,
    ConformanceError,
    Kit,
    Subject,
    closes_twice,
    median_call_s,
    require,
    started,
)
from antiphon.media.codec import bytes_per_sample, encode
from antiphon.runtime.ports import VoiceActivity, VoiceMember

WINDOW_SAMPLES = 256
FRAME_SAMPLES = 160
AHEAD_WINDOWS = 8
"""A detector may drop what comes much faster than real time; so the checks wait for it now and then."""

PUSH_LIMIT_S = 0.002
CODECS = ("mulaw", "alaw", "pcm16")


class Windows:
    """An ``on_window`` that remembers."""

    def __init__(self) -> None:
        self.told: list[float] = []
        self.threads: set[int] = set()
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def __call__(self, probability: float) -> None:
        self.told.append(probability)
        self.threads.add(threading.get_ident())
        self._loop.call_soon_threadsafe(self._news.set)

    async def until(self, count: int) -> None:
        try:
            async with asyncio.timeout(LIMIT_S * 0.4):
                while len(self.told) < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise ConformanceError(f"{count} windows are complete and {len(self.told)} were told") from None


async def _play(member: VoiceMember, windows: Windows, pcm: bytes, codec: str, piece: int = 0) -> None:
    """Pushes in pieces of ``piece`` bytes (0: frames of 20 ms), never far ahead of what was told."""
    audio, size = encode(codec, pcm), bytes_per_sample(codec)
    before, waited = len(windows.told), 0
    step = piece or FRAME_SAMPLES * size
    for at in range(0, len(audio), step):
        member.push(audio[at : at + step])
        complete = min(at + step, len(audio)) // (WINDOW_SAMPLES * size)
        if complete - waited >= AHEAD_WINDOWS:
            waited = complete
            await windows.until(before + complete)
    await windows.until(before + len(audio) // (WINDOW_SAMPLES * size))


def _whole(pcm: bytes) -> bytes:
    """Cut to whole windows, so that nothing is left over."""
    return pcm[: len(pcm) // (2 * WINDOW_SAMPLES) * 2 * WINDOW_SAMPLES]


async def tells_each_window_once(subject: Subject[VoiceActivity]) -> None:
    """Each 256 samples give one probability, in each codec, and a piece of a window gives none. A call counts its media
    time by them: one too few or too many, and speech is cut where nobody stopped.
    """
    pcm = _whole(subject.sample.speech)
    async with started(subject) as activity:
        for codec in CODECS:
            windows = Windows()
            member = activity.join(codec, windows)
            await _play(member, windows, pcm + bytes(2 * (WINDOW_SAMPLES - 1)), codec)
            await asyncio.sleep(GRACE_S)
            due = len(pcm) // 2 // WINDOW_SAMPLES
            require(len(windows.told) == due, f"{codec}: {due} windows are complete and {len(windows.told)} were told")
            member.leave()


async def tells_probabilities(subject: Subject[VoiceActivity]) -> None:
    """What is told lies in 0..1. The gate compares it with its thresholds: anything else keeps it open or shut."""
    async with started(subject) as activity:
        for pcm in (_whole(subject.sample.speech), bytes(8192), b"\xff\x7f\x00\x80" * 2048):
            windows = Windows()
            await _play(activity.join("pcm16", windows), windows, pcm, "pcm16")
            wrong = [told for told in windows.told if not 0.0 <= told <= 1.0]
            require(not wrong, f"{wrong[:1]} is no probability")


async def tells_speech_from_silence(subject: Subject[VoiceActivity]) -> None:
    """A voice is over 0.5 for at least a quarter of its windows, half a second of silence ends below. The gate opens
    and shuts by it: else the agent never hears, or never answers.
    """
    speech = _whole(subject.sample.speech)
    async with started(subject) as activity:
        windows = Windows()
        member = activity.join("mulaw", windows)
        await _play(member, windows, speech, "mulaw")
        loud = sum(told > 0.5 for told in windows.told)
        require(loud >= len(windows.told) / 4, f"of {len(windows.told)} windows of a voice {loud} are over 0.5")
        await _play(member, windows, bytes(16 * 2 * WINDOW_SAMPLES), "mulaw")
        require(windows.told[-1] < 0.5, f"silence ends at {windows.told[-1]:.2f}")


async def takes_audio_in_any_pieces(subject: Subject[VoiceActivity]) -> None:
    """Audio in odd pieces, also with half a sample or nothing, gives the probabilities that it gives in frames, to
    within 0.05. Lines cut as they like, and a caller should not be heard worse for it.
    """
    pcm = _whole(subject.sample.speech)
    async with started(subject) as activity:
        told: list[Sequence[float]] = []
        for piece in (0, 333, 1):
            windows = Windows()
            member = activity.join("pcm16", windows)
            member.push(b"")
            await _play(member, windows, pcm if piece != 1 else pcm[:4096], "pcm16", piece)
            member.leave()
            told.append(windows.told)
        for other in told[1:]:
            apart = max(abs(one - another) for one, another in zip(told[0], other, strict=False))
            require(apart <= 0.05, f"the same audio in other pieces is told {apart:.2f} apart")


async def keeps_calls_apart(subject: Subject[VoiceActivity]) -> None:
    """A call's probabilities are the same, to within 0.05, whether it is alone or others speak, and whoever had its
    place before. Else one caller's voice interrupts the agent in another's call.
    """
    pcm = _whole(subject.sample.speech)
    async with started(subject) as activity:
        told = []
        for others in (0, 2):
            noises = [Windows() for _ in range(others)]
            members = [activity.join("pcm16", noise) for noise in noises]
            windows = Windows()
            mine = activity.join("pcm16", windows)
            plays = [_play(member, noise, pcm[::-1], "pcm16") for member, noise in zip(members, noises, strict=True)]
            await asyncio.gather(_play(mine, windows, pcm, "pcm16"), *plays)
            for member in (mine, *members):
                member.leave()
            told.append(windows.told)
        require(len(told[0]) == len(told[1]), "a call is told another number of windows when others speak")
        apart = max(abs(one - another) for one, another in zip(*told, strict=True))
        require(apart <= 0.05, f"a call is told {apart:.2f} apart when others speak")


async def tells_on_the_loop(subject: Subject[VoiceActivity]) -> None:
    """``on_window`` is called on the loop's thread. From another it would change a call's state under the loop's feet:
    rare, and never found again.
    """
    async with started(subject) as activity:
        windows = Windows()
        await _play(activity.join("mulaw", windows), windows, _whole(subject.sample.speech), "mulaw")
        require(windows.threads == {threading.get_ident()}, "on_window was called on another thread than the loop's")


async def pushes_without_delay(subject: Subject[VoiceActivity]) -> None:
    """``push`` of one frame of 20 ms returns within 2 ms (the median of fifty): the model runs elsewhere. It is called
    for every frame of every call, and all of them hear the gaps.
    """
    async with started(subject) as activity:
        member = activity.join("mulaw", Windows())
        frame = encode("mulaw", subject.sample.speech)[:FRAME_SAMPLES]
        median = await median_call_s(lambda: member.push(frame), 50)
        require(median < PUSH_LIMIT_S, f"push of a 20 ms frame blocks the loop for {median * 1000:.1f} ms")


async def gives_back_what_was_pushed(subject: Subject[VoiceActivity]) -> None:
    """``recent`` gives the last 400 ms pushed, and fewer while there are no more. An utterance is heard from a little
    before the gate opened: without that its first consonant is lost.
    """
    kept = 8 * 400
    audio = encode("mulaw", _whole(subject.sample.speech))
    async with started(subject) as activity:
        windows = Windows()
        member = activity.join("mulaw", windows)
        for end in range(FRAME_SAMPLES, len(audio) + 1, FRAME_SAMPLES):
            member.push(audio[end - FRAME_SAMPLES : end])
            if end % (5 * FRAME_SAMPLES) == 0:
                await asyncio.sleep(0)
                require(member.recent(kept) == audio[max(0, end - kept) : end], "recent is not what was pushed last")
        require(member.recent(0) == b"", "recent gives audio where none is asked for")


async def survives_a_broken_call(subject: Subject[VoiceActivity]) -> None:
    """A call whose ``on_window`` raises costs no other call a window. One call's fault must not be heard in others."""
    loop = asyncio.get_running_loop()
    former = loop.get_exception_handler()
    loop.set_exception_handler(lambda loop, context: None)  # the fault is made on purpose: it is no news

    def broken(probability: float) -> None:
        raise ValueError("made on purpose by a conformance check")

    try:
        async with started(subject) as activity:
            windows = Windows()
            bad, good = activity.join("mulaw", broken), activity.join("mulaw", windows)
            frame = encode("mulaw", subject.sample.speech)[: 4 * WINDOW_SAMPLES]
            bad.push(frame)
            good.push(frame)
            bad.push(frame)
            await windows.until(4)
            good.push(frame)
            await windows.until(8)
    finally:
        loop.set_exception_handler(former)


async def is_silent_after_leave(subject: Subject[VoiceActivity]) -> None:
    """After ``leave`` nothing more is told, and another ``push`` or ``leave`` is harmless. The call is over, and a line
    may still bring a frame of it.
    """
    audio = encode("mulaw", _whole(subject.sample.speech))[: 8 * WINDOW_SAMPLES]
    async with started(subject) as activity:
        gone, windows = Windows(), Windows()
        member, other = activity.join("mulaw", gone), activity.join("mulaw", windows)
        member.push(audio)
        other.push(audio)
        member.leave()
        known = len(gone.told)
        try:
            member.push(audio)
            member.leave()
            member.push(audio)
        except Exception as error:
            raise ConformanceError(f"a member that has left raises {error!r}") from error
        await windows.until(8)
        await asyncio.sleep(GRACE_S)
        require(len(gone.told) == known, "windows are told to a call that has left")


async def is_silent_after_close(subject: Subject[VoiceActivity]) -> None:
    """After ``close`` returned nothing more is told, ``push`` and ``leave`` are harmless, and it may be called twice.
    Calls and the detector end in any order when a server stops.
    """
    audio = encode("mulaw", _whole(subject.sample.speech))[: 8 * WINDOW_SAMPLES]
    async with started(subject) as activity:
        windows = Windows()
        member = activity.join("mulaw", windows)
        member.push(audio)
        await closes_twice(activity)
        known = len(windows.told)
        try:
            member.push(audio)
            await asyncio.sleep(4 * GRACE_S)
            member.leave()
        except Exception as error:
            raise ConformanceError(f"a member of a closed detector raises {error!r}") from error
        require(len(windows.told) == known, "windows are told after close")


KIT: Kit[VoiceActivity] = Kit(
    "vad",
    (
        tells_each_window_once,
        tells_probabilities,
        tells_speech_from_silence,
        takes_audio_in_any_pieces,
        keeps_calls_apart,
        tells_on_the_loop,
        pushes_without_delay,
        gives_back_what_was_pushed,
        survives_a_broken_call,
        is_silent_after_leave,
        is_silent_after_close,
    ),
)
