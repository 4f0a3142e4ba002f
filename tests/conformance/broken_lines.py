"""Lines and voice detectors that each break one rule: what a kit's check must find.

The sound line is a wire in memory, its far end included; the sound detector measures loudness.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from broken_speech import Broken

from antiphon.media.codec import bytes_per_sample, decode_float
from antiphon.runtime.ports import CallSink, CallStart, Line, Switchboard


class Wire:
    """A line and its far end in one."""

    transport, codec, sample_rate, marks = "wire", "mulaw", 8000, True
    call_id = "wire-1"

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.sink: CallSink | None = None
        self.open = True

    # the far end
    async def connect(self, switchboard: Switchboard) -> Line:
        self.sink = switchboard.connect(CallStart(self.call_id, "wire"), self)
        return self

    async def settle(self) -> None: ...

    def received(self) -> list[Any]:
        return self.sent

    def speak(self, audio: bytes) -> None:
        if self.sink:
            self.sink.on_audio(audio)

    def played(self, mark: str) -> None:
        if self.sink and self.marks:
            self.sink.on_mark(mark)

    def press(self, digit: str) -> None:
        if self.sink:
            self.sink.on_digit(digit)

    def end(self, tell: Callable[[CallSink], None]) -> None:
        sink, self.sink, self.open = self.sink, None, False
        if sink:
            tell(sink)

    def hang_up(self, reason: str = "") -> None:
        """Both sides' verb: with a reason it is the line's."""
        if reason:
            self.close(1000, reason)
        else:
            self.end(lambda sink: sink.on_hangup("stop"))

    def drop(self) -> None:
        self.end(lambda sink: sink.on_dropped("line.lost"))

    # the line
    def put(self, what: Any) -> None:
        if self.open:
            self.sent.append(what)

    def send(self, audio: bytes) -> None:
        if audio:
            self.put(("audio", audio))

    def mark(self, name: str) -> None:
        if self.marks:
            self.put(("mark", name))

    def clear(self) -> None:
        self.put(("clear", ""))

    def close(self, code: int = 0, reason: str = "") -> Any:
        """Both sides' verb: the far end awaits it."""
        self.open, self.sink = False, None
        return asyncio.sleep(0) if not code else None


class WithoutMarks(Wire):
    """Sound as well."""

    marks = False


class Nameless(Wire):
    transport = ""


class Wideband(Wire):
    sample_rate = 16_000


class Opus(Wire):
    codec = "opus"


class BadId(Wire):
    call_id = "call 1/é"


class Never(Wire):
    async def connect(self, switchboard: Switchboard) -> Line:
        return self


class SmallMessages(Wire):
    def send(self, audio: bytes) -> None:
        super().send(audio[:4000])


class ClearsFirst(Wire):
    def clear(self) -> None:
        self.sent.insert(0, ("clear", ""))


class WrittenByHand(Wire):
    def mark(self, name: str) -> None:
        super().mark(name.replace('"', ""))


class ShortReasons(Wire):
    def close(self, code: int = 0, reason: str = "") -> Any:
        if len(reason.encode()) > 123:
            raise ValueError("a control frame holds at most 125 bytes")
        return super().close(code, reason)


class SpeaksOn(Wire):
    def put(self, what: Any) -> None:
        self.sent.append(what)


class Raises(Wire):
    """Once closed by us it raises."""

    closed = False

    def close(self, code: int = 0, reason: str = "") -> Any:
        self.closed = self.closed or bool(code)
        return super().close(code, reason)

    def put(self, what: Any) -> None:
        if self.closed:
            raise ConnectionResetError("closed")
        super().put(what)


class BreaksWithThePeer(Wire):
    def put(self, what: Any) -> None:
        if not self.open:
            raise ConnectionResetError("Cannot write to closing transport")
        super().put(what)


class Turned(Wire):
    held: bytes = b""

    def speak(self, audio: bytes) -> None:
        if self.held:
            super().speak(audio)
            super().speak(self.held)
        self.held = b"" if self.held else audio


class LosesMarks(Wire):
    def played(self, mark: str) -> None:
        if '"' not in mark:
            super().played(mark)


class OddKeys(Wire):
    def press(self, digit: str) -> None:
        super().press({"*": "star"}.get(digit, digit))


class HangupAndLoss(Wire):
    def hang_up(self, reason: str = "") -> None:
        sink = self.sink
        super().hang_up(reason)
        if sink and not reason:
            sink.on_dropped("line.closed")


class LossIsHangup(Wire):
    def drop(self) -> None:
        self.end(lambda sink: sink.on_hangup("lost"))


class LossWithoutCode(Wire):
    def drop(self) -> None:
        self.end(lambda sink: sink.on_dropped(""))


class TellsItsOwnEnd(Wire):
    def close(self, code: int = 0, reason: str = "") -> Any:
        self.open = False
        return asyncio.sleep(0) if not code else None


LINE: list[Broken] = [
    ("says_what_it_is", Nameless, "name one transport"),
    ("says_what_it_is", Wideband, "not the telephone's"),
    ("says_what_it_is", Opus, "no codec 'opus'"),
    ("says_what_it_is", BadId, "no call id"),
    ("says_what_it_is", Never, "brought 0 calls"),
    ("sends_audio_unchanged", SmallMessages, "bytes were sent"),
    ("keeps_the_order", ClearsFirst, "the peer got"),
    ("carries_any_mark_name", WrittenByHand, "came as"),
    ("takes_any_reason", ShortReasons, "500 characters raises"),
    ("is_harmless_after_close", SpeaksOn, "after its end the line sends"),
    ("is_harmless_after_close", Raises, "after close the line raises"),
    ("is_harmless_when_gone", BreaksWithThePeer, "a connection that is gone"),
    ("brings_audio_in_order", Turned, "in another order"),
    ("brings_marks_and_keys", LosesMarks, "two marks were played"),
    ("brings_marks_and_keys", OddKeys, "star"),
    ("tells_a_hangup_once", HangupAndLoss, r"\['hangup', 'dropped'\]"),
    ("tells_a_lost_connection_once", LossIsHangup, r"\['hangup'\]"),
    ("tells_a_lost_connection_once", LossWithoutCode, "without a code"),
    ("tells_nothing_after_its_end", TellsItsOwnEnd, "the call is told"),
]


# -- voice activity -----------------------------------------------------------------------------


class Member:
    def __init__(self, owner: "Loudness", codec: str, on_window: Callable[[float], None]) -> None:
        self.owner, self.codec, self.on_window = owner, codec, on_window
        self.buffer, self.gone = bytearray(), False
        owner.members.append(self)

    def push(self, audio: bytes) -> None:
        if self.gone:
            return
        self.buffer += audio
        size = self.owner.window(self.codec)
        while len(self.buffer) >= size:
            window = bytes(self.buffer[:size])
            del self.buffer[:size]
            asyncio.get_running_loop().call_soon(self.owner.tell, self, window)

    def leave(self) -> None:
        self.gone = True


class Loudness:
    """The sound one: a window is speech when it is loud."""

    member: type[Member] = Member

    def __init__(self) -> None:
        self.members: list[Member] = []

    async def start(self) -> None: ...

    async def close(self) -> None:
        for member in self.members:
            member.leave()

    def join(self, codec: str, on_window: Callable[[float], None]) -> Member:
        return self.member(self, codec, on_window)

    def window(self, codec: str) -> int:
        return 256 * bytes_per_sample(codec)

    def tell(self, member: Member, window: bytes) -> None:
        if not member.gone:
            try:
                member.on_window(self.probability(member, window))
            except ValueError:
                member.gone = True

    def probability(self, member: Member, window: bytes) -> float:
        level = float(np.abs(decode_float(member.codec, window)).mean())
        return min(1.0, level * 20)


class CountsBytes(Loudness):
    def window(self, codec: str) -> int:
        return 256


class Loud(Loudness):
    def probability(self, member: Member, window: bytes) -> float:
        return super().probability(member, window) * 100


class HearsNothing(Loudness):
    def probability(self, member: Member, window: bytes) -> float:
        return 0.1


class HearsAlways(Loudness):
    def probability(self, member: Member, window: bytes) -> float:
        return 0.9


class PerPush(Loudness):
    """Takes each push for itself; pieces of windows are filled with silence."""

    class member(Member):  # noqa: N801 - takes the attribute's place
        def push(self, audio: bytes) -> None:
            size = self.owner.window(self.codec)
            for at in range(0, len(self.buffer + audio) - size + 1, size):
                asyncio.get_running_loop().call_soon(
                    self.owner.tell, self, bytes(at % 7) + audio[:16].ljust(size, b"\0")
                )
            self.buffer = bytearray((self.buffer + audio)[(len(self.buffer + audio) // size) * size :])


class MixesCalls(Loudness):
    last = 0.0

    def probability(self, member: Member, window: bytes) -> float:
        self.last = (self.last + super().probability(member, window)) / 2
        return self.last


class FromAThread(Loudness):
    def tell(self, member: Member, window: bytes) -> None:
        thread = threading.Thread(target=super().tell, args=(member, window))
        thread.start()
        thread.join()


class ComputesInPush(Loudness):
    class member(Member):  # noqa: N801 - takes the attribute's place
        def push(self, audio: bytes) -> None:
            time.sleep(0.003)
            super().push(audio)


class OneBreaksAll(Loudness):
    broken = False

    def tell(self, member: Member, window: bytes) -> None:
        if self.broken:
            return
        try:
            member.on_window(self.probability(member, window))
        except ValueError:
            self.broken = True


class NeverLeaves(Loudness):
    class member(Member):  # noqa: N801 - takes the attribute's place
        def leave(self) -> None: ...


class LeavesOnce(Loudness):
    class member(Member):  # noqa: N801 - takes the attribute's place
        def leave(self) -> None:
            self.owner.members.remove(self)
            super().leave()

    async def close(self) -> None:
        for member in tuple(self.members):
            member.leave()


class TalksOn(Loudness):
    async def close(self) -> None: ...


VAD: list[Broken] = [
    ("tells_each_window_once", CountsBytes, "pcm16: 71 windows are complete and 14"),
    ("tells_probabilities", Loud, "no probability"),
    ("tells_speech_from_silence", HearsNothing, "0 are over 0.5"),
    ("tells_speech_from_silence", HearsAlways, "silence ends at 0.90"),
    ("takes_audio_in_any_pieces", PerPush, "in other pieces"),
    ("keeps_calls_apart", MixesCalls, "when others speak"),
    ("tells_on_the_loop", FromAThread, "another thread"),
    ("pushes_without_delay", ComputesInPush, "blocks the loop"),
    ("survives_a_broken_call", OneBreaksAll, "were told"),
    ("is_silent_after_leave", NeverLeaves, "has left"),
    ("is_silent_after_leave", LeavesOnce, "a member that has left raises"),
    ("is_silent_after_close", TalksOn, "after close"),
]
