"""What a stream's ``start`` message says of its call."""

from __future__ import annotations

import msgspec

from antiphon.errors import BadFrame, PeerError
from antiphon.runtime.ports import CallStart
from antiphon.transports.twilio_messages import MediaFormat, Start

TOKEN_PARAMETER = "token"  # noqa: S105 - the parameter's name
CALL_PARAMETER = "call_id"
LANGUAGE_PARAMETER = "language"
CALLER_PARAMETER = "caller"

MAX_STREAM_SID = 255
MAX_PARAMETERS = 32


class Opening(msgspec.Struct, frozen=True):
    """``token`` is not among the call's parameters: those are journalled."""

    stream: str
    token: str
    call: CallStart


def call_id_of(message: Start) -> str:
    """Twilio's call id, else the ``call_id`` parameter, else the stream's id."""
    start = message.start
    return start.callSid or start.customParameters.get(CALL_PARAMETER, "") or start.streamSid or message.streamSid


def opening(message: Start) -> Opening:
    """Raises ``BadFrame`` without a usable stream id, ``PeerError`` for audio other than mu-law at 8000 Hz."""
    start = message.start
    stream = start.streamSid or message.streamSid
    if not stream or len(stream) > MAX_STREAM_SID:
        raise BadFrame("start names no stream", code="start.stream_sid")
    if start.mediaFormat != MediaFormat():
        raise PeerError("the stream's audio is not mu-law at 8000 Hz", code="line.media_format")
    parameters = dict(list(start.customParameters.items())[:MAX_PARAMETERS])
    token = parameters.pop(TOKEN_PARAMETER, "")
    call = CallStart(
        call_id=call_id_of(message),
        transport="twilio",
        language=parameters.get(LANGUAGE_PARAMETER, ""),
        caller=parameters.get(CALLER_PARAMETER, ""),
        parameters=parameters,
    )
    return Opening(stream, token, call)
