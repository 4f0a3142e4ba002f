"""One caller of the load generator: Twilio's Media Streams protocol, a play clock, and a stopwatch.

Everything is in the caller's media time. A frame that is due at t carries the 20 ms before t, and is counted as
sent at t even if the generator was late. What the agent sends is played without a pause from the moment it arrives,
or from the end of what is still playing; marks are answered when the clock reaches them, as Twilio does.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from antiphon.media.codec import mulaw_decode
from bench.voice import Utterance

FRAME_S, FRAME_BYTES = 0.020, 160
"""The unit of time: what comes in longer messages counts as so many frames."""
GREETING_S = 3.0
"""An agent that has not spoken by then waits for its caller."""
LOST_S = 5.0
GAP_S = 0.060
QUIET = bytes(
    code for code in range(256) if abs(int.from_bytes(mulaw_decode(bytes([code])), "little", signed=True)) <= 256
)
"""Codes at or below -42 dBFS: not audible as speech."""

GREETED, LISTENING, SPEAKING, WAITING, DONE = range(5)


class _Payload(msgspec.Struct, gc=False):
    payload: bytes = b""


class _Name(msgspec.Struct, gc=False):
    name: str = ""


class _Out(msgspec.Struct, gc=False):
    """Any message from the server."""

    event: str
    media: _Payload | None = None
    mark: _Name | None = None


_decode = msgspec.json.Decoder(_Out).decode
TEXT = WSMsgType.TEXT

_heads: list[bytes] = []
"""Shared by all callers: the same number begins the same message, and at 800 calls 40,000 are sent in a second."""


def _head(chunk: int) -> bytes:
    """A media message up to its payload, as Twilio writes it: numbers are strings, "start" was message 1."""
    while chunk >= len(_heads):
        number = len(_heads)
        _heads.append(
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d",'
            b'"payload":"' % (number + 1, number, (number - 1) * 20)
        )
    return _heads[chunk]


def _tail(stream: str) -> bytes:
    return b'"},"streamSid":"%s"}' % stream.encode()


class Turn(msgspec.Struct):
    """``asked_at`` is the end of the caller's speech; ``waited_s`` is -1 until the agent is heard.

    ``chunk`` is the message in which the question ``line`` began, from 1.
    """

    asked_at: float
    waited_s: float = -1.0
    talked_over: bool = False
    chunk: int = 0
    line: int = 0


class Jitter:
    """By how many whole ms frames came later than the one before them and its length would have it, counted.

    A server that keeps the time of the line is at 0 or before it; one that sends ahead is far before it.
    """

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = [0] * 1000

    def take(self, late_s: float) -> None:
        self.counts[min(999, int(late_s * 1000)) if late_s > 0 else 0] += 1

    def percentile(self, share: float) -> float:
        """Nearest rank; -1 if nothing was counted."""
        due = sum(self.counts) * share / 100
        if not due:
            return -1.0
        seen = 0
        for late_ms, count in enumerate(self.counts):
            seen += count
            if seen >= due:
                return float(late_ms)
        raise AssertionError("a share is at most 100")


class Caller(WSListener):
    """Listens, pauses, asks, waits, and again, until ``finish``."""

    __slots__ = (
        "_line", "_number", "_pause", "_position", "_sent_at", "_sent_s", "_tail", "bad", "began", "call", "clears",
        "clock", "failed", "finishing", "frames", "gaps", "jitter", "marks", "noise", "played_until", "random",
        "sent", "state", "stream", "transport", "turn", "turns", "utterances",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        utterances: Sequence[Utterance],
        noise: Sequence[bytes],
        clock: Callable[[], float] = monotonic,
        jitter: Jitter | None = None,
    ) -> None:
        self.clock = clock
        self.jitter = jitter or Jitter()
        self.random = random.Random(number)
        self.utterances, self.noise = utterances, noise
        self._number = number
        self.stream = f"MZ{number:032x}"
        self.call = f"CA{self.random.getrandbits(128):032x}"
        self.transport: WSTransport | None = None
        self.state = GREETED
        self.finishing = self.failed = False
        self.turns: list[Turn] = []
        self.turn = Turn(0.0)
        self.frames = self.gaps = self.bad = self.sent = self.clears = 0
        self.played_until = 0.0
        self.began = 0.0
        self.marks: deque[tuple[float, str]] = deque()
        self._pause = self._next_pause()
        self._line = self.utterances[0]
        self._position = 0
        self._sent_at, self._sent_s = 0.0, 0.0
        self._tail = _tail(self.stream)

    # -- the line -------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.began = self.played_until = self.clock()
        self._send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        start = {
            "accountSid": "AC" + 32 * "0",
            "streamSid": self.stream,
            "callSid": self.call,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {},
        }
        self._send({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": self.stream})

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.transport = None
        if self.state != DONE:
            self.failed = True
            self.state = DONE

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == TEXT:
            now = self.clock()
            try:
                message = _decode(frame.get_payload_as_bytes())
            except msgspec.MsgspecError:
                self.bad += 1
                return
            if message.media is not None:
                self._on_media(message.media.payload, now)
            elif message.mark is not None:
                self.marks.append((max(now, self.played_until), message.mark.name))
            elif message.event == "clear":
                self.clears += 1
                self.played_until = now
                self._answer_marks(float("inf"))

    def _send(self, message: dict[str, object]) -> None:
        if self.transport is not None:
            self.transport.send(TEXT, msgspec.json.encode(message))

    def _on_media(self, audio: bytes, now: float) -> None:
        self.frames += len(audio) // FRAME_BYTES
        starts = self.played_until
        length = len(audio) / 8000
        before, self._sent_at = self._sent_at, now
        lasts, self._sent_s = self._sent_s, length
        listening = self.state == LISTENING
        if now > starts:
            if listening and now - starts > GAP_S:
                self.gaps += 1
            starts = now
        self.played_until = starts + length
        if listening:
            self.jitter.take(now - before - lasts)
            return
        heard = audio.lstrip(QUIET)
        if not heard:
            return
        if self.state == WAITING:
            self.turn.waited_s = starts + (len(audio) - len(heard)) / 8000 - self.turn.asked_at
            self._listen()
        elif self.state == SPEAKING:
            self.turn.talked_over = True
        elif self.state == GREETED:
            self._listen()

    def _answer_marks(self, now: float) -> None:
        while self.marks and self.marks[0][0] <= now:
            _, name = self.marks.popleft()
            self._send({"event": "mark", "streamSid": self.stream, "mark": {"name": name}})

    # -- the person -----------------------------------------------------------------------------

    def tick(self, due: float) -> None:
        """Sends the frame that is due at ``due`` and lets the caller go on."""
        transport, state = self.transport, self.state
        if transport is None or state == DONE:
            return
        if self.marks:
            self._answer_marks(due)
        sent = self.sent
        if state == SPEAKING:
            payload = self._line.frames[self._position]
            self._position += 1
        else:
            payload = self.noise[sent % len(self.noise)]
        self.sent = sent = sent + 1
        transport.send(TEXT, b"".join((_head(sent), payload, self._tail)))
        # Most of the time the agent speaks, and there is nothing to decide.
        if state != LISTENING or due > self.played_until:
            self._decide(due)

    def _decide(self, due: float) -> None:
        if self.state == SPEAKING:
            if self._position == len(self._line.frames):
                self.turn.asked_at = due - self._line.tail_ms / 1000
                self.turns.append(self.turn)
                self.state = WAITING
        elif self.state == WAITING:
            if due - self.turn.asked_at > LOST_S:
                self.state, self.began = GREETED, due  # an answer later than that is heard out like a greeting
        elif self.finishing:
            pass
        elif (self.state == LISTENING and due - self.played_until > self._pause) or (
            self.state == GREETED and due - self.began > GREETING_S
        ):
            # In turn, so that every step has the same mix of endings, which detectors hear differently.
            line = (self._number + len(self.turns)) % len(self.utterances)
            self._line = self.utterances[line]
            self._position = 0
            self.turn = Turn(0.0, chunk=self.sent + 1, line=line)
            self.state = SPEAKING

    def _listen(self) -> None:
        self.state = LISTENING
        self._pause = self._next_pause()

    def _next_pause(self) -> float:
        """Seconds between the end of the agent's answer and the next question."""
        return self.random.uniform(0.6, 1.4)

    def finish(self) -> None:
        """Asks nothing more, but stays on the line: hundreds who hang up at once are work that the others wait for."""
        self.finishing = True

    @property
    def is_answered(self) -> bool:
        """The last question was answered, or is lost."""
        return self.state not in (SPEAKING, WAITING)

    def hang_up(self) -> None:
        self.state = DONE
        self._send({"event": "stop", "sequenceNumber": str(self.sent + 2), "streamSid": self.stream,
                    "stop": {"accountSid": "AC" + 32 * "0", "callSid": self.call}})  # fmt: skip
        if self.transport is not None:
            self.transport.send_close()
            self.transport.disconnect()


class Echo(WSListener):
    """The floor: sends the same messages to a server that sends each one back, and takes the round trip."""

    __slots__ = ("_tail", "payloads", "pending", "round_trips", "sent", "transport")

    def __init__(self, number: int, payloads: Sequence[bytes], round_trips: list[float]) -> None:
        self.payloads, self.round_trips = payloads, round_trips
        self._tail = _tail(f"MZ{number:032x}")
        self.transport: WSTransport | None = None
        self.pending: deque[float] = deque()
        self.sent = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.transport = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == TEXT:
            self.round_trips.append(monotonic() - self.pending.popleft())

    def tick(self, due: float) -> None:
        if self.transport is None:
            return
        self.sent += 1
        self.pending.append(monotonic())
        payload = self.payloads[self.sent % len(self.payloads)]
        self.transport.send(TEXT, b"".join((_head(self.sent), payload, self._tail)))
