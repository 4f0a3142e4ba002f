"""One call's connection: sends the caller's channel in real time, plays the agent's, and keeps the time.

The caller's channel never pauses: between lines it carries silence, as a telephone does. Both channels share one time
line in samples at 8000 Hz that begins with the stream. A frame of the caller's voice is sent when its last sample was
spoken, so it ends at the position of its sending; the agent's audio is heard from the moment it arrives.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import numpy as np
from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport

from antiphon.errors import UNUSABLE
from antiphon.media.codec import decode_float, mulaw_encode
from antiphon.phone.ear import Ear
from antiphon.phone.farend import RATE, SILENCE, FarEnd
from antiphon.phone.room import Echo, Speakerphone
from antiphon.phone.wire import AgentClear, AgentMark, AgentMedia, Writer, decode

FRAME = 160
FRAME_S = 0.02
MAX_CALL_S = 4 * 3600
CLOSE_TIMEOUT_S = 3.0


class LineEnded(Exception):
    """The connection is gone: the agent ended the call, or it broke."""


class PhoneLine(WSListener):
    """A listener for ``picows.ws_connect``. ``begin`` starts the stream; everything is on the loop's thread."""

    def __init__(
        self, call_id: str, parameters: dict[str, str], noise: int = 0, speakerphone: Speakerphone | None = None
    ) -> None:
        self.far = FarEnd()
        self.ear = Ear()
        self.caller = bytearray()
        self.late_ticks = 0
        self.bad_messages = 0
        self.closed = False
        self.close_code = 0
        self.close_reason = ""
        self._writer = Writer("MZ" + secrets.token_hex(16), call_id, parameters)
        self._mouth = bytearray()
        self._quiet = _background(noise)
        self._echo = Echo(speakerphone, RATE) if speakerphone is not None else None
        self._socket: WSTransport | None = None
        self._loop = asyncio.get_running_loop()
        self._began = 0.0
        self._heard_to = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ticked: asyncio.Future[None] | None = None

    # -- the connection -----------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._socket = transport
        self._send(self._writer.connected())
        self._send(self._writer.start())
        self._began = self._loop.time()
        self._timer = self._loop.call_at(self._began + FRAME_S, self._tick)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self._receive(frame.get_payload_as_bytes())
        elif frame.msg_type is WSMsgType.CLOSE:
            self.close_code = int(frame.get_close_code())  # type: ignore[call-overload]
            self.close_reason = frame.get_close_reason() or ""
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._stop_clock()

    def pause_writing(self) -> None:
        """The caller's voice is real time: it is written on, the socket's buffer takes it."""

    def resume_writing(self) -> None:
        pass

    def _receive(self, data: bytes) -> None:
        try:
            message = decode(data)
        except UNUSABLE:
            self.bad_messages += 1
            return
        if message.streamSid != self._writer.stream:
            self.bad_messages += 1
            return
        now = self.now
        names: list[str] = []
        if type(message) is AgentMedia:
            self.far.receive(message.media.payload, now)
        elif type(message) is AgentMark:
            names = self.far.mark(message.mark.name, now)
        elif type(message) is AgentClear:
            names = self.far.clear(now)
        for name in names:
            self._send(self._writer.mark(name))

    def _send(self, message: bytes) -> None:
        if self._socket is not None and not self.closed:
            self._socket.send(WSMsgType.TEXT, message)

    @property
    def speaking(self) -> bool:
        """True while there is something left to say."""
        return bool(self._mouth)

    # -- time ---------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """The present position, in samples."""
        return int((self._loop.time() - self._began) * RATE)

    def _tick(self) -> None:
        now = self.now
        due = now // FRAME - len(self.caller) // FRAME
        if due > 2:
            self.late_ticks += 1
        for _ in range(due):
            self._speak_frame()
        self.ear.hear(self.far.heard(self._heard_to, now), self._heard_to)
        self._heard_to = now
        for name in self.far.passed(now):
            self._send(self._writer.mark(name))
        if self._ticked is not None and not self._ticked.done():
            self._ticked.set_result(None)
        if now > MAX_CALL_S * RATE:
            self.disconnect()
            return
        self._timer = self._loop.call_at(self._began + (len(self.caller) // FRAME + 1) * FRAME_S, self._tick)

    def _speak_frame(self) -> None:
        frame = bytes(self._mouth[:FRAME])
        del self._mouth[:FRAME]
        if len(frame) < FRAME:
            at = len(self.caller) % (len(self._quiet) - FRAME)
            frame += self._quiet[at : at + FRAME - len(frame)]
        if self._echo is not None:
            frame = self._with_echo(frame, self._echo)
        self.caller += frame
        self._send(self._writer.media(frame))

    def _with_echo(self, frame: bytes, echo: Echo) -> bytes:
        begins = len(self.caller) - echo.delay
        played = self.far.heard(max(0, begins - echo.reach), max(0, begins + FRAME))
        played = bytes([SILENCE]) * (echo.reach + FRAME - len(played)) + played
        both = decode_float("mulaw", frame) + echo.of(decode_float("mulaw", played))
        return mulaw_encode(np.clip(np.rint(both * 32768), -32768, 32767).astype("<i2").tobytes())

    def _stop_clock(self) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._ticked is not None and not self._ticked.done():
            self._ticked.set_result(None)

    # -- what a caller does -------------------------------------------------------------------------

    async def until(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Waits tick by tick for ``ready()``; ``False`` after ``timeout_s`` of media time. Raises ``LineEnded``."""
        deadline = self.now + timeout_s * RATE
        while not self.closed:
            if ready():
                return True
            if self.now >= deadline:
                return False
            self._ticked = self._loop.create_future()
            await self._ticked
        raise LineEnded

    def say(self, mulaw: bytes) -> int:
        """Speaks this next; returns the position at which it begins."""
        begins = len(self.caller) + len(self._mouth)
        self._mouth += mulaw
        return begins

    def press(self, digit: str) -> None:
        self._send(self._writer.digit(digit))

    def hang_up(self) -> None:
        """As a caller does: the stream stops, then the socket closes."""
        self._send(self._writer.stop())
        self.disconnect()

    def disconnect(self) -> None:
        """Closes without saying ``stop``."""
        if self._socket is not None and not self.closed:
            self._socket.send_close(WSCloseCode.OK)
            self._stop_clock()

    def drop(self) -> None:
        """Cuts the connection as a broken network does: no close frame, no ``stop``."""
        if self._socket is not None:
            self._socket.disconnect(graceful=False)

    async def wait_disconnected(self) -> None:
        """Returns when the socket is closed; cuts it if the other end takes over ``CLOSE_TIMEOUT_S`` to agree."""
        if self._socket is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._socket.wait_disconnected()
        except TimeoutError:
            self.drop()
        except WSError:
            self.bad_messages += 1


def _background(noise: int) -> bytes:
    """One second of the line's quiet: exact silence, or noise of that amplitude (16-bit units), always the same."""
    if noise <= 0:
        return bytes([SILENCE]) * RATE
    samples = np.random.default_rng(1).integers(-noise, noise + 1, RATE).astype("<i2")
    return mulaw_encode(samples.tobytes())
