"""The phone's end of the Media Streams protocol: messages out as Twilio sends them, messages in as it takes them."""

from __future__ import annotations

from binascii import b2a_base64

import msgspec


class Payload(msgspec.Struct, gc=False):
    payload: bytes


class Name(msgspec.Struct, gc=False):
    name: str


class AgentMedia(msgspec.Struct, tag_field="event", tag="media", kw_only=True, gc=False):
    media: Payload
    streamSid: str = ""  # noqa: N815


class AgentMark(msgspec.Struct, tag_field="event", tag="mark", kw_only=True, gc=False):
    mark: Name
    streamSid: str = ""  # noqa: N815


class AgentClear(msgspec.Struct, tag_field="event", tag="clear", gc=False):
    streamSid: str = ""  # noqa: N815


decode = msgspec.json.Decoder(AgentMedia | AgentMark | AgentClear).decode
"""Raises ``UNUSABLE``."""


class Writer:
    """Numbers the messages of one stream. ``sequenceNumber`` counts all of them from 1, ``chunk`` the audio."""

    def __init__(self, stream: str, call_id: str, parameters: dict[str, str]) -> None:
        self.stream = stream
        self._call_id = call_id
        self._parameters = parameters
        self._number = 0
        self._chunk = 0

    @staticmethod
    def connected() -> bytes:
        return b'{"event":"connected","protocol":"Call","version":"1.0.0"}'

    def start(self) -> bytes:
        return self._numbered(
            "start",
            start={
                "accountSid": "AC" + "0" * 32,
                "streamSid": self.stream,
                "callSid": self._call_id,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": self._parameters,
            },
        )

    def media(self, mulaw: bytes) -> bytes:
        """Built by hand, because it is sent fifty times a second for each call of a load test."""
        self._number += 1
        self._chunk += 1
        return (
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d","payload":"'
            % (self._number, self._chunk, (self._chunk - 1) * 20)
            + b2a_base64(mulaw, newline=False)
            + b'"},"streamSid":"%b"}' % self.stream.encode()
        )

    def mark(self, name: str) -> bytes:
        return self._numbered("mark", mark={"name": name})

    def digit(self, digit: str) -> bytes:
        return self._numbered("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    def stop(self) -> bytes:
        return self._numbered("stop", stop={"accountSid": "AC" + "0" * 32, "callSid": self._call_id})

    def _numbered(self, event: str, **body: object) -> bytes:
        self._number += 1
        return msgspec.json.encode(
            {"event": event, "sequenceNumber": str(self._number), **body, "streamSid": self.stream}
        )
