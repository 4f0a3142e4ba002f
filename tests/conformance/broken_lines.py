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
from antiphon.media.played import Played
from antiphon.runtime.ports import CallSink, CallStart, Line, Switchboard


class Wire:
    """The line: its sending half, and ``on_peer_...`` for what comes over the wire."""

    transport, codec, sample_rate, marks = "wire", "mulaw", 8000, True
    call_id = "wire-1"

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.sink: CallSink | None = None
        self.open = True

    def begin(self, switchboard: Switchboard) -> None:
        self.sink = switchboard.connect(CallStart(self.call_id, "wire"), self)

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

    def hang_up(self, reason: str) -> None:
        self.close(1000, reason)

    def close(self, code: int, reason: str) -> None:
        self.open, self.sink = False, None

    def on_peer_audio(self, audio: bytes) -> None:
        if self.sink:
            self.sink.on_audio(audio)

    def on_peer_mark(self, name: str) -> None:
        if self.sink:
            self.sink.on_mark(name)

    def on_peer_digit(self, digit: str) -> None:
        if self.sink:
            self.sink.on_digit(digit)

    def on_peer_end(self) -> None:
        self.end(lambda sink: sink.on_hangup("stop"))

    def on_peer_lost(self) -> None:
        self.end(lambda sink: sink.on_dropped("line.lost"))

    def end(self, tell: Callable[[CallSink], None]) -> None:
        sink, self.sink, self.open = self.sink, None, False
        if sink:
            tell(sink)


class WireEnd:
    """``FarEnd`` of a wire."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.speak, self.played, self.press = wire.on_peer_audio, wire.on_peer_mark, wire.on_peer_digit
        self.hang_up, self.drop = wire.on_peer_end, wire.on_peer_lost

    async def connect(self, switchboard: Switchboard) -> Line:
        self.wire.begin(switchboard)
        return self.wire

    async def settle(self) -> None: ...

    def received(self) -> list[Any]:
        return self.wire.sent

    async def close(self) -> None: ...


def far_end(wire: type[Wire]) -> Callable[[], WireEnd]:
    return lambda: WireEnd(wire())


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
    def begin(self, switchboard: Switchboard) -> None: ...


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
    def close(self, code: int, reason: str) -> None:
        if len(reason.encode()) > 123:
            raise ValueError("a control frame holds at most 125 bytes")
        super().close(code, reason)


class SpeaksOn(Wire):
    def put(self, what: Any) -> None:
        self.sent.append(what)


class Raises(Wire):
    """Once closed by us it raises."""

    closed = False

    def close(self, code: int, reason: str) -> None:
        self.closed = True
        super().close(code, reason)

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

    def on_peer_audio(self, audio: bytes) -> None:
        if self.held:
            super().on_peer_audio(audio)
            super().on_peer_audio(self.held)
        self.held = b"" if self.held else audio


class LosesMarks(Wire):
    def on_peer_mark(self, name: str) -> None:
        if '"' not in name:
            super().on_peer_mark(name)


class OddKeys(Wire):
    def on_peer_digit(self, digit: str) -> None:
        super().on_peer_digit({"*": "star"}.get(digit, digit))


class HangupAndLoss(Wire):
    def on_peer_end(self) -> None:
        sink = self.sink
        super().on_peer_end()
        if sink:
            sink.on_dropped("line.closed")


class LossIsHangup(Wire):
    def on_peer_lost(self) -> None:
        self.end(lambda sink: sink.on_hangup("lost"))


class LossWithoutCode(Wire):
    def on_peer_lost(self) -> None:
        self.end(lambda sink: sink.on_dropped(""))


class TellsItsOwnEnd(Wire):
    def close(self, code: int, reason: str) -> None:
        self.open = False


LINE: list[Broken] = [
    ("says_what_it_is", far_end(Nameless), "name one transport"),
    ("says_what_it_is", far_end(Wideband), "not the telephone's"),
    ("says_what_it_is", far_end(Opus), "no codec 'opus'"),
    ("says_what_it_is", far_end(BadId), "no call id"),
    ("says_what_it_is", far_end(Never), "brought 0 calls"),
    ("sends_audio_unchanged", far_end(SmallMessages), "bytes were sent"),
    ("keeps_the_order", far_end(ClearsFirst), "the peer got"),
    ("carries_any_mark_name", far_end(WrittenByHand), "came as"),
    ("takes_any_reason", far_end(ShortReasons), "500 characters raises"),
    ("is_harmless_after_close", far_end(SpeaksOn), "after its end the line sends"),
    ("is_harmless_after_close", far_end(Raises), "after close the line raises"),
    ("is_harmless_when_gone", far_end(BreaksWithThePeer), "a connection that is gone"),
    ("brings_audio_in_order", far_end(Turned), "in another order"),
    ("brings_marks_and_keys", far_end(LosesMarks), "two marks were played"),
    ("brings_marks_and_keys", far_end(OddKeys), "star"),
    ("tells_a_hangup_once", far_end(HangupAndLoss), r"\['hangup', 'dropped'\]"),
    ("tells_a_lost_connection_once", far_end(LossIsHangup), r"\['hangup'\]"),
    ("tells_a_lost_connection_once", far_end(LossWithoutCode), "without a code"),
    ("tells_nothing_after_its_end", far_end(TellsItsOwnEnd), "the call is told"),
]


# -- voice activity -----------------------------------------------------------------------------


class Member:
    def __init__(self, owner: "Loudness", codec: str, on_window: Callable[[float], None]) -> None:
        self.owner, self.codec, self.on_window = owner, codec, on_window
        self.buffer, self.gone = bytearray(), False
        self.pushed = b""
        owner.members.append(self)

    def push(self, audio: bytes) -> None:
        if self.gone:
            return
        self.pushed += audio
        self.buffer += audio
        size = self.owner.window(self.codec)
        while len(self.buffer) >= size:
            window = bytes(self.buffer[:size])
            del self.buffer[:size]
            asyncio.get_running_loop().call_soon(self.owner.tell, self, window)

    def ago_ms(self, position_ms: int) -> float:
        return 0.0

    def recent(self, size: int) -> bytes:
        return self.pushed[-size:] if size else b""

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

    def join(
        self, codec: str, on_window: Callable[[float], None], *, sample_rate: int = 8000, played: Played | None = None
    ) -> Member:
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


class CountsPushes(Loudness):
    """The more pushes it took to bring a window, the surer it is."""

    class member(Member):  # noqa: N801 - takes the attribute's place
        pushes = 0

        def push(self, audio: bytes) -> None:
            self.pushes += 1
            super().push(audio)

    def probability(self, member: Any, window: bytes) -> float:
        return float(min(1.0, member.pushes / 500))


class WholeSamples(Loudness):
    """Throws away what is left of a push after its last whole sample."""

    class member(Member):  # noqa: N801 - takes the attribute's place
        def push(self, audio: bytes) -> None:
            super().push(audio[: len(audio) // 2 * 2])


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


class Forgets(Loudness):
    class member(Member):  # noqa: N801 - takes the attribute's place
        def recent(self, size: int) -> bytes:
            return bytes(self.buffer[-size:]) if size else b""  # what is not told of yet, alone


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
    ("takes_audio_in_any_pieces", CountsPushes, "in other pieces"),
    ("takes_audio_in_any_pieces", WholeSamples, "windows are complete"),
    ("keeps_calls_apart", MixesCalls, "when others speak"),
    ("tells_on_the_loop", FromAThread, "another thread"),
    ("pushes_without_delay", ComputesInPush, "blocks the loop"),
    ("survives_a_broken_call", OneBreaksAll, "were told"),
    ("gives_back_what_was_pushed", Forgets, "pushed last"),
    ("is_silent_after_leave", NeverLeaves, "has left"),
    ("is_silent_after_leave", LeavesOnce, "a member that has left raises"),
    ("is_silent_after_close", TalksOn, "after close"),
]
