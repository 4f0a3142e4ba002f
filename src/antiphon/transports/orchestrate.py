"""One socket on ``/orchestrate``: words or audio of a caller in, answers and audio out. Rows B8 to B13.

Everything happens synchronously in the frame callback, as on a phone line: no task, no queue, no log line per message.
What cannot be used is answered with an ``error`` that names its code, and only past the limits of ``LineLimits`` is
the socket closed, with the code as the reason.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from antiphon.errors import UNUSABLE, AntiphonError, PeerError
from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.events import Entry
from antiphon.kernel.session import Session
from antiphon.kernel.state import Floor, State
from antiphon.runtime.ports import CallStart, Line, WordSink
from antiphon.transports import orchestrate_messages as msg
from antiphon.transports.line_guard import BYTES_PER_MS
from antiphon.transports.line_socket import LineSocket
from antiphon.transports.orchestrate_settings import Asked, wrong_language
from antiphon.transports.sweep import LineSweep
from antiphon.transports.twilio_settings import LineLimits

log = logging.getLogger("antiphon.transports.orchestrate")

SILENCE_MS = 3_600_000
"""Nobody is asked whether they are still there: who reads says nothing, and a socket that is forgotten is closed."""
UNASKED = {"greeting": False, "excuse": False}
"""Nothing is said that was not asked for: ``connected`` says that the session goes on."""
MAX_AUDIO_MS = 1000
"""In one message. Audio that comes later than it was spoken helps nobody."""

_TEXT, _BINARY = WSMsgType.TEXT, WSMsgType.BINARY
_WORDS, _SOUND = "words", "sound"


def is_at_rest(state: State) -> bool:
    """Nobody speaks, and nobody is waited for."""
    said = state.spoken or state.awaited or state.pieces or state.digits
    return state.floor is Floor.LISTENING and not said


class WordSwitchboard(Protocol):
    """A ``Switchboard`` whose calls take words, too."""

    def connect(self, start: CallStart, line: Line) -> WordSink: ...


class News(Protocol):
    """Turns what happens in a session into messages. Made for one socket."""

    turn: int
    """The turn that is being spoken."""

    def take(self, session: Session, entry: Entry, commands: Sequence[AnyCommand]) -> Iterable[msg.Outbound]:
        """Right after ``session`` received the entry, and before its commands are carried out."""


class Coder(Protocol):
    """A codec other than PCM, for one socket."""

    def decode(self, packet: bytes) -> bytes:
        """One packet to PCM at the socket's rate. Raises ``PeerError``."""

    def encode(self, pcm: bytes) -> list[bytes]:
        """The packets that are complete by now."""

    def clear(self) -> None:
        """Forgets what is not a whole packet yet: it was cut off."""


class OrchestrateLine(WSListener):
    """One socket, from its upgrade to its end. Fits the ``Line`` port.

    The line itself closes with 1008 (limits), 1013 (no room, or a peer that does not read), 1011 (ours) and 4001 (a
    newer socket holds the session). ``coder``: where audio is not PCM. ``languages``: those on offer, none: any.
    """

    transport = "orchestrate"
    codec = "pcm16"

    def __init__(
        self,
        switchboard: WordSwitchboard,
        asked: Asked,
        news: News,
        sweep: LineSweep,
        limits: LineLimits,
        *,
        coder: Coder | None = None,
        languages: Collection[str] = (),
        subprotocol: str = "",
    ) -> None:
        self.asked = asked
        self.sample_rate = asked.rate
        self.marks = asked.marks
        self._wire = LineSocket(limits, sweep, self._ended)
        self.stats = self._wire.stats
        self.subprotocol = subprotocol
        self._switchboard = switchboard
        self._news = news
        self._limits = limits
        self._coder = coder
        self._languages = languages
        self._sink: WordSink | None = None
        self._kind = ""
        """What the peer brings, words or sound: the first of them decides."""
        self._guard = self._wire.guard
        self._bytes_per_ms = asked.rate * 2 // 1000
        self._session: Session | None = None
        self._is_leaving = False

    # -- what the network tells ---------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        # The limit is for mu-law in base64 at 8 kHz: other audio has as many seconds of room.
        room = self._limits.max_unsent_bytes * max(1, self._bytes_per_ms // BYTES_PER_MS)
        self._wire.connected(self, transport, room)
        self._connect()

    def _connect(self) -> None:
        asked = self.asked
        start = CallStart(
            asked.session,
            self.transport,
            language=asked.language,
            words=True,
            policy={"silence_ms": SILENCE_MS, **({} if asked.greet else UNASKED)},
        )
        try:
            sink = self._switchboard.connect(start, self)
        except AntiphonError as refused:
            self._wire.refused(refused)
        else:
            if self._wire.is_open:
                self._sink = sink

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is WSMsgType.CLOSE:
            self._wire.closing()
        elif self._wire.is_open and (kind is _TEXT or kind is _BINARY):
            self.stats.messages += 1
            if kind is _TEXT:
                self._receive(frame.get_payload_as_bytes())
            else:
                self._hear(frame.get_payload_as_bytes())

    def on_peer_fault(self, code: str) -> None:
        self._wire.faulty(code)

    def on_drain(self) -> None:
        """The server is about to stop: a session in which nothing goes on moves at once, another when it may."""
        self._is_leaving = True
        self._leave_at_rest()

    def _leave_at_rest(self) -> None:
        if self._wire.is_open and self._session is not None and is_at_rest(self._session.state):
            self._wire.fail(1012, "server.restart", fault=False)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._wire.gone(self)

    def pause_writing(self) -> None:
        self._wire.choke()

    def resume_writing(self) -> None:
        self._wire.free()

    # -- the Line port ------------------------------------------------------------------------------

    def send(self, audio: bytes) -> None:
        form, wire = self.asked.audio, self._wire
        if form == "none" or not wire.sendable():
            return
        if wire.is_choked:
            self.stats.drop("media.unsent")
            return
        for piece in self._coder.encode(audio) if self._coder is not None else (audio,):
            if form == "binary":
                wire.send(_BINARY, piece)
            else:
                self._say(msg.Audio(turn_id=self._news.turn, data=b64encode(piece).decode()))
            self.stats.sent_audio_bytes += len(piece)

    def mark(self, name: str) -> None:
        if self.asked.marks:
            self._say(msg.Mark(name=name))

    def clear(self) -> None:
        if self._coder is not None:
            self._coder.clear()
        if self.asked.audio != "none":
            self._say(msg.Clear())

    def hang_up(self, reason: str) -> None:
        self.close(1000, reason)

    def close(self, code: int, reason: str) -> None:
        """Nothing is told to the call any more."""
        self._sink = None
        if code == 1000:
            self._say(msg.Ended(reason=reason))
        self._wire.shut(code, reason)

    def tell(self, session: Session, entry: Entry, commands: Sequence[AnyCommand]) -> None:
        """One entry of the session that this line carries."""
        self._session = session
        if self._wire.is_open:
            for message in self._news.take(session, entry, commands):
                self._say(message)
            if self._is_leaving:
                asyncio.get_running_loop().call_soon(self._leave_at_rest)  # the entry's commands come first

    def _say(self, message: msg.Outbound) -> None:
        if self._wire.sendable():
            self._wire.send(_TEXT, msg.encode(message))

    # -- receiving ----------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        if not self._guard.afford(len(data)):
            self._flood()
            return
        try:
            message = msg.decode(data)
        except UNUSABLE as error:
            self._bad(*msg.why_unusable(data, error))
            return
        if message.session_id and message.session_id != self.asked.session:
            self._bad("session.other", "this socket carries another session: leave session_id out, or name its own")
        elif self._sink is not None:
            self._use(self._sink, message)

    def _use(self, sink: WordSink, message: msg.Inbound) -> None:
        match message:
            case msg.SttFragment(text=text, is_final=settled):
                if self._brings(_WORDS):
                    sink.on_fragment(text, settled)
            case msg.VadEnd():
                if self._brings(_WORDS):
                    sink.on_turn_end()
            case msg.UserSpeaking():
                if self._brings(_WORDS):
                    sink.on_speaking()
            case msg.Text(text=text, language=language):
                if not text.strip():
                    self._bad("message.blank", "a typed line has words in it")
                elif language and (wrong := wrong_language(language, self._languages)):
                    self._bad("session.bad_language", f"{wrong}; leave it out where the words tell")
                else:
                    sink.on_text(text, language)
            case msg.Key(digit=digit):
                sink.on_digit(digit)
            case msg.MarkPlayed(name=name):
                sink.on_mark(name)
            case msg.End():
                self._sink = None
                sink.on_hangup("client")
                self.close(1000, "client")

    def _hear(self, data: bytes) -> None:
        """One message of the caller's audio. It costs by how long it sounds: a small packet may hold 120 ms."""
        wrong: PeerError | None = None
        if self._coder is not None:
            try:
                data = self._coder.decode(data)
            except PeerError as error:
                data, wrong = b"", error
        if not self._guard.afford(len(data) * BYTES_PER_MS // self._bytes_per_ms):
            self._flood()
        elif self._sink is None or not self._brings(_SOUND):
            return
        elif wrong is not None:
            self._bad(wrong.code, str(wrong.args[0]))
        elif len(data) & 1:
            self._bad("frame.audio", "pcm16 audio has two bytes a sample")
        elif len(data) > MAX_AUDIO_MS * self._bytes_per_ms:
            self._bad("frame.audio_too_long", f"a message holds at most {MAX_AUDIO_MS} ms of audio")
        elif data:
            self.stats.audio_bytes += len(data)
            self._sink.on_audio(data)

    def _brings(self, kind: str) -> bool:
        self._kind = self._kind or kind
        if self._kind != kind:
            self._bad("orchestrate.mixed", f"this socket brings {self._kind}; open another for {kind}")
        return self._kind == kind

    def _flood(self) -> None:
        self.stats.drop("line.flood")
        self._wire.judge(self._guard.flood())

    def _bad(self, code: str, text: str) -> None:
        self.stats.drop(code)
        self._say(msg.Error(code=code, message=text))
        self._wire.judge(self._guard.bad())

    # -- the end ------------------------------------------------------------------------------------

    def _ended(self, code: str, fault: bool) -> None:
        if fault:
            log.warning(
                "orchestrate line closed: %s (%s messages, dropped %s)",
                code,
                self.stats.messages,
                self.stats.dropped,
                extra={"call": self.asked.session},
            )
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_dropped(code)

    def sweep(self, now: float) -> None:
        """Called by the shared sweep (``Swept``)."""
        if not self._wire.sweep(now):
            return
        self._wire.judge(self._guard.sweep(now, started=True, messages=self.stats.messages))
