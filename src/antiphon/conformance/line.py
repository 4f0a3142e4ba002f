"""What every ``Line`` must do, and what its ``CallSink`` may rely on: ``run(line.KIT, make)``.

A line is only half of a connection, so ``make`` returns a ``FarEnd``: a connection of your transport, real or a stub,
seen from the caller's side. The kit brings the switchboard that the line reports its call to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from antiphon.conformance.checks import ConformanceError, Kit, Subject, is_utf8, require
from antiphon.media.codec import bytes_per_sample, silence
from antiphon.media.resample import RATES
from antiphon.runtime.ports import CallStart, Line, Switchboard

Sent = tuple[str, bytes | str]
"""``("audio", bytes)`` in the line's codec, ``("mark", name)`` or ``("clear", "")``."""


class FarEnd(Protocol):
    """The caller's side of one connection. You write it for your transport: thirty lines or so over a stub."""

    async def connect(self, switchboard: Switchboard) -> Line:
        """Connects, begins a call as your peers do, and returns the line once the switchboard has it."""

    async def settle(self) -> None:
        """Returns when all that was sent in either direction has arrived. Nothing to do over a stub."""

    def received(self) -> Sequence[Sent]:
        """What the peer got so far, in order, decoded by the peer's rules."""

    def speak(self, audio: bytes) -> None:
        """The caller's audio, one frame of 20 ms."""

    def played(self, mark: str) -> None:
        """The peer tells that all before this mark was played. Not called where ``Line.marks`` is false."""

    def press(self, digit: str) -> None:
        """A key, where the peer has keys; else does nothing."""

    def hang_up(self) -> None:
        """The caller ends the call; the connection ends with it."""

    def drop(self) -> None:
        """The connection is gone without a word."""

    async def close(self) -> None:
        """Releases everything. May be called after ``drop`` and ``hang_up``."""


@dataclass
class Call:
    """A ``CallSink`` that remembers, in order."""

    start: CallStart
    audio: list[bytes] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)

    piece_bytes = 1

    def on_audio(self, audio: bytes) -> None:
        self.audio.append(audio)

    def on_mark(self, name: str) -> None:
        self.told.append(("mark", name))

    def on_digit(self, digit: str) -> None:
        self.told.append(("digit", digit))

    def on_hangup(self, reason: str) -> None:
        self.told.append(("hangup", reason))

    def on_dropped(self, code: str) -> None:
        self.told.append(("dropped", code))

    def ends(self) -> list[str]:
        return [kind for kind, _ in self.told if kind in ("hangup", "dropped")]


class Calls:
    """A ``Switchboard`` that takes every call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def connect(self, start: CallStart, line: Line) -> Call:
        self.calls.append(Call(start))
        return self.calls[-1]


@asynccontextmanager
async def _connected(subject: Subject[FarEnd]) -> AsyncIterator[tuple[FarEnd, Line, Call]]:
    far, calls = subject.make(), Calls()
    try:
        line = await far.connect(calls)
        await far.settle()
        require(len(calls.calls) == 1, f"one connection brought {len(calls.calls)} calls to the switchboard")
        yield far, line, calls.calls[0]
    finally:
        await far.close()


def _frames(line: Line, count: int) -> list[bytes]:
    """Frames of 20 ms that can be told apart."""
    size = line.sample_rate // 50 * bytes_per_sample(line.codec)
    return [bytes([number + 1]) * size for number in range(count)]


def _kinds(sent: Sequence[Sent]) -> list[str]:
    """What was sent with the audio between two other things as one: lines cut audio as they like."""
    kinds: list[str] = []
    for kind, value in sent:
        name = kind if kind == "audio" else f"{kind} {value!r}" if value else kind
        if not (kind == "audio" and kinds[-1:] == ["audio"]):
            kinds.append(name)
    return kinds


def _audio(sent: Sequence[Sent]) -> bytes:
    return b"".join(value for kind, value in sent if kind == "audio" and isinstance(value, bytes))


def _use_all(line: Line, what: str) -> None:
    """Every method of the sending half, none of which may raise."""
    try:
        line.send(silence(line.codec, line.sample_rate // 50))
        line.mark("late")
        line.clear()
        line.hang_up("late")
        line.close(1000, "late")
        line.close(1000, "late")
    except Exception as error:
        raise ConformanceError(f"{what} the line raises {error!r}") from error


# -- sending ------------------------------------------------------------------------------------


async def says_what_it_is(subject: Subject[FarEnd]) -> None:
    """``transport`` has a name, ``codec`` is mulaw, alaw or pcm16, the rate is one that audio can be converted to (8000
    Hz for the telephone's codecs), and the call id fits ``[A-Za-z0-9_.:-]{1,255}``. Else the caller hears noise, or
    the call is refused.
    """
    async with _connected(subject) as (_, line, call):
        require(bool(line.transport) and line.transport == call.start.transport, "line and call name one transport")
        require(line.codec in ("mulaw", "alaw", "pcm16"), f"there is no codec {line.codec!r}")
        require(line.sample_rate in RATES, f"a rate of {line.sample_rate} Hz is none of {RATES}")
        telephone = line.codec == "pcm16" or line.sample_rate == 8000
        require(telephone, f"{line.codec} at {line.sample_rate} Hz is not the telephone's")
        sound = 0 < len(call.start.call_id) <= 255 and all(
            letter.isascii() and (letter.isalnum() or letter in "_.:-") for letter in call.start.call_id
        )
        require(sound, f"{call.start.call_id!r} is no call id")


async def sends_audio_unchanged(subject: Subject[FarEnd]) -> None:
    """Audio arrives as it was given, in order, also none and five seconds at once. Lost or turned pieces are gaps and
    clicks.
    """
    async with _connected(subject) as (far, line, _):
        frames = _frames(line, 10)
        rest = bytes(range(256)) * (line.sample_rate * bytes_per_sample(line.codec) * 5 // 256)
        for audio in (*frames, b"", rest):
            line.send(audio)
        await far.settle()
        expected, found = b"".join(frames) + rest, _audio(far.received())
        require(found == expected, f"{len(expected)} bytes were sent, {len(found)} came, or in another order")


async def keeps_the_order(subject: Subject[FarEnd]) -> None:
    """Audio, marks and ``clear`` arrive in the order of the calls. A mark before its audio tells that something was
    heard which was not; a ``clear`` before older audio lets the agent talk on over the caller.
    """
    async with _connected(subject) as (far, line, _):
        first, second, third = _frames(line, 3)
        line.send(first)
        line.mark("one")
        line.send(second)
        line.mark("two")
        line.clear()
        line.send(third)
        line.mark("three")
        await far.settle()
        expected = ["audio", "mark 'one'", "audio", "mark 'two'", "clear", "audio", "mark 'three'"]
        if not line.marks:
            expected = ["audio", "clear", "audio"]
        found = [kind for kind in _kinds(far.received()) if line.marks or not kind.startswith("mark")]
        if not line.marks:  # what stood on both sides of a mark is one piece of audio then
            found = [kind for at, kind in enumerate(found) if kind != "audio" or found[at - 1 : at] != ["audio"]]
        require(found == expected, f"sent was {expected}, the peer got {found}")


async def carries_any_mark_name(subject: Subject[FarEnd]) -> None:
    """A mark's name arrives unchanged, also with quotes, braces and other scripts. It is matched by its name: one that
    comes back otherwise leaves the agent believing that nothing was heard. (Nothing to do where ``marks`` is false.)
    """
    names = ("1", 'a"b', "}{", "a\\b", "हाँ", "x" * 64)
    async with _connected(subject) as (far, line, _):
        for name in names:
            line.mark(name)
        await far.settle()
        found = tuple(value for kind, value in far.received() if kind == "mark")
        require(found == names or not line.marks, f"the marks {names} came as {found}")


async def takes_any_reason(subject: Subject[FarEnd]) -> None:
    """``close`` and ``hang_up`` take a reason of any length and script. WebSocket allows 123 bytes; a line that raises
    for a longer one keeps the call open, and the caller waits in silence.
    """
    for reason in ("", "x" * 500, "अ" * 200, 'a"}\n'):
        for hang_up in (False, True):
            async with _connected(subject) as (_, line, _call):
                try:
                    if hang_up:
                        line.hang_up(reason)
                    else:
                        line.close(1011, reason)
                except Exception as error:
                    raise ConformanceError(f"a reason of {len(reason)} characters raises {error!r}") from error


async def is_harmless_after_close(subject: Subject[FarEnd]) -> None:
    """After ``close`` or ``hang_up`` every method does nothing, without an exception, and nothing more reaches the
    peer. A call ends while its reply is being sent, and what raises in the pacing wheel takes other calls with it.
    """
    for hang_up in (False, True):
        async with _connected(subject) as (far, line, _):
            line.send(_frames(line, 1)[0])
            if hang_up:
                line.hang_up("goodbye")
            else:
                line.close(1000, "goodbye")
            await far.settle()
            known = len(far.received())
            _use_all(line, "after hang_up" if hang_up else "after close")
            await far.settle()
            require(len(far.received()) == known, f"after its end the line sends {far.received()[known:][:1]}")


async def is_harmless_when_gone(subject: Subject[FarEnd]) -> None:
    """When the connection is gone or the caller has hung up, every method does nothing, without an exception. The call
    learns of it a moment later, and sends until then.
    """
    for hung_up in (False, True):
        async with _connected(subject) as (far, line, _):
            if hung_up:
                far.hang_up()
            else:
                far.drop()
            _use_all(line, "on a connection that is gone")
            await far.settle()
            _use_all(line, "on a connection that is gone")


# -- receiving ----------------------------------------------------------------------------------


async def brings_audio_in_order(subject: Subject[FarEnd]) -> None:
    """The caller's audio comes through ``on_audio`` in the line's codec, whole, unchanged and in order. What is lost or
    turned is misheard.
    """
    async with _connected(subject) as (far, line, call):
        frames = _frames(line, 25)
        for frame in frames:
            far.speak(frame)
        await far.settle()
        require(b"".join(call.audio) == b"".join(frames), "the caller's audio came changed or in another order")
        require(all(call.audio), "on_audio was called without audio")


async def brings_marks_and_keys(subject: Subject[FarEnd]) -> None:
    """Marks come back under their names and once each, where ``marks`` says so, and keys are one of ``0-9*#``. By marks
    it is known what the caller heard; keys choose from the menu.
    """
    async with _connected(subject) as (far, line, call):
        if line.marks:
            for name in ("one", 'two"'):
                line.send(_frames(line, 1)[0])
                line.mark(name)
                await far.settle()
                far.played(name)
        for key in "0*#9":
            far.press(key)
        await far.settle()
        marks = [value for kind, value in call.told if kind == "mark"]
        require(marks == (["one", 'two"'] if line.marks else []), f"two marks were played, told were {marks}")
        keys = [value for kind, value in call.told if kind == "digit"]
        require(keys in ([], list("0*#9")), f"the keys 0 * # 9 came as {keys}")


async def tells_a_hangup_once(subject: Subject[FarEnd]) -> None:
    """When the caller hangs up there is one ``on_hangup`` and nothing after it: no ``on_dropped`` when the connection
    closes too. A call that counts as dropped is kept waiting for a caller who will not come back.
    """
    async with _connected(subject) as (far, line, call):
        far.speak(_frames(line, 1)[0])
        far.hang_up()
        await far.settle()
        far.drop()
        await far.settle()
        require(call.ends() == ["hangup"], f"the caller hung up, told was {call.ends()}")
        require(is_utf8(call.told[-1][1]), f"the reason {call.told[-1][1]!r} is no text that can be kept")


async def tells_a_lost_connection_once(subject: Subject[FarEnd]) -> None:
    """When the connection is lost there is one ``on_dropped``, with a code, and no ``on_hangup``. The caller may be
    back in a second: told that they hung up, the agent has forgotten them.
    """
    async with _connected(subject) as (far, line, call):
        far.speak(_frames(line, 1)[0])
        far.drop()
        await far.settle()
        require(call.ends() == ["dropped"], f"the connection was lost, told was {call.ends()}")
        require(bool(call.told[-1][1]), "the loss is told without a code")


async def tells_nothing_after_its_end(subject: Subject[FarEnd]) -> None:
    """After ``close`` or ``hang_up`` nothing more is told to the call, not even that the connection ended. The call has
    ended it itself, or has gone over to another line, which an ``on_dropped`` of the old one would tear down.
    """
    for hang_up in (False, True):
        async with _connected(subject) as (far, line, call):
            if hang_up:
                line.hang_up("goodbye")
            else:
                line.close(1000, "taken over")
            known, heard = len(call.told), len(call.audio)
            far.speak(_frames(line, 1)[0])
            far.press("1")
            far.hang_up()
            await far.settle()
            far.drop()
            await far.settle()
            told = [*call.told[known:], *call.audio[heard:]]
            require(not told, f"after {'hang_up' if hang_up else 'close'} the call is told {told[:1]}")


KIT: Kit[FarEnd] = Kit(
    "line",
    (
        says_what_it_is,
        sends_audio_unchanged,
        keeps_the_order,
        carries_any_mark_name,
        takes_any_reason,
        is_harmless_after_close,
        is_harmless_when_gone,
        brings_audio_in_order,
        brings_marks_and_keys,
        tells_a_hangup_once,
        tells_a_lost_connection_once,
        tells_nothing_after_its_end,
    ),
)
