"""For the tests of the phone line: a switchboard that remembers, a socket that records, frames as Twilio sends them."""

from __future__ import annotations

import base64
import json
from typing import Any

from picows import WSMsgType
from picows.picows import _make_test_ws_frame

from antiphon.runtime.ports import CallStart, Line
from antiphon.transports.sweep import LineSweep
from antiphon.transports.twilio import TwilioLine
from antiphon.transports.twilio_calls import CallBook
from antiphon.transports.twilio_settings import PhoneSettings

STREAM = "MZ" + "5" * 32
CALL = "CA" + "7" * 32


class RecordingCall:
    """A CallSink that remembers."""

    piece_bytes = 1

    def __init__(self, start: CallStart, line: Line) -> None:
        self.start, self.line = start, line
        self.audio: list[bytes] = []
        self.log: list[tuple[str, str]] = []

    def on_audio(self, audio: bytes) -> None:
        self.audio.append(audio)

    def on_mark(self, name: str) -> None:
        self.log.append(("mark", name))

    def on_digit(self, digit: str) -> None:
        self.log.append(("digit", digit))

    def on_hangup(self, reason: str) -> None:
        self.log.append(("hangup", reason))

    def on_dropped(self, code: str) -> None:
        self.log.append(("dropped", code))


class RecordingSwitchboard:
    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[RecordingCall] = []
        self.error = error

    def connect(self, start: CallStart, line: Line) -> RecordingCall:
        if self.error:
            raise self.error
        self.calls.append(RecordingCall(start, line))
        return self.calls[-1]


class StubTransport:
    """Stands for both picows' transport and the one under it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.closed: tuple[int, str] | None = None
        self.cut: bool | None = None
        self.closing = False
        self.underlying_transport = self

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self.limits = (low, high)

    def is_closing(self) -> bool:
        return self.closing

    def send(self, kind: WSMsgType, data: bytes) -> None:
        assert kind is WSMsgType.TEXT
        self.sent.append(json.loads(data))

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = self.closed or (int(code), reason)

    def disconnect(self, graceful: bool = True) -> None:
        self.cut = not graceful


class StillSweep(LineSweep):
    """A sweep on virtual time: the test moves it."""

    def __init__(self) -> None:
        super().__init__(lambda: self.now)
        self.now = 100.0

    def join(self, line: Any) -> None:
        self._lines[id(line)] = line

    def leave(self, line: Any) -> None:
        self._lines.pop(id(line), None)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            for line in tuple(self._lines.values()):
                line.sweep(self.now)


def media(seq: int, audio: bytes = b"", **over: Any) -> dict[str, Any]:
    message: dict[str, Any] = {
        "event": "media",
        "sequenceNumber": str(seq),
        "media": {
            "track": "inbound",
            "chunk": str(seq - 1),
            "timestamp": str(seq * 20),
            "payload": base64.b64encode(audio or bytes([seq % 256]) * 160).decode(),
        },
        "streamSid": STREAM,
    }
    message.update(over)
    return message


def start(**parameters: str) -> dict[str, Any]:
    return {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": "AC" + "1" * 32,
            "streamSid": STREAM,
            "callSid": CALL,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        },
        "streamSid": STREAM,
    }


CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
STOP = {
    "event": "stop",
    "sequenceNumber": "5",
    "stop": {"accountSid": "AC" + "1" * 32, "callSid": CALL},
    "streamSid": STREAM,
}


class Rig:
    """One line without a socket. ``give`` feeds messages (objects are encoded, bytes sent as they are)."""

    def __init__(
        self, settings: PhoneSettings | None = None, error: Exception | None = None, tokens: Any = None
    ) -> None:
        self.switchboard = RecordingSwitchboard(error)
        self.sweep = StillSweep()
        self.book = CallBook()
        self.socket: Any = StubTransport()
        self.line = TwilioLine(self.switchboard, settings or PhoneSettings(), self.sweep, self.book, tokens)
        self.line.on_ws_connected(self.socket)

    @property
    def call(self) -> RecordingCall:
        return self.switchboard.calls[-1]

    def give(self, *messages: Any, kind: WSMsgType = WSMsgType.TEXT, fin: bool = True) -> Rig:
        for message in messages:
            data = message if isinstance(message, bytes) else json.dumps(message).encode()
            self.line.on_ws_frame(self.socket, _make_test_ws_frame(kind, data, fin, False))
        return self

    def begin(self, **parameters: str) -> Rig:
        return self.give(CONNECTED, start(**parameters))

    def lose(self) -> None:
        self.line.on_ws_disconnected(self.socket)
