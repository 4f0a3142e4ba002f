"""One visitor of ``/orchestrate``: the words of an outside recogniser in, the answer's sound out, and a stopwatch.

A visitor is a sender of text: it speaks for the recogniser and the voice detector of the service before ours. What
those take is set (``Manner``) and waited for; what the wait was is measured, so that a timer that is late here counts
as theirs and not as the server's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import monotonic

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

LOST_S = 5.0
STUCK_S = 20.0
"""An answer is over by then; whoever has not been told goes on all the same."""
GUESS_S = 0.2
"""Between the guess at the first half of a sentence and its end."""
SAYINGS = (
    "What are admission requirements?",
    "When does the next term begin?",
    "Please tell me about the fees.",
    "Can you send me the list by email?",
)
TEXT, BINARY = WSMsgType.TEXT, WSMsgType.BINARY

IDLE, SPEAKING, WAITING, HEARING = range(4)


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How a visitor behaves. Seconds.

    ``stt_s`` passes between the end of speech and its words, ``endpoint_s`` between the words and the word that
    the turn is over. A turn begins every ``period_s``; or, if that is 0, a time within ``pause_s`` after the answer
    was heard, which needs the event ``state``. ``sound``: an answer is heard, else it is read.
    """

    stt_s: float = 0.0
    endpoint_s: float = 0.0
    period_s: float = 0.0
    pause_s: tuple[float, float] = (0.1, 0.1)
    sound: bool = True


class Turn(msgspec.Struct):
    """Times of ``clock``; -1: it did not happen. ``parts`` is the server's own ledger of it, ms by name."""

    words_at: float = -1.0
    over_at: float = -1.0
    answered_at: float = -1.0
    heard_at: float = -1.0
    number: int = -1
    parts: dict[str, float] = {}


class _Part(msgspec.Struct, gc=False):
    name: str = ""
    ms: float = 0.0


class _Out(msgspec.Struct):
    """Any message from the server."""

    type: str
    state: str = ""
    turn_id: int = -1
    code: str = ""
    parts: list[_Part] = []


_decode = msgspec.json.Decoder(_Out).decode

Later = Callable[[float, Callable[[], None]], object]
"""Calls something after so many seconds."""


class Visitor(WSListener):
    """Asks, hears, and asks again, until ``leave``. ``first_s``: its first turn begins so long after it was let in."""

    def __init__(
        self, number: int, manner: Manner, first_s: float, later: Later, clock: Callable[[], float] = monotonic
    ) -> None:
        self.manner = manner
        self.clock = clock
        self.turns: list[Turn] = []
        self.began = clock()
        self.let_in_at = -1.0
        self.settled = asyncio.Event()
        """It is let in, or refused."""
        self.late: list[float] = []
        """By how many seconds this visitor's own timers were late."""
        self.bad = self.errors = self.sounds = 0
        self.failed = False
        self._later = later
        self._first_s = first_s
        self._random = random.Random(number)
        self._number = number
        self._transport: WSTransport | None = None
        self._state = IDLE
        self._leaving = False
        self._begun_at = 0.0

    # -- the line -------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        self.settled.set()
        self.failed = self.failed or not self._leaving

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == BINARY:
            self.sounds += 1
            if self._state == WAITING:
                self.turns[-1].heard_at = self.clock()
                self._state = HEARING
        elif frame.msg_type == TEXT:
            self._read(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _read(self, data: bytes) -> None:
        try:
            message = _decode(data)
        except msgspec.MsgspecError:
            self.bad += 1
            return
        if message.type == "connected":
            self.let_in_at = self.clock()
            self.settled.set()
            self._after(self._first_s, self._speak)
        elif message.type == "response":
            self._answer(message.turn_id)
        elif message.type == "latency":
            self._ledger(message)
        elif message.type == "state" and message.state == "LISTENING" and self._state == HEARING:
            self._rest()
        elif message.type == "error":
            self.errors += 1

    def _answer(self, number: int) -> None:
        if not self.turns:
            return
        turn = self.turns[-1]
        if turn.over_at >= 0 and turn.answered_at < 0:
            turn.answered_at, turn.number = self.clock(), number
            if not self.manner.sound:
                self._state = HEARING

    def _ledger(self, message: _Out) -> None:
        for turn in reversed(self.turns):
            if turn.number == message.turn_id:
                turn.parts = {part.name: part.ms for part in message.parts}
                return

    # -- the person -----------------------------------------------------------------------------

    def _speak(self) -> None:
        """Half of the sentence is guessed at while it is spoken."""
        if self._leaving or self._transport is None:
            return
        self._begun_at = self.clock()
        words = self._saying.split()
        self._fragment(" ".join(words[: len(words) // 2]), settled=False)
        self._state = SPEAKING
        self._after(GUESS_S, self._settle)

    @property
    def _saying(self) -> str:
        return SAYINGS[(self._number + len(self.turns)) % len(SAYINGS)]

    def _settle(self) -> None:
        saying = self._saying
        self.turns.append(Turn(words_at=self.clock()))
        self._fragment(saying, settled=True)
        if self.manner.endpoint_s:
            self._after(self.manner.endpoint_s, self._end_turn)
        else:
            self._end_turn()

    def _end_turn(self) -> None:
        turn, self._state = self.turns[-1], WAITING
        turn.over_at = self.clock()
        self._send({"type": "vad_end", "confidence": 0.95})
        if self.manner.period_s:
            self._after(max(0.0, self._begun_at + self.manner.period_s - turn.over_at), self._speak)
        else:
            self._after(STUCK_S, lambda: self._give_up(turn))

    def _give_up(self, turn: Turn) -> None:
        if self.turns[-1] is turn and self._state in {WAITING, HEARING}:
            self._speak()

    def _rest(self) -> None:
        self._state = IDLE
        if not self.manner.period_s:
            self._after(self._random.uniform(*self.manner.pause_s), self._speak)

    @property
    def is_answered(self) -> bool:
        return self._transport is None or self._state in {IDLE, HEARING}

    def finish(self) -> None:
        """Asks nothing more."""
        self._leaving = True

    def leave(self) -> None:
        self.finish()
        self._send({"type": "end"})
        if self._transport is not None:
            self._transport.send_close()
            self._transport.disconnect()

    def _fragment(self, text: str, *, settled: bool) -> None:
        self._send({"type": "stt_fragment", "text": text, "is_final": settled})

    def _send(self, message: dict[str, object]) -> None:
        if self._transport is not None:
            self._transport.send(TEXT, msgspec.json.encode(message))

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        due = self.clock() + seconds

        def run() -> None:
            self.late.append(self.clock() - due)
            then()

        self._later(seconds, run)


def waited_s(turn: Turn, manner: Manner) -> float:
    """From the end of the caller's speech to the answer's first sound (or words, where it is read); -1: lost."""
    came = turn.heard_at if manner.sound else turn.answered_at
    if came < 0 or came - turn.over_at > LOST_S:
        return -1.0
    return came - (turn.words_at - manner.stt_s)
