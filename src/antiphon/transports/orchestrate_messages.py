"""The messages of ``/orchestrate``, in and out. Rows B9 to B13; docs/orchestrate.md tells how they follow each other.

Every message is one JSON object in a text frame whose ``type`` names its kind. Fields that are not known are ignored,
so that an older server understands a newer client. Audio is a binary frame, or ``Audio`` where base64 was asked for.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from antiphon.errors import UNUSABLE
from antiphon.kernel.events import MAX_TEXT

PROTOCOL = 1
SUBPROTOCOL = "antiphon.v1"

Words = Annotated[str, Meta(max_length=MAX_TEXT)]
State = Literal["IDLE", "LISTENING", "THINKING", "SPEAKING", "INTERRUPT"]


class Message(msgspec.Struct, tag_field="type", gc=False):
    """Base of all."""


# -- client to server ---------------------------------------------------------------------------


class FromClient(Message, gc=False, kw_only=True):
    """``session_id`` may be left out; if it is there, it is the socket's own. ``timestamp``: seconds, not used."""

    session_id: str = ""
    timestamp: float = 0.0


class SttFragment(FromClient, tag="stt_fragment", gc=False, kw_only=True):
    """Words of the client's own transcriber (B9). Final ones stand, and the next fragment goes on behind them; others
    are the present guess at all that is not final yet."""

    text: Words
    is_final: bool


class VadEnd(FromClient, tag="vad_end", gc=False, kw_only=True):
    """The caller's turn is over now (B10)."""

    confidence: float = 0.0


class UserSpeaking(FromClient, tag="user_speaking", gc=False, kw_only=True):
    """The caller's voice has begun (B11): playback stops at once, and what they say decides whether it goes on."""


class Text(FromClient, tag="text", gc=False, kw_only=True):
    """A typed line: a whole turn at once, not blank. ``language``: BCP 47, one offered; "" where the words tell."""

    text: Words
    language: Annotated[str, Meta(max_length=35)] = ""


class Key(FromClient, tag="key", gc=False, kw_only=True):
    """One key of a phone's pad."""

    digit: Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "#"]


class MarkPlayed(FromClient, tag="mark", gc=False, kw_only=True):
    """All audio before the mark of that name was played, or thrown away."""

    name: Annotated[str, Meta(max_length=64)]


class End(FromClient, tag="end", gc=False, kw_only=True):
    """The caller hangs up: the session is over."""


Inbound = SttFragment | VadEnd | UserSpeaking | Text | Key | MarkPlayed | End

decode = msgspec.json.Decoder(Inbound).decode
"""Raises ``UNUSABLE`` for what is none of the messages above."""


_MAX_WHY = 200
"""Characters: a field's value may stand in it."""


class _Probe(msgspec.Struct):
    type: str


_probe = msgspec.json.Decoder(_Probe).decode
KNOWN = ("stt_fragment", "vad_end", "user_speaking", "text", "key", "mark", "end")


def why_unusable(data: bytes, error: Exception) -> tuple[str, str]:
    """The stable code and a text for a message that ``decode`` refused: only called for those, so it may be slow."""
    if isinstance(error, UnicodeDecodeError):
        return "frame.utf8", "the message is no UTF-8"
    if isinstance(error, RecursionError):
        return "frame.json", "the message is nested too deeply"
    try:
        kind = _probe(data).type
    except msgspec.ValidationError:
        return "frame.type", f'a message is a JSON object with a "type": {", ".join(KNOWN)}'
    except UNUSABLE:
        return "frame.json", "the message is no JSON"
    if kind not in KNOWN:
        return "message.unknown", f"a message's type is one of {', '.join(KNOWN)}"
    return "frame.field", f"{kind}: {error}"[:_MAX_WHY]


# -- server to client ---------------------------------------------------------------------------


class AudioForm(msgspec.Struct, gc=False):
    """How audio is sent, and how it is taken. ``rate`` in Hz."""

    form: Literal["binary", "base64", "none"]
    codec: Literal["pcm16", "opus"]
    rate: int


class Unheard(msgspec.Struct, gc=False):
    """What of the last answer the caller has not heard because the line broke; it is said in the turn of that number.

    ``text`` is blank where the answer was not whole yet: it is written on, or anew.
    """

    turn_id: int
    text: str


class Connected(Message, tag="connected", gc=False, kw_only=True):
    """The first message of every socket (B12). ``resumed``: the session was known, and goes on."""

    session_id: str
    state: State
    resumed: bool
    protocol: int = PROTOCOL
    audio: AudioForm
    unheard: Unheard | UnsetType = UNSET


class Source(msgspec.Struct, gc=False):
    """A passage that the answer rests on. ``score``: a cosine in -1..1."""

    id: str
    title: str
    source: str
    score: float


class Response(Message, tag="response", gc=False, kw_only=True):
    """An answer (B13): once before its first sound, with what is known of it then, and once when it is ``complete``.

    ``kind`` is ``reply``, or the name of a prepared phrase (greeting, please_repeat, apology ...); ``filler`` where
    one is heard before anything is known of the answer: then ``text`` is blank. Stages of ``latency_ms`` are in ms;
    ``intent`` and ``retrieval`` run side by side within ``understanding``, the others sum to ``total``.
    """

    session_id: str
    turn_id: int
    text: str
    intent: str
    sources: list[Source]
    language: str
    latency_ms: dict[str, int]
    complete: bool
    kind: str = "reply"


class Audio(Message, tag="audio", gc=False, kw_only=True):
    """``data``: base64 of audio in the codec and at the rate of ``connected``."""

    turn_id: int
    data: str


class Clear(Message, tag="clear", gc=False):
    """Throw away what is not played yet: the caller has begun to speak."""


class Mark(Message, tag="mark", gc=False, kw_only=True):
    """Answer with ``mark`` of the same name when all audio before it was played, or thrown away."""

    name: str


class Error(Message, tag="error", gc=False, kw_only=True):
    """Something sent could not be used. ``code`` is stable, ``message`` is for people."""

    code: str
    message: str


class Ended(Message, tag="ended", gc=False, kw_only=True):
    """The session is over; the socket is closed with 1000 next."""

    reason: str


class StateChanged(Message, tag="state", gc=False, kw_only=True):
    """Who has the floor (B5). ``at_ms``: since the session began, here and below."""

    session_id: str
    state: State
    turn_id: int
    at_ms: int


class Transcript(Message, tag="transcript", gc=False, kw_only=True):
    """What the caller says, as it is understood. A final one that is blank: nothing was."""

    utterance: int
    text: str
    final: bool
    language: str


class Spoken(Message, tag="spoken", gc=False, kw_only=True):
    """What the agent says in a turn, by now, and how much of it was heard. ``done``: that does not change any more."""

    turn_id: int
    text: str
    heard: str
    done: bool
    kind: str


class Interruption(Message, tag="interruption", gc=False, kw_only=True):
    """The caller made a sound while the agent had the floor, and what came of it."""

    turn_id: int
    decision: Literal["paused", "resumed", "cancelled"]


class LatencyPart(msgspec.Struct, gc=False):
    """``owner``: a wait that is policy, a provider's work, or the server's own share."""

    name: str
    ms: int
    owner: Literal["wait", "provider", "antiphon"]


class LatencyTold(Message, tag="latency", gc=False, kw_only=True):
    """From the end of the caller's input to the turn's first sound; the parts sum to the total."""

    turn_id: int
    total_ms: int
    parts: list[LatencyPart]


Outbound = (
    Connected
    | Response
    | Audio
    | Clear
    | Mark
    | Error
    | Ended
    | StateChanged
    | Transcript
    | Spoken
    | Interruption
    | LatencyTold
)

encode = msgspec.json.Encoder().encode

# -- what can go wrong --------------------------------------------------------------------------

ERRORS: Final = {
    "frame.utf8": "A text message is no UTF-8.",
    "frame.json": "It is no JSON, or nested too deeply.",
    "frame.type": "It is no object with a `type`.",
    "message.unknown": "Its `type` is none of those taken.",
    "frame.field": "A field is missing or of another kind; the message names it.",
    "message.blank": "A typed line without words.",
    "session.bad_language": "A `language` that is not offered; the message names those that are.",
    "session.other": "Its `session_id` is another session's.",
    "orchestrate.mixed": "Words on a socket that brings sound, or sound on one that brings words.",
    "frame.audio": "PCM with half a sample.",
    "frame.audio_too_long": "More than a second of audio in one message.",
    "opus.bad_packet": "A binary message that is no Opus packet.",
    "opus.too_large": "An Opus packet longer than any is.",
}
"""Codes of ``Error``. The session goes on; some 50 at once, and five a second for ever, close the socket."""

CLOSES: Final = (
    (1000, "*", "The session is over: `ended` said why. `client`: the client ended it."),
    (1001, "server.stopping", "The server stops at once. The session is kept."),
    (1002, "frame.protocol", "The peer broke the WebSocket protocol. The session is kept."),
    (1002, "frame.fragmentation", "A piece of a message out of place. The session is kept."),
    (1002, "frame.extension", "A frame that uses an extension; none was agreed on. The session is kept."),
    (1007, "frame.protocol", "The peer's own close gave a reason that is no UTF-8. The session is kept."),
    (1008, "line.bad_frames", "Too much that cannot be used. The session is kept."),
    (1008, "line.flood", "Far more than real time. The session is kept."),
    (1008, "line.idle", "No message for `line.inactivity_s`, 300 s by default. The session is kept."),
    (1009, "peer.frame_too_large", "A message of more than 64 KiB. The session is kept."),
    (1011, "*", "A fault of the server, which logs it. The session is kept."),
    (1012, "server.restart", "The server ends: connect again, another one goes on. The session is kept."),
    (1013, "admission.full", "No room; where that is known before, HTTP 503 says it."),
    (1013, "admission.draining", "The server is about to stop, and takes no new sessions."),
    (1013, "session.ending", "The session is just ending: connect again."),
    (1013, "line.slow_consumer", "The client does not read what it is sent. The session is kept."),
    (4001, "session.taken_over", "A newer socket holds the session."),
)
"""Close code, reason (``*``: several) and what it means."""

REFUSALS: Final = {
    "400": "`orchestrate.bad_query`: the message says what is allowed. `orchestrate.no_opus`: this server has no Opus.",
    "401": "`auth.*`: a token or an API key is needed, and was not there or is not valid.",
    "403": "`auth.*`: this credential, or this web page, may not open this session.",
    "429": "`auth.too_many_attempts`: too many failed attempts; see Retry-After.",
    "503": "`admission.full`, `admission.draining`: no room; see Retry-After.",
}
"""HTTP answers instead of a socket: ``{"error": {"code", "message"}}``."""
