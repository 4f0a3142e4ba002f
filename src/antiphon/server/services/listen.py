"""Hearing as a service: the WebSocket ``/listen?rate=16000&language=en-IN``, one for each caller.

PCM comes in binary messages, orders as JSON text (``service_wire.ToEar``), reports go out as JSON text
(``service_wire.FromEar``). Close codes, with a code as reason: 1003 for what is no order (``listen.no_order``) and for
a message that ends in half a sample (``listen.half_sample``), 1008 (``listen.order``, ``listen.flood``,
``listen.idle``), 1009 for a message over 32 KiB, 1012 when the service ends.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from antiphon.errors import UNUSABLE, AntiphonError, PeerError
from antiphon.kernel.events import MAX_TEXT
from antiphon.providers.service_wire import (
    EAR_AHEAD_S,
    EAR_IDLE_S,
    MAX_AUDIO_BYTES,
    MAX_TAG,
    RATES,
    Expect,
    FinalHeard,
    Finish,
    FromEar,
    NotHeard,
    PartialHeard,
    ToEar,
)
from antiphon.runtime.ports import Heard, Transcriber, TranscriberStream
from antiphon.server.answers import Refusal
from antiphon.server.services.door import Door, answered
from antiphon.server.sockets import MediaRoute, Upgrade
from antiphon.transports.query import read_fields

log = logging.getLogger("antiphon.services")

_BAD_QUERY = "listen.bad_query"
_order = msgspec.json.Decoder(ToEar)


def listening(transcriber: Transcriber, door: Door) -> MediaRoute:
    def route(upgrade: Upgrade) -> WSListener | Refusal:
        try:
            door.check(upgrade.headers)
            rate, language = _asked(upgrade.query)
            return Ear(transcriber, door, rate, language)
        except AntiphonError as error:
            return answered(error)

    return route


def _asked(query: str) -> tuple[int, str]:
    """Rate in Hz and language of a query. Raises ``PeerError`` (``listen.bad_query``)."""
    found = read_fields(query, ("rate", "language"), _BAD_QUERY)
    rate, language = found.get("rate", "8000"), found.get("language", "")
    if rate not in map(str, RATES):
        raise PeerError(f"rate must be one of {', '.join(map(str, RATES))}", code=_BAD_QUERY)
    if len(language) > MAX_TAG:
        raise PeerError(f"language must be a tag such as en-IN, at most {MAX_TAG} characters", code=_BAD_QUERY)
    return int(rate), language


class Ear(WSListener):
    """One socket and its stream. Raises what the transcriber's ``open`` raises."""

    def __init__(self, transcriber: Transcriber, door: Door, rate: int, language: str) -> None:
        self._door = door
        self._transport: WSTransport | None = None
        self._finished = 0
        self._ended = 0
        self._is_draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = self._spoken_until = asyncio.get_running_loop().time()
        self._bytes_per_s = 2 * rate
        self._stream: TranscriberStream = transcriber.open(sample_rate=rate, language=language, on_heard=self._tell)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._door.enter()
        self._watch()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        self._heard_at = asyncio.get_running_loop().time()
        if kind is WSMsgType.BINARY:
            pcm = frame.get_payload_as_bytes()
            if len(pcm) > MAX_AUDIO_BYTES:
                self._close(WSCloseCode.MESSAGE_TOO_BIG, "listen.too_large")
            elif len(pcm) & 1:
                self._close(WSCloseCode.UNSUPPORTED_DATA, "listen.half_sample")
            elif self._is_flood(len(pcm)):
                self._close(WSCloseCode.POLICY_VIOLATION, "listen.flood")
            else:
                self._stream.feed(pcm)
        elif kind is WSMsgType.TEXT:
            try:
                order = _order.decode(frame.get_payload_as_bytes())
            except UNUSABLE:
                self._close(WSCloseCode.UNSUPPORTED_DATA, "listen.no_order")
                return
            self._obey(order)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._stream.close()
        self._door.leave()

    def on_drain(self) -> None:
        """What is owed is still told; the utterance being spoken is somebody else's to hear from now on."""
        self._is_draining = True
        self._end_if_told()

    def _is_flood(self, size: int) -> bool:
        self._spoken_until = max(self._spoken_until, self._heard_at) + size / self._bytes_per_s
        return self._spoken_until - self._heard_at > EAR_AHEAD_S

    def _obey(self, order: ToEar) -> None:
        if isinstance(order, Expect):
            self._stream.hint(order.language)
        elif isinstance(order, Finish):
            if order.utterance != self._finished + 1:
                self._close(WSCloseCode.POLICY_VIOLATION, "listen.order")
                return
            self._finished = order.utterance
            self._stream.finish(order.utterance)

    def _tell(self, heard: Heard) -> None:
        report: FromEar
        text, language = heard.text[:MAX_TEXT], heard.language[:MAX_TAG]
        if heard.error:
            report = NotHeard(heard.utterance, heard.error)
        elif heard.final:
            report = FinalHeard(heard.utterance, text, language, heard.confidence, heard.language_confidence)
        else:
            report = PartialHeard(heard.utterance, text, language, heard.confidence)
        if heard.final or heard.error:
            self._ended += 1
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, msgspec.json.encode(report))
        self._end_if_told()

    def _end_if_told(self) -> None:
        if self._is_draining and self._ended >= self._finished:
            self._close(WSCloseCode.SERVICE_RESTART, "server.restart")

    def _watch(self) -> None:
        """Closes a socket on which nothing came for ``EAR_IDLE_S``: nobody is there any more."""
        loop = asyncio.get_running_loop()
        left = self._heard_at + EAR_IDLE_S - loop.time()
        if left <= 0:
            self._close(WSCloseCode.POLICY_VIOLATION, "listen.idle")
        else:
            self._timer = loop.call_later(left, self._watch)

    def _close(self, code: WSCloseCode, reason: str) -> None:
        transport = self._transport
        if transport is not None and not transport.is_close_frame_sent:
            transport.send_close(code, reason)
            transport.disconnect()
