"""The messages of Twilio's Media Streams protocol, in and out.

Source: Twilio, "Media Streams - WebSocket Messages". Every message is one JSON object in a text frame whose ``event``
names its kind. Numbers arrive as strings (``"sequenceNumber": "4"``); audio is base64 of mu-law, 8000 Hz, one channel,
without headers. Field names are Twilio's.
"""

from __future__ import annotations

import msgspec

from antiphon.errors import UNUSABLE

DIGITS = frozenset("0123456789*#")


class Chunk(msgspec.Struct, gc=False):
    """``payload`` is the mu-law audio itself (decoded from base64); ``track`` is inbound or outbound."""

    payload: bytes
    track: str = "inbound"


class MarkName(msgspec.Struct, gc=False):
    name: str


class Digit(msgspec.Struct, gc=False):
    digit: str


class MediaFormat(msgspec.Struct, gc=False):
    encoding: str = "audio/x-mulaw"
    sampleRate: int = 8000  # noqa: N815
    channels: int = 1


class Metadata(msgspec.Struct):
    """What ``start`` tells of a stream. ``customParameters`` come from the TwiML's ``<Parameter>`` elements."""

    streamSid: str = ""  # noqa: N815
    callSid: str = ""  # noqa: N815
    customParameters: dict[str, str] = {}  # noqa: N815
    mediaFormat: MediaFormat = msgspec.field(default_factory=MediaFormat)  # noqa: N815


class Message(msgspec.Struct, tag_field="event", gc=False):
    """Base of all. ``sequenceNumber`` counts every message of a stream from 1; 0: the sender does not number."""

    streamSid: str = ""  # noqa: N815
    sequenceNumber: int = 0  # noqa: N815


class Connected(Message, tag="connected", gc=False):
    pass


class Start(Message, tag="start", kw_only=True):
    start: Metadata


class Media(Message, tag="media", kw_only=True, gc=False):
    media: Chunk


class Mark(Message, tag="mark", kw_only=True, gc=False):
    mark: MarkName


class Dtmf(Message, tag="dtmf", kw_only=True, gc=False):
    dtmf: Digit


class Stop(Message, tag="stop", gc=False):
    pass


Inbound = Connected | Start | Media | Mark | Dtmf | Stop

# Lax mode, because Twilio writes its numbers as strings.
decode = msgspec.json.Decoder(Inbound, strict=False).decode
"""Raises ``UNUSABLE`` for what is none of the messages above."""


class _Probe(msgspec.Struct):
    event: str


_probe = msgspec.json.Decoder(_Probe).decode
_KNOWN = frozenset(("connected", "start", "media", "mark", "dtmf", "stop"))


def why_unusable(data: bytes, error: Exception) -> str:
    """The stable code for a message that ``decode`` refused: only called for those, so it may be slow."""
    if isinstance(error, UnicodeDecodeError):
        return "frame.utf8"
    if isinstance(error, RecursionError):
        return "frame.json"
    try:
        event = _probe(data).event
    except msgspec.ValidationError as wrong:
        return "frame.not_object" if "`object`, got" in str(wrong) else "frame.event"
    except UNUSABLE as broken:
        return "frame.utf8" if isinstance(broken, UnicodeDecodeError) else "frame.json"
    if event not in _KNOWN:
        return "event.unknown"
    return "frame.base64" if "base64" in str(error) else "frame.field"


def media_envelope(stream: str) -> bytes:
    """The bytes of an outgoing ``media`` message up to its base64; ``MEDIA_END`` closes it."""
    return b'{"event":"media","streamSid":' + msgspec.json.encode(stream) + b',"media":{"payload":"'


MEDIA_END = b'"}}'


def mark_message(stream: str, name: str) -> bytes:
    return msgspec.json.encode({"event": "mark", "streamSid": stream, "mark": {"name": name}})


def clear_message(stream: str) -> bytes:
    return msgspec.json.encode({"event": "clear", "streamSid": stream})
