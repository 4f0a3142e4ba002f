"""The hot functions, each as often as it takes to be counted: run by ``bench.budget`` under callgrind.

``python -m bench.budget_work MARKS.so``. What is here is what every frame, window and event of every call goes through;
work is prepared outside of the count. The first time round is not counted: it fills caches and free lists.
"""

from __future__ import annotations

import ctypes
import gc
import socket
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from picows import WSMsgType

from antiphon.kernel.events import Entry
from antiphon.kernel.session import Session
from antiphon.lane import open_lane
from antiphon.media.activity import ActivityBatch
from antiphon.media.codec import decode, mulaw_encode
from antiphon.media.gate import Gate
from antiphon.media.playout import Playout
from antiphon.observe.meters import METRICS, Meter
from antiphon.observe.tallies import Tally
from antiphon.runtime.pacing import PacingWheel
from antiphon.runtime.ports import CallStart, Line
from antiphon.runtime.track import Track
from antiphon.runtime.vad import load_weights
from antiphon.transports.line_guard import MESSAGE_COST
from antiphon.transports.sweep import LineSweep
from antiphon.transports.twilio import TwilioLine
from antiphon.transports.twilio_calls import CallBook
from antiphon.transports.twilio_settings import PhoneSettings

JOURNAL = Path(__file__).parents[1] / "tests" / "journals" / "greeting-question-answer.jsonl"
FRAME = b"\x55" * 160
STREAM = "MZ" + 32 * "5"

Work = Callable[[], Iterator[None]]
"""A generator: up to its first ``yield`` it prepares, and each further step is one unit of work."""


def reference() -> Iterator[None]:
    """What all counts are divided by: a little of everything that Python code does, none of it ours."""
    table: dict[int, bytes] = {}
    data = bytes(range(256))
    total = 0
    yield
    while True:
        for number in range(50):
            piece = data[number : number + 20]
            table[number & 15] = piece
            total += len(piece) + table[number & 7 if number > 7 else 0].count(b"\x05")
        yield


def nothing() -> Iterator[None]:
    """What counting itself costs."""
    while True:
        yield


class _Socket:
    """Stands for picows' transport and the one under it."""

    def __init__(self) -> None:
        self.underlying_transport = self

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def send(self, kind: WSMsgType, data: bytes) -> None:
        pass


class _Call:
    """Takes what a line tells, and does nothing with it."""

    piece_bytes = 256

    def on_audio(self, audio: bytes) -> None:
        pass

    def on_mark(self, name: str) -> None:
        pass

    def on_digit(self, digit: str) -> None:
        pass

    def on_hangup(self, reason: str) -> None:
        pass

    def on_dropped(self, code: str) -> None:
        pass

    def connect(self, start: CallStart, line: Line) -> _Call:
        return self


class _Sweep(LineSweep):
    """Without its timer: nothing here runs in a loop."""

    def __init__(self) -> None:
        self.now = 100.0
        super().__init__(lambda: self.now)

    def join(self, line: object) -> None:
        pass


class _Frame:
    msg_type = WSMsgType.TEXT

    def __init__(self, message: object) -> None:
        self._data = msgspec.json.encode(message)

    def get_payload_as_bytes(self) -> bytes:
        return self._data


def _media(number: int) -> _Frame:
    media = {
        "track": "inbound",
        "chunk": str(number - 1),
        "timestamp": str(20 * (number - 2)),
        "payload": b64encode(FRAME).decode(),
    }
    return _Frame({"event": "media", "sequenceNumber": str(number), "media": media, "streamSid": STREAM})


def _line() -> tuple[TwilioLine, _Socket, _Sweep]:
    sweep, socket = _Sweep(), _Socket()
    line = TwilioLine(_Call(), PhoneSettings(), sweep, CallBook())
    line.on_ws_connected(socket)  # type: ignore[arg-type]
    start = {
        "streamSid": STREAM,
        "callSid": "CA" + 32 * "7",
        "customParameters": {},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    for message in (
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": STREAM},
    ):
        line.on_ws_frame(socket, _Frame(message))  # type: ignore[arg-type]
    return line, socket, sweep


def frame_in() -> Iterator[None]:
    """A message of Twilio's with 20 ms of audio, from the socket's callback to the call."""
    line, socket, sweep = _line()
    frames = [_media(number) for number in range(2, 1002)]
    yield
    for number, frame in enumerate(frames):
        sweep.now += 0.02
        if number % 25 == 0:  # every half a second, as the one sweep of all lines does: else they see a flood
            line.sweep(sweep.now)
        line.on_ws_frame(socket, frame)  # type: ignore[arg-type]
        yield


def lane() -> Iterator[None]:
    """The same message where lines are read in C, from the socket: what is sent is counted as well, but no kernel."""
    read = open_lane()
    if read is None:
        raise SystemExit("lines are not read in C here: install a C compiler, then `make clean install`")
    call, (near, far) = _Call(), socket.socketpair()
    slot = read.join(near.fileno(), None, MESSAGE_COST)  # type: ignore[arg-type]
    text = _media(2).get_payload_as_bytes()
    frame = b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text
    slot.arm(call, STREAM.encode(), 2, 1 << 40, call.piece_bytes)
    yield
    while True:
        far.send(frame)
        read.poll()
        slot.arm(call, STREAM.encode(), 2, 1 << 40, call.piece_bytes)
        yield


def frame_out() -> Iterator[None]:
    """20 ms of audio, from the line's port to the socket."""
    line, _, _ = _line()
    yield
    while True:
        line.send(FRAME)
        yield


def windows_32() -> Iterator[None]:
    """Voice activity for a window of each of 32 calls."""
    batch = ActivityBatch(load_weights(), slots=32)
    slots, audio = list(range(32)), [("mulaw", bytes(range(256)) * 32)]
    yield
    while True:
        batch.step(slots, audio)
        yield


def gate() -> Iterator[None]:
    """One window's probability, in speech and in silence by turns."""
    gate, probabilities = Gate(), [0.9] * 12 + [0.05] * 12
    yield
    while True:
        for probability in probabilities:
            gate.step(probability)
            yield


def to_line() -> Iterator[None]:
    """100 ms of a voice, as mu-law."""
    pcm = bytes(range(256)) * 6 + bytes(64)
    yield
    while True:
        mulaw_encode(pcm)
        yield


def to_recogniser() -> Iterator[None]:
    """20 ms of a caller, as PCM."""
    yield
    while True:
        decode("mulaw", FRAME)
        yield


def playout() -> Iterator[None]:
    """20 ms of an answer, taken from what is waiting."""
    now = 0.0
    play = Playout(message_ms=20, lead_ms=120)
    for turn in range(1, 1000):
        play.begin(turn)
        for _ in range(20):
            play.add(turn, 0, FRAME * 5)
        play.end_segment(turn, 0, "You need a school certificate.")
        play.end(turn)
        if turn == 1:
            yield
        for _ in range(100):
            now += 20.0
            play.pull(now)
            yield
        play.cancel(turn, now)


class _Wheel(PacingWheel):
    """Without its timer, too."""

    def __init__(self) -> None:
        self.now = 0.0

    def now_ms(self) -> float:
        return self.now

    def join(self, member: object) -> None:
        pass

    def look(self, member: object) -> None:
        pass

    def leave(self, member: object) -> None:
        pass


class _Void:
    """A line that sends nowhere."""

    transport, codec, sample_rate, marks = "phone", "mulaw", 8000, True

    def send(self, audio: bytes) -> None:
        pass

    def mark(self, name: str) -> None:
        pass

    def clear(self) -> None:
        pass

    def hang_up(self, reason: str) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        pass


def pump() -> Iterator[None]:
    """20 ms of an answer, from the wheel's turn to the line: playout, and what of it is kept beside."""
    wheel = _Wheel()
    track = Track(
        call_id="call", line=_Void(), playout=Playout(message_ms=20, lead_ms=120), wheel=wheel, post=lambda _event: None
    )
    for turn in range(1, 1000):
        track.begin(turn)
        track.add(turn, track.ready(turn, 1, "You need a school certificate.", "reply", "en"), "You need", FRAME * 200)
        if turn == 1:
            yield
        for _ in range(150):
            wheel.now += 20.0
            track.pump(wheel.now)
            yield
        track.cancel()


def event() -> Iterator[None]:
    """One fact of a call, through the kernel: what is decided, and the entry of the journal."""
    entries = [msgspec.json.decode(line, type=Entry) for line in JOURNAL.read_bytes().splitlines()]
    encode = msgspec.msgpack.Encoder().encode
    yield
    while True:
        session = Session()
        for entry in entries:
            decided, _ = session.receive(entry.event, entry.at)
            encode(decided)
            yield


def counted() -> Iterator[None]:
    """One fact of a call, through the kernel and into the metrics."""
    entries = [msgspec.json.decode(line, type=Entry) for line in JOURNAL.read_bytes().splitlines()]
    tally = Tally(METRICS, {})
    yield
    while True:
        session = Session()
        meter = Meter(session, tally.add)
        for entry in entries:
            meter.note(*session.receive(entry.event, entry.at))
            yield


WORK: dict[str, tuple[Work, int]] = {
    "reference": (reference, 100),
    "nothing": (nothing, 400),
    "frame_in": (frame_in, 400),
    "lane": (lane, 400),
    "frame_out": (frame_out, 400),
    "windows_32": (windows_32, 4),
    "gate": (gate, 480),
    "to_line": (to_line, 200),
    "to_recogniser": (to_recogniser, 200),
    "playout": (playout, 400),
    "pump": (pump, 400),
    "event": (event, 400),
    "counted": (counted, 400),
}
"""Name, and how many units are counted: enough that what is not the function disappears."""


def main(marks: ctypes.CDLL | None) -> None:
    gc.disable()
    for name, (make, units) in WORK.items():
        work = make()
        for _ in range(1 + units):
            next(work)
        began = time.perf_counter()
        if marks is not None:
            marks.start()
            marks.begin()
        for _ in range(units):
            next(work)
        if marks is not None:
            marks.end(name.encode())
        took = 1e6 * (time.perf_counter() - began) / units
        sys.stdout.write(f"{name:14s}{units:6d} units {took:10.2f} us each\n")


if __name__ == "__main__":
    main(ctypes.CDLL(sys.argv[1]) if len(sys.argv) > 1 else None)
