"""For the tests of ``/orchestrate``: a switchboard that remembers, a socket that records, news of the test's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from picows import WSMsgType
from picows.picows import _make_test_ws_frame
from twilio_fakes import StillSweep

from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.events import Entry
from antiphon.kernel.session import Session
from antiphon.runtime.ports import CallStart, Line
from antiphon.transports import orchestrate_messages as msg
from antiphon.transports.orchestrate import Coder, OrchestrateLine
from antiphon.transports.orchestrate_settings import read_query
from antiphon.transports.twilio_settings import LineLimits


class RecordingWords:
    """A ``WordSink`` that remembers, in order."""

    piece_bytes = 1

    def __init__(self, start: CallStart, line: Line) -> None:
        self.start, self.line = start, line
        self.log: list[tuple[Any, ...]] = []

    def on_audio(self, audio: bytes) -> None:
        self.log.append(("audio", audio))

    def on_speaking(self) -> None:
        self.log.append(("speaking",))

    def on_fragment(self, text: str, settled: bool) -> None:
        self.log.append(("fragment", text, settled))

    def on_turn_end(self) -> None:
        self.log.append(("turn_end",))

    def on_text(self, text: str, language: str) -> None:
        self.log.append(("text", text, language))

    def on_mark(self, name: str) -> None:
        self.log.append(("mark", name))

    def on_digit(self, digit: str) -> None:
        self.log.append(("digit", digit))

    def on_hangup(self, reason: str) -> None:
        self.log.append(("hangup", reason))

    def on_dropped(self, code: str) -> None:
        self.log.append(("dropped", code))


class RecordingWordSwitchboard:
    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[RecordingWords] = []
        self.error = error

    def connect(self, start: CallStart, line: Line) -> RecordingWords:
        if self.error:
            raise self.error
        self.calls.append(RecordingWords(start, line))
        return self.calls[-1]


class StubSocket:
    """Stands for both picows' transport and the one under it. ``sent``: bytes, and JSON decoded."""

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
        assert self.closed is None, "nothing is sent behind the close"
        self.sent.append(json.loads(data) if kind is WSMsgType.TEXT else bytes(data))

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = self.closed or (int(code), reason)

    def disconnect(self, graceful: bool = True) -> None:
        self.cut = not graceful


class NoNews:
    """Tells nothing of its own."""

    def __init__(self) -> None:
        self.turn = 7
        self.next: list[msg.Outbound] = []

    def take(self, session: Session, entry: Entry, commands: Sequence[AnyCommand]) -> Iterable[msg.Outbound]:
        return self.next


class Rig:
    """One socket's line without the socket. ``give`` feeds messages: objects as JSON, text and bytes as they are."""

    def __init__(
        self,
        query: str = "session_id=s1",
        *,
        limits: LineLimits | None = None,
        error: Exception | None = None,
        coder: Coder | None = None,
        languages: Sequence[str] = (),
        connected: bool = True,
    ) -> None:
        self.switchboard = RecordingWordSwitchboard(error)
        self.sweep = StillSweep()
        self.socket: Any = StubSocket()
        self.news = NoNews()
        self.line = OrchestrateLine(
            self.switchboard,
            read_query(query),
            self.news,
            self.sweep,
            limits or LineLimits(),
            coder=coder,
            languages=languages,
        )
        if connected:
            self.line.on_ws_connected(self.socket)

    @property
    def call(self) -> RecordingWords:
        return self.switchboard.calls[-1]

    @property
    def log(self) -> list[tuple[Any, ...]]:
        return self.call.log

    @property
    def errors(self) -> list[str]:
        return [each["code"] for each in self.socket.sent if isinstance(each, dict) and each["type"] == "error"]

    def give(self, *messages: Any) -> Rig:
        for message in messages:
            if isinstance(message, bytes):
                self._frame(WSMsgType.BINARY, message)
            else:
                text = message if isinstance(message, str) else json.dumps(message)
                self._frame(WSMsgType.TEXT, text.encode())
        return self

    def raw(self, data: bytes) -> Rig:
        """A text frame of these bytes."""
        self._frame(WSMsgType.TEXT, data)
        return self

    def _frame(self, kind: WSMsgType, data: bytes) -> None:
        self.line.on_ws_frame(self.socket, _make_test_ws_frame(kind, data, True, False))

    def lose(self) -> None:
        self.line.on_ws_disconnected(self.socket)


def fragment(text: str, final: bool = True, **over: Any) -> dict[str, Any]:
    return {"type": "stt_fragment", "text": text, "is_final": final, **over}
