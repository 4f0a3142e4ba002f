"""A phone call over Twilio Media Streams: the line's sending half, and its frames brought to the call.

Everything happens synchronously in the frame callback, or past it in the lane: no task, no queue and no log line per
frame. Anything the peer may send is either used, or counted under a stable code and dropped while the call goes on
(F12-F15); only past the limits of ``LineLimits`` is the line closed, with the code as the close reason. What is a
matter of time (start, idle, flood, slow reader) is checked by one sweep for all lines.

Rows A58-A63, A69, A70; the message shapes are in ``twilio_messages``.
"""

from __future__ import annotations

import logging
from binascii import b2a_base64
from typing import TYPE_CHECKING

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from antiphon.errors import UNUSABLE, AntiphonError, BadFrame, PeerError
from antiphon.runtime.ports import CallSink, Switchboard
from antiphon.transports.line_socket import LineSocket
from antiphon.transports.sequence import SequenceWindow
from antiphon.transports.sweep import LineSweep
from antiphon.transports.twilio_auth import StreamTokens
from antiphon.transports.twilio_calls import CallBook
from antiphon.transports.twilio_messages import (
    DIGITS,
    MEDIA_END,
    Connected,
    Dtmf,
    Inbound,
    Mark,
    Media,
    Start,
    Stop,
    clear_message,
    decode,
    mark_message,
    media_envelope,
    why_unusable,
)
from antiphon.transports.twilio_settings import PhoneSettings
from antiphon.transports.twilio_start import Opening, call_id_of, opening

if TYPE_CHECKING:
    from antiphon.lane import Slot

log = logging.getLogger("antiphon.transports.twilio")

_TEXT = WSMsgType.TEXT
# picows writes longer messages through a buffer it may use again before they are sent.
_MAX_AUDIO_PER_MESSAGE = 4000
MOST_PIECE = 1024
"""Bytes of audio that a lane keeps back at most."""
_FARTHEST = 1 << 60
"""A number that no stream reaches: above it the lane's counter would not do."""


class TwilioLine(WSListener):
    """One media stream, from its upgrade to its end. Fits the ``Line`` port.

    ``tokens``: streams must name one of these; ``None``: they need not. The line itself closes with 1008 (limits,
    tokens, a second call on the same stream), 1013 (no room, or a peer that does not read) and 1003 (other audio than
    mu-law at 8000 Hz). It gets whole messages within the limit of its socket, which answers the peer's close as well.

    Hanging up: a stream cannot end a phone call. ``hang_up`` notes in the book that the call ended on purpose and
    closes the stream; Twilio then asks the ``action`` webhook of ``<Connect>``, which answers ``<Hangup/>`` for a
    noted call.
    """

    transport = "twilio"
    codec = "mulaw"
    sample_rate = 8000
    marks = True

    __slots__ = (
        "_book", "_envelope", "_guard", "_held_at", "_lane", "_limits", "_sink", "_stream", "_switchboard", "_tokens",
        "_window", "_wire", "call_id", "stats",
    )  # fmt: skip

    def __init__(
        self,
        switchboard: Switchboard,
        settings: PhoneSettings,
        sweep: LineSweep,
        book: CallBook,
        tokens: StreamTokens | None = None,
    ) -> None:
        self._wire = LineSocket(settings.limits, sweep, self._ended)
        self.stats = self._wire.stats
        self.call_id = ""
        self._switchboard = switchboard
        self._limits = settings.limits
        self._book = book
        self._tokens = tokens
        self._sink: CallSink | None = None
        self._stream = ""
        self._envelope = b""
        self._window: SequenceWindow[Inbound] = SequenceWindow(self._limits.reorder_window)
        self._guard = self._wire.guard
        self._held_at = 0
        self._lane: Slot | None = None

    # -- what the network tells ---------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._wire.connected(self, transport, self._limits.max_unsent_bytes)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is _TEXT:
            self.on_ws_text(frame.get_payload_as_bytes())
        elif kind is WSMsgType.BINARY:
            self._settle()
            if self._wire.is_open:
                self.stats.messages += 1
                self._unusable("frame.binary")
            self._arm()
        elif kind is WSMsgType.CLOSE:
            self._wire.closing()

    def on_lane(self, slot: Slot) -> None:
        """Audio in its order may be taken past this line from now on; all else comes here as before."""
        self._lane = slot

    def on_peer_fault(self, code: str) -> None:
        self._wire.faulty(code)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._wire.gone(self)
        self._lane = None

    def pause_writing(self) -> None:
        self._wire.choke()

    def resume_writing(self) -> None:
        self._wire.free()

    # -- the Line port ------------------------------------------------------------------------------

    def send(self, audio: bytes) -> None:
        wire = self._wire
        if self._stream == "" or not wire.sendable():
            return
        if wire.is_choked:
            self.stats.drop("media.unsent")
            return
        if len(audio) > _MAX_AUDIO_PER_MESSAGE:
            for at in range(0, len(audio), _MAX_AUDIO_PER_MESSAGE):
                self.send(audio[at : at + _MAX_AUDIO_PER_MESSAGE])
            return
        wire.send(_TEXT, self._envelope + b2a_base64(audio, newline=False) + MEDIA_END)
        self.stats.sent_audio_bytes += len(audio)

    def mark(self, name: str) -> None:
        self._send_control(mark_message(self._stream, name))

    def clear(self) -> None:
        self._send_control(clear_message(self._stream))

    def hang_up(self, reason: str) -> None:
        if self.call_id:
            self._book.note_ended(self.call_id, reason)
        self.close(1000, reason)

    def close(self, code: int, reason: str) -> None:
        """Nothing is told to the call any more."""
        self._settle()
        self._sink = None
        self._arm()
        self._wire.shut(code, reason)

    def _send_control(self, message: bytes) -> None:
        if self._stream and self._wire.sendable():
            self._wire.send(_TEXT, message)

    # -- receiving ----------------------------------------------------------------------------------

    def on_ws_text(self, data: bytes) -> None:
        """A whole text message."""
        if self._lane is None:
            self._on_text(data)
        else:
            self._settle()
            self._on_text(data)
            self._arm()

    def _on_text(self, data: bytes) -> None:
        """Here is what nearly all of them are without a lane: audio, the next in its order, within bounds."""
        try:
            message = decode(data)
        except UNUSABLE as error:
            if self._wire.is_open:
                self.stats.messages += 1
                self._unusable(why_unusable(data, error))
            return
        window, sink = self._window, self._sink
        if (
            sink is not None
            and self._lane is None
            and type(message) is Media
            and 0 != message.sequenceNumber == window.expected
            and not window.held
            and not window.explained
            and message.streamSid == self._stream
            and message.media.track == "inbound"
        ):
            stats, audio = self.stats, message.media.payload
            size = len(audio)
            stats.messages += 1
            if not self._guard.afford(size):
                self._flood()
            else:
                window.expected += 1
                if size:
                    stats.audio_bytes += size
                    sink.on_audio(audio)
        elif self._wire.is_open:
            self._receive(message)

    def _receive(self, message: Inbound) -> None:
        self.stats.messages += 1
        if self._guard.afford(len(message.media.payload) if type(message) is Media else 0):
            self._sort(message)
        else:
            self._flood()

    def _flood(self) -> None:
        self.stats.drop("media.flood")
        self._window.explained += 1
        self._wire.judge(self._guard.flood())

    def _sort(self, message: Inbound) -> None:
        kind = type(message)
        if kind is Connected:
            return
        if kind is Start:
            self._start(message)  # type: ignore[arg-type]
            return
        if not self._stream:
            self._bad("media.before_start" if kind is Media else "frame.before_start")
            return
        if message.streamSid and message.streamSid != self._stream:
            self._bad("stream.other")
            return
        if kind is Stop:
            self._use_all(self._window.flush())
            self._use(message)
            return
        ready = self._window.offer(message.sequenceNumber, message)
        if ready is None:
            self.stats.drop("frame.stale")
        else:
            self._use_all(ready)

    def _use_all(self, messages: list[Inbound]) -> None:
        for message in messages:
            self._use(message)

    def _use(self, message: Inbound) -> None:
        if type(message) is Stop:
            self._give_pending()
        sink = self._sink
        if sink is None:
            return
        if type(message) is Media:
            self._hear(message)
        elif type(message) is Mark:
            sink.on_mark(message.mark.name)
        elif type(message) is Dtmf:
            if message.dtmf.digit in DIGITS:
                sink.on_digit(message.dtmf.digit)
            else:
                self._bad("dtmf.digit")
        elif type(message) is Stop:
            self._book.note_ended(self.call_id, "caller")
            self._sink = None
            sink.on_hangup("stop")
            self._wire.shut(1000, "stop")

    def _hear(self, message: Media) -> None:
        media = message.media
        self._give_pending()
        if media.track != "inbound":
            self.stats.drop("media.outbound_track")
        elif media.payload and self._sink is not None:
            self.stats.audio_bytes += len(media.payload)
            self._sink.on_audio(media.payload)

    def _unusable(self, code: str) -> None:
        self._window.explained += 1
        if code == "event.unknown":
            # Twilio may add events; they are no fault, and only the flood limit bounds them.
            self.stats.drop(code)
            if not self._guard.afford(0):
                self._flood()
        else:
            self._bad(code)

    def _bad(self, code: str) -> None:
        self.stats.drop(code)
        self._wire.judge(self._guard.bad())

    # -- the lane -----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Books what the lane took since: to be done before anything here is asked or changed."""
        if self._lane is not None:
            messages, size = self._lane.take()
            self.stats.messages += messages
            self.stats.audio_bytes += size
            self._window.expected += messages
            self._guard.spend(messages, size)

    def _arm(self) -> None:
        """The lane goes on from here, if nothing is out of the ordinary."""
        lane, window, sink = self._lane, self._window, self._sink
        if lane is None:
            return
        in_order = 0 < window.expected < _FARTHEST and not window.held and not window.explained
        if sink is not None and self._wire.is_open and not self._wire.is_saying_goodbye() and in_order:
            piece = min(max(1, getattr(sink, "piece_bytes", 1)), MOST_PIECE)
            lane.arm(sink, self._stream.encode(), window.expected, self._guard.credit, piece)
        else:
            lane.disarm()

    def _give_pending(self) -> None:
        """What the lane took and has not yet given comes before anything that is heard here."""
        if self._lane is not None and self._sink is not None:
            audio = self._lane.pending()
            if audio:
                self._sink.on_audio(audio)

    # -- the call begins ----------------------------------------------------------------------------

    def _start(self, message: Start) -> None:
        if self._stream:
            if call_id_of(message) == self.call_id:
                self._bad("start.repeated")
            else:
                self._wire.fail(1008, "line.second_start")
            return
        try:
            opened = opening(message)
        except BadFrame as wrong:
            self._bad(wrong.code)
        except PeerError as wrong:
            self._wire.fail(1003, wrong.code)
        else:
            self._window.offer(message.sequenceNumber, message)
            self._connect(opened)

    def _connect(self, opened: Opening) -> None:
        self._stream, self.call_id = opened.stream, opened.call.call_id
        self._envelope = media_envelope(opened.stream)
        try:
            if self._tokens is not None:
                self._tokens.redeem(opened.token, self.call_id)
            sink = self._switchboard.connect(opened.call, self)
        except AntiphonError as refused:
            self._wire.refused(refused)
        else:
            if self._wire.is_open:
                self._sink = sink

    # -- the end ------------------------------------------------------------------------------------

    def _ended(self, code: str, fault: bool) -> None:
        self._settle()
        if fault:
            log.warning(
                "twilio line closed: %s (%s messages, dropped %s)",
                code,
                self.stats.messages,
                self.stats.dropped,
                extra={"call": self.call_id[:64]},  # it is the peer's word
            )
        self.stats.lost = self._window.lost
        self._give_pending()
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_dropped(code)
        self._arm()

    def sweep(self, now: float) -> None:
        """Called by the shared sweep (``Swept``)."""
        if not self._wire.sweep(now):
            return
        self._settle()
        window = self._window
        if window.held and window.expected == self._held_at:
            # Nothing filled the gap for a whole round: with the audio gone silent nothing else would release these.
            self._use_all(window.flush())
        self._held_at = window.expected if window.held else 0
        self.stats.lost = window.lost
        self._wire.judge(self._guard.sweep(now, started=bool(self._stream), messages=self.stats.messages))
        self._arm()
